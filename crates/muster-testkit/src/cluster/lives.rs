//! Nodes that come and go, and the connections between them.

use std::sync::Arc;
use std::time::Duration;

use muster_cluster::node::NodeLoop;
use muster_coordination::Config;
use muster_wire::mesh::{Config as MeshConfig, Identity};
use muster_wire::{EndpointId, Filter, Incarnation, Mono, Topic};

use super::agent::Agent;
use super::log_files::LogDisk;
use super::process::{Process, ZeekProcess};
use super::spools::SpoolDisk;
use super::stores::NodeStores;
use super::voter_disk::VoterDisk;
use super::{Cluster, Life};
use crate::agenda::{Item, SpoolWork};
use crate::endpoint::Endpoint;

/// The mesh as an endpoint of a process sets it: peers that hang are found by the pings of their connections.
fn mesh_config() -> MeshConfig {
    MeshConfig {
        heartbeat: Duration::from_secs(2),
        time_out: Duration::from_secs(365 * 24 * 3600),
        ..MeshConfig::default()
    }
}

impl Cluster {
    pub(super) fn begin(&mut self, position: usize) {
        let now = self.clock(position);
        let id = EndpointId::from_random(self.random.bytes());
        let node = &mut self.nodes[position];
        node.lives += 1;
        (node.frozen_since, node.backlog) = (None, Vec::new());
        let incarnation = Incarnation(now.wall.as_nanos().unsigned_abs() + node.lives);
        let layout = Arc::clone(&self.layout);
        let known = layout.find(&node.name);
        let settings = known.map_or(self.layout.settings(), |known| &known.settings);
        let stores = NodeStores::new(settings.size("stores.node_memory_limit"));
        let mut process = match known {
            None => {
                let own = node.of_box.map(|of_box| &*self.boxes.all[of_box].name);
                let own = own.unwrap_or_default();
                Process::Agent(Box::new(Agent::new(&self.layout, own, id, now)))
            }
            Some(known) if node.is_zeek => Process::Zeek(ZeekProcess::new(&self.layout, known, id)),
            Some(_) => {
                let node_loop = NodeLoop::new(
                    &self.layout,
                    &node.name,
                    &self.registry,
                    id,
                    incarnation,
                    now,
                );
                let mut node_loop = node_loop.unwrap_or_else(|error| panic!("{error}"));
                node_loop.set_stores(Box::new(stores.clone()));
                node_loop.sabotage_requests(self.of_requests);
                node_loop.sabotage_keyed(self.of_keyed);
                if let Some((rule, limits)) = self.of_feeds {
                    node_loop.sabotage_feeds(rule, limits);
                }
                Process::Muster(Box::new(node_loop))
            }
        };
        let log_disk = match &mut process {
            Process::Muster(node_loop) => self.begin_log_disk(position, node_loop),
            Process::Zeek(_) | Process::Agent(_) => LogDisk::default(),
        };
        let spool = match &mut process {
            Process::Muster(node_loop) => self.begin_spool(position, node_loop),
            Process::Zeek(_) | Process::Agent(_) => SpoolDisk::default(),
        };
        let node = &mut self.nodes[position];
        let topics = process.subscriptions();
        let filter = Filter::from_prefixes(topics.iter().map(Topic::as_bytes));
        let endpoint = (!node.is_zeek).then(|| {
            // An agent relays between ours, and is no home of Zeek's.
            let transit = known.is_none_or(|known| known.role.is_hub());
            let identity = Identity {
                id,
                incarnation,
                name: node.name.clone(),
                role: known.map_or("agent".to_owned(), |known| known.role.to_string()),
                machine: String::new(),
                transit,
                homes: transit && known.is_some(),
            };
            let mut endpoint = Endpoint::new(identity, mesh_config(), self.sabotage);
            endpoint.subscribe(filter.clone(), now.mono);
            endpoint
        });
        node.life = Some(Life {
            number: node.lives,
            filter: Arc::new(filter),
            process,
            endpoint,
            is_draining: false,
            endpoint_wake: None,
            id,
            connections: Vec::new(),
            wake: None,
            fed: 0,
            low: None,
            stores,
            log_disk,
            spool,
            lease_end: Mono::default(),
        });
        let what = if node.lives > 1 {
            "restarted"
        } else {
            "started"
        };
        self.note(position, what);
        self.begin_coordinator(position);
        self.begin_wants(position);
        for link in 0..self.links.len() {
            let (one, other) = self.links[link];
            if one == position || other == position {
                self.dial(link);
            }
        }
        self.carry_out(position);
        self.endpoint_did(position);
        if self.has_spools {
            self.spool_work(position, SpoolWork::Adopt);
        }
    }

    /// The agent of a box that has a vote coordinates, with what is in its file.
    pub(super) fn begin_coordinator(&mut self, position: usize) {
        let now = self.clock(position);
        let Some(of_box) = self.nodes[position].of_box else {
            return;
        };
        let life = self.nodes[position].life.as_mut();
        let Some(agent) = life.and_then(|life| life.process.agent()) else {
            return;
        };
        let known = &mut self.boxes.all[of_box];
        let Some(config) = Config::of(&self.layout, &known.name) else {
            return;
        };
        let random = &mut self.random;
        let disk = known.voter.get_or_insert_with(|| VoterDisk::new(random));
        agent.begin(config, disk, random.next(), self.boxes.sabotage, now);
    }

    /// An agent whose voter's file could not be written tries again when it is time.
    pub(super) fn retry_coordinator(&mut self, position: usize) {
        let now = self.clock(position).mono;
        let life = self.nodes[position].life.as_mut();
        let agent = life.and_then(|life| life.process.agent());
        if agent.is_some_and(|agent| agent.is_to_retry(now)) {
            self.begin_coordinator(position);
        }
    }

    /// Ends a life; `close` says when the other side of a connection learns of it.
    pub(super) fn end(
        &mut self,
        node: &str,
        how: &str,
        close: impl Fn(&mut Self, usize, usize) -> u64,
    ) {
        let position = self.position(node);
        let Some(mut life) = self.nodes[position].life.take() else {
            panic!("node `{node}` is already dead");
        };
        self.forget_frozen(position);
        if life.process.agent().is_some()
            && let Some(of_box) = self.nodes[position].of_box
            && let Some(disk) = &mut self.boxes.all[of_box].voter
        {
            disk.crash(&mut self.random);
        }
        self.note(position, how);
        if let Some(muster) = life.process.muster() {
            self.nodes[position].former.push(muster.counts().clone());
        }
        for connection in life.connections {
            let known = &mut self.connections[connection];
            if !known.is_open {
                continue;
            }
            known.is_open = false;
            let side = usize::from(known.ends[0].node == position);
            if known.ends[side].knows {
                let at = close(self, connection, side);
                self.agenda.add(at, Item::PeerLost { connection, side });
            } else {
                known.ends[side].cut = 0;
            }
        }
    }
}
