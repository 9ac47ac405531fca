//! Messages of a real Zeek, read and written again, and messages of no Zeek.

use muster_data::{Address, Data, DataRef, Limits, Port, Protocol, Subnet, encode_to_vec};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::serial::{Fields, SerialErrorKind, Value, put_record, read_record};
use super::*;
use crate::EndpointId;
use crate::envelope::{self, Envelope};
use crate::frame::HEADER;

fn load(name: &str) -> Json {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// The values of a transcript, with direction and what the transcript says about them.
fn payloads(name: &str) -> Vec<(bool, Vec<u8>, Json)> {
    let transcript = load(name);
    let messages = transcript["messages"].as_array().unwrap().iter();
    let data = messages.filter(|message| message["decoded"]["type"] == "data");
    data.map(|message| {
        let frame = unhex(message["hex"].as_str().unwrap());
        let sender = message["decoded"]["sender"].as_str().unwrap();
        let sender: EndpointId = sender.parse().unwrap();
        let envelope = envelope::read(&frame[HEADER..], sender, sender).unwrap();
        let Envelope::Message { payload, .. } = envelope else {
            panic!("no data: {envelope:?}");
        };
        let is_zeek = message["direction"] == "broker->py";
        (
            is_zeek,
            payload.to_vec(),
            message["decoded"]["data"].clone(),
        )
    })
    .collect()
}

fn parse(bytes: &[u8]) -> Result<Message<'_>, MessageError> {
    Message::read(DataRef::parse(bytes, &Limits::default()).unwrap())
}

/// A message as the transcript has it, as far as our types tell.
fn described(message: &Message<'_>) -> Json {
    let count = |number: u64| json!(["count", number]);
    let string = |text: &str| json!(["string", text]);
    let name = |text: &str| json!(["enum", text]);
    let real = |number: f64| json!(["real", number]);
    let vector = |elements: Vec<Json>| json!(["vector", elements]);
    let content = match message {
        Message::LogCreate(create) => {
            let info = &create.info;
            assert!(info.config.is_empty(), "none of the transcripts has any");
            let fields = create.fields.iter().map(|field| {
                let second = field.secondary_name.map_or(json!(["none", null]), string);
                vector(vec![
                    string(field.name),
                    second,
                    count(field.ty.number().into()),
                    count(field.subtype.number().into()),
                    json!(["boolean", field.optional]),
                ])
            });
            let info = vector(vec![
                string(info.path),
                real(info.rotation_base),
                real(info.rotation_interval),
                real(info.network_time),
                json!(["table", []]),
                string(info.post_processor),
            ]);
            vec![
                name(create.stream),
                name(create.writer),
                info,
                vector(fields.collect()),
            ]
        }
        Message::LogWrite(write) => {
            vec![name(write.stream), name(write.writer), string(write.path)]
        }
        Message::Event(event) => vec![string(event.name())],
        Message::IdentifierUpdate(update) => vec![string(update.name)],
        Message::Batch(batch) => batch.iter().map(|message| described(&message)).collect(),
    };
    let kind = match message {
        Message::Event(_) => 1,
        Message::LogCreate(_) => 2,
        Message::LogWrite(_) => 3,
        Message::IdentifierUpdate(_) => 4,
        Message::Batch(_) => 5,
    };
    vector(vec![count(1), count(kind), vector(content)])
}

/// The transcript's message without what [`described`] leaves out.
fn shortened(message: &Json) -> Json {
    let mut message = message.clone();
    let kind = message[1][1][1].as_u64().unwrap();
    let content = message[1][2][1].as_array_mut().unwrap();
    match kind {
        1 | 4 => content.truncate(1),
        3 => content.truncate(3),
        5 => {
            for element in content {
                *element = shortened(element);
            }
        }
        _ => {}
    }
    message
}

