//! Round trips, the worked examples of the specification, and what a neighbour must not send.

mod seals;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::Filter;
use crate::mesh::record::{Guest, LinkChanges, LinkRecord, NodeRecord, Record};
use crate::mesh::score::{key, score};
use crate::mesh::seal::{Credentials, NodeSeal};
use crate::message::{Kind, MessageId};
use seals::{a_seal, a_signature};

const SPECIFICATION: &str = include_str!("../../../../../docs/protocol-v2.md");

const fn id(last: u8) -> EndpointId {
    EndpointId::from_bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, last])
}

const A: EndpointId = id(0x0a);
const B: EndpointId = id(0x0b);
const C: EndpointId = id(0x0c);

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The hexadecimal digits of the specification's examples: indented lines without what follows two
/// spaces, which is commentary.
fn examples() -> String {
    let lines = SPECIFICATION.lines();
    let examples = lines.filter_map(|line| line.strip_prefix("    "));
    let bytes = examples.map(|line| line.trim_start().split("  ").next().unwrap_or_default());
    bytes.flat_map(str::chars).filter(|c| *c != ' ').collect()
}

fn written(encoder: &mut Encoder, frame: &OwnedFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.write(encoder, &mut bytes);
    bytes
}

/// The frame is in the specification byte by byte, and reads as it was written.
fn assert_specified(encoder: &mut Encoder, decoder: &mut Decoder, frame: &OwnedFrame) {
    let bytes = written(encoder, frame);
    let text = hex(&bytes);
    assert!(examples().contains(&text), "{frame:?} is {text}");
    let payload = &bytes[frame::HEADER..];
    let read = decoder.read(payload).and_then(Frame::into_owned);
    assert_eq!(read.as_ref(), Ok(frame));
}

fn message(sequence: u64, payload: &[u8]) -> MeshMessage {
    MeshMessage {
        id: MessageId {
            origin: A,
            sequence,
        },
        hops: 16,
        kind: Kind::Data,
        topic: b"/test".to_vec(),
        payload: payload.to_vec(),
        guest: None,
    }
}

