//! The inside of a node loop that handlers reach through their [`Context`](super::Context).

use std::any::TypeId;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use muster_data::{Timespan, Timestamp, Type};
use muster_store::StoreName;
use muster_wire::counters::DropCause;
use muster_wire::zeek::{self, LayoutFingerprint, Metadata};
use muster_wire::{Class, EndpointId, Filter, Incarnation, Topic};

use super::context::PublishError;
use super::counts::{CounterSpec, FrameworkCount, NodeCounts};
use super::event::Event;
use super::feeds::Sources;
use super::health::Health;
use super::keyed::KeyedWork;
use super::log_flushes::LogFlushes;
use super::log_shipping::Shipping;
use super::logs::{Logged, Logs};
use super::registers::Registers;
use super::requests::Requests;
use super::stores::{DeclaredStore, StoreAccess};
use super::timers::Timers;
use super::waits::Waits;
use super::zeek_logs::ZeekLogs;
use super::{Effect, NodeError, Now, Report, Severity};
use crate::layout::{Layout, Node, NodeName};
use crate::membership::Membership;
use crate::pools::Pools;
use crate::settings::ForwardingMode;
use crate::watermark::Watermarks;

/// The events that a node may have addressed to itself and not yet handled.
const LOCAL_EVENTS: usize = 65_536;

/// What a node loop keeps besides its frameworks, and what these reach through their [`Context`](super::Context): each
/// concern has its own state.
#[derive(Debug)]
pub(crate) struct NodeCore {
    pub(crate) layout: Arc<Layout>,
    pub(crate) node: Node,
    pub(crate) id: EndpointId,
    pub(crate) incarnation: Incarnation,
    pub(crate) clock: Clock,
    pub(crate) members: Members,
    pub(crate) waits: Waits,
    pub(crate) windows: Windows,
    pub(crate) timers: Timers,
    pub(crate) logging: Logging,
    pub(crate) stores: StoreAccess,
    pub(super) requests: Requests,
    pub(crate) registers: Registers,
    pub(super) keyed: KeyedWork,
    /// What has come to the manager's topic, if there are several managers.
    pub(super) manager_topic: super::manager_topic::ManagerTopic,
    pub(super) sources: Sources,
    pub(crate) outbox: Outbox,
    /// The events that were declared, with the types of their arguments.
    pub(crate) events: HashMap<Cow<'static, str>, Type>,
    /// The events that were published as they are declared.
    fitting: HashSet<TypeId>,
    pub(crate) counts: NodeCounts,
    /// What the node fails at.
    pub(super) health: Health,
    /// What its layout comes to, for other nodes to compare.
    pub(super) fingerprint: LayoutFingerprint,
    reported: HashMap<String, u32>,
}

/// The time.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) now: Now,
    /// The event time of what is being handled.
    pub(crate) event_time: Option<Timestamp>,
}

/// Who is in the cluster, and who owns what.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) membership: Membership,
    pub(crate) pools: Pools,
    /// The topics that reach one node, which is a Zeek process at present.
    pub(super) zeek_topics: HashMap<Topic, NodeName>,
    node_topics: BTreeMap<NodeName, Topic>,
}

/// How far event time has come.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(crate) watermarks: Watermarks,
    pub(crate) allowance: Timespan,
    /// The event time up to which windows have been closed.
    pub(crate) closed: Option<Timestamp>,
}

/// Records on their way to the loggers.
#[derive(Debug)]
pub(crate) struct Logging {
    pub(crate) logs: Logs,
    pub(crate) zeek_logs: ZeekLogs,
    pub(super) shipping: Shipping,
    pub(super) flushes: LogFlushes,
}

/// What leaves the loop, and what it says to itself.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) effects: Vec<Effect>,
    pub(crate) local: VecDeque<Bytes>,
    pub(crate) subscriptions: Vec<Topic>,
    own_filter: Filter,
    own_topics: [Topic; 2],
    scratch: Vec<u8>,
}

