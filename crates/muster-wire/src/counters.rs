//! What is counted, as plain data. The cores count; the shells show the numbers.
//!
//! Each counter is described once, by a [`Descriptor`] beside the code that counts it. Status
//! screens, metrics and their documentation are made from these. [`counters!`](crate::counters!)
//! declares them.

mod descriptor;
mod drops;

pub use descriptor::{Counter, Descriptor, Kind, Scale, Unit};
pub use drops::{DropCause, DropLedger, Dropped};
