//! What a scenario does to the network: links and endpoints fail and return, messages are published.

use std::collections::BTreeSet;

use std::sync::Arc;

use bytes::Bytes;
use muster_wire::mesh::codec::MeshFrame;
use muster_wire::mesh::seal::{NodeSeal, Seals, link_bytes, node_bytes};
use muster_wire::mesh::{LinkRecord, NodeRecord, Record};
use muster_wire::{Class, EndpointId, Filter, Incarnation, Kind, Mono, Topic};

use super::{Event, Expect, MILLI, Network};

/// What a scenario does at a time.
#[derive(Debug, Clone, Copy)]
pub(in crate::mesh_scenarios) enum Planned {
    Heal(usize),
    Fail(usize),
    Hang(usize),
    Restart(usize),
    Start(usize),
    Publish(usize),
    Subscribe(usize),
    Visit(usize),
    Turn(usize),
    Fence {
        by: usize,
        of: usize,
    },
    Unfence {
        by: usize,
        of: usize,
    },
    /// An endpoint tells what is not so of another.
    Lie {
        liar: usize,
        victim: usize,
    },
}

impl Network {
    pub(super) fn act(&mut self, planned: Planned) {
        match planned {
            Planned::Heal(link) => self.heal(link),
            Planned::Fail(link) => self.fail(link),
            Planned::Hang(link) => self.links[link].is_hung = self.links[link].is_up,
            Planned::Restart(node) => self.restart(node),
            Planned::Start(node) => self.start(node),
            Planned::Publish(node) => self.publish_something(node),
            Planned::Visit(visitor) => self.visit(visitor),
            Planned::Turn(visitor) => self.turn(visitor),
            Planned::Fence { by, of } => {
                let id = self.nodes[of].id;
                self.nodes[by].endpoint.fence(id, Mono(self.now));
                self.after(by);
            }
            Planned::Unfence { by, of } => {
                let id = self.nodes[of].id;
                self.nodes[by].endpoint.unfence(id, Mono(self.now));
                self.after(by);
            }
            Planned::Lie { liar, victim } => self.lie(liar, victim),
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
    pub(super) fn fail(&mut self, link: usize) {
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
        let (endpoint, seals) = self.new_endpoint(node, self.nodes[node].transit);
        let id = endpoint.id();
        self.by_id.insert(id, node);
        let known = &mut self.nodes[node];
        known.id = id;
        known.endpoint = endpoint;
        known.seals = seals;
        known.is_alive = true;
        known.life += 1;
        known.wake = None;
        known
            .endpoint
            .subscribe(known.filter.clone(), Mono(self.now));
        self.after(node);
        self.greet_visitors(node);
    }

    /// Records of the victim that it never announced, as whoever forges them would choose their numbers, to all
    /// neighbours of the liar.
    fn lie(&mut self, liar: usize, victim: usize) {
        let [teller, told_of] = [liar, victim].map(|node| &self.nodes[node]);
        if !teller.is_alive || !told_of.is_alive || liar == victim {
            return;
        }
        // Where the victim does not hear it, it stands until the victim announces something. With seals it stands nowhere.
        if !self.is_sealed && !self.truth().reach(teller.id).contains(&told_of.id) {
            return;
        }
        let database = told_of.endpoint.mesh().database();
        let versions = database.versions(database.me()).expect("always there");
        let mut node = NodeRecord::clone(database.node(database.me()).expect("always there"));
        let more = [0, 1, 1000, 1 << 20, 1 << 40, u64::MAX];
        let mut raised = |number: u64| {
            let raise = more[self.random.below(more.len())];
            number.saturating_add(raise)
        };
        node.incarnation = Incarnation(raised(versions.incarnation.0));
        node.version = raised(versions.node);
        node.filter = Filter::default();
        let links = LinkRecord {
            id: node.id,
            incarnation: node.incarnation,
            version: raised(versions.links),
            neighbours: Vec::new(),
        };
        node.transit ^= self.random.one_in(4);
        let node = Arc::new(node);
        let mut records = vec![self.forged_node(liar, victim, node)];
        if self.random.one_in(2) {
            records.push(self.forged_links(liar, victim, links));
        }
        let frame = MeshFrame::Records {
            root: self.nodes[liar].id,
            more: false,
            flood: None,
            records,
        };
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        let links = self
            .links
            .iter()
            .filter(|link| link.is_up && link.ends.contains(&liar));
        let ends = links.map(|link| link.ends[usize::from(link.ends[0] == liar)]);
        for end in ends.collect::<Vec<_>>() {
            self.send(liar, self.nodes[end].id, bytes.clone(), None);
        }
    }

    /// A record as if it were the victim's: with no seal, with the liar's, or with that of something else that the victim
    /// has said.
    fn forged_node(&mut self, liar: usize, victim: usize, node: Arc<NodeRecord>) -> Record {
        let seal = self.nodes[liar].seals.as_ref().and_then(|seals| {
            let database = self.nodes[victim].endpoint.mesh().database();
            let genuine = database.seal(database.me());
            let signature = seals.sign(&node_bytes(&node, &[]))?;
            let own = NodeSeal {
                credentials: Arc::clone(seals.credentials()),
                signature,
                unknown: Vec::new(),
            };
            match self.random.below(4) {
                0 => None,
                1 => genuine.cloned(),
                2 => Some(Arc::new(own)),
                _ => Some(Arc::new(NodeSeal {
                    credentials: Arc::clone(&genuine?.credentials),
                    ..own
                })),
            }
        });
        Record::Node(node, seal)
    }

    fn forged_links(&mut self, liar: usize, victim: usize, links: LinkRecord) -> Record {
        let seal = self.nodes[liar].seals.as_ref().and_then(|seals| {
            let observer = self.nodes[liar].endpoint.mesh().database();
            let slot = observer.slot(self.nodes[victim].id);
            match self.random.below(3) {
                0 => None,
                1 => slot.and_then(|slot| observer.links_seal(slot).cloned()),
                _ => seals.sign(&link_bytes(&links)),
            }
        });
        Record::Links(links, seal)
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

    pub(super) fn publish(
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
        // Who is fenced does not know it, and passes on what others have as well.
        let is_exact =
            self.expect == Expect::Exact && self.fenced.is_empty() && truth.sees_one_part(origin);
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
}
