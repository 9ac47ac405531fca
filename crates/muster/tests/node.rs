//! Nodes as library objects: a manager and a worker of one layout in this process, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster::cluster::node::{
    Context, CounterSpec, Declarations, Framework, LogBatch, LogDelivery, LogSink, NodeLife,
    Registry, Site, TroubleCause, Written,
};
use muster::cluster::{Layout, Role};
use muster::data::{Record, Timestamp};
use muster::store::{
    CloneOptions, PrimaryOptions, StoreErrorKind, StoreFinder, StoreName, StoreNeed, StoreState,
    WriteRefusal,
};
use muster::wire::zeek::{Metadata, put_event};
use muster::{
    Endpoint, EndpointConfig, Exposure, Input, InputBatch, Node, NodeConfig, NodeState, Tls,
};
use muster_data::Encode;

#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::seen")]
struct Seen {
    number: u64,
}

/// A worker passes on what its input raises; the manager logs it, and who comes and goes.
struct Relay(Role);

impl Framework for Relay {
    const NAME: &'static str = "relay";

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new("down", "Nodes that went.")];

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self(site.node.role))
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::seen);
        declarations.stream::<Seen>("seen");
    }

    fn node_down(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        assert_eq!(node.name, "worker");
        cx.count("down", 1);
    }
}

impl Relay {
    fn seen(&mut self, seen: Seen, cx: &mut Context<'_>) {
        if self.0 == Role::Worker {
            let manager = cx.topic_for_manager();
            cx.publish(&manager, &seen).unwrap();
        } else {
            assert_ne!(seen.number, 7, "the manager cannot bear this one");
            cx.log("seen", &seen).unwrap();
        }
    }
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u64>>>);

impl LogSink for Memory {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        let rows = batch.rows().map(|row| row.to::<Seen>().unwrap().number);
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

fn input() -> Input {
    Box::new(|sender| {
        for number in 0..100u64 {
            let mut batch = InputBatch {
                low: Some(Timestamp::from_secs(1_000)),
                ..InputBatch::default()
            };
            let metadata = Metadata {
                timestamp: Some(Timestamp::from_secs(1_000)),
                ..Metadata::default()
            };
            put_event(&mut batch.buffer, Seen::NAME, metadata, |out| {
                Seen { number }.encode(out);
            });
            batch.events.push(0..batch.buffer.len());
            if sender.send(batch).is_err() {
                return;
            }
        }
        sender.finish("all sent".to_owned());
    })
}

async fn node(layout: &Arc<Layout>, name: &str, sink: Memory, input: Option<Input>) -> Node {
    let config = NodeConfig {
        layout: Arc::clone(layout),
        name: name.to_owned(),
        registry: Registry::new().with::<Relay>(),
        log_sink: Box::new(sink),
        input,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: std::env::temp_dir(),
    };
    Node::start(config).await.unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect(what);
}

/// Ports that were free a moment ago must not be taken by the other test meanwhile.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_s_input_reaches_the_manager_s_log() {
    let _alone = ALONE.lock().await;
    let listeners: Vec<_> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let ports: Vec<u16> = listeners
        .iter()
        .map(|l| l.local_addr().unwrap().port())
        .collect();
    drop(listeners);
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\", port = {} }}, {{ name = \"worker\", role = \"worker\", port = {}, input = [\"x\"] }}]",
        ports[0], ports[1]
    );
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let written = Memory::default();
    let manager = node(&layout, "manager", written.clone(), None).await;
    let worker = node(&layout, "worker", Memory::default(), Some(input())).await;
    until("both are ready", || {
        manager.report().state == NodeState::Ready && worker.report().state == NodeState::Ready
    })
    .await;
    until("the input has ended", || {
        worker.report().input_ended == Some(true)
    })
    .await;

    let last = worker.stop(Duration::from_secs(5)).await;
    assert_eq!(last.counts.events_refused, 0);
    until("the manager has seen it go", || {
        manager.report().counts.of_frameworks("down") == 1
    })
    .await;
    assert_eq!(manager.report().state, NodeState::Degraded);

    let last = manager.stop(Duration::from_secs(5)).await;
    // One handler panicked: that cost one event, and it is counted.
    assert_eq!((last.counts.panics, last.counts.records_written), (1, 99));
    let expected: Vec<u64> = (0..100).filter(|number| *number != 7).collect();
    assert_eq!(*written.0.lock().unwrap(), expected);
}

