//! The processes of a box as one: they can be stopped for a while, and killed, all at once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where version 1 of control groups has its freezer.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// Where version 2 is.
const UNIFIED: &str = "/sys/fs/cgroup";

/// A control group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    path: PathBuf,
    /// The file that stops and continues, with what is written to it.
    switch: (&'static str, &'static str, &'static str),
}

impl Group {
    /// The one of this name.
    pub(super) fn called(name: &str) -> Self {
        let (root, switch) = if Path::new(FREEZER).is_dir() {
            (FREEZER, ("freezer.state", "FROZEN", "THAWED"))
        } else {
            (UNIFIED, ("cgroup.freeze", "1", "0"))
        };
        Self {
            path: Path::new(root).join(name),
            switch,
        }
    }

    pub(super) fn make(&self) -> Result<()> {
        std::fs::create_dir(&self.path)
            .with_context(|| format!("cannot make the control group {}", self.path.display()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file to which a process writes 0 to be in it.
    pub(super) fn entrance(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    pub(super) fn processes(&self) -> Result<Vec<u32>> {
        let text = std::fs::read_to_string(self.entrance())?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    pub(super) fn set_frozen(&self, is_frozen: bool) -> Result<()> {
        let (file, frozen, thawed) = self.switch;
        let state = if is_frozen { frozen } else { thawed };
        std::fs::write(self.path.join(file), state)
            .with_context(|| format!("cannot write {state} to {}", self.path.display()))
    }
}
