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

fn onward(sequence: u64) -> Onward {
    Onward {
        id: MessageId {
            origin: id(1),
            sequence,
        },
        hops: 4,
        kind: Kind::Data,
    }
}

fn way(peer: u32) -> Way {
    Way {
        peer,
        class: Class::Event,
        guest: None,
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

#[test]
fn passing_on_costs_the_same_however_many_next_hops_there_are() {
    let topic = Topic::new("t").unwrap();
    for peers in [1u32, 8, 600] {
        let mut brought = Brought::default();
        for number in 0..50 {
            let message = Lying {
                topic: &topic,
                start: 0,
                length: 10,
            };
            for peer in 0..peers {
                brought.relay(way(peer), message, onward(number), ROOM);
            }
        }
        assert_eq!(brought.relays.len(), peers as usize);
        assert!(brought.relays.iter().all(|relay| relay.entries.len() == 50));
        let compared = brought.latest_relays.looked_at / (50 * peers as usize);
        assert!(compared < 3, "{peers}: {compared}");
    }
}

/// A small message found room in front of a larger one that had begun a new buffer, and so overtook it.
#[test]
fn nothing_that_is_passed_on_overtakes() {
    let topic = Topic::new("t").unwrap();
    let limits = QueueLimits {
        messages: 100,
        bytes: 10_000,
    };
    let mut brought = Brought::default();
    for (number, length) in [(1, 4000), (2, 7000), (3, 4000), (4, 1000)] {
        let message = Lying {
            topic: &topic,
            start: 0,
            length,
        };
        brought.relay(way(0), message, onward(number), limits);
        brought.relay(way(1), message, onward(number), limits);
    }
    for peer in 0..2 {
        let by = brought.relays.iter().filter(|relay| relay.way == way(peer));
        let numbers: Vec<u64> = by
            .flat_map(|relay| relay.entries.iter().map(|entry| entry.id.sequence))
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
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
