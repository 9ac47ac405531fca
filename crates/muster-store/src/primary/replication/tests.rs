//! Single copies, with what they hear by hand.

use muster_data::Timestamp;
use muster_wire::{EndpointId, Mono};

use crate::op::{Answer, Op};
use crate::protocol::{Results, StoreMessage, WriteBatch};
use crate::{Assignment, Encoded, Level, Now, Output, Primary, PrimaryConfig, StoreName};

const NOW: Now = Now {
    mono: Mono(1),
    wall: Timestamp::from_secs(1),
};

fn put_unique(key: &str) -> (Op, Level) {
    let op = Op::PutUnique {
        key: Encoded::key(key),
        value: Encoded::of(&1u64),
        ttl: None,
    };
    (op, Level::Applied)
}

fn writes(first_open: u64, number: u64, keys: &[&str]) -> StoreMessage {
    StoreMessage::Write(WriteBatch {
        instance: 1,
        first_open,
        number,
        ops: keys.iter().map(|key| put_unique(key)).collect(),
    })
}

/// Takes the last answers that a primary sends to a writer.
fn answers(primary: &mut Primary, writer: EndpointId) -> Option<Results> {
    let outputs = std::iter::from_fn(|| primary.poll());
    let results = outputs.filter_map(|output| match output {
        Output::Send(to, bytes) if to == writer => match StoreMessage::decode(&bytes) {
            Ok(StoreMessage::Results(results)) => Some(results),
            _ => None,
        },
        _ => None,
    });
    results.last()
}

/// What a writer had given up before it arrived has no answer. Those of what came behind it were taken for the answers of what came
/// before, if all of it was committed at once.
#[test]
fn answers_are_those_of_their_commands_where_a_writer_has_given_up_some() {
    let [me, writer] = [1, 2].map(|of| EndpointId::from_random([of; 16]));
    let name = StoreName::new("s").unwrap();
    let mut primary = Primary::copy(name, me, PrimaryConfig::default(), None, NOW);
    let alone = Assignment {
        epoch: 1,
        began: 1,
        primary: Some(me),
        in_sync: vec![me],
        joining: None,
        min_copies: 1,
    };
    primary.assign(alone, NOW);
    // It decides, and commits nothing.
    primary.suspend(true, NOW);
    primary.receive(writer, writes(1, 1, &["a"]), NOW);
    primary.receive(writer, writes(3, 3, &["a", "b"]), NOW);
    assert_eq!(answers(&mut primary, writer), None);
    primary.suspend(false, NOW);
    let told = answers(&mut primary, writer).unwrap();
    let done = Answer::Done {
        change: 2,
        value: None,
    };
    assert_eq!((told.number, told.next), (3, 5));
    assert_eq!(told.answers, [Answer::Unchanged { change: 1 }, done]);
}
