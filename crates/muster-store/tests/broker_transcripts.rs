//! Captured conversations of Broker's stores, with ours in the place of either side: what the other side said
//! is said at its time, and the events that come back are those of the capture, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use muster_data::Timestamp;
use muster_store::broker::{BrokerClone, BrokerClones, BrokerCommand, Content, EVERYBODY, Entity};
use muster_store::op::{Answer, Op, WriteRefusal};
use muster_store::{
    CloneConfig, Encoded, Entries, Level, Notice, Now, Output, Primary, PrimaryConfig, StoreName,
    WriteFailure,
};
use muster_wire::envelope::{self, Envelope};
use muster_wire::{EndpointId, Mono};
use serde_json::Value as Json;

/// A command of a capture.
#[derive(Debug)]
struct Said {
    /// In nanoseconds since the first frame.
    at: u64,
    is_of_master: bool,
    /// Whether the envelope is addressed to an endpoint.
    is_addressed: bool,
    command: BrokerCommand,
    payload: Vec<u8>,
}

struct Capture {
    said: Vec<Said>,
    master: Entity,
    clone: Entity,
}

/// Loads a capture; `master` is the direction of the master's frames.
fn capture(name: &str, master: &str) -> Capture {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-wire/tests/vectors");
    let text = std::fs::read_to_string(directory.join(format!("{name}.json"))).unwrap();
    let json: Json = serde_json::from_str(&text).unwrap();
    let mut said = Vec::new();
    for frame in json["messages"].as_array().unwrap() {
        if frame["decoded"]["type"] != "command" {
            continue;
        }
        let bytes = unhex(frame["hex"].as_str().unwrap());
        let id = |key: &str| -> EndpointId {
            let id = frame["decoded"][key].as_str().unwrap();
            id.parse().unwrap()
        };
        let (sender, receiver) = (id("sender"), id("receiver"));
        let read = envelope::read(&bytes[4..], sender, receiver).unwrap();
        let Envelope::Message { topic, payload, .. } = read else {
            panic!("{frame}");
        };
        let is_of_master = frame["direction"] == master;
        let of = StoreName::of_broker_topic(topic);
        assert_eq!(of, Some(("kv", !is_of_master)));
        let command = BrokerCommand::decode(payload).unwrap();
        assert_eq!(command.encode(), payload, "{frame}");
        said.push(Said {
            at: nanos(frame["t"].as_f64().unwrap()),
            is_of_master,
            is_addressed: !receiver.is_nil(),
            command,
            payload: payload.to_vec(),
        });
    }
    let of = |master: bool| {
        let mut said = said.iter().filter(|said| said.is_of_master == master);
        said.next().unwrap().command.sender
    };
    let (master, clone) = (of(true), of(false));
    Capture {
        said,
        master,
        clone,
    }
}

impl Capture {
    fn of(&self, master: bool) -> impl Iterator<Item = &Said> {
        self.said
            .iter()
            .filter(move |said| said.is_of_master == master)
    }

    /// The events of a side, as they were sent.
    fn events(&self, master: bool) -> Vec<Vec<u8>> {
        let events = self
            .of(master)
            .filter(|said| said.command.content.is_event());
        events.map(|said| said.payload.clone()).collect()
    }

    fn snapshot(&self) -> &Said {
        let is_snapshot = |said: &&Said| matches!(said.command.content, Content::AckClone { .. });
        self.of(true).find(is_snapshot).unwrap()
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a short capture"
)]
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn at(nanos: u64) -> Now {
    Now {
        mono: Mono(nanos + 1),
        wall: Timestamp::from_nanos(i64::try_from(nanos).unwrap()),
    }
}

fn values(entries: &Entries) -> BTreeMap<Encoded, Encoded> {
    let entries = entries.iter();
    entries
        .map(|(key, entry)| (key.clone(), entry.value.clone()))
        .collect()
}

/// A snapshot's state, which Broker has in no order.
fn state(command: &BrokerCommand) -> BTreeSet<&(Encoded, Encoded)> {
    match &command.content {
        Content::AckClone { state, .. } => state.iter().collect(),
        other => panic!("{other:?}"),
    }
}

/// How often the time is looked at, in nanoseconds.
const STEP: u64 = 10_000_000;

