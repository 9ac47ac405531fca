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

mod following;

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
        follow: None,
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
    // What has failed says more than that nothing was found in it.
    assert_eq!(summary.warnings.len(), 1);
    assert!(summary.warnings[0].contains("bad: none of 3 rows is about a connection"));
    assert!(
        summary.warnings[0].ends_with("it has ts, uid"),
        "{:?}",
        summary.warnings
    );

    std::fs::write(path("json"), "{\"ts\":1,\"peer\":\"x\"}\n{\"ts\":2}\n").unwrap();
    let (_, summary) = run(&config(vec![path("json")], Share::WHOLE, 0.0));
    assert!(summary.warnings[0].ends_with("none of 2 rows is about a connection (`id.orig_h`, `id.orig_p`, `id.resp_h`, `id.resp_p`); it has ts, peer"));

    for speed in [-1.0, f64::NAN, f64::INFINITY] {
        let error = LogInput::new(&config(vec![], Share::WHOLE, speed)).unwrap_err();
        assert!(matches!(error, InputError::Speed(_)));
    }
    let (batches, summary) = run(&config(vec![], Share::WHOLE, 1.0));
    assert_eq!((batches.len(), summary), (1, InputSummary::default()));
}

/// A row at any second, as a line.
fn line(ts: i64, uid: &str) -> String {
    format!("{ts}.000000\t{uid}\t10.0.0.1\t1000\t10.0.0.2\t80\ttcp\n")
}

const HEADER: &str = "#separator \\x09\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n";

#[test]
fn a_wrong_time_neither_paces_nor_moves_a_watermark() {
    const NOW: i64 = 1_521_911_720;
    const FUTURE: i64 = 4_102_444_800;
    let directory = tempfile::tempdir().unwrap();
    let good = write_log(
        directory.path(),
        "good",
        &[at(NOW), at(NOW + 60), at(NOW + 120)],
    );
    for wrong in [0, -1, FUTURE] {
        for place in 0..4 {
            let mut times = vec![NOW + 1, NOW + 61, NOW + 90];
            times.insert(place, wrong);
            let rows: Vec<Row> = times.into_iter().map(at).collect();
            let files = vec![write_log(directory.path(), "wrong", &rows), good.clone()];
            let (batches, summary) = run(&config(files, Share::WHOLE, 60.0));
            assert_eq!(
                (summary.events, summary.out_of_line),
                (7, 1),
                "{wrong} at {place}"
            );
            let last = batches.last().unwrap().0.since(Mono::default());
            assert_eq!(last, Duration::from_secs(2), "{wrong} at {place}");
            for (_, _, low) in &batches {
                let low = seconds(*low);
                let is_end = low == seconds(Watermarks::END);
                assert!(is_end || low <= NOW + 120, "{wrong} at {place}: {low}");
            }
            // It comes among its neighbours.
            let order: Vec<i64> = batches
                .iter()
                .flat_map(|(_, connections, _)| connections)
                .map(|connection| seconds(connection.ts))
                .collect();
            let mut rest = order.clone();
            rest.retain(|ts| *ts != wrong);
            assert_eq!(
                rest,
                [NOW, NOW + 1, NOW + 60, NOW + 61, NOW + 90, NOW + 120]
            );
        }
    }
    // Gaps are passed over, whatever they are.
    let gap = [
        at(NOW),
        at(NOW + 60),
        at(NOW + 86_400 * 90),
        at(NOW + 86_400 * 90 + 60),
    ];
    let files = vec![write_log(directory.path(), "gap", &gap)];
    let (batches, summary) = run(&config(files, Share::WHOLE, 60.0));
    assert_eq!((summary.events, summary.out_of_line), (4, 0));
    assert_eq!(
        batches.last().unwrap().0.since(Mono::default()),
        Duration::from_secs(2)
    );
}

#[test]
fn what_cannot_be_read_costs_only_itself() {
    let directory = tempfile::tempdir().unwrap();
    let good = write_log(directory.path(), "good", &[at(1), at(2)]);
    let path = |name: &str| directory.path().join(name);
    let files = vec![
        path("absent"),
        good,
        path("*.gz"),
        path("no/*"),
        path("good/*"),
    ];
    let mut notes = Vec::new();
    let input = LogInput::new(&config(files, Share::WHOLE, 0.0)).unwrap();
    let summary = input.run(&SimulatedClock::new(), &AtomicBool::new(false), |batch| {
        notes.extend(batch.notes.clone());
        ControlFlow::Continue(())
    });
    assert_eq!((summary.events, summary.failed_files), (2, 1));
    assert_eq!((summary.problems.len(), summary.warnings.len()), (2, 3));
    assert_eq!(notes.len(), 5);
    let told = |text: &str| {
        notes.iter().any(|note| match note {
            InputNote::Problem(note) | InputNote::Warning(note) => note.contains(text),
        })
    };
    assert!(
        told("absent: ") && told("cannot search") && told("*.gz`: nothing is read"),
        "{notes:?}"
    );
}

