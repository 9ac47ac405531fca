//! Muster's peer protocols without I/O: ids, topics, frames, handshake, messages, filters, routing
//! and queues as plain structs. Facts go in, decisions come out. Time and random numbers are
//! arguments.
//!
//! - Version 1 is the protocol of Zeek's Broker, byte for byte: [`frame`], [`envelope`] and
//!   [`peering`], with Zeek's own messages in [`zeek`].
//! - Version 2 is spoken between Muster endpoints: [`mesh`].
//! - [`Filter`], [`routing`], [`Queue`], [`ClassQueues`] and [`credit`] serve both.
//!
//! # Example
//!
//! A filter in a frame, as one endpoint writes it and another reads it from a stream:
//!
//! ```
//! use muster_wire::Filter;
//! use muster_wire::frame::{self, Next};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let wanted = Filter::from_prefixes(["zeek/logs/", "/alerts/"]);
//! let mut stream = Vec::new();
//! frame::write(&mut stream, |out| wanted.encode(out));
//!
//! let Next::Complete(length) = frame::next(&stream, frame::DEFAULT_LIMIT)? else {
//!     return Err("more bytes are to come".into());
//! };
//! let read = Filter::decode(&stream[frame::HEADER..][..length])?;
//! assert!(read.matches(b"/alerts/scan"));
//! assert!(!read.matches(b"/siem/"));
//! # Ok(())
//! # }
//! ```

pub mod bytes;
mod class_queues;
pub mod counters;
pub mod credit;
pub mod envelope;
mod error_code;
mod filter;
pub mod frame;
mod id;
pub mod mesh;
mod message;
pub mod peering;
mod queue;
pub mod routing;
mod time;
mod topic;
pub mod zeek;

pub use class_queues::{ClassPolicy, ClassQueues};
pub use error_code::ErrorCode;
pub use filter::{Filter, FilterError, MAX_BYTES, MAX_ENTRIES, Subscriptions};
pub use id::{EndpointId, EndpointIdError, Incarnation};
pub use message::{Class, Kind, Message, MessageId};
pub use queue::{MESSAGE_OVERHEAD, Overflow, Push, Queue, QueueLimits, Queued, Size};
pub use time::{Mono, Wall};
pub use topic::{LOCAL_PREFIX, RESERVED, Topic, TopicError};
