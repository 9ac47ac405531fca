//! Clusters of ours in which some nodes are Zeek processes: what a proxy of ours takes over from Zeek's
//! frameworks, and what a Zeek logger gets.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use muster_cluster::{Key, PoolName};
use muster_data::{Address, Data, DataRef, EnumValue, Port, Timestamp};
use muster_frameworks::zeek::{
    KnownCert, KnownCertAdd, KnownHostAdd, KnownServiceAdd, SoftwareInfo, SoftwareNew,
    SoftwareRecord, Version,
};
use muster_frameworks::zeek_log::NamedSoftware;
use muster_frameworks::{Connection, KnownHost, KnownService, NoticeRecord, standard};
use muster_testkit::Cluster;
use muster_wire::zeek::serial::read_record;
use muster_wire::zeek::{EventRef, Message, Metadata};

const TS: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Two data nodes of ours, a worker of ours, and two workers that are Zeek's.
fn cluster(settings: &str) -> Cluster {
    let layout = format!(
        r#"
        {settings}
        [[node]]
        name = "manager"
        role = "manager"
        [[node]]
        name = "logger"
        role = "logger"
        count = 2
        [[node]]
        name = "data"
        role = "data"
        count = 2
        [[node]]
        name = "worker"
        role = "worker"
        input = ["feed"]
        [[node]]
        name = "zeek"
        role = "worker"
        count = 2
        "#
    );
    Cluster::of(&layout, standard())
        .zeek("zeek-1")
        .zeek("zeek-2")
}

fn started(mut cluster: Cluster) -> Cluster {
    cluster.start();
    cluster.run_for(Duration::from_secs(1));
    cluster
}

