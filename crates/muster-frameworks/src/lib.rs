//! Detection work, log input and logging on Muster nodes.
//!
//! - [`zeek_log`]: reads Zeek's logs as they are, and the connections they tell of.
//! - [`log_input`]: replays many logs in time order, shared between workers and paced.
//! - [`log_files`]: writes the logs of a logger.
//! - [`sample`]: logs of real traffic.

pub mod log_files;
pub mod log_input;
pub mod sample;
pub mod zeek_log;

pub use log_input::{InputBatch, InputSummary, LogInput, LogInputConfig, Share};
pub use zeek_log::{Connection, LogReader};
