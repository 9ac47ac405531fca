use std::sync::{Arc, Mutex};

use muster_wire::counters::DropLedger;
use muster_wire::{Filter, Overflow};

use super::*;
use crate::endpoint::subscriber::{Hearing, SubscriberQueue};

const ROOM: QueueLimits = QueueLimits {
    messages: 100_000,
    bytes: 64 << 20,
};

fn id(number: u64) -> EndpointId {
    let mut bytes = [3; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    EndpointId::from_random(bytes)
}

fn table(subscribers: usize, limits: QueueLimits) -> Table {
    let subscriber = |_| {
        let former = Arc::new(Mutex::new(DropLedger::default()));
        let queue = SubscriberQueue::new(limits, Overflow::DropOldest, Hearing::Peers, former);
        (Filter::from_prefixes(["t"]), Arc::new(queue))
    };
    Table::new(1, Vec::new(), (0..subscribers).map(subscriber).collect())
}

fn source(from: u64) -> Source {
    Source {
        from: id(from),
        class: Class::Event,
        id: None,
    }
}

/// Delivers `messages` of so many origins in turn to so many subscribers. Returns how many entries were compared for
/// each delivery.
fn compared(subscribers: u32, origins: u64, messages: u64) -> f64 {
    let table = table(subscribers as usize, ROOM);
    let all: Vec<u32> = (0..subscribers).collect();
    let topic = Topic::new("t").unwrap();
    let mut brought = Brought::default();
    for number in 0..messages {
        let message = Lying {
            topic: &topic,
            start: 0,
            length: 10,
        };
        brought.deliver(&table, source(number % origins), message, &all);
    }
    let pending = subscribers as usize * usize::try_from(origins).unwrap();
    assert_eq!(brought.pending.len(), pending);
    assert!(
        brought
            .pending
            .iter()
            .all(|pending| !pending.entries.is_empty())
    );
    let deliveries = u64::from(subscribers) * messages;
    #[allow(clippy::cast_precision_loss, reason = "small")]
    let compared = brought.latest_pending.looked_at as f64 / deliveries as f64;
    compared
}

/// Each delivery compared half of all subscribers, so 256 of them cost more than four times what 64 do.
#[test]
fn a_delivery_costs_the_same_however_many_subscribers_and_origins_there_are() {
    for (subscribers, origins) in [(1, 1), (4, 1), (1024, 1), (64, 64), (3, 500)] {
        let compared = compared(subscribers, origins, 2 * origins + 20);
        assert!(compared < 4.0, "{subscribers}, {origins}: {compared}");
    }
}

/// What a subscriber's queue cannot take at once is more than one batch, each behind the one before.
#[test]
fn a_batch_is_no_larger_than_its_queue_and_none_overtakes() {
    let limits = QueueLimits {
        messages: 3,
        bytes: 64 << 20,
    };
    let table = table(2, limits);
    let topic = Topic::new("t").unwrap();
    let mut brought = Brought::default();
    for read in 0..3 {
        for start in 0..10 {
            let message = Lying {
                topic: &topic,
                start,
                length: 1,
            };
            brought.deliver(&table, source(1), message, &[0, 1]);
        }
        for subscriber in 0..2 {
            let of = brought.pending.iter();
            let of = of.filter(|pending| pending.subscriber == subscriber);
            let starts: Vec<u32> = of
                .flat_map(|pending| pending.entries.iter().map(|entry| entry.start))
                .collect();
            assert_eq!(starts, (0..10).collect::<Vec<_>>(), "read {read}");
        }
        assert!(
            brought
                .pending
                .iter()
                .all(|pending| pending.entries.len() <= 3)
        );
        brought.pending.clear();
    }
}
