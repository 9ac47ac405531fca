//! A backend in memory that outlives masters.

use std::collections::{BTreeMap, HashMap};

use crate::op::Writer;
use crate::{BackendError, Commit, Encoded, Entry, Kept, KeptWriter, Write};

#[derive(Debug, Default)]
pub(crate) struct Disk {
    life: u64,
    changes: u64,
    entries: BTreeMap<Encoded, Entry>,
    writers: HashMap<Writer, KeptWriter>,
    /// Commits fail from now on.
    pub(crate) is_broken: bool,
}

impl Disk {
    pub(crate) fn kept(&self) -> Kept {
        Kept {
            life: self.life,
            changes: self.changes,
            entries: self
                .entries
                .iter()
                .map(|(key, entry)| (key.clone(), entry.clone()))
                .collect(),
            writers: self.writers.values().cloned().collect(),
        }
    }

    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<(), BackendError> {
        if self.is_broken {
            return Err(BackendError::new("broken on purpose"));
        }
        self.life = commit.life;
        self.changes = commit.changes;
        for write in &commit.writes {
            match write {
                Write::Put(key, entry) => {
                    self.entries.insert(key.clone(), entry.clone());
                }
                Write::Erase(key) => {
                    self.entries.remove(key);
                }
                Write::Clear => self.entries.clear(),
            }
        }
        let writers = commit.writers.iter();
        self.writers
            .extend(writers.map(|kept| (kept.writer, kept.clone())));
        Ok(())
    }
}