/// A Muster master in the place of the captured one.
struct Stage {
    master: Primary,
    clones: BrokerClones,
    now: u64,
    /// What was sent: to whom, and what.
    sent: Vec<(Option<EndpointId>, BrokerCommand)>,
}

impl Stage {
    fn new(me: Entity) -> Self {
        let name = StoreName::new("kv").unwrap();
        let now = at(0);
        Self {
            master: Primary::in_memory(name, me.endpoint, 1, PrimaryConfig::default(), now),
            clones: BrokerClones::new(me, 1 << 20, now.mono),
            now: 0,
            sent: Vec::new(),
        }
    }

    /// One that has what the captured master had at first.
    fn of(capture: &Capture) -> Self {
        let mut stage = Self::new(capture.master);
        for (key, value) in state(&capture.snapshot().command) {
            stage.write(Op::Put {
                key: key.clone(),
                value: value.clone(),
                ttl: None,
            });
        }
        stage
    }

    fn collect(&mut self) {
        while let Some(output) = self.master.poll() {
            if let Output::Changed(change) = output {
                self.clones.changed(&change, at(self.now));
            }
        }
        while let Some(output) = self.clones.poll() {
            let sent = match output {
                Output::BrokerBroadcast(bytes) => (None, BrokerCommand::decode(&bytes).unwrap()),
                Output::BrokerToClone(to, bytes) => {
                    (Some(to), BrokerCommand::decode(&bytes).unwrap())
                }
                Output::BrokerSnapshot(snapshot) => {
                    let to = snapshot.command.receiver.endpoint;
                    (Some(to), snapshot.command)
                }
                Output::Notice(Notice::BrokerCloneAttached(_) | Notice::BrokerWriteRefused(..)) => {
                    continue;
                }
                other => panic!("{other:?}"),
            };
            self.sent.push(sent);
        }
    }

    fn until(&mut self, time: u64) {
        while self.now < time {
            self.now = (self.now + STEP).min(time);
            self.master.tick(at(self.now));
            self.collect();
            self.clones.tick(at(self.now));
            self.collect();
        }
    }

    fn write(&mut self, op: Op) {
        self.master.write(op, Level::Applied, 0, None, at(self.now));
        self.collect();
    }

    /// Hears what the captured clone said.
    fn hears(&mut self, said: &Said) {
        self.until(said.at);
        let now = at(self.now);
        self.clones
            .receive(said.command.clone(), &mut self.master, now);
        self.collect();
    }

    /// Hears all that the captured clone said, and writes what the captured master wrote itself.
    fn replay(&mut self, capture: &Capture) {
        for said in &capture.said {
            if !said.is_of_master {
                self.hears(said);
                continue;
            }
            self.until(said.at);
            match said.command.content {
                Content::Put { publisher, .. }
                | Content::Erase { publisher, .. }
                | Content::Clear { publisher }
                    if publisher == capture.master =>
                {
                    self.write(op(&said.command.content));
                }
                _ => {}
            }
        }
    }

    /// The events, as they were broadcast.
    fn events(&self) -> Vec<Vec<u8>> {
        let events = self
            .sent
            .iter()
            .filter(|(to, command)| to.is_none() && command.content.is_event());
        events.map(|(_, command)| command.encode()).collect()
    }

    fn snapshots(&self) -> Vec<&BrokerCommand> {
        let sent = self.sent.iter().map(|(_, command)| command);
        sent.filter(|command| matches!(command.content, Content::AckClone { .. }))
            .collect()
    }

    fn has_sent(&self, content: &Content) -> bool {
        self.sent.iter().any(|(_, sent)| sent.content == *content)
    }
}

