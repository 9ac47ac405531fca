//! Logs of Zeek's nodes on a logger.

use muster_wire::zeek::serial::{Value, put_record};
use muster_wire::zeek::{
    LogCreate, LogField, LogWrite, TypeTag, WriterInfo, put_batch, put_event, put_log_create,
    put_log_write,
};

use super::*;

fn field(name: &str, ty: TypeTag, subtype: TypeTag) -> LogField<'_> {
    LogField {
        name,
        secondary_name: None,
        ty,
        subtype,
        optional: true,
    }
}

fn scalar(name: &str, ty: TypeTag) -> LogField<'_> {
    field(name, ty, TypeTag::Void)
}

fn conn() -> Vec<LogField<'static>> {
    vec![
        scalar("ts", TypeTag::Time),
        scalar("id.orig_h", TypeTag::Addr),
        field("tags", TypeTag::Table, TypeTag::String),
    ]
}

fn create(out: &mut Vec<u8>, path: &str, fields: Vec<LogField<'_>>) {
    let create = LogCreate {
        stream: "Conn::LOG",
        writer: "Log::WRITER_ASCII",
        info: WriterInfo {
            path,
            ..WriterInfo::default()
        },
        fields,
    };
    put_log_create(out, &create);
}

fn write(out: &mut Vec<u8>, path: &str, record: &[Value<'_>]) {
    let mut serial_data = Vec::new();
    put_record(&mut serial_data, record);
    let write = LogWrite {
        stream: "Conn::LOG",
        writer: "Log::WRITER_ASCII",
        path,
        serial_data: &serial_data,
    };
    put_log_write(out, &write);
}

fn record(seconds: f64) -> Vec<Value<'static>> {
    vec![
        Value::Time(seconds),
        Value::Addr("10.0.0.1".parse().unwrap()),
        Value::Set(vec![Value::String(b"b"), Value::String(b"a")]),
    ]
}

fn text(batch: &LogBatch) -> Vec<String> {
    batch.rows().map(|row| row.to_string()).collect()
}

impl Rig {
    fn quiet(name: &str) -> Self {
        let mut rig = Self::new(name);
        rig.said();
        rig
    }

    fn receives(&mut self, from: u8, payload: &[u8]) {
        // As an endpoint lets it in.
        DataRef::parse(payload, &muster_data::Limits::default()).unwrap();
        self.step(Input::Message {
            from: id(from),
            payload,
        });
    }

    fn creates(&mut self, path: &str, fields: Vec<LogField<'_>>) {
        let mut out = Vec::new();
        create(&mut out, path, fields);
        self.receives(7, &out);
    }

