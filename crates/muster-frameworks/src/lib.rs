//! Detection work, log input and logging on Muster nodes.
//!
//! - [`zeek_log`]: reads Zeek's logs as they are, and the connections in them.
//! - [`log_input`]: replays many logs in time order, shared between workers and paced.
//! - [`log_files`]: writes the logs of a logger.
//! - [`standard()`]: the frameworks, [`KnownHosts`], [`KnownServices`], [`ScanDetection`], [`Notices`],
//!   and those of [`zeek`].
//! - [`zeek`]: a proxy's work for Zeek's frameworks.
//! - [`sample`]: logs of real traffic.
//!
//! A framework of your own is one file: copy `examples/new_framework.rs` of this crate, and register the framework
//! with `standard().with::<YourFramework>()`.
//!
//! # Example
//!
//! The connections of a log that Zeek has written, compressed or not:
//!
//! ```
//! use muster_frameworks::sample;
//! use muster_frameworks::zeek_log::ConnectionReader;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (name, bytes) = sample::FILES[0];
//! let mut reader = ConnectionReader::new(name, bytes)?;
//! let first = reader.next_connection()?.flatten().ok_or("a connection")?.into_owned();
//! assert_eq!(first.log, "dns");
//! println!("{} asked {}", first.orig_h, first.resp_h);
//! # Ok(())
//! # }
//! ```

mod checked;
mod known_hosts;
mod known_services;
mod local_nets;
pub mod log_files;
pub mod log_input;
mod logged;
mod notice;
mod probe;
mod recent;
pub mod sample;
mod scan;
mod seen;
mod standard;
pub mod zeek;
pub mod zeek_log;

pub use known_hosts::{HostSeen, KNOWN_HOSTS, KnownHost, KnownHosts, came_about};
pub use known_services::{KNOWN_SERVICES, KnownService, KnownServices, ServiceSeen};
pub use log_files::{FileSink, LogFiles, LogFilesConfig, LogFilesError, LogFormat};
pub use log_input::{InputBatch, InputSummary, LogInput, LogInputConfig, Share};
pub use notice::{Notice, NoticeRecord, Notices};
pub use probe::{Probe, ProbeAcknowledged, ProbeDuty, ProbeEvent, ProbeHandled, ProbeTick, Probed};
pub use scan::{ADDRESS_SCAN, Scan, ScanAttempt, ScanDetection};
pub use standard::standard;
pub use zeek_log::{Connection, LogReader};

/// The framework of the guide, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/frameworks.md")]
struct FrameworksGuide;

/// The framework of the guide's page about live settings, compiled as a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/live-settings.md")]
struct LiveSettingsGuide;
