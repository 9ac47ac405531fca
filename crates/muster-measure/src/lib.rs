//! Measurements of messaging between processes over loopback TCP: throughput, the time of a round
//! trip, chains of relays, the start of a mesh, and what an idle endpoint costs.
//!
//! A measurement is made by a few processes: a [`Launcher`] starts the same program again with a
//! [`Job`], which that program hands to [`work`]. What is measured differs only by
//! [engine](Engine): Muster's, bare sockets, or one that a program brings along.
//!
//! # Example
//!
//! Round trips at a pace, which does not depend on the answers. An answer's time counts from when
//! its message was due, so a sender that falls behind does not hide it.
//!
//! ```
//! use muster_measure::{Answers, Plan, Schedule, pace};
//!
//! let plan = Plan { per_second: 1_000, messages: 20, warm_up: 10 };
//! let schedule = Schedule::begin(plan);
//! let mut answers = Answers::new(schedule);
//! let late = pace(schedule, |message| answers.add(message)); // answered at once
//! assert!(answers.are_all());
//! assert_eq!(late.len(), 10, "those of the warm-up are not timed");
//! ```

mod chain;
mod conn;
pub mod engine;
mod idle;
mod job;
mod latency;
mod ledger;
mod pacing;
mod payload;
mod ports;
mod process;
mod start;
mod table;
mod throughput;
mod usage;
mod worker;

pub use chain::{Chain, chain};
pub use conn::{Conn, Flow};
pub use engine::Engine;
pub use idle::{Idle, IdleReport, idle, idle_process};
pub use job::Job;
pub use latency::{Latency, LatencyReport, PER_SECOND, latency, probe};
pub use ledger::{Delivered, LOOK, Step, Tally};
pub use pacing::{Answers, Plan, QUIET, Schedule, pace};
pub use payload::{Payload, Protection, Reading, Traffic};
pub use ports::free_ports;
pub use process::{Launcher, Worker};
pub use start::{Layout, StartReport, start};
pub use table::Table;
pub use throughput::{Published, Throughput, throughput};
pub use usage::{cpu_seconds, cpu_seconds_of, memory_bytes, memory_bytes_of, peak_memory_bytes};
pub use worker::{Control, work};
