//! Stores of a simulated cluster: primaries and clones as in a process, their messages on simulated ways.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_cluster::node::{Input, StoreReads};
use muster_data::{Data, Encode};
use muster_store::op::{Answer, Op, StoreEvent};
use muster_store::protocol::StoreMessage;
use muster_store::{
    Backend, CloneConfig, CloneOutput, Encoded, Entries, Entry, Freshness, Level, MemoryBackend,
    Primary, PrimaryConfig, PrimaryOutput, StoreClone, StoreName, WriteFailure,
};
use muster_wire::EndpointId;

use super::Cluster;
use crate::agenda::Item;

/// The stores of one life of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeStores(Arc<Mutex<BTreeMap<StoreName, Open>>>);

struct Open {
    core: Core,
    is_watched: bool,
    wake: Option<u64>,
    /// A primary's own durable writes: generation, token, answer.
    keeping: Vec<(u64, u64, Answer)>,
}

enum Core {
    Master(Box<Primary>),
    Clone(Box<StoreClone>),
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").finish_non_exhaustive()
    }
}

impl Open {
    fn entries(&self) -> &Entries {
        match &self.core {
            Core::Master(primary) => primary.state().entries(),
            Core::Clone(clone) => clone.entries(),
        }
    }
}

impl NodeStores {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<StoreName, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreReads for NodeStores {
    fn get(&self, store: &StoreName, key: &Encoded) -> Option<Entry> {
        self.lock().get(store)?.entries().get(key).cloned()
    }

    fn is_attached(&self, store: &StoreName) -> bool {
        self.lock().get(store).is_some_and(|open| match &open.core {
            Core::Master(_) => true,
            Core::Clone(clone) => {
                clone.freshness(muster_wire::Mono::default()) != Freshness::Unattached
            }
        })
    }

    fn size(&self, store: &StoreName) -> usize {
        self.lock()
            .get(store)
            .map_or(0, |open| open.entries().len())
    }
}

/// What the disks of a cluster hold, by node and store: it outlives the nodes' lives.
#[derive(Debug, Default)]
pub(super) struct Disks(BTreeMap<(usize, StoreName), MemoryBackend>);

/// What a store does that its node must hear of.
enum Heard {
    Changed(StoreEvent),
    Answer(u64, Result<Answer, WriteFailure>),
}

impl Cluster {
    /// The value of a key in a node's copy of a store.
    pub fn stored<Q: Encode + ?Sized>(&self, node: &str, store: &str, key: &Q) -> Option<Data> {
        let position = self.position(node);
        let life = self.nodes[position].life.as_ref()?;
        let name = StoreName::new(store).unwrap_or_else(|error| panic!("{error}"));
        let entry = life.stores.get(&name, &Encoded::key(key))?;
        Some(entry.value.to_data())
    }

    pub(super) fn open_store(
        &mut self,
        position: usize,
        store: &StoreName,
        persistent: bool,
        use_here: bool,
        watch: bool,
    ) {
        let now = self.present();
        let plan = self.layout.store(store, persistent);
        let plan = plan.expect("a checked layout has a node for every primary");
        let primary_at = self.position(plan.master.as_str());
        let is_persistent = plan.backend != muster_cluster::StoreBackend::Memory;
        // A Zeek process has no stores of ours.
        let is_there = !self.nodes[position].is_zeek;
        if (primary_at != position && !use_here) || !is_there {
            return;
        }
        let disks = &mut self.disks;
        let Some(life) = &mut self.nodes[position].life else {
            return;
        };
        let stores = life.stores.clone();
        let mut open = stores.lock();
        if let Some(open) = open.get_mut(store) {
            open.is_watched |= watch;
            return;
        }
        let core = if primary_at == position {
            let config = PrimaryConfig::default();
            let number = u64::try_from(now.wall.as_nanos()).unwrap_or(0);
            Core::Master(Box::new(if is_persistent {
                let disk = disks.0.entry((position, store.clone())).or_default();
                let kept = disk.load().unwrap_or_else(|error| panic!("{error}"));
                Primary::persistent(store.clone(), life.id, number, config, kept, now)
            } else {
                Primary::in_memory(store.clone(), life.id, number, config, now)
            }))
        } else {
            let config = CloneConfig::default();
            // One instance of each store on a node.
            let instance = open.len() as u64 + 1;
            let clone = StoreClone::new(store.clone(), instance, config, now.mono);
            Core::Clone(Box::new(clone))
        };
        open.insert(
            store.clone(),
            Open {
                core,
                is_watched: watch,
                wake: None,
                keeping: Vec::new(),
            },
        );
        drop(open);
        // In a process the node asks the primary's; here it is there at once.
        if primary_at != position {
            self.open_store(primary_at, store, persistent, false, false);
        }
        self.store_did(position, store);
    }

    pub(super) fn write_store(
        &mut self,
        position: usize,
        store: &StoreName,
        op: Op,
        level: Level,
        within: Option<Duration>,
        token: u64,
    ) {
        let now = self.present();
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let stores = life.stores.clone();
        let mut heard = Vec::new();
        match stores.lock().get_mut(store) {
            None => heard.push(Heard::Answer(token, Err(WriteFailure::NoPrimary))),
            Some(open) => match &mut open.core {
                Core::Master(primary) => {
                    let (answer, generation) = primary.write(op, level, now);
                    let waits = level == Level::Durable && matches!(answer, Answer::Done { .. });
                    match generation.filter(|_| waits) {
                        Some(generation) => open.keeping.push((generation, token, answer)),
                        None => heard.push(Heard::Answer(token, Ok(answer))),
                    }
                }
                Core::Clone(clone) => {
                    let deadline = within.map(|within| now.mono.after(within));
                    clone.write(op, level, token, deadline, now.mono);
                }
            },
        }
        self.hear(position, store, heard);
        self.store_did(position, store);
    }

