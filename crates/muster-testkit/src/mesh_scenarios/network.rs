//! Endpoints, links and what is under way.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::guests::{Visit, Visitor, VisitorLedger};
use super::ledger::Ledger;
use super::oracle::Truth;
use crate::endpoint::{Endpoint, Output};
use muster_test_support::Random;
use muster_wire::Mono;
use muster_wire::frame::HEADER;
use muster_wire::mesh::Sabotage;
use muster_wire::mesh::codec::{Decoder, Frame, MeshFrame};
use muster_wire::mesh::{Config, Identity};
use muster_wire::{Class, EndpointId, Filter, Incarnation, Kind, MessageId, Topic};

pub(super) const MILLI: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) id: EndpointId,
    pub(super) transit: bool,
    pub(super) filter: Filter,
    pub(super) is_alive: bool,
    pub(super) life: u64,
    wake: Option<Mono>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [usize; 2],
    pub(super) is_up: bool,
    /// What is sent vanishes, and nobody is told.
    pub(super) is_hung: bool,
    epoch: u64,
    delay: u64,
    last_arrival: [u64; 2],
}

#[derive(Debug)]
pub(super) enum Event {
    Arrive {
        link: usize,
        side: usize,
        epoch: u64,
        bytes: Bytes,
    },
    Lost {
        link: usize,
        side: usize,
        epoch: u64,
    },
    Wake {
        node: usize,
    },
    Planned(Planned),
    Visit(Visit),
}

/// What a scenario does at a time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Planned {
    Heal(usize),
    Fail(usize),
    Hang(usize),
    Restart(usize),
    Start(usize),
    Publish(usize),
    Subscribe(usize),
    Visit(usize),
    Turn(usize),
}

/// What is expected of the messages that are published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Nothing changes: exactly those who want it, over the edges of the tree alone, in order.
    Exact,
    /// Links are added: all who wanted it before get it.
    AllFromBefore,
    /// An endpoint joins: the same, and node up means what it says.
    Joining,
    /// Anything may happen: at most once.
    AtMostOnce,
}

#[derive(Debug)]
pub(super) struct Network {
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    by_ends: HashMap<(usize, usize), usize>,
    by_id: HashMap<EndpointId, usize>,
    events: BTreeMap<(u64, u64), Event>,
    added: u64,
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) ledger: Ledger,
    pub(super) expect: Expect,
    /// The truth and the filters when the phase began.
    pub(super) before: (Truth, BTreeMap<EndpointId, Filter>),
    data_under_way: usize,
    pub(super) steps: u64,
    pub(super) sabotage: Sabotage,
    /// Who is up in whose view, by the numbers of both.
    up: Vec<HashSet<EndpointId>>,
    /// The hashes that the database of each endpoint has had.
    hashes: HashMap<EndpointId, HashSet<u64>>,
    pub(super) probes: u64,
    incarnations: u64,
    /// Frames besides messages and heartbeats, and their bytes.
    pub(super) control: (u64, u64),
    pub(super) visitors: Vec<Visitor>,
    pub(super) visits: VisitorLedger,
    /// The visitors of which outdated records were held when the phase began.
    pub(super) outdated: BTreeSet<usize>,
    /// When somebody was said to be up last.
    pub(super) last_up: u64,
    /// Those frames by what they are.
    pub(super) by_kind: BTreeMap<&'static str, (u64, u64)>,
}

fn filter_of(node: usize, random: &mut Random) -> Filter {
    let mut prefixes = vec![format!("node/{node}/")];
    for _ in 0..random.below(4) {
        prefixes.push(format!("t/{}", random.below(8)));
    }
    if !random.one_in(3) {
        prefixes.push("all/".to_owned());
    }
    Filter::from_prefixes(prefixes)
}

impl Network {
    pub(super) fn new(seed: u64, sabotage: Sabotage) -> Self {
        Self {
            nodes: Vec::new(),
            links: Vec::new(),
            by_ends: HashMap::new(),
            by_id: HashMap::new(),
            events: BTreeMap::new(),
            added: 0,
            now: 0,
            random: Random::new(seed),
            ledger: Ledger::default(),
            expect: Expect::AtMostOnce,
            before: Default::default(),
            data_under_way: 0,
            steps: 0,
            sabotage,
            up: Vec::new(),
            hashes: HashMap::new(),
            probes: 0,
            incarnations: 0,
            control: (0, 0),
            visitors: Vec::new(),
            visits: VisitorLedger::default(),
            outdated: BTreeSet::new(),
            by_kind: BTreeMap::new(),
            last_up: 0,
        }
    }

