//! The messages of data stores.

use muster_data::{Timespan, Timestamp};
use muster_store::op::{Answer, OpKind, WriteRefusal, Writer};
use muster_store::protocol::{Query, Results, StoreMessage, WriteBatch};
use muster_store::{
    CloneConfig, Encoded, Level, Now, Output, Primary, PrimaryConfig, StoreClone, StoreName,
};
use muster_wire::{EndpointId, Mono};

/// How much longer than an input what comes of it may be: a store repeats keys and values to clones and
/// writers, with a head for each.
const LONGER: usize = 16;
const HEADS: usize = 4096;

/// Reads a message of a store, and hands it to a primary and a clone.
pub fn stores(bytes: &[u8]) {
    let _ = StoreMessage::addressee(bytes);
    let Ok(message) = StoreMessage::decode(bytes) else {
        return;
    };
    let name = name();
    let written = message.encode(&name);
    assert_eq!(StoreMessage::decode(&written).as_ref(), Ok(&message));
    assert_eq!(
        StoreMessage::addressee(&written),
        Some((name.as_str(), message.is_for_primary()))
    );
    let now = Now {
        mono: Mono(1),
        wall: Timestamp::from_secs(1),
    };
    let [me, other] = [1, 2].map(|id| EndpointId::from_random([id; 16]));
    let mut primary = Primary::in_memory(name.clone(), me, 1, PrimaryConfig::default(), now);
    primary.receive(other, message.clone(), now);
    primary.tick(now);
    let mut out = 0;
    while let Some(output) = primary.poll() {
        out += match output {
            Output::Broadcast(bytes) | Output::Send(_, bytes) => bytes.len(),
            _ => 0,
        };
    }
    assert!(
        out <= bytes.len() * LONGER + HEADS,
        "{out} bytes of {}",
        bytes.len()
    );
    let mut clone = StoreClone::new(name, 1, CloneConfig::default(), now.mono);
    clone.receive(other, message.clone(), now.mono);
    clone.receive(other, message, now.mono);
    clone.tick(now.mono);
    while clone.poll().is_some() {}
}

fn name() -> StoreName {
    StoreName::new("s").expect("a name")
}

/// One message of each kind that can be made from outside, encoded.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let (key, value) = (Encoded::key("key"), Encoded::of(&5u64));
    let ttl = Some(Timespan::from_secs(1));
    let levels = [Level::Applied, Level::Durable].into_iter().cycle();
    let kinds = OpKind::ALL.iter();
    let ops = kinds.map(|kind| kind.example(key.clone(), value.clone(), ttl));
    let ops = ops.zip(levels).collect();
    let now = Now {
        mono: Mono(1),
        wall: Timestamp::from_secs(1),
    };
    let me = EndpointId::from_random([1; 16]);
    let mut primary = Primary::in_memory(name(), me, 1, PrimaryConfig::default(), now);
    let write = StoreMessage::Write(WriteBatch {
        instance: 1,
        first_open: 1,
        number: 1,
        ops,
    });
    let fetch = StoreMessage::Fetch {
        instance: 1,
        after: Some(key.clone()),
    };
    let missing = StoreMessage::Missing {
        timeline: 1,
        from: 1,
    };
    let query = StoreMessage::Query {
        request: 1,
        query: Query::Get(key),
    };
    let results = StoreMessage::Results(Results {
        instance: 1,
        timeline: 1,
        epoch: 1,
        next: 2,
        durable: 1,
        failed: 0,
        number: 1,
        answers: vec![
            Answer::Repeated,
            Answer::Unchanged { change: 3 },
            Answer::Refused(WriteRefusal::Full),
        ],
    });
    let writer = Writer {
        endpoint: me,
        instance: 1,
    };
    let asked = [write, fetch, missing, query];
    let mut all: Vec<Vec<u8>> = asked.iter().map(|asked| asked.encode(&name())).collect();
    all.push(results.encode(&name()));
    for message in asked {
        primary.receive(writer.endpoint, message, now);
    }
    while let Some(output) = primary.poll() {
        if let Output::Broadcast(bytes) | Output::Send(_, bytes) = output {
            all.push(bytes);
        }
    }
    all
}
