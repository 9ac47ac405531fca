//! Records that travel as events.

use muster_data::{DecodeOwned, Encode, Record, Typed};

/// A record that travels as an event: its name is the event's, its fields are the arguments.
///
/// Every owned type with `#[derive(Record)]` is one.
pub trait Event: Record + Encode + Typed + DecodeOwned + 'static {}

impl<T: Record + Encode + Typed + DecodeOwned + 'static> Event for T {}
