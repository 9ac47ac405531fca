//! Replays captured traffic: values that C++ Broker wrote, and values with its verdict on each.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use muster_data::{Data, DataRef, DecodeErrorKind, Limits, encode_to_vec, validate};
use serde_json::Value;

/// Frame length, sender, receiver, type, time to live.
const BEFORE_TOPIC: usize = 4 + 16 + 16 + 1 + 2;
const DATA_MESSAGE: u8 = 1;

struct Message {
    payload: Vec<u8>,
    note: String,
}

/// Payloads of the data messages in one direction, in order.
fn payloads(capture: &str, direction: &str) -> Vec<Message> {
    let capture: Value = serde_json::from_str(capture).unwrap();
    let messages = capture["messages"].as_array().unwrap();
    // The last message of the handshake is the one-byte acknowledgement of its originator.
    let handshake = messages
        .iter()
        .position(|message| message["hex"] == "000000010c")
        .unwrap();
    messages[handshake + 1..]
        .iter()
        .filter(|message| message["direction"] == direction)
        .filter_map(|message| {
            let frame = bytes(message["hex"].as_str().unwrap());
            let length =
                u16::from_be_bytes(frame.get(BEFORE_TOPIC..BEFORE_TOPIC + 2)?.try_into().ok()?);
            let payload = frame
                .get(BEFORE_TOPIC + 2 + usize::from(length)..)?
                .to_vec();
            let note = message["note"].as_str().unwrap().to_owned();
            (frame[36] == DATA_MESSAGE).then_some(Message { payload, note })
        })
        .collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn cpp_values_survive_a_round_trip() {
    let messages = payloads(include_str!("vectors/data_from_cpp.json"), "broker->py");
    assert_eq!(messages.len(), 30);
    for Message { payload, .. } in messages {
        let data = Data::from_bytes(&payload, &Limits::default()).unwrap();
        assert_eq!(encode_to_vec(&data), payload, "{data}");
        assert_eq!(data.to_string().parse(), Ok(data));
    }
}

#[test]
fn verdicts_agree_with_cpp() {
    let messages = payloads(include_str!("vectors/data_types.json"), "py->broker");
    let refused = [
        ("malformed dup_set", DecodeErrorKind::DuplicateElement),
        ("malformed dup_table_key", DecodeErrorKind::DuplicateKey),
        ("malformed unknown_tag_15", DecodeErrorKind::UnknownTag),
        ("malformed trailing", DecodeErrorKind::TrailingBytes),
        ("malformed empty", DecodeErrorKind::Empty),
        ("malformed short_string", DecodeErrorKind::Truncated),
        ("malformed port_proto_4", DecodeErrorKind::BadProtocol),
    ];
    let mut seen = 0;
    for Message { payload, note } in messages {
        let verdict = validate(&payload, &Limits::default()).map_err(|error| error.kind());
        match refused.iter().find(|(name, _)| *name == note) {
            Some((name, kind)) => {
                assert_eq!(verdict, Err(*kind), "{name}");
                seen += 1;
            }
            None => assert_eq!(verdict, Ok(()), "{note}: {payload:02x?}"),
        }
    }
    assert_eq!(seen, refused.len());
}

#[test]
fn values_read_like_the_capture_says() {
    let messages = payloads(include_str!("vectors/data_types.json"), "py->broker");
    let text: Vec<String> = messages
        .iter()
        .filter_map(|message| DataRef::parse(&message.payload, &Limits::default()).ok())
        .map(|value| value.to_string())
        .collect();
    let expected = [
        "nil",
        "T",
        "F",
        "18446744073709551615",
        "-2",
        "1.5",
        "-0.0",
        "inf",
        "-inf",
        "nan",
        "\"h\u{e9}llo\\n\"",
        "10.1.2.3",
        "2001:db8::1",
        "10.1.0.0/16",
        "2001:db8::/32",
        "53/udp",
        "80/tcp",
        "8/icmp",
        "7/unknown",
        "2023-11-14T22:13:20.123456789Z",
        "1500ms",
        "Foo::BAR",
        "{1, \"x\"}",
        "{1, \"x\"}",
        "{2 -> nil, \"k\" -> 1}",
        "[]",
        "[[1], {}]",
        "-inf",
        "inf",
        "nan",
        "5e-324",
        "\"marker-1\"",
    ];
    assert_eq!(text[..expected.len()], expected);
    assert!(text.contains(&"::/200".to_owned()));
    assert!(text.contains(&"\"abc\"".to_owned()));
}