/// The message by our writer; none where Zeek has another form as well and took it.
fn written(out: &mut Vec<u8>, message: &Message<'_>) -> bool {
    match message {
        Message::Event(event) => {
            let metadata = Metadata {
                timestamp: event.timestamp(),
                ..Metadata::default()
            };
            put_event(out, event.name(), metadata, |out| {
                out.extend_from_slice(event.arguments().bytes());
            });
            event.has_metadata() == event.timestamp().is_some() && event.metadata(200).is_none()
        }
        Message::LogCreate(create) => {
            put_log_create(out, create);
            true
        }
        Message::LogWrite(write) => {
            put_log_write(out, write);
            let mut serial = Vec::new();
            put_record(&mut serial, &read_record(write.serial_data).unwrap());
            assert_eq!(serial, write.serial_data);
            true
        }
        Message::IdentifierUpdate(update) => {
            put_identifier_update(out, update.name, |out| {
                out.extend_from_slice(update.value.bytes());
            });
            true
        }
        Message::Batch(batch) => {
            let mut same = true;
            put_batch(out, batch.len(), |out| {
                for message in batch {
                    same &= written(out, &message);
                }
            });
            same
        }
    }
}

/// What Zeek refused of what was sent to it, by its own words in the transcripts: another format, no
/// message at all, metadata that is none. (Wrong arguments are the business of handlers.)
fn is_refused_by_zeek(message: &Json) -> bool {
    let text = message.to_string();
    ["version 2", "not a zeek message", "bad meta"]
        .iter()
        .any(|part| text.contains(part))
}

#[test]
fn transcripts_are_read_as_they_say_and_written_again() {
    let mut forms = [0; 5];
    let mut rewritten = 0;
    for name in ["zeek_session", "zeek_session_md", "zeek_cluster_worker"] {
        for (is_zeek, payload, decoded) in payloads(name) {
            let message = match parse(&payload) {
                Ok(message) => message,
                Err(error) => {
                    assert!(
                        !is_zeek && is_refused_by_zeek(&decoded),
                        "{error}: {decoded}"
                    );
                    continue;
                }
            };
            assert!(!is_refused_by_zeek(&decoded), "{decoded}");
            assert_eq!(described(&message), shortened(&decoded));
            forms[match message {
                Message::Event(_) => 0,
                Message::LogCreate(_) => 1,
                Message::LogWrite(_) => 2,
                Message::IdentifierUpdate(_) => 3,
                Message::Batch(_) => 4,
            }] += 1;
            let mut out = Vec::new();
            if written(&mut out, &message) {
                rewritten += 1;
                assert_eq!(out, payload);
            }
        }
    }
    // Zeek sends log records in batches only.
    assert_eq!(forms, [22, 4, 0, 6, 5]);
    assert_eq!(rewritten, 31);
}

