//! How a node is handed what others have left: as a whole or not at all, and once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_spool::{DiskFiles, JournalErrorKind};
use muster_wire::EndpointId;

use crate::output::{Failure, REFUSED};

/// What a directory is called that was handed over as a copy.
pub(super) const SHIPPED: &str = "shipped";

/// What a copy is called that is not complete, and one that is and was not handed over yet.
const PART: &str = "part";
const COPIED: &str = "copied";

/// What a node calls what it could not read.
const DAMAGED: &str = "damaged";

/// What a node was handed.
#[derive(Debug)]
pub(super) struct Shipment {
    target: PathBuf,
}

impl Shipment {
    /// Hands a life's directory to a node: it is moved, or copied if it is on another disk, where it is then named `*.shipped`.
    pub(super) fn hand_over(source: &Path, home: &Path, life: EndpointId) -> Result<Self> {
        let target = home.join(life.to_string());
        if target.exists() {
            let target = target.display();
            return Err(Failure::new(format!("{target} is there already"))
                .code(REFUSED)
                .into());
        }
        // Whoever has left it must be gone.
        let lock = DiskFiles::open(source).map_err(|error| {
            let is_used = error.kind() == JournalErrorKind::InUse;
            let hint = is_used.then(|| "the process that writes it runs".to_owned());
            Failure::new(error.to_string()).or_hint(hint).code(REFUSED)
        })?;
        fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
        match fs::rename(source, &target) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                copy(source, &target)?;
            }
            moved => {
                moved.with_context(|| format!("cannot move {}", source.display()))?;
                sync_parents(&[source, &target])?;
            }
        }
        drop(lock);
        Ok(Self { target })
    }

    /// Whether the node still has to send something of it.
    pub(super) fn is_there(&self) -> bool {
        self.target.exists()
    }

    /// Returns where the node has put what it could not read, if there is anything.
    pub(super) fn damaged(&self) -> Option<String> {
        let damaged = self.target.with_extension(DAMAGED);
        damaged.exists().then(|| damaged.display().to_string())
    }
}

/// Ends what was begun before and interrupted: what is called `*.shipped` there is complete here.
pub(super) fn begun(source: &Path, home: &Path) -> Result<Vec<Shipment>> {
    let mut shipments = Vec::new();
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let copied = entry.path();
        let target = copied.with_extension("");
        if copied.extension().is_none_or(|it| it != COPIED) {
            continue;
        }
        if is_shipped(source, &target) {
            fs::rename(&copied, &target)
                .with_context(|| format!("cannot rename {}", copied.display()))?;
            sync_parents(&[&target])?;
            shipments.push(Shipment { target });
        }
    }
    Ok(shipments)
}

/// Whether a directory, or one below it, is the mark that a life was handed over.
fn is_shipped(source: &Path, target: &Path) -> bool {
    let Some(name) = target.file_name() else {
        return false;
    };
    let mark = Path::new(name).with_extension(SHIPPED);
    let below = fs::read_dir(source).into_iter().flatten().flatten();
    let below = below.map(|entry| entry.path());
    let mut places = below.chain([source.to_owned(), source.with_extension(SHIPPED)]);
    places.any(|place| (place.ends_with(&mark) && place.exists()) || place.join(&mark).exists())
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    let (part, copied) = (target.with_extension(PART), target.with_extension(COPIED));
    // Of an earlier attempt, before the source was marked.
    for old in [&part, &copied] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    copy_files(source, &part).with_context(|| format!("cannot copy {}", source.display()))?;
    fs::rename(&part, &copied).with_context(|| format!("cannot rename {}", part.display()))?;
    sync_parents(&[target])?;
    // From here on it is sent from there and no more from here.
    fs::rename(source, source.with_extension(SHIPPED)).with_context(|| {
        format!(
            "cannot rename {}, so that nobody sends it a second time",
            source.display()
        )
    })?;
    sync_parents(&[source])?;
    fs::rename(&copied, target).with_context(|| format!("cannot rename {}", copied.display()))?;
    sync_parents(&[target])
}

fn copy_files(source: &Path, part: &Path) -> io::Result<()> {
    fs::create_dir(part)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let copy = part.join(entry.file_name());
        fs::copy(entry.path(), &copy)?;
        File::open(&copy)?.sync_all()?;
    }
    File::open(part)?.sync_all()
}

fn sync_parents(paths: &[&Path]) -> Result<()> {
    for parent in paths.iter().filter_map(|path| path.parent()) {
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .with_context(|| format!("cannot sync {}", parent.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> EndpointId {
        EndpointId::from_random([7; 16])
    }

    fn left(directory: &Path) -> PathBuf {
        let source = directory.join("old/worker-1").join(life().to_string());
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("batches-0000000001.seg"), b"something").unwrap();
        source
    }

    #[test]
    fn a_life_is_moved_unless_its_process_runs() {
        let directory = tempfile::tempdir().unwrap();
        let (source, home) = (
            left(directory.path()),
            directory.path().join("spool/worker-2"),
        );
        let lock = DiskFiles::open(&source).unwrap();
        Shipment::hand_over(&source, &home, life()).unwrap_err();
        assert!(source.exists() && !home.exists());
        drop(lock);
        let shipment = Shipment::hand_over(&source, &home, life()).unwrap();
        assert!(shipment.is_there() && !source.exists());
        assert_eq!(shipment.damaged(), None);
        // What is there is not replaced.
        let again = left(directory.path());
        Shipment::hand_over(&again, &home, life()).unwrap_err();
        assert!(again.exists());
    }

    #[test]
    fn a_copy_that_was_interrupted_is_ended_once() {
        let directory = tempfile::tempdir().unwrap();
        let (source, home) = (
            left(directory.path()),
            directory.path().join("spool/worker-2"),
        );
        let target = home.join(life().to_string());
        let part = target.with_extension(PART);
        let copied = target.with_extension(COPIED);
        fs::create_dir_all(&home).unwrap();
        // Before the source was marked, nothing counts.
        copy_files(&source, &part).unwrap();
        assert!(begun(&source, &home).unwrap().is_empty());
        copy(&source, &target).unwrap();
        assert!(target.exists() && !part.exists() && !source.exists());
        // Behind the mark, it is ended.
        fs::rename(&target, &copied).unwrap();
        let root = directory.path().join("old");
        for place in [&source, &root.join("worker-1"), &root] {
            assert_eq!(begun(place, &home).unwrap().len(), 1, "{}", place.display());
            fs::rename(&target, &copied).unwrap();
        }
    }
}