#[test]
fn frames_are_those_of_the_specification() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let mut check = |frame: OwnedFrame| assert_specified(&mut encoder, &mut decoder, &frame);
    let class = Class::Event;
    let messages = vec![message(1, &[0, 0, 0, 0, 0, 42])];
    check(OwnedFrame::Batch { class, messages });
    let messages = vec![message(2, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])];
    check(OwnedFrame::Batch { class, messages });
    let guest = MeshMessage {
        guest: Some(C),
        ..message(3, &[0, 0, 0, 0, 0, 42])
    };
    let messages = vec![guest];
    check(OwnedFrame::Batch { class, messages });
    check(
        MeshFrame::Records {
            root: B,
            more: false,
            flood: None,
            records: vec![Record::Node(
                Arc::new(NodeRecord {
                    id: B,
                    incarnation: Incarnation(8),
                    version: 2,
                    transit: true,
                    ready: true,
                    homes: true,
                    name: String::new(),
                    role: String::new(),
                    machine: String::new(),
                    filter: Filter::default(),
                    guests: vec![
                        Guest {
                            id: C,
                            filter: Some(Filter::from_prefixes(["/z"])),
                            forwards: false,
                        },
                        Guest {
                            id: id(0x0d),
                            filter: None,
                            forwards: true,
                        },
                    ],
                }),
                None,
            )],
        }
        .into(),
    );
    check(
        MeshFrame::Records {
            root: A,
            more: false,
            flood: None,
            records: vec![Record::Node(
                Arc::new(NodeRecord {
                    id: A,
                    incarnation: Incarnation(7),
                    version: 3,
                    transit: true,
                    ready: true,
                    name: "hub".to_owned(),
                    role: "proxy".to_owned(),
                    machine: "box1".to_owned(),
                    filter: Filter::from_prefixes(["/t"]),
                    homes: false,
                    guests: Vec::new(),
                }),
                None,
            )],
        }
        .into(),
    );
    check(
        MeshFrame::Records {
            root: A,
            more: false,
            flood: Some(9),
            records: vec![
                Record::Links(
                    LinkRecord {
                        id: B,
                        incarnation: Incarnation(8),
                        version: 1,
                        neighbours: vec![A, C],
                    },
                    None,
                ),
                Record::Changes(
                    LinkChanges {
                        id: A,
                        incarnation: Incarnation(7),
                        before: 5,
                        after: 6,
                        added: vec![B],
                        removed: vec![C],
                    },
                    None,
                ),
            ],
        }
        .into(),
    );
    let seal = NodeSeal {
        credentials: Arc::new(Credentials {
            salt: [5; 16],
            certificates: vec![vec![0xce, 1], vec![0xce, 2]],
        }),
        signature: [0x51, 1, 2].into(),
        unknown: vec![9, 1, 0xff],
    };
    let leaf = NodeRecord {
        transit: false,
        homes: false,
        ..host(Vec::new())
    };
    let links = LinkRecord {
        id: B,
        incarnation: Incarnation(8),
        version: 1,
        neighbours: vec![A],
    };
    check(
        MeshFrame::Records {
            root: A,
            more: false,
            flood: None,
            records: vec![
                Record::Node(Arc::new(leaf), Some(Arc::new(seal))),
                Record::Links(links, Some([0x51, 3, 4].into())),
            ],
        }
        .into(),
    );
    check(MeshFrame::Digest(0x1122_3344_5566_7788).into());
    check(MeshFrame::Greeting(0x1122_3344_5566_7788).into());
    check(
        MeshFrame::List(vec![Versions {
            id: A,
            incarnation: Incarnation(7),
            node: 3,
            links: 5,
        }])
        .into(),
    );
    check(MeshFrame::Want(vec![A]).into());
    check(
        MeshFrame::Heartbeat {
            time: 1,
            echo: 0,
            hash: 0x1122_3344_5566_7788,
        }
        .into(),
    );
    check(
        LinkFrame::Credit {
            class: Class::Bulk,
            bytes: 65_536,
        }
        .into(),
    );
    check(MeshFrame::JoinRequest.into());
    check(MeshFrame::JoinAcknowledged { root: A, flood: 9 }.into());
    check(MeshFrame::JoinReady(B).into());
    check(
        LinkFrame::Goodbye {
            reason: 1,
            text: "bye".to_owned(),
        }
        .into(),
    );
    check(
        LinkFrame::Goodbye {
            reason: LinkFrame::FENCED,
            text: "fenced".to_owned(),
        }
        .into(),
    );
    check(OwnedFrame::Fragment {
        class: Class::Bulk,
        number: 4,
        index: 0,
        last: true,
        bytes: vec![1, 2, 3],
    });
    check(
        LinkFrame::Echo {
            is_answer: false,
            token: 7,
        }
        .into(),
    );
    check(
        LinkFrame::Witness {
            is_answer: true,
            id: B,
        }
        .into(),
    );
    check(
        MeshFrame::Offer {
            root: A,
            list: vec![Versions {
                id: B,
                incarnation: Incarnation(8),
                node: 3,
                links: 5,
            }],
        }
        .into(),
    );
    check(
        MeshFrame::Accept {
            root: A,
            ids: vec![B],
        }
        .into(),
    );
    check(
        MeshFrame::Agree {
            is_answer: true,
            hash: 0x1122_3344_5566_7788,
        }
        .into(),
    );
    check(MeshFrame::Agreed(0x1122_3344_5566_7788).into());
}

#[test]
fn scores_are_those_of_the_specification() {
    let (key, score) = (key(A), score(key(A), key(B), key(C)));
    for number in [key, score] {
        let text = format!("`{number:016x}`");
        assert!(SPECIFICATION.contains(&text), "{text}");
    }
}

fn read(bytes: &[u8]) -> Result<OwnedFrame, FrameError> {
    Decoder::default().read(bytes).and_then(Frame::into_owned)
}

