//! Round trips, the worked examples of the specification, and what a neighbour must not send.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::mesh::record::{Guest, LinkChanges, LinkRecord, NodeRecord};
use crate::mesh::score::{key, score};
use crate::message::{Kind, MessageId};
use crate::{Filter, Topic};

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

/// The frame is in the specification byte by byte, and reads as it was written.
fn assert_specified(encoder: &mut Encoder, decoder: &mut Decoder, frame: &Frame) {
    let mut bytes = Vec::new();
    encoder.write(frame, &mut bytes);
    let text = hex(&bytes);
    assert!(examples().contains(&text), "{frame:?} is {text}");
    let payload = Bytes::from(bytes).slice(frame::HEADER..);
    assert_eq!(decoder.read(&payload).as_ref(), Ok(&Some(frame.clone())));
}

fn parcel(sequence: u64, payload: &'static [u8]) -> Parcel {
    Parcel {
        id: MessageId {
            origin: A,
            sequence,
        },
        class: Class::Event,
        hops: 16,
        kind: Kind::Data,
        topic: Topic::new("/test").unwrap(),
        payload: Bytes::from_static(payload),
        guest: None,
    }
}

#[test]
fn frames_are_those_of_the_specification() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let mut check = |frame: Frame| assert_specified(&mut encoder, &mut decoder, &frame);
    let class = Class::Event;
    let parcels = vec![parcel(1, &[0, 0, 0, 0, 0, 42])];
    check(Frame::Batch { class, parcels });
    let parcels = vec![parcel(2, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])];
    check(Frame::Batch { class, parcels });
    let guest = Parcel {
        guest: Some(C),
        ..parcel(3, &[0, 0, 0, 0, 0, 42])
    };
    let parcels = vec![guest];
    check(Frame::Batch { class, parcels });
    check(Frame::Records {
        root: B,
        more: false,
        flood: None,
        records: vec![Record::Node(Arc::new(NodeRecord {
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
        }))],
    });
    check(Frame::Records {
        root: A,
        more: false,
        flood: None,
        records: vec![Record::Node(Arc::new(NodeRecord {
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
        }))],
    });
    check(Frame::Records {
        root: A,
        more: false,
        flood: Some(9),
        records: vec![
            Record::Links(LinkRecord {
                id: B,
                incarnation: Incarnation(8),
                version: 1,
                neighbours: vec![A, C],
            }),
            Record::Changes(LinkChanges {
                id: A,
                incarnation: Incarnation(7),
                before: 5,
                after: 6,
                added: vec![B],
                removed: vec![C],
            }),
        ],
    });
    check(Frame::Digest(0x1122_3344_5566_7788));
    check(Frame::List(vec![Versions {
        id: A,
        incarnation: Incarnation(7),
        node: 3,
        links: 5,
    }]));
    check(Frame::Want(vec![A]));
    check(Frame::Heartbeat {
        time: 1,
        echo: 0,
        hash: 0x1122_3344_5566_7788,
    });
    check(Frame::Credit {
        class: Class::Bulk,
        bytes: 65_536,
    });
    check(Frame::JoinRequest);
    check(Frame::JoinAcknowledged { root: A, flood: 9 });
    check(Frame::JoinReady(B));
    check(Frame::Goodbye {
        reason: 1,
        text: "bye".to_owned(),
    });
    check(Frame::Fragment {
        class: Class::Bulk,
        number: 4,
        index: 0,
        last: true,
        bytes: Bytes::from_static(&[1, 2, 3]),
    });
    check(Frame::Echo {
        is_answer: false,
        token: 7,
    });
    check(Frame::Offer {
        root: A,
        list: vec![Versions {
            id: B,
            incarnation: Incarnation(8),
            node: 3,
            links: 5,
        }],
    });
    check(Frame::Accept {
        root: A,
        ids: vec![B],
    });
    check(Frame::Agree {
        is_answer: true,
        hash: 0x1122_3344_5566_7788,
    });
    check(Frame::Agreed(0x1122_3344_5566_7788));
}

#[test]
fn scores_are_those_of_the_specification() {
    let (key, score) = (key(A), score(key(A), key(B), key(C)));
    for number in [key, score] {
        let text = format!("`{number:016x}`");
        assert!(SPECIFICATION.contains(&text), "{text}");
    }
}

fn read(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Decoder::default().read(&Bytes::copy_from_slice(bytes))
}

#[test]
fn unknown_kinds_and_fields_are_skipped() {
    assert_eq!(read(&[]), Err(FrameError::Empty));
    assert_eq!(read(&[13, 1, 2, 3]), Ok(None));
    assert_eq!(read(&[0xff]), Ok(None));
    // JOIN request with the optional field 77.
    assert_eq!(read(&[7, 0, 77, 2, 1, 1]), Ok(Some(Frame::JoinRequest)));
    assert_eq!(
        read(&[7, 0, 77, 3, 1, 1]),
        Err(FrameError::Malformed("JOIN"))
    );
    // A record of kind 200 before none.
    let mut records = vec![2];
    records.extend_from_slice(A.as_bytes());
    records.extend_from_slice(&[0, 0, 1, 200, 3, 1, 2, 3]);
    let empty = Frame::Records {
        root: A,
        more: false,
        flood: None,
        records: Vec::new(),
    };
    assert_eq!(read(&records), Ok(Some(empty)));
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
        &Record::Links(LinkRecord {
            id: A,
            incarnation: Incarnation(1),
            version: 1,
            neighbours: vec![C, B],
        }),
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
        records::write(&Record::Node(Arc::new(host(guests))), &mut bytes);
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
            let mut parcel = parcel(round * 1000, b"x");
            parcel.id.origin = EndpointId::from_bytes(bytes);
            let frame = Frame::Batch {
                class: Class::Event,
                parcels: vec![parcel],
            };
            let mut out = Vec::new();
            encoder.write(&frame, &mut out);
            let payload = Bytes::from(out).slice(frame::HEADER..);
            assert_eq!(decoder.read(&payload), Ok(Some(frame)));
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
    let node = node.prop_map(
        |(id, [incarnation, version], [transit, ready, homes], name, prefix, guests)| {
            Record::Node(Arc::new(NodeRecord {
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
            }))
        },
    );
    let links = (an_id(), any::<[u64; 2]>(), ids());
    let links = links.prop_map(|(id, [incarnation, version], neighbours)| {
        Record::Links(LinkRecord {
            id,
            incarnation: Incarnation(incarnation),
            version,
            neighbours,
        })
    });
    let changes = (an_id(), any::<u64>(), 0..u64::MAX, ids(), ids());
    let changes = changes.prop_map(|(id, incarnation, before, added, removed)| {
        Record::Changes(LinkChanges {
            id,
            incarnation: Incarnation(incarnation),
            before,
            after: before + 1,
            added,
            removed,
        })
    });
    prop_oneof![node, links, changes]
}