/// Sends an event to the proxy that owns a key, as `Cluster::publish_hrw` does.
fn to_owner<E>(cluster: &mut Cluster, key: impl Into<Key>, event: &E) -> String
where
    E: muster_cluster::node::Event,
{
    let owner = cluster.owner(&PoolName::proxy(), key);
    let topic = format!("zeek/cluster/node/{owner}/");
    cluster.zeek_says("zeek-1", &topic, event);
    owner
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn host(text: &str) -> KnownHostAdd {
    let (ts, host) = (TS, address(text));
    KnownHostAdd {
        info: KnownHost { ts, host },
    }
}

fn settle(cluster: &mut Cluster) {
    cluster.run_for(Duration::from_secs(3));
}

/// A row of `ssh`.
fn connection(n: u8) -> Connection {
    Connection {
        ts: TS,
        uid: String::new(),
        orig_h: address(&format!("10.0.0.{n}")),
        orig_p: Port::tcp(1),
        resp_h: address(&format!("192.0.2.{n}")),
        resp_p: Port::tcp(22),
        log: "ssh".to_owned(),
        service: None,
        conn_state: None,
        established: Some(true),
        software: Vec::new(),
        is_service: None,
    }
}

#[test]
fn hosts_that_both_kinds_of_workers_see_are_logged_once() {
    let mut cluster = started(cluster("").feed("worker", (0..20).map(connection)));
    for n in 10..30 {
        let event = host(&format!("10.0.0.{n}"));
        for _ in 0..2 {
            to_owner(&mut cluster, event.info.host, &event);
        }
    }
    cluster.run_until_idle();
    let mut times = BTreeMap::<Address, usize>::new();
    for record in cluster.log_of::<KnownHost>("known_hosts") {
        *times.entry(record.host).or_default() += 1;
    }
    assert_eq!(times.len(), 30);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    assert_eq!(cluster.total(|counts| counts.events_refused), 0);
}

#[test]
fn what_is_known_is_logged_again_when_it_is_expired() {
    let mut cluster = started(cluster("known_hosts = { expiry = \"10s\" }\n"));
    for seconds in [0, 6, 6, 6] {
        cluster.run_for(Duration::from_secs(seconds));
        to_owner(&mut cluster, address("10.0.0.1"), &host("10.0.0.1"));
    }
    settle(&mut cluster);
    assert_eq!(cluster.log("known_hosts").len(), 2, "at 0 and at 12 s");
}

#[test]
fn services_are_logged_as_zeeks_proxies_do() {
    let mut cluster = started(cluster(""));
    let host = address("10.0.0.1");
    let key = || Key::cat(&[Data::from(host), Data::from(Port::tcp(443))]);
    for services in [&[][..], &[""], &["http", "ssl"], &["ssl"], &["ssl", "xmpp"]] {
        let event = KnownServiceAdd {
            info: KnownService {
                ts: TS,
                host,
                port_num: Port::tcp(443),
                port_proto: EnumValue::new("tcp"),
                service: services.iter().map(|&name| name.to_owned()).collect(),
            },
        };
        to_owner(&mut cluster, key(), &event);
        settle(&mut cluster);
    }
    let records = cluster.log_of::<KnownService>("known_services");
    let services = records.into_iter().map(|record| record.service);
    let services: Vec<Vec<String>> = services.map(|names| names.into_iter().collect()).collect();
    assert_eq!(services, [vec![], vec!["http", "ssl"], vec!["xmpp"]]);
}

fn cert(host: Address, hash: &str) -> KnownCertAdd {
    KnownCertAdd {
        info: KnownCert {
            ts: TS,
            host,
            port_num: Some(Port::tcp(443)),
            subject: Some(b"CN=\xff".to_vec()),
            issuer_subject: None,
            serial: Some(b"0A".to_vec()),
        },
        hash: hash.to_owned(),
    }
}

#[test]
fn certificates_are_logged_once_whoever_owns_them() {
    let mut cluster = started(cluster(""));
    let tell = |cluster: &mut Cluster| {
        let mut owned = BTreeMap::<String, usize>::new();
        for n in 0..40u8 {
            let host = address(&format!("10.0.0.{}", n % 20));
            let hash = format!("{n:040x}");
            let key = Key::cat(&[Data::from(host), Data::from(hash.as_str())]);
            let owner = to_owner(cluster, key, &cert(host, &hash));
            *owned.entry(owner).or_default() += 1;
        }
        settle(cluster);
        owned
    };
    let owned = tell(&mut cluster);
    assert_eq!(owned.len(), 2, "{owned:?}");
    tell(&mut cluster);
    let records = cluster.log_of::<KnownCert>("known_certs");
    assert_eq!(records.len(), 40);
    assert_eq!(records[0].subject, Some(b"CN=\xff".to_vec()));
    // The next owner has the rows of the one that has died, and gives them back.
    cluster.kill("data-1");
    settle(&mut cluster);
    tell(&mut cluster);
    cluster.restart("data-1");
    settle(&mut cluster);
    tell(&mut cluster);
    cluster.kill("data-2");
    settle(&mut cluster);
    tell(&mut cluster);
    assert_eq!(cluster.log("known_certs").len(), 40);
}

fn software(host: Address, name: Option<&str>, text: &str) -> SoftwareNew {
    SoftwareNew {
        info: SoftwareInfo {
            ts: Some(TS),
            host,
            host_p: Some(Port::tcp(22)),
            software_type: EnumValue::new("SSH::SERVER"),
            name: name.map(|name| name.as_bytes().to_vec()),
            version: name.map(|_| Version {
                major: Some(1),
                ..Version::default()
            }),
            unparsed_version: (!text.is_empty()).then(|| text.as_bytes().to_vec()),
            force_log: false,
        },
    }
}

#[test]
fn software_is_logged_with_every_version_once() {
    let mut cluster = started(cluster(""));
    let (one, two) = (address("10.0.0.1"), address("10.0.0.2"));
    let mut events = vec![
        software(one, None, "OpenSSH_8.9p1 Ubuntu-3"),
        software(one, None, "OpenSSH_8.9p1 Ubuntu-3"),
        software(one, None, "OpenSSH_9.6"),
        software(two, None, "OpenSSH_9.6"),
        // What a worker took apart itself is taken as it is.
        software(two, Some("Thing"), "Thing of mine"),
        software(two, Some("Thing"), ""),
        // Without any version it is nothing.
        software(two, None, ""),
        software(one, None, "OpenSSH_9.6"),
    ];
    events[7].info.force_log = true;
    for event in &events {
        to_owner(&mut cluster, event.info.host, event);
        settle(&mut cluster);
    }
    let lines: Vec<_> = cluster
        .log_of::<SoftwareRecord>("software")
        .into_iter()
        .map(|record| {
            let text =
                |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).unwrap();
            let numbers = [record.major, record.minor].map(|number| number.unwrap_or(99));
            let name = text(record.name);
            format!("{} {name} {numbers:?} {}", record.host, text(record.addl))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "10.0.0.1 OpenSSH [8, 9] p1",
            "10.0.0.1 OpenSSH [9, 6] ",
            "10.0.0.2 OpenSSH [9, 6] ",
            "10.0.0.2 Thing [1, 99] ",
            "10.0.0.2 Thing [1, 99] ",
            "10.0.0.1 OpenSSH [9, 6] ",
        ]
    );
    assert_eq!(cluster.count("without_version"), 1);
}

