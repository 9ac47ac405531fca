//! The agent of a box: it keeps the nodes of a layout running on this machine, and answers for them.
//!
//! A [`Fleet`] has the processes. Each is a program with a [`NodeSocket`]: there it reports, and is told to stop or to open
//! its files anew. Nothing else ties a node to its agent, so nodes go on without one, and the next agent finds them by
//! their sockets. An [`Api`] answers requests over HTTP on Unix sockets, and [`Client`] makes them. Where all these files
//! are is in [`Places`].
//!
//! What is decided, a plain struct decides: which process should run (`supervisor`), what is told of it (`record`).

mod api;
mod archive;
mod boxes;
mod client;
mod coordination;
mod desk;
mod failures;
mod fleet;
#[cfg(feature = "simulation")]
pub mod hostile;
mod identity;
mod join;
mod journal;
mod launch;
mod life;
mod mesh;
mod metrics;
mod node_socket;
mod operator;
mod pki;
mod place;
mod process;
mod process_logs;
mod record;
mod records;
mod roster;
#[cfg(feature = "schema")]
mod schema;
mod secret;
#[cfg(feature = "simulation")]
pub mod simulated;
mod supervisor;
mod token;
mod usage;

pub use api::{Access, Api, ApiError, Done, Refusal, RefusalKind, Role};
pub use archive::{
    ArchiveConfig, ArchiveSettingsError, ArchivesByDefault, Compression, SETTINGS, ShipCommand,
};
pub use boxes::{Boxes, BoxesConfig};
pub use client::{Client, ClientError, Lines};
pub use desk::KnownOperator;
pub use fleet::{Fleet, FleetConfig, News, PastLife, PlannedNode, running_nodes};
pub use identity::{AGENT_PORT, BoxFile, CertificateFiles, IdentityError, IdentityFiles};
pub use join::{Founded, JoinError, Joining, found};
pub use journal::{AuditEntry, Event, EventKind};
pub use launch::{CheckLayout, Launch, Lives, open_log};
pub use mesh::{MeshConfig, agent_name};
pub use metrics::agent_metrics;
pub use node_socket::{NodeSocket, NodeSocketError, Word};
pub use operator::{Added, Credential, CredentialError, NewOperator, OperatorIdentity};
pub use pki::{Authority, Identity, PkiError};
pub use place::{Places, is_of_this_machine, socket_path};
pub use process_logs::LogLine;
pub use records::{Condition, LoggerFiles, MOST_CONDITIONS, RecordLine, StreamFiles};
pub use roster::check_operator_name;
#[cfg(feature = "schema")]
pub use schema::openapi;
pub use secret::{SecretError, read_secret};
pub use supervisor::STOP_LIMIT;
pub use token::TokenError;
