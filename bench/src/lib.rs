//! Benchmarks of Muster.
