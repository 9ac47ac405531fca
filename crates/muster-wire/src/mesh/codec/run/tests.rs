use proptest::prelude::*;

use super::super::{Decoder, Frame};
use super::*;

const HEAD: RunHead = RunHead {
    class: Class::Event,
    hops: 16,
    origin: EndpointId::from_bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x0a]),
    base: 4,
};

/// A message by itself.
type Owned = (u64, Kind, Vec<u8>, Vec<u8>);

fn owned(message: RunMessage<'_>) -> Owned {
    let (topic, payload) = (message.topic.to_vec(), message.payload.to_vec());
    (message.sequence, message.kind, topic, payload)
}

fn borrowed(message: &Owned) -> RunMessage<'_> {
    RunMessage {
        sequence: message.0,
        kind: message.1,
        topic: &message.2,
        payload: &message.3,
    }
}

/// Reads a frame with its length, and says where each message began.
fn read(frame: &[u8]) -> (RunHead, Vec<Owned>) {
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(length as usize, frame.len() - 4);
    let mut decoder = Decoder::default();
    let Ok(Frame::Run(run)) = decoder.read(&frame[4..]) else {
        panic!("no run");
    };
    let head = run.head;
    (head, run.map(|message| owned(message.unwrap())).collect())
}

/// The example of section 3.7.
#[test]
fn a_run_is_that_of_the_specification() {
    let mut run = Run::new(Vec::new(), HEAD);
    for (sequence, payload) in [(5, 42), (6, 43)] {
        run.push(&RunMessage {
            sequence,
            kind: Kind::Data,
            topic: b"/test",
            payload: &[0, 0, 0, 0, 0, payload],
        });
    }
    run.close();
    let expected = "00000036 0e 02 10 0000000000004000800000000000000a \
                    0000000000000004 828000 00 02 052f74657374 0600000000002a 40 02 0600000000002b";
    let expected: String = expected.split_whitespace().collect();
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
    let hex: Option<String> = run.frame().iter().flat_map(digits).collect();
    assert_eq!(hex.as_ref(), Some(&expected));
    let specification = include_str!("../../../../../../docs/protocol-v2.md");
    let lines = [
        "00000036 0e 02 10 0000000000004000800000000000000a",
        "0000000000000004 828000",
        "00 02 05 2f74657374 06 0000000000 2a",
        "40 02 06 0000000000 2b",
    ];
    for line in lines {
        assert!(specification.contains(line), "{line}");
    }
    let lines: String = lines.join("").split_whitespace().collect();
    assert_eq!(lines, expected);
}

#[test]
fn what_is_no_run_is_refused() {
    let mut run = Run::new(Vec::new(), HEAD);
    run.push(&borrowed(&(5, Kind::Data, b"/t".to_vec(), vec![0])));
    run.push(&borrowed(&(6, Kind::Data, b"/t".to_vec(), vec![0])));
    run.close();
    let good = &run.frame()[4..];
    let errors = |payload: &[u8]| {
        let mut decoder = Decoder::default();
        match decoder.read(payload) {
            Ok(Frame::Run(run)) => run.filter(Result::is_err).count(),
            Ok(_) => panic!("another frame"),
            Err(_) => 1,
        }
    };
    assert_eq!(errors(good), 0);
    for length in 0..good.len() {
        assert_eq!(errors(&good[..length]), 1, "{length}");
    }
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        bytes
    };
    let first = RUN_HEAD - 4;
    // A topic like that of nothing, a bit that is not known, no message, too many, and no class.
    for bytes in [
        broken(first, SAME_TOPIC),
        broken(first, 0x80),
        broken(first, 0x01),
        broken(first - 3, 0x80),
        broken(first - 1, 0x7f),
        broken(1, 4),
        // More hops than there may be.
        broken(2, 32),
        // A topic that is too long.
        [&broken(first + 2, 0x80)[..], &[0; 200]].concat(),
    ] {
        assert_eq!(errors(&bytes), 1, "{bytes:?}");
    }
    // Optional fields may follow.
    let with_fields = [good, &[9, 1, 7]].concat();
    assert_eq!(errors(&with_fields), 0);
}