/// The record of `vectors/zeek_log_write_serial_data.json`, field by field as it is decoded there.
#[test]
fn a_real_record_is_read_and_written() {
    let transcript = load("zeek_log_write_serial_data");
    let record = &transcript["records"][0];
    let bytes = unhex(record["serial_data_hex"].as_str().unwrap());
    let address = |text: &str| Value::Addr(text.parse::<Address>().unwrap());
    let subnet = |text: &str| Value::Subnet(text.parse::<Subnet>().unwrap());
    let expected = [
        Value::Bool(true),
        Value::Int(-5),
        Value::Count(7),
        Value::Double(1.5),
        Value::Time(1_700_000_000.25),
        Value::Interval(90.0),
        Value::String(b"str"),
        Value::Enum(b"TT::BB"),
        Value::Port(Port::tcp(80)),
        Value::Port(Port::udp(53)),
        Value::Port("8/icmp".parse().unwrap()),
        address("1.2.3.4"),
        address("2001:db8::1"),
        subnet("10.0.0.0/8"),
        subnet("2001:db8::/32"),
        Value::Set(vec![Value::String(b"x")]),
        Value::Set(vec![Value::Count(3)]),
        Value::Vector(vec![Value::String(b"p"), Value::String(b"q")]),
        Value::Vector(vec![Value::Interval(1.0)]),
        Value::Unset(TypeTag::String),
        Value::Set(vec![]),
        Value::Func(b"TT::f1: function(x:count) : void\n{ \nprint TT::x;\n}"),
        Value::Double(1.0 / 3.0),
        Value::Unset(TypeTag::File),
    ];
    assert_eq!(read_record(&bytes).unwrap(), expected);
    let types: Vec<&str> = record["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["type"].as_str().unwrap())
        .collect();
    let words = expected.iter().map(|value| match value.ty() {
        TypeTag::Table => "table",
        other => other.word(),
    });
    assert_eq!(words.collect::<Vec<_>>(), types);
    let mut out = Vec::new();
    put_record(&mut out, &expected);
    assert_eq!(out, bytes);
    for end in 0..bytes.len() {
        assert!(read_record(&bytes[..end]).is_err(), "{end}");
    }
    let mut long = bytes;
    long.push(0);
    let error = read_record(&long).unwrap_err();
    let kind = SerialErrorKind::TrailingBytes;
    assert_eq!((error.kind(), error.field()), (kind, 24));
}

fn message(kind: u64, content: impl Into<Data>) -> Data {
    Data::vector([Data::from(1u64), Data::from(kind), content.into()])
}

fn kind_of(data: &Data) -> Result<(), (MessageErrorKind, Option<usize>)> {
    let bytes = encode_to_vec(data);
    let result = parse(&bytes).map(|_| ());
    result.map_err(|error| (error.kind(), error.element()))
}

#[test]
fn errors_have_kinds_and_one_spoils_its_batch() {
    use MessageErrorKind as Kind;
    let vector = |elements: Vec<Data>| Data::vector(elements);
    let event = || message(1, vector(vec![Data::from("x"), vector(vec![])]));
    let name = |text: &str| Data::Enum(muster_data::EnumValue::new(text));
    let write = |data: Data| {
        let content = vec![name("A::LOG"), name("W"), Data::from("a"), data];
        message(3, vector(content))
    };
    assert_eq!(kind_of(&event()), Ok(()));
    assert_eq!(kind_of(&write(Data::from("anything"))), Ok(()));
    let cases = [
        (Data::from("x"), Kind::NotAMessage),
        (
            vector(vec![Data::from(1u64), Data::from(1u64)]),
            Kind::NotAMessage,
        ),
        (message(6, vector(vec![])), Kind::UnknownType(6)),
        (message(1, vector(vec![Data::from("x")])), Kind::Event),
        (
            message(2, vector(vec![name("A::LOG"), name("W")])),
            Kind::LogCreate,
        ),
        (message(2, Data::from("x")), Kind::LogCreate),
        (write(Data::from(1u64)), Kind::LogWrite),
        (
            message(4, vector(vec![Data::from("x")])),
            Kind::IdentifierUpdate,
        ),
        (message(5, Data::from(1u64)), Kind::Batch),
    ];
    for (data, kind) in cases {
        assert_eq!(kind_of(&data), Err((kind, None)), "{data}");
        let batch = message(
            5,
            vector(vec![event(), message(5, vector(vec![data.clone()]))]),
        );
        assert_eq!(kind_of(&batch), Err((kind, Some(1))), "{data}");
    }
    let mut nested = event();
    for _ in 0..MOST_NESTED_BATCHES {
        nested = message(5, vector(vec![nested]));
        assert_eq!(kind_of(&nested), Ok(()));
    }
    let too_deep = kind_of(&message(5, vector(vec![nested])));
    assert_eq!(too_deep, Err((Kind::TooDeep, Some(0))));
}

#[test]
fn fields_of_types_that_do_not_exist_spoil_a_log_create() {
    let mut create = LogCreate {
        stream: "A::LOG",
        writer: "Log::WRITER_ASCII",
        info: WriterInfo {
            path: "a",
            config: vec![("tsv", "T"), ("a", "b")],
            ..WriterInfo::default()
        },
        fields: vec![LogField {
            name: "hosts",
            secondary_name: Some("other"),
            ty: TypeTag::Table,
            subtype: TypeTag::Addr,
            optional: true,
        }],
    };
    assert_eq!(create.fields[0].type_name(), "set[addr]");
    let mut bytes = Vec::new();
    put_log_create(&mut bytes, &create);
    create.info.config.sort_unstable();
    let Message::LogCreate(read) = parse(&bytes).unwrap() else {
        panic!("another message");
    };
    assert_eq!(read, create);
    let at = bytes
        .windows(9)
        .position(|window| window == [2, 0, 0, 0, 0, 0, 0, 0, 14]);
    bytes[at.unwrap() + 8] = 23;
    assert_eq!(
        parse(&bytes).unwrap_err().kind(),
        MessageErrorKind::LogCreate
    );
}

#[test]
fn errors_of_records_name_field_and_element() {
    let record = |body: &str| unhex(&format!("00000002{}{body}", "000000070000000000"));
    let cases = [
        ("", SerialErrorKind::Length, 0, None),
        (
            "0000006300000000000000",
            SerialErrorKind::UnknownType(99),
            1,
            None,
        ),
        (
            "ffffffff00000000010000",
            SerialErrorKind::UnknownType(-1),
            1,
            None,
        ),
        (
            "0000000000000000010000",
            SerialErrorKind::Type(TypeTag::Void),
            1,
            None,
        ),
        (
            "0000000f00000000010000",
            SerialErrorKind::Type(TypeTag::Record),
            1,
            None,
        ),
        (
            "000000070000000001ffffffff",
            SerialErrorKind::Length,
            1,
            None,
        ),
        (
            "00000007000000000100000002aa",
            SerialErrorKind::Truncated,
            1,
            None,
        ),
        (
            "0000000a0000000001000000000001000000000001",
            SerialErrorKind::Port,
            1,
            None,
        ),
        (
            "0000000a0000000001000000000000005000000004",
            SerialErrorKind::Port,
            1,
            None,
        ),
        (
            "0000000b00000000010501020304",
            SerialErrorKind::AddressFamily(5),
            1,
            None,
        ),
        (
            "0000000c000000000108040a000000",
            SerialErrorKind::PrefixLength(8),
            1,
            None,
        ),
        (
            "0000000c000000000181040a000000",
            SerialErrorKind::PrefixLength(129),
            1,
            None,
        ),
        // A set that claims far more elements than there are bytes.
        (
            "0000000e00000000017fffffffffffffff",
            SerialErrorKind::Length,
            1,
            None,
        ),
        (
            "0000000e0000000001ffffffffffffffff",
            SerialErrorKind::Length,
            1,
            None,
        ),
        (
            "00000013000000000100000000000000020000000700000000000000006300000000 01",
            SerialErrorKind::UnknownType(99),
            1,
            Some(1),
        ),
    ];
    for (body, kind, field, element) in cases {
        let bytes = record(&body.replace(' ', ""));
        let error = read_record(&bytes).unwrap_err();
        assert_eq!(
            (error.kind(), error.field(), error.element()),
            (kind, field, element),
            "{body}"
        );
        assert!(error.to_string().starts_with(&format!("field {field}")));
        let fields = Fields::new(&bytes).map_or(0, Iterator::count);
        assert_eq!(
            fields,
            if body.is_empty() { 0 } else { 2 },
            "nothing comes behind an error"
        );
    }
    let mut nested = Value::Bool(true);
    for depth in 0..=serial::MOST_NESTED {
        nested = Value::Vector(vec![nested]);
        let mut out = Vec::new();
        put_record(&mut out, &[nested.clone()]);
        let kind = read_record(&out).map(|_| ()).map_err(|error| error.kind());
        let expected = if depth < serial::MOST_NESTED {
            Ok(())
        } else {
            Err(SerialErrorKind::TooDeep)
        };
        assert_eq!(kind, expected);
    }
}

/// Values that own their texts, from which borrowed ones are made.
#[derive(Debug, Clone)]
enum Owned {
    Plain(Value<'static>),
    Text(u8, Vec<u8>),
    Elements(bool, Vec<Owned>),
}

impl Owned {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Text(0, text) => Value::String(text),
            Self::Text(1, text) => Value::Enum(text),
            Self::Text(2, text) => Value::Func(text),
            Self::Text(_, text) => Value::File(text),
            Self::Elements(is_set, elements) => {
                let elements = elements.iter().map(Self::value).collect();
                if *is_set {
                    Value::Set(elements)
                } else {
                    Value::Vector(elements)
                }
            }
        }
    }
}

