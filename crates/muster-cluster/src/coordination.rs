//! Coordinators: the agents of a few boxes, which decide together what all of a cluster has to see alike.
//!
//! They decide who is in the cluster, and number their decisions. What is decided stands when a majority of them has it on
//! disk: so a box that is cut off decides nothing, and one that is lost takes no decision with it. Data never goes through
//! them.
//!
//! - [`voters`]: on which boxes they are. Every node and agent computes it from the layout, and gets the same.
//! - [`witnesses`]: which of these boxes have no nodes.
//! - [`survival`]: which boxes may be away. [`stores_on_one_box`]: which stores are away with one.
//! - [`Lease`]: a node renews it with them from its own loop, so a node whose loop hangs is out although its connections
//!   live.
//! - [`View`]: who is in, numbered by its epoch. Every node divides work among the same members.
//! - [`StoreGroup`]: which nodes keep a store, and which of them has its primary. It is part of the view.
//!
//! Without coordinators, and for nodes that never renew, as Zeek's, each node goes by what it sees itself.

mod lease;
mod messages;
mod placement;
mod stores;
mod view;

pub use lease::{Heard, LEASE, Lease, RENEW_EVERY, Renewal, SILENCE, STOPPED, Standing};
pub use messages::{
    CopyJoined, CopyStuck, LeaseAnswer, Leaving, Renew, StoreWanted, ViewMember, ViewUpdate,
    ViewWanted, event,
};
pub(crate) use placement::{COUNT, VOTERS, VotersError, check_named};
pub use placement::{OnOneBox, Survival, stores_on_one_box, survival, voters, witnesses};
pub(crate) use stores::goal;
pub use stores::{
    MOST_CANDIDATES, MOST_COPIES, MOST_STORES, StoreCandidate, StoreCopy, StoreGroup, ViewCopy,
    ViewStore,
};
pub use view::{Membership, NotTaken, OutReason, View, ViewChange};
