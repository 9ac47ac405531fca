//! Muster's peer protocol without I/O: ids, topics, frames, handshake, messages, filters, routing
//! and queues as plain structs. Facts go in, decisions come out; time and randomness are arguments.
//!
//! Version 1 is the protocol of Zeek's Broker, byte for byte.

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
pub use queue::{MESSAGE_OVERHEAD, Overflow, Push, Queue, QueueLimits, Queued};
pub use time::Mono;
pub use topic::{LOCAL_PREFIX, RESERVED, Topic, TopicError};
