//! The other boxes of a cluster: what an agent asks of their agents, and what they may ask of it.

mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use muster_gateway::status::{
    AgentMeshStatus, BoxStatus, CONNECTED, ClusterStatus, CoordinatorsStatus, ELSEWHERE, GONE,
    LEADER, NodeStatus, ProcessStatus, UNKNOWN, UP,
};
use openssl::ssl::{SslAcceptor, SslConnector};
use tokio::sync::watch;

use crate::api::{Done, Refusal};
use crate::client::{Client, ClientError, Expected};
use crate::desk::{Desk, Directory, SignRequest, Signed, agent_at};
use crate::identity::{self, BoxFile, IdentityError, IdentityFiles};
use crate::journal::{Journal, now};
use crate::mesh::coordinators::together;
use crate::mesh::{MeshConfig, MeshPlace};
use crate::pki::{Kind, NewKey, PkiError, Principal};
use crate::roster::Keeper;

/// How long another box may take for a question that everybody is asked.
const ANSWER: Duration = Duration::from_millis(1500);

/// How long other boxes are waited for when the one that leads has answered.
const AFTER_LEADER: Duration = Duration::from_millis(300);

/// The part of a certificate's life after which it is renewed.
const RENEW_AFTER: f64 = 2.0 / 3.0;

/// What the layout says of boxes, and what this one is.
#[derive(Debug, Clone)]
pub struct BoxesConfig {
    /// This box.
    pub file: BoxFile,
    /// Its keys and certificates.
    pub identity: IdentityFiles,
    /// The boxes of the layout, with their addresses.
    pub boxes: BTreeMap<String, IpAddr>,
    /// The box of each node.
    pub nodes: BTreeMap<String, String>,
    /// The layout's file.
    pub layout_file: PathBuf,
    /// The file of the token by which metrics may be read over the network. There may be none.
    pub metrics_token: PathBuf,
    /// The agent's place in the mesh, if it can have one.
    pub mesh: Option<MeshConfig>,
}

impl Directory for BoxesConfig {
    fn address(&self, name: &str) -> Option<IpAddr> {
        self.boxes.get(name).copied()
    }

    fn has(&self, name: &str, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|on| on == name)
    }

    fn text(&self) -> std::io::Result<String> {
        std::fs::read_to_string(&self.layout_file)
    }
}

#[derive(Debug)]
struct Other {
    name: String,
    address: IpAddr,
    client: Client,
}

/// The boxes of a cluster, as the agent of one of them has them.
pub struct Boxes {
    config: BoxesConfig,
    others: Vec<Other>,
    /// The agent that signs certificates, if it is another one.
    authority: Option<Client>,
    desk: Option<Desk>,
    roster: Arc<Keeper>,
    acceptor: watch::Sender<SslAcceptor>,
    connector: watch::Sender<SslConnector>,
    /// Set when it starts.
    mesh: OnceLock<Result<MeshPlace, String>>,
}

impl std::fmt::Debug for Boxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boxes")
            .field("own", &self.config.file.name)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

/// A certificate that was made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Renewed {
    Box,
    Node(String),
}

impl Boxes {
    /// Opens the keys and certificates of a box.
    ///
    /// # Errors
    ///
    /// Fails if one of them cannot be used.
    pub fn open(config: BoxesConfig) -> Result<Self, IdentityError> {
        let (acceptor, _) = watch::channel(identity::acceptor(&config.identity)?);
        let (connector, current) = watch::channel(identity::connector(&config.identity)?);
        let roster = Arc::new(Keeper::open(&config.file.cluster, &config.identity)?);
        let cluster = || Expected::BoxOf(config.file.cluster.clone(), Arc::clone(&roster));
        let others = config.boxes.iter();
        let others =
            others
                .filter(|(name, _)| **name != config.file.name)
                .map(|(name, address)| Other {
                    name: name.clone(),
                    address: *address,
                    client: Client::over_tls(agent_at(*address), current.clone(), cluster()),
                });
        let authority = config.file.authority;
        Ok(Self {
            others: others.collect(),
            authority: authority.map(|at| Client::over_tls(at, current.clone(), cluster())),
            desk: Desk::open(&config.file, &config.identity)?,
            roster,
            acceptor,
            connector,
            mesh: OnceLock::new(),
            config,
        })
    }

    pub(crate) fn config(&self) -> &BoxesConfig {
        &self.config
    }

    pub(crate) fn own(&self) -> &str {
        &self.config.file.name
    }

    pub(crate) fn acceptor(&self) -> watch::Receiver<SslAcceptor> {
        self.acceptor.subscribe()
    }

    /// Checks that the keys and certificates on disk can be used.
    pub(crate) fn check_identity(&self) -> Result<(), Refusal> {
        let connector = identity::connector(&self.config.identity);
        connector.map(drop).map_err(|error| {
            Refusal::conflict(format!(
                "the next agent could not use its identity: {error}"
            ))
        })
    }

