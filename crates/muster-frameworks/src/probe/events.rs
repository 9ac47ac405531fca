//! Numbered events for the owners of keys, and what becomes of them.

use muster_cluster::node::{KeyedContext, KeyedTable, Severity};
use muster_data::{Record, Timestamp};

use super::Probe;

/// The keys that events go to the owners of.
const KEYS: u64 = 256;

/// How many events in a row have one key: their order can be seen.
const IN_A_ROW: u64 = 8;

/// An event for the owner of a key.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::probe_event")]
pub struct ProbeEvent {
    /// The key.
    pub key: u64,
    /// The life of the node that has published it: its endpoint id.
    pub life: String,
    /// Its number in that life, from 0.
    pub number: u64,
    /// Its place among the events of that life for the key, from 0.
    pub place: u64,
}

impl ProbeEvent {
    /// Returns an event of a life. Key and place follow from the number.
    pub(super) fn numbered(life: &str, number: u64) -> Self {
        let (row, in_row) = (number / IN_A_ROW, number % IN_A_ROW);
        Self {
            key: row % KEYS,
            life: life.to_owned(),
            number,
            place: row / KEYS * IN_A_ROW + in_row,
        }
    }
}

/// A record of the stream `probe_acknowledged`: whoever has published an event knows that it was handled.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::probe_acknowledged")]
pub struct ProbeAcknowledged {
    /// When it was acknowledged.
    pub ts: Timestamp,
    /// The life that has published it.
    pub life: String,
    /// The event's number in that life.
    pub number: u64,
}

/// A record of the stream `probe_handled`: the owner of a key has handled an event.
///
/// All events of a life for a key are handled once and in order if each is in one record, and has the place that was expected.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::probe_handled")]
pub struct ProbeHandled {
    /// When it was handled.
    pub ts: Timestamp,
    /// The node that has handled it.
    pub node: String,
    /// The life that has published it.
    pub life: String,
    /// The event's number in that life.
    pub number: u64,
    /// The key.
    pub key: u64,
    /// The event's place among those of that life for the key.
    pub place: u64,
    /// The place behind the last event of that life that the rows of the key know of.
    pub expected: u64,
}

/// The place of the next event under each key, by the life that publishes.
const NEXT: KeyedTable<u64, String, u64> = KeyedTable::new("probe/next");

impl Probe {
    /// On the owner of the key.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "handlers are methods that take their event"
    )]
    pub(super) fn handled(&mut self, event: ProbeEvent, cx: &mut KeyedContext<'_, '_, u64>) {
        let expected = cx.row(&NEXT, &event.life).unwrap_or(0);
        let next = expected.max(event.place.saturating_add(1));
        // Without room the next event shows that its row is not as expected.
        cx.set(&NEXT, &event.life, &next);
        let handled = ProbeHandled {
            ts: cx.wall(),
            node: self.node.clone(),
            life: event.life,
            number: event.number,
            key: event.key,
            place: event.place,
            expected,
        };
        if let Err(error) = cx.log("probe_handled", &handled) {
            cx.report(Severity::Error, &error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_events_of_a_key_have_all_places_in_order() {
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        for number in 0..3 * KEYS * IN_A_ROW {
            let event = ProbeEvent::numbered("life", number);
            let expected = next.entry(event.key).or_default();
            assert_eq!(event.place, *expected, "{event:?}");
            *expected += 1;
        }
        assert_eq!(next.len() as u64, KEYS);
        assert!(next.values().all(|next| *next == 3 * IN_A_ROW));
    }
}
