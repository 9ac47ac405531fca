//! Coordinators: the agents of a few boxes, which decide together what all of a cluster has to see alike.
//!
//! They decide who is in the cluster, and number their decisions. What is decided stands when a majority of them has it on
//! disk: so a box that is cut off decides nothing, and one that is lost takes no decision with it. Data never goes through
//! them.
//!
//! - [`voters`]: on which boxes they are. Every node and agent computes it from the layout, and gets the same.
//! - [`witnesses`]: which of these boxes have no nodes.
//! - [`survival`]: which boxes may be away.

mod placement;

pub(crate) use placement::{COUNT, VOTERS, VotersError, check_named};
pub use placement::{Survival, survival, voters, witnesses};