impl Windows {
    fn new(layout: &Layout, node: &Node) -> Self {
        let settings = &node.settings;
        let allowance = settings.duration("watermark.allowance");
        let mut watermarks = Watermarks::new();
        // Everybody is heard from, through relays if not first-hand, but where the node is kept out of
        // the mesh.
        let neighbours = layout.neighbours(&node.name);
        let is_alone = node.forwarding() == ForwardingMode::Direct;
        let is_heard = |name: &NodeName| {
            !is_alone
                || *name == node.name
                || neighbours.dials.contains(name)
                || neighbours.accepts.contains(name)
        };
        let with_input = layout
            .nodes()
            .iter()
            .filter(|other| !other.input.is_empty());
        for other in with_input.filter(|other| is_heard(&other.name)) {
            watermarks.expect(&other.name);
        }
        Self {
            watermarks,
            allowance: Timespan::from_nanos(
                i64::try_from(allowance.as_nanos()).unwrap_or(i64::MAX),
            ),
            closed: None,
        }
    }
}

impl NodeCore {
    /// Looks whether an event is published as it is declared on this node, if it is.
    pub(super) fn fits<E: Event>(&mut self) -> Result<(), PublishError> {
        let of = TypeId::of::<E>();
        if self.fitting.contains(&of) {
            return Ok(());
        }
        let Some(declared) = self.events.get(E::NAME) else {
            return Ok(());
        };
        let ty = E::data_type();
        if *declared != ty {
            return Err(PublishError::WrongArguments {
                event: E::NAME.to_owned(),
                problem: format!("declared as {declared}, published as {ty}"),
            });
        }
        self.fitting.insert(of);
        Ok(())
    }

    pub(crate) fn new(
        layout: Arc<Layout>,
        node: Node,
        id: EndpointId,
        incarnation: Incarnation,
        now: Now,
    ) -> Self {
        let topics = layout.topics();
        let settings = &node.settings;
        let logs = Logs::new(
            settings.size("logging.batch_size"),
            settings.duration("logging.batch_interval"),
        );
        let node_topics = layout.nodes().iter();
        let node_topics = node_topics.map(|n| (n.name.clone(), topics.node(&n.name)));
        Self {
            id,
            incarnation,
            clock: Clock {
                now,
                event_time: None,
            },
            members: Members {
                membership: Membership::new(&layout, &node.name, id, incarnation, now.wall),
                pools: Pools::new(&layout, Some(&node.name)),
                zeek_topics: HashMap::new(),
                node_topics: node_topics.collect(),
            },
            waits: Waits::default(),
            windows: Windows::new(&layout, &node),
            timers: Timers::default(),
            logging: Logging {
                logs,
                zeek_logs: ZeekLogs::default(),
                shipping: Shipping::new(&layout, &node),
                flushes: LogFlushes::default(),
            },
            stores: StoreAccess::default(),
            requests: Requests::default(),
            registers: Registers::default(),
            keyed: KeyedWork::default(),
            manager_topic: super::manager_topic::ManagerTopic::default(),
            sources: Sources::default(),
            outbox: Outbox {
                effects: Vec::new(),
                local: VecDeque::new(),
                subscriptions: topics.subscriptions(&node, id, &layout),
                own_filter: Filter::default(),
                own_topics: [topics.node(&node.name), topics.id(id)],
                scratch: Vec::new(),
            },
            events: HashMap::new(),
            fitting: HashSet::new(),
            counts: NodeCounts::default(),
            health: Health::default(),
            fingerprint: layout.fingerprint(),
            reported: HashMap::new(),
            layout,
            node,
        }
    }

    /// Takes the subscriptions as complete.
    pub(crate) fn seal_subscriptions(&mut self) {
        self.outbox.subscriptions.sort();
        self.outbox.subscriptions.dedup();
        self.outbox.own_filter =
            Filter::from_prefixes(self.outbox.subscriptions.iter().map(Topic::as_bytes));
    }

    pub(crate) fn topic_for_node(&self, name: &NodeName) -> Option<Topic> {
        self.members.node_topics.get(name).cloned()
    }

    /// Publishes an event whose arguments `arguments` appends, to others and, where the topic is one
    /// of our own, to ourselves.
    pub(crate) fn send(
        &mut self,
        topic: &Topic,
        class: Class,
        name: &str,
        metadata: Metadata,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) {
        self.outbox.scratch.clear();
        zeek::put_event(&mut self.outbox.scratch, name, metadata, arguments);
        let payload = Bytes::copy_from_slice(&self.outbox.scratch);
        if self.post(topic, class, payload) {
            self.notice_lost_on_zeek(topic, name);
        }
    }

