//! Many logs as one input: in time order, shared between workers, at any speed.
//!
//! [`LogInput::run`] merges its files by the rows' timestamps, keeps the rows of its [`Share`], and
//! hands them over in batches of encoded [`Connection`](crate::Connection) events, each with a low
//! watermark. It runs on the thread that calls it and knows time only from its [`Clock`].
//!
//! The union of all shares is all rows, and every share sees the same watermarks at the same rows:
//! what N workers find together does not depend on N.

mod batch;
mod clock;
mod error;
mod merge;
mod pattern;
mod run;
mod share;

#[cfg(test)]
mod tests;

pub use batch::{InputBatch, MOST_BYTES, MOST_EVENTS};
pub use clock::{Clock, MonotonicClock, SimulatedClock};
pub use error::InputError;
pub use run::{InputSummary, LONGEST_WAIT, LogInput, LogInputConfig, MOST_FILES, MOST_PROBLEMS};
pub use share::{Share, ShareError};