/// A relay that took the length for as short as it could be passed on what its next hop ends the link for.
#[test]
fn a_length_with_more_bytes_than_needed_is_passed_on_as_it_came() {
    let mut run = Run::new(Vec::new(), HEAD);
    run.push(&borrowed(&(5, Kind::Data, b"/t".to_vec(), vec![1])));
    run.close();
    let mut bytes = run.frame().to_vec();
    // The second one, of one byte, with a length of two.
    bytes.extend_from_slice(&[SAME_TOPIC, 2, 0x81, 0x00, 7]);
    bytes[31] = 0x82;
    let mut decoder = Decoder::default();
    let Ok(Frame::Run(mut received)) = decoder.read(&bytes[4..]) else {
        panic!("no run");
    };
    let first = received.next().unwrap().unwrap();
    let second = received.next().unwrap().unwrap();
    assert!(received.next().is_none());
    let start = received.payload().as_ptr() as usize - bytes.as_ptr() as usize;
    let part = RunPart {
        head: RunHead {
            base: first.sequence,
            ..HEAD
        },
        messages: 1,
        start: u32::try_from(start).unwrap(),
        length: u32::try_from(bytes.len() - start).unwrap(),
        first: Some(First {
            sequence: second.sequence,
            kind: second.kind,
            topic: Topic::new(second.topic).unwrap(),
        }),
        cost: 0,
    };
    let mut frame = Vec::new();
    part.put_front(&mut frame);
    frame.extend_from_slice(&bytes[part.place()]);
    let (_, read) = read(&frame);
    assert_eq!(read, [(6, Kind::Data, b"/t".to_vec(), vec![7])]);
}

fn messages() -> impl Strategy<Value = Vec<Owned>> {
    let kind = prop_oneof![Just(Kind::Data), Just(Kind::Command)];
    let topic = prop_oneof![Just("/a"), Just("/b/longer/than/the/others"), Just("/c")];
    let message = (
        0u64..4,
        kind,
        topic,
        prop::collection::vec(any::<u8>(), 0..200),
    );
    prop::collection::vec(message, 1..60).prop_map(|messages| {
        let mut last = 4u64;
        messages
            .into_iter()
            .map(|(step, kind, topic, payload)| {
                // Two publishers may come out of turn.
                last = last.wrapping_add(if step == 0 { u64::MAX } else { step });
                (last, kind, topic.as_bytes().to_vec(), payload)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_left_of_a_run_is_read_back(messages in messages(), shed in 0usize..70) {
        let mut run = Run::new(Vec::new(), HEAD);
        for message in &messages {
            run.push(&borrowed(message));
        }
        let mut gone = Vec::new();
        for _ in 0..shed {
            run.shed(|message| gone.push(owned(*message)));
        }
        let count = shed.min(messages.len() - 1);
        prop_assert_eq!(&gone[..], &messages[..count]);
        let left = &messages[count..];
        prop_assert_eq!(run.messages(), left.len());
        let bytes: usize = left.iter().map(|message| borrowed(message).size().bytes).sum();
        let cost: usize = left.iter().map(|message| borrowed(message).cost()).sum();
        prop_assert_eq!((run.bytes(), run.cost()), (bytes, cost));
        prop_assert_eq!(&run.each().map(owned).collect::<Vec<_>>()[..], left);
        // It goes on where it was.
        let next = (1000, Kind::Data, left[left.len() - 1].2.clone(), vec![7]);
        run.push(&borrowed(&next));
        run.close();
        let (head, read) = read(run.frame());
        prop_assert_eq!((head.origin, head.class, head.hops), (HEAD.origin, HEAD.class, HEAD.hops));
        prop_assert_eq!(read, [left, &[next][..]].concat());
    }

    #[test]
    fn a_part_of_a_run_is_a_run(messages in messages(), from in 0usize..60, count in 1usize..60) {
        let mut run = Run::new(Vec::new(), HEAD);
        for message in &messages {
            run.push(&borrowed(message));
        }
        run.close();
        let from = from.min(messages.len() - 1);
        let count = count.min(messages.len() - from);
        let bytes = run.frame();
        let mut decoder = Decoder::default();
        let Ok(Frame::Run(mut received)) = decoder.read(&bytes[4..]) else {
            panic!("no run");
        };
        let place = |rest: &[u8]| rest.as_ptr() as usize - bytes.as_ptr() as usize;
        let mut base = HEAD.base;
        let mut topic = &[][..];
        for _ in 0..from {
            let message = received.next().unwrap().unwrap();
            (base, topic) = (message.sequence, message.topic);
        }
        let mut start = place(received.rest());
        let first = received.next().unwrap().unwrap();
        let is_same = from > 0 && topic == first.topic;
        let first = is_same.then(|| {
            start = place(received.payload());
            First {
                sequence: first.sequence,
                kind: first.kind,
                topic: Topic::new(first.topic).unwrap(),
            }
        });
        for _ in 1..count {
            received.next().unwrap().unwrap();
        }
        let part = RunPart {
            head: RunHead { hops: 15, base, ..HEAD },
            messages: count,
            start: u32::try_from(start).unwrap(),
            length: u32::try_from(place(received.rest()) - start).unwrap(),
            first,
            cost: 0,
        };
        let expected = &messages[from..from + count];
        let mut each = Vec::new();
        part.for_each(bytes, |message| each.push(owned(message)));
        prop_assert_eq!(&each[..], expected);
        let mut frame = Vec::new();
        part.put_front(&mut frame);
        frame.extend_from_slice(&bytes[part.place()]);
        let (head, read) = read(&frame);
        prop_assert_eq!((head.hops, head.base), (15, base));
        prop_assert_eq!(&read[..], expected);
    }
}