#[test]
fn unknown_kinds_and_fields_are_skipped() {
    assert_eq!(read(&[]), Err(FrameError::Empty));
    assert_eq!(read(&[15, 1, 2, 3]), Ok(OwnedFrame::Unknown));
    assert_eq!(read(&[0xff]), Ok(OwnedFrame::Unknown));
    // JOIN request with the optional field 77.
    assert_eq!(
        read(&[7, 0, 77, 2, 1, 1]),
        Ok(MeshFrame::JoinRequest.into())
    );
    assert_eq!(
        read(&[7, 0, 77, 3, 1, 1]),
        Err(FrameError::Malformed("JOIN"))
    );
    // A record of kind 200 before none.
    let mut records = vec![2];
    records.extend_from_slice(A.as_bytes());
    records.extend_from_slice(&[0, 0, 1, 200, 3, 1, 2, 3]);
    let empty = MeshFrame::Records {
        root: A,
        more: false,
        flood: None,
        records: Vec::new(),
    };
    assert_eq!(read(&records), Ok(empty.into()));
}

#[test]
fn what_a_neighbour_must_not_send_is_refused() {
    let malformed = |kind| Err(FrameError::Malformed(kind));
    // An alias that was never given, a compressed batch, an empty batch, an unknown class.
    assert_eq!(read(&[1, 2, 0, 1, 1, 2, 16, 0, 0]), malformed("BATCH"));
    assert_eq!(read(&[1, 2, 1, 1]), malformed("BATCH"));
    assert_eq!(read(&[1, 2, 0, 0]), malformed("BATCH"));
    assert_eq!(read(&[1, 4, 0, 1]), malformed("BATCH"));
    // Counts that the frame cannot hold cost nothing.
    let many = [4, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(read(&many), Err(FrameError::OverLimit("WANT")));
    assert_eq!(read(&[1, 2, 0, 0xff, 0xff, 0x7f]), malformed("BATCH"));
    // A message for nobody as its author.
    let mut message = vec![1, 2, 0, 1, 0];
    message.extend_from_slice(A.as_bytes());
    message.extend_from_slice(&[2, 0x90, 1, b'/', 0, 18, 1, 16]);
    message.extend_from_slice(&[0; 16]);
    assert_eq!(read(&message), malformed("BATCH"));
    // Neighbours out of order.
    let mut links = Vec::new();
    records::write(
        &Record::Links(
            LinkRecord {
                id: A,
                incarnation: Incarnation(1),
                version: 1,
                neighbours: vec![C, B],
            },
            None,
        ),
        &mut Vec::new(),
        &mut links,
    );
    let mut reader = Reader::new(&links);
    assert_eq!(records::read(&mut reader), Err(Fault::Malformed));
}

fn host(guests: Vec<Guest>) -> NodeRecord {
    NodeRecord {
        id: A,
        incarnation: Incarnation(1),
        version: 1,
        transit: true,
        ready: true,
        homes: true,
        name: String::new(),
        role: String::new(),
        machine: String::new(),
        filter: Filter::default(),
        guests,
    }
}

/// What of an endpoint's guests is not taken: too many, twice the same, filters over the bound together.
#[test]
fn guests_are_bounded() {
    let read = |guests: Vec<Guest>| {
        let mut bytes = Vec::new();
        records::write(
            &Record::Node(Arc::new(host(guests)), None),
            &mut Vec::new(),
            &mut bytes,
        );
        records::read(&mut Reader::new(&bytes)).map(|record| record.is_some())
    };
    let guest = |number: usize, entries: usize| {
        let mut bytes = [7; 16];
        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let filter = (entries > 0).then(|| {
            let entries = (0..entries).map(|entry| format!("{number}/{entry:04}"));
            Filter::from_prefixes(entries)
        });
        let id = EndpointId::from_bytes(bytes);
        Guest {
            id,
            filter,
            forwards: false,
        }
    };
    let some = |count: usize, entries: usize| (0..count).map(|n| guest(n, entries)).collect();
    assert_eq!(read(some(MAX_GUESTS, 1)), Ok(true));
    assert_eq!(read(some(MAX_GUESTS + 1, 0)), Err(Fault::OverLimit));
    assert_eq!(read(some(4, 1024)), Ok(true));
    assert_eq!(read(some(4, 1025)), Err(Fault::OverLimit));
    assert_eq!(read(vec![guest(1, 0); 2]), Err(Fault::Malformed));
    assert_eq!(read(vec![guest(2, 0), guest(1, 0)]), Err(Fault::Malformed));
}

#[test]
fn origins_beyond_the_aliases_are_named_in_full() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for round in 1..=2u64 {
        for number in 0..MAX_ALIASES + 10 {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let mut message = message(round * 1000, b"x");
            message.id.origin = EndpointId::from_bytes(bytes);
            let frame = OwnedFrame::Batch {
                class: Class::Event,
                messages: vec![message],
            };
            let bytes = written(&mut encoder, &frame);
            let read = decoder.read(&bytes[frame::HEADER..]);
            assert_eq!(read.and_then(Frame::into_owned), Ok(frame));
        }
    }
}

