//! What happens as time passes, and what nodes want done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_cluster::node::{Effect, Input, LogBatch, Now, Severity};
use muster_data::Timestamp;
use muster_wire::{EndpointId, Mono, Topic};

use super::Cluster;
use crate::agenda::Item;
use crate::nanos;

/// The wall clock's time when a simulation begins: 2026-01-01.
const BEGIN: Timestamp = Timestamp::from_secs(1_767_225_600);

/// How long a logger takes to write a batch.
const WRITING: Duration = Duration::from_micros(100);

/// The input that feeds are announced as.
const INPUT: &str = "feed";

impl Cluster {
    pub(super) fn present(&self) -> Now {
        let wall = i64::try_from(self.now).expect("a simulation is short");
        Now {
            mono: Mono(self.now),
            wall: Timestamp::from_nanos(BEGIN.as_nanos() + wall),
        }
    }

    pub(super) fn run_to(&mut self, end: u64) {
        while self.agenda.next_time().is_some_and(|at| at <= end) {
            self.happen();
        }
        self.now = end;
    }

    /// Jumps to what happens next.
    pub(super) fn happen(&mut self) {
        let Some((at, item)) = self.agenda.pop() else {
            return;
        };
        self.now = at;
        if item.is_activity() {
            self.last_activity = at;
        }
        match item {
            Item::PeerAdded { connection, side } => {
                let known = &mut self.connections[connection];
                if known.is_open {
                    known.ends[side].knows = true;
                    let (node, id) = (known.ends[side].node, known.ends[1 - side].id);
                    let direct = known.via.is_none();
                    self.step(node, Input::PeerAdded { id, direct });
                }
            }
            Item::PeerLost { connection, side } => {
                let known = &mut self.connections[connection];
                known.ends[side].knows = false;
                let (node, life) = (known.ends[side].node, known.ends[side].life);
                let peer = known.ends[1 - side].id;
                if self.lives(node, life) {
                    self.store_lost(node, peer);
                    self.step(node, Input::PeerLost(peer));
                }
            }
            Item::Arrival {
                connection,
                side,
                via,
                payload,
            } => {
                let known = &self.connections[connection];
                let (end, sender) = (&known.ends[side], &known.ends[1 - side]);
                let is_cut = via.is_some_and(|relay| self.was_killed(relay)) || at > end.cut;
                if !is_cut && self.lives(end.node, end.life) {
                    let (node, from, payload) = (end.node, sender.id, &payload);
                    self.step(node, Input::Message { from, payload });
                    return;
                }
                let mut lives = [(end.node, end.life), (sender.node, sender.life)]
                    .into_iter()
                    .chain(via);
                if via.is_none() || lives.any(|life| self.was_killed(life)) {
                    self.lost += 1;
                }
            }
            Item::Pong { node, life, peer } if self.lives(node, life) => {
                self.step(node, Input::Pong(peer));
            }
            Item::Feed { node, life } if self.lives(node, life) => self.read_feed(node),
            Item::Written {
                node,
                life,
                records,
            } if self.lives(node, life) => self.step(node, Input::Written { records, failed: 0 }),
            Item::Wake { node, life } if self.lives(node, life) => {
                if let Some(life) = &mut self.nodes[node].life
                    && life.wake == Some(at)
                {
                    life.wake = None;
                }
                self.step(node, Input::Tick);
            }
            Item::StoreMessage {
                node,
                life,
                from,
                bytes,
                ..
            } if self.lives(node, life) => self.store_message(node, from, &bytes),
            Item::StoreWake { node, life, store } if self.lives(node, life) => {
                self.store_wake(at, node, &store);
            }
            Item::Feed { .. }
            | Item::Written { .. }
            | Item::Wake { .. }
            | Item::Pong { .. }
            | Item::StoreMessage { .. }
            | Item::StoreWake { .. } => {}
        }
    }

    pub(super) fn lives(&self, node: usize, life: u64) -> bool {
        let present = self.nodes[node].life.as_ref();
        present.is_some_and(|present| present.number == life)
    }

    fn read_feed(&mut self, position: usize) {
        let feed = Arc::clone(&self.nodes[position].feed);
        for _ in 0..self.batch {
            let Some(life) = &mut self.nodes[position].life else {
                return;
            };
            let Some((payload, ts)) = feed.get(life.fed) else {
                break;
            };
            life.fed += 1;
            life.low = life.low.max(Some(ts));
            self.step(position, Input::Raise(payload));
        }
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let (number, has_ended) = (life.number, life.fed >= feed.len());
        if let Some(low) = life.low {
            self.step(position, Input::InputLow { input: INPUT, low });
        }
        if has_ended {
            self.note(position, "input ended");
            self.step(position, Input::InputEnd { input: INPUT });
        } else {
            let at = self.now + nanos(self.batch_every);
            self.agenda.add(
                at,
                Item::Feed {
                    node: position,
                    life: number,
                },
            );
        }
    }

