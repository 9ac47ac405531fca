//! How long a mesh takes to start until every endpoint knows all others.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use muster::wire::QueueLimits;
use muster::{
    Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, LocalTransport, LossReason,
    NodeIdentity, Status, Subscriber,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::engine::tls;
use crate::{Job, Launcher, Protection, cpu_seconds, memory_bytes, peak_memory_bytes};

/// How long a mesh may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one link within the process holds on its way.
const LINK: usize = 16 << 10;

/// How soon a relay that is not there is dialled again.
const RETRY: Duration = Duration::from_millis(50);

/// How the mesh is linked: every relay to every other, and each leaf to some relays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The number of endpoints that do not relay.
    pub leaves: u32,
    /// The number of endpoints that relay.
    pub relays: u32,
    /// The number of relays that each leaf is linked to.
    pub links: u32,
    /// Whether links are TCP connections over loopback, rather than pipes within the process.
    pub tcp: bool,
    /// How connections are protected. Pipes are not, but with [`Protection::Mutual`] the records of the mesh have seals there
    /// as well.
    pub protection: Protection,
}

/// What the start of a mesh took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartReport {
    /// How the mesh was linked.
    #[serde(flatten)]
    pub layout: Layout,
    /// Seconds until every endpoint knew all others; `None` if they did not within two minutes.
    pub seconds: Option<f64>,
    /// CPU time until then, in seconds.
    pub cpu: f64,
    /// The memory of the process then, in bytes; `None` if the system does not say.
    pub memory: Option<u64>,
    /// The most memory that it had until then, in bytes; `None` if the system does not say.
    pub peak_memory: Option<u64>,
    /// How often an endpoint got to know another.
    pub known: u64,
    /// How often an endpoint lost another in that time.
    pub unreachable: u64,
    /// Peerings that ended in that time.
    pub lost: u64,
    /// Why one of them ended.
    pub reason: Option<String>,
    /// Transmissions of records to neighbours, by all endpoints together.
    pub records: u64,
    /// Records that came from neighbours and were known, at all endpoints together.
    pub known_records: u64,
    /// Offers of records to neighbours, by all endpoints together.
    pub offers: u64,
    /// Neighbours that did not acknowledge a joining endpoint in time.
    pub laggards: u64,
    /// Repairs of neighbours whose databases differed.
    pub repairs: u64,
}

/// Measures the start of a mesh, all in one process.
///
/// # Errors
///
/// Fails if the process does not start, or does not report in time.
pub fn start(launcher: &Launcher, layout: Layout) -> Result<StartReport> {
    let mut mesh = launcher.start(&Job::Start(layout))?;
    mesh.report(PATIENCE * 2)
}

/// Starts a mesh.
pub(crate) fn mesh(layout: Layout) -> Result<StartReport> {
    if layout.links > layout.relays {
        bail!("a leaf has fewer links than there are relays");
    }
    crate::engine::runtime()?.block_on(async {
        let mut relays = Vec::new();
        for number in 0..layout.relays {
            relays.push(endpoint(
                layout,
                &format!("relay-{number}"),
                Forwarding::Relay,
            )?);
        }
        let mut leaves = Vec::new();
        for number in 0..layout.leaves {
            leaves.push(endpoint(
                layout,
                &format!("leaf-{number}"),
                Forwarding::Leaf,
            )?);
        }
        let all: Vec<Endpoint> = relays.iter().chain(&leaves).cloned().collect();
        let others = all.len() as u64 - 1;
        let mut watches = JoinSet::new();
        let until = tokio::time::Instant::now() + PATIENCE;
        for endpoint in &all {
            let limits = QueueLimits {
                messages: 1024,
                bytes: 1 << 20,
            };
            let none: [&str; 0] = [];
            let statuses = endpoint.subscribe_with_statuses(none, limits).await;
            watches.spawn(async move {
                let mut seen = Seen::default();
                let all = seen.watch(statuses, others);
                let is_whole = tokio::time::timeout_at(until, all).await.is_ok();
                (seen, is_whole)
            });
        }
        let (start, before) = (Instant::now(), cpu_seconds());
        link(layout, &relays, &leaves).await?;
        let (mut sum, mut is_whole) = (Seen::default(), true);
        while let Some(watched) = watches.join_next().await {
            let (seen, in_time) = watched.context("a watch has failed")?;
            sum.known += seen.known;
            sum.unreachable += seen.unreachable;
            sum.lost += seen.lost;
            sum.reason = sum.reason.or(seen.reason);
            is_whole &= in_time;
        }
        Ok(StartReport {
            layout,
            seconds: is_whole.then(|| start.elapsed().as_secs_f64()),
            cpu: cpu_seconds() - before,
            memory: memory_bytes(),
            peak_memory: peak_memory_bytes(),
            known: sum.known,
            unreachable: sum.unreachable,
            lost: sum.lost,
            reason: sum.reason,
            records: counted(&all, "mesh_records_sent"),
            known_records: counted(&all, "mesh_records_known"),
            offers: counted(&all, "mesh_offers"),
            laggards: counted(&all, "mesh_join_laggards"),
            repairs: counted(&all, "mesh_repairs"),
        })
    })
}

