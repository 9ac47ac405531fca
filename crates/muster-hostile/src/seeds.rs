//! Inputs to start with, from the captures beside the tests of `muster-wire` and `muster-data`.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use muster_data::{Address, DataRef, Limits, Port, Protocol};
use muster_wire::envelope;
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::zeek::serial::{Value, put_record};
use muster_wire::zeek::{Message, TypeTag};
use serde_json::Value as Json;

/// Longer inputs are left out: their parts are among the shorter ones.
const LONGEST: usize = 4096;

/// Returns the inputs that captures hold for a target. For an unknown target these are all inputs.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = BTreeSet::new();
    for directory in ["muster-wire", "muster-data"] {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let directory = crates.join(directory).join("tests/vectors");
        let entries = std::fs::read_dir(directory).expect("the sources are where they were built");
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            let text = std::fs::read_to_string(path).expect("a capture");
            let capture: Json = serde_json::from_str(&text).expect("a capture is JSON");
            add(target, &capture, &mut seeds);
        }
    }
    match target {
        "serial" => {
            seeds.insert(record_of_every_type());
        }
        "agent" => seeds.extend(crate::agent::requests()),
        "json" => seeds.extend(json_texts()),
        "compression" => seeds.extend(crate::compression::frames()),
        "coordination" => seeds.extend(crate::coordination::programs()),
        "consensus" => seeds.extend(crate::consensus::programs()),
        "register" => seeds.extend(crate::register::entries()),
        "stores" => seeds.extend(crate::stores::messages()),
        "spool" => seeds.extend(crate::spool::segments()),
        "mesh" => {
            let all = specified_frames();
            let mut rest = &all[..];
            while let Ok(Next::Complete(length)) = frame::next(rest, all.len()) {
                let (frame, behind) = rest.split_at(HEADER + length);
                seeds.insert(frame.to_vec());
                rest = behind;
            }
            seeds.insert(all);
            seeds.insert(crate::mesh::sealed_frames());
        }
        _ => {}
    }
    seeds.retain(|seed| seed.len() <= LONGEST);
    seeds.into_iter().collect()
}

/// The frames that the specification of protocol version 2 shows, one behind the other.
fn specified_frames() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol-v2.md");
    let text = std::fs::read_to_string(path).expect("the specification");
    let section = text.split("## 3. Frames").nth(1).unwrap_or_default();
    let section = section.split("## 4. Messages").next().unwrap_or_default();
    let mut bytes = Vec::new();
    for line in section.lines().filter_map(|line| line.strip_prefix("    ")) {
        let words = line.split_whitespace();
        let is_hex = |word: &&str| {
            word.len().is_multiple_of(2)
                && word.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
        };
        for word in words.take_while(is_hex) {
            let pairs = word.as_bytes().chunks(2);
            bytes.extend(pairs.filter_map(|pair| {
                let pair = std::str::from_utf8(pair).ok()?;
                u8::from_str_radix(pair, 16).ok()
            }));
        }
    }
    bytes
}

/// What C++ Broker wrote as JSON, and what was given to its decoder.
fn json_texts() -> impl Iterator<Item = Vec<u8>> {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-data/tests/vectors");
    let text = std::fs::read_to_string(capture.join("json_v1.json")).expect("a capture");
    let capture: Json = serde_json::from_str(&text).expect("a capture is JSON");
    let lines = capture["lines"].as_array().cloned().unwrap_or_default();
    lines.into_iter().filter_map(|line| {
        let (_, text) = line.as_str()?.split_once(' ')?;
        let text = text.split("  =>  ").next()?;
        Some(text.as_bytes().to_vec())
    })
}

fn add(target: &str, capture: &Json, seeds: &mut BTreeSet<Vec<u8>>) {
    let Some(messages) = capture["messages"].as_array() else {
        return;
    };
    let mut streams = [Vec::new(), Vec::new()];
    // An acceptor's and a dialler's program: a connection, then the peer's frames as they are.
    let mut programs = [vec![1, 0, 0], vec![0, 1, 0]];
    for message in messages {
        let frame = unhex(message["hex"].as_str().unwrap_or_default());
        let Some(payload) = frame.get(HEADER..) else {
            continue;
        };
        let direction = message["direction"].as_str().unwrap_or_default();
        let side = usize::from(matches!(direction, "broker->py" | "server->client"));
        streams[side].extend_from_slice(&frame);
        if message["decoded"]["type"].is_string() {
            add_envelope(target, payload, seeds);
        } else if let Ok(length) = u8::try_from(payload.len()) {
            programs[side].extend_from_slice(&[9, 0, length]);
            programs[side].extend_from_slice(payload);
            if target == "filters" && matches!(payload.first(), Some(10 | 11)) {
                seeds.insert(payload[1..].to_vec());
            }
        }
    }
    match target {
        "frames" => seeds.extend(streams),
        "handshake" => seeds.extend(programs),
        _ => {}
    }
}

fn add_envelope(target: &str, bytes: &[u8], seeds: &mut BTreeSet<Vec<u8>>) {
    let fixed = envelope::FIXED;
    let Some(length) = bytes.get(fixed - 2..fixed) else {
        return;
    };
    let topic = usize::from(length[0]) << 8 | usize::from(length[1]);
    let (kind, payload) = (bytes[32], bytes.get(fixed + topic..).unwrap_or_default());
    let value = (kind == 1)
        .then(|| DataRef::parse(payload, &Limits::default()).ok())
        .flatten();
    match target {
        "envelopes" => {
            seeds.insert(bytes.to_vec());
        }
        "broker_stores" if kind == 2 => {
            seeds.insert(payload.to_vec());
        }
        "filters" if kind == 3 => {
            seeds.insert(payload.to_vec());
        }
        "values" | "zeek" if kind == 1 => {
            seeds.insert(payload.to_vec());
        }
        "text" => seeds.extend(value.map(|value| value.to_string().into_bytes())),
        "serial" => {
            if let Some(Ok(Message::Batch(batch))) = value.map(Message::read) {
                for message in batch {
                    if let Message::LogWrite(write) = message {
                        seeds.insert(write.serial_data.to_vec());
                    }
                }
            }
        }
        _ => {}
    }
}

/// The captures' records have few types.
fn record_of_every_type() -> Vec<u8> {
    let numbers = || vec![Value::Count(1), Value::Count(u64::MAX)];
    let mut record = Vec::new();
    let fields = [
        Value::Unset(TypeTag::Addr),
        Value::Bool(true),
        Value::Int(-1),
        Value::Count(7),
        Value::Double(1.5),
        Value::Time(1e9),
        Value::Interval(-0.5),
        Value::String(b"text"),
        Value::Enum(b"Notice::LOG"),
        Value::Port(Port::new(53, Protocol::Udp)),
        Value::Addr(Address::from(Ipv4Addr::LOCALHOST)),
        Value::Addr(Address::from_bytes([0x20; 16])),
        Value::Func(b"function"),
        Value::File(b"conn.log"),
        Value::Set(numbers()),
        Value::Vector(numbers()),
        Value::Vector(vec![Value::Vector(numbers())]),
        Value::Set(Vec::new()),
    ];
    put_record(&mut record, &fields);
    record
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or(0);
    (0..hex.len() / 2 * 2).step_by(2).map(digit).collect()
}