    fn writes(&mut self, path: &str, record: &[Value<'_>]) {
        let mut out = Vec::new();
        write(&mut out, path, record);
        self.receives(7, &out);
    }
}

/// A worker of a real cluster: says hello without incarnation or metadata, describes its log, then
/// sends batches of records, and events in between.
#[test]
fn a_zeek_workers_logs_become_batches_of_rows() {
    let mut logger = Rig::quiet("logger-1");
    logger.step(Input::Reach(id(7), Reach::PeerUp(Version::V1)));
    let hello = Hello {
        name: "worker-1".to_owned(),
        id: id(7).to_string(),
    };
    logger.receives(7, &encoded(Hello::NAME, None, None, &hello));
    assert!(logger.said().contains(&"up worker-1".to_owned()));
    logger.creates("conn", conn());
    let mut batch = Vec::new();
    put_batch(&mut batch, 4, |out| {
        write(out, "conn", &record(1.0));
        put_event(out, Row::NAME, Metadata::default(), |out| {
            row(5).encode(out);
        });
        // Batches may hold batches.
        put_batch(out, 1, |out| write(out, "conn", &record(2.25)));
        write(
            out,
            "conn",
            &[
                Value::Unset(TypeTag::Time),
                Value::Unset(TypeTag::Addr),
                Value::Set(vec![]),
            ],
        );
    });
    logger.receives(7, &batch);
    assert_eq!(logger.said(), ["row 5 at None"]);
    let [batch] = &logger.batches[..] else {
        panic!("one batch: {:?}", logger.batches);
    };
    let columns = batch.columns.iter();
    let columns: Vec<_> = columns
        .map(|c| format!("{} {}", c.name, c.zeek_type))
        .collect();
    assert_eq!(batch.stream, "conn");
    assert_eq!(columns, ["ts time", "id.orig_h addr", "tags set[string]"]);
    assert_eq!(
        text(batch),
        [
            r#"[1970-01-01T00:00:01Z, 10.0.0.1, {"a", "b"}]"#,
            r#"[1970-01-01T00:00:02.25Z, 10.0.0.1, {"a", "b"}]"#,
            "[nil, nil, {}]",
        ]
    );
    let counts = logger.node.counts();
    assert_eq!(
        (counts.records_received, counts.records_refused.total()),
        (3, 0)
    );
    assert_eq!(counts.events_refused, 0);
    // A record alone is a message as well.
    logger.writes("conn", &record(3.0));
    assert_eq!((logger.batches.len(), logger.batches[1].len()), (2, 1));
}

#[test]
fn every_type_has_its_value_and_name() {
    let mut logger = Rig::quiet("logger-1");
    let port = "8/icmp".parse().unwrap();
    let values = [
        (Value::Bool(true), "bool", "T"),
        (Value::Int(-5), "int", "-5"),
        (Value::Count(7), "count", "7"),
        (Value::Double(1.5), "double", "1.5"),
        (Value::Time(-0.5), "time", "1969-12-31T23:59:59.5Z"),
        (Value::Interval(90.0), "interval", "90s"),
        (Value::String(b"s"), "string", "\"s\""),
        (Value::Enum(b"A::B"), "enum", "enum:\"A::B\""),
        (Value::Port(port), "port", "8/icmp"),
        (Value::Addr("::1".parse().unwrap()), "addr", "::1"),
        (
            Value::Subnet("10.0.0.0/8".parse().unwrap()),
            "subnet",
            "10.0.0.0/8",
        ),
        (Value::Func(b"f"), "func", "\"f\""),
        (Value::File(b"g"), "file", "\"g\""),
        // No timestamp holds these.
        (Value::Time(f64::INFINITY), "time", "inf"),
        (Value::Interval(-1e11), "interval", "-100000000000"),
    ];
    let mut fields = Vec::new();
    let names: Vec<String> = (0..values.len())
        .map(|number| format!("f{number}"))
        .collect();
    for ((value, ..), name) in values.iter().zip(&names) {
        fields.push(scalar(name, value.ty()));
    }
    for (name, container) in [("set", TypeTag::Table), ("vector", TypeTag::Vector)] {
        fields.push(field(name, container, TypeTag::Interval));
    }
    let mut record: Vec<_> = values.iter().map(|(value, ..)| value.clone()).collect();
    let elements = vec![
        Value::Interval(2.0),
        Value::Interval(1.0),
        Value::Unset(TypeTag::Interval),
    ];
    record.extend([Value::Set(elements.clone()), Value::Vector(elements)]);
    logger.creates("all", fields);
    logger.writes("all", &record);
    let batch = &logger.batches[0];
    let rows: Vec<_> = batch.rows().collect();
    let fields = rows[0].as_vector().unwrap();
    for (at, (_, word, text)) in values.iter().enumerate() {
        assert_eq!(batch.columns[at].zeek_type, *word);
        let found = fields.get(at).unwrap().to_string();
        assert!(found.starts_with(text), "{word}: {found}");
    }
    let words: Vec<_> = batch
        .columns
        .iter()
        .map(|column| column.zeek_type.as_str())
        .collect();
    assert_eq!(words[values.len()..], ["set[interval]", "vector[interval]"]);
    // A set keeps the order in which it came: it is written to the log so.
    let set = fields.get(values.len()).unwrap().as_set().unwrap();
    let set: Vec<_> = set.iter().map(|element| element.to_string()).collect();
    assert_eq!(set, ["2s", "1s", "nil"]);
}

#[test]
fn a_later_description_holds_for_the_next_records() {
    let mut logger = Rig::quiet("logger-1");
    logger.creates("conn", conn());
    let mut batch = Vec::new();
    let more = || {
        let mut fields = conn();
        fields.push(scalar("more", TypeTag::Bool));
        fields
    };
    let longer = [&record(2.0)[..], &[Value::Bool(false)]].concat();
    put_batch(&mut batch, 6, |out| {
        write(out, "conn", &record(1.0));
        create(out, "conn", conn()); // the same again changes nothing
        write(out, "conn", &record(1.5));
        create(out, "conn", more());
        write(out, "conn", &longer);
        write(out, "conn", &record(3.0)); // fits no longer
    });
    logger.receives(7, &batch);
    let batches: Vec<_> = logger
        .batches
        .iter()
        .map(|b| (b.columns.len(), b.len()))
        .collect();
    assert_eq!(batches, [(3, 2), (4, 1)]);
    let counts = logger.node.counts();
    assert_eq!(
        (counts.records_received, counts.records_refused.total()),
        (3, 1)
    );
}

#[test]
fn what_does_not_fit_is_refused_counted_and_told() {
    let mut logger = Rig::quiet("logger-1");
    logger.writes("conn", &record(1.0));
    logger.creates("conn", conn());
    logger.writes("dns", &record(1.0));
    logger.writes("conn", &record(1.0)[..2]);
    let tags = Value::Set(vec![Value::Count(1)]);
    logger.writes(
        "conn",
        &[Value::Time(1.0), Value::Unset(TypeTag::Addr), tags],
    );
    assert_eq!(
        logger.said(),
        [
            format!(
                "refused a record of log \"conn\" of {}: no log_create of \"Conn::LOG\" with \
                 \"Log::WRITER_ASCII\" came before",
                id(7)
            ),
            format!(
                "refused a record of log \"dns\" of {}: no log_create of \"Conn::LOG\" with \
                 \"Log::WRITER_ASCII\" came before",
                id(7)
            ),
            format!(
                "refused a record of log \"conn\" of {}: more or fewer fields than the 3 columns \
                 that log_create told of",
                id(7)
            ),
            format!(
                "refused a record of log \"conn\" of {}: column `tags` of type set[string] holds \
                 a value of type count",
                id(7)
            ),
        ]
    );
    logger.writes("conn", &[record(1.0), record(2.0)].concat());
    let mut garbage = Vec::new();
    put_log_write(
        &mut garbage,
        &LogWrite {
            stream: "Conn::LOG",
            writer: "Log::WRITER_ASCII",
            path: "conn",
            serial_data: b"\xff\xff\xff\xff",
        },
    );
    logger.receives(7, &garbage);
    let counts = logger.node.counts();
    assert_eq!(
        (counts.records_refused.total(), counts.records_received),
        (6, 0)
    );
    assert!(logger.batches.is_empty());
    // One malformed message spoils its batch, and nothing of it is taken.
    let mut batch = Vec::new();
    put_batch(&mut batch, 2, |out| {
        write(out, "conn", &record(1.0));
        muster_data::encode::string(out, b"no message");
    });
    logger.receives(7, &batch);
    assert!(logger.batches.is_empty());
    assert_eq!(logger.node.counts().events_refused, 1);
}

#[test]
fn paths_never_lead_out_of_the_directory() {
    let mut logger = Rig::quiet("logger-1");
    let long = "x".repeat(65);
    let paths = [
        "",
        ".",
        "..",
        "../conn",
        "/tmp/conn",
        "a/b",
        "conn.log",
        "a\0b",
        "\u{e9}",
        &long,
    ];
    for path in paths {
        logger.creates(path, conn());
        logger.writes(path, &record(1.0));
    }
    assert!(logger.batches.is_empty());
    let counts = logger.node.counts();
    let all = paths.len() as u64;
    assert_eq!(
        (counts.logs_refused, counts.records_refused.total()),
        (all, all)
    );
    let said = logger.said();
    assert!(said[0].starts_with("refused the log \"\" of"), "{said:?}");
    assert!(
        said[1].starts_with("refused a record of log \"\" of"),
        "{said:?}"
    );
}

#[test]
fn columns_that_no_log_can_have_are_refused() {
    let mut logger = Rig::quiet("logger-1");
    let twice = vec![scalar("a", TypeTag::Int), scalar("a", TypeTag::Int)];
    let many: Vec<String> = (0..1025).map(|number| number.to_string()).collect();
    let many = many.iter().map(|name| scalar(name, TypeTag::Int)).collect();
    let long = "x".repeat(1 << 17);
    for fields in [
        vec![],
        twice,
        many,
        vec![scalar("", TypeTag::Int)],
        vec![scalar(&long, TypeTag::Int)],
        vec![scalar("a", TypeTag::Record)],
        vec![scalar("a", TypeTag::Void)],
        vec![field("a", TypeTag::Vector, TypeTag::Vector)],
        vec![field("a", TypeTag::Table, TypeTag::Void)],
    ] {
        logger.creates("conn", fields);
    }
    assert_eq!(logger.node.counts().logs_refused, 9);
    logger.writes("conn", &record(1.0));
    assert_eq!(logger.node.counts().records_refused.total(), 1);
}

#[test]
fn who_is_no_logger_takes_no_logs() {
    let mut worker = Rig::quiet("worker-1");
    worker.creates("conn", conn());
    assert_eq!(worker.said(), NOTHING, "Zeek tells all of its peers");
    worker.writes("conn", &record(1.0));
    let counts = worker.node.counts();
    assert_eq!(
        (counts.logs_refused, counts.records_refused.total()),
        (1, 1)
    );
    assert!(worker.batches.is_empty());
    assert_eq!(worker.said().len(), 1);
}

#[test]
fn long_names_of_streams_and_writers_are_not_kept() {
    let mut rig = Rig::quiet("logger-1");
    let long = "x".repeat(257);
    for (stream, writer) in [(long.as_str(), "Log::WRITER_ASCII"), ("Conn::LOG", &long)] {
        let mut message = Vec::new();
        let create = LogCreate {
            stream,
            writer,
            info: WriterInfo {
                path: "conn",
                ..WriterInfo::default()
            },
            fields: conn(),
        };
        put_log_create(&mut message, &create);
        rig.receives(9, &message);
    }
    assert_eq!(rig.node.counts().logs_refused, 2);
}

const FORWARDING: &str = r#"
    [[node]]
    name = "manager"
    role = "manager"
    [[node]]
    name = "beside"
    role = "logger"
    options = { "logging.forward" = true }
    [[node]]
    name = "logger"
    role = "logger"
    [[node]]
    name = "worker"
    role = "worker"
"#;

#[test]
fn a_forwarding_logger_gives_on_what_zeek_logs() {
    let registry = Registry::new().with::<Actor>();
    let mut rig = Rig::of(FORWARDING, "beside", &registry).unwrap();
    rig.logger_up("logger", 1);
    rig.published.clear();
    let mut batch = Vec::new();
    put_batch(&mut batch, 3, |out| {
        create(out, "conn", conn());
        write(out, "conn", &record(1.0));
        write(out, "conn", &record(2.0));
    });
    rig.receives(9, &batch);
    assert_eq!(rig.batches, []);
    let (topic, payload) = rig.published.pop().unwrap();
    assert_eq!(topic, "zeek/cluster/node/logger/");
    let event = EventRef::read(DataRef::from_validated(&payload)).unwrap();
    let (given, note) = LogBatch::read(event.arguments()).unwrap();
    assert_eq!((given.stream.as_str(), given.len()), ("conn", 2));
    assert_eq!(given.columns[1].zeek_type, "addr");
    let note = note.unwrap();
    assert_eq!((note.node.as_str(), note.number), ("beside", 0));
    let counts = rig.node.counts();
    assert_eq!((counts.records_received, counts.records_logged), (2, 2));
    assert_eq!(rig.node.waiting_records(), 2);
    let ack = LogAck {
        producer: id(0).to_string(),
        batches: vec![0, 0],
    };
    rig.receive(1, &ack);
    assert_eq!(rig.node.counts().records_acknowledged, 2);
    // It is no logger of Muster's nodes.
    let refused = rig.node.counts().events_refused;
    rig.step(Input::Message {
        from: id(1),
        payload: &payload,
    });
    assert_eq!(rig.node.counts().events_refused, refused + 1);
    let mut worker = Rig::of(FORWARDING, "worker", &registry).unwrap();
    worker.logger_up("beside", 1);
    worker.act("log 6");
    assert_eq!(worker.node.waiting_records(), 6);
    worker.logger_up("logger", 2);
    worker.pass(Duration::from_secs(1));
    assert!(
        worker
            .published()
            .iter()
            .any(|it| it == "Muster::log_batch to zeek/cluster/node/logger/")
    );
}

#[test]
fn somebody_has_to_write_what_is_given_on() {
    let all = FORWARDING.replace(
        "name = \"logger\"\n",
        "name = \"logger\"\n    options = { \"logging.forward\" = true }\n",
    );
    let problem = Layout::parse(&all, "test", &[]).unwrap_err().to_string();
    assert!(
        problem.contains("`logging.forward` is set for all loggers, so nobody writes logs"),
        "{problem}"
    );
}
