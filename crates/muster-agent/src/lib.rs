//! The agent of a box: it keeps the nodes of a layout running on this machine, and answers for them.
//!
//! A [`Fleet`] has the processes. Each is a program with a [`NodeSocket`]: there it reports, and is told to stop or to open
//! its files anew. Nothing else ties a node to its agent, so nodes go on without one, and the next agent finds them by
//! their sockets. An [`Api`] answers requests over HTTP on Unix sockets, and [`Client`] makes them. Where all these files
//! are is in [`Places`].
//!
//! What is decided, a plain struct decides: which process should run (`supervisor`), what is told of it (`record`).

mod api;
mod client;
mod fleet;
mod journal;
mod launch;
mod life;
mod node_socket;
mod place;
mod process;
mod process_logs;
mod record;
mod supervisor;

pub use api::{Access, Api, ApiError, Done, Refusal, RefusalKind, Role};
pub use client::{Client, ClientError, Lines};
pub use fleet::{Fleet, FleetConfig, News, PastLife, PlannedNode, running_nodes};
pub use journal::{AuditEntry, Event, EventKind};
pub use launch::{CheckLayout, Launch, Lives, open_log};
pub use node_socket::{NodeSocket, NodeSocketError, Word};
pub use place::{Places, is_of_this_machine, socket_path};
pub use process_logs::LogLine;
pub use supervisor::STOP_LIMIT;