    /// Publishes an encoded message, to others and, where the topic is one of our own, to ourselves. Returns `true` if it goes to others.
    pub(super) fn post(&mut self, topic: &Topic, class: Class, payload: Bytes) -> bool {
        if self.outbox.own_filter.matches(topic.as_bytes()) {
            if self.outbox.local.len() < LOCAL_EVENTS {
                self.outbox.local.push_back(payload.clone());
            } else {
                let ledger = &mut self.counts.local_dropped;
                ledger.count(DropCause::Newest, &topic.normalized(), 1);
            }
            // Nobody else subscribes to what names this node alone.
            if self.outbox.own_topics.contains(topic) {
                return false;
            }
        }
        self.counts.events_out += 1;
        self.outbox.effects.push(Effect::Publish {
            topic: topic.clone(),
            payload,
            class,
        });
        true
    }

    /// The metadata that the runtime attaches: the event time of what is handled (an event, a closed
    /// window, a timer of event time), otherwise the wall clock's.
    pub(crate) fn metadata(&self) -> Metadata {
        let timestamp = self.clock.event_time.unwrap_or(self.clock.now.wall);
        Metadata {
            timestamp: Some(timestamp),
            ..Metadata::default()
        }
    }

    /// Has a store opened that a framework uses.
    pub(crate) fn declare_store(&mut self, store: &DeclaredStore) -> Result<(), NodeError> {
        let name = StoreName::new(store.name);
        let name = name.map_err(|error| NodeError::StoreName(store.name, error))?;
        self.outbox.effects.push(Effect::OpenStore {
            store: name,
            persistent: store.is_persistent,
            use_here: true,
            watch: store.is_watched,
        });
        Ok(())
    }

    pub(crate) fn watch_store(&mut self, store: &'static str, framework: usize) {
        self.stores
            .watchers
            .entry(store)
            .or_default()
            .push(framework);
    }

    pub(crate) fn watchers_of(&self, store: &str) -> Vec<usize> {
        self.stores.watchers.get(store).cloned().unwrap_or_default()
    }

    /// Begins the counts of a framework at 0.
    pub(crate) fn declare_counters(&mut self, framework: &'static str, specs: &[CounterSpec]) {
        for spec in specs {
            let count = FrameworkCount {
                spec: *spec,
                value: 0,
            };
            let counts = &mut self.counts.frameworks;
            counts.entry((framework, spec.name)).or_insert(count);
        }
    }

    /// Counts for a framework. Returns `false` if the counter has no declaration.
    pub(crate) fn count(&mut self, framework: &'static str, name: &'static str, by: u64) -> bool {
        let count = self.counts.frameworks.entry((framework, name));
        let count = count.or_insert(FrameworkCount {
            spec: CounterSpec::new(name, ""),
            value: 0,
        });
        count.value += by;
        !count.spec.help.is_empty()
    }

    pub(crate) fn logged(&mut self, stream: &str, logged: Logged) {
        self.counts.records_logged += 1;
        if logged == Logged::Full {
            self.ship(stream);
        }
    }

    /// Whether a node that is alive is a Zeek process: those do not say their incarnation.
    pub(crate) fn is_zeek(&self, name: &NodeName) -> bool {
        let life = self
            .members
            .membership
            .get(name)
            .and_then(|node| node.life.as_ref());
        life.is_some_and(|life| life.incarnation.is_none())
    }

    pub(crate) fn is_alive(&self, name: &NodeName) -> bool {
        self.members
            .membership
            .get(name)
            .is_some_and(|record| record.life.is_some())
    }

    /// Tells the operator, the first few times of each kind.
    pub(crate) fn report(&mut self, severity: Severity, kind: &str, text: impl FnOnce() -> String) {
        const TIMES: u32 = 3;
        const KINDS: usize = 256;
        if self.reported.len() >= KINDS && !self.reported.contains_key(kind) {
            return;
        }
        let times = self.reported.entry(kind.to_owned()).or_default();
        *times += 1;
        if *times > TIMES {
            return;
        }
        let more = if *times == TIMES {
            " (further ones are only counted)"
        } else {
            ""
        };
        let text = format!("{}{more}", text());
        self.outbox
            .effects
            .push(Effect::Report(Report { severity, text }));
    }
}
