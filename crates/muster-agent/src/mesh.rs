//! An agent in the mesh of its cluster: it relays, so that a third box leads around a broken line between two others.
//!
//! It is called `agent.BOX`, is in no pool and has no stores. It is linked with the hubs of its own box, and with the agents
//! of the first [`ANCHORS`] boxes: each box with a relay of its own is in the same mesh as they are.

pub(crate) mod coordinators;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster::{Endpoint, EndpointConfig, Exposure, Forwarding, NodeIdentity, Tls};
use muster_cluster::{AgentDial, Layout, PeeringSettings, agent_dials};
use muster_gateway::status::{AgentLink, AgentMeshStatus};
use muster_wire::Incarnation;
use muster_wire::counters::Counter;
use tokio::sync::{mpsc, oneshot};

use crate::api::Refusal;
use crate::coordination::{CoordinationConfig, INBOX, Order, Shown, ShownStores, StoreOrder, Work};
use crate::identity::MESH_PORT;
use crate::journal::{Journal, now};

/// The pause before an address is tried again that cannot be listened on.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// What people ask of a coordinator at a time.
const ORDERS: usize = 16;

/// How long an agent says goodbye to its peers.
const GOODBYE: Duration = Duration::from_secs(2);

/// The role of an agent in the mesh.
pub(crate) const ROLE: &str = "agent";

/// Returns the name of a box's agent in the mesh. No node of a layout may be called so.
pub fn agent_name(of_box: &str) -> String {
    format!("{}{of_box}", muster_cluster::AGENT_PREFIX)
}

/// The place of a box's agent in the mesh.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    endpoint: EndpointConfig,
    listen: SocketAddr,
    exposure: Exposure,
    retry: Duration,
    dials: Vec<(String, SocketAddr)>,
    coordination: CoordinationConfig,
}

impl MeshConfig {
    /// Returns the place that a layout has for the agent of a box, or `None` if the layout does not have the box. What it keeps as a
    /// coordinator is in a directory.
    pub fn of(
        layout: &Layout,
        own_box: &str,
        tls: Tls,
        exposure: Exposure,
        directory: &Path,
    ) -> Option<Self> {
        let settings = layout.settings();
        let listen = *layout.boxes().get(own_box)?;
        Some(Self {
            endpoint: EndpointConfig {
                tls,
                identity: NodeIdentity {
                    name: agent_name(own_box),
                    role: ROLE.to_owned(),
                    machine: own_box.to_owned(),
                    incarnation: Incarnation::default(),
                },
                forwarding: Forwarding::Relay,
                relay_version_1: false,
                ..EndpointConfig::from_settings(settings)
            },
            listen: SocketAddr::new(listen, MESH_PORT),
            exposure,
            retry: PeeringSettings::of(settings).retry,
            dials: dials(layout, own_box),
            coordination: CoordinationConfig::of(layout, own_box, directory),
        })
    }
}

/// Whom the agent of a box dials, by name, each with its address.
fn dials(layout: &Layout, own_box: &str) -> Vec<(String, SocketAddr)> {
    let address = |dial| match dial {
        AgentDial::Hub(name) => {
            let hub = layout.node(&name)?;
            Some((name.to_string(), hub.socket_address()))
        }
        AgentDial::Agent(of_box) => {
            let at = *layout.boxes().get(&of_box)?;
            Some((agent_name(&of_box), SocketAddr::new(at, MESH_PORT)))
        }
    };
    let dials = agent_dials(layout, own_box).into_iter();
    dials.filter_map(address).collect()
}

/// An agent's endpoint.
#[derive(Debug)]
pub(crate) struct MeshPlace {
    endpoint: Endpoint,
    config: MeshConfig,
    problem: Mutex<Option<String>>,
    orders: mpsc::Sender<Order>,
    /// Until it works.
    waiting: Mutex<Option<mpsc::Receiver<Order>>>,
}

