//! Cost of values: nanoseconds and allocations to encode, validate and decode three shapes.
//!
//! `cargo run --release -p muster-bench --bin values`

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;

use muster_bench::{CountingAllocator, Measurement, measure};
use muster_data::{
    Address, Data, DataRef, Decode, Encode, EnumRef, Limits, Port, Record, Timespan, Timestamp,
    ValueRef, encode_to_vec, json, to_data, validate,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// An event with a few arguments.
#[derive(Record, Debug, PartialEq)]
struct Ping<'a> {
    name: &'a str,
    sequence: u64,
    payload: &'a str,
}

/// A line of Zeek's `conn.log`.
#[derive(Record, Debug, PartialEq)]
struct Connection<'a> {
    ts: Timestamp,
    uid: &'a str,
    orig_h: Address,
    orig_p: Port,
    resp_h: Address,
    resp_p: Port,
    proto: EnumRef<'a>,
    service: Option<&'a str>,
    duration: Option<Timespan>,
    orig_bytes: Option<u64>,
    resp_bytes: Option<u64>,
    conn_state: Option<&'a str>,
    local_orig: Option<bool>,
    local_resp: Option<bool>,
    missed_bytes: u64,
    history: Option<&'a str>,
    orig_pkts: Option<u64>,
    orig_ip_bytes: Option<u64>,
    resp_pkts: Option<u64>,
    resp_ip_bytes: Option<u64>,
    tunnel_parents: Option<BTreeSet<&'a str>>,
}

/// State about a host, in a table by name.
#[derive(Record, Debug, PartialEq)]
struct Host {
    hits: u64,
    address: Address,
    last_seen: Timestamp,
}

fn connection() -> Connection<'static> {
    Connection {
        ts: Timestamp::from_nanos(1_521_911_721_255_387_000),
        uid: "CHhAvVGS1DHFjwGM9",
        orig_h: Address::from(std::net::Ipv4Addr::new(10, 164, 94, 120)),
        orig_p: Port::tcp(39_681),
        resp_h: Address::from(std::net::Ipv4Addr::new(10, 47, 3, 155)),
        resp_p: Port::tcp(3389),
        proto: EnumRef::new("tcp"),
        service: Some("rdp"),
        duration: Some(Timespan::from_nanos(4_266_000)),
        orig_bytes: Some(97),
        resp_bytes: Some(19),
        conn_state: Some("RSTR"),
        local_orig: Some(true),
        local_resp: Some(true),
        missed_bytes: 0,
        history: Some("ShADTdtr"),
        orig_pkts: Some(10),
        orig_ip_bytes: Some(730),
        resp_pkts: Some(6),
        resp_ip_bytes: Some(342),
        tunnel_parents: Some(["C9YAaEzWLL62yWMn5", "CUM0KZ3MLUfNB0cl11"].into()),
    }
}

fn hosts() -> BTreeMap<String, Host> {
    (0..100_u8)
        .map(|number| {
            let host = Host {
                hits: number.into(),
                address: Address::from(std::net::Ipv4Addr::new(10, 0, 0, number)),
                last_seen: Timestamp::from_secs(1_521_911_721 + i64::from(number)),
            };
            (format!("host-{number:03}.example.org"), host)
        })
        .collect()
}

/// Reads every leaf; the sum keeps the compiler from leaving reads out.
fn visit(value: DataRef<'_>) -> u64 {
    let real_bytes = |bytes: &[u8]| bytes.first().map_or(0, |&byte| u64::from(byte));
    match value.get() {
        ValueRef::None => 0,
        ValueRef::Boolean(value) => value.into(),
        ValueRef::Count(value) => value,
        ValueRef::Integer(value) => value.cast_unsigned(),
        ValueRef::Real(value) => value.to_bits(),
        ValueRef::String(value) => real_bytes(value),
        ValueRef::Address(value) => real_bytes(value.as_bytes()),
        ValueRef::Subnet(value) => value.wire_length().into(),
        ValueRef::Port(value) => value.number.into(),
        ValueRef::Timestamp(value) => value.as_nanos().cast_unsigned(),
        ValueRef::Timespan(value) => value.as_nanos().cast_unsigned(),
        ValueRef::Enum(value) => real_bytes(value.as_bytes()),
        ValueRef::Set(set) => set.iter().map(visit).fold(0, u64::wrapping_add),
        ValueRef::Vector(vector) => vector.iter().map(visit).fold(0, u64::wrapping_add),
        ValueRef::Table(table) => table
            .iter()
            .map(|(key, value)| visit(key).wrapping_add(visit(value)))
            .fold(0, u64::wrapping_add),
    }
}

