//! The standard frameworks on simulated clusters: what they find, how often, and what they forget.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::{Key, PoolName};
use muster_data::{Address, Data, Port, Timestamp};
use muster_frameworks::zeek_log::{ConnectionReader, ConnectionRef};
use muster_frameworks::{Connection, KnownHost, KnownService, NoticeRecord, Scan, standard};
use muster_testkit::Cluster;

/// A quarter of an hour of event time in which everything takes place; a window's beginning.
const BEGIN: i64 = 1_700_000_100;

fn layout(workers: usize, data_nodes: usize, settings: &str) -> String {
    format!(
        r#"
        {settings}
        [[node]]
        name = "manager"
        role = "manager"
        [[node]]
        name = "logger"
        role = "logger"
        [[node]]
        name = "data"
        role = "data"
        count = {data_nodes}
        [[node]]
        name = "worker"
        role = "worker"
        count = {workers}
        input = ["feed"]
        "#
    )
}

fn fed(workers: usize, settings: &str, connections: &[Connection]) -> Cluster {
    let names: Vec<String> = (1..=workers).map(|n| format!("worker-{n}")).collect();
    Cluster::of(&layout(workers, 3, settings), standard()).feed_shared(
        names.iter().map(String::as_str),
        connections.iter().cloned(),
        |connection| connection.orig_p.number.into(),
    )
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A row of `rdp`: `from` speaks with `to` at a port, so many seconds after the beginning.
fn speaks(seconds: i64, from: &str, to: &str, port: u16) -> Connection {
    Connection {
        ts: Timestamp::from_secs(BEGIN + seconds),
        uid: String::new(),
        orig_h: address(from),
        // The tests share rows by it.
        orig_p: Port::tcp(u16::try_from(seconds % 10_000).unwrap()),
        resp_h: address(to),
        resp_p: Port::tcp(port),
        log: "rdp".to_owned(),
        service: Some("rdp".to_owned()),
        conn_state: None,
        established: Some(true),
        software: Vec::new(),
        is_service: None,
    }
}

/// A row of `conn`.
fn conn(seconds: i64, from: &str, to: &str, port: Port, established: bool) -> Connection {
    Connection {
        resp_p: port,
        log: "conn".to_owned(),
        service: None,
        conn_state: Some(if established { "SF" } else { "REJ" }.to_owned()),
        established: Some(established),
        ..speaks(seconds, from, to, port.number)
    }
}

/// `from` speaks with `hosts` hosts at a port, one a second.
fn sweep(begin: i64, from: &str, hosts: i64, port: u16) -> Vec<Connection> {
    let row = |n| speaks(begin + n, from, &format!("10.1.0.{n}"), port);
    (0..hosts).map(row).collect()
}

fn run(mut cluster: Cluster) -> Cluster {
    cluster.start();
    cluster.run_until_idle();
    cluster
}

fn notices(cluster: &Cluster) -> BTreeSet<NoticeRecord> {
    let records = cluster.log_of::<NoticeRecord>("notice");
    let set: BTreeSet<_> = records.iter().cloned().collect();
    assert_eq!(set.len(), records.len(), "a notice was logged twice");
    set
}

fn scans(cluster: &Cluster) -> BTreeSet<Scan> {
    cluster.log_of("scans").into_iter().collect()
}

#[test]
fn a_scan_has_one_notice_and_one_record() {
    let cluster = run(fed(2, "", &sweep(0, "192.0.2.1", 25, 3389)));
    let notices: Vec<_> = notices(&cluster).into_iter().collect();
    assert_eq!(notices.len(), 1);
    assert_eq!(
        notices[0].msg,
        "192.0.2.1 scanned at least 10 hosts on port 3389/tcp within 15m"
    );
    assert_eq!(notices[0].ts, Timestamp::from_secs(BEGIN));
    assert_eq!(
        (notices[0].src, notices[0].p),
        (Some(address("192.0.2.1")), Some(Port::tcp(3389)))
    );
    let scans: Vec<_> = scans(&cluster).into_iter().collect();
    assert_eq!(scans.len(), 1);
    assert_eq!((scans[0].victims, scans[0].truncated), (25, false));
}

/// What is found does not depend on the number of workers, and not on the order in which messages
/// of several nodes arrive.
#[test]
fn results_depend_on_neither_workers_nor_seed() {
    let mut connections = Vec::new();
    for attacker in 0..20 {
        let from = format!("192.0.2.{attacker}");
        connections.extend(sweep(attacker * 97, &from, 5 + attacker, 22));
    }
    connections.sort_by_key(|connection| connection.ts);
    let results = |cluster: &Cluster| {
        let hosts: BTreeSet<_> = cluster
            .log_of::<KnownHost>("known_hosts")
            .into_iter()
            .map(|record| record.host)
            .collect();
        let services: BTreeSet<_> = cluster
            .log_of::<KnownService>("known_services")
            .into_iter()
            .map(|record| (record.host, record.port_num, record.service))
            .collect();
        (notices(cluster), scans(cluster), hosts, services)
    };
    let expected = results(&run(fed(1, "", &connections)));
    // Some sweeps are cut in two by a window's border, or are too small.
    assert!((10..20).contains(&expected.0.len()) && expected.0.len() == expected.1.len());
    assert_eq!((expected.2.len(), expected.3.len()), (24, 24));
    for workers in [1, 2, 3, 5] {
        for seed in 1..=5 {
            let cluster = run(fed(workers, "", &connections).seed(seed));
            assert_eq!(
                results(&cluster),
                expected,
                "{workers} workers, seed {seed}"
            );
            assert_eq!((cluster.count("late_rows"), cluster.lost()), (0, 0));
        }
    }
}

#[test]
fn windows_are_aligned() {
    // Nine hosts before the border and nine behind it are two windows without a scan.
    let mut connections = sweep(891, "192.0.2.1", 18, 3389);
    assert!(notices(&run(fed(1, "", &connections))).is_empty());
    // One more of the second window makes it one; the border itself belongs to the second.
    connections.push(speaks(909, "192.0.2.1", "10.1.0.99", 3389));
    let cluster = run(fed(2, "", &connections));
    let begins: Vec<_> = notices(&cluster).iter().map(|notice| notice.ts).collect();
    assert_eq!(begins, [Timestamp::from_secs(BEGIN + 900)]);
    assert_eq!(scans(&cluster).first().unwrap().victims, 10);
    // A scan that goes on has a notice in every window.
    let mut connections = sweep(0, "192.0.2.1", 20, 3389);
    connections.extend(sweep(900, "192.0.2.1", 20, 3389));
    assert_eq!(notices(&run(fed(2, "", &connections))).len(), 2);
}

#[test]
fn many_servers_at_an_ignored_port_are_no_scan() {
    let resolver = sweep(0, "192.0.2.1", 50, 53);
    assert!(notices(&run(fed(2, "", &resolver))).is_empty());
    // Hosts of others are not looked at.
    let foreign: Vec<_> = (0..50)
        .map(|n| speaks(n, "10.0.0.1", &format!("198.51.100.{n}"), 3389))
        .collect();
    assert!(notices(&run(fed(2, "", &foreign))).is_empty());
    // `conn` knows better than the port.
    let rows = |port, established| -> Vec<_> {
        (0..50)
            .map(|n| conn(n, "192.0.2.1", &format!("10.1.0.{n}"), port, established))
            .collect()
    };
    assert!(notices(&run(fed(2, "", &rows(Port::tcp(3389), true)))).is_empty());
    assert_eq!(
        notices(&run(fed(2, "", &rows(Port::tcp(80), false)))).len(),
        1
    );
    assert!(notices(&run(fed(2, "", &rows(Port::udp(53), false)))).is_empty());
    assert_eq!(
        notices(&run(fed(2, "", &rows(Port::udp(161), false)))).len(),
        1
    );
}

#[test]
fn late_rows_are_counted() {
    let mut connections = sweep(0, "192.0.2.1", 5, 3389);
    // The window ends at 900 s and closes when the watermark has passed 1800 s: at 1700 s it is open.
    connections.push(speaks(1_700, "192.0.2.9", "10.1.0.1", 3389));
    connections.extend(sweep(5, "192.0.2.1", 5, 3389).into_iter().map(|mut row| {
        row.resp_h = address(&format!("10.2.0.{}", row.orig_p.number));
        row
    }));
    let open = run(fed(1, "", &connections).pace(1, Duration::from_millis(50)));
    assert_eq!((notices(&open).len(), open.count("late_rows")), (1, 0));
    connections.push(speaks(1_810, "192.0.2.9", "10.1.0.2", 3389));
    connections.extend(sweep(10, "192.0.2.2", 12, 3389));
    let late = run(fed(1, "", &connections).pace(1, Duration::from_millis(50)));
    assert_eq!((notices(&late).len(), late.count("late_rows")), (1, 12));
    assert_eq!(scans(&late).len(), 1);
}

#[test]
fn stopping_closes_windows() {
    let connections = sweep(0, "192.0.2.1", 12, 3389);
    let mut cluster = fed(2, "", &connections).pace(1, Duration::from_secs(1));
    cluster.start();
    cluster.run_until(|cluster| !cluster.log("notice").is_empty());
    assert!(scans(&cluster).is_empty());
    cluster.stop_all();
    assert_eq!(scans(&cluster).len(), 1);
}

#[test]
fn state_is_bounded() {
    let bounds = "scan = { max_victims = 15, max_entries = 40 }\n\
                  known_hosts = { max_hosts = 10 }\nknown_services = { max_services = 10 }\n";
    let mut connections = sweep(0, "192.0.2.1", 100, 22);
    for n in 0..1_000 {
        let from = format!("203.0.113.{}", n % 250);
        connections.push(speaks(
            200 + n % 600,
            &from,
            &format!("10.3.{}.1", n % 200),
            23,
        ));
    }
    let cluster = run(fed(1, bounds, &connections));
    let all = scans(&cluster);
    let scan = all.iter().find(|scan| scan.port == Port::tcp(22)).unwrap();
    assert_eq!((scan.victims, scan.truncated), (15, true));
    assert!(cluster.count("evicted") > 0);
    let first = notices(&cluster);
    assert!(first.iter().any(|notice| notice.p == Some(Port::tcp(22))));
}

#[test]
fn the_owners_death_leaves_other_keys_alone() {
    let mut connections = Vec::new();
    for n in 0..30 {
        connections.extend(sweep(0, &format!("192.0.2.{n}"), 20, 22));
    }
    connections.sort_by_key(|connection| connection.ts);
    let expected = notices(&run(fed(2, "", &connections)));
    assert_eq!(expected.len(), 30);
    for seed in 1..=10 {
        let mut cluster = fed(2, "", &connections)
            .seed(seed)
            .pace(8, Duration::from_millis(5));
        cluster.start();
        let pool = PoolName::proxy();
        cluster.run_until(|cluster| {
            cluster.total(|counts| counts.of_frameworks("attempts_sent")) > 100
        });
        let owners: BTreeMap<_, _> = expected
            .iter()
            .map(|notice| (notice.src, cluster.owner(&pool, notice.src.unwrap())))
            .collect();
        let victim = cluster.owner(&pool, address("192.0.2.0"));
        cluster.kill(&victim);
        cluster.run_until_idle();
        let found = notices(&cluster);
        assert!(found.is_subset(&expected));
        for notice in &expected {
            let is_other = owners[&notice.src] != victim;
            assert!(!is_other || found.contains(notice), "{}", notice.msg);
        }
        // The dead node's keys have owners again, who see the second half.
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn hosts_are_logged_once_whoever_owns_them() {
    let again = |round: i64| {
        (0..40).map(move |n| speaks(round * 100 + n, &format!("10.5.0.{n}"), "192.0.2.1", 22))
    };
    let connections: Vec<_> = (0..4).flat_map(again).collect();
    let mut cluster = fed(2, "", &connections).pace(10, Duration::from_secs(1));
    let pool = PoolName::proxy();
    let hosts: Vec<Address> = (0..40).map(|n| address(&format!("10.5.0.{n}"))).collect();
    let logged = |cluster: &Cluster| {
        let mut times = BTreeMap::<Address, usize>::new();
        for record in cluster.log_of::<KnownHost>("known_hosts") {
            *times.entry(record.host).or_default() += 1;
        }
        times
    };
    cluster.start();
    // Two rounds by two workers at 10 rows a second.
    cluster.run_for(Duration::from_secs(4));
    assert!(logged(&cluster).values().all(|times| *times == 1));
    assert_eq!(logged(&cluster).len(), 40);
    let owner = |cluster: &Cluster| -> Vec<_> {
        hosts
            .iter()
            .map(|host| cluster.owner(&pool, host))
            .collect()
    };
    let before = owner(&cluster);
    cluster.kill("data-1");
    cluster.run_until_idle();
    // The next owner has the rows of the one that has died.
    assert!(logged(&cluster).values().all(|times| *times == 1));
    assert!(before.iter().any(|owner| owner == "data-1"));
}

/// The store is in the manager's memory unless the layout says otherwise.
#[test]
fn known_hosts_outlive_the_manager_if_they_are_to() {
    for (settings, expected) in [
        ("", 2),
        ("store.\"zeek/known/hosts\".backend = \"sqlite\"\n", 1),
    ] {
        let round = |round: i64| {
            (0..20).map(move |n| speaks(round * 100 + n, &format!("10.5.0.{n}"), "192.0.2.1", 22))
        };
        let connections: Vec<_> = (0..8).flat_map(round).collect();
        let mut cluster = fed(1, settings, &connections).pace(20, Duration::from_secs(10));
        cluster.start();
        cluster.run_for(Duration::from_secs(15));
        assert_eq!(cluster.log("known_hosts").len(), 20);
        // All that remember a host but the store.
        for node in ["data-1", "data-2", "data-3", "manager"] {
            if cluster.is_alive(node) {
                cluster.kill(node);
            }
        }
        cluster.run_for(Duration::from_secs(1));
        for node in ["manager", "data-1", "data-2", "data-3"] {
            cluster.restart(node);
        }
        cluster.run_until_idle();
        assert_eq!(
            cluster.log("known_hosts").len(),
            20 * expected,
            "{settings}"
        );
    }
}

#[test]
fn an_owner_that_comes_and_goes_logs_nothing_again() {
    let round = |round: i64| {
        (0..20).map(move |n| speaks(round * 100 + n, &format!("10.5.0.{n}"), "192.0.2.1", 22))
    };
    let connections: Vec<_> = (0..6).flat_map(round).collect();
    let mut cluster = fed(1, "", &connections).pace(20, Duration::from_secs(5));
    let times = |cluster: &Cluster| -> Vec<usize> {
        let log = cluster.log("known_hosts");
        let times = |n| log.iter().filter(|row| is_host(row, n)).count();
        (0..20).map(times).collect()
    };
    cluster.start();
    // Rounds begin at 0, 5, 10 s, and a moment for the hellos.
    cluster.run_for(Duration::from_secs(7));
    assert_eq!(times(&cluster), [1; 20]);
    cluster.kill("data-2");
    cluster.run_for(Duration::from_secs(5));
    assert_eq!(times(&cluster), [1; 20], "the next owner has the rows");
    cluster.restart("data-2");
    cluster.run_for(Duration::from_secs(5));
    assert_eq!(times(&cluster), [1; 20], "the new life is given them");
    cluster.kill("data-2");
    cluster.run_until_idle();
    assert_eq!(times(&cluster), [1; 20]);
}

/// Nine hosts are too few. Then the owner dies, and one more host is tried: the next owner knows of the nine.
#[test]
fn a_scan_survives_the_death_of_the_node_that_counts_it() {
    let mut connections = sweep(0, "192.0.2.1", 10, 3389);
    connections[9].ts = Timestamp::from_secs(BEGIN + 100);
    let cluster = fed(2, "", &connections).pace(9, Duration::from_secs(5));
    let cluster = run_and_kill_owner(cluster, false);
    assert_eq!(notices(&cluster).len(), 1);
    let scans: Vec<_> = scans(&cluster).into_iter().collect();
    assert_eq!(
        scans.iter().map(|scan| scan.victims).collect::<Vec<_>>(),
        [10]
    );
}

/// As above, but the owner comes back, takes its keys back, and tells the end.
#[test]
fn a_scan_has_one_record_though_its_owner_came_back() {
    let connections = sweep(0, "192.0.2.1", 30, 3389);
    let cluster = fed(2, "", &connections).pace(9, Duration::from_secs(5));
    let cluster = run_and_kill_owner(cluster, true);
    let (notices, scans) = (notices(&cluster), scans(&cluster));
    assert_eq!((notices.len(), scans.len()), (1, 1));
    assert_eq!(scans.first().map(|scan| scan.victims), Some(30));
}

/// A thousand victims, of whom each is counted once, though their owner dies in the middle and comes back.
#[test]
fn a_long_scan_is_counted_to_the_end() {
    let rows = (0..1000).map(|n| {
        let victim = format!("10.1.{}.{}", n / 250, n % 250);
        Connection {
            ts: Timestamp::from_secs(BEGIN + n / 10),
            ..speaks(n, "192.0.2.1", &victim, 3389)
        }
    });
    let connections: Vec<_> = rows.collect();
    let cluster = fed(2, "", &connections).pace(100, Duration::from_secs(1));
    let cluster = run_and_kill_owner(cluster, true);
    assert_eq!(cluster.count("attempts_sent"), 1000);
    let scans: Vec<_> = scans(&cluster).into_iter().collect();
    assert_eq!(
        scans.iter().map(|scan| scan.victims).collect::<Vec<_>>(),
        [1000]
    );
}

fn run_and_kill_owner(mut cluster: Cluster, comes_back: bool) -> Cluster {
    cluster.start();
    cluster.run_for(Duration::from_secs(2));
    let owner = cluster.owner(&PoolName::proxy(), address("192.0.2.1"));
    cluster.kill(&owner);
    cluster.run_for(Duration::from_secs(8));
    if comes_back {
        cluster.restart(&owner);
    }
    cluster.run_until_idle();
    cluster
}

#[test]
fn without_a_data_node_the_manager_owns_the_keys() {
    let layout = "node = [{ name = \"boss\", role = \"manager\" }, { name = \"worker\", role = \"worker\", input = [\"feed\"] }]";
    let cluster = Cluster::of(layout, standard()).feed("worker", sweep(0, "192.0.2.1", 25, 3389));
    let cluster = run(cluster);
    assert_eq!((notices(&cluster).len(), scans(&cluster).len()), (1, 1));
    assert_eq!(cluster.log_of::<KnownHost>("known_hosts").len(), 25);
}

fn is_host(row: &Data, n: usize) -> bool {
    row.to_string().contains(&format!("10.5.0.{n}]"))
}

#[test]
fn services_have_a_record_for_each_name() {
    let mut rows = vec![conn(0, "192.0.2.1", "10.1.0.1", Port::tcp(25), true)];
    rows.push(Connection {
        service: Some("smtp,ssl".to_owned()),
        ..rows[0].clone()
    });
    rows.push(rows[1].clone());
    rows.push(conn(1, "192.0.2.1", "10.1.0.1", Port::tcp(26), false));
    let cluster = run(fed(2, "", &rows));
    let mut names: Vec<_> = cluster
        .log_of::<KnownService>("known_services")
        .into_iter()
        .map(|record| {
            assert_eq!(record.port_proto.as_str(), Some("tcp"));
            (
                record.port_num.number,
                record.service.into_iter().next().unwrap_or_default(),
            )
        })
        .collect();
    names.sort();
    let expected = [(25, ""), (25, "smtp"), (25, "ssl")];
    assert_eq!(names, expected.map(|(port, name)| (port, name.to_owned())));
    let key = Key::cat(&[Data::from(address("10.1.0.1")), Data::from(Port::tcp(25))]);
    let owner = cluster.owner(&PoolName::proxy(), key);
    assert_eq!(cluster.node(&owner).counts().of_frameworks("services"), 3);
}

/// What the rows of `conn` and of the logs beside it make known, as Zeek's scripts decide it.
#[test]
fn only_what_came_about_is_known() {
    let state = |n: u8, state: &str, history: &str, protocol: &str| {
        format!(
            r#"{{"_path":"conn","ts":{BEGIN},"id.orig_h":"10.2.0.{n}","id.orig_p":1,"id.resp_h":"10.1.0.{n}","id.resp_p":{n},"proto":"{protocol}","conn_state":"{state}","history":"{history}"}}"#
        )
    };
    let about = |n: u8, path: &str, more: &str| {
        format!(
            r#"{{"_path":"{path}","ts":{BEGIN},"id.orig_h":"10.2.0.{n}","id.orig_p":1,"id.resp_h":"10.1.0.{n}","id.resp_p":{n},"proto":"tcp"{more}}}"#
        )
    };
    // As these logs are: without a `proto`.
    let one_way =
        |n: u8, path: &str, more: &str| about(n, path, more).replace(r#","proto":"tcp""#, "");
    let service = |n: u8, service: &str| {
        state(n, "SF", "ShADadFf", "tcp").replace(
            "\"conn_state\"",
            &format!("\"service\":\"{service}\",\"conn_state\""),
        )
    };
    let rows = [
        state(1, "SF", "ShADadFf", "tcp"),
        state(2, "S0", "S", "tcp"),
        about(2, "weird", r#","name":"data_before_established""#),
        about(2, "notice", r#","note":"SSL::Invalid_Server_Cert""#),
        about(2, "intel", ""),
        state(3, "REJ", "Sr", "tcp"),
        state(4, "SHR", "^hf", "tcp"),
        state(5, "RSTRH", "^hr", "tcp"),
        state(6, "OTH", "DdA", "tcp"),
        state(7, "OTH", "D", "tcp"),
        state(8, "SHR", "^d", "udp"),
        state(9, "S0", "D", "udp"),
        service(10, "ftp-data"),
        service(11, "http,-http"),
        service(12, "-http"),
        about(13, "ssl", ""),
        about(14, "ssl", r#","established":false"#),
        about(15, "syslog", r#","facility":"LOCAL0""#),
        one_way(20, "syslog", r#","facility":"LOCAL0""#),
        one_way(21, "snmp", r#","get_requests":3,"get_responses":0"#),
        one_way(22, "snmp", r#","get_requests":3,"get_responses":1"#),
        one_way(23, "radius", r#","result":"unknown""#),
        one_way(24, "radius", r#","result":"failed""#),
        one_way(25, "ntp", r#","mode":3"#),
        one_way(26, "ntp", r#","mode":4"#),
        one_way(27, "sip", r#","method":"OPTIONS""#),
        one_way(28, "sip", r#","status_code":404"#),
        one_way(29, "quic", r#","history":"IS""#),
        one_way(30, "quic", r#","history":"ISish""#),
        one_way(31, "tftp", r#","block_sent":0,"block_acked":0"#),
        one_way(32, "tftp", r#","block_sent":7"#),
        one_way(33, "kerberos", r#","request_type":"AS""#),
        one_way(34, "kerberos", r#","success":false"#),
        one_way(35, "dns", r#","query":"example.org""#),
        one_way(36, "bfd", ""),
        one_way(37, "dhcp", r#","trans_id":1"#),
        one_way(38, "dhcp", r#","assigned_ip":"10.2.0.38""#),
        one_way(39, "ldap_search", r#","message_id":1"#),
        one_way(40, "ldap", r#","result":"success""#),
        one_way(41, "quic", r#","server_scid":"c1d2""#),
        one_way(42, "tftp", r#","block_acked":1"#),
    ];
    // The name of the file says nothing about these.
    let text = rows.join("\n");
    let mut reader = ConnectionReader::new("sensor1_ssl.log", std::io::Cursor::new(text)).unwrap();
    let mut connections = Vec::new();
    while let Some(row) = reader.next_connection().unwrap() {
        connections.extend(row.map(ConnectionRef::into_owned));
    }
    assert_eq!(connections.len(), rows.len());
    let cluster = run(fed(1, "", &connections));
    let hosts: BTreeSet<Address> = cluster
        .log_of::<KnownHost>("known_hosts")
        .into_iter()
        .map(|record| record.host)
        .collect();
    let known = [
        1, 10, 11, 12, 13, 15, 22, 24, 26, 28, 30, 32, 34, 38, 40, 41, 42,
    ];
    let expected = known.into_iter().flat_map(|n| {
        let host = |net: u8| address(&format!("10.{net}.0.{n}"));
        [host(1), host(2)]
    });
    assert_eq!(hosts, expected.collect());
    let services: BTreeSet<(u16, String)> = cluster
        .log_of::<KnownService>("known_services")
        .into_iter()
        .map(|record| {
            let name = record.service.into_iter().next().unwrap_or_default();
            (record.port_num.number, name)
        })
        .collect();
    let expected = [
        (1, ""),
        (4, ""),
        (5, ""),
        (6, ""),
        (8, ""),
        (11, "http"),
        (12, ""),
        (13, "ssl"),
        (15, "syslog"),
        (22, "snmp"),
        (24, "radius"),
        (26, "ntp"),
        (28, "sip"),
        (30, "quic"),
        (32, "tftp"),
        (34, "krb"),
        (38, "dhcp"),
        (40, "ldap"),
        (41, "quic"),
        (42, "tftp"),
    ];
    let expected = expected.map(|(port, name)| (port, name.to_owned()));
    assert_eq!(services, expected.into());
}