fn ids() -> impl Strategy<Value = Vec<EndpointId>> {
    prop::collection::btree_set(any::<[u8; 16]>(), 0..5)
        .prop_map(|ids| ids.into_iter().map(EndpointId::from_bytes).collect())
}

fn an_id() -> impl Strategy<Value = EndpointId> {
    any::<[u8; 16]>().prop_map(EndpointId::from_random)
}

fn a_class() -> impl Strategy<Value = Class> {
    prop::sample::select(vec![
        Class::Control,
        Class::Interactive,
        Class::Event,
        Class::Bulk,
    ])
}

fn guests() -> impl Strategy<Value = Vec<Guest>> {
    let filters = prop::option::of(prop::collection::vec("[ab/]{0,4}", 0..3));
    let filters = (filters, any::<bool>());
    let guests = prop::collection::btree_map(any::<[u8; 16]>(), filters, 0..4);
    guests.prop_map(|guests| {
        let guests = guests.into_iter().map(|(id, (filter, forwards))| Guest {
            id: EndpointId::from_bytes(id),
            filter: filter.map(Filter::from_prefixes),
            forwards,
        });
        guests.filter(|guest| !guest.id.is_nil()).collect()
    })
}

fn a_record() -> impl Strategy<Value = Record> {
    let node = (
        an_id(),
        any::<[u64; 2]>(),
        any::<[bool; 3]>(),
        "[a-zé]{0,9}",
        "[ab/]{0,4}",
        guests(),
    );
    let node = (node, prop::option::of(a_seal())).prop_map(
        |((id, [incarnation, version], [transit, ready, homes], name, prefix, guests), seal)| {
            let node = NodeRecord {
                id,
                incarnation: Incarnation(incarnation),
                version,
                transit,
                ready,
                role: name.clone(),
                machine: name.clone(),
                name,
                filter: Filter::from_prefixes([prefix]),
                homes,
                guests,
            };
            Record::Node(Arc::new(node), seal.map(Arc::new))
        },
    );
    let links = (an_id(), any::<[u64; 2]>(), ids());
    let links =
        (links, a_signature()).prop_map(|((id, [incarnation, version], neighbours), seal)| {
            let links = LinkRecord {
                id,
                incarnation: Incarnation(incarnation),
                version,
                neighbours,
            };
            Record::Links(links, seal)
        });
    let changes = (an_id(), any::<u64>(), 0..u64::MAX, ids(), ids());
    let changes =
        (changes, a_signature()).prop_map(|((id, incarnation, before, added, removed), seal)| {
            let changes = LinkChanges {
                id,
                incarnation: Incarnation(incarnation),
                before,
                after: before + 1,
                added,
                removed,
            };
            Record::Changes(changes, seal)
        });
    prop_oneof![node, links, changes]
}

