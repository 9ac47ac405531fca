//! What simulated stores want done, done in simulated time.

use std::time::Duration;

use bytes::Bytes;
use muster_cluster::node::{Input, OpenStore};
use muster_store::{Commit, Notice, Output, Severity, StoreName};
use muster_wire::mesh::topic_of;
use muster_wire::{Class, EndpointId, Filter, Kind, Topic};

use super::handles::OF_TEST;
use super::{Heard, Neglect, Open, answer};
use crate::agenda::{Item, StoreItem};
use crate::cluster::Cluster;

/// How often a store that may not decide alone looks whether it may again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A store that has something to do at once so many times in a row has so for ever.
const RESTLESS: u32 = 100_000;

impl Cluster {
    /// Does what a store wants done.
    pub(super) fn store_did(&mut self, position: usize, store: &StoreName) {
        let mut heard = Vec::new();
        let poll = |open: &mut Open, _| open.instance.poll();
        while let Some(Some(output)) = self.with_open(position, store, poll) {
            self.store_wants(position, store, output, &mut heard);
        }
        self.look_at_part(position, store);
        self.hear(position, store, heard);
        self.wake_store(position, store);
    }

    pub(super) fn store_wants(
        &mut self,
        position: usize,
        store: &StoreName,
        output: Output,
        heard: &mut Vec<Heard>,
    ) {
        match output {
            Output::Broadcast(bytes) => self.broadcast(position, &store.clone_topic(), bytes),
            Output::Find(bytes) => self.broadcast(position, &store.primary_topic(), bytes),
            Output::BrokerBroadcast(bytes) => {
                self.broadcast(position, &store.broker_clone_topic(), bytes);
            }
            Output::BrokerFind(bytes) => {
                self.broadcast(position, &store.broker_master_topic(), bytes);
            }
            Output::Send(to, bytes) => {
                if let Ok(topic) = Topic::new(topic_of(to)) {
                    self.broadcast(position, &topic, bytes);
                }
            }
            Output::ListenToBroker(listens) => {
                let listening = |open: &mut Open, _| open.listens.to_broker = listens;
                self.with_open(position, store, listening);
                self.subscribe_to_stores(position);
                if listens {
                    let store = store.clone();
                    let latency = self.random.nanos(&self.latency);
                    self.add_store_item(position, latency, StoreItem::Listening { store });
                }
            }
            Output::AskToOpen => self.ask_to_open(position, store),
            Output::FindRival => {
                let rival = self.rival_of(position, store);
                self.with_open(position, store, |open, _| {
                    open.instance.rival_found(rival);
                });
            }
            Output::Load { limit } => {
                let wait = self.disk_works(position, store);
                let store = store.clone();
                self.add_store_item(position, wait, StoreItem::Loaded { store, limit });
            }
            Output::Commit(commit) => self.commit(position, store, commit),
            Output::OpenFailed => {
                self.note(position, &format!("store {store}: cannot be opened"));
                // Whoever wants it next tries anew.
                if let Some(life) = &self.nodes[position].life {
                    let mut stores = life.stores.lock();
                    let left: Vec<Output> = stores
                        .remove(store)
                        .map(|mut open| std::iter::from_fn(|| open.instance.poll()).collect())
                        .unwrap_or_default();
                    heard.extend(left.into_iter().filter_map(answer));
                }
            }
            Output::Request { epoch, request } => {
                self.ask_coordinators(position, store, epoch, request);
            }
            Output::Changed(change) => heard.push(Heard::Changed(change.event)),
            settled @ Output::Settled(_) => heard.extend(answer(settled)),
            // Those of Broker go to direct peers of version 1, none of which has stores here; frameworks read their own
            // node's copy, which they may do at any time.
            Output::BrokerToClone(..)
            | Output::BrokerToMaster(..)
            | Output::BrokerSnapshot(_)
            | Output::Opened
            | Output::Attached
            | Output::Replied { .. }
            | Output::NoReply { .. } => {}
            Output::Notice(notice) => self.note_of_store(position, store, &notice),
        }
    }

    pub(super) fn note_of_store(&mut self, position: usize, store: &StoreName, notice: &Notice) {
        let mark = match notice.severity() {
            Severity::Debug | Severity::Info => "",
            Severity::Warning => "warning: ",
            Severity::Error => "error: ",
        };
        self.note(position, &format!("{mark}store {store}: {notice}"));
    }

    fn broadcast(&mut self, position: usize, topic: &Topic, bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        self.publish(position, Class::Event, Kind::Command, topic, &bytes);
    }

