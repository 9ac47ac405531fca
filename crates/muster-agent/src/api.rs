//! What an agent is asked over HTTP, on Unix sockets and, by the other boxes, over TLS: version 1.
//!
//! | request | role | answer |
//! | --- | --- | --- |
//! | `GET /v1/openapi.json` | anybody | a description of all this, which says more |
//! | `GET /v1/status` | viewer | [`ClusterStatus`] |
//! | `GET /v1/events?since=SECONDS&follow=true` | viewer | [`Event`](crate::Event)s, a JSON object on a line |
//! | `GET /v1/logs?node=NAME&since=SECONDS&follow=true` | operator | [`LogLine`](crate::LogLine)s, a JSON object on a line |
//! | `GET /v1/records` | operator | [`LoggerFiles`](crate::LoggerFiles), a JSON object on a line for each logger |
//! | `GET /v1/records/STREAM?since=SECONDS&last=COUNT&where=CONDITION&follow=true` | operator | [`RecordLine`](crate::RecordLine)s, a JSON object on a line |
//! | `POST /v1/nodes/NAME/restart`, `…/stop`, `…/start` | operator | [`Done`] |
//! | `POST /v1/stop`, `/v1/reopen`, `/v1/reload` | admin | [`Done`] |
//! | `POST /v1/tokens`, `/v1/boxes/NAME/forget` | admin | a token; [`Done`] |
//! | `GET /v1/operators` | admin | the operators |
//! | `POST /v1/operators`, `/v1/operators/NAME/remove` | admin | a certificate or a token; [`Done`] |
//! | `GET /v1/ca` | anybody | the certificate of the authority |
//! | `POST /v1/join` | who has a token | a certificate, the layout |
//! | `POST /v1/sign` | a box | a certificate |
//! | `GET /v1/roster/VERSION`, `POST /v1/roster` | a box | a later roster; [`Done`] |
//! | `GET /v1/coordinators` | viewer | [`CoordinatorsStatus`](muster_gateway::status::CoordinatorsStatus) |
//! | `POST /v1/coordinators/recover` | admin | [`Done`] |
//! | `GET /v1/stores` | viewer | [`StoresStatus`](muster_gateway::status::StoresStatus) |
//! | `POST /v1/stores/move` | operator | [`Done`] |
//! | `POST /v1/stores/adopt` | admin | [`Done`] |
//! | `GET /metrics` | viewer, or who shows the token | the metrics of the box and of its nodes |
//! | `GET /v1/prometheus/targets` | the same | the agents of the cluster, as `http_sd_configs` reads them |
//! | `GET /livez` | viewer | 200 while the agent's loop turns |
//! | `GET /readyz` | viewer | 200 if every node is ready, 503 otherwise |
//!
//! What a person asks is asked of the other boxes as well, or passed on to the box that has the node. What a box asks is
//! about the box that is asked alone. A node's certificate may do nothing here. People are known by the socket; from
//! afar by an operator's certificate or token, and the roster says their role.
//!
//! What is refused is answered with a [`Refusal`]. Every request has a deadline, and none takes what another needs.

mod asker;
mod coordinators;
mod join;
mod lines;
mod metrics;
mod opening;
mod operators;
mod refusal;
mod request;
mod slots;
mod stores;
mod stream;
mod written;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path as UrlPath, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use muster_gateway::http::{self, Site};
use muster_gateway::status::{ClusterStatus, ELSEWHERE};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::asker::Role;
use self::asker::{Asker, Way};
pub(crate) use self::coordinators::RecoverRequest;
use self::metrics::MetricsToken;
#[cfg(feature = "schema")]
pub(crate) use self::metrics::TargetGroup;
pub use self::opening::{Access, ApiError};
use self::opening::{file_error, lock, make_directory};
pub use self::refusal::{Refusal, RefusalKind};
pub(crate) use self::request::{Change, Command, Request, Response};
pub(crate) use self::stores::{AdoptStoreRequest, MoveStoreRequest};
use crate::archive::{ArchiveConfig, ArchiveCounts, Keeping};
use crate::boxes::Boxes;
use crate::fleet::Fleet;
use crate::journal::{AuditEntry, EventKind, Journal, now};
use crate::node_socket::SocketFile;
use crate::place::Places;
use crate::roster;

/// Requests that wait for the agent's loop.
const WAITING: usize = 64;