fn a_batch() -> impl Strategy<Value = OwnedFrame> {
    let origin = (0u8..6).prop_map(id);
    let message = (
        origin,
        any::<u64>(),
        0u8..32,
        any::<bool>(),
        "[ab/]{0,9}",
        any::<Vec<u8>>(),
        prop::option::of((7u8..9).prop_map(id)),
    );
    let messages = prop::collection::vec(message, 1..6);
    (a_class(), messages).prop_map(|(class, messages)| {
        let messages = messages.into_iter();
        let messages =
            messages.map(
                |(origin, sequence, hops, is_data, topic, payload, guest)| MeshMessage {
                    id: MessageId { origin, sequence },
                    hops,
                    kind: if is_data { Kind::Data } else { Kind::Command },
                    topic: topic.into_bytes(),
                    payload,
                    guest,
                },
            );
        OwnedFrame::Batch {
            class,
            messages: messages.collect(),
        }
    })
}

fn a_list() -> impl Strategy<Value = Vec<Versions>> {
    let list = prop::collection::vec((an_id(), any::<[u64; 3]>()), 0..4);
    list.prop_map(|list| {
        let versions = list
            .into_iter()
            .map(|(id, [incarnation, node, links])| Versions {
                id,
                incarnation: Incarnation(incarnation),
                node,
                links,
            });
        versions.collect()
    })
}

fn a_link_frame() -> impl Strategy<Value = LinkFrame> {
    let credit = (a_class(), any::<u64>());
    let goodbye = (any::<u8>(), "[a-zé]{0,20}");
    let echo = (any::<bool>(), any::<u64>());
    prop_oneof![
        credit.prop_map(|(class, bytes)| LinkFrame::Credit { class, bytes }),
        goodbye.prop_map(|(reason, text)| LinkFrame::Goodbye { reason, text }),
        echo.prop_map(|(is_answer, token)| LinkFrame::Echo { is_answer, token }),
        (any::<bool>(), any::<[u8; 16]>()).prop_map(|(is_answer, id)| LinkFrame::Witness {
            is_answer,
            id: EndpointId::from_bytes(id)
        }),
    ]
}

fn a_mesh_frame() -> impl Strategy<Value = MeshFrame> {
    let records = prop::collection::vec(a_record(), 0..4);
    let records = (an_id(), any::<bool>(), any::<Option<u64>>(), records);
    let records = records.prop_map(|(root, more, flood, records)| MeshFrame::Records {
        root,
        more,
        flood,
        records,
    });
    let offer = (an_id(), a_list()).prop_map(|(root, list)| MeshFrame::Offer { root, list });
    let accept = (an_id(), ids()).prop_map(|(root, ids)| MeshFrame::Accept { root, ids });
    let agree = (any::<bool>(), any::<u64>());
    let agree = agree.prop_map(|(is_answer, hash)| MeshFrame::Agree { is_answer, hash });
    let heartbeat = any::<[u64; 3]>();
    let heartbeat =
        heartbeat.prop_map(|[time, echo, hash]| MeshFrame::Heartbeat { time, echo, hash });
    let acknowledged = (an_id(), any::<u64>());
    let acknowledged =
        acknowledged.prop_map(|(root, flood)| MeshFrame::JoinAcknowledged { root, flood });
    prop_oneof![
        records,
        any::<u64>().prop_map(MeshFrame::Digest),
        any::<u64>().prop_map(MeshFrame::Greeting),
        a_list().prop_map(MeshFrame::List),
        ids().prop_map(MeshFrame::Want),
        offer,
        accept,
        agree,
        any::<u64>().prop_map(MeshFrame::Agreed),
        heartbeat,
        Just(MeshFrame::JoinRequest),
        acknowledged,
        an_id().prop_map(MeshFrame::JoinReady),
    ]
}

fn a_frame() -> impl Strategy<Value = OwnedFrame> {
    let fragment = (
        a_class(),
        any::<[u64; 2]>(),
        any::<bool>(),
        any::<Vec<u8>>(),
    );
    let fragment =
        fragment.prop_map(
            |(class, [number, index], last, bytes)| OwnedFrame::Fragment {
                class,
                number,
                index,
                last,
                bytes,
            },
        );
    prop_oneof![
        a_batch(),
        fragment,
        a_link_frame().prop_map(OwnedFrame::Link),
        a_mesh_frame().prop_map(OwnedFrame::Mesh),
    ]
}

