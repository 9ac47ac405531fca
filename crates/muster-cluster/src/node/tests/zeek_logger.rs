//! Logs of our nodes at a logger that is a Zeek process.

use std::collections::BTreeSet;

use muster_data::{Address, EnumValue, Port, Protocol, Subnet, Timespan};
use muster_wire::zeek::serial::read_record;
use muster_wire::zeek::{LogCreate, TypeTag};
use proptest::prelude::*;

use super::*;

/// A record with a column of every type.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::everything")]
struct Everything {
    ts: Timestamp,
    flag: bool,
    count: u64,
    int: i64,
    real: f64,
    text: String,
    #[record(rename = "id.orig_h")]
    orig_h: Address,
    net: Subnet,
    port: Port,
    span: Timespan,
    name: EnumValue,
    set: BTreeSet<String>,
    ports: BTreeSet<Port>,
    vector: Vec<u64>,
    maybe: Option<String>,
    maybe_set: Option<BTreeSet<Address>>,
    maybe_name: Option<EnumValue>,
}

/// Logs what it is given.
struct Logger;

impl Framework for Logger {
    const NAME: &'static str = "logger";

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::everything);
        declarations.zeek_stream::<Everything>("everything", "Test::EVERYTHING_LOG");
        declarations.stream::<Row>("rows");
    }
}

impl Logger {
    fn everything(&mut self, record: Everything, cx: &mut Context<'_>) {
        cx.log("everything", &record).unwrap();
    }
}

impl Rig {
    fn of_logger(name: &str) -> Self {
        Self::with(name, &Registry::new().with::<Logger>()).unwrap()
    }

    /// A Zeek process comes up as a node: it does not say its incarnation.
    fn zeek_up(&mut self, name: &str, number: u8) {
        self.step(Input::Reach(id(number), Reach::PeerUp(Version::V1)));
        let hello = Hello {
            name: name.to_owned(),
            id: id(number).to_string(),
        };
        let payload = encoded(Hello::NAME, None, None, &hello);
        self.step(Input::Message {
            from: id(number),
            payload: &payload,
        });
    }

    fn sent(&mut self) -> Vec<(String, Bytes)> {
        std::mem::take(&mut self.published)
    }
}

/// A batch as Zeek takes it: the log's description, and the records behind it.
fn taken(payload: &[u8]) -> (LogCreate<'_>, Vec<Vec<String>>) {
    let value = DataRef::parse(payload, &muster_data::Limits::default()).unwrap();
    let Message::Batch(batch) = Message::read(value).unwrap() else {
        panic!("no batch");
    };
    let mut messages = batch.iter();
    let Some(Message::LogCreate(create)) = messages.next() else {
        panic!("no description comes first");
    };
    let records = messages.map(|message| {
        let Message::LogWrite(write) = message else {
            panic!("no record: {message:?}");
        };
        assert_eq!((write.stream, write.writer), (create.stream, create.writer));
        assert_eq!(write.path, create.info.path);
        let values = read_record(write.serial_data).unwrap();
        values.iter().map(|value| format!("{value:?}")).collect()
    });
    let records = records.collect();
    (create, records)
}

#[test]
fn each_logger_is_served_in_its_own_form() {
    let mut rig = Rig::new("worker-1");
    rig.zeek_up("logger-1", 1);
    rig.logger_up("logger-2", 2);
    rig.sent();
    rig.said();
    rig.act("log 12");
    let sent = rig.sent();
    let topics: Vec<&str> = sent.iter().map(|(topic, _)| topic.as_str()).collect();
    let (zeek, ours) = ("zeek/cluster/node/logger-1/", "zeek/cluster/node/logger-2/");
    assert_eq!(topics, [zeek, ours, zeek, ours]);
    for (topic, payload) in &sent {
        if topic == ours {
            let event = EventRef::read(DataRef::from_validated(payload)).unwrap();
            assert_eq!(event.name(), logs::BATCH);
            continue;
        }
        // Every batch describes itself, for a queue on the way may have lost the one before.
        let (create, records) = taken(payload);
        assert_eq!(create.stream, "Cluster::LOG");
        assert_eq!(create.writer, "Log::WRITER_ASCII");
        assert_eq!(create.info.path, "muster_rows");
        assert_eq!(create.info.network_time.to_bits(), 1_000f64.to_bits());
        let fields: Vec<_> = create
            .fields
            .iter()
            .map(|field| (field.name, field.ty, field.subtype, field.optional))
            .collect();
        let void = TypeTag::Void;
        assert_eq!(
            fields,
            [
                ("number", TypeTag::Count, void, false),
                ("text", TypeTag::String, void, true)
            ]
        );
        assert_eq!(records.len(), 3);
        assert_eq!(records[0][1], "Unset(String)");
    }
    assert_eq!(
        rig.said(),
        [
            "log `rows` goes to logger-1, a Zeek logger, which writes it as muster_rows of stream \
          Cluster::LOG"
        ]
    );
    assert_eq!(rig.node.counts().records_sent, 12);
    // In its next life it may be one of ours.
    rig.step(Input::Reach(id(1), Reach::PeerDown(Version::V1)));
    rig.logger_up("logger-1", 5);
    rig.sent();
    rig.act("log 6");
    assert_eq!(rig.published().len(), 2);
}

