//! What simulated stores want done, done in simulated time.

use muster_cluster::node::{Input, OpenStore};
use muster_store::protocol::StoreMessage;
use muster_store::{Commit, Instance, Notice, Output, Severity, StoreName};
use muster_wire::EndpointId;

use super::{Heard, To, answer};
use crate::agenda::{Item, StoreItem};
use crate::cluster::Cluster;

impl Cluster {
    /// Does what a store wants done.
    pub(super) fn store_did(&mut self, position: usize, store: &StoreName) {
        let mut heard = Vec::new();
        while let Some(Some(output)) = self.with_store(position, store, Instance::poll) {
            self.store_wants(position, store, output, &mut heard);
        }
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
        let command = |for_master, bytes| StoreItem::BrokerCommand {
            store: store.clone(),
            for_master,
            bytes,
        };
        match output {
            Output::Broadcast(bytes) | Output::Find(bytes) => {
                let item = self.message(position, bytes);
                self.send_to_stores(position, To::All, &item);
            }
            Output::Send(to, bytes) => {
                let item = self.message(position, bytes);
                self.send_to_stores(position, To::One(to), &item);
            }
            Output::BrokerBroadcast(bytes) => {
                self.send_to_stores(position, To::All, &command(false, bytes));
            }
            Output::BrokerFind(bytes) => {
                self.send_to_stores(position, To::All, &command(true, bytes));
            }
            Output::BrokerToClone(to, bytes) => {
                self.send_to_stores(position, To::One(to), &command(false, bytes));
            }
            Output::BrokerToMaster(to, bytes) => {
                self.send_to_stores(position, To::One(to), &command(true, bytes));
            }
            Output::BrokerSnapshot(snapshot) => {
                let to = snapshot.command.receiver.endpoint;
                let bytes = snapshot.command.encode();
                self.send_to_stores(position, To::One(to), &command(false, bytes));
            }
            Output::ListenToBroker(listens) => {
                if listens {
                    let store = store.clone();
                    let latency = self.random.nanos(&self.latency);
                    self.add_store_item(position, latency, StoreItem::Listening { store });
                }
            }
            Output::AskToOpen => self.ask_to_open(position, store),
            Output::FindRival => {
                let rival = self.rival_of(position, store);
                self.with_store(position, store, |instance| instance.rival_found(rival));
            }
            Output::Load { limit } => {
                let store = store.clone();
                let latency = self.random.nanos(&self.disk_latency);
                self.add_store_item(position, latency, StoreItem::Loaded { store, limit });
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
            Output::Changed(change) => heard.push(Heard::Changed(change.event)),
            settled @ Output::Settled(_) => heard.extend(answer(settled)),
            // Frameworks read their own node's copy, which they may do at any time.
            Output::Opened | Output::Attached | Output::Replied { .. } | Output::NoReply { .. } => {
            }
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

    pub(super) fn message(&self, position: usize, bytes: Vec<u8>) -> StoreItem {
        let life = self.nodes[position].life.as_ref();
        let from = life.map(|life| life.id);
        StoreItem::Message {
            from: from.expect("a store that speaks is one of a living node"),
            // It only says that a primary lives, and comes again and again.
            is_routine: matches!(StoreMessage::decode(&bytes), Ok(StoreMessage::Alive { .. })),
            bytes,
        }
    }

    pub(super) fn commit(&mut self, position: usize, store: &StoreName, commit: Commit) {
        let store = store.clone();
        let latency = self.random.nanos(&self.disk_latency);
        let item = StoreItem::Committed { store, commit };
        self.add_store_item(position, latency, item);
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
            self.publish(position, &topic, &event);
        }
    }

    /// Another node in reach that has the primary.
    pub(super) fn rival_of(&self, position: usize, store: &StoreName) -> Option<EndpointId> {
        let life = self.nodes[position].life.as_ref()?;
        life.connections.iter().find_map(|connection| {
            let known = &self.connections[*connection];
            let far = &known.ends[usize::from(known.ends[0].node == position)];
            let is_there = known.is_open && self.lives(far.node, far.life);
            let is_primary =
                is_there && self.with_store(far.node, store, |i| i.is_primary()) == Some(true);
            is_primary.then_some(far.id)
        })
    }

    pub(super) fn add_store_item(&mut self, position: usize, wait: u64, item: StoreItem) {
        let node = position;
        let life = self.nodes[position].lives;
        self.agenda
            .add(self.now + wait, Item::Store { node, life, item });
    }

    pub(super) fn wake_store(&mut self, position: usize, store: &StoreName) {
        let now = self.present();
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let mut stores = life.stores.lock();
        let Some(open) = stores.get_mut(store) else {
            return;
        };
        let next = open.instance.next_tick(now);
        let at = next.0.max(self.now + 1_000);
        if next.0 == u64::MAX || open.wake.is_some_and(|wake| wake <= at) {
            return;
        }
        open.wake = Some(at);
        drop(stores);
        let store = store.clone();
        let (node, life) = (position, self.nodes[position].lives);
        let item = StoreItem::Wake { store };
        self.agenda.add(at, Item::Store { node, life, item });
    }

    pub(super) fn hear(&mut self, position: usize, store: &StoreName, heard: Vec<Heard>) {
        for heard in heard {
            match heard {
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

    /// Sends to one endpoint, or to all that can be reached: who has no such store takes no notice.
    pub(super) fn send_to_stores(&mut self, position: usize, to: To, item: &StoreItem) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        for connection in life.connections.clone() {
            let known = &self.connections[connection];
            let side = usize::from(known.ends[0].node == position);
            let far = &known.ends[side];
            let is_meant = match to {
                To::All => true,
                To::One(id) => id == far.id,
            };
            if !known.is_open || !is_meant {
                continue;
            }
            let (node, life) = (far.node, far.life);
            let mut latency = self.random.nanos(&self.latency);
            if self.connections[connection].via.is_some() {
                latency += self.random.nanos(&self.latency);
            }
            let item = item.clone();
            self.agenda
                .add(self.now + latency, Item::Store { node, life, item });
        }
    }
}