    pub(super) fn step(&mut self, position: usize, input: Input<'_>) {
        let now = self.present();
        if let Some(life) = &mut self.nodes[position].life {
            life.process.step(input, now);
            self.carry_out(position);
        }
    }

    pub(super) fn carry_out(&mut self, position: usize) {
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let number = life.number;
        for effect in life.process.take_effects() {
            match effect {
                Effect::Publish { topic, payload, .. } => self.publish(position, &topic, &payload),
                Effect::WriteLog(batch) => self.write(position, number, &batch),
                Effect::StartInputs => {
                    let has_input = !self.layout.nodes()[position].input.is_empty();
                    if has_input {
                        self.note(position, "input started");
                        let node = position;
                        self.agenda.add(self.now, Item::Feed { node, life: number });
                    }
                }
                // Nobody outside the simulation looks in.
                Effect::DescribePeers(_) | Effect::Ready { .. } => {}
                Effect::Ping(peer) => self.ping(position, number, peer),
                Effect::OpenStore {
                    store,
                    persistent,
                    use_here,
                    watch,
                } => self.open_store(position, &store, persistent, use_here, watch),
                Effect::WriteStore {
                    store,
                    op,
                    level,
                    within,
                    token,
                } => self.write_store(position, &store, op, level, within, token),
                Effect::Leave => self.note(position, "leaves"),
                Effect::Report(report) => {
                    let mark = match report.severity {
                        Severity::Info => "",
                        Severity::Warning => "warning: ",
                        Severity::Error => "error: ",
                    };
                    self.note(position, &format!("{mark}{}", report.text));
                }
            }
        }
        self.schedule_wake(position);
    }

    /// A peer that lives answers after two journeys.
    fn ping(&mut self, position: usize, life: u64, peer: EndpointId) {
        let own = self.nodes[position].life.as_ref();
        let connections = own.map(|life| life.connections.clone()).unwrap_or_default();
        let answers = connections.into_iter().any(|connection| {
            let known = &self.connections[connection];
            let side = usize::from(known.ends[0].node == position);
            let far = &known.ends[side];
            known.is_open && far.id == peer && self.lives(far.node, far.life)
        });
        if answers {
            let latency = self.random.nanos(&self.latency) + self.random.nanos(&self.latency);
            let node = position;
            self.agenda
                .add(self.now + latency, Item::Pong { node, life, peer });
        }
    }

    fn schedule_wake(&mut self, position: usize) {
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let Some(deadline) = life.process.next_deadline() else {
            return;
        };
        // What is due at once happens a little later, so that time passes whatever a framework does.
        let at = deadline.0.max(self.now + 1_000);
        if life.wake.is_none_or(|wake| at < wake) {
            life.wake = Some(at);
            let life = life.number;
            let node = position;
            self.agenda.add(at, Item::Wake { node, life });
        }
    }

    /// Sends a message to every node that can be reached and subscribes to its topic.
    fn publish(&mut self, position: usize, topic: &Topic, payload: &Bytes) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        for connection in life.connections.clone() {
            let known = &self.connections[connection];
            let side = usize::from(known.ends[0].node == position);
            let subscribes = known.ends[side].filter.matches(topic.as_bytes());
            if !known.ends[1 - side].knows || !subscribes {
                continue;
            }
            let via = known.via;
            let mut latency = self.random.nanos(&self.latency);
            if via.is_some() {
                latency += self.random.nanos(&self.latency);
            }
            let to = &mut self.connections[connection].ends[side];
            to.last_arrival = to.last_arrival.max(self.now + latency);
            let at = to.last_arrival;
            let payload = payload.clone();
            self.agenda.add(
                at,
                Item::Arrival {
                    connection,
                    side,
                    via,
                    payload,
                },
            );
        }
    }

    fn write(&mut self, position: usize, life: u64, batch: &LogBatch) {
        let records = batch.len() as u64;
        self.note(
            position,
            &format!("wrote {records} records to {}", batch.stream),
        );
        let log = self.logged.entry(batch.stream.clone()).or_default();
        log.extend(batch.rows().map(|row| (position, row.to_data())));
        let at = self.now + nanos(WRITING);
        let node = position;
        self.agenda.add(
            at,
            Item::Written {
                node,
                life,
                records,
            },
        );
    }

    pub(super) fn note(&mut self, position: usize, what: &str) {
        let seconds = Duration::from_nanos(self.now).as_secs_f64();
        let name = &self.nodes[position].name;
        self.transcript
            .push(format!("{seconds:9.3} {name:10} {what}"));
    }

    pub(super) fn position(&self, name: &str) -> usize {
        let position = self.nodes.iter().position(|node| node.name == name);
        position.unwrap_or_else(|| panic!("the layout has no node `{name}`"))
    }
}
