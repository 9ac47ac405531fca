//! A framework of one's own, to be copied: who is refused by many services, found by any number of
//! workers, counted on the data node that owns the client, noticed once.
//!
//! `cargo run --example new_framework` shows it on a simulated cluster that loses the node that counts.

#![allow(clippy::unused_self, reason = "not every handler needs the state")]

use std::time::Duration;

use muster_cluster::node::{
    Context, CounterSpec, Declarations, Framework, KeyedContext, KeyedTable, Registry, Site,
};
use muster_cluster::{PoolName, Role, SettingSpec};
use muster_data::{Address, Port, Record, Timestamp};
use muster_frameworks::{Connection, Notice, NoticeRecord};
use muster_testkit::Cluster;

/// The event that workers send to the owner of the client.
#[derive(Clone, Copy, Record)]
#[record(name = "Example::refused")]
struct Refused {
    ts: Timestamp,
    client: Address,
    server: Address,
    port: Port,
}

/// What the owner of a client knows of it, and a second node as well: the services that refused it.
const SERVICES: KeyedTable<Address, (Address, Port), bool> = KeyedTable::new("refusals/services");

struct Refusals {
    role: Role,
    threshold: usize,
}

impl Framework for Refusals {
    const NAME: &'static str = "refusals";

    const SETTINGS: &'static [SettingSpec] = &[SettingSpec::count(
        "refusals.threshold",
        20,
        "services that refuse a client before it is noticed",
    )];

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new(
        "ignored",
        "Refusals that were not published, as too many wait for the owners of their clients. Growth means that more data nodes are needed.",
    )];

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            threshold: site.node.settings.size("refusals.threshold"),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        match self.role {
            Role::Worker => declarations.on(Self::connection),
            Role::Proxy => {
                declarations.keyed(PoolName::proxy(), |it: &Refused| it.client, Self::refused);
            }
            Role::Manager | Role::Logger => {}
        }
    }
}

impl Refusals {
    /// On workers: a row of a log.
    fn connection(&mut self, row: Connection, cx: &mut Context<'_>) {
        let Connection {
            ts,
            orig_h: client,
            resp_h: server,
            resp_p: port,
            conn_state,
            ..
        } = row;
        if conn_state.as_deref() != Some("REJ") {
            return;
        }
        let refused = Refused {
            ts,
            client,
            server,
            port,
        };
        if cx
            .publish_keyed(&PoolName::proxy(), client, &refused)
            .is_err()
        {
            cx.count("ignored", 1);
        }
    }

    /// On the data node that owns the client: one more service has refused it.
    fn refused(&mut self, event: Refused, cx: &mut KeyedContext<'_, '_, Address>) {
        let service = (event.server, event.port);
        let known = cx.rows(&SERVICES).len();
        if known >= self.threshold || cx.row(&SERVICES, &service).is_some() {
            return;
        }
        cx.set(&SERVICES, &service, &true);
        if known + 1 == self.threshold {
            let msg = format!(
                "{} was refused by {} services",
                event.client, self.threshold
            );
            Notice::new(event.ts, "Example::Refused", msg).raise(cx);
        }
    }
}

/// The frameworks of a program: the standard ones and one's own.
fn registry() -> Registry {
    muster_frameworks::standard().with::<Refusals>()
}

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "data", role = "data", count = 3 },
        { name = "worker", role = "worker", count = 2, input = ["conn.log"] },
    ]
"#;

/// A client that is refused by 40 services, seen by two workers, while the data node that counts them dies.
fn simulate() -> Cluster {
    let mut cluster = Cluster::of(LAYOUT, registry())
        .feed_shared(["worker-1", "worker-2"], (0..40).map(refusal), |row| {
            row.orig_p.number.into()
        })
        .pace(1, Duration::from_secs(1));
    cluster.start();
    cluster.run_for(Duration::from_secs(15));
    let owner = cluster.owner(&PoolName::proxy(), refusal(0).orig_h);
    cluster.kill(&owner);
    cluster.run_until_idle();
    cluster
}

fn refusal(port: u16) -> Connection {
    Connection {
        ts: Timestamp::from_secs(1_700_000_000 + i64::from(port)),
        uid: format!("C{port}"),
        orig_h: "192.0.2.1".parse().expect("an address"),
        orig_p: Port::tcp(40_000 + port),
        resp_h: "198.51.100.1".parse().expect("an address"),
        resp_p: Port::tcp(port),
        log: "conn".to_owned(),
        service: None,
        conn_state: Some("REJ".to_owned()),
        established: Some(false),
        software: Vec::new(),
        is_service: None,
    }
}

#[test]
fn a_refused_client_is_noticed_once() {
    let notices = simulate().log_of::<NoticeRecord>("notice");
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].msg, "192.0.2.1 was refused by 20 services");
}

#[allow(clippy::print_stdout, reason = "this is what the example is run for")]
fn main() {
    let cluster = simulate();
    println!("{}", cluster.transcript());
    for notice in cluster.log_of::<NoticeRecord>("notice") {
        println!("{} {}", notice.ts, notice.msg);
    }
}
