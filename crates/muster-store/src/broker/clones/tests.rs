use muster_wire::EndpointId;

use super::*;
use crate::protocol::{Acknowledgement, Attach, StoreMessage};
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

/// A master with another copy, which has a clone of Broker's that writes.
fn replicated() -> (Pair, EndpointId) {
    let (me, other) = (entity(1).endpoint, entity(3).endpoint);
    let name = StoreName::new("kv").unwrap();
    let mut master = Primary::copy(name, me, PrimaryConfig::default(), None, at(0));
    let assignment = crate::Assignment {
        epoch: 1,
        began: 1,
        primary: Some(me),
        in_sync: vec![me, other],
        joining: None,
        min_copies: 1,
    };
    master.assign(assignment, at(0));
    let attach = StoreMessage::Attach(Attach {
        epoch: 1,
        timeline: master.timeline(),
        index: 0,
    });
    master.receive(other, attach, at(0));
    let mut pair = Pair {
        master,
        clones: BrokerClones::new(entity(1), 1 << 20, at(0).mono),
    };
    assert!(offset(&pair.says(entity(2), asks(), at(0))).is_some());
    let attach = Content::AttachWriter {
        offset: 0,
        heartbeat: 5,
    };
    pair.says(entity(2), attach, at(0));
    (pair, other)
}

fn event(pair: &mut Pair, number: u64, content: Content) -> Vec<Content> {
    let command = BrokerCommand {
        number,
        sender: entity(2),
        receiver: entity(1),
        content,
    };
    pair.clones.receive(command, &mut pair.master, at(10));
    told(pair)
}

/// What all clones are told.
fn told(pair: &mut Pair) -> Vec<Content> {
    let mut out = pair.settle(at(10));
    pair.clones.advanced(&mut pair.master, at(10));
    out.extend(pair.settle(at(10)));
    let told = out.into_iter().filter_map(|output| match output {
        Output::BrokerBroadcast(bytes) => Some(BrokerCommand::decode(&bytes).unwrap().content),
        _ => None,
    });
    told.collect()
}

fn unique(value: u64, request: u64) -> Content {
    Content::PutUnique {
        key: Encoded::key("k"),
        value: Encoded::of(&value),
        ttl: None,
        who: entity(2),
        request,
        publisher: entity(2),
    }
}

#[test]
fn what_a_clone_wrote_is_told_when_all_copies_have_it() {
    let (mut pair, other) = replicated();
    let timeline = pair.master.timeline();
    let has = |pair: &mut Pair, index| {
        let acknowledgement = Acknowledgement {
            epoch: 1,
            timeline,
            index,
            durable: 0,
            is_whole: true,
        };
        let message = StoreMessage::Acknowledge(acknowledgement);
        pair.master.receive(other, message, at(10));
        told(pair)
    };
    assert_eq!(event(&mut pair, 1, unique(1, 7)), []);
    assert_eq!(event(&mut pair, 2, unique(2, 8)), []);
    let out = has(&mut pair, 1);
    assert!(
        matches!(
            out[..],
            [
                Content::Put { .. },
                Content::PutUniqueResult {
                    inserted: true,
                    request: 7,
                    ..
                }
            ]
        ),
        "{out:?}"
    );
    // Nobody knows whether the key is there until all have the answer, too.
    let out = has(&mut pair, 2);
    assert!(
        matches!(
            out[..],
            [Content::PutUniqueResult {
                inserted: false,
                request: 8,
                ..
            }]
        ),
        "{out:?}"
    );
}
