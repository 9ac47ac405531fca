//! What an agent needs before it listens: its directories, and the lock that makes it the only one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long an agent that no longer listens may hold its lock.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

/// Who may open the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// This user and root; there is no socket for viewers.
    Owner,
    /// The group of the socket's file may do everything, and everybody on this machine may look.
    Group,
}

impl Access {
    pub(super) fn mode(self) -> u32 {
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

pub(super) fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ApiError {
    let path = path.to_owned();
    move |source| ApiError::File { what, path, source }
}

/// Makes a directory that may be shared with a group, or may not.
pub(super) fn make_directory(directory: &Path, access: Access) -> Result<(), ApiError> {
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
pub(super) async fn lock(directory: &Path) -> Result<Option<File>, ApiError> {
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
