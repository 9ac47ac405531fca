//! Peers of version 1 beside the endpoints: each is a peer of some of them, and publishes to all of
//! these. Some forward what they hear from one to all others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::network::{Event, Expect, MILLI, Network, Planned};
use super::oracle::Truth;
use crate::endpoint::Message;
use muster_wire::Mono;
use muster_wire::mesh::Sabotage;
use muster_wire::mesh::{key, score};
use muster_wire::{Class, MessageId};
use muster_wire::{EndpointId, Filter, Topic};

/// A peer of version 1.
#[derive(Debug)]
pub(super) struct Visitor {
    id: EndpointId,
    filter: Arc<Filter>,
    forwards: bool,
    /// Its peers, by their numbers, and whether the connection stands.
    peers: BTreeMap<usize, bool>,
    /// Counts the changes of its peers: what was under way to or from a former one is lost.
    epoch: u64,
}

/// What goes from or to a peer of version 1, or happens to it.
#[derive(Debug)]
pub(super) enum Visit {
    /// A message on its way to one of its peers.
    From {
        visitor: usize,
        node: usize,
        epoch: u64,
        topic: Topic,
        payload: Bytes,
    },
    /// A message on its way to it.
    To {
        visitor: usize,
        node: usize,
        epoch: u64,
        message: Message,
    },
}

/// A message of a visitor.
#[derive(Debug)]
struct Published {
    topic: String,
    /// Who must get it, if that is known.
    expected: Option<BTreeSet<EndpointId>>,
    /// Who has got it.
    delivered: BTreeSet<EndpointId>,
}

/// What peers of version 1 published and heard since the ledger was closed last.
#[derive(Debug, Default)]
pub(super) struct VisitorLedger {
    /// By number, what they published.
    sent: BTreeMap<u64, Published>,
    /// What visitors must hear, with how often they have.
    expected: BTreeMap<(usize, Class, MessageId), (bool, usize)>,
    published: u64,
    pub(super) heard: u64,
}

/// The number of what is forwarded: nobody's.
const FORWARDED: u64 = 0;

fn number_of(message: &Message) -> u64 {
    let bytes = message.payload[..].try_into();
    u64::from_be_bytes(bytes.expect("written below"))
}

