use bytes::Bytes;
use muster_wire::Topic;
use muster_wire::mesh::codec::{Run, RunHead, RunMessage};

use super::*;

const ROOM: QueueLimits = QueueLimits {
    messages: 100_000,
    bytes: 64 << 20,
};

const ORIGIN: EndpointId = EndpointId::from_bytes([3; 16]);

fn onward(sequence: u64) -> Onward {
    let origin = ORIGIN;
    Onward {
        id: MessageId { origin, sequence },
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

fn lying(topic: &Topic, length: usize) -> Lying<'_> {
    Lying {
        topic,
        start: 0,
        length,
    }
}

/// The messages that go on by a way, item by item.
fn items(relays: &mut Relays, peer: u32, chunk: &Bytes) -> Vec<Vec<u64>> {
    let by = relays.drain().filter(|relay| relay.way == way(peer));
    let items = by.map(|relay| relay.into_outgoing(chunk, chunk.len(), 64 << 20));
    items
        .map(|item| match item {
            Outgoing::Relayed(relayed) => relayed
                .entries
                .iter()
                .map(|entry| entry.id.sequence)
                .collect(),
            Outgoing::RelayedRuns(runs) => {
                let mut sequences = Vec::new();
                runs.for_each(|_, message| sequences.push(message.sequence));
                assert_eq!(runs.messages, sequences.len());
                sequences
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn passing_on_costs_the_same_however_many_next_hops_there_are() {
    let topic = Topic::new("t").unwrap();
    for peers in [1u32, 8, 600] {
        let mut relays = Relays::default();
        for number in 0..50 {
            for peer in 0..peers {
                relays.message(way(peer), lying(&topic, 10), onward(number), ROOM);
            }
        }
        assert_eq!(relays.all.len(), peers as usize);
        assert!(relays.all.iter().all(|relay| relay.messages == 50));
        let compared = relays.latest.looked_at / (50 * peers as usize);
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
    let chunk = Bytes::from(vec![0; 20_000]);
    for peer in 0..2 {
        let mut relays = Relays::default();
        for (number, length) in [(1, 4000), (2, 7000), (3, 4000), (4, 1000)] {
            relays.message(way(0), lying(&topic, length), onward(number), limits);
            relays.message(way(1), lying(&topic, length), onward(number), limits);
        }
        assert_eq!(items(&mut relays, peer, &chunk).concat(), [1, 2, 3, 4]);
    }
}

/// Some messages of a run, as a part of it, and the bytes that they lie in.
fn part(sequences: std::ops::Range<u64>) -> (RunPart, Bytes) {
    let head = RunHead {
        class: Class::Event,
        hops: 4,
        origin: ORIGIN,
        base: sequences.start - 1,
    };
    let mut run = Run::new(Vec::new(), head);
    for sequence in sequences {
        run.push(&RunMessage {
            sequence,
            kind: Kind::Data,
            topic: b"t",
            payload: &[0; 90],
        });
    }
    run.close();
    let bytes = Bytes::copy_from_slice(&run.frame()[muster_wire::mesh::codec::RUN_HEAD..]);
    let part = RunPart {
        head,
        messages: run.messages(),
        start: 0,
        length: narrow(bytes.len()),
        first: None,
        cost: run.cost(),
    };
    (part, bytes)
}

#[test]
fn runs_and_messages_keep_their_order_and_a_queue_is_never_asked_for_too_much() {
    let topic = Topic::new("t").unwrap();
    let (part, chunk) = part(11..21);
    let mut relays = Relays::default();
    relays.message(way(0), lying(&topic, 10), onward(1), ROOM);
    assert!(relays.part(way(0), &part, ROOM));
    assert!(relays.part(way(0), &part, ROOM));
    relays.message(way(0), lying(&topic, 10), onward(2), ROOM);
    let run: Vec<u64> = (11..21).collect();
    let expected = [vec![1], [&run[..], &run].concat(), vec![2]];
    assert_eq!(items(&mut relays, 0, &chunk), expected);
    // Two parts together are more than these queues hold, and the last is less than one.
    for (messages, bytes, takes) in [
        (19, 64 << 20, true),
        (100, 1_500, true),
        (9, 64 << 20, false),
    ] {
        let limits = QueueLimits { messages, bytes };
        for _ in 0..2 {
            assert_eq!(relays.part(way(0), &part, limits), takes);
        }
        let expected = if takes {
            vec![run.clone(); 2]
        } else {
            Vec::new()
        };
        assert_eq!(items(&mut relays, 0, &chunk), expected);
    }
}
