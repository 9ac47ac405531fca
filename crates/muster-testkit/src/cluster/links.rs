//! Links between nodes and what crosses them: frames of the mesh between ours, messages of version 1 with Zeek's.

use bytes::Bytes;
use muster_cluster::AGENT_PREFIX;
use muster_cluster::node::{Input, Reach};
use muster_store::protocol::StoreMessage;
use muster_wire::peering::Protocol;
use muster_wire::{Class, EndpointId, Kind, Topic};

use super::Cluster;
use crate::agenda::{Item, Parcel};
use crate::endpoint::{Endpoint, Message, Output};

/// A link between two lives of nodes.
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) is_open: bool,
}

/// One side of a link.
pub(super) struct End {
    pub(super) node: usize,
    pub(super) life: u64,
    pub(super) id: EndpointId,
    /// Whether this side has learned that the link stands, and not yet that it has ended.
    pub(super) knows: bool,
    /// Whether the node was told of the peer: in a mesh when the mesh has made it known.
    announced: bool,
    /// When the last thing to this side arrives.
    pub(super) last_arrival: u64,
    /// What would arrive later than this is lost.
    pub(super) cut: u64,
}

impl Cluster {
    /// Links two nodes, if both are alive: each side learns of it in its time.
    pub(super) fn connect(&mut self, one: usize, other: usize) {
        let connection = self.connections.len();
        let mut ends = Vec::new();
        for node in [one, other] {
            let Some(life) = &self.nodes[node].life else {
                continue;
            };
            let at = self.now + 2 * self.random.nanos(&self.latency.clone());
            ends.push(End {
                node,
                life: life.number,
                id: life.id,
                knows: false,
                announced: false,
                last_arrival: at,
                cut: u64::MAX,
            });
        }
        // With one of them alone there is no link, and nothing learns of it.
        let Ok(ends) = <[End; 2]>::try_from(ends) else {
            return;
        };
        for (side, end) in ends.iter().enumerate() {
            if let Some(life) = &mut self.nodes[end.node].life {
                life.connections.push(connection);
            }
            self.agenda
                .add(end.last_arrival, Item::PeerAdded { connection, side });
        }
        let is_open = true;
        self.connections.push(Connection { ends, is_open });
    }

    /// What is spoken over a link.
    fn protocol(&self, connection: usize) -> Protocol {
        let mut ends = self.connections[connection].ends.iter();
        if ends.any(|end| self.nodes[end.node].is_zeek) {
            Protocol::V1
        } else {
            Protocol::V2
        }
    }

    /// One side learns that a link stands.
    pub(super) fn link_up(&mut self, connection: usize, side: usize) {
        let Some(known) = self.connections.get_mut(connection) else {
            return;
        };
        let (end, far) = (&known.ends[side], &known.ends[1 - side]);
        let (node, life, peer, far_node) = (end.node, end.life, far.id, far.node);
        if !known.is_open || !self.lives(node, life) {
            return;
        }
        self.connections[connection].ends[side].knows = true;
        let now = self.clock(node).mono;
        let protocol = self.protocol(connection);
        let filter = self.nodes[far_node].life.as_ref();
        let filter = filter.map(|life| life.filter.clone()).unwrap_or_default();
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        let is_told = match (&mut life.endpoint, protocol) {
            (Some(endpoint), Protocol::V2) => {
                endpoint.peer_up(peer, now);
                endpoint.mesh().up().contains(&peer)
            }
            (Some(endpoint), Protocol::V1) => {
                endpoint.guest_up(peer, filter, now);
                true
            }
            (None, _) => true,
        };
        if is_told {
            self.announce(connection, side, protocol);
        }
        self.endpoint_did(node);
    }

    fn announce(&mut self, connection: usize, side: usize, protocol: Protocol) {
        let known = &mut self.connections[connection];
        let peer = known.ends[1 - side].id;
        let end = &mut known.ends[side];
        if std::mem::replace(&mut end.announced, true) {
            return;
        }
        let node = end.node;
        self.store_discovered(node);
        self.step(node, Input::Reach(peer, Reach::PeerUp(protocol)));
    }

