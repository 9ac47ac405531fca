//! Benchmarks of Muster: what the binaries beside this library share.
//!
//! Run one with `cargo run --release -p muster-bench --bin values`.

mod allocations;
mod measure;

pub use allocations::{CountingAllocator, allocations};
pub use measure::{Measurement, measure};
