//! The agent that a command is for: where it listens, and what to say if it does not answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use muster_agent::{Client, ClientError, Lines, Places, RefusalKind};
use muster_cluster::Layout;
use muster_gateway::status::{ClusterStatus, CoordinatorsStatus, StoresStatus};

use super::{Home, load_text, read_layout, remote};
use crate::arguments::{LayoutOption, RemoteArguments};
use crate::output::{Failure, INCOMPLETE, NOT_RUNNING, REFUSED, say};

/// The variable that names the root of the standard directories.
const ROOT: &str = "MUSTER_ROOT";

/// The layout's file that is looked for first.
const LAYOUT: &str = "muster.toml";

/// How long an agent whose answer was lost may take to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// Below which the standard directories are: `/`, or what `MUSTER_ROOT` says.
fn root() -> PathBuf {
    let root = std::env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    std::path::absolute(&root).unwrap_or(root)
}

/// The exit code of a command that was refused.
pub(super) fn code_of(refused: RefusalKind) -> u8 {
    match refused {
        RefusalKind::Forbidden | RefusalKind::Unauthorized | RefusalKind::Conflict => REFUSED,
        RefusalKind::Busy => INCOMPLETE,
        _ => 1,
    }
}

/// The agent that a command is for.
#[derive(Debug)]
pub(super) struct Target {
    /// How people call what it runs.
    name: String,
    /// How it is started.
    start: String,
    pub(super) places: Places,
    /// The layout's file.
    pub(super) layout_file: PathBuf,
    /// The root of the standard directories, if it has those.
    pub(super) root: Option<PathBuf>,
    /// What is wrong with the layout by now.
    problem: Option<String>,
    /// Whether nobody has said that it should be the agent of this box.
    is_guessed: bool,
    /// The agent of another machine, if it is that.
    remote: Option<Client>,
}

impl Target {
    /// Finds the agent of a layout, which may have errors by now. Without a layout it is that of `muster.toml` here, or else
    /// that of the box.
    pub(super) fn find(layout: Option<&Path>) -> Result<Self> {
        match layout {
            Some(path) => Self::of_layout(path),
            None if std::env::var_os(ROOT).is_none() && Path::new(LAYOUT).exists() => {
                Self::of_layout(Path::new(LAYOUT))
            }
            None => Ok(Self {
                is_guessed: std::env::var_os(ROOT).is_none(),
                ..Self::of_box()
            }),
        }
    }

    fn of_layout(path: &Path) -> Result<Self> {
        let text = read_layout(path)?;
        let file = path.display().to_string();
        let absolute =
            std::path::absolute(path).with_context(|| format!("cannot resolve {file}"))?;
        let base = absolute.parent().unwrap_or(Path::new("/"));
        let problem = load_text(path, &text, &[], Home::Layout).err();
        Ok(Self {
            places: Places::in_one(&base.join(Layout::directory_in(&text))),
            problem: problem.map(|error| error.to_string()),
            start: format!("muster run {file}"),
            name: file,
            layout_file: absolute,
            root: None,
            is_guessed: false,
            remote: None,
        })
    }

    /// The agent of this box.
    pub(super) fn of_box() -> Self {
        let root = root();
        let layout_file = root.join("etc/muster").join(LAYOUT);
        Self {
            name: layout_file.display().to_string(),
            start: "muster agent".to_owned(),
            places: Places::standard(&root),
            layout_file,
            root: Some(root),
            problem: None,
            is_guessed: false,
            remote: None,
        }
    }

    /// The agent of a layout, or one of another machine.
    pub(super) async fn of(layout: &LayoutOption) -> Result<Self> {
        Self::choose(layout.file.as_deref(), &layout.remote).await
    }

    /// The agent of a layout, or one of another machine.
    pub(super) async fn choose(layout: Option<&Path>, remote: &RemoteArguments) -> Result<Self> {
        match remote.client().await? {
            Some(client) => Ok(Self::of_client(client, remote)),
            None => Self::find(layout),
        }
    }

    /// The agent of this box, or one of another machine.
    pub(super) async fn of_box_or(remote: &RemoteArguments) -> Result<Self> {
        let client = remote.client().await?;
        Ok(client.map_or_else(Self::of_box, |client| Self::of_client(client, remote)))
    }

    fn of_client(client: Client, remote: &RemoteArguments) -> Self {
        let server = remote.server.as_ref();
        Self {
            name: server.map_or_else(String::new, ToString::to_string),
            remote: Some(client),
            ..Self::of_box()
        }
    }

    /// Where the files of a cluster on this machine are.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether it is the agent of another machine, whose files are not here.
    pub(super) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Tells of a layout that has errors by now; the cluster runs with what it was before.
    pub(super) fn warn(&self) {
        if let Some(problem) = &self.problem {
            say(&format!(
                "warning: the layout has errors by now, and the cluster runs without what was changed:\n{problem}"
            ));
        }
    }

    pub(super) fn client(&self) -> Client {
        let local = || Client::new(self.places.agent_socket());
        self.remote.clone().unwrap_or_else(local)
    }

