//! A cluster whose nodes, links and clocks are simulated.

mod agent;
mod boxes;
mod clocks;
mod faults;
mod happening;
mod links;
mod lives;
mod log_files;
mod paths;
mod process;
mod reports;
mod spools;
mod stores;
mod voter_disk;

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_cluster::feed::{FeedLimits, FeedSabotage};
use muster_cluster::node::{
    Event, Input, KeyedSabotage, ModelHome, NodeCounts, Registry, RequestSabotage,
};
use muster_cluster::{Layout, Role, agent_dials, links};
use muster_data::{Data, Timestamp};
use muster_store::WriteOutcome;
use muster_wire::mesh::Sabotage;
use muster_wire::{Class, EndpointId, Filter, MessageId, Mono, Topic};

use self::boxes::Boxes;
use self::links::Connection;
use self::log_files::{LogDisk, MakeSink};
use self::process::Process;
use self::spools::SpoolDisk;
use self::stores::{Disks, NodeStores};
pub use self::stores::{Neglect, Write};
use crate::agenda::{Agenda, Item};
use crate::endpoint::Endpoint;
use crate::feed::{Feed, time_of};
use muster_test_support::Random;

use crate::nanos;

/// A cluster is idle when nothing but timers has happened for this long.
const QUIET: Duration = Duration::from_secs(60);

/// A simulation that should have ended goes on for this long at most.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A cluster in one thread and in simulated time, determined by a seed.
///
/// # Panics
/// It is made for tests, so its methods panic where a test is wrong: if the layout has an error, if
/// it has no node of the given name, or if the awaited condition does not come about.
pub struct Cluster {
    layout: Arc<Layout>,
    registry: Registry,
    seed: u64,
    random: Random,
    latency: RangeInclusive<Duration>,
    sabotage: Sabotage,
    /// The rule that all nodes' requests break.
    of_requests: RequestSabotage,
    of_keyed: KeyedSabotage,
    /// The rule that all nodes' feeds break, and the bounds that they have then.
    of_feeds: Option<(FeedSabotage, FeedLimits)>,
    disk_latency: RangeInclusive<Duration>,
    batch: usize,
    batch_every: Duration,
    /// Simulated nanoseconds.
    now: u64,
    last_activity: u64,
    /// The nodes of the layout in its order, and behind them the agents of its boxes.
    nodes: Vec<SimulatedNode>,
    boxes: Boxes,
    /// Pairs of positions in `nodes`.
    links: Vec<(usize, usize)>,
    connections: Vec<Connection>,
    /// Messages that only say that somebody lives.
    routine: HashSet<(MessageId, Class)>,
    agenda: Agenda,
    logged: BTreeMap<String, Vec<(usize, Data)>>,
    make_sink: Option<MakeSink>,
    has_spools: bool,
    lost: u64,
    transcript: Vec<String>,
    disks: Disks,
    /// What became of writes that no framework has asked for.
    outcomes: BTreeMap<u64, Option<WriteOutcome>>,
    started: bool,
}

#[derive(Default)]
struct SimulatedNode {
    name: String,
    is_zeek: bool,
    is_late: bool,
    lives: u64,
    /// The numbers of those that were killed.
    killed: Vec<u64>,
    life: Option<Life>,
    feed: Arc<Feed>,
    /// What its former lives counted.
    former: Vec<NodeCounts>,
    /// The box that it runs on, if the layout names it.
    of_box: Option<usize>,
    /// Since when its process does not run, though it lives.
    frozen_since: Option<u64>,
    /// What happened to it meanwhile.
    backlog: Vec<Item>,
    /// The spools of its lives.
    spool_home: ModelHome,
}