/// One shape of value, with the struct it comes from.
struct Shape {
    name: &'static str,
    data: Data,
    bytes: Vec<u8>,
    encode: Measurement,
    decode: Measurement,
}

/// Measures what depends on the struct's type.
fn shape<T: Encode>(name: &'static str, value: &T, decode: impl Fn(&[u8])) -> Shape {
    let bytes = encode_to_vec(value);
    let mut out = Vec::with_capacity(bytes.len());
    let encode = measure(|| {
        out.clear();
        black_box(value).encode(&mut out);
        black_box(&out);
    });
    let decode = measure(|| decode(black_box(&bytes)));
    Shape {
        name,
        data: to_data(value),
        bytes,
        encode,
        decode,
    }
}

fn decode<'a, T: Decode<'a>>(bytes: &'a [u8]) {
    let value = DataRef::from_validated(bytes);
    black_box(
        value
            .to::<T>()
            .expect("the bytes were encoded from this type"),
    );
}

fn report(shape: &Shape) {
    let Shape {
        name, data, bytes, ..
    } = shape;
    let limits = Limits::default();
    let mut out = Vec::with_capacity(bytes.len());
    let encode_data = measure(|| {
        out.clear();
        black_box(data).encode(&mut out);
        black_box(&out);
    });
    let check = measure(|| {
        black_box(validate(black_box(bytes), &limits)).expect("the bytes are a valid value");
    });
    let borrowed = measure(|| {
        black_box(visit(DataRef::from_validated(black_box(bytes))));
    });
    let owned = measure(|| {
        black_box(DataRef::from_validated(black_box(bytes)).to_data());
    });
    let value = DataRef::from_validated(bytes);
    let text = json::to_string(value);
    let document: serde_json::Value =
        serde_json::from_str(&text).expect("what is written is valid JSON");
    let mut out = Vec::with_capacity(text.len());
    let json_encode = measure(|| {
        out.clear();
        json::write(&mut out, black_box(value));
        black_box(&out);
    });
    let json_decode = measure(|| {
        black_box(json::read(black_box(text.as_bytes()), &limits)).expect("valid JSON of a value");
    });
    let mut out = Vec::with_capacity(text.len());
    let serde_encode = measure(|| {
        out.clear();
        serde_json::to_writer(&mut out, black_box(&document)).expect("a vector takes everything");
        black_box(&out);
    });
    let serde_decode = measure(|| {
        let document: serde_json::Value =
            serde_json::from_slice(black_box(text.as_bytes())).expect("valid JSON");
        black_box(document);
    });
    println!("\n{name} ({} bytes, {} as JSON)", bytes.len(), text.len());
    let rows = [
        ("encode from struct", shape.encode),
        ("encode from Data", encode_data),
        ("validate", check),
        ("borrowed decode", borrowed),
        ("struct decode", shape.decode),
        ("owned decode", owned),
        ("JSON encode", json_encode),
        ("  serde_json's", serde_encode),
        ("JSON decode", json_decode),
        ("  serde_json's", serde_decode),
    ];
    for (operation, Measurement { nanos, allocations }) in rows {
        println!("  {operation:<20}{nanos:>10.1} ns{allocations:>8.1} allocations");
    }
}

fn main() {
    println!("Values: cost per value; decoding without the validation, which is a row of its own.");
    println!("JSON beside serde_json's generic documents: the same text, without its types.");
    println!("Reference figures of C++ Broker for like shapes:");
    println!("  encode  small 87 ns, connection 230 ns, table 7600 ns");
    println!("  decode  small 238 ns, connection 714 ns, table 52000 ns");
    let ping = Ping {
        name: "ping",
        sequence: 7,
        payload: "",
    };
    report(&shape("small", &ping, |bytes| {
        decode::<Ping<'_>>(bytes);
    }));
    report(&shape("connection", &connection(), |bytes| {
        decode::<Connection<'_>>(bytes);
    }));
    report(&shape("table", &hosts(), |bytes| {
        decode::<BTreeMap<String, Host>>(bytes);
    }));
}
