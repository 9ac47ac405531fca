//! Files in a directory of a disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::files::{Access, Files, SegmentFile};
use crate::{Found, JournalConfig, JournalError, JournalErrorKind, Opened, opening};

/// How often a lock is tried that somebody has, and after how long again.
const LOCK_TRIES: u32 = 20;
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// A directory of a disk, which is locked for as long as there is a clone of this. Several journals
/// of one process, with different names, may be in one directory: they share a `DiskFiles`.
#[derive(Debug, Clone)]
pub struct DiskFiles(Arc<Directory>);

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// The directory itself, with the lock if there is one.
    handle: File,
}

impl DiskFiles {
    /// Creates the directory if there is none, and locks it. The lock is an advisory one on the
    /// directory itself. The error is of kind [`JournalErrorKind::InUse`] if somebody has it.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, JournalError> {
        let path = directory.into();
        let create = || {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
            Ok(())
        };
        if !path.is_dir() {
            let what = || format!("cannot create {}", path.display());
            create().map_err(|error| JournalError::io(what(), error))?;
        }
        let files = Self::without_lock(path)?;
        let path = &files.0.path;
        match files.lock() {
            Ok(()) => Ok(files),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::new(
                JournalErrorKind::InUse,
                format!("{} is in use by another process", path.display()),
            )),
            Err(error) => {
                let what = format!("cannot lock {}", path.display());
                Err(JournalError::io(what, error.into()))
            }
        }
    }

    /// Locks the directory. A process that was just started by the one that had the lock may still have it for a moment, until it
    /// runs its own program.
    fn lock(&self) -> rustix::io::Result<()> {
        for _ in 0..LOCK_TRIES {
            match flock(&self.0.handle, FlockOperation::NonBlockingLockExclusive) {
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_AGAIN),
                locked => return locked,
            }
        }
        Err(rustix::io::Errno::WOULDBLOCK)
    }

    fn without_lock(path: PathBuf) -> Result<Self, JournalError> {
        match File::open(&path) {
            Ok(handle) => Ok(Self(Arc::new(Directory { path, handle }))),
            Err(error) => {
                let what = format!("cannot open {}", path.display());
                Err(JournalError::io(what, error))
            }
        }
    }

    /// Fails unless the directory is the one that was opened, with its lock.
    fn check_directory(&self) -> io::Result<()> {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let here = identity(fs::metadata(&self.0.path)?);
        if here == identity(self.0.handle.metadata()?) {
            return Ok(());
        }
        let what = "another directory has taken its place";
        Err(io::Error::new(io::ErrorKind::NotFound, what))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }
}

/// Reads a journal that may be in use, or whose process has ended: takes no lock and changes
/// nothing. The end may be torn, because it is just being written. Errors are those of a directory
/// that cannot be read.
pub fn read(
    directory: &Path,
    config: &JournalConfig,
    mut visit: impl FnMut(Found<'_>),
) -> Result<Opened, JournalError> {
    let files = DiskFiles::without_lock(directory.to_owned())?;
    let read = opening::read(&files, config, &mut visit)?;
    Ok(read.opened)
}

impl Files for DiskFiles {
    type File = DiskFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0.path)? {
            // Names that are not text are not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        self.check_directory()?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true);
        file.open(self.path(name)).map(DiskFile)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<DiskFile> {
        // A pipe of this name would be waited for.
        let path = self.path(name);
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(access == Access::Write);
        file.open(path).map(DiskFile)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.handle.sync_all()
    }
}

/// A file on a disk.
#[derive(Debug)]
pub struct DiskFile(File);

impl SegmentFile for DiskFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()?;
        if self.0.metadata()?.nlink() == 0 {
            let what = "the file was removed";
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(())
    }
}
