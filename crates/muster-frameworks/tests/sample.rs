//! The logs that come with the program: every row is read, and every row tells of a connection.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use muster_frameworks::log_input::MonotonicClock;
use muster_frameworks::zeek_log::ConnectionReader;
use muster_frameworks::{LogInput, LogInputConfig, Share, sample};

const ROWS: [(&str, usize); 9] = [
    ("dns", 53615),
    ("ftp", 93),
    ("ntlm", 422),
    ("ntp", 904),
    ("rdp", 4122),
    ("smtp", 1188),
    ("ssh", 22),
    ("ssl", 49474),
    ("syslog", 2378),
];

#[test]
fn every_row_of_the_sample_is_a_connection() {
    assert!(sample::README.contains("CC BY-SA 4.0"));
    let size: usize = sample::FILES.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(size < 3 << 20);
    for ((name, bytes), (log, rows)) in sample::FILES.iter().zip(ROWS) {
        let mut reader = ConnectionReader::new(name, Cursor::new(*bytes)).unwrap();
        let mut found = 0;
        while let Some(connection) = reader.next_connection().unwrap() {
            let connection = connection.expect("a connection");
            assert_eq!(
                (&*connection.log, connection.service.as_deref()),
                (log, Some(log))
            );
            assert!(connection.uid.starts_with('C'));
            found += 1;
        }
        assert_eq!((found, log), (rows, log));
    }
}

#[test]
fn shares_of_the_sample_add_up() {
    let pattern = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample/*.gz");
    let mut total = 0;
    for index in 0..3 {
        let config = LogInputConfig {
            files: vec![pattern.clone()],
            share: Share::new(index, 3).unwrap(),
            speed: 0.0,
            follow: None,
        };
        let input = LogInput::new(&config).unwrap();
        let mut handed_over = 0;
        let mut low = None;
        let summary = input.run(&MonotonicClock::new(), &AtomicBool::new(false), |batch| {
            handed_over += batch.len();
            assert!(low <= Some(batch.low));
            low = Some(batch.low);
            ControlFlow::Continue(())
        });
        assert_eq!(summary.rows, 112_218);
        assert_eq!(handed_over as u64, summary.events);
        assert_eq!(
            (summary.bad_rows, summary.failed_files, summary.skipped),
            (0, 0, 0)
        );
        assert!(summary.events > 30_000, "{summary:?}");
        total += summary.events;
    }
    assert_eq!(total, 112_218);
}

#[test]
fn connection_logs_of_zeek_9() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let read = |name: &str| {
        let mut reader = ConnectionReader::open(&directory.join(name)).unwrap();
        let mut connections = Vec::new();
        while let Some(connection) = reader.next_connection().unwrap() {
            connections.push(connection.unwrap().into_owned());
        }
        connections
    };
    let nmap = read("nmap-vsn.conn.log");
    assert_eq!(nmap[0].established, Some(false));
    assert_eq!(nmap[0].conn_state.as_deref(), Some("S0"));
    let wikipedia = read("wikipedia.conn.log");
    assert_eq!(wikipedia[0].service.as_deref(), Some("dns"));
    assert_eq!(wikipedia[0].resp_p.to_string(), "5353/udp");
    assert_eq!(wikipedia[1].orig_h.to_string(), "fe80::217:f2ff:fed7:cf65");
    assert_eq!(wikipedia[3].established, Some(true));
    assert!(read("echo-connections.conn.log").len() > 100);
}
