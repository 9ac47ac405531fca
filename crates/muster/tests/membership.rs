//! Membership that can be relied on, with real nodes over real sockets: who restarts, who runs twice, who
//! is late, who is reached only through another, and what is published before everybody is ready.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "a handler takes its event by value"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster::cluster::node::{
    Context, Declarations, Framework, LogBatch, LogDelivery, LogSink, NodeLife, Registry, Site,
    Written,
};
use muster::cluster::{Layout, NodeName, Role};
use muster::data::{DataRef, Record, Timestamp};
use muster::wire::zeek::{EventRef, Metadata, put_event};
use muster::wire::{Class, EndpointId, Topic};
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, ListenError, Node, NodeConfig,
    NodeStartError, NodeState, Outcome, Quorum, ReadyError, Subscriber, Tls,
};
use muster_data::Encode;

const LONG: Duration = Duration::from_secs(30);

/// The nodes of most tests; workers are linked with all but one another.
const NAMES: [&str; 5] = ["manager", "data-1", "worker-1", "worker-2", "worker-3"];

#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::note")]
struct Note {
    number: u64,
}

/// What the nodes of each test have seen: the node, and what it saw, in its order.
static SEEN: Mutex<BTreeMap<String, Vec<(String, String)>>> = Mutex::new(BTreeMap::new());

/// Writes down who comes and goes, and what is heard. The layout's file is the test's name.
struct Witness {
    test: String,
    me: NodeName,
}

impl Framework for Witness {
    const NAME: &'static str = "witness";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            test: site.layout.file().to_owned(),
            me: site.node.name.clone(),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::note);
    }

    fn node_up(&mut self, node: &NodeLife, _: &mut Context<'_>) {
        self.saw(format!("up {} {}", node.name, node.id));
    }

    fn node_down(&mut self, node: &NodeLife, _: &mut Context<'_>) {
        self.saw(format!("down {} {}", node.name, node.id));
    }
}

impl Witness {
    fn note(&mut self, note: Note, _: &mut Context<'_>) {
        self.saw(format!("heard {}", note.number));
    }

    fn saw(&self, what: String) {
        let mut seen = SEEN.lock().unwrap();
        let of_test = seen.entry(self.test.clone()).or_default();
        of_test.push((self.me.to_string(), what));
    }
}

/// What a node saw of one kind.
fn seen(test: &str, node: &str, kind: &str) -> Vec<String> {
    let seen = SEEN.lock().unwrap();
    let of_test = seen.get(test).into_iter().flatten();
    of_test
        .filter(|(who, what)| who == node && what.contains(kind))
        .map(|(_, what)| what.clone())
        .collect()
}

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
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

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn layout(test: &str, nodes: &[(&str, u16)]) -> Arc<Layout> {
    let mut text = "[peering]\nretry = \"100ms\"\n".to_owned();
    for (name, port) in nodes {
        let role = name.split('-').next().unwrap();
        let node = format!("[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nport = {port}\n");
        text.push_str(&node);
    }
    Arc::new(Layout::parse(&text, test, &[]).unwrap())
}

async fn try_start(layout: &Arc<Layout>, name: &str) -> Result<Node, NodeStartError> {
    let config = NodeConfig {
        layout: Arc::clone(layout),
        name: name.to_owned(),
        registry: Registry::new().with::<Witness>(),
        log_sink: Box::new(Nowhere),
        input: None,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: std::env::temp_dir(),
    };
    Node::start(config).await
}

/// A cluster in this process, of [`NAMES`].
struct Cluster {
    test: &'static str,
    ports: [u16; NAMES.len()],
    layout: Arc<Layout>,
    nodes: BTreeMap<&'static str, Node>,
}

impl Cluster {
    async fn start(test: &'static str, names: &[&'static str]) -> Self {
        let ports = free_ports();
        let layout = layout(test, &NAMES.into_iter().zip(ports).collect::<Vec<_>>());
        let mut cluster = Self {
            test,
            ports,
            layout,
            nodes: BTreeMap::new(),
        };
        for name in names {
            cluster.start_node(name).await;
        }
        cluster
    }

    async fn start_node(&mut self, name: &'static str) {
        let node = started(&self.layout, name).await;
        self.nodes.insert(name, node);
    }

    /// The layout with another port for one node, as another process of its name has it, or as it is
    /// where nobody listens.
    fn with_port(&self, name: &str, port: u16) -> Arc<Layout> {
        let nodes = NAMES.into_iter().zip(self.ports);
        let changed = nodes.map(|(known, usual)| (known, if known == name { port } else { usual }));
        layout(self.test, &changed.collect::<Vec<_>>())
    }

    /// All nodes see all nodes.
    async fn all_ready(&self) {
        for node in self.nodes.values() {
            node.ready(Quorum::All, LONG).await.unwrap();
        }
    }

    async fn stop(self) {
        for (_, node) in self.nodes {
            node.stop(Duration::from_secs(5)).await;
        }
    }
}

