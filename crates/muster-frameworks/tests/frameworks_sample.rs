//! What the standard frameworks find in the sample: real traffic, every row of it.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use muster_frameworks::zeek::SoftwareRecord;
use muster_frameworks::zeek_log::ConnectionReader;
use muster_frameworks::{
    Connection, KnownHost, KnownService, NoticeRecord, Scan, sample, standard,
};
use muster_testkit::Cluster;

/// The sample's connections, its files merged as by a log input: the earliest next row comes first.
fn connections() -> Vec<Connection> {
    let mut files: Vec<_> = sample::FILES
        .iter()
        .map(|(name, content)| {
            let mut reader = ConnectionReader::new(name, *content).unwrap();
            let mut rows = Vec::new();
            while let Some(row) = reader.next_connection().unwrap() {
                rows.extend(row.map(muster_frameworks::zeek_log::ConnectionRef::into_owned));
            }
            rows.into_iter().peekable()
        })
        .collect();
    let mut merged = Vec::new();
    while let Some(next) = files
        .iter_mut()
        .filter_map(|file| Some((file.peek()?.ts, file)))
        .min_by_key(|(ts, _)| *ts)
        .and_then(|(_, file)| file.next())
    {
        merged.push(next);
    }
    merged
}

fn cluster(workers: usize, connections: &[Connection]) -> Cluster {
    let layout = format!(
        r#"
        node = [
            {{ name = "manager", role = "manager" }},
            {{ name = "logger", role = "logger", count = 2 }},
            {{ name = "data", role = "data", count = 3 }},
            {{ name = "worker", role = "worker", count = {workers}, input = ["sample"] }},
        ]
        "#
    );
    let names: Vec<String> = (1..=workers).map(|n| format!("worker-{n}")).collect();
    Cluster::of(&layout, standard())
        .seed(workers as u64)
        .feed_shared(
            names.iter().map(String::as_str),
            connections.iter().cloned(),
            |connection| {
                let uid = connection.uid.bytes();
                uid.fold(7, |hash: u64, byte| {
                    hash.wrapping_mul(31).wrapping_add(byte.into())
                })
            },
        )
}

/// Everything that was found, one thing a line, sorted. Times are left out where they depend on who
/// came first.
fn findings(cluster: &Cluster) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for record in cluster.log_of::<NoticeRecord>("notice") {
        lines.insert(format!("notice {} {}", record.ts, record.msg));
    }
    for scan in cluster.log_of::<Scan>("scans") {
        let Scan {
            ts,
            attacker,
            port,
            victims,
            ..
        } = scan;
        lines.insert(format!("scan {ts} {attacker} {port} {victims} hosts"));
    }
    for record in cluster.log_of::<KnownHost>("known_hosts") {
        lines.insert(format!("host {}", record.host));
    }
    for record in cluster.log_of::<KnownService>("known_services") {
        let KnownService {
            host,
            port_num,
            service,
            ..
        } = record;
        lines.insert(format!("service {host} {port_num} {service:?}"));
    }
    for record in cluster.log_of::<SoftwareRecord>("software") {
        let text = record.unparsed_version.unwrap_or_default();
        let text = String::from_utf8(text).unwrap();
        lines.insert(format!("{} {} {text}", record.software_type, record.host));
    }
    lines
}

#[test]
fn the_sample_holds_three_scans_by_one_attacker() {
    let connections = connections();
    assert_eq!(connections.len(), 112_218);
    let mut expected = None;
    for workers in [1, 4] {
        let mut cluster = cluster(workers, &connections);
        cluster.start();
        cluster.run_until_idle();
        let found = findings(&cluster);
        let scans: Vec<_> = found
            .iter()
            .filter(|line| line.starts_with("notice") || line.starts_with("scan"))
            .map(String::as_str)
            .collect();
        assert_eq!(
            scans,
            [
                "notice 2018-03-24T17:15:00Z 10.164.94.120 scanned at least 10 hosts on port 135/tcp within 15m",
                "notice 2018-03-24T17:15:00Z 10.164.94.120 scanned at least 10 hosts on port 3389/tcp within 15m",
                "notice 2018-03-24T17:15:00Z 10.164.94.120 scanned at least 10 hosts on port 445/tcp within 15m",
                "scan 2018-03-24T17:15:00Z 10.164.94.120 135/tcp 13 hosts",
                "scan 2018-03-24T17:15:00Z 10.164.94.120 3389/tcp 19 hosts",
                "scan 2018-03-24T17:15:00Z 10.164.94.120 445/tcp 13 hosts",
            ]
        );
        let software = found.iter().filter(|line| line.starts_with("SSH::"));
        assert_eq!(
            software.collect::<Vec<_>>(),
            [
                "SSH::CLIENT 10.0.0.227 OpenSSH_7.6",
                "SSH::CLIENT 10.128.0.19 Nmap-SSH1-Hostkey",
                "SSH::CLIENT 10.128.0.19 Nmap-SSH2-Hostkey",
                "SSH::CLIENT 10.128.0.19 NmapNSE_1.0",
                "SSH::CLIENT 10.128.0.233 OpenSSH_7.6p1 Debian-4",
                "SSH::SERVER 10.47.23.166 OpenSSH_7.6",
                "SSH::SERVER 10.47.23.168 OpenSSH_5.9",
                "SSH::SERVER 10.47.23.186 OpenSSH_6.7p1 Debian-5+deb8u4",
                "SSH::SERVER 10.47.23.55 OpenSSH_4.3p2 Debian-9etch3",
                "SSH::SERVER 10.47.23.65 OpenSSH_7.4",
                "SSH::SERVER 10.47.24.186 OpenSSH_6.7p1 Debian-5+deb8u4",
                "SSH::SERVER 10.47.26.186 OpenSSH_6.7p1 Debian-5+deb8u4",
                "SSH::SERVER 10.47.26.55 OpenSSH_4.3p2 Debian-9etch3",
                "SSH::SERVER 10.47.27.186 OpenSSH_6.7p1 Debian-5+deb8u4",
                "SSH::SERVER 10.47.8.50 OpenSSH_7.4p1 Raspbian-10+deb9u3",
            ]
        );
        // Nothing is lost or refused on the way, and no row is late.
        assert_eq!((cluster.lost(), cluster.count("late_rows")), (0, 0));
        assert_eq!(
            cluster.total(|counts| counts.events_refused + counts.panics),
            0
        );
        assert_eq!(
            cluster.total(|counts| counts.records_logged),
            cluster.total(|counts| counts.records_written)
        );
        assert_eq!(
            cluster.total(|counts| counts.records_logged),
            found.len() as u64
        );
        assert!(cluster.now() > Duration::from_millis(100));
        assert_eq!(
            *expected.get_or_insert(found.clone()),
            found,
            "{workers} workers"
        );
    }
}
