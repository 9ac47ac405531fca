//! Simulated Muster clusters for tests: every node of a layout with its frameworks, in one thread,
//! in simulated time, from one seed, without sockets and without sleeping.
//!
//! A test of a framework needs a layout, the framework, events to feed, and perhaps a node to kill:
//!
//! ```
//! use muster_cluster::node::{Context, Declarations, Framework, Registry, Site};
//! use muster_cluster::{PoolName, Role};
//! use muster_data::{Address, Record, Timestamp};
//! use muster_testkit::Cluster;
//!
//! #[derive(Record)]
//! #[record(name = "Demo::seen")]
//! struct Seen {
//!     ts: Timestamp,
//!     host: Address,
//! }
//!
//! /// Data nodes log the hosts that workers see.
//! struct Hosts(Role);
//!
//! impl Framework for Hosts {
//!     const NAME: &'static str = "hosts";
//!
//!     fn create(site: &Site<'_>) -> Option<Self> {
//!         Some(Self(site.node.role))
//!     }
//!
//!     fn declare(&self, declarations: &mut Declarations<Self>) {
//!         declarations.on(Self::seen);
//!         declarations.stream::<Seen>("hosts");
//!     }
//! }
//!
//! impl Hosts {
//!     fn seen(&mut self, seen: Seen, cx: &mut Context<'_>) {
//!         if self.0 == Role::Proxy {
//!             cx.log("hosts", &seen).expect("declared");
//!         } else if let Some(topic) = cx.topic_for_key(&PoolName::proxy(), seen.host) {
//!             cx.publish(&topic, &seen).expect("declared");
//!         }
//!     }
//! }
//!
//! let layout = r#"
//!     node = [
//!         { name = "manager", role = "manager" },
//!         { name = "data", role = "data", count = 2 },
//!         { name = "worker", role = "worker", count = 2, input = ["feed"] },
//!     ]
//! "#;
//! let hosts = (1..=100).map(|n| Seen {
//!     ts: Timestamp::from_secs(n),
//!     host: format!("10.0.0.{n}").parse().expect("an address"),
//! });
//! let mut cluster = Cluster::of(layout, Registry::new().with::<Hosts>())
//!     .feed_shared(["worker-1", "worker-2"], hosts, |seen| seen.ts.as_nanos() as u64);
//! cluster.start();
//! cluster.kill("data-1"); // workers wait for it for 15 s, then data-2 does the work of both
//! cluster.run_until_idle();
//! assert_eq!(cluster.log_of::<Seen>("hosts").len(), 100);
//! ```
//!
//! Muster's nodes form one mesh. Hubs relay, so that workers hear one another without links between
//! them. A node that runs as a Zeek process hears only its peers. Links carry messages in order,
//! each with a latency of its own, 1 to 20 ms unless [`Cluster::latency`] says otherwise. A test
//! that fails prints its seed; [`Cluster::seed`] repeats that run.
//!
//! A layout with boxes has the agents of these boxes, too, and their coordinators: nodes renew leases,
//! and stores have copies on several boxes. [`Cluster::kill_box`], [`freeze_box`](Cluster::freeze_box),
//! [`cut`](Cluster::cut) and [`hang_disk`](Cluster::hang_disk) do to a box what happens to machines:
//!
//! ```
//! use std::time::Duration;
//!
//! use muster_cluster::node::Registry;
//! use muster_store::op::{Answer, Op};
//! use muster_store::{Encoded, Level};
//! use muster_testkit::Cluster;
//!
//! let layout = r#"
//!     node = [
//!         { name = "manager", role = "manager", box = "a" },
//!         { name = "data", role = "data", box = "b" },
//!     ]
//!     [box.a]
//!     address = "10.0.0.1"
//!     [box.b]
//!     address = "10.0.0.2"
//!     [box.witness]
//!     address = "10.0.0.3"
//! "#;
//! let mut cluster = Cluster::of(layout, Registry::new());
//! cluster.start();
//! cluster.use_store("data", "hosts", true);
//! cluster.run_for(Duration::from_secs(15)); // everybody is in, and the store has two copies
//!
//! cluster.kill_box("a"); // with it the primary is gone
//! let put = Op::Put {
//!     key: Encoded::key("host"),
//!     value: Encoded::of("10.0.0.7"),
//!     ttl: None,
//! };
//! let write = cluster.write_to_store("data", "hosts", put, Level::Durable, Duration::from_secs(10));
//! cluster.run_for(Duration::from_secs(3));
//! assert!(matches!(cluster.outcome(write), Some(Ok(Answer::Done { .. }))));
//! ```

mod agenda;
mod cluster;
mod endpoint;
mod feed;
#[cfg(test)]
mod mesh_scenarios;

pub use cluster::{Cluster, Neglect, Write};
pub use muster_cluster::feed::FeedSabotage;
pub use muster_cluster::node::{KeyedSabotage, RequestSabotage};
pub use muster_coordination::Sabotage as CoordinatorSabotage;
pub use muster_store::CopySabotage;
pub use muster_wire::mesh::Sabotage;

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
