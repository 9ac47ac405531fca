//! A cluster of agents without processes, all in one: each tells of nodes that there are none of, over TLS like any other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_gateway::http::{self, Site};
use muster_gateway::status::{
    AgentStatus, ClusterStatus, ELSEWHERE, NodeStatus, PeerStatus, ProcessStatus, VERSION,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::api::{Agent, ApiError, Command, Request, Response, Role, router};
use crate::boxes::{Boxes, BoxesConfig};
use crate::client::Client;
use crate::desk;
use crate::identity::{BoxFile, IdentityError, IdentityFiles};
use crate::journal::{Journal, now};
use crate::node_socket::SocketFile;
use crate::pki::{Authority, Kind, NewKey, Principal};
use crate::place::Places;

/// What each node counts.
const COUNTS: u64 = 60;

/// With how many others each node is linked.
const PEERS: usize = 16;

/// How large the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Boxes, 1 to 250.
    pub boxes: u8,
    /// Nodes of each.
    pub nodes: usize,
}

/// Why there is no such cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulationError {
    /// A key or a certificate cannot be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file or a socket cannot be made, or an address be listened on.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Agents that run. They end when this is dropped.
#[derive(Debug)]
pub struct SimulatedCluster {
    socket: PathBuf,
    _socket: SocketFile,
    _tasks: JoinSet<()>,
}

impl SimulatedCluster {
    /// Starts the agents, at loopback addresses that begin with `network`. Their files are in `directory`.
    ///
    /// # Errors
    ///
    /// Fails if a key, a file or a socket cannot be made.
    pub async fn start(
        directory: &Path,
        network: [u8; 3],
        size: Size,
    ) -> Result<Self, SimulationError> {
        let [first, second, third] = network;
        let boxes: BTreeMap<String, IpAddr> = (1..=size.boxes)
            .map(|number| {
                (
                    format!("box-{number:03}"),
                    [first, second, third, number].into(),
                )
            })
            .collect();
        let nodes: BTreeMap<String, String> = boxes
            .keys()
            .flat_map(|name| {
                (1..=size.nodes).map(move |node| (format!("{name}-{node}"), name.clone()))
            })
            .collect();
        let mut tasks = JoinSet::new();
        let mut first_socket = None;
        let mut authority = None;
        for (name, address) in &boxes {
            let home = directory.join(name);
            std::fs::create_dir_all(&home).map_err(file_error(&home))?;
            let identity = IdentityFiles::at(&home.join("identity"));
            let file = BoxFile {
                name: name.clone(),
                cluster: "simulated".to_owned(),
                listen: (*address, crate::AGENT_PORT).into(),
                authority: None,
                certificate_seconds: None,
            };
            match &authority {
                None => {
                    desk::found(&file, &identity)?;
                    let made = Authority::read(&identity.authority());
                    authority = made.map_err(IdentityError::from)?;
                }
                Some(authority) => join(authority, &file, &identity)?,
            }
            let config = BoxesConfig {
                file: file.clone(),
                identity,
                boxes: boxes.clone(),
                nodes: nodes.clone(),
                layout_file: home.join("muster.toml"),
                metrics_token: home.join("metrics.token"),
                mesh: None,
            };
            let boxes = Boxes::open(config)?;
            let acceptor = boxes.acceptor();
            let (commands, asked) = mpsc::channel(64);
            tasks.spawn(answer(asked, status(name, &nodes)));
            let agent =
                Agent::for_tests(commands, Journal::open(&home), Places::in_one(&home), boxes);
            let bound = http::bind(file.listen).await;
            let (listener, _) = bound.map_err(|source| ApiError::Listen {
                address: file.listen,
                source,
            })?;
            let site = Site::new(router(agent.clone(), None)).with_tls(acceptor);
            tasks.spawn(http::serve(http::Listener::from(listener), site));
            if first_socket.is_none() {
                let path = home.join("agent.sock");
                let (listener, file) = SocketFile::bind(&path, 0o600).map_err(file_error(&path))?;
                let site = Site::new(router(agent, Some(Role::Admin)));
                tasks.spawn(http::serve(http::Listener::from(listener), site));
                first_socket = Some((path, file));
            }
        }
        let (socket, file) = first_socket.ok_or_else(|| {
            let none = std::io::Error::other("a cluster has a box");
            file_error(directory)(none)
        })?;
        Ok(Self {
            socket,
            _socket: file,
            _tasks: tasks,
        })
    }