    /// Takes the agent's place in the mesh, and holds it until the future is dropped.
    pub(crate) async fn take_place(&self, journal: Arc<Journal>) {
        let Some(config) = &self.config.mesh else {
            return;
        };
        let place = self.mesh.get_or_init(|| {
            let started = MeshPlace::start(config.clone());
            started.map_err(|error| format!("the agent is not in the mesh: {error:#}"))
        });
        match place {
            Ok(place) => place.hold(journal).await,
            Err(problem) => tracing::error!("{problem}"),
        }
    }

    /// The agent's place in the mesh, if it has one.
    pub(crate) fn mesh(&self) -> Option<&MeshPlace> {
        self.mesh.get()?.as_ref().ok()
    }

    /// What there is to say of the agent's place in the mesh.
    pub(crate) fn mesh_status(&self) -> Option<AgentMeshStatus> {
        Some(match self.mesh.get()? {
            Ok(place) => place.status(),
            Err(problem) => AgentMeshStatus {
                problem: Some(problem.clone()),
                ..AgentMeshStatus::default()
            },
        })
    }

    /// What this box knows of the coordinators.
    pub(crate) async fn own_coordinators(&self) -> CoordinatorsStatus {
        let problem = match self.mesh.get() {
            Some(Ok(place)) => return place.coordinators().await,
            Some(Err(problem)) => Some(problem.clone()),
            None => None,
        };
        let config = self.config.mesh.as_ref();
        config.map_or_else(CoordinatorsStatus::default, |config| {
            config.tell_without(problem)
        })
    }

    /// What all boxes know of the coordinators.
    pub(crate) async fn coordinators(&self) -> CoordinatorsStatus {
        let own = self.own_coordinators();
        let ask = async |client: &Client| client.coordinators().await;
        let (own, others) = self.gather(own, ask, |answer| answer.part == LEADER).await;
        together(own, others)
    }

    /// Asks all others, and returns what this box and they have answered in time.
    async fn gather<T>(
        &self,
        own: impl Future<Output = T>,
        ask: impl AsyncFn(&Client) -> Result<T, ClientError>,
        leads: impl Fn(&T) -> bool,
    ) -> (T, Vec<T>) {
        let mut asked: FuturesUnordered<_> =
            self.others.iter().map(|other| ask(&other.client)).collect();
        let own = own.await;
        let begun = tokio::time::Instant::now();
        let mut has_leader = leads(&own);
        let mut others = Vec::new();
        // Whoever leads knows most: a box that stands still is not waited for much longer.
        while others.len() < self.others.len() {
            let limit = if has_leader { AFTER_LEADER } else { ANSWER };
            match tokio::time::timeout_at(begun + limit, asked.next()).await {
                Ok(Some(Ok(answer))) => {
                    has_leader |= leads(&answer);
                    others.push(answer);
                }
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => break,
            }
        }
        (own, others)
    }

    /// What only the box of the authority does.
    pub(crate) fn desk(&self) -> Result<&Desk, Refusal> {
        self.desk.as_ref().ok_or_else(|| {
            let at = self.config.file.authority;
            let at = at.map_or_else(String::new, |at| format!(": ask {at}"));
            Refusal::conflict(format!(
                "this box does not have the cluster's authority{at}"
            ))
        })
    }

    /// Whom agents know besides boxes and nodes.
    pub(crate) fn roster(&self) -> &Arc<Keeper> {
        &self.roster
    }