    /// One side learns that a link has ended.
    pub(super) fn link_down(&mut self, connection: usize, side: usize) {
        let protocol = self.protocol(connection);
        let known = &mut self.connections[connection];
        let peer = known.ends[1 - side].id;
        let end = &mut known.ends[side];
        if !std::mem::take(&mut end.knows) {
            return;
        }
        let was_announced = std::mem::take(&mut end.announced);
        let (node, life) = (end.node, end.life);
        if !self.lives(node, life) {
            return;
        }
        let now = self.clock(node).mono;
        let mut is_lost = true;
        if let Some(life) = &mut self.nodes[node].life {
            life.connections.retain(|known| *known != connection);
            if let Some(endpoint) = &mut life.endpoint {
                match protocol {
                    Protocol::V2 => endpoint.peer_down(peer, now),
                    Protocol::V1 => endpoint.guest_down(peer, now),
                }
                is_lost = !endpoint.mesh().up().contains(&peer);
            }
        }
        if was_announced {
            if is_lost {
                self.store_lost(node, peer);
            }
            self.step(node, Input::Reach(peer, Reach::PeerDown(protocol)));
        }
        self.endpoint_did(node);
    }

    /// Something has arrived at one side of a link.
    pub(super) fn arrive(&mut self, connection: usize, side: usize, parcel: Parcel) {
        let known = &self.connections[connection];
        let (end, sender) = (&known.ends[side], &known.ends[1 - side]);
        let (node, from) = (end.node, sender.id);
        if self.now > end.cut || !self.lives(node, end.life) {
            let lives = [(end.node, end.life), (sender.node, sender.life)];
            let was_killed = lives.into_iter().any(|life| self.was_killed(life));
            self.lost += u64::from(parcel.is_message() && was_killed);
            return;
        }
        let now = self.clock(node).mono;
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        match (parcel, &mut life.endpoint) {
            (Parcel::Frame { bytes, .. }, Some(endpoint)) => endpoint.receive(from, &bytes, now),
            (Parcel::Message { topic, payload }, Some(endpoint)) => {
                endpoint.receive_from_guest(from, Class::Event, &topic, payload);
            }
            (Parcel::Message { payload, .. }, None) => {
                let payload = &payload;
                self.step(node, Input::Message { from, payload });
            }
            // Zeek's processes are sent no frames of the mesh.
            (Parcel::Frame { .. }, None) => {}
        }
        self.endpoint_did(node);
    }

    /// Does what a node's endpoint wants done, in order.
    pub(super) fn endpoint_did(&mut self, node: usize) {
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        // A node that is told something may publish: what comes of that follows here.
        if std::mem::replace(&mut life.is_draining, true) {
            return;
        }
        let number = life.number;
        while let Some(output) = self.next_output(node, number) {
            match output {
                Output::Send {
                    to,
                    bytes,
                    carries,
                    is_routine,
                } => {
                    let is_routine =
                        is_routine || carries.is_some_and(|id| self.routine.contains(&id));
                    let is_message = carries.is_some();
                    let frame = Parcel::Frame {
                        bytes,
                        is_message,
                        is_routine,
                    };
                    self.send(node, to, frame);
                }
                Output::PassOn { guest, message } if message.kind == Kind::Data => {
                    let Message { topic, payload, .. } = message;
                    self.send(node, guest, Parcel::Message { topic, payload });
                }
                // Zeek's processes have no stores here.
                Output::PassOn { .. } => {}
                Output::Deliver(message) => {
                    let from = message.guest.unwrap_or(message.id.origin);
                    self.deliver(node, from, &message);
                }
                Output::Addressed(message) => self.deliver(node, message.id.origin, &message),
                Output::Up(record) => {
                    let id = record.id;
                    self.store_discovered(node);
                    if !record.name.is_empty() {
                        self.step(node, Input::Announced(id, &record.name));
                        self.step(node, Input::Reach(id, Reach::Discovered));
                    }
                    if let Some((connection, side)) = self.link_with(node, id) {
                        self.announce(connection, side, Protocol::V2);
                    }
                }
                Output::Down(id) => {
                    self.store_lost(node, id);
                    self.step(node, Input::Reach(id, Reach::Unreachable));
                }
                Output::Disconnect(peer) => self.disconnect(node, peer),
            }
        }
        if self.lives(node, number)
            && let Some(life) = &mut self.nodes[node].life
        {
            life.is_draining = false;
        }
        self.wake_endpoint(node);
    }

