use muster_wire::EndpointId;

use super::*;
use crate::{Encoded, Level, PrimaryConfig, StoreName};

fn entity(number: u8) -> Entity {
    Entity {
        endpoint: EndpointId::from_random([number; 16]),
        instance: u64::from(number),
    }
}

fn at(millis: u64) -> Now {
    Now {
        mono: Mono(millis * 1_000_000),
        wall: Timestamp::from_nanos(i64::try_from(millis).unwrap() * 1_000_000),
    }
}

struct Pair {
    master: Primary,
    clones: BrokerClones,
}

impl Pair {
    fn new() -> Self {
        let name = StoreName::new("kv").unwrap();
        let config = PrimaryConfig::default();
        let now = at(0);
        let endpoint = entity(1).endpoint;
        Self {
            master: Primary::in_memory(name, endpoint, 1, config, now),
            clones: BrokerClones::new(entity(1), 1000 + 1024, now.mono),
        }
    }

    fn settle(&mut self, now: Now) -> Vec<Output> {
        while let Some(output) = self.master.poll() {
            if let Output::Changed(change) = output {
                self.clones.changed(&change, now);
            }
        }
        std::iter::from_fn(|| self.clones.poll()).collect()
    }

    fn says(&mut self, clone: Entity, content: Content, now: Now) -> Vec<Output> {
        let receiver = match content {
            Content::Nack { .. } => EVERYBODY,
            _ => entity(1),
        };
        let command = BrokerCommand {
            number: 0,
            sender: clone,
            receiver,
            content,
        };
        self.clones.receive(command, &mut self.master, now);
        self.settle(now)
    }

    fn put(&mut self, key: &str, bytes: usize) -> Vec<Output> {
        let op = Op::Put {
            key: Encoded::key(key),
            value: Encoded::of(&"x".repeat(bytes)[..]),
            ttl: None,
        };
        self.master.write(op, Level::Applied, 0, None, at(0));
        self.settle(at(0))
    }
}

fn asks() -> Content {
    Content::Nack { numbers: vec![0] }
}

fn offset(outputs: &[Output]) -> Option<u64> {
    outputs.iter().find_map(|output| match output {
        Output::BrokerSnapshot(snapshot) => Some(snapshot.command.number),
        _ => None,
    })
}

#[test]
fn a_clone_that_asks_again_gets_a_fresh_snapshot_with_a_fresh_offset() {
    let mut pair = Pair::new();
    assert!(pair.put("a", 1).is_empty(), "nobody is attached");
    assert_eq!(offset(&pair.says(entity(2), asks(), at(0))), Some(1));
    assert_eq!(pair.put("b", 1).len(), 1);
    assert_eq!(offset(&pair.says(entity(2), asks(), at(200))), None);
    assert_eq!(offset(&pair.says(entity(2), asks(), at(1200))), Some(2));
    // It may follow the first answer: what is behind it is kept.
    let command = BrokerCommand {
        number: 0,
        sender: entity(2),
        receiver: entity(1),
        content: Content::Nack { numbers: vec![2] },
    };
    pair.clones.receive(command, &mut pair.master, at(1300));
    let resent = pair.settle(at(1300));
    let [Output::BrokerToClone(to, bytes)] = &resent[..] else {
        panic!("{resent:?}");
    };
    assert_eq!(*to, entity(2).endpoint);
    let resent = BrokerCommand::decode(bytes).unwrap();
    assert_eq!((resent.number, resent.receiver), (2, EVERYBODY));
    pair.clones.tick(at(60_000));
    let dropped = pair.settle(at(60_000));
    assert!(dropped.contains(&Output::Notice(Notice::BrokerCloneDropped(entity(2)))));
    assert_eq!(pair.clones.next_tick(), None);
}

#[test]
fn a_state_that_fits_into_no_frame_is_refused_once() {
    let mut pair = Pair::new();
    pair.put("a", 1000);
    let refused = pair.says(entity(2), asks(), at(0));
    assert!(matches!(
        refused[..],
        [Output::Notice(Notice::BrokerCloneTooLarge(..))]
    ));
    assert!(pair.says(entity(2), asks(), at(200)).is_empty());
    assert_eq!(pair.clones.attached(), 0);
}
