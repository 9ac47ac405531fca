//! Benchmarks of Muster: what the binaries beside this library share.
//!
//! Run one with `cargo run --release -p muster-bench --bin values`.

mod allocations;
mod conn;
mod cpu;
mod measure;

pub use allocations::{CountingAllocator, allocations};
pub use conn::Conn;
pub use cpu::cpu_seconds;
pub use measure::{Measurement, measure};