    /// Subscribes to what the node and its stores listen to.
    pub(super) fn subscribe_to_stores(&mut self, position: usize) {
        let now = self.clock(position).mono;
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let mut topics: Vec<Topic> = life.process.subscriptions().to_vec();
        for (name, open) in life.stores.lock().iter() {
            if open.listens.to_writers {
                topics.extend([name.primary_topic(), name.broker_master_topic()]);
            }
            topics.extend(open.listens.to_primary.then(|| name.clone_topic()));
            topics.extend(open.listens.to_broker.then(|| name.broker_clone_topic()));
        }
        let filter = Filter::from_prefixes(topics.iter().map(Topic::as_bytes));
        if let Some(endpoint) = &mut life.endpoint {
            endpoint.subscribe(filter, now);
        }
        self.endpoint_did(position);
    }

    pub(super) fn commit(&mut self, position: usize, store: &StoreName, commit: Commit) {
        let wait = self.disk_works(position, store);
        let store = store.clone();
        let item = StoreItem::Committed { store, commit };
        self.add_store_item(position, wait, item);
    }

    /// Returns how long it takes until a store's disk has done one thing more.
    fn disk_works(&mut self, position: usize, store: &StoreName) -> u64 {
        let takes = self.disk_takes(position);
        let disk = (position, store.clone());
        let until = self.disks.until.entry(disk).or_default();
        *until = (*until).max(self.now) + takes;
        *until - self.now
    }

    /// Asks the node that should have the primary, by an event as any other.
    pub(super) fn ask_to_open(&mut self, position: usize, store: &StoreName) {
        let asked = self.nodes[position].life.as_ref().and_then(|life| {
            let stores = life.stores.lock();
            let open = stores.get(store)?;
            let topic = open.plan.asks_at(&self.layout);
            Some((topic, OpenStore::event(store, open.is_persistent)))
        });
        if let Some((topic, event)) = asked {
            self.publish(position, Class::Event, Kind::Data, &topic, &event);
        }
    }

    /// Another node in reach that has the primary.
    pub(super) fn rival_of(&self, position: usize, store: &StoreName) -> Option<EndpointId> {
        let life = self.nodes[position].life.as_ref()?;
        let up = life.endpoint.as_ref()?.mesh().up();
        (0..self.nodes.len()).find_map(|other| {
            let id = self.nodes[other].life.as_ref()?.id;
            let is_primary = |open: &mut Open, _| open.instance.is_primary();
            let is_primary = self.with_open(other, store, is_primary) == Some(true);
            (up.contains(&id) && is_primary).then_some(id)
        })
    }

    pub(super) fn add_store_item(&mut self, position: usize, wait: u64, item: StoreItem) {
        let node = position;
        let life = self.nodes[position].lives;
        self.agenda
            .add(self.now + wait, Item::Store { node, life, item });
    }

    pub(super) fn wake_store(&mut self, position: usize, store: &StoreName) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let lease_end = life.lease_end;
        let next = self.with_open(position, store, |open, now| {
            let next = open.instance.next_tick(now);
            let is_suspended = open.follows.is_some() && now.mono >= lease_end;
            let again = now.mono.after(LOOK_AGAIN);
            (if is_suspended { next.min(again) } else { next }, open.wake)
        });
        let Some((next, wake)) = next.filter(|(next, _)| next.0 != u64::MAX) else {
            return;
        };
        let at = self.true_time(position, next).max(self.now + 1_000);
        self.look_at_rest(position, store, at == self.now + 1_000);
        if wake.is_none_or(|wake| wake > at) {
            self.wake_store_at(position, store, at);
        }
    }

    /// Whoever has done what is due waits for something.
    fn look_at_rest(&self, position: usize, store: &StoreName, is_due: bool) {
        let times = self.with_open(position, store, |open, _| {
            open.due_at_once = if is_due { open.due_at_once + 1 } else { 0 };
            open.due_at_once
        });
        let node = &self.nodes[position].name;
        assert!(
            times.is_none_or(|times| times < RESTLESS),
            "store {store} of {node} is never done"
        );
    }

    pub(in crate::cluster) fn wake_store_at(
        &mut self,
        position: usize,
        store: &StoreName,
        at: u64,
    ) {
        self.with_open(position, store, |open, _| open.wake = Some(at));
        let wait = at - self.now;
        let store = store.clone();
        self.add_store_item(position, wait, StoreItem::Wake { store });
    }

    pub(super) fn hear(&mut self, position: usize, store: &StoreName, heard: Vec<Heard>) {
        for heard in heard {
            match heard {
                Heard::Answer(token, outcome) if token >= OF_TEST => {
                    self.outcomes.insert(token, Some(outcome));
                }
                Heard::Changed(_) if self.boxes.neglect == Neglect::Changes => {}
                Heard::Changed(event) => self.step(
                    position,
                    Input::StoreChanged {
                        store,
                        event: &event,
                    },
                ),
                Heard::Answer(token, outcome) => self.step(
                    position,
                    Input::StoreAnswer {
                        token,
                        outcome: &outcome,
                    },
                ),
            }
        }
    }
}
