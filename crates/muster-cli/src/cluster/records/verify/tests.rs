use super::*;

fn report(counts: &[(&str, u64)]) -> NodeStatus {
    let counts = counts.iter();
    NodeStatus {
        id: "life".to_owned(),
        counts: counts
            .map(|(key, value)| ((*key).to_owned(), *value))
            .collect(),
        ..NodeStatus::default()
    }
}

fn node(name: &str, role: &str, uptime: f64, counts: &[(&str, u64)]) -> ProcessStatus {
    ProcessStatus {
        node: name.to_owned(),
        role: role.to_owned(),
        process: "running".to_owned(),
        uptime_seconds: Some(uptime),
        report: Some(report(counts)),
        ..ProcessStatus::default()
    }
}

/// A worker with so many records that were acknowledged, as old as its logger.
fn status(acknowledged: u64) -> ClusterStatus {
    let counts = [
        ("records_logged", acknowledged + 4),
        ("records_acknowledged", acknowledged),
        ("records_dropped", 3),
        ("records_invalid", 1),
    ];
    ClusterStatus {
        nodes: vec![
            node("logger-1", "logger", 100.0, &[]),
            node("worker-1", "worker", 100.2, &counts),
        ],
        ..ClusterStatus::default()
    }
}

/// A logger that has written so many, with so many in its files.
fn logger(written: u64, in_files: u64) -> LoggerFiles {
    let files = StreamFiles {
        current: in_files,
        ..StreamFiles::default()
    };
    LoggerFiles {
        node: "logger-1".to_owned(),
        written,
        written_after: written,
        streams: [("conn".to_owned(), files)].into(),
        ..LoggerFiles::default()
    }
}

fn of(status: &ClusterStatus, loggers: Vec<LoggerFiles>) -> (Verdict, u64, u64, Option<u64>) {
    let it = Verified::new(status, loggers);
    (it.verdict, it.missing, it.too_many, it.acknowledged_missing)
}

#[test]
fn what_was_written_and_is_not_in_the_files_is_missing() {
    let all = of(&status(10), vec![logger(10, 10)]);
    assert_eq!(all, (Verdict::Complete, 0, 0, Some(0)));
    let less = of(&status(8), vec![logger(10, 7)]);
    assert_eq!(less, (Verdict::Missing, 3, 0, Some(1)));
    let more = of(&status(8), vec![logger(10, 12)]);
    assert_eq!(more, (Verdict::Complete, 0, 2, Some(0)));
    // What counts at another logger may be gone, or not yet.
    for in_files in 6..=10 {
        let struck = LoggerFiles {
            struck: 4,
            ..logger(10, in_files)
        };
        assert_eq!(of(&status(6), vec![struck]).0, Verdict::Complete);
    }
    // What is written while it is counted is neither missing nor too much.
    for in_files in 10..=15 {
        let writing = LoggerFiles {
            written_after: 15,
            ..logger(10, in_files)
        };
        let it = of(&status(10), vec![writing]);
        assert_eq!(it, (Verdict::Complete, 0, 0, Some(0)));
    }
    let damaged = LoggerFiles {
        unreadable: 1,
        ..logger(10, 10)
    };
    assert_eq!(of(&status(10), vec![damaged]).0, Verdict::Missing);
    // One logger has too much and another too little: that does not make up for it.
    let other = LoggerFiles {
        node: "logger-2".to_owned(),
        ..logger(10, 12)
    };
    let it = of(&status(18), vec![logger(10, 8), other]);
    assert_eq!((it.0, it.1, it.2), (Verdict::Missing, 2, 2));
}

/// An acknowledged record may be missing that no logger says that it has written.
#[test]
fn what_was_acknowledged_is_in_the_files_of_loggers_that_are_as_old() {
    let it = of(&status(12), vec![logger(10, 10)]);
    assert_eq!(it, (Verdict::Missing, 0, 0, Some(2)));
    // A former life of the logger may have it.
    let mut older = status(12);
    older.nodes[1].uptime_seconds = Some(101.0);
    let it = of(&older, vec![logger(10, 10)]);
    assert_eq!(it, (Verdict::Complete, 0, 0, None));
}

#[test]
fn what_cannot_be_told_is_not_said_to_be_complete() {
    let silent = LoggerFiles {
        unknown: Some("it does not answer".to_owned()),
        ..logger(10, 0)
    };
    let it = of(&status(12), vec![silent, logger(3, 3)]);
    assert_eq!(it, (Verdict::Unknown, 0, 0, None));
    assert_eq!(of(&status(0), Vec::new()).0, Verdict::Unknown);
    let removed = LoggerFiles {
        removed_files: 3,
        ..logger(10, 5)
    };
    let it = Verified::new(&status(10), vec![removed.clone()]);
    assert_eq!(it.verdict, Verdict::Unknown);
    assert!(
        it.unknown[0].contains("removed 3 files"),
        "{:?}",
        it.unknown
    );
    let all = LoggerFiles {
        written: 5,
        written_after: 5,
        ..removed
    };
    assert_eq!(of(&status(10), vec![all]).0, Verdict::Complete);
}

#[test]
fn a_person_can_read_it() {
    let mut files = logger(10, 7);
    files.earlier_files = 2;
    files.problems = vec!["conn.log: 3 rows cannot be read".to_owned()];
    let text = Verified::new(&status(8), vec![files]).text();
    let expected = "\
logger    written  struck  in files  missing  too many
logger-1  10       0       7         3        0

stream  current  rotated  archived  unsettled
conn    7        0        0         0

node      logged  found  acknowledged  unacknowledged  open  spooled  lost
worker-1  12      0      8             0               0     0        4

conn.log: 3 rows cannot be read
logger-1: 2 files of former lives were not counted
1 acknowledged records are not in the files
3 records are missing that loggers have written since they began
";
    assert_eq!(text, expected);
}