#[test]
fn a_manager_that_takes_the_logs_may_be_zeeks() {
    let layout = "node = [{ name = \"manager\", role = \"manager\" }, \
                  { name = \"worker\", role = \"worker\" }]";
    let mut rig = Rig::of(layout, "worker", &Registry::new().with::<Logger>()).unwrap();
    rig.zeek_up("manager", 1);
    rig.sent();
    rig.said();
    rig.receive(0, &everything());
    rig.pass(Duration::from_secs(5));
    let sent = rig.sent();
    let (topic, payload) = &sent[0];
    assert_eq!(
        (topic.as_str(), sent.len()),
        ("zeek/cluster/node/manager/", 1)
    );
    let (create, records) = taken(payload);
    assert_eq!(
        (create.stream, create.info.path),
        ("Test::EVERYTHING_LOG", "everything")
    );
    assert_eq!(records.len(), 1);
    assert_eq!(
        rig.said(),
        [
            "log `everything` goes to manager, a Zeek logger, which writes it as everything of stream \
          Test::EVERYTHING_LOG, if it has loaded the script that makes that stream"
        ]
    );
}

#[test]
fn a_stream_has_one_zeek_stream() {
    struct Rival;
    impl Framework for Rival {
        const NAME: &'static str = "rival";
        fn create(_site: &Site<'_>) -> Option<Self> {
            Some(Self)
        }
        fn declare(&self, declarations: &mut Declarations<Self>) {
            declarations.stream::<Everything>("everything");
        }
    }
    let registry = Registry::new().with::<Logger>().with::<Rival>();
    let error = Rig::with("worker-1", &registry).err().unwrap();
    assert!(matches!(
        error,
        NodeError::Stream(StreamError::Conflict(name)) if name == "everything"
    ));
}

fn everything() -> Everything {
    Everything {
        ts: Timestamp::from_secs(1),
        flag: true,
        count: 1,
        int: -1,
        real: 0.5,
        text: "x".to_owned(),
        orig_h: "10.0.0.1".parse().unwrap(),
        net: "10.0.0.0/8".parse().unwrap(),
        port: Port::tcp(80),
        span: Timespan::from_millis(1500),
        name: EnumValue::new("Test::A"),
        set: BTreeSet::new(),
        ports: BTreeSet::new(),
        vector: Vec::new(),
        maybe: None,
        maybe_set: None,
        maybe_name: None,
    }
}

prop_compose! {
    fn scalars()(
        micros in 0i64..4_000_000_000_000_000,
        flag: bool,
        count: u64,
        int: i64,
        real in prop::num::f64::NORMAL | prop::num::f64::ZERO,
        text: String,
        address: [u8; 16],
        is_v4: bool,
        length in 0u8..=32,
        port: u16,
        protocol in 0u8..4,
        span in -1_000_000_000_000i64..1_000_000_000_000,
    ) -> Everything {
        let v4 = std::net::Ipv4Addr::new(address[0], address[1], address[2], address[3]);
        let orig_h = if is_v4 { v4.into() } else { Address::from_bytes(address) };
        Everything {
            ts: Timestamp::from_nanos(micros * 1_000),
            flag,
            count,
            int,
            real,
            text,
            orig_h,
            net: format!("{orig_h}/{length}").parse().unwrap(),
            port: Port::new(port, Protocol::from_number(protocol).unwrap()),
            span: Timespan::from_nanos(span * 1_000),
            ..everything()
        }
    }
}

prop_compose! {
    fn records()(
        set: BTreeSet<String>,
        ports in prop::collection::btree_set(any::<u16>().prop_map(Port::udp), 0..4),
        vector in prop::collection::vec(any::<u64>(), 0..4),
        maybe: Option<String>,
        maybe_set in prop::option::of(prop::collection::btree_set(
            any::<[u8; 16]>().prop_map(Address::from_bytes), 0..4)),
        maybe_name in prop::option::of("[A-Z][a-z]{0,5}::[A-Z]{1,5}"),
        record in scalars(),
    ) -> Everything {
        let maybe_name = maybe_name.map(EnumValue::new);
        Everything { set, ports, vector, maybe, maybe_set, maybe_name, ..record }
    }
}

/// Rounded to the microseconds that a double holds of today's times, and that Zeek writes.
fn rounded(mut record: Everything) -> Everything {
    let micros = |nanos: i64| (nanos + 500).div_euclid(1_000) * 1_000;
    record.ts = Timestamp::from_nanos(micros(record.ts.as_nanos()));
    record.span = Timespan::from_nanos(micros(record.span.as_nanos()));
    record
}

proptest! {
    /// What a Zeek logger gets is what one of ours would get: it is read by our own logger's reading
    /// of Zeek's messages, which real Zeek logs are tested with.
    #[test]
    fn records_of_all_types_arrive(records in prop::collection::vec(records(), 1..5)) {
        let deliver = |is_zeek: bool| {
            let mut worker = Rig::of_logger("worker-1");
            if is_zeek {
                worker.zeek_up("logger-1", 1);
            } else {
                worker.logger_up("logger-1", 1);
            }
            worker.sent();
            for record in &records {
                worker.receive(0, record);
            }
            worker.pass(Duration::from_secs(2));
            let mut logger = Rig::of_logger("logger-1");
            for (topic, payload) in worker.sent() {
                assert_eq!(topic, "zeek/cluster/node/logger-1/");
                DataRef::parse(&payload, &muster_data::Limits::default()).unwrap();
                logger.step(Input::Message { from: id(0), payload: &payload });
            }
            let counts = logger.node.counts();
            assert_eq!((counts.records_refused.total(), counts.events_refused), (0, 0));
            let columns = logger.batches[0].columns.clone();
            let rows = logger.batches.iter().flat_map(LogBatch::rows);
            let rows: Vec<Everything> = rows.map(|row| row.to().unwrap()).collect();
            (columns, rows)
        };
        let (zeek, ours) = (deliver(true), deliver(false));
        prop_assert_eq!(&zeek.0, &ours.0);
        prop_assert_eq!(&ours.1, &records);
        let zeeks: Vec<_> = zeek.1.into_iter().map(rounded).collect();
        prop_assert_eq!(zeeks, records);
    }
}
