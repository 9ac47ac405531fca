//! How a store is opened.

use muster_store::{Backend, CloneConfig, PrimaryConfig};

/// How a primary works.
#[derive(Debug, Default)]
pub struct PrimaryOptions {
    /// What keeps its state; nothing for a store in memory.
    pub backend: Option<Box<dyn Backend>>,
    /// The rest.
    pub config: PrimaryConfig,
}

/// How a clone works.
#[derive(Debug, Clone, Default)]
pub struct CloneOptions {
    /// All of it.
    pub config: CloneConfig,
}