    /// Asks what viewers may ask, over whichever socket lets this user in.
    async fn look<T, F>(&self, ask: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let answer = match ask(self.client()).await {
            Err(ClientError::PermissionDenied(_)) if self.places.view_socket().exists() => {
                ask(Client::new(self.places.view_socket())).await
            }
            answer => answer,
        };
        answer.map_err(|error| self.failure(&error).into())
    }

    /// The state of the box.
    pub(super) async fn status(&self) -> Result<ClusterStatus> {
        self.look(|client| async move { client.status().await })
            .await
    }

    /// What is known of the coordinators.
    pub(super) async fn coordinators(&self) -> Result<CoordinatorsStatus> {
        self.look(|client| async move { client.coordinators().await })
            .await
    }

    /// Who keeps the stores, as coordinators have decided it.
    pub(super) async fn stores(&self) -> Result<StoresStatus> {
        self.look(|client| async move { client.stores().await })
            .await
    }

    /// Lines, as of `events?follow=true`.
    pub(super) async fn lines(&self, what: &str) -> Result<Lines> {
        self.look(|client| {
            let what = what.to_owned();
            async move { client.lines(&what).await }
        })
        .await
    }

    /// Asks for a change, and says what is worth knowing of it.
    pub(super) async fn change(&self, what: &str) -> Result<()> {
        self.change_and_say(what, None).await
    }

    /// Has the agent stop all nodes, and then end. Its answer may be lost with it: that it is gone is answer enough.
    pub(super) async fn stop_everything(&self) -> Result<()> {
        match self.client().change("stop").await {
            Ok(_) => Ok(()),
            Err(ClientError::Lost(_)) if !self.is_remote() && self.ends().await => Ok(()),
            Err(error) => Err(self.failure(&error).into()),
        }
    }

    /// Whether nobody listens any more, after a moment at most.
    async fn ends(&self) -> bool {
        let deadline = tokio::time::Instant::now() + LAST_MOMENTS;
        while self.is_running().await {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        true
    }

    /// Asks for a change, says that it was made, and what is worth knowing of it.
    pub(super) async fn change_and_say(&self, what: &str, made: Option<&str>) -> Result<()> {
        let note = self.client().change(what).await;
        let note = note.map_err(|error| self.failure(&error))?;
        for text in made.into_iter().chain(note.as_deref()) {
            say(text);
        }
        Ok(())
    }

    /// Has the agent make a token.
    pub(super) async fn create_token(
        &self,
        ttl: Duration,
        for_box: Option<String>,
    ) -> Result<String> {
        let created = self.client().create_token(ttl, for_box).await;
        created.map_err(|error| self.failure(&error).into())
    }

    /// Whether an agent listens.
    pub(super) async fn is_running(&self) -> bool {
        let path = self.places.agent_socket();
        tokio::net::UnixStream::connect(path).await.is_ok()
    }

    /// What to say of an agent that does not do what it is asked.
    pub(super) fn failure(&self, error: &ClientError) -> Failure {
        if self.is_remote() {
            return remote::failure(error, &self.name);
        }
        let name = &self.name;
        match error {
            ClientError::NotRunning(_) => {
                let left = self.left_running();
                if left.is_empty() && self.is_guessed {
                    let socket = self.places.agent_socket();
                    let message = format!(
                        "no cluster is running: there is no {LAYOUT} here, and no agent listens on {}",
                        socket.display()
                    );
                    return Failure::new(message)
                        .hint("name the layout's file; `muster run` or `muster agent` start one")
                        .code(NOT_RUNNING);
                }
                if left.is_empty() {
                    let message = format!("no cluster of {name} is running on this machine");
                    return Failure::new(message)
                        .hint(format!("start it with `{}`", self.start))
                        .code(NOT_RUNNING);
                }
                let message = format!(
                    "the agent of {name} is gone; its nodes go on: {}",
                    left.join(", ")
                );
                Failure::new(message)
                    .hint(format!(
                        "`{}` takes them over, and `muster stop` stops them",
                        self.start
                    ))
                    .code(NOT_RUNNING)
            }
            ClientError::PermissionDenied(_) if self.root.is_some() => {
                Failure::new(error.to_string())
                    .hint("it answers root and whoever is in the group muster")
                    .code(REFUSED)
            }
            ClientError::PermissionDenied(_) => Failure::new(error.to_string())
                .hint("a cluster answers whoever started it, and root")
                .code(REFUSED),
            ClientError::Refused(refusal) => {
                let code = code_of(refusal.kind);
                let hint = (refusal.kind == RefusalKind::Forbidden).then(|| {
                    "the agent's own socket lets root and the group muster change things".to_owned()
                });
                Failure::new(error.to_string()).or_hint(hint).code(code)
            }
            ClientError::TimedOut => {
                Failure::new(format!("{error}: its process is there, and hangs"))
                    .hint("its nodes go on; once it is killed, the next agent takes them over")
                    .code(NOT_RUNNING)
            }
            ClientError::Lost(_) => Failure::new(error.to_string()).code(NOT_RUNNING),
            _ => Failure::new(error.to_string()),
        }
    }

    /// The nodes whose processes run.
    fn left_running(&self) -> Vec<String> {
        muster_agent::running_nodes(&self.places)
    }
}