/// How long the agent's loop may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The pause after certificates that could not be made.
const CERTIFICATES_AGAIN: Duration = Duration::from_secs(2);

/// The header that says for whom a box asks.
pub(crate) const FOR: &str = "x-muster-for";

/// The largest body of a request in bytes.
const LARGEST_BODY: usize = 1 << 20;

/// Done; with what is worth knowing, if anything is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {
    /// What whoever asked should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The sockets of an agent, and the lock that makes it the only one. The files are removed when it is dropped.
#[derive(Debug)]
pub struct Api {
    boxes: Option<Arc<Boxes>>,
    _stop: watch::Sender<()>,
    archive: Option<Keeping>,
    _files: Vec<SocketFile>,
    _lock: File,
}

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    commands: mpsc::Sender<Command>,
    journal: Arc<Journal>,
    places: Arc<Places>,
    metrics_token: Option<Arc<MetricsToken>>,
    archive: Option<Arc<ArchiveCounts>>,
    slots: slots::Slots,
    boxes: Option<Arc<Boxes>>,
}

impl Api {
    /// Makes the directories, takes the lock, listens, and has the fleet answer; archives log files, if they are to be.
    ///
    /// # Errors
    ///
    /// Fails if another agent has the lock, and if a directory, the lock or a socket cannot be made.
    pub async fn open(
        places: &Places,
        access: Access,
        fleet: &mut Fleet,
        boxes: Option<Boxes>,
        archive: Option<ArchiveConfig>,
    ) -> Result<Self, ApiError> {
        let path = places.agent_socket();
        if tokio::net::UnixStream::connect(&path).await.is_ok() {
            return Err(ApiError::Running(places.run.clone()));
        }
        for directory in places.directories() {
            make_directory(&directory, access)?;
        }
        let lock = lock(&places.run).await?;
        let lock = lock.ok_or_else(|| ApiError::Running(places.run.clone()))?;
        let (commands, requests) = mpsc::channel(WAITING);
        let journal = Arc::new(Journal::open(&places.journal));
        let metrics_token = boxes
            .as_ref()
            .map(|boxes| boxes.config().metrics_token.clone());
        let metrics_token = metrics_token.map(MetricsToken::at);
        let agent = Agent {
            commands,
            journal: Arc::clone(&journal),
            places: Arc::new(places.clone()),
            metrics_token: metrics_token.map(Arc::new),
            archive: archive.as_ref().map(|_| Arc::default()),
            slots: slots::Slots::default(),
            boxes: boxes.map(Arc::new),
        };
        let (stop, stopped) = watch::channel(());
        // The path may have become another one with its directory.
        let mut sockets = vec![(places.agent_socket(), access.mode(), Role::Admin)];
        if access == Access::Group {
            sockets.push((places.view_socket(), 0o666, Role::Viewer));
        }
        let mut files = Vec::new();
        let mut serving = Vec::new();
        for (path, mode, role) in sockets {
            let bound = SocketFile::bind(&path, mode);
            let (listener, file) = bound.map_err(file_error("listen on", &path))?;
            files.push(file);
            let site = Site::new(router(agent.clone(), Some(role)));
            serving.push((http::Listener::from(listener), site));
        }
        if let Some(boxes) = &agent.boxes {
            let address = boxes.config().file.listen;
            let bound = http::bind(address).await;
            let (listener, _) = bound.map_err(|source| ApiError::Listen { address, source })?;
            let site = Site::new(router(agent.clone(), None)).with_tls(boxes.acceptor());
            serving.push((listener.into(), site));
            fleet.wait_for_certificates();
            let renewing = keep_certificates(agent.clone(), Arc::clone(boxes));
            let (in_mesh, decisions) = (Arc::clone(boxes), Arc::clone(&journal));
            let (of_roster, journal) = (Arc::clone(boxes), Arc::clone(&journal));
            let keeping_up = async move { roster::keep_up(&of_roster, &journal).await };

            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                tokio::select! {
                    ((), (), ()) = async { tokio::join!(renewing, keeping_up, in_mesh.take_place(decisions)) } => {}
                    _ = stopped.changed() => {}
                }
            });
        }
        let archive = archive.zip(agent.archive.clone()).map(|(config, counts)| {
            Keeping::start(places.clone(), config, counts, Arc::clone(&journal))
        });
        for (listener, site) in serving {
            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = http::serve(listener, site) => {}
                    _ = stopped.changed() => {}
                }
            });
        }
        fleet.serve(requests, journal);
        Ok(Self {
            boxes: agent.boxes,
            _stop: stop,
            archive,
            _files: files,
            _lock: lock,
        })
    }

    /// Archives nothing more, and ends a program that ships a file; leaves the mesh in order, and listens no more.
    pub async fn close(mut self) {
        if let Some(archive) = self.archive.take() {
            archive.end().await;
        }
        if let Some(mesh) = self.boxes.as_ref().and_then(|boxes| boxes.mesh()) {
            mesh.leave().await;
        }
    }
}