#[test]
fn files_are_opened_as_they_are_due() {
    let directory = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    // One after the other, two at a time, and one over all.
    let mut paths = vec![write_log(
        directory.path(),
        "all",
        &[at(0), at(45), at(200)],
    )];
    for n in 0..10 {
        let rows = [at(n * 10), at(n * 10 + 5), at(n * 10 + 12)];
        paths.push(write_log(directory.path(), &n.to_string(), &rows));
    }
    std::fs::write(
        directory.path().join("other"),
        "#separator \\x09\n#fields\tts\n1.0\nx\ty\n",
    )
    .unwrap();
    paths.push(directory.path().join("other"));
    for most in [3, 5, 100] {
        let mut merge = merge::Merge::new(Share::WHOLE, false).with_most_open(most);
        assert!(merge.start(paths.clone(), &stop).is_continue());
        let (mut times, mut lows) = (Vec::new(), Vec::new());
        while let ControlFlow::Continue(Some(ts)) = merge.next_time(&stop) {
            assert!(merge.open() <= most);
            times.push(seconds(ts));
            lows.push(merge.low());
            assert!(merge.pass(&stop, |_| {}).is_continue());
        }
        assert!(merge.has_ended());
        assert_eq!(times.len(), 33, "{most}");
        assert!(times.is_sorted() && lows.is_sorted(), "{most} {times:?}");
        let summary = merge.tally.summary();
        assert_eq!(
            (summary.events, summary.skipped, summary.bad_rows),
            (33, 1, 1)
        );
        assert_eq!((summary.problems.len(), summary.warnings.len()), (1, 1));
    }
    // Fewer than overlap: all rows come, and the watermark waits for them.
    let mut merge = merge::Merge::new(Share::WHOLE, false).with_most_open(1);
    assert!(merge.start(paths, &stop).is_continue());
    let mut rows = 0;
    while let ControlFlow::Continue(Some(_)) = merge.next_time(&stop) {
        assert!(rows >= 3 || seconds(merge.low()) <= 0, "{rows}");
        assert!(merge.pass(&stop, |_| {}).is_continue());
        rows += 1;
    }
    assert_eq!((rows, merge.has_ended()), (33, true));
}

/// Time that passes while the input sleeps; whenever it has had nothing for a while, the next thing happens.
struct Scripted<'a> {
    clock: SimulatedClock,
    steps: RefCell<std::collections::VecDeque<Box<dyn FnOnce() + 'a>>>,
    sleeps: RefCell<u32>,
    stop: &'a AtomicBool,
}

impl<'a> Scripted<'a> {
    fn new(stop: &'a AtomicBool, steps: Vec<Box<dyn FnOnce() + 'a>>) -> Self {
        Self {
            clock: SimulatedClock::new(),
            steps: RefCell::new(steps.into()),
            sleeps: RefCell::default(),
            stop,
        }
    }
}

impl Clock for Scripted<'_> {
    fn now(&self) -> Mono {
        self.clock.now()
    }

    fn sleep(&self, span: Duration) {
        self.clock.sleep(span);
        *self.sleeps.borrow_mut() += 1;
        // Eight seconds: everything that is due has happened.
        if self.sleeps.borrow().is_multiple_of(400) {
            let step = self.steps.borrow_mut().pop_front();
            match step {
                Some(step) => step(),
                None => self.stop.store(true, Ordering::Relaxed),
            }
        }
    }
}

