//! What an agent is asked over HTTP, on Unix sockets and, by the other boxes, over TLS: version 1.
//!
//! | request | role | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | viewer | [`ClusterStatus`] |
//! | `GET /v1/events?since=SECONDS&follow=true` | viewer | [`Event`](crate::Event)s, a JSON object on a line |
//! | `GET /v1/logs?node=NAME&since=SECONDS&follow=true` | operator | [`LogLine`](crate::LogLine)s, a JSON object on a line |
//! | `GET /v1/records/STREAM?since=SECONDS&last=COUNT` | operator | [`RecordLine`](crate::RecordLine)s, a JSON object on a line |
//! | `POST /v1/nodes/NAME/restart`, `…/stop`, `…/start` | operator | [`Done`] |
//! | `POST /v1/stop`, `/v1/reopen`, `/v1/reload` | admin | [`Done`] |
//! | `POST /v1/tokens`, `/v1/boxes/NAME/forget` | admin | a token; [`Done`] |
//! | `GET /v1/ca` | anybody | the certificate of the authority |
//! | `POST /v1/join` | who has a token | a certificate, the layout |
//! | `POST /v1/sign` | a box | a certificate |
//! | `GET /metrics` | viewer, or who shows the token | the metrics of the box and of its nodes |
//! | `GET /v1/prometheus/targets` | the same | the agents of the cluster, as `http_sd_configs` reads them |
//! | `GET /livez` | viewer | 200 while the agent's loop turns |
//! | `GET /readyz` | viewer | 200 if every node is ready, 503 otherwise |
//!
//! What a person asks is asked of the other boxes as well, or passed on to the box that has the node. What a box asks is
//! about the box that is asked alone. A node's certificate may do nothing here.
//!
//! What is refused is answered with a [`Refusal`]. Every request has a deadline, and none takes what another needs.

mod asker;
mod join;
mod metrics;
mod stream;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Path as UrlPath, RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use muster_gateway::http::{self, Site};
use muster_gateway::status::ClusterStatus;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use self::asker::Asker;
use self::metrics::MetricsToken;
use crate::archive::{self, ArchiveConfig, ArchiveCounts};
use crate::boxes::{Boxes, Renewed, SharedBoxes};
use crate::fleet::Fleet;
use crate::journal::{AuditEntry, EventKind, Journal, now};
use crate::node_socket::SocketFile;
use crate::place::Places;
use crate::process_logs::{ProcessLogs, Wanted};
use crate::records::MOST_RECORDS;

/// Requests that wait for the agent's loop.
const WAITING: usize = 64;

/// How long the agent's loop may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long an agent that no longer listens may hold its lock.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// The pause after certificates that could not be made.
const CERTIFICATES_AGAIN: Duration = Duration::from_secs(2);

/// The longest query in bytes.
const LONGEST_QUERY: usize = 4096;

/// The header that says for whom a box asks.
pub(crate) const FOR: &str = "x-muster-for";

/// The largest body of a request in bytes.
const LARGEST_BODY: usize = 1 << 20;

/// What whoever asks may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at states and events.
    Viewer,
    /// Read logs, which tell what the traffic was; restart, stop and start nodes.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Returns the role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Done; with what is worth knowing, if anything is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What whoever asked should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why something is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalKind {
    /// There is no such node or path.
    Unknown,
    /// The state of things does not allow it.
    Conflict,
    /// Whoever asks may not.
    Forbidden,
    /// Whoever asks has to show a token.
    Unauthorized,
    /// The request is not understood.
    Malformed,
    /// The agent does not answer in time, or that of another box does not.
    Busy,
}

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// Why, for programs.
    pub kind: RefusalKind,
    /// Why, in words.
    pub error: String,
}

impl Refusal {
    fn new(kind: RefusalKind, error: impl Into<String>) -> Self {
        Self {
            kind,
            error: error.into(),
        }
    }