/// One life of a node.
struct Life {
    number: u64,
    process: Process,
    /// Its endpoint in the mesh; a Zeek process has none.
    endpoint: Option<Endpoint>,
    /// Whether what the endpoint wants done is being done.
    is_draining: bool,
    endpoint_wake: Option<u64>,
    id: EndpointId,
    filter: Arc<Filter>,
    connections: Vec<usize>,
    wake: Option<u64>,
    fed: usize,
    low: Option<Timestamp>,
    stores: NodeStores,
    log_disk: LogDisk,
    spool: SpoolDisk,
    /// Until when it may act by what coordinators have said last, by its own clock.
    lease_end: Mono,
}

impl Cluster {
    /// Makes a cluster of a layout (TOML, with the settings of the frameworks). It is not yet
    /// started.
    pub fn of(layout: &str, registry: Registry) -> Self {
        let layout = Layout::parse(layout, "layout", &registry.settings())
            .unwrap_or_else(|error| panic!("{error}"));
        let layout = Arc::new(layout);
        let boxes = Boxes::of(&layout);
        let node = |name: String, of_box: &str| SimulatedNode {
            name,
            of_box: boxes.position(of_box),
            ..SimulatedNode::default()
        };
        let of_layout = layout.nodes().iter();
        let of_layout = of_layout.map(|it| node(it.name.to_string(), &it.box_name));
        let agents = layout.boxes().keys();
        let agents = agents.map(|of_box| node(agent::name_of(of_box), of_box));
        let nodes: Vec<_> = of_layout.chain(agents).collect();
        let position = |name: &str| nodes.iter().position(|node| node.name == name);
        let named = links(&layout).into_iter();
        let named = named.map(|link| (link.dialer.to_string(), link.listener.to_string()));
        let of_agents = layout.boxes().keys().flat_map(|of_box| {
            let dials = agent_dials(&layout, of_box).into_iter();
            dials.map(|dial| (agent::name_of(of_box), agent::name_of_dial(&dial)))
        });
        let links: Vec<(usize, usize)> = named
            .chain(of_agents)
            .filter_map(|(dialer, listener)| Some((position(&dialer)?, position(&listener)?)))
            .collect();
        Self {
            layout,
            registry,
            seed: 1,
            random: Random::new(1),
            latency: Duration::from_millis(1)..=Duration::from_millis(20),
            sabotage: Sabotage::default(),
            of_requests: RequestSabotage::default(),
            of_keyed: KeyedSabotage::default(),
            of_feeds: None,
            disk_latency: Duration::from_micros(200)..=Duration::from_millis(20),
            batch: 64,
            batch_every: Duration::from_millis(1),
            now: 0,
            last_activity: 0,
            nodes,
            boxes,
            links,
            connections: Vec::new(),
            routine: HashSet::new(),
            agenda: Agenda::default(),
            logged: BTreeMap::new(),
            make_sink: None,
            has_spools: false,
            lost: 0,
            transcript: Vec::new(),
            disks: Disks::default(),
            outcomes: BTreeMap::new(),
            started: false,
        }
    }

    // --- before the start -------------------------------------------------------------------------

