//! How a store is opened.

use muster_store::{Backend, CloneConfig, MasterConfig};

/// How a master works.
#[derive(Debug, Default)]
pub struct MasterOptions {
    /// What keeps its state; nothing for a store in memory.
    pub backend: Option<Box<dyn Backend>>,
    /// The rest.
    pub config: MasterConfig,
}

/// How a clone works.
#[derive(Debug, Clone, Default)]
pub struct CloneOptions {
    /// All of it.
    pub config: CloneConfig,
}
