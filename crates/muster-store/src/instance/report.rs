//! What a store reports of itself, for operators of the cluster.

use muster_wire::EndpointId;

use crate::{Freshness, StoreName};

/// A store on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreReport {
    /// Its name.
    pub name: StoreName,
    /// The number of entries that are here; 0 on a clone without a copy.
    pub entries: usize,
    /// About how much memory they take, in bytes.
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

/// The state of a primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrimaryReport {
    /// What keeps the state: `memory` if nothing does, `sqlite`, or what the backend calls itself.
    pub backend: &'static str,
    /// The number of writers on other endpoints that it remembers: at most 4,096. The one that has
    /// been silent for longest is forgotten first. Clones that only read are not known to their
    /// primary.
    pub writers: usize,
    /// The number of Broker clones that it serves.
    pub broker_clones: usize,
    /// The number of changes that are applied and wait for the backend, not counting those that it
    /// is committing now.
    pub pending_commits: usize,
    /// How often the backend has failed.
    pub failures: u64,
    /// Whether the last commit has failed.
    pub is_failing: bool,
    /// Another endpoint in reach that has a primary of the same store, of Muster or of Broker. This
    /// is a mistake that an operator must correct: what the two hold is unrelated.
    pub rival: Option<EndpointId>,
}

/// The state of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloneReport {
    /// The endpoint of its primary, if it knows one.
    pub primary: Option<EndpointId>,
    /// How old its copy may be.
    pub freshness: Freshness,
    /// The number of changes that the copy is missing, as far as its primary has told.
    pub missing: u64,
    /// The number of writes of this endpoint that are not settled.
    pub unsettled: usize,
}
