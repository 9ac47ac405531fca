//! Muster's data stores without I/O: one primary, any number of clones, typed values.
//!
//! A [`State`] is a deterministic machine. A [`Primary`] drives it, numbers its changes and tells
//! them to clones. A [`StoreClone`] holds a copy that repairs itself, and sends its node's writes
//! to the primary; each is applied once and in order, whatever is lost on the way. Facts go in (a
//! message, a write, the time), decisions come out of `poll`.
//!
//! With Broker's stores, messages are those of section 7 of the version 1 protocol. Muster
//! endpoints have messages of their own ([`protocol`]), which bring results to the writer and
//! snapshots in parts.
//!
//! Feature `sqlite`, on by default, adds the backend that keeps a store in a SQLite file.
//!
//! # Example
//!
//! The machine alone. The same commands in the same order have the same outcome everywhere.
//!
//! ```
//! use muster_data::Timestamp;
//! use muster_store::op::{Answer, Op, StoreCommand, Writer};
//! use muster_store::{Encoded, State};
//! use muster_wire::EndpointId;
//!
//! let writer = Writer { endpoint: EndpointId::from_random([1; 16]), instance: 1 };
//! let unique = |number, value: u64| StoreCommand {
//!     at: Timestamp::from_secs(1_700_000_000),
//!     writer,
//!     number,
//!     op: Op::PutUnique {
//!         key: Encoded::key("10.0.0.1"),
//!         value: Encoded::of(&value),
//!         ttl: None,
//!     },
//! };
//! let mut state = State::default();
//! let (answer, change) = state.apply(unique(1, 7));
//! assert!(matches!(answer, Answer::Done { change: 1, .. }));
//! assert!(change.is_some());
//!
//! // The key is there: nothing has changed, and the answer says which change made it.
//! let (answer, change) = state.apply(unique(2, 8));
//! assert_eq!((answer, change), (Answer::Unchanged { change: 1 }, None));
//! ```

pub mod arithmetic;
mod backend;
pub mod broker;
mod budget;
mod clone;
pub mod conformance;
mod encoded;
mod entries;
mod follower;
mod instance;
mod level;
mod name;
pub mod op;
mod primary;
pub mod protocol;
#[cfg(test)]
mod simulation;
mod state;
mod steady_clock;
mod writes;

pub use backend::memory::MemoryBackend;
#[cfg(feature = "sqlite")]
pub use backend::sqlite::{FailureMode, JournalMode, Sqlite, SqliteOptions, Synchronous};
pub use backend::{
    Backend, BackendError, BackendErrorKind, BackendWrite, Commit, Persisted, PersistedWriter,
};
pub use budget::{StoreBudget, StoreBudgetReport};
pub use clone::{CloneConfig, CopyMode, Freshness, StoreClone};
pub use encoded::Encoded;
pub use entries::{ENTRY_OVERHEAD, Entries, Entry, SnapshotPart};
pub use follower::Follower;
pub use instance::{
    CloneReport, CopiesReport, CopyReport, CopyRole, Hears, Instance, InstanceConfig, Notice,
    OtherCopyReport, Output, Placement, PrimaryReport, Severity, StorePart, StoreReport,
};
pub use level::{Level, Revision};
pub use name::{MAX_NAME, StoreName, StoreNameError};
#[cfg(any(test, feature = "simulation"))]
pub use primary::CopySabotage;
pub use primary::{Assignment, CopyRequest, Now, Primary, PrimaryConfig, Restored};
pub use state::{DEFAULT_LIMIT, MAX_KEY, MAX_VALUE, MAX_WRITERS, State};
pub use steady_clock::SteadyClock;
pub use writes::{SettledWrite, Token, WriteFailure, WriteOutcome};
