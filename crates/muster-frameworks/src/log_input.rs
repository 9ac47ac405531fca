//! Many logs as one input: in time order, shared between workers, at any speed, to their end or as they grow.
//!
//! [`LogInput::run`] merges its files by the rows' timestamps, keeps the rows of its [`Share`], and
//! hands them over in batches of encoded [`Connection`](crate::Connection) events, each with a low
//! watermark. It runs on the thread that calls it and knows time only from its [`Clock`].
//!
//! The union of all shares is all rows, and every share sees the same watermarks at the same rows:
//! what N workers find together does not depend on N.
//!
//! A row is *out of line* if its time is more than a day ahead of the rows before it in its file and the two rows
//! behind it do not go on from there, or if it is more than 30 days behind them and the rows behind it are not; a first
//! row, if it is a day ahead of the next two, or a year before them, while these are together. Such a row is an event
//! like any other, and counted, but is ordered with its neighbours: it neither paces a replay nor moves a watermark.

mod batch;
mod clock;
mod counters;
mod error;
mod file;
mod follow;
mod judge;
mod merge;
mod open;
pub(crate) mod pattern;
mod run;
mod share;
mod summary;

#[cfg(test)]
mod tests;

pub use batch::{InputBatch, MOST_BYTES, MOST_EVENTS};
pub use clock::{Clock, MonotonicClock, SimulatedClock};
pub use counters::InputCounters;
pub use error::InputError;
pub use follow::ReadSoFar;
pub use merge::MOST_OPEN;
pub use pattern::{Matches, find};
pub use run::{LONGEST_WAIT, LogInput, LogInputConfig, MOST_FILES};
pub use share::{Share, ShareError};
pub use summary::{InputNote, InputSummary, MOST_PROBLEMS};
