//! A worker of ours logs to a Zeek logger, played by an endpoint, over a real socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster::cluster::node::{
    Context, Declarations, Framework, LogBatch, LogDelivery, LogSink, Registry, Site, Written,
};
use muster::cluster::{Layout, Role};
use muster::data::{Record, Timestamp};
use muster::wire::zeek::serial::{Value, read_record};
use muster::wire::zeek::{Message, Metadata, put_event};
use muster::wire::{Class, EndpointId, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, Node, NodeConfig, Tls};
use muster_data::{DataRef, Encode};
use muster_test_support::within;

#[derive(Record)]
#[record(name = "Known::HostsInfo")]
struct Host {
    ts: Timestamp,
    host: std::net::IpAddr,
}

/// Logs ten hosts when it starts.
struct Hosts;

impl Framework for Hosts {
    const NAME: &'static str = "hosts";

    fn create(site: &Site<'_>) -> Option<Self> {
        site.is(Role::Worker).then_some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.zeek_stream::<Host>("known_hosts", "Known::HOSTS_LOG");
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        for number in 0..10 {
            let ts = Timestamp::from_secs(number.into());
            let host = std::net::Ipv4Addr::new(10, 0, 0, number).into();
            cx.log("known_hosts", &Host { ts, host }).unwrap();
        }
    }
}

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&mut self, _: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        unreachable!("a worker writes no logs")
    }

    fn tick(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_records_reach_a_zeek_logger_behind_their_description() {
    let zeek = Endpoint::start(EndpointConfig {
        forwarding: Forwarding::Direct,
        ..EndpointConfig::default()
    })
    .unwrap();
    let own_topic = format!("zeek/cluster/nodeid/{}/", zeek.id());
    let topics = [
        own_topic.as_str(),
        "zeek/cluster/node/logger/",
        "zeek/logs/",
    ];
    let mut heard = zeek.subscribe(topics).await;
    let any = "127.0.0.1:0".parse().unwrap();
    let address = zeek.listen(any, Exposure::Guarded).await.unwrap();

    let text = format!(
        "logging = {{ batch_size = 4 }}\n\
         node = [{{ name = \"manager\", role = \"manager\" }}, \
         {{ name = \"logger\", role = \"logger\", port = {} }}, \
         {{ name = \"worker\", role = \"worker\" }}]",
        address.port()
    );
    let worker = Node::start(NodeConfig {
        layout: Arc::new(Layout::parse(&text, "test", &[]).unwrap()),
        name: "worker".to_owned(),
        registry: Registry::new().with::<Hosts>(),
        log_sink: Box::new(Nowhere),
        input: None,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: std::env::temp_dir(),
    })
    .await
    .unwrap();

    let mut publisher = zeek.publisher();
    let mut answer = |id: &str| {
        let mut hello = Vec::new();
        put_event(&mut hello, "Cluster::hello", Metadata::default(), |out| {
            ["logger".to_owned(), zeek.id().to_string()].encode(out);
        });
        let topic = Topic::new(format!("zeek/cluster/nodeid/{id}/")).unwrap();
        let _ = publisher.publish_encoded(&topic, Bytes::from(hello), Class::Event);
    };
    let mut hosts = Vec::new();
    while hosts.len() < 10 {
        let Some(Delivery::Batch(batch)) = within(heard.receive()).await else {
            continue;
        };
        for message in batch.iter() {
            match Message::read(DataRef::from_validated(message.payload)).unwrap() {
                Message::Event(event) if event.name() == "Cluster::hello" => {
                    let (name, id): (String, String) = event.arguments().to().unwrap();
                    assert_eq!(name, "worker");
                    assert!(id.parse::<EndpointId>().is_ok());
                    answer(&id);
                }
                // What nodes of ours tell one another, and Zeek takes no notice of.
                Message::Event(event) => assert!(event.name().starts_with("Muster::")),
                Message::Batch(batch) => {
                    let mut messages = batch.iter();
                    assert!(matches!(
                        messages.next(),
                        Some(Message::LogCreate(create)) if create.stream == "Known::HOSTS_LOG"
                            && create.info.path == "known_hosts"
                    ));
                    for message in messages {
                        let Message::LogWrite(write) = message else {
                            panic!("no record: {message:?}");
                        };
                        let record = read_record(write.serial_data).unwrap();
                        let [Value::Time(seconds), Value::Addr(host)] = record[..] else {
                            panic!("{record:?}");
                        };
                        hosts.push(format!("{seconds} {host}"));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let expected: Vec<_> = (0..10).map(|n| format!("{n} 10.0.0.{n}")).collect();
    assert_eq!(hosts, expected);
    let last = worker.stop(Duration::from_secs(5)).await;
    assert_eq!(
        (last.counts.records_logged, last.counts.records_sent),
        (10, 10)
    );
}