    pub(crate) fn unknown(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unknown, error)
    }

    pub(crate) fn busy(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Busy, error)
    }

    pub(crate) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Forbidden, error)
    }

    pub(crate) fn unauthorized(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unauthorized, error)
    }

    pub(crate) fn malformed(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Malformed, error)
    }

    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, error)
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Unknown => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
            RefusalKind::Malformed => StatusCode::BAD_REQUEST,
            RefusalKind::Busy => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> HttpResponse {
        let mut response = (self.status(), Json(&self)).into_response();
        if self.kind == RefusalKind::Unauthorized {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What the agent's loop is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Status,
    Restart(String),
    Stop(String),
    Start(String),
    StopAll,
    Reopen,
    Reload,
    /// All certificates are there, and these are new.
    Certified(Vec<Renewed>),
}

impl Request {
    /// The name of a change, and the node that it is about.
    fn name(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Status => ("status", None),
            Self::Restart(node) => ("restart", Some(node)),
            Self::Stop(node) => ("stop", Some(node)),
            Self::Start(node) => ("start", Some(node)),
            Self::StopAll => ("stop all", None),
            Self::Reopen => ("reopen", None),
            Self::Reload => ("reload", None),
            Self::Certified(_) => ("certified", None),
        }
    }

    fn role(&self) -> Role {
        match self {
            Self::Status => Role::Viewer,
            Self::Restart(_) | Self::Stop(_) | Self::Start(_) => Role::Operator,
            Self::StopAll | Self::Reopen | Self::Reload | Self::Certified(_) => Role::Admin,
        }
    }
}

/// What the agent's loop answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Response {
    Status(Box<ClusterStatus>),
    Done,
    Noted(String),
}

/// A request with the way back to who asked.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Result<Response, Refusal>>,
}

/// Who may open the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// This user and root; there is no socket for viewers.
    Owner,
    /// The group of the socket's file may do everything, and everybody on this machine may look.
    Group,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// Why an agent does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Another agent has these nodes.
    #[error("an agent runs in {} already", .0.display())]
    Running(PathBuf),
    /// A file or a socket cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The address for the other boxes cannot be listened on.
    #[error("cannot listen on {address} for the other boxes: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ApiError {
    let path = path.to_owned();
    move |source| ApiError::File { what, path, source }
}

/// The sockets of an agent, and the lock that makes it the only one. The files are removed when it is dropped.
#[derive(Debug)]
pub struct Api {
    _stop: watch::Sender<()>,
    _files: Vec<SocketFile>,
    _lock: File,
}

#[derive(Debug, Clone)]
struct Agent {
    commands: mpsc::Sender<Command>,
    journal: Arc<Journal>,
    process_logs: PathBuf,
    places: Arc<Places>,
    metrics_token: Option<Arc<MetricsToken>>,
    archive: Option<Arc<ArchiveCounts>>,
    boxes: Option<SharedBoxes>,
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
            process_logs: places.process_logs.clone(),
            places: Arc::new(places.clone()),
            metrics_token: metrics_token.map(Arc::new),
            archive: archive.as_ref().map(|_| Arc::default()),
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
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|source| ApiError::Listen { address, source })?;
            let site = Site::new(router(agent.clone(), None)).with_tls(boxes.acceptor());
            serving.push((listener.into(), site));
            fleet.wait_for_certificates();
            let renewing = keep_certificates(agent.clone(), Arc::clone(boxes));
            let mut stopped = stopped.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = renewing => {}
                    _ = stopped.changed() => {}
                }
            });
        }
        if let (Some(config), Some(counts)) = (archive, &agent.archive) {
            let (counts, journal) = (Arc::clone(counts), Arc::clone(&journal));
            let keeping = archive::keep(places.clone(), config, counts, journal, stopped.clone());
            tokio::spawn(keeping);
        }
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
            _stop: stop,
            _files: files,
            _lock: lock,
        })
    }
}

/// Makes a directory that may be shared with a group, or may not.
fn make_directory(directory: &Path, access: Access) -> Result<(), ApiError> {
    if directory.is_dir() {
        return Ok(());
    }
    let mode = match access {
        Access::Owner => 0o777,
        // The sockets for viewers are in one of them.
        Access::Group => 0o755,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(directory)
        .map_err(file_error("make", directory))
}

/// Takes the lock of a directory; nobody else has it until the file is closed. An agent that has just stopped may still
/// hold it.
async fn lock(directory: &Path) -> Result<Option<File>, ApiError> {
    let path = directory.join("muster.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(file_error("write", &path))?;
    let end = tokio::time::Instant::now() + LAST_MOMENTS;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if tokio::time::Instant::now() >= end => return Ok(None),
            Err(Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(file_error("lock", &path)(error.into())),
        }
    }
    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o600));
    Ok(Some(file))
}

