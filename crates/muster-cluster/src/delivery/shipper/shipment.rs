//! One batch on its way: what it is, where it is, and what has become of it.

use std::sync::Arc;

use muster_wire::Mono;

use crate::delivery::spool::SpoolPlace;
use crate::delivery::{Batch, StreamHead};
use crate::layout::NodeName;

/// A batch that no logger has acknowledged yet.
#[derive(Debug)]
pub(crate) struct Shipment {
    pub(crate) head: Arc<StreamHead>,
    pub(crate) records: usize,
    pub(super) bytes: usize,
    /// The batch, if it is in memory.
    pub(super) batch: Option<Batch>,
    /// Where the spool has it.
    pub(super) spooled: Spooled,
    /// The loggers that it was ever given to, or may have been given to.
    pub(super) given: Vec<NodeName>,
    /// Those of them that have said that they do not have it.
    pub(super) denied: Vec<NodeName>,
    /// Until when it waits for one of them.
    pub(super) until: Option<Mono>,
    pub(super) at: Place,
}

impl Shipment {
    /// The batch, if it is in memory.
    pub(crate) fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }
}

/// Whether a batch is in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spooled {
    No,
    /// It was handed over, and may be there.
    Asked,
    /// It could not be kept, and a next life may find it all the same.
    Perhaps,
    /// It is safe there.
    At(SpoolPlace),
}

/// Where a batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits for a logger.
    Waiting,
    /// It was given to a logger, as the one of this turn.
    InFlight(NodeName, u64),
    /// It waits for this logger alone, which is asked again from then on.
    Parked(NodeName, Mono),
}

/// Why a batch is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// No logger takes it.
    Invalid,
    /// It may be at a logger that did not come back.
    Unsettled,
    /// The spool has lost it.
    Spool,
    /// There is no logger, and the node ends.
    NoLogger,
}

/// Records that are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) head: Arc<StreamHead>,
    pub(crate) records: usize,
    pub(crate) lost: Lost,
}