    /// The other boxes by name, with their agents.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&str, &Client)> {
        let others = self.others.iter();
        others.map(|other| (other.name.as_str(), &other.client))
    }

    /// The agent of the box that has a node, if that is another one.
    pub(crate) fn agent_of(&self, node: &str) -> Option<(&str, &Client)> {
        let name = self.config.nodes.get(node)?;
        self.others().find(|(other, _)| other == name)
    }

    /// The state of the whole cluster, from that of this box.
    pub(crate) async fn status(&self, own: ClusterStatus) -> ClusterStatus {
        let asked = self.others.iter().map(|other| async {
            let before = now();
            let answer = tokio::time::timeout(ANSWER, other.client.status()).await;
            let answer = answer.unwrap_or(Err(ClientError::TimedOut));
            let middle = f64::midpoint(before, now());
            let time = answer
                .as_ref()
                .ok()
                .and_then(|status| status.agent.as_ref());
            let known = BoxStatus {
                name: other.name.clone(),
                address: other.address.to_string(),
                clock_offset_seconds: time.map(|agent| agent.time - middle),
                ..BoxStatus::default()
            };
            (known, answer.map_err(|error| error.to_string()))
        });
        let answers = join_all(asked).await;
        let address = self.config.boxes.get(self.own());
        let here = BoxStatus {
            name: self.own().to_owned(),
            address: address.map_or_else(String::new, ToString::to_string),
            ..BoxStatus::default()
        };
        let reached = self.mesh().map(MeshPlace::reached).unwrap_or_default();
        merge(own, here, answers, &self.config.nodes, &reached)
    }

    /// Has another box make a change for somebody who has asked this one.
    pub(crate) async fn change(
        (name, client): (&str, &Client),
        what: &str,
        who: &str,
    ) -> Result<Done, Refusal> {
        let answer = client.change_for(what, who).await;
        answer.map_err(|error| match error {
            ClientError::Refused(refusal) => refusal,
            error => Refusal::busy(format!("box {name} does not answer: {error}")),
        })
    }

    /// Makes the certificates that this box and its nodes do not have, and renews those that are old.
    ///
    /// # Errors
    ///
    /// Fails with the first that cannot be made.
    pub(crate) async fn renew(&self) -> Result<Vec<Renewed>, String> {
        let mut renewed = Vec::new();
        let nodes = self.config.nodes.iter();
        let here = nodes.filter(|(_, on)| *on == self.own());
        let nodes = here.map(|(node, _)| Renewed::Node(node.clone()));
        for certificate in std::iter::once(Renewed::Box).chain(nodes) {
            let files = match &certificate {
                Renewed::Box => self.config.identity.of_box(),
                Renewed::Node(node) => self.config.identity.of_node(node),
            };
            let text = |error: PkiError| error.to_string();
            let age = files.age().map_err(text)?;
            if age.is_some_and(|age| age.over < RENEW_AFTER) {
                continue;
            }
            let key = NewKey::new().map_err(text)?;
            let request = SignRequest {
                node: match &certificate {
                    Renewed::Box => None,
                    Renewed::Node(node) => Some(node.clone()),
                },
                request: key.request.clone(),
            };
            let signed = self.sign(&request).await?;
            let pem = key.pem().map_err(text)?;
            files.write(&pem, &signed.certificate).map_err(text)?;
            if certificate == Renewed::Box {
                let acceptor = identity::acceptor(&self.config.identity).map_err(text)?;
                let connector = identity::connector(&self.config.identity).map_err(text)?;
                self.acceptor.send_replace(acceptor);
                self.connector.send_replace(connector);
                if let Some(mesh) = self.mesh() {
                    mesh.reload_tls();
                }
            }
            renewed.push(certificate);
        }
        Ok(renewed)
    }

    async fn sign(&self, request: &SignRequest) -> Result<Signed, String> {
        if let Some(desk) = &self.desk {
            let own = Principal {
                cluster: self.config.file.cluster.clone(),
                kind: Kind::Box,
                name: self.own().to_owned(),
            };
            let signed = desk.renew(request, &own, &self.config, &self.roster.roster());
            return signed.map_err(|refusal| refusal.to_string());
        }
        let Some(authority) = &self.authority else {
            return Err("nobody signs certificates for this box".to_owned());
        };
        let signed = authority.post("sign", request).await;
        signed.map_err(|error| error.to_string())
    }

    /// How many days the box's own certificate is still valid.
    pub(crate) fn certificate_days(&self) -> Option<f64> {
        let age = self.config.identity.of_box().age();
        age.ok().flatten().map(|age| age.days_left())
    }

    /// How long to wait before certificates are looked at again: a small part of the life of the box's own.
    pub(crate) fn look_after(&self) -> Duration {
        let age = self.config.identity.of_box().age().ok().flatten();
        let life = age.map_or(Duration::MAX, |age| age.life);
        (life / 20).clamp(Duration::from_millis(500), Duration::from_secs(3600))
    }
}