/// Makes and renews certificates, as long as the agent runs.
async fn keep_certificates(agent: Agent, boxes: SharedBoxes) {
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

/// What is answered to whoever has a role because of the socket, or to whom a certificate gives one.
fn router(agent: Agent, role: Option<Role>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/prometheus/targets", get(metrics::targets))
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/logs", get(logs))
        .route("/v1/records/{stream}", get(records))
        .route("/v1/nodes/{node}/{verb}", post(change_node))
        .route("/v1/ca", get(join::authority))
        .route("/v1/join", post(join::join))
        .route("/v1/sign", post(join::sign))
        .route("/v1/tokens", post(join::token))
        .route("/v1/boxes/{name}/forget", post(join::forget))
        .route("/v1/{verb}", post(change))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(axum::middleware::map_request(move |request| {
            std::future::ready(asker::find(role, request))
        }))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(agent)
}

async fn unknown(method: Method, uri: axum::http::Uri) -> Refusal {
    Refusal::unknown(format!("nothing answers {method} {}", uri.path()))
}

impl Agent {
    /// Asks the agent's loop.
    async fn ask(&self, request: Request) -> Result<Response, Refusal> {
        let (answer, answered) = oneshot::channel();
        let command = Command { request, answer };
        let exchange = async {
            self.commands.send(command).await.ok()?;
            answered.await.ok()
        };
        let busy = || Refusal::new(RefusalKind::Busy, "the agent does not answer");
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
    async fn change(&self, request: Request, asker: &Asker) -> Result<Done, Refusal> {
        let answer = match asker.need(request.role()) {
            Ok(()) => self.carry_out(&request, asker).await,
            Err(refusal) => Err(refusal),
        };
        let (verb, object) = request.name();
        self.audit(asker, verb, object, answer.as_ref().err());
        answer
    }

    async fn carry_out(&self, request: &Request, asker: &Asker) -> Result<Done, Refusal> {
        let (verb, object) = request.name();
        if let (Some(boxes), Some(node), false) = (&self.boxes, object, asker.is_box())
            && let Some(other) = boxes.agent_of(node)
        {
            return Boxes::change(other, &format!("nodes/{node}/{verb}"), asker.who()).await;
        }
        let response = self.ask(request.clone()).await?;
        Ok(Done {
            note: match response {
                Response::Noted(note) => Some(note),
                _ => None,
            },
        })
    }

    fn audit(&self, asker: &Asker, verb: &str, object: Option<&str>, refusal: Option<&Refusal>) {
        self.journal.audit(&AuditEntry {
            time: now(),
            who: asker.who().to_owned(),
            role: asker.role().map_or("none", Role::name).to_owned(),
            verb: verb.to_owned(),
            object: object.map(ToOwned::to_owned),
            outcome: refusal.map_or_else(
                || "done".to_owned(),
                |refusal| format!("refused: {refusal}"),
            ),
        });
    }

    /// The state of the cluster for a person, that of this box for another one.
    async fn status_for(&self, asker: &Asker) -> Result<ClusterStatus, Refusal> {
        let mut own = *self.status().await?;
        let Some(boxes) = &self.boxes else {
            return Ok(own);
        };
        if let Some(agent) = &mut own.agent {
            agent.certificate_days = boxes.certificate_days();
        }
        Ok(if asker.is_box() {
            own
        } else {
            boxes.status(own).await
        })
    }
}

async fn livez(State(agent): State<Agent>) -> Result<&'static str, Refusal> {
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
    let request = match verb.as_str() {
        "restart" => Request::Restart(node),
        "stop" => Request::Stop(node),
        "start" => Request::Start(node),
        _ => return Err(Refusal::unknown(format!("nodes cannot be asked to {verb}"))),
    };
    agent.change(request, &asker).await.map(Json)
}

async fn change(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    UrlPath(verb): UrlPath<String>,
) -> Result<Json<Done>, Refusal> {
    let request = match verb.as_str() {
        "stop" => Request::StopAll,
        "reopen" => Request::Reopen,
        "reload" => Request::Reload,
        _ => {
            return Err(Refusal::unknown(format!(
                "the agent cannot be asked to {verb}"
            )));
        }
    };
    agent.change(request, &asker).await.map(Json)
}

/// What a query asks for.
#[derive(Debug, Default, PartialEq)]
struct Query {
    wanted: Wanted,
    follows: bool,
    /// How many at most, of each box.
    last: Option<usize>,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let malformed = |text: String| Refusal::new(RefusalKind::Malformed, text);
        let query = query.unwrap_or_default();
        if query.len() > LONGEST_QUERY {
            return Err(malformed("the query is too long".to_owned()));
        }
        let mut parsed = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                // Names of nodes have no characters that are written in another way.
                "node" => parsed.wanted.nodes.push(value.to_owned()),
                "since" => {
                    let since = value.parse().ok().filter(|since: &f64| since.is_finite());
                    parsed.wanted.since = since.ok_or_else(|| {
                        malformed(format!("since={value}: seconds since 1970 are expected"))
                    })?;
                }
                "follow" => {
                    parsed.follows = match value {
                        "true" | "" => true,
                        "false" => false,
                        _ => return Err(malformed(format!("follow={value}: true or false"))),
                    }
                }
                "last" => {
                    let last = value
                        .parse()
                        .ok()
                        .filter(|last| (1..=MOST_RECORDS).contains(last));
                    parsed.last = Some(last.ok_or_else(|| {
                        malformed(format!("last={value}: a number from 1 to {MOST_RECORDS}"))
                    })?);
                }
                _ => return Err(malformed(format!("unknown parameter {key}"))),
            }
        }
        Ok(parsed)
    }
}