proptest! {
    #[test]
    fn frames_round_trip(frames in prop::collection::vec(a_frame(), 1..8)) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for frame in frames {
            let bytes = written(&mut encoder, &frame);
            let read = decoder.read(&bytes[frame::HEADER..]).and_then(Frame::into_owned);
            prop_assert_eq!(read, Ok(frame));
        }
    }

    #[test]
    fn what_is_cut_or_changed_never_panics(
        frame in a_frame(), cut in 0usize..200, change in any::<(usize, u8)>()
    ) {
        let mut bytes = written(&mut Encoder::default(), &frame);
        let mut payload = bytes.split_off(frame::HEADER);
        let _ = read(&payload[..cut.min(payload.len())]);
        let at = change.0 % payload.len();
        payload[at] = change.1;
        let _ = read(&payload);
    }

    #[test]
    fn garbage_never_panics(kind in 0u8..14, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut payload = vec![kind];
        payload.extend(bytes);
        let _ = read(&payload);
    }
}

fn messages_in<'d, 'a>(decoder: &'d mut Decoder, payload: &'a [u8]) -> Batch<'d, 'a> {
    match decoder.read(payload) {
        Ok(Frame::Batch(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

/// A batch that is written message by message says how many they are in three bytes; payloads may be
/// elsewhere.
#[test]
fn a_batch_that_is_written_message_by_message_is_read_where_it_lies() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    for first in [1u64, 301] {
        let mut out = vec![7];
        let mut batch = Encoder::begin_batch(Class::Bulk, &mut out);
        let mut sent = Vec::new();
        for number in first..first + 300 {
            let id = MessageId {
                origin: if number % 3 == 0 { B } else { A },
                sequence: number,
            };
            let payload = vec![0u8; (number % 5) as usize];
            let head = Head {
                id,
                hops: 9,
                kind: Kind::Data,
                topic: b"/t",
                guest: (number % 7 == 0).then_some(C),
            };
            encoder.put_head(&mut batch, &head, payload.len(), &mut out);
            out.extend_from_slice(&payload);
            head.put_tail(&mut out);
            sent.push((id, payload));
        }
        assert_eq!(batch.size(&out), out.len() - 1);
        batch.close(&mut out);
        let payload = &out[1 + frame::HEADER..];
        let length = u32::from_be_bytes(out[1..5].try_into().unwrap());
        assert_eq!(length as usize, payload.len());
        let batch = messages_in(&mut decoder, payload);
        assert_eq!(batch.class, Class::Bulk);
        let read: Vec<_> = batch.map(Result::unwrap).collect();
        assert!(read.iter().all(|it| (it.hops, it.topic) == (9, &b"/t"[..])));
        let read: Vec<_> = read.iter().map(|it| (it.id, it.payload.to_vec())).collect();
        assert_eq!(read, sent);
    }
    // Cut short it ends with an error, and nothing follows.
    let mut out = Vec::new();
    let mut batch = Encoder::begin_batch(Class::Event, &mut out);
    let head = Head {
        id: MessageId {
            origin: A,
            sequence: 5,
        },
        hops: 1,
        kind: Kind::Data,
        topic: b"/t",
        guest: None,
    };
    encoder.put_head(&mut batch, &head, 2, &mut out);
    out.extend_from_slice(&[1, 2]);
    batch.close(&mut out);
    let mut cut = messages_in(&mut decoder, &out[frame::HEADER..out.len() - 1]);
    assert!(matches!(
        cut.next(),
        Some(Err(FrameError::Malformed("BATCH")))
    ));
    assert!(cut.next().is_none());
}

#[test]
fn a_batch_has_no_more_messages_than_its_reader_may_keep() {
    for count in [MAX_MESSAGES, MAX_MESSAGES + 1] {
        let numbers = (1u64..).take(count);
        let frame = OwnedFrame::Batch {
            class: Class::Event,
            messages: numbers.map(|number| message(number, b"")).collect(),
        };
        let bytes = written(&mut Encoder::default(), &frame);
        let is_read = Decoder::default().read(&bytes[frame::HEADER..]).is_ok();
        assert_eq!(is_read, count == MAX_MESSAGES);
    }
}
