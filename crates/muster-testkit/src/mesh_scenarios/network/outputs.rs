//! Carries out what endpoints decide, and notes what of it breaks a rule.

use std::collections::BTreeSet;

use bytes::Bytes;
use muster_wire::frame::HEADER;
use muster_wire::mesh::codec::{Decoder, Frame, MeshFrame};
use muster_wire::{Class, EndpointId, MessageId, Mono};

use super::{Event, Expect, Network};
use crate::endpoint::Output;

impl Network {
    /// Carries out what an endpoint has decided, and wakes it when it is due.
    pub(in crate::mesh_scenarios) fn after(&mut self, node: usize) {
        self.check_agreement(node);
        if self.nodes[node].endpoint.counts().through_fenced > 0 {
            let text = format!("{node} leads through a fenced endpoint");
            self.ledger.violations.push(text);
        }
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

    pub(super) fn send(
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
        if let Some((kind, entries)) = control_kind(&bytes) {
            self.control.0 += 1;
            self.control.1 += bytes.len() as u64;
            let kind = self.by_kind.entry(kind).or_default();
            kind.frames += 1;
            kind.bytes += bytes.len() as u64;
            kind.entries += entries as u64;
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
}

/// What a frame is about and how much is in it, if it is no message and no heartbeat.
pub(super) fn control_kind(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let mut decoder = Decoder::default();
    let Ok(Frame::Mesh(frame)) = decoder.read(&bytes[HEADER..]) else {
        return None;
    };
    Some(match frame {
        MeshFrame::Heartbeat { .. } => return None,
        MeshFrame::Records { root, records, .. } if root.is_nil() => ("repairs", records.len()),
        MeshFrame::Records {
            flood: Some(_),
            records,
            ..
        } => ("floods to be acknowledged", records.len()),
        MeshFrame::Records { records, .. } => ("floods", records.len()),
        MeshFrame::Digest(_) | MeshFrame::Greeting(_) => ("hashes", 0),
        MeshFrame::List(list) => ("version lists", list.len()),
        MeshFrame::Want(ids) => ("wishes", ids.len()),
        MeshFrame::Offer { list, .. } => ("offers", list.len()),
        MeshFrame::Accept { ids, .. } => ("what is taken up of offers", ids.len()),
        MeshFrame::Agree { .. } | MeshFrame::Agreed(_) => ("agreement", 0),
        MeshFrame::JoinAcknowledged { .. } => ("acknowledgements", 0),
        MeshFrame::JoinRequest | MeshFrame::JoinReady(_) => ("joining", 0),
    })
}