fn lines(body: Body) -> HttpResponse {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// The query for the other boxes, if they are to be asked.
fn of_others<'a>(agent: &'a Agent, asker: &Asker) -> Option<&'a Boxes> {
    agent.boxes.as_deref().filter(|_| !asker.is_box())
}

async fn events(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<HttpResponse, Refusal> {
    asker.need(Role::Viewer)?;
    let parsed = Query::parse(query.as_deref())?;
    let (before, live) = agent.journal.follow(parsed.wanted.since);
    let own = agent.boxes.as_ref().map(|boxes| boxes.own().to_owned());
    let source = stream::Events::new(before, live, own);
    let what = format!("events?{}", query.unwrap_or_default());
    let others = of_others(&agent, &asker);
    Ok(lines(
        stream::merged(source, others, &what, parsed.follows).await,
    ))
}

async fn logs(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<HttpResponse, Refusal> {
    asker.need(Role::Operator)?;
    let parsed = Query::parse(query.as_deref())?;
    let logs = ProcessLogs::new(&agent.process_logs, parsed.wanted);
    let what = format!("logs?{}", query.unwrap_or_default());
    let others = of_others(&agent, &asker);
    let source = stream::Logs::new(logs).await?;
    Ok(lines(
        stream::merged(source, others, &what, parsed.follows).await,
    ))
}

async fn records(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    UrlPath(stream): UrlPath<String>,
    RawQuery(query): RawQuery,
) -> Result<HttpResponse, Refusal> {
    asker.need(Role::Operator)?;
    let parsed = Query::parse(query.as_deref())?;
    let is_stream = stream
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_stream || stream.is_empty() || parsed.follows {
        return Err(Refusal::malformed(
            "records are asked of a stream, as conn, and not followed",
        ));
    }
    let what = format!("records/{stream}?{}", query.unwrap_or_default());
    let (places, since) = (Arc::clone(&agent.places), parsed.wanted.since);
    let most = parsed.last.unwrap_or(MOST_RECORDS);
    let name = agent.boxes.as_ref().map(|boxes| boxes.own().to_owned());
    let source = stream::Records::read(places, stream, since, most, name).await?;
    let others = of_others(&agent, &asker);
    Ok(lines(stream::merged(source, others, &what, false).await))
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn queries_are_read_or_named() {
        assert_eq!(Query::parse(None).unwrap(), Query::default());
        let query = Query::parse(Some("node=a&node=b&since=3.5&follow=true")).unwrap();
        assert_eq!(query.wanted.nodes, ["a", "b"]);
        assert!(query.follows && query.wanted.since > 3.4);
        for wrong in ["since=NaN", "since=", "follow=perhaps", "colour=red"] {
            let refusal = Query::parse(Some(wrong)).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Malformed, "{wrong}");
        }
        assert!(Query::parse(Some(&"a".repeat(LONGEST_QUERY + 1))).is_err());
    }

    #[test]
    fn roles_are_ordered_by_what_they_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        assert_eq!(Request::Status.role(), Role::Viewer);
        assert_eq!(Request::Restart("a".to_owned()).role(), Role::Operator);
        assert_eq!(Request::StopAll.role(), Role::Admin);
    }
}
