//! How a store is opened.

use muster_store::{Backend, CloneConfig, Placement, PrimaryConfig};

/// How a primary works.
#[derive(Debug, Default)]
pub struct PrimaryOptions {
    /// What keeps its state, or `None` for a store in memory.
    pub backend: Option<Box<dyn Backend>>,
    /// The settings.
    pub config: PrimaryConfig,
}

/// How a clone works.
#[derive(Debug, Clone, Default)]
pub struct CloneOptions {
    /// The settings.
    pub config: CloneConfig,
}

impl PrimaryOptions {
    pub(super) fn placement(&self) -> Placement {
        Placement::Primary {
            config: self.config.clone(),
            backend: self.backend.as_ref().map(|backend| backend.kind()),
        }
    }
}