/// Makes and renews certificates, as long as the agent runs.
async fn keep_certificates(agent: Agent, boxes: Arc<Boxes>) {
    let mut told = None;
    loop {
        let renewed = boxes.renew().await;
        let wait = match renewed {
            Ok(renewed) => {
                told = None;
                if agent.ask(Request::Certified(renewed)).await.is_err() {
                    CERTIFICATES_AGAIN
                } else {
                    boxes.look_after()
                }
            }
            Err(reason) => {
                if told.as_ref() != Some(&reason) {
                    let text = format!("certificates cannot be made or renewed: {reason}");
                    tracing::warn!("{text}");
                    agent.journal.note(EventKind::Note, None, text);
                    told = Some(reason);
                }
                CERTIFICATES_AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What is answered to whoever has a role because of the socket, or to whom a certificate or a token gives one.
pub(crate) fn router(agent: Agent, by_socket: Option<Role>) -> Router {
    let way = Way::new(by_socket, agent.boxes.as_deref());
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/prometheus/targets", get(metrics::targets))
        .route("/v1/openapi.json", get(openapi))
        .route("/v1/status", get(status))
        .route("/v1/events", get(lines::events))
        .route("/v1/logs", get(lines::logs))
        .route("/v1/records", get(written::written))
        .route("/v1/records/{stream}", get(lines::records))
        .route("/v1/nodes/{node}/{verb}", post(change_node))
        .route("/v1/ca", get(join::authority))
        .route("/v1/join", post(join::join))
        .route("/v1/sign", post(join::sign))
        .route("/v1/tokens", post(join::token))
        .route("/v1/boxes/{name}/forget", post(join::forget))
        .route("/v1/operators", get(operators::list).post(operators::add))
        .route("/v1/operators/{name}/remove", post(operators::remove))
        .route("/v1/coordinators", get(coordinators::show))
        .route("/v1/coordinators/recover", post(coordinators::recover))
        .route("/v1/stores", get(stores::show))
        .route("/v1/stores/move", post(stores::move_to))
        .route("/v1/stores/adopt", post(stores::adopt))
        .route("/v1/roster", post(operators::hear))
        .route("/v1/roster/{version}", get(operators::later))
        .route("/v1/{verb}", post(change))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(axum::middleware::map_request(move |request| {
            std::future::ready(way.find(request))
        }))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(agent)
}

/// The description of all this. `openapi` makes it, with the feature `schema`.
async fn openapi() -> HttpResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, include_str!("../openapi.json")).into_response()
}

async fn unknown(method: Method, uri: axum::http::Uri) -> Refusal {
    Refusal::unknown(format!("nothing answers {method} {}", uri.path()))
}

impl Agent {
    /// One that has nothing to archive, for requests that are made up.
    #[cfg(feature = "simulation")]
    pub(crate) fn for_tests(
        commands: mpsc::Sender<Command>,
        journal: Journal,
        places: Places,
        boxes: Boxes,
    ) -> Self {
        Self {
            commands,
            journal: Arc::new(journal),
            places: Arc::new(places),
            metrics_token: None,
            archive: None,
            slots: slots::Slots::default(),
            boxes: Some(Arc::new(boxes)),
        }
    }

    /// Asks the agent's loop.
    async fn ask(&self, request: Request) -> Result<Response, Refusal> {
        let (answer, answered) = oneshot::channel();
        let command = Command { request, answer };
        let exchange = async {
            self.commands.send(command).await.ok()?;
            answered.await.ok()
        };
        let busy = || Refusal::busy("the agent does not answer");
        let answer = tokio::time::timeout(ANSWER, exchange).await;
        answer.ok().flatten().ok_or_else(busy)?
    }

    async fn status(&self) -> Result<Box<ClusterStatus>, Refusal> {
        match self.ask(Request::Status).await? {
            Response::Status(status) => Ok(status),
            _ => Err(Refusal::conflict("the agent has no status")),
        }
    }

    /// Has a change made by whoever may, and writes down who asked and what became of it before it answers.
    async fn change(&self, change: Change, asker: &Asker) -> Result<Done, Refusal> {
        let answer = match asker.need(change.role()) {
            Ok(()) => self.carry_out(&change, asker).await,
            Err(refusal) => Err(refusal),
        };
        let (verb, object) = change.name();
        self.audit(asker, verb, object, answer.as_ref().err());
        answer
    }

    async fn carry_out(&self, change: &Change, asker: &Asker) -> Result<Done, Refusal> {
        let (verb, object) = change.name();
        if let (Some(boxes), Some(node), false) = (&self.boxes, object, asker.is_box())
            && let Some(other) = boxes.agent_of(node)
        {
            return Boxes::change(other, &format!("nodes/{node}/{verb}"), asker.who()).await;
        }
        if let (Change::Reload, Some(boxes)) = (change, &self.boxes) {
            boxes.check_identity()?;
        }
        let response = self.ask(Request::Change(change.clone())).await?;
        Ok(Done {
            note: match response {
                Response::Noted(note) => Some(note),
                _ => None,
            },
        })
    }

    fn audit(&self, asker: &Asker, verb: &str, object: Option<&str>, refusal: Option<&Refusal>) {
        let entry = AuditEntry {
            time: now(),
            who: asker.who().to_owned(),
            known_by: asker.known_by().to_owned(),
            role: asker.role().map_or("none", Role::name).to_owned(),
            verb: verb.to_owned(),
            object: object.map(ToOwned::to_owned),
            outcome: refusal.map_or_else(
                || "done".to_owned(),
                |refusal| format!("refused: {refusal}"),
            ),
        };
        if asker.role().is_none() && refusal.is_some() {
            self.journal.audit_stranger(entry);
        } else {
            self.journal.audit(entry);
        }
    }

    /// The state of the cluster for a person, that of this box for another one.
    async fn status_for(&self, asker: &Asker) -> Result<ClusterStatus, Refusal> {
        let mut own = *self.status().await?;
        if let Some(agent) = own.agent.as_mut() {
            agent.archive = self.archive.as_deref().map(ArchiveCounts::status);
        }
        let Some(boxes) = &self.boxes else {
            return Ok(own);
        };
        if let Some(agent) = &mut own.agent {
            agent.certificate_days = boxes.certificate_days();
            agent.mesh = boxes.mesh_status();
        }
        if boxes.config().mesh.is_some() {
            let mut coordinators = boxes.own_coordinators().await;
            // Who wants to know of each node asks for that.
            coordinators.members.clear();
            own.coordinators = Some(coordinators);
        }
        Ok(if asker.is_box() {
            // What is elsewhere is told there, and the other knows the layout.
            own.nodes.retain(|node| node.process != ELSEWHERE);
            own
        } else {
            boxes.status(own).await
        })
    }
}

async fn livez(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<&'static str, Refusal> {
    asker.need(Role::Viewer)?;
    agent.status().await.map(|_| "the agent is alive\n")
}

async fn readyz(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<HttpResponse, Refusal> {
    asker.need(Role::Viewer)?;
    Ok(if agent.status_for(&asker).await?.all_ready() {
        "every node is ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not every node is ready\n").into_response()
    })
}

async fn status(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<ClusterStatus>, Refusal> {
    asker.need(Role::Viewer)?;
    agent.status_for(&asker).await.map(Json)
}

async fn change_node(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    UrlPath((node, verb)): UrlPath<(String, String)>,
) -> Result<Json<Done>, Refusal> {
    let change = match verb.as_str() {
        "restart" => Change::Restart(node),
        "stop" => Change::Stop(node),
        "start" => Change::Start(node),
        _ => return Err(Refusal::unknown(format!("nodes cannot be asked to {verb}"))),
    };
    agent.change(change, &asker).await.map(Json)
}

async fn change(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    UrlPath(verb): UrlPath<String>,
) -> Result<Json<Done>, Refusal> {
    let change = match verb.as_str() {
        "stop" => Change::StopAll,
        "reopen" => Change::Reopen,
        "reload" => Change::Reload,
        _ => {
            return Err(Refusal::unknown(format!(
                "the agent cannot be asked to {verb}"
            )));
        }
    };
    agent.change(change, &asker).await.map(Json)
}
