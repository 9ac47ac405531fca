//! Tests of the node loop.
