//! Endpoints, links and what is under way.

mod outputs;
mod planned;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use self::outputs::control_kind;
use super::guests::{Visit, Visitor, VisitorLedger};
use super::ledger::Ledger;
use super::oracle::Truth;
use crate::endpoint::Endpoint;
use muster_test_support::Random;
use muster_wire::Mono;
use muster_wire::frame::HEADER;
use muster_wire::mesh::Sabotage;
use muster_wire::mesh::codec;
use muster_wire::mesh::seal::{Seals, ToySeals};
use muster_wire::mesh::{Config, Identity};
use muster_wire::{EndpointId, Filter, Incarnation};

pub(super) use planned::Planned;

pub(super) const MILLI: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) id: EndpointId,
    pub(super) transit: bool,
    pub(super) filter: Filter,
    pub(super) is_alive: bool,
    pub(super) life: u64,
    /// What it seals its records with.
    seals: Option<ToySeals>,
    wake: Option<Mono>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [usize; 2],
    pub(super) is_up: bool,
    /// What is sent vanishes, and nobody is told.
    pub(super) is_hung: bool,
    epoch: u64,
    pub(super) delay: u64,
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
    /// Those whom all others have fenced.
    pub(super) fenced: BTreeSet<usize>,
    /// Whether some are fenced by some: what visitors hear then is not looked at.
    pub(super) has_fences: bool,
    pub(super) random: Random,
    pub(super) ledger: Ledger,
    pub(super) expect: Expect,
    /// The truth and the filters when the phase began.
    pub(super) before: (Truth, BTreeMap<EndpointId, Filter>),
    data_under_way: usize,
    pub(super) steps: u64,
    pub(super) sabotage: Sabotage,
    /// Whether endpoints have certificates.
    pub(super) is_sealed: bool,
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
    pub(super) by_kind: BTreeMap<&'static str, Traffic>,
}

/// What was sent of a kind of frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Entries: the records, versions or ids in them.
    pub(super) entries: u64,
    /// The records of those that have arrived that were known there.
    pub(super) known: u64,
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
    pub(super) fn new(seed: u64, is_sealed: bool, sabotage: Sabotage) -> Self {
        Self {
            nodes: Vec::new(),
            links: Vec::new(),
            by_ends: HashMap::new(),
            by_id: HashMap::new(),
            events: BTreeMap::new(),
            added: 0,
            now: 0,
            fenced: BTreeSet::new(),
            has_fences: false,
            random: Random::new(seed),
            ledger: Ledger::default(),
            expect: Expect::AtMostOnce,
            before: Default::default(),
            data_under_way: 0,
            steps: 0,
            sabotage,
            is_sealed,
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
        let (endpoint, seals) = self.new_endpoint(number, transit);
        let id = endpoint.id();
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
            seals,
            wake: None,
        });
        let now = Mono(self.now);
        self.nodes[number].endpoint.subscribe(filter, now);
        self.after(number);
        number
    }

    /// A life of an endpoint. Its certificate has the names of those of the lives before, and a key of its own.
    fn new_endpoint(&mut self, number: usize, transit: bool) -> (Endpoint, Option<ToySeals>) {
        self.incarnations += 1;
        let random = self.random.bytes();
        let (id, seals) = if self.is_sealed {
            let (id, seals) = ToySeals::new(number as u64, self.incarnations, random);
            (id, Some(seals))
        } else {
            (EndpointId::from_random(random), None)
        };
        let identity = Identity {
            id,
            incarnation: Incarnation(self.incarnations),
            name: format!("node-{number}"),
            role: String::new(),
            machine: String::new(),
            transit,
            homes: transit,
        };
        let config = Config {
            seals: seals.clone().map(|seals| Arc::new(seals) as Arc<dyn Seals>),
            ..Config::default()
        };
        let endpoint = Endpoint::new(identity, config, self.sabotage);
        (endpoint, seals)
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
                let known =
                    |network: &Self| network.nodes[to].endpoint.mesh().counts().records_known;
                let before = known(self);
                self.nodes[to].endpoint.receive(from, &bytes, now);
                let known = known(self) - before;
                if known > 0
                    && let Some((kind, _)) = control_kind(&bytes)
                {
                    self.by_kind.entry(kind).or_default().known += known;
                }
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

    pub(super) fn truth(&self) -> Truth {
        let alive = self.nodes.iter().filter(|node| node.is_alive);
        let mut truth = Truth::new(alive.map(|node| (node.id, node.transit)));
        for link in self.links.iter().filter(|link| link.is_up) {
            let [a, b] = link.ends.map(|end| &self.nodes[end]);
            if a.is_alive && b.is_alive {
                truth.link(a.id, b.id);
            }
        }
        for fenced in &self.fenced {
            truth.fence(self.nodes[*fenced].id);
        }
        truth
    }

    /// The records that were refused because of their seals, so far.
    pub(super) fn forged(&self) -> u64 {
        let counts = self.nodes.iter().map(|node| node.endpoint.mesh().counts());
        let of_seals = counts.flat_map(|counts| counts.refused);
        let of_seals = of_seals.filter(|(refusal, _)| refusal.is_of_seals());
        of_seals.map(|(_, count)| count).sum()
    }

    /// The records of themselves that endpoints have gone past, so far.
    pub(super) fn contradicted(&self) -> u64 {
        let counts = self.nodes.iter().map(|node| node.endpoint.mesh().counts());
        counts.map(|counts| counts.contradicted).sum()
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

fn is_data(bytes: &[u8]) -> bool {
    let payload = &bytes[HEADER..];
    codec::is_batch(payload) || codec::is_run(payload)
}