#[test]
fn a_muster_master_says_what_brokers_said() {
    for (name, direction) in [
        ("cpp_store_session", "server->client"),
        ("store_clone_session", "broker->py"),
        ("store_second_clone_snapshot", "broker->py"),
    ] {
        let capture = capture(name, direction);
        let mut stage = Stage::of(&capture);
        stage.replay(&capture);
        let recorded = capture.snapshot();
        assert!(recorded.is_addressed);
        let recorded = &recorded.command;
        let ours = stage.snapshots()[0];
        assert_eq!(ours.sender, recorded.sender);
        assert_eq!(ours.receiver, recorded.receiver);
        assert_eq!(state(ours), state(recorded), "{name}");
        let (events, expected) = (stage.events(), events_in_place(&capture, ours));
        for (event, expected) in events.iter().zip(&expected) {
            let read = |bytes: &[u8]| BrokerCommand::decode(bytes).unwrap();
            assert_eq!(
                event,
                expected,
                "{:?}, not {:?}",
                read(event),
                read(expected)
            );
        }
        assert_eq!(events.len(), expected.len(), "{name}");
        let all = stage.sent.iter();
        let unaddressed = all.filter(|(to, command)| to.is_none() && command.receiver != EVERYBODY);
        assert_eq!(unaddressed.count(), 0);
        if name == "store_clone_session" {
            let gone = Content::RetransmitFailed { number: 2 };
            assert!(stage.has_sent(&gone));
            assert!(stage.has_sent(&Content::Nack { numbers: vec![10] }));
            assert!(stage.has_sent(&Content::CumulativeAck { number: 11 }));
        }
    }
}

/// The captured master's events, numbered as if it had begun with the offset of our snapshot: it may have had
/// clones before.
fn events_in_place(capture: &Capture, ours: &BrokerCommand) -> Vec<Vec<u8>> {
    let recorded = capture.snapshot().command.number;
    if recorded == ours.number {
        return capture.events(true);
    }
    let events = capture
        .of(true)
        .filter(|said| said.command.content.is_event());
    events
        .map(|said| {
            let mut command = said.command.clone();
            command.number = command.number + ours.number - recorded;
            command.encode()
        })
        .collect()
}

/// The captured master was a script, its clone Broker's.
#[test]
fn brokers_clone_is_served() {
    let capture = capture("store_python_master", "py->broker");
    let mut stage = Stage::of(&capture);
    stage.replay(&capture);
    assert_eq!(stage.events(), capture.events(true));
    // It asks five times within a second.
    assert_eq!(stage.snapshots().len(), 1);
    let keepalives = stage.sent.iter();
    let mut keepalives =
        keepalives.filter(|(_, command)| matches!(command.content, Content::Keepalive { .. }));
    // Broker's clones heed no others.
    assert!(keepalives.all(|(to, _)| *to == Some(capture.clone.endpoint)));
}

/// A clone of ours in the place of the captured one.
struct Follower {
    clone: BrokerClone,
    now: u64,
    sent: Vec<BrokerCommand>,
    outcomes: HashMap<u64, Result<Answer, WriteFailure>>,
}

impl Follower {
    fn new(me: Entity) -> Self {
        Self {
            clone: BrokerClone::new(me, CloneConfig::default(), at(0).mono),
            now: 0,
            sent: Vec::new(),
            outcomes: HashMap::new(),
        }
    }

    fn collect(&mut self) {
        while let Some(output) = self.clone.poll() {
            match output {
                Output::BrokerFind(bytes) | Output::BrokerToMaster(_, bytes) => {
                    self.sent.push(BrokerCommand::decode(&bytes).unwrap());
                }
                Output::Settled(settled) => {
                    self.outcomes.insert(settled.token, settled.outcome);
                }
                _ => {}
            }
        }
    }

    fn until(&mut self, time: u64) {
        while self.now < time {
            self.now = (self.now + STEP).min(time);
            self.clone.tick(at(self.now).mono);
            self.collect();
        }
    }

    /// Writes what the captured clone wrote, under its number as a token; what is sent.
    fn write(&mut self, command: &BrokerCommand) -> BrokerCommand {
        let now = at(self.now).mono;
        let op = op(&command.content);
        self.clone
            .write(op, Level::Applied, command.number, None, now);
        self.collect();
        self.sent.last().unwrap().clone()
    }

    fn hears(&mut self, command: BrokerCommand) {
        self.clone.receive(command, at(self.now));
        self.collect();
    }

    fn has_sent(&self, content: &Content) -> bool {
        self.sent.iter().any(|sent| sent.content == *content)
    }
}

fn op(content: &Content) -> Op {
    match content.clone() {
        Content::Put {
            key, value, ttl, ..
        } => Op::Put { key, value, ttl },
        Content::PutUnique {
            key, value, ttl, ..
        } => Op::PutUnique { key, value, ttl },
        Content::Erase { key, .. } => Op::Erase { key },
        Content::Add {
            key,
            value,
            initial,
            ttl,
            ..
        } => Op::Add {
            key,
            value,
            initial,
            ttl,
        },
        Content::Subtract {
            key, value, ttl, ..
        } => Op::Subtract { key, value, ttl },
        Content::Clear { .. } => Op::Clear,
        other => panic!("{other:?}"),
    }
}