    /// Adds an endpoint; it is alive, and has no links yet.
    pub(super) fn add_node(&mut self, transit: bool) -> usize {
        let number = self.nodes.len();
        let (id, endpoint) = self.new_endpoint(number, transit);
        let filter = filter_of(number, &mut self.random);
        self.by_id.insert(id, number);
        self.up.push(HashSet::new());
        self.nodes.push(Node {
            endpoint,
            id,
            transit,
            filter: filter.clone(),
            is_alive: true,
            life: 0,
            wake: None,
        });
        let now = Mono(self.now);
        self.nodes[number].endpoint.subscribe(filter, now);
        self.after(number);
        number
    }

    fn new_endpoint(&mut self, number: usize, transit: bool) -> (EndpointId, Endpoint) {
        self.incarnations += 1;
        let id = EndpointId::from_random(self.random.bytes());
        let identity = Identity {
            id,
            incarnation: Incarnation(self.incarnations),
            name: format!("node-{number}"),
            role: String::new(),
            machine: String::new(),
            transit,
            homes: transit,
        };
        let endpoint = Endpoint::new(identity, Config::default(), self.sabotage);
        (id, endpoint)
    }

    /// Adds a link that does not stand yet.
    pub(super) fn add_link(&mut self, a: usize, b: usize) -> usize {
        if let Some(known) = self.by_ends.get(&(a, b)) {
            return *known;
        }
        let number = self.links.len();
        self.by_ends.insert((a, b), number);
        self.by_ends.insert((b, a), number);
        let delay = MILLI + self.random.next() % (10 * MILLI);
        self.links.push(Link {
            ends: [a, b],
            is_up: false,
            is_hung: false,
            epoch: 0,
            delay,
            last_arrival: [0; 2],
        });
        number
    }

    pub(super) fn plan(&mut self, after: u64, planned: Planned) {
        self.push(self.now + after, Event::Planned(planned));
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        match &event {
            Event::Arrive { bytes, .. } => self.data_under_way += usize::from(is_data(bytes)),
            Event::Visit(_) => self.data_under_way += 1,
            _ => {}
        }
        self.added += 1;
        self.events.insert((at, self.added), event);
    }

    /// Lets so much time pass; stops at the first violation.
    pub(super) fn run(&mut self, span: u64) {
        let end = self.now + span;
        while let Some(entry) = self.events.first_entry() {
            let (at, _) = *entry.key();
            if at > end || !self.ledger.violations.is_empty() {
                break;
            }
            let event = entry.remove();
            self.now = self.now.max(at);
            self.steps += 1;
            self.handle(event);
        }
        self.now = end;
    }

