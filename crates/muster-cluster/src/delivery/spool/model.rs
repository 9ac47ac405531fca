//! The directories of a node's lives in memory, for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_spool::JournalError;
use muster_spool::model::ModelFiles;
use muster_wire::EndpointId;

use super::SpoolHome;

/// The directories of all lives of a node, in memory. Clones are the same directories.
#[derive(Debug, Clone, Default)]
pub struct ModelHome {
    lives: Arc<Mutex<BTreeMap<EndpointId, ModelFiles>>>,
    /// The bytes of other directories, as far as anybody asks.
    pub(crate) others: u64,
}

impl ModelHome {
    fn known(&self) -> MutexGuard<'_, BTreeMap<EndpointId, ModelFiles>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn map(&self, mut to: impl FnMut(&ModelFiles) -> ModelFiles) -> Self {
        let lives = self.known();
        let lives = lives.iter().map(|(life, files)| (*life, to(files)));
        Self {
            lives: Arc::new(Mutex::new(lives.collect())),
            others: self.others,
        }
    }

    /// Returns what the next process finds.
    #[must_use]
    pub fn restart(&self) -> Self {
        self.map(ModelFiles::restart)
    }

    /// Returns what is there after a loss of power, as [`ModelFiles::crash`] does.
    #[must_use]
    pub fn crash(&self, pick: &mut impl FnMut(u64) -> u64) -> Self {
        self.map(|files| files.crash(pick))
    }

    /// Puts files there as those of a life.
    pub fn put(&self, life: EndpointId, files: ModelFiles) {
        self.known().insert(life, files);
    }

    /// Returns the files of a life, if it has any.
    pub fn files(&self, life: EndpointId) -> Option<ModelFiles> {
        self.known().get(&life).cloned()
    }
}

impl SpoolHome for ModelHome {
    type Files = ModelFiles;

    fn lives(&mut self) -> io::Result<Vec<EndpointId>> {
        Ok(self.known().keys().copied().collect())
    }

    fn open(&mut self, life: EndpointId) -> Result<ModelFiles, JournalError> {
        Ok(self.known().entry(life).or_default().clone())
    }

    fn bytes_of_others(&mut self, _: EndpointId) -> u64 {
        self.others
    }

    fn remove(&mut self, life: EndpointId) -> io::Result<()> {
        self.known().remove(&life);
        Ok(())
    }

    fn set_aside(&mut self, life: EndpointId) -> io::Result<()> {
        self.remove(life)
    }
}