impl MeshPlace {
    /// Starts the endpoint. It dials and listens, and coordinates, once [`MeshPlace::hold`] runs.
    ///
    /// # Errors
    ///
    /// Fails if its certificate cannot be used.
    pub(crate) fn start(mut config: MeshConfig) -> Result<Self, muster::StartError> {
        // Of two lives of an agent the later one counts. Nanoseconds since 1970 fit for centuries.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time is neither below zero nor that large"
        )]
        let incarnation = (now() * 1e9) as u64;
        config.endpoint.identity.incarnation = Incarnation(incarnation);
        let endpoint = Endpoint::start(config.endpoint.clone())?;
        let (orders, waiting) = mpsc::channel(ORDERS);
        Ok(Self {
            endpoint,
            config,
            problem: Mutex::new(None),
            orders,
            waiting: Mutex::new(Some(waiting)),
        })
    }

    /// Holds the place until the future is dropped. What coordinators decide is noted in the journal.
    pub(crate) async fn hold(&self, journal: Arc<Journal>) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(orders) = waiting else { return };
        let work = Work::new(
            self.config.coordination.clone(),
            self.endpoint.clone(),
            journal,
        );
        // It hears everybody who comes into reach.
        let topics = work.topics();
        let subscriber = self.endpoint.subscribe_with_statuses(topics, INBOX).await;
        for (_, address) in &self.config.dials {
            self.endpoint
                .dial(&address.to_string(), Some(self.config.retry));
        }
        tokio::join!(self.listen(), work.run(subscriber, orders));
    }

    /// What this box knows of the coordinators.
    pub(crate) async fn coordination(&self) -> Shown {
        let (answer, shown) = oneshot::channel();
        let asked = self.orders.send(Order::Show(answer)).await;
        match asked {
            Ok(()) => shown.await.unwrap_or_default(),
            Err(_) => Shown::default(),
        }
    }

    /// Has this box's coordinator go on alone.
    pub(crate) async fn recover(&self, lost: String) -> Result<String, String> {
        let (done, outcome) = oneshot::channel();
        let order = Order::Recover { lost, done };
        let over = || "the agent is about to end".to_owned();
        self.orders.send(order).await.map_err(|_| over())?;
        outcome.await.unwrap_or_else(|_| Err(over()))
    }

    /// What this box knows of stores.
    pub(crate) async fn shown_stores(&self) -> Option<ShownStores> {
        let (answer, shown) = oneshot::channel();
        self.orders.send(Order::ShowStores(answer)).await.ok()?;
        shown.await.ok()
    }

    /// Has this box's coordinator decide about a store, if it leads.
    pub(crate) async fn order_store(&self, order: StoreOrder) -> Result<(), Refusal> {
        let (done, outcome) = oneshot::channel();
        let over = || Refusal::busy("the agent is about to end");
        let sent = self.orders.send(Order::Store(order, done)).await;
        sent.map_err(|_| over())?;
        outcome.await.unwrap_or_else(|_| Err(over()))
    }

    /// Listens, as soon as that can be.
    async fn listen(&self) {
        let MeshConfig {
            listen, exposure, ..
        } = self.config;
        while let Err(error) = self.endpoint.listen(listen, exposure).await {
            let text = format!("the agent cannot be reached by the mesh: {error}");
            let before = self.set_problem(Some(text.clone()));
            if before.as_ref() != Some(&text) {
                tracing::warn!("{text}");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
        self.set_problem(None);
    }

    fn set_problem(&self, problem: Option<String>) -> Option<String> {
        let mut known = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, problem)
    }

    /// Uses the certificate that is in the box's files by now.
    pub(crate) fn reload_tls(&self) {
        if let Err(error) = self.endpoint.reload_tls() {
            tracing::error!("the mesh goes on with the old certificate: {error:#}");
        }
    }

    /// The names of all that can be reached.
    pub(crate) fn reached(&self) -> BTreeSet<String> {
        let reached = self.endpoint.mesh_in_reach().into_iter();
        reached.map(|record| record.name.clone()).collect()
    }

    pub(crate) fn status(&self) -> AgentMeshStatus {
        let reached = self.endpoint.mesh_in_reach();
        let peers: BTreeSet<_> = self.endpoint.peers().iter().map(|peer| peer.id).collect();
        let linked = reached.iter().filter(|record| peers.contains(&record.id));
        let mut links: BTreeMap<&str, bool> = linked
            .map(|record| (record.name.as_str(), true))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        for (name, _) in &self.config.dials {
            links.entry(name).or_insert(false);
        }
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        AgentMeshStatus {
            id: self.endpoint.id().to_string(),
            links: links
                .into_iter()
                .map(|(peer, connected)| AgentLink {
                    peer: peer.to_owned(),
                    connected,
                })
                .collect(),
            in_reach: reached.len().saturating_sub(1),
            problem: problem.clone(),
        }
    }

    /// What crosses its peerings.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let records = self.endpoint.mesh();
        let name = |id| {
            let record = records.iter().find(|record| record.id == id);
            let name = record.map(|record| record.name.clone());
            name.filter(|name| !name.is_empty())
        };
        let counts = self.endpoint.counts();
        let peers = counts.peers.iter();
        // Whoever has no name comes and goes: each would be a series of its own.
        peers
            .filter_map(|peer| Some(peer.counters(&name(peer.peer.id)?)))
            .flatten()
            .collect()
    }

    /// Leaves the mesh in order.
    pub(crate) async fn leave(&self) {
        let _ = tokio::time::timeout(GOODBYE, self.endpoint.shut_down()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: &str = "[box.a]\naddress = \"10.0.0.1\"\n[box.b]\naddress = \"10.0.0.2\"\n[box.c]\naddress = \"10.0.0.3\"\n\
        [[node]]\nname = \"manager\"\nrole = \"manager\"\nbox = \"b\"\n\
        [[node]]\nname = \"data\"\nrole = \"data\"\nbox = \"c\"\n\
        [[node]]\nname = \"worker\"\nrole = \"worker\"\nbox = \"c\"\n";

    #[test]
    fn an_agent_dials_its_hubs_and_the_agents_before_it_where_they_listen() {
        let layout = Layout::parse(LAYOUT, "three.toml", &[]).unwrap();
        let dialled = dials(&layout, "c");
        let names: Vec<&str> = dialled.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["data", "agent.b"]);
        let data = layout.find("data").unwrap();
        assert_eq!(dialled[0].1, data.socket_address());
        assert_eq!(dialled[1].1, SocketAddr::from(([10, 0, 0, 2], MESH_PORT)));
    }

    #[test]
    fn a_box_that_the_layout_does_not_have_has_no_place() {
        let layout = Layout::parse(LAYOUT, "three.toml", &[]).unwrap();
        assert!(
            MeshConfig::of(&layout, "d", Tls::Off, Exposure::Guarded, Path::new(".")).is_none()
        );
    }
}
