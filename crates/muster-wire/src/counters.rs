//! What is counted, as plain data: the cores count, the shells render.
//!
//! Each counter is described once, by a [`Descriptor`] beside the code that counts it; status screens, metrics and
//! their documents are made from these. [`counters!`](crate::counters!) declares them.

mod descriptor;
mod drops;

pub use descriptor::{Counter, Descriptor, Kind, Scale, Unit};
pub use drops::{DropCause, DropLedger, Dropped};
