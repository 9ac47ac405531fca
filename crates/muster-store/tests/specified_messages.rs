//! The messages of `docs/stores.md`: its examples are what the code writes, and reads.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster_data::{Kind, Timespan};
use muster_store::op::{Amendment, Answer, Edit, NumberedEdit, Op, Writer};
use muster_store::protocol::{
    Acknowledgement, Attach, Attached, Changes, Chunk, LogEntry, Query, Replicate, Reply, Results,
    StoreMessage, WriteBatch, WriterRow, WritersPart,
};
use muster_store::{Encoded, Entry, Level, StoreName};
use muster_wire::EndpointId;

const SPECIFICATION: &str = include_str!("../../../docs/stores.md");

/// The indented blocks of the document, each the bytes of one message: the hexadecimal words of a line are bytes,
/// what comes behind them is said of them.
fn specified() -> Vec<Vec<u8>> {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut is_inside = false;
    for line in SPECIFICATION.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            is_inside = false;
            continue;
        };
        if !std::mem::replace(&mut is_inside, true) {
            blocks.push(Vec::new());
        }
        let is_hex = |word: &&str| {
            let mut bytes = word.bytes();
            word.len().is_multiple_of(2) && bytes.all(|byte| b"0123456789abcdef".contains(&byte))
        };
        for word in line.split_whitespace().take_while(is_hex) {
            let pairs = word.as_bytes().chunks(2);
            let bytes = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
            let bytes = bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap());
            blocks.last_mut().unwrap().extend(bytes);
        }
    }
    blocks
}

fn key() -> Encoded {
    Encoded::key("x")
}

fn count(number: u64) -> Encoded {
    Encoded::of(&number)
}

/// The examples in the order of the document.
fn examples() -> Vec<StoreMessage> {
    let writer = writer();
    let entry = Entry {
        value: count(1),
        expires: None,
        changed: 2,
    };
    vec![
        StoreMessage::Missing {
            timeline: 0,
            from: 1,
        },
        StoreMessage::Alive {
            timeline: 7,
            last: 2,
            epoch: 0,
        },
        StoreMessage::Fetch {
            instance: 5,
            after: None,
        },
        StoreMessage::Chunk(Chunk {
            instance: 5,
            timeline: 7,
            epoch: 0,
            as_of: 2,
            after: None,
            entries: vec![(key(), entry)],
            is_last: true,
        }),
        StoreMessage::Write(WriteBatch {
            instance: 5,
            first_open: 1,
            number: 1,
            ops: vec![
                (
                    Op::Add {
                        key: key(),
                        value: count(2),
                        initial: Kind::Count,
                        ttl: Some(Timespan::from_nanos(60_000_000_000)),
                    },
                    Level::Durable,
                ),
                (Op::Erase { key: key() }, Level::Applied),
            ],
        }),
        StoreMessage::Changes(Changes {
            timeline: 7,
            epoch: 0,
            changes: vec![
                NumberedEdit {
                    number: 3,
                    writer: Some(writer),
                    edit: Edit::Put {
                        key: key(),
                        value: count(3),
                        expires: Some(muster_data::Timestamp::from_nanos(1_000)),
                    },
                },
                NumberedEdit {
                    number: 4,
                    writer: Some(writer),
                    edit: Edit::Erase { key: key() },
                },
                NumberedEdit {
                    number: 5,
                    writer: None,
                    edit: Edit::Amend {
                        key: key(),
                        amendment: Amendment::Add(count(3)),
                        expires: None,
                    },
                },
            ],
        }),
        StoreMessage::Results(Results {
            instance: 5,
            timeline: 7,
            epoch: 0,
            next: 3,
            durable: 1,
            failed: 0,
            number: 1,
            answers: vec![
                Answer::Done {
                    change: 3,
                    value: Some(count(3)),
                },
                Answer::Done {
                    change: 4,
                    value: None,
                },
            ],
        }),
        StoreMessage::Query {
            request: 9,
            query: Query::Get(key()),
        },
        StoreMessage::Reply {
            request: 9,
            timeline: 7,
            last: 4,
            reply: Reply::Entry(None),
            epoch: 0,
        },
    ]
}

/// Those of copies, which come behind them.
fn examples_of_copies() -> Vec<StoreMessage> {
    let (epoch, timeline) = (5, 7);
    let entry = |by, answer, edit| LogEntry { by, answer, edit };
    let put = Edit::Put {
        key: key(),
        value: count(3),
        expires: None,
    };
    let done = Answer::Done {
        change: 5,
        value: None,
    };
    vec![
        StoreMessage::Attach(Attach {
            epoch,
            timeline,
            index: 9,
        }),
        StoreMessage::Attached(Attached {
            epoch,
            timeline,
            index: 9,
            change: 4,
            continues: true,
        }),
        StoreMessage::Replicate(Replicate {
            epoch,
            timeline,
            committed: 9,
            first: 10,
            change: 5,
            writers: vec![(writer(), 3)],
            entries: vec![
                entry(Some((writer(), 3)), done.clone(), Some(put)),
                entry(Some((writer(), 4)), Answer::Unchanged { change: 5 }, None),
                entry(None, Answer::Repeated, None),
            ],
            at: muster_data::Timestamp::from_nanos(1_000),
        }),
        StoreMessage::Acknowledge(Acknowledgement {
            epoch,
            timeline,
            index: 12,
            durable: 10,
            is_whole: true,
        }),
        StoreMessage::FetchWriters { epoch, after: None },
        StoreMessage::Writers(WritersPart {
            epoch,
            timeline,
            after: None,
            rows: vec![WriterRow {
                writer: writer(),
                number: 4,
                first: 3,
                answers: vec![done],
            }],
            is_last: true,
        }),
        StoreMessage::Fenced { epoch: 6 },
    ]
}

fn writer() -> Writer {
    let mut endpoint = [0; 16];
    (endpoint[6], endpoint[8], endpoint[15]) = (0x40, 0x80, 0x0b);
    Writer {
        endpoint: EndpointId::from_bytes(endpoint),
        instance: 5,
    }
}

#[test]
fn the_examples_are_what_is_written_and_read() {
    let name = StoreName::new("a/b").unwrap();
    let (specified, mut examples) = (specified(), examples());
    examples.extend(examples_of_copies());
    for (bytes, message) in specified.iter().zip(&examples) {
        assert_eq!(*bytes, message.encode(&name), "{message:?}");
        assert_eq!(StoreMessage::decode(bytes).unwrap(), *message);
        let for_primary = message.is_for_primary();
        assert_eq!(StoreMessage::addressee(bytes), Some(("a/b", for_primary)));
    }
    assert_eq!(specified.len(), examples.len());
}