fn a_batch() -> impl Strategy<Value = Frame> {
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
        let parcels = messages.into_iter();
        let parcels =
            parcels.map(
                |(origin, sequence, hops, is_data, topic, payload, guest)| Parcel {
                    id: MessageId { origin, sequence },
                    class,
                    hops,
                    kind: if is_data { Kind::Data } else { Kind::Command },
                    topic: Topic::new(topic).unwrap(),
                    payload: payload.into(),
                    guest,
                },
            );
        Frame::Batch {
            class,
            parcels: parcels.collect(),
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

fn a_frame() -> impl Strategy<Value = Frame> {
    let records = prop::collection::vec(a_record(), 0..4);
    let records = (an_id(), any::<bool>(), any::<Option<u64>>(), records);
    let records = records.prop_map(|(root, more, flood, records)| Frame::Records {
        root,
        more,
        flood,
        records,
    });
    let offer = (an_id(), a_list()).prop_map(|(root, list)| Frame::Offer { root, list });
    let accept = (an_id(), ids()).prop_map(|(root, ids)| Frame::Accept { root, ids });
    let agree = (any::<bool>(), any::<u64>());
    let agree = agree.prop_map(|(is_answer, hash)| Frame::Agree { is_answer, hash });
    let heartbeat = any::<[u64; 3]>();
    let heartbeat = heartbeat.prop_map(|[time, echo, hash]| Frame::Heartbeat { time, echo, hash });
    let credit = (a_class(), any::<u64>());
    let credit = credit.prop_map(|(class, bytes)| Frame::Credit { class, bytes });
    let acknowledged = (an_id(), any::<u64>());
    let acknowledged =
        acknowledged.prop_map(|(root, flood)| Frame::JoinAcknowledged { root, flood });
    let goodbye = (any::<u8>(), "[a-zé]{0,20}");
    let goodbye = goodbye.prop_map(|(reason, text)| Frame::Goodbye { reason, text });
    let fragment = (
        a_class(),
        any::<[u64; 2]>(),
        any::<bool>(),
        any::<Vec<u8>>(),
    );
    let fragment = fragment.prop_map(|(class, [number, index], last, bytes)| Frame::Fragment {
        class,
        number,
        index,
        last,
        bytes: bytes.into(),
    });
    prop_oneof![
        a_batch(),
        records,
        any::<u64>().prop_map(Frame::Digest),
        a_list().prop_map(Frame::List),
        ids().prop_map(Frame::Want),
        offer,
        accept,
        agree,
        any::<u64>().prop_map(Frame::Agreed),
        heartbeat,
        credit,
        Just(Frame::JoinRequest),
        acknowledged,
        an_id().prop_map(Frame::JoinReady),
        goodbye,
        fragment,
    ]
}

proptest! {
    #[test]
    fn frames_round_trip(frames in prop::collection::vec(a_frame(), 1..8)) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for frame in frames {
            let mut bytes = Vec::new();
            encoder.write(&frame, &mut bytes);
            let payload = Bytes::from(bytes).slice(frame::HEADER..);
            prop_assert_eq!(decoder.read(&payload), Ok(Some(frame)));
        }
    }

    #[test]
    fn what_is_cut_or_changed_never_panics(
        frame in a_frame(), cut in 0usize..200, change in any::<(usize, u8)>()
    ) {
        let mut bytes = Vec::new();
        Encoder::default().write(&frame, &mut bytes);
        let mut payload = bytes.split_off(frame::HEADER);
        let _ = read(&payload[..cut.min(payload.len())]);
        let at = change.0 % payload.len();
        payload[at] = change.1;
        let _ = read(&payload);
    }

    #[test]
    fn garbage_never_panics(kind in 0u8..11, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut payload = vec![kind];
        payload.extend(bytes);
        let _ = read(&payload);
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
        let batch = decoder.batch(payload).unwrap().unwrap();
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
    let mut cut = decoder
        .batch(&out[frame::HEADER..out.len() - 1])
        .unwrap()
        .unwrap();
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
        let frame = Frame::Batch {
            class: Class::Event,
            parcels: numbers.map(|number| parcel(number, b"")).collect(),
        };
        let mut bytes = Vec::new();
        Encoder::default().write(&frame, &mut bytes);
        let payload = Bytes::from(bytes).slice(frame::HEADER..);
        let is_read = Decoder::default().batch(&payload).is_ok();
        assert_eq!(is_read, count == MAX_MESSAGES);
    }
}
