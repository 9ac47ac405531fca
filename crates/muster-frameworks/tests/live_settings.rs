//! Settings of the standard frameworks that change while a simulated cluster runs.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use muster_cluster::register::{ConfigKey, STORE};
use muster_data::{Address, Data, Port, Timestamp};
use muster_frameworks::{Connection, NoticeRecord, Scan, standard};
use muster_store::op::Op;
use muster_store::{Encoded, Level};
use muster_testkit::Cluster;

/// A window's beginning.
const BEGIN: i64 = 1_700_000_100;

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "logger", role = "logger" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker", input = ["feed"] },
    ]
"#;

/// `from` tries a port of so many hosts of a network, one a second.
fn sweep(begin: i64, from: &str, network: &str, hosts: i64) -> Vec<Connection> {
    let row = |n: i64| Connection {
        ts: Timestamp::from_secs(BEGIN + begin + n),
        uid: String::new(),
        orig_h: from.parse().unwrap(),
        orig_p: Port::tcp(40_000),
        resp_h: format!("{network}.{n}").parse().unwrap(),
        resp_p: Port::tcp(3389),
        log: "conn".to_owned(),
        service: None,
        conn_state: Some("REJ".to_owned()),
        established: Some(false),
        software: Vec::new(),
        is_service: None,
    };
    (0..hosts).map(row).collect()
}

/// A cluster that reads a row a second.
fn cluster(rows: impl IntoIterator<Item = Connection>) -> Cluster {
    let mut cluster = Cluster::of(LAYOUT, standard())
        .feed("worker", rows)
        .pace(1, Duration::from_secs(1));
    cluster.start();
    cluster
}

fn set(cluster: &mut Cluster, name: &str, value: Option<Data>) {
    let key = ConfigKey::Value(name.to_owned()).encoded();
    let op = match value {
        Some(value) => Op::Put {
            key,
            value: Encoded::of(&value),
            ttl: None,
        },
        None => Op::Erase { key },
    };
    let within = Duration::from_secs(5);
    cluster.write_to_store("worker", STORE, op, Level::Durable, within);
}

/// Who was noticed, or has scanned.
fn sources(cluster: &Cluster) -> (Vec<Address>, Vec<Address>) {
    let notices = cluster.log_of::<NoticeRecord>("notice").into_iter();
    let scans = cluster.log_of::<Scan>("scans").into_iter();
    let mut all = (
        notices.filter_map(|notice| notice.src).collect::<Vec<_>>(),
        scans.map(|scan| scan.attacker).collect::<Vec<_>>(),
    );
    all.0.sort();
    all.1.sort();
    all
}

#[test]
fn a_lower_threshold_finds_what_has_been_seen_in_windows_that_are_open() {
    let rows = sweep(0, "192.0.2.1", "10.0.1", 6).into_iter();
    let rows = rows.chain(sweep(6, "192.0.2.2", "10.0.2", 3));
    let later = (0..40).flat_map(|n| sweep(9 + n, &format!("198.51.100.{n}"), "10.0.3", 1));
    let mut cluster = cluster(rows.chain(later));
    cluster.run_for(Duration::from_secs(25));
    assert_eq!(sources(&cluster), (vec![], vec![]));
    set(&mut cluster, "scan.threshold", Some(Data::Count(5)));
    cluster.run_for(Duration::from_secs(5));
    let scanner = || vec!["192.0.2.1".parse().unwrap()];
    // The window is still open.
    assert_eq!(sources(&cluster), (scanner(), vec![]));
    cluster.run_until_idle();
    assert_eq!(sources(&cluster), (scanner(), scanner()));
}

#[test]
fn a_higher_threshold_takes_nothing_back_and_an_unset_one_is_the_layouts() {
    let rows = sweep(0, "192.0.2.1", "10.0.1", 12).into_iter();
    let rows = rows.chain(sweep(20, "192.0.2.2", "10.0.2", 12));
    let rows = rows.chain(sweep(40, "192.0.2.3", "10.0.3", 12));
    let mut cluster = cluster(rows);
    let first = vec!["192.0.2.1".parse().unwrap()];
    // A row a second behind the start: in the middle of the second sweep, and in the third.
    cluster.run_for(Duration::from_secs(15));
    set(&mut cluster, "scan.threshold", Some(Data::Count(13)));
    cluster.run_for(Duration::from_secs(13));
    assert_eq!(sources(&cluster).0, first);
    set(&mut cluster, "scan.threshold", None);
    cluster.run_until_idle();
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    let all = all.map(|text| text.parse().unwrap()).to_vec();
    assert_eq!(sources(&cluster), (all.clone(), all));
}

#[test]
fn other_networks_count_from_now_on() {
    let rows = sweep(0, "192.0.2.1", "203.0.113", 12).into_iter();
    let rows = rows.chain(sweep(12, "192.0.2.2", "203.0.113", 20));
    let mut cluster = cluster(rows);
    cluster.run_for(Duration::from_secs(10));
    let nets = Data::vector([Data::Subnet("203.0.113.0/24".parse().unwrap())]);
    set(&mut cluster, "scan.local_nets", Some(nets));
    cluster.run_until_idle();
    let found = vec!["192.0.2.2".parse().unwrap()];
    assert_eq!(sources(&cluster), (found.clone(), found));
}