    /// Returns a client of the first agent.
    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> ApiError {
    let path = path.to_owned();
    move |source| ApiError::File {
        what: "make",
        path,
        source,
    }
}

/// Makes the certificate of a box as its authority does.
fn join(
    authority: &Authority,
    file: &BoxFile,
    identity: &IdentityFiles,
) -> Result<(), IdentityError> {
    let principal = Principal {
        cluster: file.cluster.clone(),
        kind: Kind::Box,
        name: file.name.clone(),
    };
    let key = NewKey::new()?;
    let day = Duration::from_secs(86_400);
    let addresses = [file.listen.ip()];
    let certificate = authority.sign(&key.request, &principal, &addresses, day)?;
    crate::pki::write(&identity.authorities(), authority.pem()?.as_bytes())?;
    identity.of_box().write(&key.pem()?, &certificate)?;
    Ok(())
}

async fn answer(mut asked: mpsc::Receiver<Command>, status: ClusterStatus) {
    while let Some(Command { request, answer }) = asked.recv().await {
        let response = match request {
            Request::Status => {
                let mut status = status.clone();
                if let Some(agent) = &mut status.agent {
                    agent.time = now();
                }
                Response::Status(Box::new(status))
            }
            _ => Response::Done,
        };
        let _ = answer.send(Ok(response));
    }
}

/// What the agent of a box knows: its own nodes.
fn status(of_box: &str, nodes: &BTreeMap<String, String>) -> ClusterStatus {
    let names: Vec<&String> = nodes.keys().collect();
    let processes = nodes.iter().map(|(node, on)| {
        if on != of_box {
            return ProcessStatus {
                node: node.clone(),
                role: "data".to_owned(),
                process: ELSEWHERE.to_owned(),
                ..ProcessStatus::default()
            };
        }
        ProcessStatus {
            node: node.clone(),
            role: "data".to_owned(),
            process: "running".to_owned(),
            pid: Some(4711),
            report_age_seconds: Some(0.1),
            report: Some(NodeStatus {
                state: "ready".to_owned(),
                counts: (0..COUNTS)
                    .map(|number| (format!("something_counted_{number}"), number << 24))
                    .collect(),
                peers: names.iter().take(PEERS).map(|name| peer(name)).collect(),
                ..NodeStatus::default()
            }),
            ..ProcessStatus::default()
        }
    });
    ClusterStatus {
        version: VERSION,
        layout: "muster.toml".to_owned(),
        cluster: Some("simulated".to_owned()),
        agent: Some(AgentStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now(),
            ..AgentStatus::default()
        }),
        boxes: Vec::new(),
        coordinators: None,
        nodes: processes.collect(),
    }
}

fn peer(name: &str) -> PeerStatus {
    PeerStatus {
        node: Some(name.to_owned()),
        address: "192.0.2.1:17760".to_owned(),
        connected: true,
        ..PeerStatus::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn every_box_and_node_is_in_the_status_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let [.., high, low] = std::process::id().to_be_bytes();
        let network = [127, 1 + high % 250, low];
        let size = Size { boxes: 5, nodes: 3 };
        let cluster = SimulatedCluster::start(directory.path(), network, size).await;
        let cluster = cluster.unwrap();
        let status = cluster.client().status().await.unwrap();
        assert_eq!((status.boxes.len(), status.nodes.len()), (5, 15));
        assert!(
            status.boxes.iter().all(|known| known.agent == "up"),
            "{:?}",
            status.boxes
        );
        assert!(status.all_ready());
    }
}
