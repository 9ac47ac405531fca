//! What can go wrong with a store.

use muster_data::ConvertError;
use muster_store::op::WriteRefusal;
use muster_store::{BackendError, StoreName, WriteFailure};

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The endpoint has the store already, as primary or as clone.
    #[error("store {0} is open already")]
    Open(StoreName),
    /// What its backend has kept cannot be read.
    #[error("store {name}: {reason}")]
    Backend {
        /// The store.
        name: StoreName,
        /// Why.
        reason: BackendError,
    },
    /// The system refused a thread.
    #[error("store {name}: cannot start its thread")]
    Thread {
        /// The store.
        name: StoreName,
        /// Why.
        source: std::io::Error,
    },
}

/// Why an operation on a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store {store}: {kind}")]
pub struct StoreError {
    store: StoreName,
    kind: StoreErrorKind,
}

/// What kind of failure it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The primary refuses it: nothing has changed.
    #[error(transparent)]
    Refused(#[from] WriteRefusal),
    /// A write was not applied, or may have been applied, or is not on disk; the [`WriteFailure`] says which.
    #[error(transparent)]
    Failed(#[from] WriteFailure),
    /// The key or value that was read is not of the author's type.
    #[error("{0}")]
    Conversion(ConvertError),
    /// Nothing can be read: no primary has been heard of within the deadline.
    #[error("no primary within the deadline")]
    NoPrimary,
    /// This node has no copy: it would take more memory than there is (`stores.memory_limit`,
    /// `stores.node_memory_limit`). Single keys can be read all the same: they are asked of the primary.
    #[error("no copy on this node: it has no room for it")]
    NoCopy,
    /// This node's copy is stale, and only fresh values were asked for.
    #[error("stale: the primary has not been heard from for too long")]
    Stale,
    /// The write was applied before its primary was restarted; its result is not known.
    #[error("applied, but its result is not known: the primary was restarted")]
    OutcomeUnknown,
}

impl StoreError {
    pub(crate) fn new(store: &StoreName, kind: impl Into<StoreErrorKind>) -> Self {
        Self {
            store: store.clone(),
            kind: kind.into(),
        }
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> &StoreErrorKind {
        &self.kind
    }

    /// The store.
    pub fn store(&self) -> &StoreName {
        &self.store
    }

    /// Returns `true` if it is certain that nothing has changed.
    pub fn is_not_applied(&self) -> bool {
        match &self.kind {
            StoreErrorKind::Refused(_)
            | StoreErrorKind::NoPrimary
            | StoreErrorKind::NoCopy
            | StoreErrorKind::Stale => true,
            StoreErrorKind::Failed(failure) => matches!(
                failure,
                WriteFailure::NoPrimary | WriteFailure::TooMany | WriteFailure::Closed
            ),
            StoreErrorKind::Conversion(_) | StoreErrorKind::OutcomeUnknown => false,
        }
    }
}
