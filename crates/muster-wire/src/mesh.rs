//! Protocol version 2 between Muster endpoints, without I/O. Every endpoint holds the same database
//! of endpoints and links and computes the same tree for each origin. A message goes once to each
//! neighbour behind which somebody wants it.
//!
//! [`Mesh`] is one endpoint's part: facts go in (a neighbour came or went, a frame arrived, the
//! subscriptions changed, time passed), decisions come out (send, deliver, disconnect, node up,
//! node down). The specification is `docs/protocol-v2.md`.

mod barrier;
mod bits;
mod changes;
pub mod codec;
mod compression_backoff;
pub mod data;
mod database;
mod digest;
mod engine;
mod fences;
mod flood_trees;
mod graph;
mod guests;
mod held_since;
mod hold_down;
mod id_hash;
mod membership;
mod newness;
mod reach;
mod record;
mod routes;
#[cfg(feature = "simulation")]
mod sabotage;
mod score;
pub mod seal;
mod tree;
mod unresolved;
mod window;

pub use bits::BitSet;
pub use compression_backoff::CompressionBackoff;
pub use data::HOPS;
pub use database::{Applied, Database, Limits, Refusal};
pub use engine::{Config, Counts, Decision, Identity, Mesh, Reason, Sizes};
pub use graph::Graph;
pub use record::{Guest, LinkChanges, LinkRecord, NodeRecord, Record, Versions, shortened};
pub use routes::{Routes, Wanted, addressed, topic_of};
#[cfg(feature = "simulation")]
pub use sabotage::Sabotage;
pub use score::{key, score};
pub use tree::{Branches, Tree};
pub use window::{OriginWindows, Verdict, WINDOW, Window};
