//! What happens as time passes, and what nodes want done.

use std::sync::Arc;
use std::time::Duration;

use muster_cluster::node::{Effect, Input, NodeLoop, Severity};
use muster_wire::{EndpointId, Kind};

use super::Cluster;
use crate::agenda::{Item, LogWork, SpoolWork};
use crate::nanos;

/// The input that feeds are announced as.
const INPUT: &str = "feed";

impl Cluster {
    pub(super) fn run_to(&mut self, end: u64) {
        while self.agenda.next_time().is_some_and(|at| at <= end) {
            self.happen();
        }
        self.now = end;
    }

    /// Jumps to what happens next. Returns the process that it happens to.
    pub(super) fn happen(&mut self) -> Option<usize> {
        let (at, item) = self.agenda.pop()?;
        self.now = at;
        if item.is_activity() {
            self.last_activity = at;
        }
        let item = self.keep_back(item)?;
        let happens_to = self.happens_to(&item);
        match item {
            Item::PeerAdded { connection, side } => self.link_up(connection, side),
            Item::PeerLost { connection, side } => self.link_down(connection, side),
            Item::Arrival {
                connection,
                side,
                parcel,
            } => self.arrive(connection, side, parcel),
            Item::EndpointWake { node, life } if self.lives(node, life) => {
                self.tick_endpoint(node, at);
            }
            Item::Pong { node, life, peer } if self.lives(node, life) => {
                self.step(node, Input::Pong(peer));
            }
            Item::Feed { node, life } if self.lives(node, life) => self.read_feed(node),
            Item::LogWork { node, life, work } if self.lives(node, life) => {
                self.do_log_work(node, work);
            }
            Item::SpoolWork { node, life, work } if self.lives(node, life) => {
                self.do_spool_work(node, work);
            }
            Item::Wake { node, life } if self.lives(node, life) => {
                if let Some(life) = &mut self.nodes[node].life
                    && life.wake == Some(at)
                {
                    life.wake = None;
                }
                self.retry_coordinator(node);
                self.step(node, Input::Tick);
            }
            Item::Store { node, life, item } if self.lives(node, life) => {
                self.store_happens(at, node, item);
            }
            Item::Store { node, item, .. } => self.disk_ends_alone(node, item),
            Item::Wants { node, life, round } if self.lives(node, life) => {
                self.want_stores(node, round);
            }
            Item::VoterWritten { node, life } if self.lives(node, life) => {
                self.voter_written(node);
            }
            Item::Dial { link } => self.dial_again(link),
            Item::LinkCheck { connection, side } => self.check_link(connection, side),
            Item::Feed { .. }
            | Item::Wants { .. }
            | Item::VoterWritten { .. }
            | Item::LogWork { .. }
            | Item::SpoolWork { .. }
            | Item::Wake { .. }
            | Item::EndpointWake { .. }
            | Item::Pong { .. } => {}
        }
        happens_to
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
        let now = self.clock(position);
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
                Effect::Publish {
                    topic,
                    payload,
                    class,
                } => self.publish(position, class, Kind::Data, &topic, &payload),
                Effect::WriteLog {
                    batch,
                    delivery,
                    sequence,
                } => {
                    let work = LogWork::Write {
                        batch,
                        delivery,
                        sequence,
                    };
                    self.log_work(position, number, work);
                }
                Effect::NoteLogs { notes, sequence } => {
                    self.log_work(position, number, LogWork::Note { notes, sequence });
                }
                Effect::Spool { life, order } => {
                    self.spool_work(position, SpoolWork::Order { of: life, order });
                }
                Effect::StartInputs => {
                    let has_input = !self.layout.nodes()[position].input.is_empty();
                    if has_input {
                        self.note(position, "input started");
                        let node = position;
                        self.agenda.add(self.now, Item::Feed { node, life: number });
                    }
                }
                // Nobody outside the simulation looks in.
                Effect::DescribePeers(_) | Effect::NeedStore { .. } | Effect::Ready { .. } => {}
                Effect::Fence(id) => self.fence(position, id, true),
                Effect::Unfence(id) => self.fence(position, id, false),
                Effect::StoreGroups(groups) => self.stores_decided(position, groups),
                Effect::StoresGoBy(authority) => self.stores_go_by(position, authority),
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
                    let life = self.nodes[position].life.as_ref();
                    let node = life.and_then(|life| life.process.muster());
                    let undeclared = node.and_then(|node| node.counts().undeclared());
                    assert_eq!(undeclared, None, "{}", report.text);
                    let mark = match report.severity {
                        Severity::Info => "",
                        Severity::Warning => "warning: ",
                        Severity::Error => "error: ",
                    };
                    self.note(position, &format!("{mark}{}", report.text));
                }
            }
        }
        self.note_lease(position);
        self.write_voter(position);
        self.schedule_wake(position);
    }

    /// The stores of a node know until when it may act by the word of coordinators.
    fn note_lease(&mut self, position: usize) {
        if let Some(life) = &mut self.nodes[position].life {
            let until = life.process.muster().and_then(NodeLoop::lease_until);
            life.lease_end = until.unwrap_or_default();
        }
    }

    /// Hands to a voter's disk what its agent wants written.
    fn write_voter(&mut self, position: usize) {
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let number = life.number;
        let Some(agent) = life.process.agent() else {
            return;
        };
        let jobs = agent.take_jobs();
        for job in jobs {
            let takes = self.disk_takes(position);
            let now = self.now;
            let of_box = self.nodes[position].of_box;
            let disk = of_box.and_then(|of_box| self.boxes.all[of_box].voter.as_mut());
            let disk = disk.expect("an agent with a vote has a disk");
            let at = disk.ask(job, now, takes);
            let (node, life) = (position, number);
            self.agenda.add(at, Item::VoterWritten { node, life });
        }
    }

    /// A voter's disk has done what it was asked for first, or cannot.
    fn voter_written(&mut self, position: usize) {
        let (now, is_full) = (self.clock(position), self.is_disk_full(position));
        let Some(of_box) = self.nodes[position].of_box else {
            return;
        };
        let disk = self.boxes.all[of_box].voter.as_mut();
        let disk = disk.expect("an agent with a vote has a disk");
        let done = if is_full {
            disk.crash(&mut self.random);
            None
        } else {
            disk.write()
        };
        let life = self.nodes[position].life.as_mut();
        let agent = life.and_then(|life| life.process.agent());
        let Some(agent) = agent.filter(|agent| agent.coordinator().is_some()) else {
            return;
        };
        match done {
            Some(done) => agent.written(done),
            None if is_full => agent.fails(now),
            None => {}
        }
        self.carry_out(position);
    }

    /// A peer that lives answers after two journeys.
    fn ping(&mut self, position: usize, life: u64, peer: EndpointId) {
        let answers = self.answers(position, peer);
        if answers {
            let latency = self.random.nanos(&self.latency) + self.random.nanos(&self.latency);
            let node = position;
            self.agenda
                .add(self.now + latency, Item::Pong { node, life, peer });
        }
    }

    fn schedule_wake(&mut self, position: usize) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let Some(deadline) = life.process.next_deadline() else {
            return;
        };
        // What is due at once happens a little later, so that time passes whatever a framework does.
        let at = self.true_time(position, deadline).max(self.now + 1_000);
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        if life.wake.is_none_or(|wake| at < wake) {
            life.wake = Some(at);
            let life = life.number;
            let node = position;
            self.agenda.add(at, Item::Wake { node, life });
        }
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