/// Starts a node; the port of its life before may not be free yet.
async fn started(layout: &Arc<Layout>, name: &str) -> Node {
    loop {
        match try_start(layout, name).await {
            Ok(node) => return node,
            Err(NodeStartError::Listen(ListenError::System { .. })) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(LONG, wait).await;
    assert!(in_time.is_ok(), "{what}");
}

fn publish(node: &Node, topic: &Topic, number: u64) -> Outcome {
    let mut event = Vec::new();
    put_event(&mut event, Note::NAME, Metadata::default(), |out| {
        Note { number }.encode(out);
    });
    let mut publisher = node.endpoint().publisher();
    publisher.publish_encoded(topic, event.into(), Class::Event)
}

/// A node ends, in order or all at once, and comes back at once: the others, neighbours or not, see the
/// end of its first life before the beginning of the second.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_a_down_and_then_an_up_for_everybody() {
    for (test, name) in [
        ("restart of a leaf", "worker-1"),
        ("restart of a hub", "data-1"),
    ] {
        let mut cluster = Cluster::start(test, &NAMES).await;
        cluster.all_ready().await;
        let old = cluster.nodes.remove(name).unwrap();
        let first = old.endpoint().id();
        old.stop(Duration::from_secs(5)).await;
        cluster.start_node(name).await;
        let second = cluster.nodes[name].endpoint().id();
        cluster.all_ready().await;
        expect_lives(test, name, &[first, second]);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_and_a_restart_within_a_moment_are_seen_in_order() {
    for (test, name) in [
        ("crash of a leaf", "worker-1"),
        ("crash of a hub", "data-1"),
    ] {
        let others: Vec<_> = NAMES.into_iter().filter(|other| *other != name).collect();
        let mut cluster = Cluster::start(test, &others).await;
        // A process of its own, as far as its sockets go.
        let process = tokio::runtime::Runtime::new().unwrap();
        let layout = Arc::clone(&cluster.layout);
        let node = process.spawn(async move { started(&layout, name).await });
        let node = node.await.unwrap();
        let first = node.endpoint().id();
        node.ready(Quorum::All, LONG).await.unwrap();
        cluster.all_ready().await;
        process.shutdown_background();
        cluster.start_node(name).await;
        drop(node);
        let second = cluster.nodes[name].endpoint().id();
        cluster.all_ready().await;
        expect_lives(test, name, &[first, second]);
        cluster.stop().await;
    }
}

/// Every other node saw these lives of a node, one after the other.
fn expect_lives(test: &str, name: &str, lives: &[EndpointId]) {
    let mut expected = Vec::new();
    for (number, life) in lives.iter().enumerate() {
        if let Some(before) = number.checked_sub(1) {
            expected.push(format!("down {name} {}", lives[before]));
        }
        expected.push(format!("up {name} {life}"));
    }
    for other in NAMES.into_iter().filter(|other| *other != name) {
        assert_eq!(seen(test, other, &format!(" {name} ")), expected, "{other}");
    }
}

/// The teller and the text of everything that tells a life to leave.
fn told_to_leave(observer: &mut Subscriber) -> Vec<(EndpointId, String)> {
    let mut told = Vec::new();
    while let Ok(delivery) = observer.try_receive() {
        let Delivery::Batch(batch) = delivery else {
            continue;
        };
        for message in batch.iter() {
            let event = EventRef::read(DataRef::from_validated(message.payload)).unwrap();
            if event.name() == "Muster::leave" {
                told.push((message.from, event.arguments().to_string()));
            }
        }
    }
    told
}

/// A second process of a living name is told by everybody to leave, those included that have no link
/// with it, and the first stays.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_process_of_a_name_has_to_leave() {
    let test = "twice";
    let cluster = Cluster::start(test, &NAMES).await;
    cluster.all_ready().await;
    let observer = Endpoint::start(EndpointConfig {
        forwarding: Forwarding::Leaf,
        ..EndpointConfig::default()
    })
    .unwrap();
    let mut told = observer.subscribe(["zeek/cluster/nodeid/"]).await;
    let manager = format!("127.0.0.1:{}", cluster.ports[0]);
    observer.peer(&manager, None).await.unwrap();
    let known_everywhere = || {
        let ends = cluster.nodes.values().map(Node::endpoint);
        ends.into_iter()
            .all(|end| end.mesh().iter().any(|node| node.id == observer.id()))
    };
    until("the observer is known", known_everywhere).await;

    let [port] = free_ports();
    let second = started(&cluster.with_port("worker-1", port), "worker-1").await;
    let second_id = second.endpoint().id();
    until("the second leaves", || !second.is_running()).await;
    let mut leaves = Vec::new();
    let worker = cluster.nodes["worker-2"].endpoint().id();
    until("a worker has told it, too", || {
        leaves.extend(told_to_leave(&mut told));
        leaves.iter().any(|(from, _)| *from == worker)
    })
    .await;
    let first = cluster.nodes["worker-1"].endpoint().id();
    for (_, text) in &leaves {
        for part in ["worker-1", &second_id.to_string(), &first.to_string()] {
            assert!(text.contains(part), "{text} names {part}");
        }
    }
    let err = second.ready(Quorum::All, LONG).await.unwrap_err();
    assert_eq!(err, ReadyError::Stopped);
    second.stop(Duration::from_secs(5)).await;
    assert!(cluster.nodes["worker-1"].is_running());
    cluster.all_ready().await;
    expect_lives(test, "worker-1", &[first]);
    cluster.stop().await;
}

/// Those that wait for a node that is late are told who lacks, and go on when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_node_is_waited_for_and_named() {
    let mut cluster = Cluster::start("late", &NAMES[..4]).await;
    let some = Quorum::OfRole(Role::Worker, 2);
    let waiting = &cluster.nodes["worker-1"];
    waiting.ready(some.clone(), LONG).await.unwrap();
    let hubs = Quorum::Roles(vec![Role::Manager, Role::Proxy]);
    // A layout's `data` is a proxy by its role.
    waiting.ready(hubs, LONG).await.unwrap();
    let wait = waiting.ready(Quorum::All, Duration::from_secs(1));
    let error = wait.await.unwrap_err();
    let ReadyError::NotReady(lack) = &error else {
        panic!("{error}");
    };
    assert_eq!((lack.mutual, lack.wanted), (4, 5));
    assert!(lack.silent.is_empty() && lack.blind.is_empty(), "{error}");
    assert_eq!(
        error.to_string(),
        "not ready in time: 4 of 5 nodes are mutually up; not up: worker-3"
    );
    // All wait while it comes.
    let late = started(&cluster.layout, "worker-3");
    let waits = async {
        for node in cluster.nodes.values() {
            node.ready(Quorum::All, LONG).await.unwrap();
        }
    };
    let (late, ()) = tokio::join!(late, waits);
    late.ready(Quorum::All, LONG).await.unwrap();
    cluster.nodes.insert("worker-3", late);
    let too_many = cluster.nodes["manager"].ready(Quorum::OfRole(Role::Worker, 4), LONG);
    assert_eq!(
        too_many.await.unwrap_err(),
        ReadyError::TooFew {
            wanted: 4,
            there: 3
        }
    );
    cluster.stop().await;
}

/// A worker that cannot dial one of its hubs is a member all the same, for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_reached_through_another_is_a_member() {
    let test = "through another";
    let mut cluster = Cluster::start(test, &NAMES[..4]).await;
    // Nobody listens where it dials the data node.
    let [nowhere] = free_ports();
    let apart = started(&cluster.with_port("data-1", nowhere), "worker-3").await;
    cluster.nodes.insert("worker-3", apart);
    cluster.all_ready().await;
    let apart = &cluster.nodes["worker-3"];
    let peers = |node: &Node| node.endpoint().peers().len();
    assert_eq!(peers(apart), 1, "the manager alone");
    let report = |name: &str| cluster.nodes[name].report();
    until("both know of their missing link", || {
        report("worker-3").detours == ["data-1"] && report("data-1").detours == ["worker-3"]
    })
    .await;
    assert_eq!(report("worker-3").state, NodeState::Ready);
    assert!(report("worker-2").detours.is_empty());
    // Either hears the other, once.
    let data = Topic::new("zeek/cluster/node/data-1/").unwrap();
    let worker = Topic::new("zeek/cluster/node/worker-3/").unwrap();
    for number in 0..100 {
        for (from, topic) in [("worker-3", &data), ("data-1", &worker)] {
            let outcome = publish(&cluster.nodes[from], topic, number);
            assert_eq!((outcome.queued_to, outcome.dropped), (1, 0));
        }
    }
    let expected: Vec<_> = (0..100).map(|number| format!("heard {number}")).collect();
    for node in ["data-1", "worker-3"] {
        until("all is heard", || {
            seen(test, node, "heard").len() >= expected.len()
        })
        .await;
        assert_eq!(seen(test, node, "heard"), expected);
    }
    cluster.stop().await;
}