impl Network {
    /// Adds a peer of version 1 of some endpoints, at least one of which relays if any does.
    pub(super) fn add_visitor(&mut self) {
        let all = self.nodes.len();
        let mut peers = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            peers.insert(self.random.below(all), true);
        }
        if !peers.keys().any(|node| self.nodes[*node].transit) {
            let hub = self.nodes.iter().position(|node| node.transit);
            peers.extend(hub.map(|hub| (hub, true)));
        }
        let mut prefixes = vec![format!("t/{}", self.random.below(8))];
        if self.random.one_in(2) {
            prefixes.push("all/".to_owned());
        }
        let visitor = Visitor {
            id: EndpointId::from_random(self.random.bytes()),
            filter: Arc::new(Filter::from_prefixes(prefixes)),
            forwards: self.random.one_in(3),
            peers,
            epoch: 0,
        };
        self.visitors.push(visitor);
        for node in self.peers_of(self.visitors.len() - 1) {
            self.greet_visitors(node);
        }
    }

    fn peers_of(&self, visitor: usize) -> Vec<usize> {
        let peers = self.visitors[visitor].peers.iter();
        let standing = peers.filter(|(node, is_up)| **is_up && self.nodes[**node].is_alive);
        standing.map(|(node, _)| *node).collect()
    }

    /// An endpoint has its visitors as peers, as after its start.
    pub(super) fn greet_visitors(&mut self, node: usize) {
        for visitor in 0..self.visitors.len() {
            if self.peers_of(visitor).contains(&node) {
                let visitor = &self.visitors[visitor];
                let (endpoint, now) = (&mut self.nodes[node].endpoint, Mono(self.now));
                endpoint.guest_up(visitor.id, Arc::clone(&visitor.filter), now);
                // Found out in an endpoint; here they are told.
                if visitor.forwards && self.sabotage != Sabotage::NoQuestions {
                    endpoint.guest_forwards(visitor.id, now);
                }
                self.after(node);
            }
        }
    }

    /// A visitor loses one of its peers, or gets it back.
    pub(super) fn turn(&mut self, visitor: usize) {
        let known = &mut self.visitors[visitor];
        let at = self.random.below(known.peers.len());
        let Some((node, is_up)) = known.peers.iter_mut().nth(at) else {
            return;
        };
        *is_up = !*is_up;
        known.epoch += 1;
        let (node, is_up, id) = (*node, *is_up, known.id);
        if is_up {
            self.greet_visitors(node);
        } else {
            self.nodes[node].endpoint.guest_down(id, Mono(self.now));
            self.after(node);
        }
    }

    /// Lets visitors publish, and in times of trouble lose and find peers.
    pub(super) fn plan_visits(&mut self, messages: usize, span: u64, is_trouble: bool) {
        for visitor in 0..self.visitors.len() {
            for _ in 0..messages {
                let at = self.random.next() % span;
                self.plan(at, Planned::Visit(visitor));
            }
            if is_trouble {
                for _ in 0..self.random.below(3) {
                    let at = self.random.next() % span;
                    self.plan(at, Planned::Turn(visitor));
                }
            }
        }
    }

    /// A visitor publishes something to all its peers.
    pub(super) fn visit(&mut self, visitor: usize) {
        let topic = if self.random.one_in(3) {
            "all/x".to_owned()
        } else {
            format!("t/{}/x", self.random.below(8))
        };
        self.visits.published += 1;
        let number = self.visits.published;
        let expected = self.hearers(visitor, &topic);
        let sent = Published {
            topic: topic.clone(),
            expected,
            delivered: BTreeSet::new(),
        };
        self.visits.sent.insert(number, sent);
        let topic = Topic::new(topic).expect("a topic");
        for node in self.peers_of(visitor) {
            self.send_visit(visitor, node, &topic, number);
        }
    }

    /// The peers of a visitor that relay, if all they can reach is one part: its homes in several parts
    /// know nothing of one another.
    fn one_part(&self, truth: &Truth, visitor: usize) -> Option<Vec<EndpointId>> {
        let peers = self.visitors[visitor].peers.iter();
        let hubs = peers.filter(|(node, is_up)| **is_up && self.nodes[**node].transit);
        let hubs = hubs.map(|(node, _)| self.nodes[*node].id);
        let hubs: Vec<EndpointId> = hubs.filter(|id| truth.contains(*id)).collect();
        let first = truth.reach(*hubs.first()?);
        hubs.iter().all(|hub| first.contains(hub)).then_some(hubs)
    }

    /// The visitors that a living endpoint has lost as guests while another one was out of its reach and
    /// still has its record from before. When links bring the two together, the record counts until its
    /// successor arrives, and who has been their home may take the former host for it (section 12.5).
    pub(super) fn outdated(&self) -> BTreeSet<usize> {
        let mut former = BTreeSet::new();
        for (at, host) in self.nodes.iter().enumerate().filter(|(_, it)| it.is_alive) {
            for node in self.nodes.iter().filter(|node| node.is_alive) {
                let database = node.endpoint.mesh().database();
                let known = database.slot(host.id).and_then(|slot| database.node(slot));
                let Some(known) = known.filter(|known| !known.guests.is_empty()) else {
                    continue;
                };
                let visitors = self.visitors.iter().enumerate();
                let named = visitors.filter(|(_, visitor)| known.has_guest(visitor.id));
                let named = named.map(|(number, _)| number);
                former.extend(named.filter(|number| !self.peers_of(*number).contains(&at)));
            }
        }
        former
    }

    /// Returns `true` if what goes to and comes from a visitor may be lost in this phase.
    fn may_lose(&self, visitor: usize) -> bool {
        self.expect != Expect::Exact && self.outdated.contains(&visitor)
    }

    fn is_calm(&self) -> bool {
        self.expect != Expect::AtMostOnce && !self.has_fences
    }

    /// Who must hear what a visitor publishes now, if that can be said.
    fn hearers(&self, visitor: usize, topic: &str) -> Option<BTreeSet<EndpointId>> {
        let (truth, filters) = &self.before;
        if !self.is_calm() {
            return None;
        }
        let hubs = self.one_part(truth, visitor)?;
        if self.may_lose(visitor) {
            return Some(BTreeSet::new());
        }
        let mut reached = (*truth.reach(hubs[0])).clone();
        reached.extend(
            self.peers_of(visitor)
                .iter()
                .map(|node| self.nodes[*node].id),
        );
        reached.retain(|id| {
            let filter = filters.get(id);
            filter.is_some_and(|filter| filter.matches(topic.as_bytes()))
        });
        Some(reached)
    }

    /// The home of a visitor among those of its peers that an endpoint reaches.
    fn home(&self, truth: &Truth, visitor: usize, from: EndpointId) -> Option<EndpointId> {
        let guest = key(self.visitors[visitor].id);
        let reach = truth.reach(from);
        let peers = self.peers_of(visitor).into_iter();
        let hubs = peers.map(|node| &self.nodes[node]);
        let hubs = hubs.filter(|node| node.transit && reach.contains(&node.id));
        let hubs = hubs.map(|node| node.id);
        hubs.max_by_key(|hub| (score(guest, guest, key(*hub)), *hub))
    }

    /// An endpoint publishes: which visitors must hear of it, and which homes it goes to for that.
    pub(super) fn expect_visitors(
        &mut self,
        origin: usize,
        topic: &str,
        (id, class): (MessageId, Class),
    ) -> Vec<EndpointId> {
        let mut homes = Vec::new();
        let (truth, _) = &self.before;
        if !self.is_calm() || !truth.contains(self.nodes[origin].id) {
            return homes;
        }
        let mut expected = Vec::new();
        for (number, visitor) in self.visitors.iter().enumerate() {
            let home = self.home(truth, number, self.nodes[origin].id);
            let is_peer = self.peers_of(number).contains(&origin);
            let is_wanted = visitor.filter.matches(topic.as_bytes());
            if self.one_part(truth, number).is_some() {
                let is_heard = is_peer || home.is_some();
                expected.push((number, is_wanted && is_heard && !self.may_lose(number)));
            }
            let is_by_home = !is_peer || visitor.forwards;
            homes.extend(home.filter(|_| is_wanted && is_by_home));
        }
        for (number, is_expected) in expected {
            let heard = self.visits.expected.entry((number, class, id)).or_default();
            heard.0 = is_expected;
        }
        homes
    }

    /// What was under way from or to a visitor has arrived.
    pub(super) fn arrive(&mut self, visit: Visit) {
        match visit {
            Visit::From {
                visitor,
                node,
                epoch,
                topic,
                payload,
            } => {
                let guest = self.visitors[visitor].id;
                let now = self.visitors[visitor].epoch + self.nodes[node].life;
                if self.nodes[node].is_alive && epoch == now {
                    let endpoint = &mut self.nodes[node].endpoint;
                    endpoint.receive_from_guest(guest, Class::Event, &topic, payload);
                    self.after(node);
                }
            }
            Visit::To {
                visitor,
                node,
                epoch,
                message,
            } if epoch == self.visitors[visitor].epoch => {
                self.heard(visitor, &message);
                self.forward(visitor, node, &message.topic);
            }
            Visit::To { .. } => {}
        }
    }

    /// An endpoint sends a message to a visitor.
    pub(super) fn pass_to_visitor(&mut self, node: usize, guest: EndpointId, message: Message) {
        let visitor = self.visitors.iter().position(|known| known.id == guest);
        let visitor = visitor.expect("somebody told of it");
        let at = self.now + MILLI + self.random.next() % (10 * MILLI);
        let epoch = self.visitors[visitor].epoch;
        let visit = Visit::To {
            visitor,
            node,
            epoch,
            message,
        };
        self.push(at, Event::Visit(visit));
    }

    /// Sends what came from one peer to the others, if that is the visitor's habit.
    fn forward(&mut self, visitor: usize, from: usize, topic: &Topic) {
        if !self.visitors[visitor].forwards {
            return;
        }
        for node in self.peers_of(visitor) {
            if node != from {
                self.send_visit(visitor, node, topic, FORWARDED);
            }
        }
    }

    fn send_visit(&mut self, visitor: usize, node: usize, topic: &Topic, number: u64) {
        let at = self.now + MILLI + self.random.next() % (10 * MILLI);
        let visit = Visit::From {
            visitor,
            node,
            epoch: self.visitors[visitor].epoch + self.nodes[node].life,
            topic: topic.clone(),
            payload: Bytes::copy_from_slice(&number.to_be_bytes()),
        };
        self.push(at, Event::Visit(visit));
    }

    fn heard(&mut self, visitor: usize, message: &Message) {
        self.visits.heard += 1;
        let id = self.visitors[visitor].id;
        if message.guest.is_some() {
            let text = format!("{id} got {:?}, which is of version 1", message.id);
            self.ledger.violations.push(text);
        }
        let key = (visitor, message.class, message.id);
        let known = self.visits.expected.get_mut(&key);
        // What was published while everything may happen may come twice.
        if let Some((is_expected, times)) = known {
            *times += 1;
            if *times > 1 || (!*is_expected && self.expect == Expect::Exact) {
                let text = format!("{id}, of version 1, got {:?} {times} times", message.id);
                self.ledger.violations.push(text);
            }
        }
    }

    /// An endpoint's subscribers hear what a visitor has published.
    pub(super) fn deliver_visit(&mut self, node: usize, message: &Message) {
        self.visits.heard += 1;
        let to = self.nodes[node].id;
        let number = number_of(message);
        if number == FORWARDED {
            let truth = &self.before.0;
            let visitors = 0..self.visitors.len();
            let mut visitors = visitors.filter(|it| Some(self.visitors[*it].id) == message.guest);
            // A peer that cannot reach the home exchanges messages itself, and they come over from it.
            let has_one_home = visitors.any(|visitor| {
                let hubs = self.one_part(truth, visitor);
                let reach = hubs.map(|hubs| truth.reach(hubs[0]));
                let mut peers = self.peers_of(visitor).into_iter();
                reach.is_some_and(|reach| peers.all(|node| reach.contains(&self.nodes[node].id)))
            });
            if self.is_calm() && has_one_home {
                let text = format!("{to} got what {:?} forwards", message.guest);
                self.ledger.violations.push(text);
            }
            return;
        }
        if let Some(sent) = self.visits.sent.get_mut(&number)
            && !sent.delivered.insert(to)
            && sent.expected.is_some()
        {
            let topic = &sent.topic;
            let text = format!("{to} got {number} of version 1 on {topic} twice");
            self.ledger.violations.push(text);
        }
    }

    /// Everything has arrived that will.
    pub(super) fn close_visits(&mut self) {
        for (number, sent) in std::mem::take(&mut self.visits.sent) {
            let Some(expected) = sent.expected else {
                continue;
            };
            let topic = &sent.topic;
            let missed = expected.difference(&sent.delivered);
            let alive = self.nodes.iter().filter(|node| node.is_alive);
            let alive: BTreeSet<EndpointId> = alive.map(|node| node.id).collect();
            for missed in missed.filter(|id| alive.contains(id)) {
                let text = format!("{missed} missed {number} of version 1 on {topic}");
                self.ledger.violations.push(text);
            }
        }
        for ((visitor, _, id), heard) in std::mem::take(&mut self.visits.expected) {
            if heard == (true, 0) {
                let text = format!("{visitor}, of version 1, missed {id:?}");
                self.ledger.violations.push(text);
            }
        }
    }

    /// Whether all endpoints agree on who is the home of each visitor.
    pub(super) fn agreed_on_homes(&self) -> Result<(), String> {
        let truth = self.truth();
        for (number, visitor) in self.visitors.iter().enumerate() {
            for (at, node) in self.nodes.iter().enumerate() {
                let home = self.home(&truth, number, node.id);
                let database = node.endpoint.mesh().database();
                let announced = database.node(database.me()).expect("always there");
                let guest = announced.guests.iter().find(|it| it.id == visitor.id);
                let is_peer = self.peers_of(number).contains(&at);
                if guest.is_some() != is_peer {
                    return Err(format!("{at} has not announced its visitors"));
                }
                let is_home = guest.is_some_and(|guest| guest.filter.is_some());
                // One that is alone has nobody to be a home for.
                let is_alone = database.reach().len() == 1;
                if !is_alone && is_home != (home == Some(node.id)) {
                    return Err(format!("{at} thinks it is a home: {is_home}"));
                }
            }
        }
        Ok(())
    }
}