fn endpoint(layout: Layout, name: &str, forwarding: Forwarding) -> Result<Endpoint> {
    Ok(Endpoint::start(EndpointConfig {
        identity: NodeIdentity {
            name: name.to_owned(),
            ..NodeIdentity::default()
        },
        forwarding,
        tls: tls(layout.protection)?,
        // What is said to be over TCP is.
        local: LocalTransport::Off,
        ..EndpointConfig::default()
    })?)
}

/// Makes all links.
async fn link(layout: Layout, relays: &[Endpoint], leaves: &[Endpoint]) -> Result<()> {
    let mut addresses = Vec::new();
    for relay in relays.iter().filter(|_| layout.tcp) {
        let address = relay.listen(([127, 0, 0, 1], 0).into(), Exposure::Guarded);
        addresses.push(address.await?.to_string());
    }
    let join = |from: &Endpoint, to: usize, name: String| match addresses.get(to) {
        Some(address) => from.dial(address, Some(RETRY)),
        None => pipe(from, &relays[to], &name),
    };
    for (number, relay) in relays.iter().enumerate() {
        for to in 0..number {
            join(relay, to, format!("relay-{number} relay-{to}"));
        }
    }
    let links = layout.links as usize;
    for (number, leaf) in leaves.iter().enumerate() {
        for link in 0..links {
            let to = (number * links + link) % relays.len();
            join(leaf, to, format!("leaf-{number} relay-{to}"));
        }
    }
    Ok(())
}

/// The sum of a counter of all endpoints.
fn counted(all: &[Endpoint], name: &str) -> u64 {
    let counters = all.iter().flat_map(|endpoint| endpoint.counts().mesh);
    let named = counters.filter(|counter| counter.key() == name);
    named.map(|counter| counter.value).sum()
}

/// A link within the process.
fn pipe(from: &Endpoint, to: &Endpoint, name: &str) {
    let (near, far) = tokio::io::duplex(LINK);
    let (reader, writer) = tokio::io::split(near);
    from.connect_stream(reader, writer, name);
    let (reader, writer) = tokio::io::split(far);
    to.accept_stream(reader, writer, name);
}

/// What one endpoint has been told.
#[derive(Debug, Default)]
struct Seen {
    known: u64,
    unreachable: u64,
    lost: u64,
    reason: Option<String>,
}

impl Seen {
    /// Watches until an endpoint knows so many others.
    async fn watch(&mut self, mut statuses: Subscriber, others: u64) {
        while self.known < others + self.unreachable {
            match statuses.receive().await {
                Some(Delivery::Status(Status::EndpointDiscovered(_))) => self.known += 1,
                Some(Delivery::Status(Status::EndpointUnreachable(_))) => self.unreachable += 1,
                Some(Delivery::Status(Status::PeerLost { reason, .. })) => {
                    self.lost += 1;
                    // The other end says why.
                    if reason != LossReason::Closed {
                        self.reason.get_or_insert(reason.to_string());
                    }
                }
                Some(_) => {}
                // It cannot end before its endpoint.
                None => std::future::pending().await,
            }
        }
    }
}
