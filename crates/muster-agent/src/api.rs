//! What an agent is asked over HTTP, on Unix sockets: version 1.
//!
//! | request | role | answer |
//! | --- | --- | --- |
//! | `GET /v1/status` | viewer | [`ClusterStatus`] |
//! | `GET /v1/events?since=SECONDS&follow=true` | viewer | [`Event`](crate::Event)s, a JSON object on a line |
//! | `GET /v1/logs?node=NAME&since=SECONDS&follow=true` | operator | [`LogLine`](crate::LogLine)s, a JSON object on a line |
//! | `POST /v1/nodes/NAME/restart`, `…/stop`, `…/start` | operator | [`Done`] |
//! | `POST /v1/stop`, `/v1/reopen`, `/v1/reload` | admin | [`Done`] |
//! | `GET /livez` | viewer | 200 while the agent's loop turns |
//! | `GET /readyz` | viewer | 200 if every node is ready, 503 otherwise |
//!
//! What is refused is answered with a [`Refusal`]. Every request has a deadline, and none takes what another needs.

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
use axum::extract::{Extension, Path as UrlPath, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use muster_gateway::http::{self, Caller, Site};
use muster_gateway::status::ClusterStatus;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::fleet::Fleet;
use crate::journal::{AuditEntry, Journal, now};
use crate::node_socket::SocketFile;
use crate::place::Places;
use crate::process_logs::{ProcessLogs, Wanted};

/// Requests that wait for the agent's loop.
const WAITING: usize = 64;

/// How long the agent's loop may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long an agent that no longer listens may hold its lock.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// The longest query in bytes.
const LONGEST_QUERY: usize = 4096;

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
    /// The request is not understood.
    Malformed,
    /// The agent does not answer in time.
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

    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(RefusalKind::Conflict, error)
    }

    fn status(&self) -> StatusCode {
        match self.kind {
            RefusalKind::Unknown => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Malformed => StatusCode::BAD_REQUEST,
            RefusalKind::Busy => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> HttpResponse {
        (self.status(), Json(self)).into_response()
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
        }
    }

    fn role(&self) -> Role {
        match self {
            Self::Status => Role::Viewer,
            Self::Restart(_) | Self::Stop(_) | Self::Start(_) => Role::Operator,
            Self::StopAll | Self::Reopen | Self::Reload => Role::Admin,
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
}

impl Api {
    /// Makes the directories, takes the lock, listens, and has the fleet answer.
    ///
    /// # Errors
    ///
    /// Fails if another agent has the lock, and if a directory, the lock or a socket cannot be made.
    pub async fn open(
        places: &Places,
        access: Access,
        fleet: &mut Fleet,
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
        let agent = Agent {
            commands,
            journal: Arc::clone(&journal),
            process_logs: places.process_logs.clone(),
        };
        let (stop, stopped) = watch::channel(());
        // The path may have become another one with its directory.
        let mut sockets = vec![(places.agent_socket(), access.mode(), Role::Admin)];
        if access == Access::Group {
            sockets.push((places.view_socket(), 0o666, Role::Viewer));
        }
        let mut files = Vec::new();
        for (path, mode, role) in sockets {
            let bound = SocketFile::bind(&path, mode);
            let (listener, file) = bound.map_err(file_error("listen on", &path))?;
            files.push(file);
            let site = Site::new(router(agent.clone(), role));
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

fn router(agent: Agent, role: Role) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/v1/status", get(status))
        .route("/v1/events", get(events))
        .route("/v1/logs", get(logs))
        .route("/v1/nodes/{node}/{verb}", post(change_node))
        .route("/v1/{verb}", post(change))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(Extension(role))
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
    async fn change(&self, request: Request, caller: Caller, role: Role) -> Result<Done, Refusal> {
        let (verb, object) = request.name();
        let (verb, object) = (verb.to_owned(), object.map(ToOwned::to_owned));
        let answer = if role >= request.role() {
            self.ask(request).await
        } else {
            Err(forbidden(role, request.role()))
        };
        self.journal.audit(&AuditEntry {
            time: now(),
            who: caller.to_string(),
            role: role.name().to_owned(),
            verb,
            object,
            outcome: match &answer {
                Ok(_) => "done".to_owned(),
                Err(refusal) => format!("refused: {refusal}"),
            },
        });
        answer.map(|response| Done {
            note: match response {
                Response::Noted(note) => Some(note),
                _ => None,
            },
        })
    }
}

fn forbidden(role: Role, needed: Role) -> Refusal {
    let text = format!(
        "a {} may not do that, but {} may",
        role.name(),
        match needed {
            Role::Admin => "an admin",
            _ => "an operator",
        }
    );
    Refusal::new(RefusalKind::Forbidden, text)
}

async fn livez(State(agent): State<Agent>) -> Result<&'static str, Refusal> {
    agent.status().await.map(|_| "the agent is alive\n")
}

async fn readyz(State(agent): State<Agent>) -> Result<HttpResponse, Refusal> {
    let status = agent.status().await?;
    Ok(if status.all_ready() {
        "every node is ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not every node is ready\n").into_response()
    })
}

async fn status(State(agent): State<Agent>) -> Result<Json<ClusterStatus>, Refusal> {
    agent.status().await.map(|status| Json(*status))
}

async fn change_node(
    State(agent): State<Agent>,
    Extension(caller): Extension<Caller>,
    Extension(role): Extension<Role>,
    UrlPath((node, verb)): UrlPath<(String, String)>,
) -> Result<Json<Done>, Refusal> {
    let request = match verb.as_str() {
        "restart" => Request::Restart(node),
        "stop" => Request::Stop(node),
        "start" => Request::Start(node),
        _ => return Err(Refusal::unknown(format!("nodes cannot be asked to {verb}"))),
    };
    agent.change(request, caller, role).await.map(Json)
}

async fn change(
    State(agent): State<Agent>,
    Extension(caller): Extension<Caller>,
    Extension(role): Extension<Role>,
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
    agent.change(request, caller, role).await.map(Json)
}

/// What a query asks for.
#[derive(Debug, Default, PartialEq)]
struct Query {
    wanted: Wanted,
    follows: bool,
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
                _ => return Err(malformed(format!("unknown parameter {key}"))),
            }
        }
        Ok(parsed)
    }
}

fn lines(body: Body) -> HttpResponse {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn events(
    State(agent): State<Agent>,
    RawQuery(query): RawQuery,
) -> Result<HttpResponse, Refusal> {
    let query = Query::parse(query.as_deref())?;
    let since = query.wanted.since;
    Ok(lines(if query.follows {
        let (before, live) = agent.journal.follow(since);
        stream::events(before, live)
    } else {
        stream::of(&agent.journal.since(since))
    }))
}

async fn logs(
    State(agent): State<Agent>,
    Extension(role): Extension<Role>,
    RawQuery(query): RawQuery,
) -> Result<HttpResponse, Refusal> {
    if role < Role::Operator {
        return Err(forbidden(role, Role::Operator));
    }
    let query = Query::parse(query.as_deref())?;
    let mut logs = ProcessLogs::new(&agent.process_logs, query.wanted);
    let read = tokio::task::spawn_blocking(move || (logs.read(), logs)).await;
    let (before, logs) = read.map_err(|_| Refusal::conflict("the logs cannot be read"))?;
    Ok(lines(if query.follows {
        stream::logs(before, logs)
    } else {
        stream::of(&before)
    }))
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