    /// Sets the seed, which determines latencies, endpoint ids, and what is cut off when a node
    /// dies. It is 1 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.random = Random::new(seed);
        self
    }

    /// Sets the range of message latencies.
    #[must_use]
    pub fn latency(mut self, latency: RangeInclusive<Duration>) -> Self {
        self.latency = latency;
        self
    }

    /// Breaks a rule of the mesh on purpose, on every node. A test that checks the rule must fail.
    #[must_use]
    pub fn sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Breaks a rule of requests on purpose, on every node. A test that checks the rule must fail.
    #[must_use]
    pub fn sabotage_requests(mut self, sabotage: RequestSabotage) -> Self {
        self.of_requests = sabotage;
        self
    }

    /// Breaks a rule of keyed work on purpose, on every node. A test that checks the rule must fail.
    #[must_use]
    pub fn sabotage_keyed(mut self, sabotage: KeyedSabotage) -> Self {
        self.of_keyed = sabotage;
        self
    }

    /// Gives the feeds of all nodes other bounds, and breaks a rule of them on purpose. A test that checks the rule must fail.
    #[must_use]
    pub fn sabotage_feeds(mut self, sabotage: FeedSabotage, limits: FeedLimits) -> Self {
        self.of_feeds = Some((sabotage, limits));
        self
    }

    /// Sets how fast feeds are read: `events` at once, then again after `every`. By default 64
    /// events every millisecond.
    #[must_use]
    pub fn pace(mut self, events: usize, every: Duration) -> Self {
        (self.batch, self.batch_every) = (events.max(1), every);
        self
    }

    /// Makes a node of the layout a Zeek process, as far as the other nodes can tell. It says hello
    /// as Zeek does, hears what Zeek's node of its role hears, and says only what
    /// [`zeek_says`](Self::zeek_says) makes it say.
    #[must_use]
    pub fn zeek(mut self, node: &str) -> Self {
        let position = self.position(node);
        self.nodes[position].is_zeek = true;
        self
    }

    /// Leaves a node out when the others start. [`restart`](Self::restart) starts it later.
    #[must_use]
    pub fn late(mut self, node: &str) -> Self {
        let position = self.position(node);
        self.nodes[position].is_late = true;
        self
    }

    /// Adds events to the feed of a node, which must have an `input` in the layout. The events are
    /// raised in this order, each at the event time of its field `ts`; the watermark is the latest
    /// of these so far. A node that is restarted reads its feed from the beginning.
    #[must_use]
    pub fn feed<E: Event>(mut self, node: &str, events: impl IntoIterator<Item = E>) -> Self {
        for event in events {
            self.feed_of(node).push(&event, time_of(&event));
        }
        self
    }

    /// Feeds several nodes. Each event goes to one of them, chosen by its hash.
    #[must_use]
    pub fn feed_shared<'a, E: Event>(
        mut self,
        nodes: impl IntoIterator<Item = &'a str>,
        events: impl IntoIterator<Item = E>,
        hash: impl Fn(&E) -> u64,
    ) -> Self {
        let nodes: Vec<&str> = nodes.into_iter().collect();
        for event in events {
            let share = hash(&event) % nodes.len() as u64;
            let node = nodes[usize::try_from(share).expect("less than the number of nodes")];
            self.feed_of(node).push(&event, time_of(&event));
        }
        self
    }

    fn feed_of(&mut self, node: &str) -> &mut Feed {
        let has_input = self
            .layout
            .find(node)
            .is_some_and(|node| !node.input.is_empty());
        assert!(
            has_input,
            "node `{node}` is fed, but has no `input` in the layout"
        );
        let position = self.position(node);
        Arc::get_mut(&mut self.nodes[position].feed).expect("feeds are given before the start")
    }

    // --- running ----------------------------------------------------------------------------------

    /// Starts all nodes except those that are [`late`](Self::late).
    pub fn start(&mut self) {
        assert!(!self.started, "the cluster runs already");
        self.started = true;
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_late {
                self.begin(node);
            }
        }
    }

    /// Lets simulated time pass.
    pub fn run_for(&mut self, span: Duration) {
        self.run_to(self.now + nanos(span));
    }

    /// Lets simulated time pass, and looks at the cluster after everything that happens to a process, whose name is given.
    pub fn run_watched(&mut self, span: Duration, mut look: impl FnMut(&Self, &str)) {
        let end = self.now + nanos(span);
        while self.agenda.next_time().is_some_and(|at| at <= end) {
            if let Some(position) = self.happen() {
                look(self, &self.nodes[position].name);
            }
        }
        self.now = end;
    }

    /// Runs until a condition holds.
    pub fn run_until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        let end = self.now + nanos(PATIENCE);
        while !holds(self) {
            let next = self.agenda.next_time();
            assert!(
                next.is_some_and(|at| at <= end),
                "what was waited for did not happen within {PATIENCE:?} of simulated time"
            );
            self.happen();
        }
    }

    /// Runs until all feeds have ended and, for a minute of simulated time, nothing but timers has
    /// happened. Then nothing is under way, and everything that will be logged is logged.
    pub fn run_until_idle(&mut self) {
        let end = self.now + nanos(PATIENCE);
        self.last_activity = self.now;
        while let Some(next) = self.agenda.next_time() {
            if !self.agenda.has_activity() && next > self.last_activity + nanos(QUIET) {
                return;
            }
            assert!(
                next <= end,
                "still busy after {PATIENCE:?} of simulated time"
            );
            self.happen();
        }
    }

    /// Kills a node at once. What it has not sent, and what is on its way to it, is lost. Its peers
    /// may still receive some of what it sent, and then learn that it is gone. What a hub relays is
    /// lost too.
    pub fn kill(&mut self, node: &str) {
        let position = self.position(node);
        let number = self.nodes[position].life.as_ref().map(|life| life.number);
        self.nodes[position].killed.extend(number);
        self.end(node, "killed", |cluster, connection, side| {
            let longest = Duration::from_nanos(2 * nanos(*cluster.latency.end()));
            let at = cluster.now + cluster.random.nanos(&(Duration::ZERO..=longest));
            cluster.connections[connection].ends[side].cut = at;
            at
        });
    }

    /// Stops a node in order. Its frameworks publish and log what they have, and its peers receive
    /// it.
    pub fn stop(&mut self, node: &str) {
        let position = self.position(node);
        self.step(position, Input::Stop);
        self.drain_logs(position);
        self.step(position, Input::End);
        self.close_spool(position);
        self.close_logs(position);
        self.end(node, "stopped", |cluster, connection, side| {
            let latency = cluster.random.nanos(&cluster.latency.clone());
            let last = cluster.connections[connection].ends[side].last_arrival;
            last.max(cluster.now + latency)
        });
    }

    /// Stops all nodes that are alive, in order. Those that others depend on come later: workers,
    /// data nodes, managers, loggers.
    pub fn stop_all(&mut self) {
        for role in [Role::Worker, Role::Proxy, Role::Manager, Role::Logger] {
            let names: Vec<String> = self
                .layout
                .with_role(role)
                .map(|node| node.name.to_string())
                .filter(|name| self.is_alive(name))
                .collect();
            for name in names {
                self.stop(&name);
            }
            self.run_for(Duration::from_secs(2));
        }
    }

    /// Starts a node that is dead or was left out. Its new life has a new endpoint id and a higher
    /// incarnation.
    pub fn restart(&mut self, node: &str) {
        let position = self.position(node);
        assert!(
            self.nodes[position].life.is_none(),
            "node `{node}` is alive"
        );
        self.begin(position);
    }

    /// Raises an event on a node that is alive, as an input of it does.
    pub fn raise<E: Event>(&mut self, node: &str, event: &E) {
        let payload = process::event(E::NAME, event);
        let position = self.position(node);
        self.step(position, Input::Raise(&payload));
    }

    /// Makes a node that is a Zeek process publish an event, without metadata, as Zeek does by
    /// default.
    pub fn zeek_says<E: Event>(&mut self, node: &str, topic: &str, event: &E) {
        let payload = process::event(E::NAME, event);
        self.zeek_publishes(node, topic, &payload);
    }

    /// Makes a node that is a Zeek process publish an encoded value, such as a log batch.
    pub fn zeek_publishes(&mut self, node: &str, topic: &str, payload: &[u8]) {
        let topic = Topic::new(topic).unwrap_or_else(|error| panic!("{error}"));
        let position = self.position(node);
        let life = self.nodes[position].life.as_mut();
        let zeek = life.and_then(|life| life.process.zeek());
        zeek.unwrap_or_else(|| panic!("node `{node}` is dead, or is not a Zeek process"))
            .publish(topic, Bytes::copy_from_slice(payload));
        self.carry_out(position);
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("seed", &self.seed)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl Drop for Cluster {
    #[allow(
        clippy::print_stderr,
        reason = "a failing test's output is where its seed is looked for"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, now) = (self.seed, self.now());
            eprintln!("simulation with seed {seed}, failed after {now:?} of simulated time");
        }
    }
}
