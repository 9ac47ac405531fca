//! A file system in memory that fails, fills up and crashes, for tests.
//!
//! ```
//! use muster_spool::model::ModelFiles;
//! use muster_spool::{Access, Files, SegmentFile};
//!
//! let files = ModelFiles::default();
//! let file = files.create("a")?;
//! file.write_at(b"synced", 0)?;
//! file.sync()?;
//! files.sync_directory()?;
//! file.write_at(b", and not", 6)?;
//! // A crash that keeps as little as it may.
//! let files = files.crash(&mut |_| 0);
//! assert_eq!(files.content("a").as_deref(), Some(&b"synced"[..]));
//! # Ok::<(), std::io::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::{Access, Files, SegmentFile};

/// A crash keeps or loses so many bytes at once.
const BLOCK: usize = 16;

/// A directory in memory.
#[derive(Debug, Clone, Default)]
pub struct ModelFiles(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    /// The names of files, and those that are on the medium.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: u64,
    /// The first call that fails, and the first after it that does not.
    failing: Option<(u64, u64)>,
    /// The bytes that may still be written.
    room: Option<u64>,
    violations: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// A sync has failed: what was not durable may never be.
    is_lost: bool,
}

/// A file in memory.
#[derive(Debug)]
pub struct ModelFile {
    files: ModelFiles,
    index: usize,
    access: Access,
}

impl ModelFiles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, which may fail.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.count()?;
        Ok(state)
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets calls fail: so many, after others that do not. A write that fails leaves a half.
    pub fn fail(&self, after: u64, times: u64) {
        let mut state = self.state();
        let first = state.calls.saturating_add(after);
        state.failing = Some((first, first.saturating_add(times)));
    }

    /// Lets calls succeed.
    pub fn mend(&self) {
        self.state().failing = None;
    }

    /// Sets how many bytes may still be written. A write of more writes as many, and fails.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    /// Returns what was done to files after a sync of theirs had failed: it is not known to arrive.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Returns the bytes of a file.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let index = state.names.get(name)?;
        Some(state.files[*index].now.clone())
    }

    /// Puts a file there that is durable, in place of one of that name.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let index = state.files.len();
        state.files.push(Content {
            now: bytes.to_vec(),
            durable: bytes.to_vec(),
            is_lost: false,
        });
        state.names.insert(name.to_owned(), index);
        state.durable_names.insert(name.to_owned(), index);
    }

    /// Returns what the next process finds after the end of this one: everything, nothing of it
    /// more durable than before.
    #[must_use]
    pub fn restart(&self) -> Self {
        let state = self.state();
        let mut files = state.files.clone();
        for file in &mut files {
            file.is_lost = false;
        }
        Self(Arc::new(Mutex::new(State {
            files,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            ..State::default()
        })))
    }

    /// Returns what is there after a loss of power: what was synced, and of everything else what
    /// `pick` chooses. It returns a number below the one that it is given; always 0 keeps as little
    /// as can be.
    #[must_use]
    pub fn crash(&self, pick: &mut impl FnMut(u64) -> u64) -> Self {
        let state = self.state();
        let after = Self::default();
        let mut names: Vec<&String> = state.names.keys().collect();
        names.extend(state.durable_names.keys());
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (durable, now) = (state.durable_names.get(name), state.names.get(name));
            let kept = if durable == now || pick(2) == 0 {
                durable
            } else {
                now
            };
            if let Some(index) = kept {
                after.put(name, &state.files[*index].after_crash(pick));
            }
        }
        after
    }
}

impl State {
    fn count(&mut self) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        match self.failing {
            Some((first, end)) if (first..end).contains(&call) => {
                Err(io::Error::other("the model says so"))
            }
            _ => Ok(()),
        }
    }
}

impl Content {
    fn after_crash(&self, pick: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
        if self.durable == self.now {
            return self.now.clone();
        }
        let mut between = |low: usize, high: usize| {
            let more = pick((high - low + 1) as u64);
            low + usize::try_from(more).unwrap_or(0)
        };
        let (durable, now) = (self.durable.len(), self.now.len());
        match between(0, 3) {
            0 => self.durable.clone(),
            1 => self.now.clone(),
            // In the order in which it was written.
            2 => self.now[..between(durable.min(now), now)].to_vec(),
            // Some blocks and others not. What was not written is zero.
            _ => {
                let mut bytes = vec![0; between(durable.min(now), durable.max(now))];
                for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
                    let source = match between(0, 1) {
                        0 => &self.durable,
                        _ => &self.now,
                    };
                    let source = source.iter().skip(number * BLOCK);
                    for (byte, source) in block.iter_mut().zip(source) {
                        *byte = *source;
                    }
                }
                bytes
            }
        }
    }
}

impl Files for ModelFiles {
    type File = ModelFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.call()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<ModelFile> {
        let mut state = self.call()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = state.files.len();
        state.files.push(Content::default());
        state.names.insert(name.to_owned(), index);
        Ok(ModelFile {
            files: self.clone(),
            index,
            access: Access::Write,
        })
    }

    fn open(&self, name: &str, access: Access) -> io::Result<ModelFile> {
        let state = self.call()?;
        let index = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(ModelFile {
            files: self.clone(),
            index,
            access,
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.call()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.call()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl ModelFile {
    fn write(&self, what: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.files.state();
        if self.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if state.files[self.index].is_lost {
            let violation = format!("{what} of file {} after a failed sync", self.index);
            state.violations.push(violation);
        }
        Ok(state)
    }
}

impl SegmentFile for ModelFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.files.call()?.files[self.index].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.files.call()?;
        let bytes = &state.files[self.index].now;
        let from = usize::try_from(offset).map_or(bytes.len(), |from| from.min(bytes.len()));
        let length = buffer.len().min(bytes.len() - from);
        buffer[..length].copy_from_slice(&bytes[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.write("write")?;
        let mut result = state.count();
        let mut written = bytes;
        if result.is_err() {
            written = &bytes[..bytes.len() / 2];
        } else if let Some(room) = state.room {
            if room < bytes.len() as u64 {
                written = &bytes[..usize::try_from(room).unwrap_or(0)];
                result = Err(io::ErrorKind::StorageFull.into());
            }
            state.room = Some(room - written.len() as u64);
        }
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let now = &mut state.files[self.index].now;
        let end = from + written.len();
        if now.len() < end {
            now.resize(end, 0);
        }
        now[from..end].copy_from_slice(written);
        result
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.write("cut")?;
        state.count()?;
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        state.files[self.index].now.resize(length, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.files.state();
        let result = state.count();
        let file = &mut state.files[self.index];
        if file.is_lost {
            let violation = format!("sync of file {} after a failed sync", self.index);
            state.violations.push(violation);
        } else if result.is_err() {
            file.is_lost = true;
        } else {
            file.durable.clone_from(&file.now);
        }
        result
    }
}