/// What a node publishes from its first moment on arrives, or the publisher is told that nobody takes
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_silence_before_all_are_ready() {
    let test = "early";
    let mut cluster = Cluster::start(test, &NAMES[..4]).await;
    for node in cluster.nodes.values() {
        let hubs = Quorum::Roles(vec![Role::Manager, Role::Proxy]);
        node.ready(hubs, LONG).await.unwrap();
        let workers = Quorum::OfRole(Role::Worker, 2);
        node.ready(workers, LONG).await.unwrap();
    }
    cluster.start_node("worker-3").await;
    let early = &cluster.nodes["worker-3"];
    let topic = Topic::new("zeek/cluster/all/").unwrap();
    let (taken, _) = publish_until_ready(early, &topic, 0).await;
    for node in &NAMES[..4] {
        until("all is heard", || {
            seen(test, node, "heard").last() == taken.last()
        })
        .await;
        assert_eq!(seen(test, node, "heard"), taken, "{node}");
    }
    cluster.stop().await;
}

/// All nodes start at once and publish from their first moment on: each message that was taken is heard
/// by somebody, by nobody twice, and from the moment of readiness on by everybody.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_in_silence_when_all_start_at_once() {
    let test = "all at once";
    let mut cluster = Cluster::start(test, &[]).await;
    let topic = Topic::new("zeek/cluster/all/").unwrap();
    let starts = NAMES.into_iter().zip(1u64..).map(|(name, number)| {
        let (layout, topic) = (Arc::clone(&cluster.layout), topic.clone());
        tokio::spawn(async move {
            let node = started(&layout, name).await;
            let (taken, last) = publish_until_ready(&node, &topic, number * 1_000_000).await;
            (name, node, taken, last)
        })
    });
    let starts: Vec<_> = starts.collect();
    let mut taken = BTreeMap::new();
    for start in starts {
        let (name, node, of_node, last) = start.await.unwrap();
        cluster.nodes.insert(name, node);
        taken.insert(name, (of_node, last));
    }
    for node in NAMES {
        let others = taken.iter().filter(|(name, _)| **name != node);
        let lasts: Vec<_> = others.map(|(_, (_, last))| last.clone()).collect();
        until("what came last is heard", || {
            let heard = seen(test, node, "heard");
            lasts.iter().all(|last| heard.contains(last))
        })
        .await;
    }
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for node in NAMES {
        let mut heard = seen(test, node, "heard");
        let all = heard.len();
        heard.sort_unstable();
        heard.dedup();
        assert_eq!(heard.len(), all, "{node} heard something twice");
        for note in heard {
            *times.entry(note).or_default() += 1;
        }
    }
    for (name, (of_node, last)) in &taken {
        for note in of_node {
            assert!(times.contains_key(note), "{name} was lost with {note}");
        }
        assert_eq!(times[last], NAMES.len() - 1, "{last} of {name}");
    }
    cluster.stop().await;
}

/// Publishes notes until all nodes are ready, and one more: those that were taken, and the last.
async fn publish_until_ready(node: &Node, topic: &Topic, first: u64) -> (Vec<String>, String) {
    let mut ready = Box::pin(node.ready(Quorum::All, LONG));
    let (mut taken, mut number) = (Vec::new(), first);
    loop {
        let moment = Duration::from_millis(1);
        let is_ready = tokio::time::timeout(moment, &mut ready).await;
        let outcome = publish(node, topic, number);
        assert_eq!((outcome.dropped, outcome.displaced), (0, 0), "{outcome:?}");
        if !outcome.no_subscriber() {
            taken.push(format!("heard {number}"));
        }
        number += 1;
        if let Ok(outcome) = is_ready {
            outcome.unwrap();
            return (taken.clone(), taken.pop().unwrap());
        }
    }
}
