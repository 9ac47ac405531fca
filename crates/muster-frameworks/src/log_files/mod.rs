//! The files that a logger writes.
