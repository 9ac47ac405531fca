//! Zeek's own messages: the content of data messages on the topics of a cluster (protocol section
//! 9).
//!
//! [`Message`] is any of them, read without copying; the `put_` functions write them. The records
//! that a [`LogWrite`] carries have a format of their own, in [`serial`].

mod event;
mod log;
mod message;
pub mod serial;
#[cfg(test)]
mod tests;
mod type_tag;

pub use event::{
    ACKNOWLEDGES_LOGS, ANSWERS_REQUESTS, EventError, EventRef, FEATURES, INCARNATION, LAYOUT,
    LayoutFingerprint, Metadata, NETWORK_TIMESTAMP, OWNS_KEYS, SETTINGS, put_event,
};
pub use log::{LogCreate, LogField, LogWrite, WriterInfo, put_log_create, put_log_write};
pub use message::{
    Batch, BatchIter, IdentifierUpdate, MOST_NESTED_BATCHES, Message, MessageError,
    MessageErrorKind, put_batch, put_identifier_update,
};
pub use type_tag::TypeTag;
