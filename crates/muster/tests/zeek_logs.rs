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
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Node, NodeConfig, Subscriber, Tls,
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

#[tokio::test(flavor = "multi_thread")]
async fn a_zeek_workers_records_reach_the_loggers_sink() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\" }}, \
         {{ name = \"logger\", role = \"logger\", port = {port} }}, \
         {{ name = \"worker-1\", role = \"worker\" }}]"
    );
    let sink = Memory::default();
    let config = NodeConfig {
        layout: Arc::new(Layout::parse(&text, "test", &[]).unwrap()),
        name: "logger".to_owned(),
        registry: Registry::new(),
        log_sink: Box::new(sink.clone()),
        input: None,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: std::env::temp_dir(),
    };
    let logger = Node::start(config).await.unwrap();

    let zeek = Endpoint::start(EndpointConfig {
        forwarding: Forwarding::Direct,
        ..EndpointConfig::default()
    })
    .unwrap();
    let own_topic = format!("zeek/cluster/nodeid/{}/", zeek.id());
    let mut heard = zeek.subscribe([own_topic.as_str()]).await;
    let address = format!("127.0.0.1:{port}");
    within(zeek.peer(&address, Some(Duration::from_millis(50))))
        .await
        .unwrap();
    let (name, id) = hello(&mut heard).await;
    assert_eq!(name, "logger");
    let mut publisher = zeek.publisher();
    let mut send = |to: &str, payload: Vec<u8>| {
        let _ = publisher.publish_encoded(&topic(to), Bytes::from(payload), Class::Event);
    };
    let mut hello = Vec::new();
    put_event(&mut hello, "Cluster::hello", Metadata::default(), |out| {
        ["worker-1".to_owned(), zeek.id().to_string()].encode(out);
    });
    send(&format!("zeek/cluster/nodeid/{id}/"), hello);
    // Before the description: refused, and counted. Behind it, on each of the topics that Zeek uses.
    send("zeek/cluster/node/logger/", log_writes(&["C0"]));
    send("zeek/logs/Conn::LOG", log_create());
    send("zeek/cluster/node/logger/", log_writes(&["C1", "C2"]));
    send("zeek/cluster/pool/logger", log_writes(&["C3"]));
    send("zeek/logs/Conn::LOG", log_writes(&["C4"]));

    let expected =
        ["C1", "C2", "C3", "C4"].map(|uid| format!("conn: [1970-01-01T00:00:01.5Z, \"{uid}\"]"));
    within(async {
        while sink.0.lock().unwrap().len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let last = logger.stop(Duration::from_secs(5)).await;
    assert_eq!(*sink.0.lock().unwrap(), expected);
    let counts = &last.counts;
    assert_eq!((counts.records_received, counts.records_written), (4, 4));
    assert_eq!(
        (counts.records_refused.total(), counts.events_refused),
        (1, 0)
    );
}
