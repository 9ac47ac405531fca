//! What a node's input brings.

use muster_cluster::node::Event;
use muster_data::{DataRef, Timestamp, ValueRef, encode_to_vec};
use muster_wire::zeek::{self, Metadata};

/// Encoded events with their event times, in the order in which they are raised.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    bytes: Vec<u8>,
    events: Vec<(usize, Timestamp)>,
}

impl Feed {
    pub(crate) fn push<E: Event>(&mut self, event: &E, ts: Timestamp) {
        let metadata = Metadata {
            timestamp: Some(ts),
            ..Metadata::default()
        };
        zeek::put_event(&mut self.bytes, E::NAME, metadata, |out| event.encode(out));
        self.events.push((self.bytes.len(), ts));
    }

    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    /// The event at a position, and its event time.
    pub(crate) fn get(&self, position: usize) -> Option<(&[u8], Timestamp)> {
        let (end, ts) = *self.events.get(position)?;
        let begin = position
            .checked_sub(1)
            .map_or(0, |before| self.events[before].0);
        Some((&self.bytes[begin..end], ts))
    }
}

/// The field `ts` of an event.
pub(crate) fn time_of<E: Event>(event: &E) -> Timestamp {
    let position = E::FIELDS.iter().position(|field| *field == "ts");
    let encoded = encode_to_vec(event);
    let value = position.and_then(|position| {
        DataRef::from_validated(&encoded)
            .as_vector()?
            .iter()
            .nth(position)
    });
    match value.map(|value| value.get()) {
        Some(ValueRef::Timestamp(ts)) => ts,
        _ => panic!("event {} has no time in a field `ts`", E::NAME),
    }
}
