//! The messages of data stores.

use muster_data::{Timespan, Timestamp};
use muster_store::op::{Amendment, Answer, Edit, OpKind, WriteRefusal, Writer};
use muster_store::protocol::{
    Acknowledgement, Attach, Attached, LogEntry, Query, Replicate, Results, StoreMessage,
    WriteBatch, WriterRow, WritersPart,
};
use muster_store::{
    Assignment, CloneConfig, ENTRY_OVERHEAD, Encoded, Level, Now, Output, Primary, PrimaryConfig,
    StoreClone, StoreName,
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
    for role in [Role::Primary, Role::Standby, Role::Joining] {
        copies(&message, role, bytes.len(), now);
    }
    let mut clone = StoreClone::new(name, 1, CloneConfig::default(), now.mono);
    clone.receive(other, message.clone(), now.mono);
    clone.receive(other, message, now.mono);
    clone.tick(now.mono);
    while clone.poll().is_some() {}
}

/// What a copy is among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Primary,
    Standby,
    Joining,
}

/// How much memory a copy's entries may take, beyond what an input is long.
const ENTRIES: usize = 4096;

/// Hands a message to a copy, as it is and as one of the copy's own epoch and timeline: once, again, and after a change of its part.
fn copies(message: &StoreMessage, role: Role, size: usize, now: Now) {
    let [me, other] = [1, 2].map(|id| EndpointId::from_random([id; 16]));
    let (primary, in_sync, joining) = match role {
        Role::Primary => (me, vec![me], Some(other)),
        Role::Standby => (other, vec![other, me], None),
        Role::Joining => (other, vec![other], Some(me)),
    };
    let assignment = |epoch, primary| Assignment {
        epoch,
        began: 1,
        primary: Some(primary),
        in_sync: in_sync.clone(),
        joining,
        min_copies: 1,
    };
    let mut copy = Primary::copy(name(), me, PrimaryConfig::default(), None, now);
    copy.assign(assignment(1, primary), now);
    let attached = Attached {
        epoch: 1,
        timeline: copy.timeline(),
        index: 0,
        change: 0,
        continues: role == Role::Standby,
    };
    let attach = Attach {
        epoch: 1,
        timeline: copy.timeline(),
        index: 0,
    };
    // One of these is for it.
    copy.receive(other, StoreMessage::Attached(attached), now);
    copy.receive(other, StoreMessage::Attach(attach), now);
    while copy.poll().is_some() {}
    let mut out = 0;
    for message in [message.clone(), fitting(message.clone(), copy.timeline())] {
        copy.receive(other, message.clone(), now);
        copy.receive(me, message.clone(), now);
        copy.receive(other, message, now);
    }
    copy.tick(now);
    copy.assign(assignment(2, me), now);
    copy.tick(now);
    copy.receive(other, message.clone(), now);
    while let Some(output) = copy.poll() {
        out += match output {
            Output::Broadcast(bytes) | Output::Send(_, bytes) => bytes.len(),
            _ => 0,
        };
    }
    assert!(
        out <= size * COPIES * LONGER + HEADS * COPIES,
        "{out} bytes of {size} as {role:?}"
    );
    let taken = copy.state().entries().bytes();
    assert!(
        taken <= size * (LONGER + ENTRY_OVERHEAD) + ENTRIES,
        "{taken} bytes taken of {size} as {role:?}"
    );
}

/// How often a copy is given a message, once or twice in two forms, and once more.
const COPIES: usize = 7;

/// The same message, of the epoch and the timeline that a copy expects.
fn fitting(message: StoreMessage, of: u64) -> StoreMessage {
    let mut message = message;
    let (at, timeline) = match &mut message {
        StoreMessage::Attach(it) => (&mut it.epoch, &mut it.timeline),
        StoreMessage::Attached(it) => (&mut it.epoch, &mut it.timeline),
        StoreMessage::Acknowledge(it) => (&mut it.epoch, &mut it.timeline),
        StoreMessage::Replicate(it) => (&mut it.epoch, &mut it.timeline),
        StoreMessage::Writers(it) => (&mut it.epoch, &mut it.timeline),
        StoreMessage::Chunk(it) => {
            it.instance = 0;
            (&mut it.epoch, &mut it.timeline)
        }
        StoreMessage::FetchWriters { epoch, .. } => {
            *epoch = 1;
            return message;
        }
        _ => return message,
    };
    (*at, *timeline) = (1, of);
    message
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
    all.extend(of_copies(writer).iter().map(|said| said.encode(&name())));
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

/// What copies say to one another.
fn of_copies(writer: Writer) -> Vec<StoreMessage> {
    let put = Edit::Put {
        key: Encoded::key("key"),
        value: Encoded::of(&5u64),
        expires: None,
    };
    let amend = Edit::Amend {
        key: Encoded::key("key"),
        amendment: Amendment::Add(Encoded::of(&5u64)),
        expires: None,
    };
    let done = Answer::Done {
        change: 1,
        value: None,
    };
    let entry = |by, answer, edit| LogEntry { by, answer, edit };
    let entries = vec![
        entry(Some((writer, 1)), done.clone(), Some(put)),
        entry(Some((writer, 2)), Answer::Unchanged { change: 1 }, None),
        entry(Some((writer, 3)), done.clone(), Some(amend)),
        entry(None, Answer::Repeated, None),
    ];
    let (epoch, timeline) = (1, 1);
    vec![
        StoreMessage::Attach(Attach {
            epoch,
            timeline,
            index: 0,
        }),
        StoreMessage::Attached(Attached {
            epoch,
            timeline,
            index: 0,
            change: 0,
            continues: false,
        }),
        StoreMessage::Acknowledge(Acknowledgement {
            epoch,
            timeline,
            index: 3,
            durable: 2,
            is_whole: true,
        }),
        StoreMessage::Replicate(Replicate {
            epoch,
            timeline,
            committed: 1,
            first: 1,
            change: 1,
            writers: vec![(writer, 1)],
            entries,
            at: Timestamp::from_secs(1),
        }),
        StoreMessage::FetchWriters {
            epoch,
            after: Some(writer),
        },
        StoreMessage::Writers(WritersPart {
            epoch,
            timeline,
            after: None,
            rows: vec![WriterRow {
                writer,
                number: 1,
                first: 1,
                answers: vec![done],
            }],
            is_last: true,
        }),
        StoreMessage::Fenced { epoch },
    ]
}
