//! A file system of a box's own: it can be full, and it can hang.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::done;

/// What is written at once while it is filled, in bytes.
const PIECE: usize = 64 << 10;

/// A file system in a file.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Makes one of so many MiB, and mounts it.
    pub(super) fn make(at: &Path, mebibytes: u64) -> Result<Self> {
        let image = at.with_extension("ext4");
        std::fs::File::create(&image)?.set_len(mebibytes << 20)?;
        done(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        std::fs::create_dir_all(at)?;
        done(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(at),
        )?;
        // It is only needed by its mount.
        std::fs::remove_file(&image)?;
        Ok(Self { at: at.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Fills it to the last byte.
    pub(super) fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler())?;
        let mut piece = PIECE;
        while piece > 0 {
            if file.write_all(&vec![0; piece]).is_err() {
                piece /= 2;
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub(super) fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    /// Has everything that writes to it hang, or go on.
    pub(super) fn set_hung(&self, hangs: bool) -> Result<()> {
        let option = if hangs { "--freeze" } else { "--unfreeze" };
        done(Command::new("fsfreeze").arg(option).arg(&self.at))
    }
}
