//! Log batches that arrive: how a batch gets from the node that has made it into the files of one logger, exactly once.
//!
//! **Producers.** A batch has the life of its producer and a number. It is open until a logger acknowledges it, which a
//! logger does when the batch is safe on its disk. The same logger is asked again until it is out, cannot write, or
//! hangs; then another one is given the batch. Whose acknowledgement comes first has the copy that *counts*: the producer
//! alone decides that, and says it to all that may have a copy. So nothing is decided by time.
//!
//! **Loggers.** What a logger has written and the producer has not yet decided is *held*. A file gets its final name when
//! everything in it is decided, without what counts elsewhere. Whoever hears nothing says again what it has, and the
//! producer answers again: no verdict has to be delivered.
//!
//! **Producers that are gone.** Loggers decide among themselves. A logger asks all others for the batches that it holds.
//! Who is asked promises to take none of them any more, and says what counts there or is held there as well; of two that
//! hold a batch the first one by name keeps it. A batch of such a promise is not decided by its producer any more, should
//! that come back. Loggers that are out are waited for, ten minutes at most.
//!
//! What follows: *a file with a final name has a record once, over all loggers; an acknowledged record is in one of them,
//! or will be.* The diary beside the files keeps what a logger needs for that when it begins anew.

mod batch;
mod flushes;
mod intake;
pub(crate) mod messages;
mod numbers;
mod shipper;
mod spool;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use batch::tests::batch as batch_of;
pub use batch::{Batch, StreamHead};
pub use flushes::{FlushEnd, Flushed, LostRecords};
pub(crate) use intake::{Arrival, Intake, Surroundings};
pub use intake::{BatchId, LogDelivery, LogNotes, ProducerRecord};
pub use messages::BatchRefusal;
pub use numbers::Numbers;
pub(crate) use shipper::{
    Candidate, Dispatched, Dropped, LARGE_BATCH, Lost, MEMORY_BYTES, Sending, Shipment, Shipper,
    SpoolHealth, Verdict,
};
#[cfg(any(test, feature = "simulation"))]
pub use spool::ModelHome;
pub use spool::{LeftBatch, Leftover, Spool, SpoolHome, SpoolOrder, SpoolOutcome, SpoolPlace};

/// The numbers between a producer's first open batch and the next one: loggers remember what they have of so many.
pub(crate) const MOST_NUMBERS: u64 = 65_536;