fn values() -> impl Strategy<Value = Owned> {
    let finite = || any::<f64>().prop_filter("equals itself", |number| !number.is_nan());
    let address = || any::<[u8; 16]>().prop_map(Address::from_bytes);
    let plain = prop_oneof![
        (0..TypeTag::ALL.len()).prop_map(|at| Value::Unset(TypeTag::ALL[at])),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Count),
        finite().prop_map(Value::Double),
        finite().prop_map(Value::Time),
        finite().prop_map(Value::Interval),
        (any::<u16>(), 0..4u8).prop_map(|(number, protocol)| {
            Value::Port(Port::new(number, Protocol::from_number(protocol).unwrap()))
        }),
        address().prop_map(Value::Addr),
        any::<[u8; 4]>().prop_map(|bytes| Value::Addr(std::net::Ipv4Addr::from(bytes).into())),
        (address(), 0..=128u8)
            .prop_map(|(address, length)| Value::Subnet(Subnet::from_wire(address, length))),
        (any::<[u8; 4]>(), 96..=128u8).prop_map(|(bytes, length)| {
            let address = std::net::Ipv4Addr::from(bytes).into();
            Value::Subnet(Subnet::from_wire(address, length))
        }),
    ];
    let leaf = prop_oneof![
        plain.prop_map(Owned::Plain),
        (0..4u8, prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(kind, text)| Owned::Text(kind, text)),
    ];
    leaf.prop_recursive(serial::MOST_NESTED, 32, 4, |inner| {
        (any::<bool>(), prop::collection::vec(inner, 0..4))
            .prop_map(|(is_set, elements)| Owned::Elements(is_set, elements))
    })
}

