//! Events as the texts that travel over WebSocket.

use muster_data::{DataRef, json};
use muster_wire::Topic;
use muster_wire::zeek::Message;

/// Hands over an event, or each event of a batch, as JSON, which is UTF-8. Returns how many messages
/// are no events.
pub(crate) fn each_text(topic: &Topic, value: DataRef<'_>, take: &mut impl FnMut(Vec<u8>)) -> u64 {
    match Message::read(value) {
        Ok(Message::Event(_)) => {
            let mut text = Vec::with_capacity(value.bytes().len() * 4);
            json::write_message(&mut text, topic.as_bytes(), value);
            // Queues count a text's bytes and keep its whole allocation alive.
            if text.capacity() - text.len() > text.len() / 8 {
                text.shrink_to_fit();
            }
            take(text);
            0
        }
        Ok(Message::Batch(batch)) => {
            let values = batch.values();
            values.map(|value| each_text(topic, value, take)).sum()
        }
        Ok(_) | Err(_) => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use muster_data::{Data, Encode};
    use muster_wire::zeek::{Metadata, put_event};

    use super::*;

    #[test]
    fn a_text_keeps_no_more_memory_than_it_has_bytes() {
        let mut event = Vec::new();
        put_event(&mut event, "e", Metadata::default(), |out| {
            [Data::from("x".repeat(100_000))][..].encode(out);
        });
        let mut capacities = Vec::new();
        let topic = Topic::new("/t").unwrap();
        let not_events = each_text(&topic, DataRef::from_validated(&event), &mut |text| {
            capacities.push(text.capacity());
        });
        assert_eq!((not_events, capacities.len()), (0, 1));
        assert!(capacities[0] < 120_000, "{capacities:?}");
    }
}
