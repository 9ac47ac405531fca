//! Making records durable, on another thread than the one that appends.

use std::io;
use std::sync::Arc;

use crate::Position;
use crate::files::{Access, Files, SegmentFile};

/// What is to be synced.
#[derive(Debug)]
#[must_use = "the journal waits for what becomes of it"]
pub struct Unsynced<F: Files> {
    pub(crate) files: F,
    /// Whether files were created or removed.
    pub(crate) directory: bool,
    /// Files of an earlier process.
    pub(crate) found: Vec<String>,
    pub(crate) parts: Vec<Arc<F::File>>,
    pub(crate) synced: Synced,
}

/// What a sync has made durable, for [`Journal::synced`](crate::Journal::synced).
#[derive(Debug)]
#[must_use = "the journal waits for it"]
pub struct Synced {
    pub(crate) through: Option<Position>,
    /// Segments before this are no longer needed.
    pub(crate) release: u64,
}

/// What the journal knows of a sync that is on its way.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) segments: Vec<u64>,
}

impl<F: Files> Unsynced<F> {
    /// Waits until everything that was appended before this was taken is on the medium. After an
    /// error it is unknown what is: see
    /// [`Journal::sync_failed`](crate::Journal::sync_failed).
    pub fn sync(self) -> io::Result<Synced> {
        for name in self.found {
            match self.files.open(&name, Access::Read) {
                Ok(file) => file.sync()?,
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for file in self.parts {
            file.sync()?;
        }
        if self.directory {
            self.files.sync_directory()?;
        }
        Ok(self.synced)
    }
}

impl Synced {
    /// Returns the end of what is durable: all records that were appended before this place, except
    /// in segments that were given up because a sync had failed. It is `None` if there was no
    /// segment to append to.
    pub fn through(&self) -> Option<Position> {
        self.through
    }
}
