//! What is measured: messaging systems, each behind the same four jobs.

mod muster;
mod tcp;

use anyhow::{Result, bail};
use tokio::runtime::{Builder, Runtime};

use crate::latency::LatencyReport;
use crate::{Control, Plan, Published, Tally, Traffic};

pub use self::muster::Muster;
pub(crate) use self::muster::visit;
pub use self::tcp::Tcp;

/// A messaging system under measure. Its methods each are a process's whole work.
pub trait Engine {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Says that it is ready, and where; then receives until the tally
    /// [is over](Tally::is_over). `hub` is the address of the engine's server, if it has one.
    fn subscribe(
        &self,
        hub: Option<&str>,
        traffic: Traffic,
        control: &Control,
        tally: &mut Tally,
    ) -> Result<()>;

    /// Sends to the subscribers at the addresses as fast as they take it, for some seconds, and waits until
    /// everything is written.
    fn publish(&self, addresses: &[String], traffic: Traffic, seconds: f64) -> Result<Published>;

    /// Says that it is ready, and where; then sends everything back until it is killed.
    fn echo(&self, hub: Option<&str>, control: &Control) -> Result<()>;

    /// Sends to the echo at the address as planned, and times the answers.
    fn probe(&self, address: &str, plan: Plan) -> Result<LatencyReport>;
}

/// A runtime as the program `muster` has it.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

/// Fails for traffic that an engine without fan-out or TLS cannot carry.
fn only_plain(name: &str, traffic: Traffic, addresses: usize) -> Result<()> {
    if traffic.tls || addresses != 1 {
        bail!("{name} has one subscriber and no TLS");
    }
    Ok(())
}
