//! Merging, sharing, pacing and stopping, with simulated time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_cluster::Watermarks;
use muster_data::{DataRef, Limits, Record, Timestamp};
use muster_wire::Mono;
use muster_wire::zeek::EventRef;
use proptest::prelude::*;

use super::*;
use crate::zeek_log::Connection;

/// A connection in a test's log: seconds, originator's and responder's host and port.
type Row = (i64, (u8, u16), (u8, u16));

fn write_log(directory: &Path, name: &str, rows: &[Row]) -> PathBuf {
    let mut text = "#separator \\x09\n#path\tconn\n\
        #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n"
        .to_owned();
    for (at, (ts, (host, port), (peer, peer_port))) in rows.iter().enumerate() {
        writeln!(
            text,
            "{ts}.000000\t{name}-{at}\t10.0.0.{host}\t{port}\t10.0.0.{peer}\t{peer_port}\ttcp"
        )
        .unwrap();
    }
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn at(ts: i64) -> Row {
    (ts, (1, 1000), (2, 80))
}

fn config(files: Vec<PathBuf>, share: Share, speed: f64) -> LogInputConfig {
    LogInputConfig {
        files,
        share,
        speed,
    }
}

fn connections(batch: &InputBatch) -> Vec<Connection> {
    let read = |bytes| {
        let event = EventRef::read(DataRef::parse(bytes, &Limits::default()).unwrap()).unwrap();
        assert_eq!(event.name(), Connection::NAME);
        let connection: Connection = event.arguments().to().unwrap();
        assert_eq!(event.timestamp(), Some(connection.ts));
        connection
    };
    batch.events().map(read).collect()
}

/// What an input hands over: when, its events and its watermark.
fn run(config: &LogInputConfig) -> (Vec<(Mono, Vec<Connection>, Timestamp)>, InputSummary) {
    let clock = SimulatedClock::new();
    let mut batches = Vec::new();
    let input = LogInput::new(config).unwrap();
    let summary = input.run(&clock, &AtomicBool::new(false), |batch| {
        batches.push((clock.now(), connections(&batch), batch.low));
        ControlFlow::Continue(())
    });
    (batches, summary)
}

fn seconds(ts: Timestamp) -> i64 {
    ts.as_nanos() / 1_000_000_000
}

#[test]
fn files_are_merged_in_time_order() {
    let directory = tempfile::tempdir().unwrap();
    // The first file runs backwards, the last one starts late.
    let files = vec![
        write_log(directory.path(), "a", &[at(10), at(30), at(20), at(40)]),
        write_log(directory.path(), "b", &[at(15), at(25), at(26)]),
        write_log(directory.path(), "c", &[at(35)]),
        write_log(directory.path(), "d", &[]),
    ];
    let (batches, summary) = run(&config(files, Share::WHOLE, 0.0));
    let times: Vec<i64> = batches
        .iter()
        .flat_map(|(_, connections, _)| connections)
        .map(|connection| seconds(connection.ts))
        .collect();
    assert_eq!(times, [10, 15, 25, 26, 30, 20, 35, 40]);
    assert_eq!(batches.last().unwrap().2, Watermarks::END);
    assert_eq!((summary.rows, summary.events), (8, 8));
    assert_eq!(summary.problems, Vec::<String>::new());
}

#[test]
fn the_watermark_is_what_the_slowest_open_file_has_reached() {
    let directory = tempfile::tempdir().unwrap();
    let files = vec![
        write_log(directory.path(), "a", &[at(0), at(50), at(20), at(100)]),
        write_log(directory.path(), "b", &[at(10), at(70), at(71)]),
    ];
    // Once per second of the log a batch, as simulated time passes.
    let (batches, _) = run(&config(files, Share::WHOLE, 1.0));
    let told: Vec<(Vec<i64>, i64)> = batches
        .iter()
        .map(|(_, connections, low)| {
            let times = connections.iter().map(|one| seconds(one.ts)).collect();
            (times, seconds(*low))
        })
        .collect();
    let end = seconds(Watermarks::END);
    let expected = [
        (vec![0], 10),
        (vec![10], 50),
        // The row of 20 comes late, right behind that of 50.
        (vec![50, 20], 70),
        (vec![70], 71),
        // The second file has ended and holds nothing back.
        (vec![71], 100),
        (vec![100], end),
    ];
    assert_eq!(told, expected);
}

#[test]
fn rows_are_released_when_their_time_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let rows = [at(1000), at(1010), at(1005), at(1100)];
    let files = vec![write_log(directory.path(), "a", &rows)];
    let (batches, _) = run(&config(files.clone(), Share::WHOLE, 10.0));
    let released: Vec<(Duration, usize)> = batches
        .iter()
        .map(|(when, connections, _)| (when.since(Mono::default()), connections.len()))
        .collect();
    let millis = Duration::from_millis;
    // Each up to 20 ms behind its time: 0, 1, 1 (the latest time counts) and 10 seconds; nothing
    // follows the last one, which therefore does not wait.
    let expected = [(millis(20), 1), (millis(1020), 2), (millis(10_000), 1)];
    assert_eq!(released, expected);

    // The first row of another share starts the clock all the same.
    let mut other = vec![(900, (1, 1), (2, 2)); 1];
    let mine = (0..100)
        .map(|port| (1000, (1, port), (2, 80)))
        .find(|row| shares_of(directory.path(), row) != shares_of(directory.path(), &other[0]))
        .unwrap();
    other.push(mine);
    let index = u32::from(shares_of(directory.path(), &mine));
    let files = vec![write_log(directory.path(), "b", &other)];
    let (batches, summary) = run(&config(files, Share::new(index, 2).unwrap(), 10.0));
    assert_eq!((summary.events, summary.other_share), (1, 1));
    let with_event = batches.iter().find(|batch| !batch.1.is_empty()).unwrap();
    assert_eq!(with_event.0.since(Mono::default()), millis(10_000));
}