/// Puts the answers of all boxes together.
fn merge(
    own: ClusterStatus,
    here: BoxStatus,
    answers: Vec<(BoxStatus, Result<ClusterStatus, String>)>,
    nodes: &BTreeMap<String, String>,
    reached: &BTreeSet<String>,
) -> ClusterStatus {
    let others = answers
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok());
    let others = others.filter_map(|status| status.coordinators.clone());
    let coordinators = own
        .coordinators
        .clone()
        .map(|own| together(own, others.collect()));
    let mut boxes = vec![BoxStatus {
        agent: UP.to_owned(),
        process: own.agent.clone(),
        ..here
    }];
    let mut known: BTreeMap<String, ProcessStatus> = BTreeMap::new();
    let is_there = |node: &ProcessStatus| node.process != ELSEWHERE;
    for node in own.nodes.iter().filter(|node| is_there(node)) {
        known.insert(node.node.clone(), node.clone());
    }
    for (of_box, answer) in answers {
        match answer {
            Ok(status) => {
                for node in status.nodes.into_iter().filter(is_there) {
                    known.entry(node.node.clone()).or_insert(node);
                }
                boxes.push(BoxStatus {
                    agent: UP.to_owned(),
                    process: status.agent,
                    ..of_box
                });
            }
            Err(reason) => boxes.push(BoxStatus {
                agent: GONE.to_owned(),
                reason: Some(reason),
                ..of_box
            }),
        }
    }
    boxes.sort_by(|one, other| one.name.cmp(&other.name));
    let seen = |name: &str| {
        let reports = known.values().filter_map(|node| node.report.as_ref());
        let mut peers = reports.flat_map(|report| &report.peers);
        peers.any(|peer| peer.connected && peer.node.as_deref() == Some(name))
    };
    let processes = own.nodes.iter().map(|node| {
        let box_name = nodes.get(&node.node).cloned();
        if let Some(found) = known.get(&node.node) {
            return ProcessStatus {
                box_name,
                ..found.clone()
            };
        }
        let is_seen = seen(&node.node) || reached.contains(&node.node);
        ProcessStatus {
            box_name,
            process: UNKNOWN.to_owned(),
            report: is_seen.then(|| NodeStatus {
                state: CONNECTED.to_owned(),
                ..NodeStatus::default()
            }),
            ..node.clone()
        }
    });
    ClusterStatus {
        nodes: processes.collect(),
        boxes,
        coordinators,
        ..own
    }
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::PeerStatus;

    use super::*;

    fn node(name: &str, process: &str, peer: Option<&str>) -> ProcessStatus {
        let peer = peer.map(|name| PeerStatus {
            node: Some(name.to_owned()),
            connected: true,
            ..PeerStatus::default()
        });
        ProcessStatus {
            node: name.to_owned(),
            process: process.to_owned(),
            report_age_seconds: Some(0.1),
            report: (process == "running").then(|| NodeStatus {
                state: "ready".to_owned(),
                peers: peer.into_iter().collect(),
                ..NodeStatus::default()
            }),
            ..ProcessStatus::default()
        }
    }

    fn status(nodes: Vec<ProcessStatus>) -> ClusterStatus {
        ClusterStatus {
            nodes,
            ..ClusterStatus::default()
        }
    }

    fn named(name: &str) -> BoxStatus {
        BoxStatus {
            name: name.to_owned(),
            ..BoxStatus::default()
        }
    }

    fn on() -> BTreeMap<String, String> {
        let pairs = [("x", "b"), ("y", "a"), ("z", "c")];
        pairs
            .map(|(node, on)| (node.to_owned(), on.to_owned()))
            .into()
    }

    #[test]
    fn each_node_is_told_of_by_its_own_box() {
        let own = status(vec![
            node("x", "running", None),
            node("y", ELSEWHERE, None),
            node("z", ELSEWHERE, None),
        ]);
        let of_a = status(vec![node("x", ELSEWHERE, None), node("y", "running", None)]);
        let of_c = status(vec![node("z", "running", None), node("x", "ended", None)]);
        let answers = vec![(named("a"), Ok(of_a)), (named("c"), Ok(of_c))];
        let merged = merge(own, named("b"), answers, &on(), &BTreeSet::new());
        let processes: Vec<_> = merged
            .nodes
            .iter()
            .map(|node| {
                (
                    node.node.as_str(),
                    node.process.as_str(),
                    node.box_name.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            processes,
            [
                ("x", "running", Some("b")),
                ("y", "running", Some("a")),
                ("z", "running", Some("c"))
            ]
        );
        let names: Vec<_> = merged
            .boxes
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(merged.all_ready());
    }

    #[test]
    fn nodes_of_a_box_that_does_not_answer_are_what_their_peers_see() {
        let own = status(vec![
            node("x", "running", Some("y")),
            node("y", ELSEWHERE, None),
            node("z", ELSEWHERE, None),
        ]);
        let gone = || Err("timed out".to_owned());
        let merged = |reached: &[&str]| {
            let answers = vec![(named("a"), gone()), (named("c"), gone())];
            let reached = reached.iter().map(|name| (*name).to_owned()).collect();
            merge(own.clone(), named("b"), answers, &on(), &reached)
        };
        let state = |merged: &ClusterStatus, at: usize| {
            let report = merged.nodes[at].report.as_ref();
            report.map(|report| report.state.clone())
        };
        // By the mesh, a node may be reached that no node of this box is linked with.
        let by_mesh = merged(&["z"]);
        assert_eq!(state(&by_mesh, 2).as_deref(), Some(CONNECTED));
        let merged = merged(&[]);
        assert_eq!(merged.nodes[1].process, UNKNOWN);
        assert_eq!(state(&merged, 1).as_deref(), Some(CONNECTED));
        assert_eq!(state(&merged, 2), None);
        assert_eq!(merged.boxes[0].reason.as_deref(), Some("timed out"));
        assert!(!merged.all_ready());
    }
}
