//! A cluster's coordinators: the agents of one, three or five boxes, which agree on who is in, and
//! on which nodes keep which store.
//!
//! [`Coordinator`] is one of them. It is a plain struct without I/O, clock or randomness of its own: events, news of the mesh, time and
//! what is on disk go in; events to send and batches to write come out. What nodes need of it, leases and views, is in
//! [`muster_cluster::coordination`].
//!
//! # What holds
//!
//! - A view has a number, its epoch. Only what most voters have on disk is told, so everybody who has the view of an epoch has the same.
//! - A node that renews its lease is not given up before the lease is over, whatever the leader is: a new one counts from when it began
//!   to lead, and no lease is longer than that.
//! - A group is founded when all voters of the layout are there. A voter whose disk was emptied founds nothing as long as another one has
//!   a group, and votes in it when it has everything.
//! - Only a copy of a store that is in sync becomes its primary, and the last one that is in sync stays so, whoever is out. What a
//!   primary says of copies counts only while it is the primary, and only if it knows the group as it is.
//! - Nothing here is needed for what goes on as it is: when most voters are away, nobody comes in and nobody is put out, and all that
//!   needs no decision goes on.

mod config;
mod coordinator;
mod detector;
mod messages;
mod sabotage;
#[cfg(test)]
mod simulation;
mod state;

pub use coordinator::{
    BeginError, Config, Coordinator, MemberStatus, Output, Part, Severity, Status, StoreOrderError,
    To, VoterStatus,
};
#[cfg(any(test, feature = "simulation"))]
pub use sabotage::Sabotage;
