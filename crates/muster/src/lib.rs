//! Muster endpoints and nodes on tokio.