/// Which of two shares a row belongs to.
fn shares_of(directory: &Path, row: &Row) -> bool {
    let file = write_log(directory, "share", &[*row]);
    let (_, summary) = run(&config(vec![file], Share::new(1, 2).unwrap(), 0.0));
    summary.events == 1
}

#[test]
fn batches_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let rows: Vec<Row> = (0..3000).map(at).collect();
    let files = vec![write_log(directory.path(), "a", &rows)];
    for speed in [0.0, 1e9] {
        let (batches, _) = run(&config(files.clone(), Share::WHOLE, speed));
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.1.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 3000);
        assert!(sizes.iter().all(|size| *size <= MOST_EVENTS));
        assert!(sizes.len() <= 12, "{sizes:?}");
    }
}

#[test]
fn a_stop_is_heeded_within_the_longest_wait() {
    struct Stopping<'a> {
        clock: SimulatedClock,
        stop: &'a AtomicBool,
        slept: RefCell<Duration>,
    }

    impl Clock for Stopping<'_> {
        fn now(&self) -> Mono {
            self.clock.now()
        }

        fn sleep(&self, span: Duration) {
            assert!(span <= LONGEST_WAIT);
            self.clock.sleep(span);
            *self.slept.borrow_mut() += span;
            if self.clock.now() >= Mono::default().after(Duration::from_secs(3)) {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let files = vec![write_log(directory.path(), "a", &[at(0), at(3600)])];
    let stop = AtomicBool::new(false);
    let clock = Stopping {
        clock: SimulatedClock::new(),
        stop: &stop,
        slept: RefCell::default(),
    };
    let input = LogInput::new(&config(files.clone(), Share::WHOLE, 1.0)).unwrap();
    let summary = input.run(&clock, &stop, |_| ControlFlow::Continue(()));
    assert_eq!(summary.events, 1);
    assert!(*clock.slept.borrow() <= Duration::from_secs(3) + LONGEST_WAIT);

    // A sink that has enough ends it as well.
    let input = LogInput::new(&config(files, Share::WHOLE, 1.0)).unwrap();
    let clock = SimulatedClock::new();
    let summary = input.run(&clock, &AtomicBool::new(false), |_| ControlFlow::Break(()));
    assert_eq!(summary.events, 1);
}

#[test]
fn problems_are_counted_and_the_first_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let good = write_log(directory.path(), "good", &[at(1), at(2)]);
    let path = |name: &str| directory.path().join(name);
    let header = "#separator \\x09\n#path\tx\n#fields\tts\tuid\n";
    let skipped = "1.0\tC\n".repeat(3);
    std::fs::write(
        path("bad"),
        format!("{header}{skipped}{}", "1\n".repeat(100)),
    )
    .unwrap();
    std::fs::write(path("torn"), format!("{header}1.0")).unwrap();
    std::fs::write(path("text"), "hello").unwrap();
    let files = vec![good, path("bad"), path("torn"), path("text")];
    let (_, summary) = run(&config(files, Share::WHOLE, 0.0));
    assert_eq!((summary.events, summary.skipped), (2, 3));
    assert_eq!((summary.bad_rows, summary.failed_files), (100, 2));
    assert_eq!(summary.rows, 105);
    assert_eq!(summary.problems.len(), 7);

    let absent = LogInput::new(&config(vec![path("absent")], Share::WHOLE, 0.0)).unwrap_err();
    assert!(matches!(absent, InputError::File(_)));
    for speed in [-1.0, f64::NAN, f64::INFINITY] {
        let error = LogInput::new(&config(vec![], Share::WHOLE, speed)).unwrap_err();
        assert!(matches!(error, InputError::Speed(_)));
    }
    let (batches, summary) = run(&config(vec![], Share::WHOLE, 1.0));
    assert_eq!((batches.len(), summary), (1, InputSummary::default()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_union_of_all_shares_is_all_rows(
        rows in prop::collection::vec((0_i64..50, (0_u8..4, 0_u16..9), (0_u8..4, 0_u16..9)), 0..60)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = rows.split_at(rows.len() / 2);
        let files = vec![
            write_log(directory.path(), "a", first),
            write_log(directory.path(), "b", second),
        ];
        for of in 1..=5 {
            let mut uids = Vec::new();
            let mut owner = BTreeMap::new();
            for index in 0..of {
                let share = Share::new(index, of).unwrap();
                let (batches, summary) = run(&config(files.clone(), share, 0.0));
                prop_assert_eq!(summary.rows, rows.len() as u64);
                for connection in batches.into_iter().flat_map(|batch| batch.1) {
                    let one = (connection.orig_h, connection.orig_p);
                    let other = (connection.resp_h, connection.resp_p);
                    let before = owner.insert((one.min(other), one.max(other)), index);
                    prop_assert!(before.is_none_or(|before| before == index));
                    uids.push(connection.uid);
                }
            }
            uids.sort();
            let mut expected: Vec<String> = (0..first.len()).map(|n| format!("a-{n}")).collect();
            expected.extend((0..second.len()).map(|n| format!("b-{n}")));
            expected.sort();
            prop_assert_eq!(uids, expected);
        }
    }
}
