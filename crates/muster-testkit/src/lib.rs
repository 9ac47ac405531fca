//! Simulated Muster clusters for tests.