/// Who waits for the result of a conditional put, and the number that it repeats.
fn request(command: &mut BrokerCommand) -> Option<(&mut Entity, &mut u64)> {
    match &mut command.content {
        Content::PutUnique { who, request, .. } | Content::PutUniqueResult { who, request, .. } => {
            Some((who, request))
        }
        _ => None,
    }
}

#[test]
fn a_muster_clone_writes_and_reads_what_brokers_did() {
    for (name, direction) in [
        ("cpp_store_session", "server->client"),
        ("store_clone_session", "broker->py"),
    ] {
        let capture = capture(name, direction);
        let mut follower = Follower::new(capture.clone);
        let mut writes: Vec<&Said> = capture.of(false).collect();
        writes.retain(|said| said.command.content.is_event());
        // The script of one capture leaves a number out until it is asked for it.
        writes.sort_by_key(|said| said.command.number);
        let mut written = 0;
        // What waits for a result, and under which number, is a clone's own affair.
        let mut requests = HashMap::new();
        for said in &capture.said {
            follower.until(said.at);
            if said.is_of_master {
                let mut command = said.command.clone();
                if let Some((who, request)) = request(&mut command) {
                    *request = requests[request];
                    *who = capture.clone;
                }
                follower.hears(command);
                continue;
            }
            while written < writes.len() && writes[written].command.number <= said.command.number {
                let mut recorded = writes[written].command.clone();
                let mut ours = follower.write(&recorded);
                if let (Some(recorded), Some(ours)) = (request(&mut recorded), request(&mut ours)) {
                    requests.insert(*recorded.1, *ours.1);
                    (*recorded.0, *recorded.1) = (*ours.0, *ours.1);
                }
                assert_eq!(ours, recorded);
                written += 1;
            }
        }
        follower.until(follower.now + 1_000_000_000);
        assert_eq!(written, writes.len());
        let mut expected = Stage::of(&capture);
        expected.replay(&capture);
        expected.until(follower.now);
        let expected = expected.master.state().entries();
        assert_eq!(values(follower.clone.entries()), values(expected), "{name}");
        assert_eq!(follower.outcomes.len(), writes.len(), "{name}");
        let refused = Ok(Answer::Refused(WriteRefusal::Backend));
        for said in &writes {
            let number = said.command.number;
            let outcome = &follower.outcomes[&number];
            let is_certain = !matches!(outcome, Err(_) | Ok(Answer::Repeated));
            assert!(
                is_certain && *outcome != refused,
                "{name}: {number} {outcome:?}"
            );
        }
        if name == "store_clone_session" {
            let unique = [&follower.outcomes[&3], &follower.outcomes[&4]];
            assert!(matches!(unique[0], Ok(Answer::Unchanged { .. })));
            assert!(matches!(unique[1], Ok(Answer::Done { .. })));
            // The captured master asks for what it says it misses.
            let again = follower.sent.iter().filter(|sent| sent.number == 10);
            assert!(again.count() > 1);
        }
    }
}

/// A broadcast keepalive, which Broker's clones ignore, tells of events that were lost.
#[test]
fn a_scripted_master_is_followed() {
    let capture = capture("store_python_master", "py->broker");
    let mut follower = Follower::new(capture.clone);
    for said in capture.of(true) {
        follower.until(said.at);
        follower.hears(said.command.clone());
    }
    follower.until(follower.now + 500_000_000);
    let b = (Encoded::key("b"), Encoded::of(&2u64));
    assert_eq!(values(follower.clone.entries()), [b].into());
    let attach = Content::AttachWriter {
        offset: 1,
        heartbeat: 5,
    };
    let nack = |numbers: &[u64]| Content::Nack {
        numbers: numbers.to_vec(),
    };
    let expected = [
        nack(&[0]),
        Content::CumulativeAck { number: 1 },
        attach,
        nack(&[2, 3, 4, 5]),
        nack(&[4, 5]),
    ];
    for content in expected {
        assert!(follower.has_sent(&content), "{content:?}");
    }
}