    pub(super) fn store_message(&mut self, position: usize, from: EndpointId, bytes: &[u8]) {
        let now = self.present();
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let Some((name, for_primary)) = StoreMessage::addressee(bytes) else {
            return;
        };
        let (Ok(name), Ok(message)) = (StoreName::new(name), StoreMessage::decode(bytes)) else {
            return;
        };
        let stores = life.stores.clone();
        match stores.lock().get_mut(&name).map(|open| &mut open.core) {
            Some(Core::Master(primary)) if for_primary => {
                primary.receive(from, message, now);
            }
            Some(Core::Clone(clone)) if !for_primary => clone.receive(from, message, now.mono),
            _ => return,
        }
        self.store_did(position, &name);
    }

    pub(super) fn store_wake(&mut self, at: u64, position: usize, store: &StoreName) {
        let now = self.present();
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let stores = life.stores.clone();
        if let Some(open) = stores.lock().get_mut(store) {
            if open.wake != Some(at) {
                return;
            }
            open.wake = None;
            match &mut open.core {
                Core::Master(primary) => primary.tick(now),
                Core::Clone(clone) => clone.tick(now.mono),
            }
        }
        self.store_did(position, store);
    }

    pub(super) fn store_lost(&mut self, position: usize, endpoint: EndpointId) {
        let now = self.present();
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let stores = life.stores.clone();
        let names: Vec<StoreName> = stores.lock().keys().cloned().collect();
        for name in names {
            if let Some(open) = stores.lock().get_mut(&name)
                && let Core::Clone(clone) = &mut open.core
            {
                clone.lost(endpoint, now.mono);
            }
            self.store_did(position, &name);
        }
    }

    /// Does what a store wants done.
    fn store_did(&mut self, position: usize, store: &StoreName) {
        let now = self.present();
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let (me, stores) = (life.id, life.stores.clone());
        let mut heard = Vec::new();
        let mut sent: Vec<(Option<EndpointId>, Vec<u8>)> = Vec::new();
        let next = {
            let mut all = stores.lock();
            let Some(open) = all.get_mut(store) else {
                return;
            };
            let is_watched = open.is_watched;
            match &mut open.core {
                Core::Master(primary) => {
                    while let Some(output) = primary.poll() {
                        match output {
                            PrimaryOutput::Broadcast(bytes) => sent.push((None, bytes)),
                            PrimaryOutput::Send(to, bytes) => sent.push((Some(to), bytes)),
                            PrimaryOutput::Changed(change) if is_watched => {
                                heard.push(Heard::Changed(change.event));
                            }
                            PrimaryOutput::Changed(_) => {}
                            PrimaryOutput::Commit(commit) => {
                                let disk = self.disks.0.entry((position, store.clone()));
                                let kept = disk.or_default().commit(&commit);
                                primary.committed(kept.is_err().then_some(commit), now);
                            }
                            PrimaryOutput::Kept { generation, .. } => {
                                let all = std::mem::take(&mut open.keeping);
                                for (with, token, answer) in all {
                                    if with > generation {
                                        open.keeping.push((with, token, answer));
                                    } else {
                                        heard.push(Heard::Answer(token, Ok(answer)));
                                    }
                                }
                            }
                        }
                    }
                    primary.next_tick(now)
                }
                Core::Clone(clone) => {
                    while let Some(output) = clone.poll() {
                        match output {
                            CloneOutput::Find(bytes) => sent.push((None, bytes)),
                            CloneOutput::Send(to, bytes) => sent.push((Some(to), bytes)),
                            CloneOutput::Changed(change) if is_watched => {
                                heard.push(Heard::Changed(change.event));
                            }
                            CloneOutput::Settled(settled) => {
                                heard.push(Heard::Answer(settled.token, settled.outcome));
                            }
                            _ => {}
                        }
                    }
                    clone.next_tick()
                }
            }
        };
        for (to, bytes) in sent {
            self.send_store_message(position, me, to, &bytes);
        }
        self.hear(position, store, heard);
        let at = next.0.max(self.now + 1_000);
        let mut all = stores.lock();
        if let Some(open) = all.get_mut(store)
            && open.wake.is_none_or(|wake| at < wake)
            && next.0 < u64::MAX
        {
            open.wake = Some(at);
            let (node, store) = (position, store.clone());
            let life = self.nodes[position].lives;
            self.agenda.add(at, Item::StoreWake { node, life, store });
        }
    }

    fn hear(&mut self, position: usize, store: &StoreName, heard: Vec<Heard>) {
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
    fn send_store_message(
        &mut self,
        position: usize,
        from: EndpointId,
        to: Option<EndpointId>,
        bytes: &[u8],
    ) {
        let Some(life) = &self.nodes[position].life else {
            return;
        };
        let is_routine = matches!(StoreMessage::decode(bytes), Ok(StoreMessage::Alive { .. }));
        for connection in life.connections.clone() {
            let known = &self.connections[connection];
            let side = usize::from(known.ends[0].node == position);
            let far = &known.ends[side];
            if !known.is_open || to.is_some_and(|to| to != far.id) {
                continue;
            }
            let (node, life) = (far.node, far.life);
            let mut latency = self.random.nanos(&self.latency);
            if self.connections[connection].via.is_some() {
                latency += self.random.nanos(&self.latency);
            }
            let bytes = bytes.to_vec();
            self.agenda.add(
                self.now + latency,
                Item::StoreMessage {
                    node,
                    life,
                    from,
                    bytes,
                    is_routine,
                },
            );
        }
    }
}
