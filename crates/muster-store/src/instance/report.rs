//! What a store tells of itself, for whoever runs the cluster.

use muster_wire::EndpointId;

use crate::{Freshness, StoreName};

/// A store on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreReport {
    /// Its name.
    pub name: StoreName,
    /// The entries that are here; none on a clone without a copy.
    pub entries: usize,
    /// The memory that they take, in bytes, roughly.
    pub bytes: usize,
    /// What this endpoint is to the store.
    pub part: StorePart,
}

/// What an endpoint is to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorePart {
    /// The primary is here.
    Primary(PrimaryReport),
    /// A clone is here.
    Clone(CloneReport),
}

/// A primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrimaryReport {
    /// What persists the state: `memory` if nothing does, `sqlite`, or what the backend calls itself.
    pub backend: &'static str,
    /// The writers on other endpoints that it remembers: 4,096 at most, the one that was silent for longest goes
    /// first. Clones that only read are not known to their primary.
    pub writers: usize,
    /// The clones of Broker's protocol that it serves.
    pub broker_clones: usize,
    /// The changes that are applied and wait for the backend, besides those that it is committing now.
    pub pending_commits: usize,
    /// How often the backend has failed.
    pub failures: u64,
    /// Whether it failed the last time.
    pub is_failing: bool,
    /// Another endpoint in reach that has a primary of the same store, of Muster or of Broker: a mistake that the
    /// operator must mend. What the two hold has nothing to do with one another.
    pub rival: Option<EndpointId>,
}

/// A clone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloneReport {
    /// The endpoint of its primary, if it knows one.
    pub primary: Option<EndpointId>,
    /// How old what it has may be.
    pub freshness: Freshness,
    /// The changes that its primary has told of and that it lacks.
    pub missing: u64,
    /// The writes of this endpoint that are not settled.
    pub unsettled: usize,
}