proptest! {
    #[test]
    fn records_come_back(fields in prop::collection::vec(values(), 0..8)) {
        let values: Vec<Value<'_>> = fields.iter().map(Owned::value).collect();
        let mut bytes = Vec::new();
        put_record(&mut bytes, &values);
        let read = read_record(&bytes).unwrap();
        prop_assert_eq!(&read, &values);
        for end in 0..bytes.len() {
            prop_assert!(read_record(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn garbage_is_no_record(
        fields in prop::collection::vec(values(), 0..8),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        garbage in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let values: Vec<Value<'_>> = fields.iter().map(Owned::value).collect();
        let mut bytes = Vec::new();
        put_record(&mut bytes, &values);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes, &garbage] {
            if let Ok(values) = read_record(bytes) {
                let mut out = Vec::new();
                put_record(&mut out, &values);
                prop_assert!(read_record(&out).is_ok());
            }
        }
    }

    #[test]
    fn changed_messages_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (_, payload, _) in payloads("zeek_session") {
            let mut bytes = payload;
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            // As they come from a peer, and as they never do.
            for value in [
                DataRef::parse(&bytes, &Limits::default()).unwrap_or(DataRef::NONE),
                DataRef::from_validated(&bytes),
            ] {
                if let Ok(Message::Batch(batch)) = Message::read(value) {
                    prop_assert_eq!(batch.iter().count(), batch.len());
                }
            }
        }
    }
}
