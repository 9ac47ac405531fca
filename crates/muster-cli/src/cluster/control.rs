//! The control socket of a cluster on this machine.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use muster_gateway::status::ClusterStatus;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::Place;
use crate::output::{Failure, NOT_RUNNING};

/// The longest request in bytes.
const LONGEST_REQUEST: u64 = 4096;

/// The longest path of a socket, in bytes, with some room.
const LONGEST_PATH: usize = 100;

/// How long a supervisor that no longer listens may hold its lock.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// Done, and this is worth knowing.
    Noted(String),
    Refused(String),
}

/// Requests with the way back to who asked.
pub(crate) type Requests = mpsc::Receiver<(Request, oneshot::Sender<Response>)>;

/// The socket's file, removed when dropped, and the lock that makes this supervisor the only one.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    path: PathBuf,
    /// Device and number of the file: another one in its place is not ours.
    file: Option<(u64, u64)>,
    _lock: File,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Where the control socket of a cluster with this directory is. The path of a socket is short by
/// nature: a long directory has it in the system's temporary one. It is the same however the
/// directory is spelled, once that exists.
pub(super) fn socket_path(directory: &Path) -> PathBuf {
    let directory = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    let path = directory.join("control.sock");
    if path.as_os_str().len() <= LONGEST_PATH {
        return path;
    }
    let digest = muster_cluster::fnv1a32(path.as_os_str().as_encoded_bytes());
    std::env::temp_dir().join(format!("muster-{digest:08x}.sock"))
}

/// Takes the lock of a directory; nobody else has it until the file is closed. A supervisor that
/// has just stopped may still hold it.
async fn lock(directory: &Path) -> Result<Option<File>> {
    let path = directory.join("muster.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| super::unwritable("write", &path, &error))?;
    let end = tokio::time::Instant::now() + LAST_MOMENTS;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(Errno::WOULDBLOCK) if tokio::time::Instant::now() >= end => return Ok(None),
            Err(Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// Listens for requests; refuses if the cluster runs already.
pub(crate) async fn listen(directory: &Path) -> Result<(ControlSocket, Requests)> {
    let path = socket_path(directory);
    let running = || {
        let message = format!("a cluster runs in {} already", directory.display());
        Failure::new(message).hint("`muster status` shows it, and `muster stop` stops it")
    };
    if UnixStream::connect(&path).await.is_ok() {
        return Err(running().into());
    }
    let lock = lock(directory).await?.ok_or_else(running)?;
    // Whoever has the lock is alone: a file there is left over from a supervisor that was killed.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    let file = identity(&path);
    let socket = ControlSocket {
        path: path.clone(),
        file,
        _lock: lock,
    };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    let (sender, requests) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Too many open files, as a rule: it passes.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(ANSWER, answer(stream, sender)).await;
            });
        }
    });
    Ok((socket, requests))
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

/// Asks the running cluster.
pub(super) async fn ask(place: &Place, request: &Request) -> Result<Response> {
    let path = socket_path(&place.directory);
    let mut stream = UnixStream::connect(&path).await.map_err(|error| {
        if error.kind() == ErrorKind::PermissionDenied {
            return Failure::new(format!("cannot open {}: permission denied", path.display()))
                .hint("a cluster answers whoever started it, and root");
        }
        Failure::new(format!(
            "no cluster of {} is running on this machine",
            place.file
        ))
        .hint(format!("start it with `muster run {}`", place.file))
        .code(NOT_RUNNING)
    })?;
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
    match serde_json::from_str(&text).context("the supervisor is of another version")? {
        Response::Refused(reason) => Err(Failure::new(reason).into()),
        response => Ok(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_the_same_however_the_directory_is_spelled() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(LONGEST_PATH));
        std::fs::create_dir(&long).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&long, &link).unwrap();
        let path = socket_path(&long);
        assert!(path.as_os_str().len() <= LONGEST_PATH);
        assert_eq!(socket_path(&link), path);
        assert_eq!(socket_path(&long.join("../link")), path);
    }

    #[tokio::test]
    async fn one_supervisor_has_a_directory_and_removes_only_its_own_socket() {
        let directory = tempfile::tempdir().unwrap();
        let (first, _requests) = listen(directory.path()).await.unwrap();
        let path = socket_path(directory.path());
        // Even one that cannot be reached keeps others away.
        std::fs::remove_file(&path).unwrap();
        let second = listen(directory.path()).await.unwrap_err();
        assert!(second.to_string().contains("already"), "{second}");
        std::fs::write(&path, "of somebody else").unwrap();
        drop(first);
        assert!(path.exists());
        let (next, _requests) = listen(directory.path()).await.unwrap();
        drop(next);
        assert!(!path.exists());
    }
}
