//! What is measured: messaging systems, each behind the same four jobs.

mod muster;
mod tcp;

use anyhow::{Result, bail};
use tokio::runtime::{Builder, Runtime};

use crate::latency::LatencyReport;
use crate::{Control, Plan, Protection, Published, Tally, Traffic};

pub use self::muster::Muster;
pub(crate) use self::muster::{tls, visit};
pub use self::tcp::Tcp;

/// A messaging system that is measured. Each method is the whole work of one process.
pub trait Engine {
    /// Returns the system's name.
    fn name(&self) -> &'static str;

    /// Reports that it is ready, and its address; then receives until the tally [is
    /// over](Tally::look_for_end). `hub` is the address of the engine's server, if it has one.
    ///
    /// # Errors
    ///
    /// Fails if the work could not be done.
    fn subscribe(
        &self,
        hub: Option<&str>,
        traffic: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()>;

    /// Sends to the subscribers at `addresses` as fast as they take it, for `seconds` seconds, and
    /// waits until everything is written.
    ///
    /// # Errors
    ///
    /// Fails if the work could not be done.
    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published>;

    /// Reports that it is ready, and its address; then sends everything back until it is killed.
    ///
    /// # Errors
    ///
    /// Fails if the work could not be done.
    fn echo(&self, hub: Option<&str>, control: &Control) -> Result<()>;

    /// Sends to the echo at `address` as planned, and times the answers.
    ///
    /// # Errors
    ///
    /// Fails if the work could not be done.
    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport>;
}

/// A runtime as the program `muster` has it.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

/// Fails for traffic that an engine without fan-out or TLS cannot carry.
fn only_plain(name: &str, traffic: Traffic, addresses: usize) -> Result<()> {
    if traffic.protection != Protection::Plain || addresses != 1 {
        bail!("{name} has one subscriber and no TLS");
    }
    Ok(())
}