/// A node that is only dropped stops in order, although somebody still looks at it, and another can have its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_dropped_stops_in_order() {
    let _alone = ALONE.lock().await;
    let [manager, worker] = free_ports();
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\", port = {manager} }}, {{ name = \"worker\", role = \"worker\", port = {worker} }}]"
    );
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let manager = node(&layout, "manager", Memory::default(), None).await;
    let mut reporters = Vec::new();
    for life in 1..=3 {
        let worker = node(&layout, "worker", Memory::default(), None).await;
        until("both are ready", || {
            manager.report().state == NodeState::Ready && worker.report().state == NodeState::Ready
        })
        .await;
        let reporter = worker.reporter();
        drop(worker);
        until("the manager has seen it go", || {
            manager.report().counts.of_frameworks("down") == life
        })
        .await;
        // The next one listens where it did.
        reporters.push(reporter);
    }
    manager.stop(Duration::from_secs(5)).await;
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// An author asks for a store by name; the layout says where it is, and what is durable outlives the nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_where_the_layout_puts_it_and_outlives_its_nodes() {
    let _alone = ALONE.lock().await;
    let [manager, worker] = free_ports();
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\", port = {manager} }}, {{ name = \"worker\", role = \"worker\", port = {worker} }}]"
    );
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let start = async |name: &str| {
            let config = NodeConfig {
                layout: Arc::clone(&layout),
                name: name.to_owned(),
                registry: Registry::new(),
                log_sink: Box::new(Memory::default()),
                input: None,
                tls: Tls::Off,
                exposure: Exposure::Guarded,
                spool: None,
                base: directory.path().to_owned(),
            };
            Node::start(config).await.unwrap()
        };
        // The worker is first: nobody has the master yet.
        let worker = start("worker").await;
        let store = worker.store("a/b").persistent().open().await.unwrap();
        let store = store.typed::<String, u64>();
        assert!(!store.is_primary());
        let put = store.clone().within(Duration::from_secs(20));
        let put = tokio::spawn(async move { put.increment("runs", &1u64).await });
        let manager = start("manager").await;
        assert_eq!(put.await.unwrap().unwrap(), round + 1);
        assert_eq!(store.get("runs").await.unwrap(), Some(round + 1));
        let same = manager.store("a/b").open().await.unwrap();
        assert_eq!(same.is_persistent(), Some(true));
        worker.stop(Duration::from_secs(5)).await;
        manager.stop(Duration::from_secs(5)).await;
        assert!(directory.path().join("muster/stores/a_b.sqlite").exists());
    }
}

/// The node that has the masters knows nothing of stores when it begins anew: those who use them ask it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_node_that_begins_anew_is_asked_for_its_stores_again() {
    let _alone = ALONE.lock().await;
    let [manager, worker] = free_ports();
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\", port = {manager} }}, {{ name = \"worker\", role = \"worker\", port = {worker} }}]"
    );
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let manager = node(&layout, "manager", Memory::default(), None).await;
    let worker = node(&layout, "worker", Memory::default(), None).await;
    let store = worker.store("in/memory").open().await.unwrap();
    let store = store.typed::<String, u64>().within(Duration::from_secs(20));
    store.put("a", &1u64).await.unwrap();
    manager.stop(Duration::from_secs(5)).await;
    let manager = node(&layout, "manager", Memory::default(), None).await;
    store.put("b", &2u64).await.unwrap();
    assert_eq!(store.get("b").await.unwrap(), Some(2));
    assert_eq!(store.get("a").await.unwrap(), None, "it was in memory");
    worker.stop(Duration::from_secs(5)).await;
    manager.stop(Duration::from_secs(5)).await;
}