/// The arguments as Zeek's encoding has them, written out: the shapes are those of its records.
#[test]
fn events_have_the_shapes_of_zeeks_records() {
    let mut cluster = started(cluster(""));
    let host = Data::from(address("10.0.0.1"));
    let ts = Data::from(TS);
    let port = Data::from(Port::tcp(80));
    let tcp = Data::from(EnumValue::new("tcp"));
    let text = Data::from;
    let version = Data::vector([
        Data::from(2u64),
        Data::from(4u64),
        Data::None,
        Data::None,
        Data::from("rc1"),
    ]);
    let url = text("http://10.0.0.1/");
    let events = [
        (
            "known_host_add",
            vec![Data::vector([ts.clone(), host.clone()])],
        ),
        (
            "known_service_add",
            vec![Data::vector([
                ts.clone(),
                host.clone(),
                port.clone(),
                tcp,
                Data::set([text("http")]),
            ])],
        ),
        (
            "known_cert_add",
            vec![
                Data::vector([
                    ts.clone(),
                    host.clone(),
                    port.clone(),
                    text("CN=a"),
                    text("CN=b"),
                    text("01"),
                ]),
                text("da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ],
        ),
        (
            "Software::new",
            vec![Data::vector([
                ts,
                host,
                port,
                Data::from(EnumValue::new("HTTP::WEB_APPLICATION")),
                text("Wiki"),
                version,
                text("Wiki 2.4rc1"),
                Data::from(false),
                // What detect-webapps adds.
                url,
            ])],
        ),
    ];
    for (name, arguments) in &events {
        publish(&mut cluster, "zeek/cluster/node/data-1/", name, arguments);
        // Another shape is refused, and does no harm.
        publish(
            &mut cluster,
            "zeek/cluster/node/data-1/",
            name,
            &[Data::from(1u64)],
        );
    }
    settle(&mut cluster);
    assert_eq!(cluster.total(|counts| counts.events_refused), 4);
    let log =
        |name: &str| -> Vec<String> { cluster.log(name).iter().map(ToString::to_string).collect() };
    let at = "2023-11-14T22:13:20Z, 10.0.0.1";
    assert_eq!(log("known_hosts"), [format!("[{at}]")]);
    assert_eq!(
        log("known_services"),
        [format!("[{at}, 80/tcp, enum:\"tcp\", {{\"http\"}}]")]
    );
    assert_eq!(
        log("known_certs"),
        [format!("[{at}, 80/tcp, \"CN=a\", \"CN=b\", \"01\"]")]
    );
    assert_eq!(
        log("software"),
        [format!(
            "[{at}, 80/tcp, HTTP::WEB_APPLICATION, \"Wiki\", 2, 4, nil, nil, \"rc1\", \"Wiki 2.4rc1\"]"
        )]
    );
}

fn publish(cluster: &mut Cluster, topic: &str, name: &str, arguments: &[Data]) {
    let mut out = Vec::new();
    muster_wire::zeek::put_event(&mut out, name, Metadata::default(), |out| {
        muster_data::Encode::encode(arguments, out);
    });
    cluster.zeek_publishes("zeek-1", topic, &out);
}

/// The events that a Zeek process has heard, but for hellos.
fn heard(cluster: &mut Cluster, node: &str) -> Vec<(String, Data)> {
    let heard = cluster.heard(node);
    let events = heard.iter().filter_map(|payload| {
        let event = EventRef::read(DataRef::from_validated(payload)).ok()?;
        Some((event.name().to_owned(), event.arguments().to_data()))
    });
    events
        .filter(|(name, _)| !name.starts_with("Cluster::") && !name.starts_with("Muster::"))
        .collect()
}

#[test]
fn what_zeeks_proxies_pass_on_reaches_zeeks_workers() {
    let mut cluster = started(cluster(""));
    let arguments = |n: u64| {
        vec![
            Data::vector([Data::None, Data::from(n)]),
            Data::from(Port::tcp(20)),
        ]
    };
    let names = [
        "sync_add_expected_data",
        "sync_remove_expected_data",
        "dcc_transfer_add",
        "dcc_transfer_remove",
        "Intel::insert_indicator",
    ];
    for (n, name) in (0..).zip(names) {
        publish(
            &mut cluster,
            "zeek/cluster/node/data-2/",
            name,
            &arguments(n),
        );
    }
    settle(&mut cluster);
    let expected: Vec<_> = (0..)
        .zip(names)
        .map(|(n, name)| (name.to_owned(), Data::vector(arguments(n))))
        .collect();
    for worker in ["zeek-1", "zeek-2"] {
        assert_eq!(heard(&mut cluster, worker), expected, "{worker}");
    }
    assert_eq!(cluster.count("passed_on"), 5);
}

#[test]
fn what_is_not_handled_is_named_at_the_start_and_counted_when_it_comes() {
    let mut cluster = started(cluster(""));
    let lines = |cluster: &Cluster, part: &str| -> Vec<String> {
        let transcript = cluster.transcript();
        let lines = transcript.lines().filter(|line| line.contains(part));
        lines.map(str::to_owned).collect()
    };
    let at_start = lines(&cluster, "it does not handle");
    assert_eq!(
        at_start.len(),
        2,
        "one line of each data node: {at_start:?}"
    );
    for name in [
        "Config::cluster_set_option",
        "Notice::suppression_batch_internal",
    ] {
        assert!(at_start[0].contains(name));
        for _ in 0..5 {
            publish(&mut cluster, "zeek/cluster/proxy", name, &[Data::from("x")]);
        }
    }
    settle(&mut cluster);
    for node in ["data-1", "data-2"] {
        let unhandled = &cluster.node(node).counts().events_unhandled;
        assert_eq!(unhandled.get("Config::cluster_set_option"), 5);
        assert_eq!(unhandled.total(), 10);
    }
    let told = lines(&cluster, "no framework handles event");
    assert_eq!(told.len(), 4, "one line for each name and node: {told:?}");
    assert!(told[0].contains("Config::cluster_set_option of zeek-1"));
}

/// A Zeek process that owns keys is told by Zeek's events. What it does not know the data nodes that do share among them.
#[test]
fn an_owner_that_is_a_zeek_process_is_told_by_zeeks_events() {
    let swapped = |n| {
        let row = connection(n);
        Connection {
            orig_h: row.resp_h,
            resp_h: row.orig_h,
            ..row
        }
    };
    let rows = (0..20).flat_map(|n| [connection(n), swapped(n)]);
    let mut cluster = cluster("").zeek("data-1").feed("worker", rows);
    cluster.start();
    cluster.run_until_idle();
    let hosts: Vec<Address> = (0..20).map(|n| address(&format!("10.0.0.{n}"))).collect();
    let owner = |host: &Address| cluster.owner(&PoolName::proxy(), host);
    let (zeeks, ours): (Vec<Address>, Vec<Address>) =
        hosts.iter().partition(|host| owner(host) == "data-1");
    assert!(!zeeks.is_empty() && !ours.is_empty());
    assert_eq!(cluster.log("known_hosts").len(), ours.len());
    let mut told = BTreeMap::<String, Vec<Data>>::new();
    for payload in cluster.heard("data-1") {
        let event = EventRef::read(DataRef::from_validated(&payload)).unwrap();
        let arguments = event.arguments();
        match event.name() {
            "known_host_add" => {
                let KnownHostAdd { info } = arguments.to().unwrap();
                assert!(zeeks.contains(&info.host));
            }
            "known_service_add" => {
                let KnownServiceAdd { info } = arguments.to().unwrap();
                assert_eq!((info.port_num, info.service.len()), (Port::tcp(22), 1));
            }
            _ => {}
        }
        let of_name = told.entry(event.name().to_owned()).or_default();
        of_name.push(arguments.to_data());
    }
    assert_eq!(told["known_host_add"].len(), zeeks.len());
    assert!(!told["known_service_add"].is_empty());
    assert!(!told.contains_key("Muster::host_seen") && !told.contains_key("Muster::service_seen"));
    // Who scans is not known to any script of Zeek's.
    assert!(!told.contains_key("Muster::scan_attempt") && cluster.count("attempts_sent") > 0);
    assert_eq!(
        cluster.total(|counts| counts.keyed_handled),
        cluster.total(|counts| counts.keyed_published)
    );
}

#[test]
fn memory_is_bounded() {
    let settings = "known_hosts = { max_hosts = 10 }\nknown_services = { max_services = 10 }\n\
                    known_certs = { max_certs = 10 }\nsoftware = { max_versions = 10 }\n";
    let mut cluster = started(cluster(settings));
    for n in 0..50 {
        let host = address(&format!("10.0.0.{n}"));
        to_owner(&mut cluster, host, &self::host(&format!("10.0.0.{n}")));
        to_owner(&mut cluster, host, &cert(host, "aa"));
        to_owner(&mut cluster, host, &software(host, None, "a/1.0"));
    }
    settle(&mut cluster);
    // Two nodes remember ten of each.
    assert_eq!(cluster.count("evicted"), 3 * (50 - 2 * 10));
}

#[test]
fn a_zeek_logger_gets_its_share_in_its_own_form() {
    let cluster = cluster("logging = { batch_size = 2 }\n");
    let mut cluster = started(cluster.zeek("logger-1").zeek("logger-2"));
    for n in 0..60 {
        let event = host(&format!("10.0.0.{n}"));
        to_owner(&mut cluster, event.info.host, &event);
    }
    settle(&mut cluster);
    let (mut batches, mut records) = ([0; 2], [0; 2]);
    let heard = [(0, "logger-1"), (1, "logger-2")].into_iter();
    let heard = heard.flat_map(|(logger, name)| {
        let heard = cluster.heard(name).into_iter();
        heard.map(move |payload| (logger, payload))
    });
    for (logger, payload) in heard.collect::<Vec<_>>() {
        let Ok(Message::Batch(batch)) = Message::read(DataRef::from_validated(&payload)) else {
            continue;
        };
        batches[logger] += 1;
        for (at, message) in batch.iter().enumerate() {
            match message {
                Message::LogCreate(create) => {
                    assert_eq!((at, create.stream), (0, "Known::HOSTS_LOG"));
                    assert_eq!(create.info.path, "known_hosts");
                    let names: Vec<&str> = create.fields.iter().map(|field| field.name).collect();
                    assert_eq!(names, ["ts", "host"]);
                }
                Message::LogWrite(write) => {
                    assert!(at > 0);
                    assert_eq!(
                        (write.stream, write.path),
                        ("Known::HOSTS_LOG", "known_hosts")
                    );
                    assert_eq!(read_record(write.serial_data).unwrap().len(), 2);
                    records[logger] += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(records.iter().sum::<usize>(), 60, "{records:?}");
    assert!(
        batches[0] >= 10 && batches[1] >= 10 && records[0] >= 20 && records[1] >= 20,
        "{batches:?} {records:?}"
    );
}

/// A Zeek logger does not say what it has: what must not be lost goes to one that does.
#[test]
fn what_owners_log_goes_to_loggers_that_acknowledge() {
    let mut cluster = started(cluster("").zeek("logger-1"));
    for n in 0..60 {
        let event = host(&format!("10.0.0.{n}"));
        to_owner(&mut cluster, event.info.host, &event);
    }
    settle(&mut cluster);
    assert_eq!(cluster.log_on("logger-2", "known_hosts").len(), 60);
}

fn names_server(n: u8, text: &str) -> Connection {
    let host = address(&format!("10.0.0.{n}"));
    Connection {
        resp_h: host,
        software: vec![NamedSoftware {
            host,
            port: Some(Port::tcp(22)),
            kind: EnumValue::new("SSH::SERVER"),
            text: text.into(),
        }],
        ..connection(n)
    }
}

fn software_log(cluster: &Cluster) -> Vec<(Address, String)> {
    let log = cluster.log_of::<SoftwareRecord>("software");
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
    let records = log.into_iter();
    let records = records.map(|record| (record.host, text(record.unparsed_version)));
    let mut records: Vec<_> = records.collect();
    records.sort();
    records
}

#[test]
fn software_that_both_kinds_of_workers_see_is_logged_once() {
    let rows = (0..20).flat_map(|n| vec![names_server(n, "OpenSSH_9.6"); 3]);
    let mut foreign = names_server(1, "OpenSSH_9.6");
    foreign.software[0].host = address("192.0.2.1");
    let mut cluster = started(cluster("").feed("worker", rows.chain([foreign])));
    for n in 10..30 {
        let event = software(address(&format!("10.0.0.{n}")), None, "OpenSSH_9.6");
        to_owner(&mut cluster, event.info.host, &event);
    }
    cluster.run_until_idle();
    let expected = (0..30).map(|n| (address(&format!("10.0.0.{n}")), "OpenSSH_9.6".to_owned()));
    assert_eq!(software_log(&cluster), expected.collect::<Vec<_>>());
}

/// The next owner has the rows of the one that has died: it knows what was logged.
#[test]
fn an_heir_logs_no_software_again_and_notices_its_change() {
    let rows = [[8, 9], [9, 6], [9, 6]].map(|[major, minor]| {
        (0..20).map(move |n| names_server(n, &format!("OpenSSH_{major}.{minor}")))
    });
    let mut cluster = cluster("")
        .feed("worker", rows.into_iter().flatten())
        .pace(20, Duration::from_secs(4));
    cluster.start();
    cluster.run_for(Duration::from_secs(3));
    assert_eq!(software_log(&cluster).len(), 20);
    let owner = cluster.owner(&PoolName::proxy(), address("10.0.0.0"));
    cluster.kill(&owner);
    cluster.run_for(Duration::from_secs(4));
    assert_eq!(software_log(&cluster).len(), 40);
    cluster.restart(&owner);
    cluster.run_until_idle();
    let mut log = software_log(&cluster);
    assert_eq!(log.len(), 40);
    log.dedup();
    assert_eq!(log.len(), 40);
    let notices = cluster.log_of::<NoticeRecord>("notice");
    assert_eq!(notices.len(), 20);
}

/// The owner of a host changes, and the new one knows the version that the old one saw.
#[test]
fn a_server_of_another_version_raises_a_notice_whoever_owns_it() {
    let mut cluster = started(cluster(""));
    let host = address("10.0.0.1");
    let notices = |cluster: &Cluster| -> Vec<String> {
        let log = cluster.log_of::<NoticeRecord>("notice");
        log.into_iter().map(|notice| notice.msg).collect()
    };
    to_owner(&mut cluster, host, &software(host, None, "OpenSSH_8.9p1"));
    settle(&mut cluster);
    assert_eq!(notices(&cluster), [""; 0]);
    let owner = cluster.owner(&PoolName::proxy(), host);
    cluster.kill(&owner);
    cluster.run_for(Duration::from_secs(2));
    to_owner(&mut cluster, host, &software(host, None, "OpenSSH_8.9p1"));
    settle(&mut cluster);
    assert_eq!(notices(&cluster), [""; 0]);
    to_owner(&mut cluster, host, &software(host, None, "OpenSSH_9.6"));
    settle(&mut cluster);
    let expected =
        "SSH::SERVER 'OpenSSH' version changed from OpenSSH_8.9p1 to OpenSSH_9.6 on 10.0.0.1";
    assert_eq!(notices(&cluster), [expected]);
}

/// Nobody handles the events of Muster's own detection there: they are counted as lost, and hold nothing back.
#[test]
fn data_nodes_that_are_all_zeek_processes_hold_no_worker_up() {
    let rows = (0..40).map(|n| {
        let row = connection(n);
        Connection {
            orig_h: row.resp_h,
            resp_h: row.orig_h,
            established: Some(false),
            log: "conn".to_owned(),
            ..row
        }
    });
    let mut cluster = cluster("")
        .zeek("data-1")
        .zeek("data-2")
        .feed("worker", rows);
    cluster.start();
    cluster.run_until_idle();
    cluster.run_for(Duration::from_secs(30));
    let worker = cluster.node("worker");
    assert_eq!(worker.open_keyed_events(), 0);
    let lost = worker.counts().keyed_unowned;
    assert!(lost > 0 && lost >= cluster.count("not_sent"), "{lost}");
}
