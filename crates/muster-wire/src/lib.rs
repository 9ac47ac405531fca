//! Muster's peer protocol without I/O: ids, topics, frames, handshake, messages, filters, routing
//! and queues as plain structs. Facts go in, decisions come out; time and randomness are arguments.

mod id;
mod topic;

pub use id::{EndpointId, EndpointIdError, Incarnation};
pub use topic::{LOCAL_PREFIX, RESERVED, Topic, TopicError};
