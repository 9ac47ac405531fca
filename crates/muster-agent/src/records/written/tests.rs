#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

const HEADER: &str = "#separator \\x09\n#fields\tts\tnote\n#types\ttime\tstring\n";

/// 2018-03-24, 17:00:00.
const SINCE: f64 = 1_521_910_800.0;

/// Writes a file of so many rows, to which nobody has written since so many seconds behind [`SINCE`].
fn write(directory: &Path, name: &str, rows: u64, after: i64) {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let rows = (0..rows).map(|row| format!("{row}.0\tn\n"));
    std::fs::write(&path, format!("{HEADER}{}", rows.collect::<String>())).unwrap();
    let since = UNIX_EPOCH + Duration::from_secs_f64(SINCE);
    let seconds = Duration::from_secs(after.unsigned_abs());
    let at = if after < 0 {
        since - seconds
    } else {
        since + seconds
    };
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(at).unwrap();
}

fn counted(directory: &Path, node: &str) -> Counted {
    count(&Places::in_one(directory), node, SINCE + 0.5).unwrap()
}

#[test]
fn the_files_of_one_life_are_counted_where_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, "conn.logger-1.log", 1, 100);
    let rotated = "conn.logger-1.2018-03-24-17-00-00-18-00-00.log";
    write(directory, rotated, 2, 90);
    write(directory, "unsettled/conn.logger-1.7.log", 4, 95);
    let archived = "archive/2018-03-24/conn.17:30:00-18:00:00-logger-1_2.log";
    write(directory, archived, 8, 80);
    write(directory, "dns.logger-1.log", 16, 100);
    // Of others.
    write(directory, "conn.logger-2.log", 32, 100);
    write(directory, "unsettled/conn.logger-2.8.log", 32, 100);
    write(directory, "unsettled/conn.logger-1.9.strange", 32, 100);
    let archived = "archive/2018-03-24/conn.17:30:00-18:00:00-logger-2.log";
    write(directory, archived, 32, 80);
    // Of former lives: begun before, or not written to since.
    let before = "conn.logger-1.2018-03-24-16-59-59-17-00-00.log";
    write(directory, before, 64, 5);
    write(directory, "unsettled/conn.logger-1.6.log", 64, -1);
    let archived = "archive/2018-03-23/conn.17:30:00-18:00:00-logger-1.log";
    write(directory, archived, 64, -80_000);
    // The agent's own, and a name that is only claimed.
    std::fs::write(directory.join("events.log"), "{\"ts\":1.0}\n").unwrap();
    let claimed = "conn.logger-1.2018-03-24-18-00-00-19-00-00.log";
    std::fs::write(directory.join(claimed), "").unwrap();
    let found = counted(directory, "logger-1");
    let conn = StreamFiles {
        current: 1,
        rotated: 2,
        unsettled: 4,
        archived: 8,
    };
    let dns = StreamFiles {
        current: 16,
        ..StreamFiles::default()
    };
    let streams = [("conn".to_owned(), conn), ("dns".to_owned(), dns)];
    assert_eq!(found.streams, streams.into());
    assert_eq!((found.earlier_files, conn.total()), (3, 15));
    assert_eq!(found.problems, [""; 0]);
    assert_eq!(counted(&directory.join("none"), "x"), Counted::default());
}

#[test]
fn a_logger_that_is_the_only_one_does_not_name_itself() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, "conn.log", 3, 1);
    let day = directory.join("archive/2018-03-24");
    write(&day, "conn.17:30:00-18:00:00.log", 4, 1);
    // One that was copied aside before its original was removed counts once.
    write(&day, "dns.17:30:00-18:00:00.log", 5, 1);
    let original = "dns.2018-03-24-17-30-00-18-00-00.log";
    std::fs::copy(
        day.join("dns.17:30:00-18:00:00.log"),
        directory.join(original),
    )
    .unwrap();
    write(directory, original, 5, 1);
    let found = counted(directory, "logger");
    let total = |stream: &str| found.streams[stream].total();
    assert_eq!((total("conn"), total("dns")), (7, 5));
}

#[test]
fn what_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    write(directory, "conn.log", 3, 1);
    std::fs::write(directory.join("dns.log"), "no log at all\n").unwrap();
    let damaged = format!("{HEADER}1.0\tn\n2.0\n3.0\tn\n4.0");
    std::fs::write(directory.join("ssl.log"), damaged).unwrap();
    let found = counted(directory, "logger");
    let streams: Vec<_> = found.streams.keys().collect();
    assert_eq!(streams, ["conn", "ssl"]);
    assert_eq!(found.streams["ssl"].current, 2, "a torn row is on its way");
    assert_eq!(found.unreadable, 1);
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(
        found.problems[0].contains("dns.log: "),
        "{:?}",
        found.problems
    );
    assert!(found.problems[1].ends_with("ssl.log: 1 rows cannot be read"));
}

#[test]
fn names_say_whose_a_file_is() {
    let archived = |name: &str, node: &str| {
        let name = Name::of_archived("2018-03-24", name, node)?;
        Some((name.stream, name.writer))
    };
    let of = |writer: &str| Some(("conn".to_owned(), Some(writer.to_owned())));
    let file = "conn.17:00:00-18:00:00-logger_1.log.gz";
    assert_eq!(archived(file, "logger_1"), of("logger_1"));
    assert_eq!(archived(file, "logger"), of("logger"));
    let file = "conn.17:00:00-18:00:00_12.log.zst";
    assert_eq!(archived(file, "logger"), Some(("conn".to_owned(), None)));
    assert_eq!(archived("conn.17:00:00.log", "logger"), None);
    assert_eq!(Name::of("conn.txt"), None);
    assert_eq!(Name::of(".log"), None);
    assert_eq!(Name::of_unsettled("conn.logger-1.log"), None);
}

#[test]
fn what_a_logger_says_afterwards_has_to_be_of_afterwards() {
    let report = |written: u64| NodeStatus {
        id: "a".to_owned(),
        counts: [("records_written".to_owned(), written)].into(),
        ..NodeStatus::default()
    };
    let mut node = ProcessStatus {
        node: "logger".to_owned(),
        role: "logger".to_owned(),
        process: "running".to_owned(),
        uptime_seconds: Some(10.0),
        report: Some(report(7)),
        report_age_seconds: Some(0.5),
        ..ProcessStatus::default()
    };
    let begun = LoggerFiles::begin(&node, 100.0).unwrap();
    assert_eq!((begun.written, begun.life.as_str()), (7, "a"));
    assert!((begun.since - 90.0).abs() < 1e-9);
    let mut ended = begun.clone();
    assert!(!ended.end(Some(&node), Duration::from_millis(400)));
    node.report = Some(report(9));
    assert!(ended.end(Some(&node), Duration::from_millis(600)));
    assert_eq!((ended.written_after, ended.unknown.clone()), (9, None));
    // Another life.
    node.report = Some(NodeStatus {
        id: "b".to_owned(),
        ..report(0)
    });
    assert!(ended.end(Some(&node), Duration::from_secs(1)));
    assert!(ended.unknown.is_some());
    node.role = "worker".to_owned();
    assert_eq!(LoggerFiles::begin(&node, 1.0), None, "it writes nothing");
    node.report = Some(report(1));
    assert!(LoggerFiles::begin(&node, 1.0).is_some(), "it stands in");
    node.uptime_seconds = None;
    let begun = LoggerFiles::begin(&node, 1.0).unwrap();
    assert!(begun.unknown.is_some());
}