/// The connections' uids that an input brings which follows its files while things happen, and its summary.
fn follow<'a>(
    pattern: PathBuf,
    positions: &Path,
    steps: Vec<Box<dyn FnOnce() + 'a>>,
) -> (Vec<String>, InputSummary, Timestamp) {
    let stop = AtomicBool::new(false);
    let clock = Scripted::new(&stop, steps);
    let config = LogInputConfig {
        follow: Some(positions.to_owned()),
        ..config(vec![pattern], Share::WHOLE, 0.0)
    };
    let (mut uids, mut low) = (Vec::new(), Timestamp::from_nanos(i64::MIN));
    let input = LogInput::new(&config).unwrap();
    let summary = input.run(&clock, &stop, |batch| {
        uids.extend(connections(&batch).into_iter().map(|one| one.uid));
        low = batch.low;
        ControlFlow::Continue(())
    });
    (uids, summary, low)
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_growing_log_is_read_through_all_that_becomes_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let positions = path("positions.json");
    let log = path("conn.log");
    let steps: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(|| append(&log, HEADER)),
        Box::new(|| append(&log, &line(1, "a"))),
        // Half a row is none yet.
        Box::new(|| append(&log, "2.000000\tb\t10.0.0.1")),
        Box::new(|| append(&log, "\t1000\t10.0.0.2\t80\ttcp\n")),
        // Rotated; its writer is not done with it.
        Box::new(|| {
            std::fs::rename(&log, path("conn.1.log")).unwrap();
            append(&path("conn.1.log"), &line(3, "c"));
            append(&log, &format!("{HEADER}{}", line(4, "d")));
        }),
        Box::new(|| append(&log, &line(5, "e"))),
        // Rotated by copying.
        Box::new(|| {
            std::fs::copy(&log, path("conn.2.log")).unwrap();
            std::fs::write(&log, HEADER).unwrap();
        }),
        Box::new(|| append(&log, &line(6, "f"))),
        // Removed, and made anew later.
        Box::new(|| std::fs::remove_file(&log).unwrap()),
        Box::new(|| append(&log, &format!("{HEADER}{}", line(7, "g")))),
        Box::new(|| {}),
    ];
    let (uids, summary, low) = follow(log.clone(), &positions, steps);
    assert_eq!(uids, ["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!(
        (summary.bad_rows, summary.failed_files),
        (0, 0),
        "{summary:?}"
    );
    let told = |text: &str| {
        summary
            .warnings
            .iter()
            .any(|warning| warning.contains(text))
    };
    assert!(
        told("no file matches") && told("has begun anew"),
        "{summary:?}"
    );
    assert_eq!(seconds(low), 7);

    // Another life goes on where this one was, with what came meanwhile.
    append(&log, &line(8, "h"));
    let (uids, ..) = follow(
        log.clone(),
        &positions,
        vec![Box::new(|| append(&log, &line(9, "i")))],
    );
    assert_eq!(uids, ["h", "i"]);
    // Also where the log was rotated meanwhile.
    append(&log, &line(10, "j"));
    std::fs::rename(&log, path("conn.3.log")).unwrap();
    append(&log, &format!("{HEADER}{}", line(11, "k")));
    let (uids, summary, _) = follow(log.clone(), &positions, vec![]);
    assert_eq!(uids, ["j", "k"]);
    assert!(summary.warnings.is_empty(), "{summary:?}");
    // What is gone is told, and what has become shorter is another file.
    std::fs::write(&log, format!("{HEADER}{}", line(12, "l"))).unwrap();
    append(&log, &line(13, "m"));
    assert!(follow(log.clone(), &positions, vec![]).0.len() <= 2);
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(path("new")).unwrap();
    std::fs::rename(path("conn.3.log"), path("new/x")).unwrap();
    let (uids, summary, _) = follow(log.clone(), &positions, vec![]);
    assert_eq!(uids, [""; 0]);
    assert!(
        summary
            .warnings
            .iter()
            .any(|warning| warning.contains("is gone")),
        "{summary:?}"
    );
    // A file of positions that is damaged is told, and all is read.
    append(&log, &format!("{HEADER}{}", line(14, "n")));
    std::fs::write(&positions, "{").unwrap();
    let (uids, summary, _) = follow(log.clone(), &positions, vec![]);
    assert_eq!((uids.len(), summary.problems.len()), (1, 1));
}

#[test]
fn many_logs_are_followed_in_every_form() {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let positions = path("positions");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(format!("{HEADER}{}{}", line(1, "a"), line(2, "b")).as_bytes())
        .unwrap();
    std::fs::write(path("conn.1.log.gz"), gzip.finish().unwrap()).unwrap();
    append(&path("conn.log"), &format!("{HEADER}{}", line(3, "c")));
    append(
        &path("json.log"),
        "{\"_path\":\"conn\",\"uid\":\"d\",\"ts\":4,\"id.orig_h\":\"::1\",\"id.orig_p\":1,\"id.resp_h\":\"::2\",\"id.resp_p\":2}\n",
    );
    append(&path("text.log"), "no log\n");
    let pattern = path("*.log*");
    let (mut uids, summary, _) = follow(pattern.clone(), &positions, vec![]);
    uids.sort();
    assert_eq!(uids, ["a", "b", "c", "d"]);
    assert_eq!(summary.failed_files, 1);
    // Under a new name that is a log's as well it stays the same file.
    std::fs::rename(path("conn.log"), path("conn.2.log")).unwrap();
    let steps: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(|| append(&path("conn.2.log"), &line(5, "e"))),
        Box::new(|| append(&path("conn.log"), &format!("{HEADER}{}", line(6, "f")))),
        Box::new(|| std::fs::rename(path("conn.log"), path("conn.3.log")).unwrap()),
        Box::new(|| append(&path("conn.3.log"), &line(7, "g"))),
    ];
    let (uids, ..) = follow(pattern, &positions, steps);
    assert_eq!(uids, ["e", "f", "g"]);
}

