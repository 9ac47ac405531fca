//! Many endpoints in one thread and in simulated time, from one seed: links with delays that fail,
//! hang and heal, endpoints that restart, messages under way all the time. The rules are checked
//! after every step. A run that breaks one prints the command that repeats it.
//!
//! `MESH_SEEDS=1000` runs more seeds of small graphs, `MESH_SIZE=250` and `MESH_LARGE_SEEDS=5` larger
//! graphs and more of them. A thousand endpoints are a test of their own, for a release build:
//! `cargo test --release -p muster-testkit a_thousand_endpoints -- --ignored --nocapture`.

mod graphs;
mod guests;
mod layout;
mod ledger;
mod network;
mod oracle;
mod scenario;
mod tests;