    /// A node's endpoint has ended a link.
    fn disconnect(&mut self, node: usize, peer: EndpointId) {
        assert!(
            !self.boxes.all.is_empty(),
            "the mesh has given up the link with {peer}"
        );
        if let Some((connection, side)) = self.link_with(node, peer) {
            self.give_up(connection, side);
        }
    }

    /// A node's endpoint leads nothing through another one any more, or does so again.
    pub(super) fn fence(&mut self, node: usize, id: EndpointId, is_fenced: bool) {
        let now = self.clock(node).mono;
        let life = self.nodes[node].life.as_mut();
        let Some(endpoint) = life.and_then(|life| life.endpoint.as_mut()) else {
            return;
        };
        if is_fenced {
            endpoint.fence(id, now);
        } else {
            endpoint.unfence(id, now);
        }
        self.endpoint_did(node);
    }

    fn next_output(&mut self, node: usize, life: u64) -> Option<Output> {
        let present = self.nodes[node].life.as_mut();
        let present = present.filter(|present| present.number == life)?;
        present.endpoint.as_mut()?.poll()
    }

    fn deliver(&mut self, node: usize, from: EndpointId, message: &Message) {
        match message.kind {
            Kind::Data => {
                let payload = &message.payload;
                let life = self.nodes[node].life.as_ref();
                let manager_topic = life.and_then(|life| life.process.manager_topic());
                let input = if manager_topic.as_ref() == Some(&message.topic) {
                    Input::ForManager { from, payload }
                } else {
                    Input::Message { from, payload }
                };
                self.step(node, input);
            }
            Kind::Command => self.store_command(node, from, &message.topic, &message.payload),
        }
    }

    /// Publishes to all who subscribe to a topic.
    pub(super) fn publish(
        &mut self,
        node: usize,
        class: Class,
        kind: Kind,
        topic: &Topic,
        payload: &Bytes,
    ) {
        let is_agent = node >= self.layout.nodes().len();
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        if let Some(endpoint) = &mut life.endpoint {
            let id = endpoint.publish(class, kind, topic, payload.clone());
            let says_little = kind == Kind::Command && says_little(payload);
            // It only says that somebody lives, and comes again and again.
            if is_agent
                || says_little
                || topic.as_bytes().ends_with(b"/data/master")
                || is_for_agents(topic)
                || says_of_feed(class, topic)
            {
                self.routine.insert((id, class));
            }
            return self.endpoint_did(node);
        }
        // A Zeek process sends to those of its peers that subscribe.
        for connection in life.connections.clone() {
            let known = &self.connections[connection];
            let side = usize::from(known.ends[0].node == node);
            let (to, zeek) = (&known.ends[side], known.ends[1 - side].id);
            let far = self.nodes[to.node].life.as_ref();
            let subscribes = far.is_some_and(|far| match &far.endpoint {
                Some(endpoint) => endpoint.told(zeek).matches(topic.as_bytes()),
                None => far.filter.matches(topic.as_bytes()),
            });
            if known.ends[1 - side].knows && subscribes {
                let (topic, payload) = (topic.clone(), payload.clone());
                self.send(node, to.id, Parcel::Message { topic, payload });
            }
        }
    }

