//! What this machine is in its cluster, and how it becomes that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_agent::{BoxFile, ClientError, IdentityFiles, JoinError, Places};

use super::agent_client::Target;
use crate::output::{Failure, NOT_RUNNING, REFUSED};

/// What this machine is, if it is a box of a cluster.
pub(super) fn own_box(root: &Path) -> Result<Option<BoxFile>> {
    let file = BoxFile::read(&box_file(root));
    Ok(file.map_err(|error| Failure::new(error.to_string()))?)
}

fn box_file(root: &Path) -> PathBuf {
    root.join("etc/muster/agent.toml")
}

/// The file of the token by which metrics may be read over the network.
pub(super) fn metrics_token(root: &Path) -> PathBuf {
    root.join("etc/muster/metrics.token")
}

/// Refuses a machine that is a box already.
pub(super) fn refuse_twice(root: &Path) -> Result<()> {
    let Some(file) = own_box(root)? else {
        return Ok(());
    };
    let message = format!(
        "this machine is box {} of cluster {} already",
        file.name, file.cluster
    );
    Err(Failure::new(message)
        .hint(format!(
            "to begin anew, stop its agent and remove {} and the directory identity in its state",
            box_file(root).display()
        ))
        .code(REFUSED)
        .into())
}

/// Makes a text the layout of this box, unless it has another one.
pub(super) fn place_layout(root: &Path, text: &str) -> Result<()> {
    let path = Target::of_box().layout_file;
    match std::fs::read_to_string(&path) {
        Ok(there) if there == text => return Ok(()),
        Ok(_) => {
            return Err(Failure::new(format!(
                "{} is there, and is another layout",
                path.display()
            ))
            .hint("move it away first")
            .code(REFUSED)
            .into());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    std::fs::create_dir_all(root.join("etc/muster"))
        .and_then(|()| std::fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes down what this machine is.
pub(super) fn write_box_file(root: &Path, file: &BoxFile) -> Result<()> {
    let written = file.write(&box_file(root));
    Ok(written.map_err(|error| Failure::new(error.to_string()))?)
}

/// Gives what was made to the user of the service, whom a package has given the directory for state. Whoever is not root
/// is that user, or has directories of its own.
pub(super) fn hand_over(root: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let state = Places::standard(root).state;
    let owner = std::fs::metadata(&state);
    let owner = owner.with_context(|| format!("cannot read {}", state.display()))?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    let layout = Target::of_box().layout_file;
    let identity = IdentityFiles::below(&state);
    for path in [box_file(root), layout, identity.directory().to_owned()] {
        give(&path, owner.uid(), owner.gid())?;
    }
    Ok(())
}

/// Gives a file, or a directory with what is in it.
fn give(path: &Path, user: u32, group: u32) -> Result<()> {
    let failed = || format!("cannot give {} to user {user}", path.display());
    std::os::unix::fs::lchown(path, Some(user), Some(group)).with_context(failed)?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path).with_context(failed)? {
            give(&entry.with_context(failed)?.path(), user, group)?;
        }
    }
    Ok(())
}

/// What to say of a cluster that cannot be founded or joined.
pub(super) fn failure(error: &JoinError) -> Failure {
    let code = match error {
        JoinError::Token(_)
        | JoinError::Joined { .. }
        | JoinError::OtherAuthority { .. }
        | JoinError::Client {
            source: ClientError::Refused(_) | ClientError::NotTrusted { .. },
            ..
        } => REFUSED,
        JoinError::Client {
            source: ClientError::NotRunning(_) | ClientError::TimedOut,
            ..
        } => NOT_RUNNING,
        _ => 1,
    };
    let hint = match error {
        JoinError::Token(_) => {
            Some("`muster token create`, on the box that has the authority, prints one")
        }
        JoinError::OtherAuthority { .. } => {
            Some("another machine may answer there, or the token may be of another cluster")
        }
        JoinError::Client {
            source: ClientError::NotRunning(_) | ClientError::TimedOut,
            ..
        } => Some(
            "ADDRESS is the box that `muster init` was run on, and its `muster agent` has to run",
        ),
        _ => None,
    };
    Failure::new(error.to_string())
        .or_hint(hint.map(ToOwned::to_owned))
        .code(code)
}
