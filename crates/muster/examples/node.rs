//! Two nodes of one layout with a framework: the worker reads its input, the manager logs what arrives.
//!
//! `cargo run -p muster --example node`
//!
//! In a cluster each node is a process, `muster run` starts them, and a logger writes the files; here both live in
//! one program, and what would be a file is a list.

#![allow(clippy::print_stdout, reason = "this is what the example is run for")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::error::Error;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster::cluster::node::{
    Context, Declarations, Framework, LogBatch, LogDelivery, LogSink, Registry, Site, Written,
};
use muster::cluster::{Layout, Role};
use muster::data::{Encode, Record, Timestamp};
use muster::wire::zeek::{Metadata, put_event};
use muster::{Exposure, Input, InputBatch, Node, NodeConfig, Quorum, Tls};

/// Nothing here takes longer, so that the example ends in any case.
const LIMIT: Duration = Duration::from_secs(20);

/// How many events the worker's input has.
const EVENTS: u64 = 10;

/// The event, and the record of the log.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Example::seen")]
struct Seen {
    number: u64,
}

/// The framework: a worker passes on what its input raises, the manager logs it.
struct PassOn(Role);

impl Framework for PassOn {
    const NAME: &'static str = "pass_on";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self(site.node.role))
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::seen);
        declarations.stream::<Seen>("seen");
    }
}

impl PassOn {
    fn seen(&mut self, seen: Seen, cx: &mut Context<'_>) {
        if self.0 == Role::Worker {
            let manager = cx.topic_for_manager();
            cx.publish(&manager, &seen).expect("`Seen` is declared");
        } else {
            cx.log("seen", &seen).expect("the stream is declared");
        }
    }
}

/// Where the manager's records go.
#[derive(Debug, Clone, Default)]
struct Rows(Arc<Mutex<Vec<u64>>>);

impl Rows {
    fn numbers(&self) -> Vec<u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl LogSink for Rows {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        let rows = batch.rows().filter_map(|row| row.to::<Seen>().ok());
        let mut numbers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.extend(rows.map(|row| row.number));
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

/// What the worker reads, on a thread of its own: events as Zeek writes them.
fn input() -> Input {
    Box::new(|sender| {
        let now = Timestamp::from_secs(1_700_000_000);
        for number in 0..EVENTS {
            let mut batch = InputBatch {
                low: Some(now),
                ..InputBatch::default()
            };
            let metadata = Metadata {
                timestamp: Some(now),
                ..Metadata::default()
            };
            put_event(&mut batch.buffer, Seen::NAME, metadata, |out| {
                Seen { number }.encode(out);
            });
            batch.events.push(0..batch.buffer.len());
            if sender.send(batch).is_err() {
                return; // the node stops
            }
        }
        sender.finish("all sent".to_owned());
    })
}

async fn start(
    layout: &Arc<Layout>,
    name: &str,
    rows: Rows,
    input: Option<Input>,
) -> Result<Node, Box<dyn Error>> {
    let config = NodeConfig {
        layout: Arc::clone(layout),
        name: name.to_owned(),
        registry: Registry::new().with::<PassOn>(),
        log_sink: Box::new(rows),
        input,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: PathBuf::from("."),
    };
    Ok(Node::start(config).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tokio::time::timeout(LIMIT, run()).await?
}

async fn run() -> Result<(), Box<dyn Error>> {
    // Nodes find one another by the ports of the layout, so these are chosen before: two that are free.
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0"));
    let [manager, worker] = free.map(|listener| listener?.local_addr());
    let text = format!(
        r#"
        [[node]]
        name = "manager"
        role = "manager"
        port = {}

        [[node]]
        name = "worker"
        role = "worker"
        port = {}
        input = ["a thread of this program"]
        "#,
        manager?.port(),
        worker?.port(),
    );
    let layout = Arc::new(Layout::parse(&text, "node.rs", &[])?);

    let rows = Rows::default();
    let manager = start(&layout, "manager", rows.clone(), None).await?;
    let worker = start(&layout, "worker", Rows::default(), Some(input())).await?;
    manager.ready(Quorum::All, LIMIT).await?;
    println!("both nodes see one another");

    while worker.report().input_ended != Some(true) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // In order: the worker publishes what it has before it goes, the manager writes what came.
    let last = worker.stop(Duration::from_secs(5)).await;
    println!("the worker published {} events", last.counts.events_out);
    while rows.numbers().len() < usize::try_from(EVENTS)? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = manager.stop(Duration::from_secs(5)).await;
    println!("the manager wrote {} records", last.counts.records_written);
    assert_eq!(rows.numbers(), (0..EVENTS).collect::<Vec<_>>());
    Ok(())
}