/// Of archives whose windows do not fit into memory together, some are told, and the others are read.
#[test]
fn memory_for_decompression_is_bounded_over_all_files() {
    use std::io::Write as _;
    let directory = tempfile::tempdir().unwrap();
    let archive = |name: &str, window: u32, row: i64| {
        let path = directory.path().join(name);
        let mut zstd = zstd::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap();
        zstd.window_log(window).unwrap();
        zstd.long_distance_matching(true).unwrap();
        let rows: String = (0..3).map(|n| line(row + 3 * n, name)).collect();
        zstd.write_all(format!("{HEADER}{rows}").as_bytes())
            .unwrap();
        zstd.finish().unwrap();
        path
    };
    let files = vec![
        archive("a", 24, 1),
        archive("b", 24, 2),
        archive("c", 24, 3),
        archive("d", 30, 0),
    ];
    let windows = crate::zeek_log::Windows::of(36 << 20);
    let mut merge = merge::Merge::new(Share::WHOLE, false).with_windows(windows);
    let stop = AtomicBool::new(false);
    assert!(merge.start(files, &stop).is_continue());
    let mut rows = 0;
    while let ControlFlow::Continue(Some(_)) = merge.next_time(&stop) {
        assert!(merge.pass(&stop, |_| rows += 1).is_continue());
    }
    let summary = merge.tally.summary();
    assert_eq!((rows, summary.failed_files), (6, 2), "{summary:?}");
    for (problem, name, text) in [(0, "c", "of the 36 MiB"), (1, "d", "window of 1024 MiB")] {
        let problem = &summary.problems[problem];
        let path = directory.path().join(name).display().to_string();
        assert!(
            problem.starts_with(&path) && problem.contains(text),
            "{problem}"
        );
        assert!(problem.contains("zstd --long"), "{problem}");
    }
}

#[test]
fn what_the_sink_did_not_take_comes_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("conn.log");
    let rows: String = (0..2000).map(|n| line(n, &n.to_string())).collect();
    append(&log, &format!("{HEADER}{rows}"));
    let config = LogInputConfig {
        follow: Some(directory.path().join("positions")),
        ..config(vec![log], Share::WHOLE, 0.0)
    };
    let mut taken = Vec::new();
    for _ in 0..10 {
        let stop = AtomicBool::new(false);
        let clock = Scripted::new(&stop, vec![]);
        let mut is_first = true;
        LogInput::new(&config).unwrap().run(&clock, &stop, |batch| {
            if !std::mem::take(&mut is_first) {
                return ControlFlow::Break(());
            }
            taken.extend(connections(&batch).into_iter().map(|one| one.uid));
            ControlFlow::Continue(())
        });
    }
    let expected: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    assert_eq!(taken, expected);
}

#[test]
fn a_pipe_is_read_as_it_is_written() {
    use std::io::Write as _;
    use std::sync::mpsc::sync_channel;
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("conn.log");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    let file = write_log(directory.path(), "file", &[at(5), at(50)]);
    let (sender, receiver) = sync_channel(64);
    let input = LogInput::new(&config(vec![pipe.clone(), file], Share::WHOLE, 0.0)).unwrap();
    let reader = std::thread::spawn(move || {
        input.run(&MonotonicClock::new(), &AtomicBool::new(false), |batch| {
            for connection in connections(&batch) {
                sender.send(connection.uid).unwrap();
            }
            ControlFlow::Continue(())
        })
    });
    // What is in the file does not wait for a writer.
    assert_eq!(receiver.recv().unwrap(), "file-0");
    assert_eq!(receiver.recv().unwrap(), "file-1");
    let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(HEADER.as_bytes()).unwrap();
    for n in 0..3 {
        // Each row is there before the next is written.
        writer
            .write_all(line(10 + n, &n.to_string()).as_bytes())
            .unwrap();
        assert_eq!(receiver.recv().unwrap(), n.to_string());
    }
    drop(writer);
    let summary = reader.join().unwrap();
    assert_eq!((summary.events, summary.problems.len()), (5, 0));
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
