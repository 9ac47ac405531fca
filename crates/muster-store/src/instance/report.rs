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
    /// A copy is here that stands by, or is to.
    Copy(CopyReport),
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
    /// The copies, if coordinators decide about them.
    pub copies: Option<CopiesReport>,
}

/// What an endpoint is among the copies of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CopyRole {
    /// It decides.
    Primary,
    /// It has everything, and may become the primary.
    Standby,
    /// It is to have everything.
    #[default]
    Joining,
}

/// The copies of a store, as one of them sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiesReport {
    /// What this endpoint is among them.
    pub role: CopyRole,
    /// The number of the last decision of the coordinators that is known here.
    pub epoch: u64,
    /// The number of copies that have everything.
    pub in_sync: usize,
    /// With fewer of them nothing is written.
    pub min_copies: usize,
    /// The index up to which all of them have everything, as far as it is known here.
    pub index: u64,
    /// The number of entries that are here and not known to be everywhere. Their writers wait.
    pub waiting: u64,
    /// The other copies, at the primary.
    pub others: Vec<OtherCopyReport>,
}

/// Another copy, as the primary sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherCopyReport {
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Whether it counts as one that has everything.
    pub is_in_sync: bool,
    /// Whether it has said what it has since the last decision.
    pub is_attached: bool,
    /// The number of entries that it does not have in memory.
    pub lag: u64,
    /// The number of entries that it does not have on disk, if the store is persistent.
    pub disk_lag: Option<u64>,
}

/// The state of a copy that stands by, or is to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// The endpoint of the primary, if there is one.
    pub primary: Option<EndpointId>,
    /// The copies.
    pub copies: CopiesReport,
    /// How old what is read here may be.
    pub freshness: Freshness,
    /// The number of writes of this endpoint that are not settled.
    pub unsettled: usize,
    /// What keeps the state, as in [`PrimaryReport::backend`].
    pub backend: &'static str,
    /// The number of changes that wait for the backend, as in [`PrimaryReport::pending_commits`].
    pub pending_commits: usize,
    /// How often the backend has failed.
    pub failures: u64,
    /// Whether the last commit has failed.
    pub is_failing: bool,
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