    /// The open link of a node with an endpoint, and the node's side of it.
    fn link_with(&self, node: usize, peer: EndpointId) -> Option<(usize, usize)> {
        let life = self.nodes[node].life.as_ref()?;
        life.connections.iter().find_map(|connection| {
            let known = &self.connections[*connection];
            let side = usize::from(known.ends[1].node == node);
            let is_it = known.ends[1 - side].id == peer && known.ends[side].knows;
            is_it.then_some((*connection, side))
        })
    }

    fn send(&mut self, node: usize, to: EndpointId, parcel: Parcel) {
        let Some((connection, side)) = self.link_with(node, to) else {
            return;
        };
        let latency = self.random.nanos(&self.latency);
        let far = &mut self.connections[connection].ends[1 - side];
        far.last_arrival = (far.last_arrival + 1).max(self.now + latency);
        let (at, side) = (far.last_arrival, 1 - side);
        self.agenda.add(
            at,
            Item::Arrival {
                connection,
                side,
                parcel,
            },
        );
    }

    /// Returns `true` if a life did not end in order: what was under way to it, or from it, may be
    /// lost.
    fn was_killed(&self, (node, life): (usize, u64)) -> bool {
        self.nodes[node].killed.contains(&life)
    }

    fn wake_endpoint(&mut self, node: usize) {
        let life = self.nodes[node].life.as_ref();
        let due = life.and_then(|life| life.endpoint.as_ref().and_then(Endpoint::next_due));
        let Some(at) = due.map(|due| self.true_time(node, due).max(self.now)) else {
            return;
        };
        let Some(life) = &mut self.nodes[node].life else {
            return;
        };
        if life.endpoint_wake.is_none_or(|wake| at < wake) {
            life.endpoint_wake = Some(at);
            let life = life.number;
            self.agenda.add(at, Item::EndpointWake { node, life });
        }
    }

    /// A node's endpoint has something to do.
    pub(super) fn tick_endpoint(&mut self, node: usize, at: u64) {
        let now = self.clock(node).mono;
        if let Some(life) = &mut self.nodes[node].life {
            if life.endpoint_wake == Some(at) {
                life.endpoint_wake = None;
            }
            if let Some(endpoint) = &mut life.endpoint {
                endpoint.tick(now);
            }
        }
        self.endpoint_did(node);
    }

    /// Returns `true` if a ping of a node is answered: the endpoint lives, and can be reached.
    pub(super) fn answers(&self, node: usize, peer: EndpointId) -> bool {
        let reaches = self.nodes[node].life.as_ref().is_some_and(|life| {
            let endpoint = life.endpoint.as_ref();
            endpoint.is_some_and(|it| it.mesh().up().contains(&peer))
                || self.link_with(node, peer).is_some()
        });
        let lives = |node: &super::SimulatedNode| {
            let life = node.life.as_ref();
            node.frozen_since.is_none() && life.is_some_and(|life| life.id == peer)
        };
        reaches && self.nodes.iter().any(lives)
    }
}

/// Whether a store's message says only that somebody lives, or how far somebody is.
fn says_little(payload: &[u8]) -> bool {
    match StoreMessage::decode(payload) {
        Ok(StoreMessage::Alive { .. } | StoreMessage::Acknowledge { .. }) => true,
        Ok(StoreMessage::Replicate(replicate)) => replicate.entries.is_empty(),
        _ => false,
    }
}

/// Whether a topic is that of an agent.
fn is_for_agents(topic: &Topic) -> bool {
    let topic = topic.as_bytes();
    let agent = AGENT_PREFIX.as_bytes();
    let mut parts = topic.split(|byte| *byte == b'/');
    parts.any(|part| part.starts_with(agent))
}

/// A source of a feed says that it is there.
fn says_of_feed(class: Class, topic: &Topic) -> bool {
    let is_of_feed = topic.as_bytes().windows(6).any(|part| part == b"/feed/");
    class == Class::Control && is_of_feed
}
