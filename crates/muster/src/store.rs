//! Data stores: state that authors share without knowing where it lives.
//!
//! A [`Store`] works the same on the endpoint that holds the primary and on every other one. The state and the
//! protocol of a store are in [`muster_store`]; this module adds the clock, the tasks and the messages.
//!
//! ```no_run
//! # async fn example(endpoint: muster::Endpoint) -> Result<(), Box<dyn std::error::Error>> {
//! use muster::store::{CloneOptions, StoreName};
//!
//! let name = StoreName::new("software/tracked")?;
//! let tracked = endpoint.open_clone(&name, CloneOptions::default()).await?;
//! let tracked = tracked.typed::<String, u64>();
//! if tracked.put_unique("10.0.0.1", &1u64).await? {
//!     tracked.increment("10.0.0.1", &1u64).await?;
//! }
//! assert_eq!(tracked.get("10.0.0.1").await?, Some(2));
//! # Ok(())
//! # }
//! ```

mod disk;
mod error;
mod finder;
mod handle;
mod host;
mod options;
mod registry;
mod rival;
mod synced;
mod topics;
mod watch;

pub use muster_store::op::{OpKind, WriteRefusal};
pub use muster_store::{
    Backend, BackendError, BackendErrorKind, BackendWrite, CloneReport, Commit, CopiesReport,
    CopyMode, CopyReport, CopyRole, Encoded, Entry, FailureMode, Freshness, JournalMode, Level,
    MemoryBackend, OtherCopyReport, Persisted, PersistedWriter, PrimaryReport, Revision, Sqlite,
    SqliteOptions, StoreBudget, StoreBudgetReport, StoreName, StoreNameError, StorePart,
    StoreReport, Synchronous, WriteFailure, arithmetic,
};

pub use error::{OpenError, StoreError, StoreErrorKind};
pub use finder::StoreFinder;
pub use handle::{Read, Store, Swapped, Versioned};
pub use muster_cluster::node::{StoreNeed, StoreState};
pub use options::{CloneOptions, PrimaryOptions};
pub use synced::{SyncedChange, SyncedSet, SyncedTable};
pub use watch::{Scope, Watch, WatchEvent};

pub(crate) use host::{AskToOpen, Completion, Copies, LeaseEnd, OpenBackend};
pub(crate) use registry::Stores;
pub(crate) use rival::is_elsewhere;
