//! A node of Zeek's, played by an endpoint, sends its logs to a Muster logger over a real socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use muster::cluster::Layout;
use muster::cluster::node::{LogBatch, LogDelivery, LogSink, Registry, Written};
use muster::data::Timestamp;
use muster::wire::zeek::serial::{Value, put_record};
use muster::wire::zeek::{
    EventRef, LogCreate, LogField, LogWrite, Metadata, TypeTag, WriterInfo, put_batch, put_event,
    put_log_create, put_log_write,
};
use muster::wire::{Class, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Node, NodeConfig, Publisher,
    Subscriber, Tls,
};
use muster_data::{DataRef, Encode};
use muster_test_support::within;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<String>>>);

impl LogSink for Memory {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        let rows = batch.rows().map(|row| format!("{}: {row}", batch.stream));
        self.0.lock().unwrap().extend(rows);
        Written {
            records: batch.len() as u64,
            ..Written::default()
        }
    }

    fn tick(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

/// The first two arguments of the first `Cluster::hello` that arrives.
async fn hello(subscriber: &mut Subscriber) -> (String, String) {
    loop {
        let Some(Delivery::Batch(batch)) = within(subscriber.receive()).await else {
            continue;
        };
        for message in batch.iter() {
            let event = EventRef::read(DataRef::from_validated(message.payload)).unwrap();
            if event.name() == "Cluster::hello" {
                return event.arguments().to().unwrap();
            }
        }
    }
}

const STREAM: (&str, &str, &str) = ("Conn::LOG", "Log::WRITER_ASCII", "conn");

fn log_create() -> Vec<u8> {
    let field = |name, ty| LogField {
        name,
        secondary_name: None,
        ty,
        subtype: TypeTag::Void,
        optional: false,
    };
    let mut out = Vec::new();
    let create = LogCreate {
        stream: STREAM.0,
        writer: STREAM.1,
        info: WriterInfo {
            path: STREAM.2,
            ..WriterInfo::default()
        },
        fields: vec![field("ts", TypeTag::Time), field("uid", TypeTag::String)],
    };
    put_log_create(&mut out, &create);
    out
}

fn log_writes(uids: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    put_batch(&mut out, uids.len(), |out| {
        for uid in uids {
            let mut serial_data = Vec::new();
            let record = [Value::Time(1.5), Value::String(uid.as_bytes())];
            put_record(&mut serial_data, &record);
            let write = LogWrite {
                stream: STREAM.0,
                writer: STREAM.1,
                path: STREAM.2,
                serial_data: &serial_data,
            };
            put_log_write(out, &write);
        }
    });
    out
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts a node that writes to memory.
async fn start(layout: &str, name: &str, sink: &Memory) -> Node {
    let config = NodeConfig {
        layout: Arc::new(Layout::parse(layout, "test", &[]).unwrap()),
        name: name.to_owned(),
        registry: Registry::new(),
        log_sink: Box::new(sink.clone()),
        input: None,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: std::env::temp_dir(),
    };
    Node::start(config).await.unwrap()
}

/// A Zeek worker that is a peer of one node, to which it has said hello.
struct Zeek {
    endpoint: Endpoint,
    publisher: Publisher,
}

impl Zeek {
    async fn beside(node: &str, port: u16) -> Self {
        let endpoint = Endpoint::start(EndpointConfig {
            forwarding: Forwarding::Direct,
            ..EndpointConfig::default()
        })
        .unwrap();
        let own_topic = format!("zeek/cluster/nodeid/{}/", endpoint.id());
        let mut heard = endpoint.subscribe([own_topic.as_str()]).await;
        let address = format!("127.0.0.1:{port}");
        within(endpoint.peer(&address, Some(Duration::from_millis(50))))
            .await
            .unwrap();
        let (name, id) = hello(&mut heard).await;
        assert_eq!(name, node);
        let publisher = endpoint.publisher();
        let mut this = Self {
            endpoint,
            publisher,
        };
        let mut hello = Vec::new();
        put_event(&mut hello, "Cluster::hello", Metadata::default(), |out| {
            ["worker-1".to_owned(), this.endpoint.id().to_string()].encode(out);
        });
        this.send(&format!("zeek/cluster/nodeid/{id}/"), hello);
        this
    }

    fn send(&mut self, to: &str, payload: Vec<u8>) {
        let (to, payload) = (topic(to), Bytes::from(payload));
        let _ = self.publisher.publish_encoded(&to, payload, Class::Event);
    }
}

fn rows<const N: usize>(uids: [&str; N]) -> [String; N] {
    uids.map(|uid| format!("conn: [1970-01-01T00:00:01.5Z, \"{uid}\"]"))
}

async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zeek_workers_records_reach_the_loggers_sink() {
    let port = free_port();
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\" }}, \
         {{ name = \"logger\", role = \"logger\", port = {port} }}, \
         {{ name = \"worker-1\", role = \"worker\" }}]"
    );
    let sink = Memory::default();
    let logger = start(&text, "logger", &sink).await;
    let mut zeek = Zeek::beside("logger", port).await;
    // Before the description: refused, and counted. Behind it, on each of the topics that Zeek uses.
    zeek.send("zeek/cluster/node/logger/", log_writes(&["C0"]));
    zeek.send("zeek/logs/Conn::LOG", log_create());
    zeek.send("zeek/cluster/node/logger/", log_writes(&["C1", "C2"]));
    zeek.send("zeek/cluster/pool/logger", log_writes(&["C3"]));
    zeek.send("zeek/logs/Conn::LOG", log_writes(&["C4"]));

    let expected = rows(["C1", "C2", "C3", "C4"]);
    until(|| sink.0.lock().unwrap().len() >= expected.len()).await;
    let last = logger.stop(Duration::from_secs(5)).await;
    assert_eq!(*sink.0.lock().unwrap(), expected);
    let counts = &last.counts;
    assert_eq!((counts.records_received, counts.records_written), (4, 4));
    assert_eq!(
        (counts.records_refused.total(), counts.events_refused),
        (1, 0)
    );
}

/// The logger beside the worker writes nothing: it keeps what it hears until another one has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_logger_beside_a_zeek_worker_gives_on_what_it_logs() {
    let (beside, port) = (free_port(), free_port());
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\" }}, \
         {{ name = \"beside\", role = \"logger\", port = {beside}, options = {{ \"logging.forward\" = true }} }}, \
         {{ name = \"logger\", role = \"logger\", port = {port} }}, \
         {{ name = \"worker-1\", role = \"worker\" }}]"
    );
    let (nowhere, sink) = (Memory::default(), Memory::default());
    let forwarder = start(&text, "beside", &nowhere).await;
    let mut zeek = Zeek::beside("beside", beside).await;
    zeek.send("zeek/logs/Conn::LOG", log_create());
    zeek.send("zeek/cluster/node/beside/", log_writes(&["C1", "C2"]));
    until(|| forwarder.report().waiting_records == 2).await;
    let logger = start(&text, "logger", &sink).await;
    zeek.send("zeek/cluster/node/beside/", log_writes(&["C3"]));
    until(|| forwarder.report().counts.records_acknowledged == 3).await;
    let counts = forwarder.stop(Duration::from_secs(5)).await.counts;
    logger.stop(Duration::from_secs(5)).await;
    assert_eq!(*sink.0.lock().unwrap(), rows(["C1", "C2", "C3"]));
    assert!(nowhere.0.lock().unwrap().is_empty());
    assert_eq!((counts.records_received, counts.records_logged), (3, 3));
}
