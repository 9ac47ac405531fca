//! The control socket of a cluster on this machine, and the commands that use it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::status::ClusterStatus;
use super::{LoadedLayout, load};
use crate::arguments::{Format, Restart, Status, Stop};
use crate::output::{Failure, NOT_RUNNING, print, say};

/// The longest request in bytes.
const LONGEST_REQUEST: u64 = 4096;

/// The longest path of a socket, in bytes, with some room.
const LONGEST_PATH: usize = 100;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What can be asked of a running cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    Status,
    Stop,
    Restart { node: String },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", content = "content", rename_all = "snake_case")]
pub(crate) enum Response {
    Status(ClusterStatus),
    Done,
    Refused(String),
}

/// Requests with the way back to who asked.
pub(crate) type Requests = mpsc::Receiver<(Request, oneshot::Sender<Response>)>;

/// The socket's file; removed when dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket(PathBuf);

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where the control socket of a cluster with this directory is. The path of a socket is short by
/// nature: a long directory has it in the system's temporary one.
fn socket_path(directory: &Path) -> PathBuf {
    let path = directory.join("control.sock");
    if path.as_os_str().len() <= LONGEST_PATH {
        return path;
    }
    let digest = muster_cluster::fnv1a32(path.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("muster-{digest:08x}.sock"))
}

/// Listens for requests; refuses if the cluster runs already.
pub(crate) async fn listen(directory: &Path) -> Result<(ControlSocket, Requests)> {
    let path = socket_path(directory);
    if UnixStream::connect(&path).await.is_ok() {
        let message = format!("a cluster runs in {} already", directory.display());
        return Err(Failure::new(message)
            .hint("`muster status` shows it, `muster stop` ends it")
            .into());
    }
    // Nobody listens there: it is left over from a supervisor that was killed.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    let (sender, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(ANSWER, answer(stream, sender)).await;
            });
        }
    });
    Ok((ControlSocket(path), requests))
}

async fn answer(
    stream: UnixStream,
    sender: mpsc::Sender<(Request, oneshot::Sender<Response>)>,
) -> Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LONGEST_REQUEST))
        .read_line(&mut line)
        .await?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => {
            let (done, response) = oneshot::channel();
            sender.send((request, done)).await?;
            response.await?
        }
        Err(error) => Response::Refused(error.to_string()),
    };
    writer
        .write_all(serde_json::to_string(&response)?.as_bytes())
        .await?;
    writer.shutdown().await?;
    Ok(())
}

async fn ask(layout: &LoadedLayout, request: &Request) -> Result<Response> {
    let not_running = || {
        Failure::new(format!(
            "no cluster of {} runs on this machine",
            layout.layout.file()
        ))
        .hint(format!("`muster run {}` starts it", layout.layout.file()))
        .code(NOT_RUNNING)
    };
    let stream = UnixStream::connect(socket_path(&layout.directory)).await;
    let mut stream = stream.map_err(|_| not_running())?;
    let exchange = async {
        stream
            .write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        anyhow::Ok(text)
    };
    let text = tokio::time::timeout(ANSWER, exchange)
        .await
        .context("the supervisor does not answer")??;
    match serde_json::from_str(&text).context("the supervisor answers in another version")? {
        Response::Refused(reason) => Err(Failure::new(reason).into()),
        response => Ok(response),
    }
}

/// `muster status`.
pub(crate) async fn status(arguments: &Status) -> Result<ExitCode> {
    let layout = load(arguments.layout.path(), &[])?;
    let Response::Status(status) = ask(&layout, &Request::Status).await? else {
        return Err(Failure::new("the supervisor gave no status").into());
    };
    match arguments.format {
        Format::Text => print(&status.text())?,
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&status)?))?,
    }
    Ok(if status.all_ready() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `muster stop`: returns when every node has ended.
pub(crate) async fn stop(arguments: &Stop) -> Result<ExitCode> {
    let layout = load(arguments.layout.path(), &[])?;
    ask(&layout, &Request::Stop).await?;
    let path = socket_path(&layout.directory);
    while UnixStream::connect(&path).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say("stopped");
    Ok(ExitCode::SUCCESS)
}

/// `muster restart`: returns when the node runs and is ready again, or has not become so in time.
pub(crate) async fn restart(arguments: &Restart) -> Result<ExitCode> {
    let layout = load(&arguments.layout, &[])?;
    if layout.layout.find(&arguments.node).is_none() {
        let names: Vec<&str> = layout
            .layout
            .nodes()
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        return Err(
            Failure::new(format!("the layout has no node `{}`", arguments.node))
                .hint(format!("its nodes are {}", names.join(", ")))
                .into(),
        );
    }
    let before = life_of(&layout, &arguments.node).await?;
    ask(
        &layout,
        &Request::Restart {
            node: arguments.node.clone(),
        },
    )
    .await?;
    let deadline = tokio::time::Instant::now() + super::supervisor::STOP_LIMIT * 2;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = life_of(&layout, &arguments.node).await?;
        if now.is_some() && now != before {
            say(&format!("{} runs again", arguments.node));
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Failure::new(format!("{} has not become ready", arguments.node)).into())
}

/// The id of the life of a node that is ready.
async fn life_of(layout: &LoadedLayout, name: &str) -> Result<Option<String>> {
    let Response::Status(status) = ask(layout, &Request::Status).await? else {
        return Ok(None);
    };
    let node = status
        .nodes
        .into_iter()
        .find(|node| node.node == name && node.process == "running");
    Ok(node
        .and_then(|node| node.report)
        .filter(|report| report.state == "ready")
        .map(|report| report.id))
}
