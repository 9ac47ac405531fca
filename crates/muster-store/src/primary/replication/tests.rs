//! Single copies, with what they hear by hand.

mod pair;

use muster_data::Timestamp;
use muster_wire::{EndpointId, Mono};

use crate::op::{Answer, Op};
use crate::protocol::{Acknowledgement, Attach, Results, StoreMessage, WriteBatch};
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

/// A primary that is the only copy in sync. Another one may be about to join it.
fn alone(me: EndpointId, joining: Option<EndpointId>) -> Primary {
    let name = StoreName::new("s").unwrap();
    let mut primary = Primary::copy(name, me, PrimaryConfig::default(), None, NOW);
    let alone = Assignment {
        epoch: 1,
        began: 1,
        primary: Some(me),
        in_sync: vec![me],
        joining,
        min_copies: 1,
    };
    primary.assign(alone, NOW);
    primary
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
    let mut primary = alone(me, None);
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

/// It looked for ever, a thousand times a second, whether a newcomer that it had begun to wait for was there.
#[test]
fn a_primary_that_may_not_decide_rests() {
    let [me, other, writer] = [1, 2, 3].map(|of| EndpointId::from_random([of; 16]));
    let mut primary = alone(me, Some(other));
    primary.receive(writer, writes(1, 1, &["a"]), NOW);
    let attach = Attach {
        epoch: 1,
        timeline: 0,
        index: 0,
    };
    primary.receive(other, StoreMessage::Attach(attach), NOW);
    // It has all that came before, and lacks the next entry: now it is waited for.
    let acknowledgement = Acknowledgement {
        epoch: 1,
        timeline: primary.timeline(),
        index: 1,
        durable: 0,
        is_whole: true,
    };
    primary.receive(writer, writes(2, 2, &["b"]), NOW);
    primary.receive(other, StoreMessage::Acknowledge(acknowledgement), NOW);
    primary.suspend(true, NOW);
    let mut now = NOW;
    for _ in 0..20 {
        let next = primary.next_tick(now);
        assert!(next > now.mono, "{next:?} is not behind {now:?}");
        now.mono = next;
        primary.tick(now);
    }
}