/// A program without a layout has stores opened where they belong, and none is opened beside one that it has itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_a_layout_has_a_store_opened() {
    let _alone = ALONE.lock().await;
    let [manager] = free_ports();
    let text = format!("node = [{{ name = \"manager\", role = \"manager\", port = {manager} }}]");
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let node = node(&layout, "manager", Memory::default(), None).await;
    let program = Endpoint::start(EndpointConfig::default()).unwrap();
    let mut finder = StoreFinder::new(&program).await;
    let peer = program.peer(&format!("127.0.0.1:{manager}"), None).await;
    let peer = peer.unwrap().id;
    let limit = Duration::from_secs(20);
    let [own, theirs] = ["of/program", "of/node"].map(|name| StoreName::new(name).unwrap());

    let absent = finder.ask(peer, &theirs, StoreNeed::Existing, limit).await;
    assert_eq!(absent, Some(StoreState::Absent));
    assert!(!finder.sees(&theirs));
    let opened = finder.ask(peer, &theirs, StoreNeed::Any, limit).await;
    assert_eq!(opened, Some(StoreState::Open));
    until("the primary in sight", || finder.sees(&theirs)).await;
    let clone = program.open_clone(&theirs, CloneOptions::default()).await;
    let clone = clone.unwrap().typed::<String, u64>().within(limit);
    clone.put("a", &1u64).await.unwrap();
    let same = node.store("of/node").open().await.unwrap();
    assert!(same.is_primary());
    assert_eq!(same.typed::<String, u64>().get("a").await.unwrap(), Some(1));

    let _primary = program.open_primary(&own, PrimaryOptions::default()).await;
    let node_sees = StoreFinder::new(node.endpoint()).await;
    until("the program's primary", || node_sees.sees(&own)).await;
    let left = finder.ask(peer, &own, StoreNeed::Persistent, limit).await;
    assert_eq!(left, Some(StoreState::Open));
    let reports = node.endpoint().store_reports();
    let names: Vec<_> = reports.iter().map(|report| report.name.as_str()).collect();
    assert_eq!(names, ["of/node"]);

    // Through a relay that is no node, such as an agent.
    let relay = Endpoint::start(EndpointConfig::default()).unwrap();
    let address = relay.listen("127.0.0.1:0".parse().unwrap(), Exposure::Guarded);
    let address = address.await.unwrap().to_string();
    relay
        .peer(&format!("127.0.0.1:{manager}"), None)
        .await
        .unwrap();
    let far = Endpoint::start(EndpointConfig::default()).unwrap();
    let mut finder = StoreFinder::new(&far).await;
    let peer = far.peer(&address, None).await.unwrap().id;
    let third = StoreName::new("third").unwrap();
    let opened = finder.ask(peer, &third, StoreNeed::Any, limit).await;
    assert_eq!(opened, Some(StoreState::Open));
    node.stop(Duration::from_secs(5)).await;
}

/// Each store had a bound of its own, and all of a node together had none. What has no room is refused by name and the
/// node is not ready; a node without room for a copy asks the primary.
#[tokio::test(flavor = "multi_thread")]
async fn stores_of_a_node_have_a_bound_together() {
    let _alone = ALONE.lock().await;
    let [manager, worker] = free_ports();
    let few = "options = { \"stores.node_memory_limit\" = 600 }";
    let text = format!(
        "stores.node_memory_limit = 4000\n\
         node = [{{ name = \"manager\", role = \"manager\", port = {manager} }}, \
         {{ name = \"worker\", role = \"worker\", port = {worker}, {few} }}]"
    );
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let manager = node(&layout, "manager", Memory::default(), None).await;
    let worker = node(&layout, "worker", Memory::default(), None).await;
    let mut stores = Vec::new();
    for name in ["a", "b", "c"] {
        let store = worker.store(name).open().await.unwrap();
        let store = store.typed::<String, String>();
        stores.push(store.within(Duration::from_secs(20)));
    }
    let large = "x".repeat(1000);
    for store in &stores {
        store.put("1", &large).await.unwrap();
    }
    let refused = stores[1].put("2", &large).await.unwrap_err();
    let reason = StoreErrorKind::Refused(WriteRefusal::OverBudget);
    assert_eq!(refused.kind(), &reason, "{refused}");
    for store in &stores {
        assert_eq!(store.get("1").await.unwrap(), Some(large.clone()));
        assert_eq!(store.get("2").await.unwrap(), None);
    }
    for (node, missing) in [(&manager, 0), (&worker, 3)] {
        let report = loop {
            let report = node.report();
            let mut troubles = report.troubles.iter();
            let is_told = troubles.any(|trouble| trouble.cause == TroubleCause::StoreMemory);
            if is_told && report.store_memory.missing_copies == missing {
                break report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(report.state, NodeState::Degraded);
        assert!(report.store_memory.used <= report.store_memory.limit);
    }
    assert_eq!(manager.report().store_memory.refused, 1);
    // What makes room helps those who are not there yet, and what is erased is gone for all.
    stores[0].erase("1").await.unwrap();
    stores[1].put("2", &large).await.unwrap();
    assert_eq!(stores[1].get("2").await.unwrap(), Some(large));
    worker.stop(Duration::from_secs(5)).await;
    manager.stop(Duration::from_secs(5)).await;
}