    /// Runs until no message is under way.
    pub(super) fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.data_under_way == 0 || !self.ledger.violations.is_empty() {
                return;
            }
            self.run(10 * MILLI);
        }
        self.ledger
            .violations
            .push("messages travel for ever".to_owned());
    }

    fn handle(&mut self, event: Event) {
        let now = Mono(self.now);
        match event {
            Event::Arrive {
                link,
                side,
                epoch,
                bytes,
            } => {
                self.data_under_way -= usize::from(is_data(&bytes));
                let connection = &mut self.links[link];
                if connection.epoch != epoch || !connection.is_up || connection.is_hung {
                    return;
                }
                let (to, from) = (connection.ends[side], connection.ends[1 - side]);
                let from = self.nodes[from].id;
                self.nodes[to].endpoint.receive(from, &bytes, now);
                self.after(to);
            }
            Event::Lost { link, side, epoch } => {
                let connection = &self.links[link];
                // A connection that was made anew has told already.
                if connection.epoch == epoch && !connection.is_up {
                    let (to, from) = (connection.ends[side], connection.ends[1 - side]);
                    let from = self.nodes[from].id;
                    self.peer_down(to, from);
                }
            }
            Event::Wake { node } => {
                let known = &mut self.nodes[node];
                if known.is_alive && known.wake == Some(now) {
                    known.wake = None;
                    known.endpoint.tick(now);
                    self.after(node);
                }
            }
            Event::Planned(planned) => self.act(planned),
            Event::Visit(visit) => {
                self.data_under_way -= 1;
                self.arrive(visit);
            }
        }
    }

    fn peer_down(&mut self, node: usize, peer: EndpointId) {
        if self.nodes[node].is_alive {
            self.nodes[node].endpoint.peer_down(peer, Mono(self.now));
            self.after(node);
        }
    }

    fn act(&mut self, planned: Planned) {
        match planned {
            Planned::Heal(link) => self.heal(link),
            Planned::Fail(link) => self.fail(link),
            Planned::Hang(link) => self.links[link].is_hung = self.links[link].is_up,
            Planned::Restart(node) => self.restart(node),
            Planned::Start(node) => self.start(node),
            Planned::Publish(node) => self.publish_something(node),
            Planned::Visit(visitor) => self.visit(visitor),
            Planned::Turn(visitor) => self.turn(visitor),
            Planned::Subscribe(node) => {
                let known = &mut self.nodes[node];
                if known.is_alive {
                    let more = format!("t/{}", self.random.below(8));
                    let old = known.filter.entries().map(<[u8]>::to_vec);
                    let all: Vec<Vec<u8>> = old.chain([more.into_bytes()]).collect();
                    known.filter = Filter::from_prefixes(all);
                    known
                        .endpoint
                        .subscribe(known.filter.clone(), Mono(self.now));
                    self.after(node);
                }
            }
        }
    }

    fn heal(&mut self, link: usize) {
        let [a, b] = self.links[link].ends;
        if self.links[link].is_up || !self.nodes[a].is_alive || !self.nodes[b].is_alive {
            return;
        }
        let connection = &mut self.links[link];
        connection.is_up = true;
        connection.is_hung = false;
        connection.epoch += 1;
        let now = Mono(self.now);
        for (node, peer) in [(a, b), (b, a)] {
            let peer = self.nodes[peer].id;
            self.nodes[node].endpoint.peer_up(peer, now);
            self.after(node);
        }
    }

    /// A reset: both ends hear of it, each in its time.
    fn fail(&mut self, link: usize) {
        let connection = &mut self.links[link];
        if !connection.is_up {
            return;
        }
        connection.is_up = false;
        connection.epoch += 1;
        let epoch = connection.epoch;
        for side in 0..2 {
            let at = self.now + self.random.next() % (20 * MILLI);
            self.push(at, Event::Lost { link, side, epoch });
        }
    }

    fn restart(&mut self, node: usize) {
        if !self.nodes[node].is_alive {
            return;
        }
        self.nodes[node].is_alive = false;
        self.up[node].clear();
        let mut delay = MILLI * 50 + self.random.next() % (300 * MILLI);
        self.plan(delay, Planned::Start(node));
        let links = (0..self.links.len()).filter(|link| self.links[*link].ends.contains(&node));
        for link in links.collect::<Vec<_>>() {
            let was_up = self.links[link].is_up;
            self.fail(link);
            if was_up {
                delay += 1;
                self.plan(delay, Planned::Heal(link));
            }
        }
    }

    /// A new life of a node that is down.
    fn start(&mut self, node: usize) {
        let (id, endpoint) = self.new_endpoint(node, self.nodes[node].transit);
        self.by_id.insert(id, node);
        let known = &mut self.nodes[node];
        known.id = id;
        known.endpoint = endpoint;
        known.is_alive = true;
        known.life += 1;
        known.wake = None;
        known
            .endpoint
            .subscribe(known.filter.clone(), Mono(self.now));
        self.after(node);
        self.greet_visitors(node);
    }

    fn publish_something(&mut self, node: usize) {
        if !self.nodes[node].is_alive {
            return;
        }
        let topic = match self.random.below(4) {
            0 => "all/x".to_owned(),
            1 => format!("node/{}/", self.random.below(self.nodes.len())),
            _ => format!("t/{}/x", self.random.below(8)),
        };
        self.publish(node, topic, None, "published");
    }

    fn publish(
        &mut self,
        node: usize,
        topic: String,
        expected: Option<BTreeSet<EndpointId>>,
        why: &'static str,
    ) {
        let class = match self.random.below(3) {
            0 => Class::Interactive,
            1 => Class::Event,
            _ => Class::Bulk,
        };
        let origin = self.nodes[node].id;
        let payload = Bytes::from(vec![0; self.random.below(40)]);
        let named = Topic::new(&topic).unwrap();
        let endpoint = &mut self.nodes[node].endpoint;
        let id = endpoint.publish(class, Kind::Data, &named, payload);
        let homes = self.expect_visitors(node, &topic, (id, class));
        let (truth, filters) = &self.before;
        let is_from_before = truth.contains(origin);
        let expected = expected.or_else(|| {
            (self.expect != Expect::AtMostOnce && is_from_before).then(|| {
                let reach = truth.reach(origin);
                let others = reach.iter().copied().filter(|id| *id != origin);
                let wants = |id: &EndpointId| filters[id].matches(topic.as_bytes());
                others.filter(wants).collect::<BTreeSet<_>>()
            })
        });
        let is_exact = self.expect == Expect::Exact && truth.sees_one_part(origin);
        let exact = expected.as_ref().filter(|_| is_exact);
        let needed = exact.map(|receivers| {
            let homes = homes.into_iter().filter(|home| *home != origin);
            let all = receivers.iter().copied().chain(homes).collect();
            truth.needed(origin, &all)
        });
        self.ledger
            .publish((id, class), topic, expected, needed, why);
        self.after(node);
    }

    /// Carries out what an endpoint has decided, and wakes it when it is due.
    pub(super) fn after(&mut self, node: usize) {
        self.check_agreement(node);
        while let Some(output) = self.nodes[node].endpoint.poll() {
            match output {
                Output::Send {
                    to, bytes, carries, ..
                } => self.send(node, to, bytes, carries),
                Output::PassOn { guest, message } => self.pass_to_visitor(node, guest, message),
                Output::Deliver(message) if message.guest.is_some() => {
                    self.deliver_visit(node, &message);
                }
                Output::Deliver(message) => self.ledger.deliver(self.nodes[node].id, &message),
                // Nobody publishes to one endpoint here.
                Output::Addressed(_) => {}
                Output::Disconnect(peer) => {
                    let other = self.by_id[&peer];
                    let link = self.by_ends[&(node, other)];
                    if self.nodes[other].id == peer {
                        self.fail(link);
                    }
                }
                Output::Up(record) => self.node_up(node, record.id),
                Output::Down(id) => {
                    if !self.up[node].remove(&id) {
                        self.ledger
                            .violations
                            .push(format!("{node}: {id} went down twice"));
                    }
                }
            }
        }
        let due = self.nodes[node].endpoint.next_due();
        let due = due.map(|due| due.max(Mono(self.now)));
        // What is put off is found out when the endpoint wakes.
        if let Some(at) = due
            && self.nodes[node].wake.is_none_or(|wake| wake > at)
        {
            self.nodes[node].wake = due;
            self.push(at.0, Event::Wake { node });
        }
    }

    /// What an endpoint takes for what all have, all in its reach have had.
    fn check_agreement(&mut self, node: usize) {
        let (id, endpoint) = (self.nodes[node].id, &mut self.nodes[node].endpoint);
        let agreed = endpoint.take_agreed();
        let digest = endpoint.mesh().digest();
        self.hashes.entry(id).or_default().insert(digest);
        for hash in agreed {
            let database = self.nodes[node].endpoint.mesh().database();
            let ids = database.reach().iter();
            let ids = ids.filter_map(|slot| database.graph().id(slot));
            for other in ids {
                let has_had = self
                    .hashes
                    .get(&other)
                    .is_some_and(|had| had.contains(&hash));
                if !has_had {
                    let text = format!("{node}: all agree, and {other} never had that");
                    self.ledger.violations.push(text);
                }
            }
        }
    }

    /// From now on messages must reach either from the other.
    fn node_up(&mut self, observer: usize, id: EndpointId) {
        let node = self.by_id[&id];
        self.last_up = self.now;
        if !self.up[observer].insert(id) {
            let text = format!("{observer}: {id} went up twice");
            self.ledger.violations.push(text);
        }
        if self.expect == Expect::Joining && self.nodes[node].id == id {
            self.probes += 1;
            self.probe(observer, node, "on node up, to the new one");
            self.probe(node, observer, "on node up, from the new one");
        }
    }

    fn probe(&mut self, from: usize, to: usize, why: &'static str) {
        let expected = BTreeSet::from([self.nodes[to].id]);
        self.publish(from, format!("node/{to}/"), Some(expected), why);
    }

    fn send(
        &mut self,
        node: usize,
        to: EndpointId,
        bytes: Vec<u8>,
        carries: Option<(MessageId, Class)>,
    ) {
        if let Some(key) = carries {
            self.ledger.transmitted(key);
        }
        let other = self.by_id[&to];
        let link = self.by_ends[&(node, other)];
        let connection = &mut self.links[link];
        if !connection.is_up || self.nodes[other].id != to {
            return;
        }
        let side = usize::from(connection.ends[1] == node);
        if let Some(kind) = control_kind(&bytes) {
            self.control.0 += 1;
            self.control.1 += bytes.len() as u64;
            let kind = self.by_kind.entry(kind).or_default();
            kind.0 += 1;
            kind.1 += bytes.len() as u64;
        }
        let jitter = self.random.next() % connection.delay;
        let at = (self.now + connection.delay + jitter).max(connection.last_arrival[side] + 1);
        connection.last_arrival[side] = at;
        let (side, epoch, bytes) = (1 - side, connection.epoch, Bytes::from(bytes));
        self.push(
            at,
            Event::Arrive {
                link,
                side,
                epoch,
                bytes,
            },
        );
    }

    pub(super) fn truth(&self) -> Truth {
        let alive = self.nodes.iter().filter(|node| node.is_alive);
        let mut truth = Truth::new(alive.map(|node| (node.id, node.transit)));
        for link in self.links.iter().filter(|link| link.is_up) {
            let [a, b] = link.ends.map(|end| &self.nodes[end]);
            if a.is_alive && b.is_alive {
                truth.link(a.id, b.id);
            }
        }
        truth
    }

    /// Closes what was, and begins a phase with other expectations.
    pub(super) fn begin(&mut self, expect: Expect) {
        let alive: BTreeSet<EndpointId> = self
            .nodes
            .iter()
            .filter(|node| node.is_alive)
            .map(|node| node.id)
            .collect();
        self.ledger.close(|id| alive.contains(&id));
        self.close_visits();
        self.expect = expect;
        self.ledger.is_ordered = expect == Expect::Exact;
        let filters = self.nodes.iter().filter(|node| node.is_alive);
        let filters = filters.map(|node| (node.id, node.filter.clone())).collect();
        self.before = (self.truth(), filters);
        self.outdated = self.outdated();
    }
}

/// What a frame is about, if it is no message and no heartbeat.
fn control_kind(bytes: &[u8]) -> Option<&'static str> {
    let mut decoder = Decoder::default();
    let Ok(Frame::Mesh(frame)) = decoder.read(&bytes[HEADER..]) else {
        return None;
    };
    Some(match frame {
        MeshFrame::Heartbeat { .. } => return None,
        MeshFrame::Records { root, .. } if root.is_nil() => "repairs",
        MeshFrame::Records { flood: Some(_), .. } => "floods to be acknowledged",
        MeshFrame::Records { .. } => "floods",
        MeshFrame::Digest(_) => "hashes",
        MeshFrame::List(_) => "version lists",
        MeshFrame::Want(_) => "wishes",
        MeshFrame::Offer { .. } => "offers",
        MeshFrame::Accept { .. } => "what is taken up of offers",
        MeshFrame::Agree { .. } | MeshFrame::Agreed(_) => "agreement",
        MeshFrame::JoinAcknowledged { .. } => "acknowledgements",
        MeshFrame::JoinRequest | MeshFrame::JoinReady(_) => "joining",
    })
}

fn is_data(bytes: &[u8]) -> bool {
    bytes.get(HEADER) == Some(&1)
}
