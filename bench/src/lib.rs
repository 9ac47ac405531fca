//! Benchmarks of Muster: what the binaries beside this library share.
//!
//! Run one with `cargo run --release -p muster-bench --bin values`. What goes between endpoints is
//! measured by `muster bench`, and beside other systems by `peers/`.

mod allocations;
pub mod boxes;
mod measure;
pub mod oracle;

pub use allocations::{CountingAllocator, allocations};
pub use measure::{Measurement, measure};
