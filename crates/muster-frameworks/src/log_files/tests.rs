//! Whole files: round trips, rotation, leftovers, and disks that fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use muster_cluster::node::Column;
use muster_data::{Data, DataRef, Timestamp, encode_to_vec};
use proptest::prelude::*;

use super::*;

fn columns(spec: &[(&str, &str)]) -> Vec<Column> {
    spec.iter()
        .map(|(name, zeek_type)| Column {
            name: (*name).to_owned(),
            zeek_type: (*zeek_type).to_owned(),
        })
        .collect()
}

fn config(directory: &Path) -> LogFilesConfig {
    LogFilesConfig {
        directory: directory.to_owned(),
        format: LogFormat::Tsv,
        rotation: None,
        writer_name: None,
    }
}

fn write(
    files: &mut LogFiles,
    stream: &str,
    columns: &[Column],
    rows: &[Vec<Data>],
    now: Timestamp,
) -> Result<u64, LogFilesError> {
    let encoded: Vec<Vec<u8>> = rows.iter().map(|row| encode_to_vec(&row[..])).collect();
    let rows = encoded.iter().map(|row| DataRef::from_validated(row));
    files.write_rows(stream, columns, rows, now)
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Vec<Data>> {
    range.map(|number| vec![Data::Count(number)]).collect()
}

fn time(text: &str) -> Timestamp {
    format!("2018-03-24T{text}Z").parse().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

#[test]
fn a_file_is_what_zeek_would_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/for/it");
    let mut files = LogFiles::new(config(&path)).unwrap();
    assert_eq!(names(&path), Vec::<String>::new());
    let columns = columns(&[("ts", "time"), ("host", "addr"), ("tags", "set[string]")]);
    let row = vec![
        Data::Timestamp(time("17:15:20")),
        Data::Address("10.0.0.1".parse().unwrap()),
        Data::vector([Data::from("a"), Data::from("b")]),
    ];
    let written = write(
        &mut files,
        "known_hosts",
        &columns,
        &[row],
        time("17:16:00"),
    );
    assert_eq!(written.unwrap(), 1);
    assert_eq!(files.next_rotation(), None);
    files.close(time("17:17:00")).unwrap();
    let expected = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n\
        #unset_field\t-\n#path\tknown_hosts\n#open\t2018-03-24-17-16-00\n\
        #fields\tts\thost\ttags\n#types\ttime\taddr\tset[string]\n\
        1521911720.000000\t10.0.0.1\ta,b\n#close\t2018-03-24-17-17-00\n";
    assert_eq!(text(&path, "known_hosts.log"), expected);
}

#[test]
fn files_are_rotated_at_multiples_of_the_interval() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut files = LogFiles::new(LogFilesConfig {
        rotation: Some(Duration::from_secs(3600)),
        writer_name: Some("logger-1".into()),
        ..config(path)
    })
    .unwrap();
    let number = columns(&[("n", "count")]);
    write(&mut files, "s", &number, &numbers(0..2), time("17:10:00")).unwrap();
    assert_eq!(files.next_rotation(), Some(time("18:00:00")));
    files.tick(time("17:59:59")).unwrap();
    assert_eq!(names(path), ["s.logger-1.log"]);
    // A write at the border comes into the next file.
    write(&mut files, "s", &number, &numbers(2..3), time("18:00:00")).unwrap();
    let first = "s.logger-1.2018-03-24-17-10-00-18-00-00.log";
    assert_eq!(names(path), [first, "s.logger-1.log"]);
    assert!(text(path, first).ends_with("1\n#close\t2018-03-24-18-00-00\n"));
    files.tick(time("19:30:00")).unwrap();
    let second = "s.logger-1.2018-03-24-18-00-00-19-00-00.log";
    assert_eq!(names(path), [first, second]);
    assert_eq!(files.next_rotation(), None);
    write(&mut files, "s", &number, &numbers(3..4), time("19:31:00")).unwrap();
    files.close(time("19:32:00")).unwrap();
    let third = "s.logger-1.2018-03-24-19-31-00-19-32-00.log";
    assert_eq!(names(path), [first, second, third]);
    assert_eq!(count_rows(path).unwrap(), [("s".to_owned(), 4)].into());
    let rows = read_rows(path, "s").unwrap();
    let values: Vec<&str> = rows.iter().map(|row| row["n"].as_str()).collect();
    assert_eq!(values, ["0", "1", "2", "3"]);
}

#[test]
fn leftovers_are_moved_away_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let number = columns(&[("n", "count")]);
    for (life, format) in [
        LogFormat::Tsv,
        LogFormat::Tsv,
        LogFormat::Json,
        LogFormat::Json,
    ]
    .into_iter()
    .enumerate()
    {
        let config = LogFilesConfig {
            format,
            ..config(path)
        };
        let mut files = LogFiles::new(config).unwrap();
        write(&mut files, "s", &number, &numbers(0..3), time("17:00:00")).unwrap();
        assert_eq!(names(path).len(), life + 1);
        assert_eq!(count_rows(path).unwrap()["s"], 3 * (life as u64 + 1));
        // Killed in the middle of a row.
        drop(files);
        let mut torn = text(path, "s.log");
        torn.push_str(if format == LogFormat::Tsv {
            "7\t"
        } else {
            "{\"n\":7"
        });
        std::fs::write(path.join("s.log"), &torn).unwrap();
        assert_eq!(count_rows(path).unwrap()["s"], 3 * (life as u64 + 1));
    }
    let mut files = LogFiles::new(config(path)).unwrap();
    write(&mut files, "s", &number, &numbers(0..1), time("17:00:00")).unwrap();
    assert_eq!(count_rows(path).unwrap()["s"], 13);
    let names = names(path);
    assert_eq!(names.len(), 5);
    let tsv = names
        .iter()
        .filter(|name| name.starts_with("s.2018-03-24-17-00-00-"));
    assert_eq!(tsv.count(), 2);
    for name in names.iter().filter(|name| *name != "s.log") {
        assert!(text(path, name).ends_with("7\n") || text(path, name).ends_with("7\t\n"));
        assert!(!text(path, name).contains("#close"));
    }

    // An empty file, and one that was closed in good order, are leftovers as well.
    files.close(time("17:01:00")).unwrap();
    write(&mut files, "s", &number, &numbers(0..1), time("17:02:00")).unwrap();
    std::fs::write(path.join("empty.log"), "").unwrap();
    write(
        &mut files,
        "empty",
        &number,
        &numbers(0..1),
        time("17:02:00"),
    )
    .unwrap();
    assert_eq!(count_rows(path).unwrap()["s"], 14);
    assert_eq!(count_rows(path).unwrap()["empty"], 1);
}

#[test]
fn columns_that_change_all_the_time_do_not_fill_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = LogFiles::new(config(directory.path())).unwrap();
    let two = [columns(&[("a", "count")]), columns(&[("b", "count")])];
    let mut refused = 0;
    for (round, columns) in (0..100).zip(two.iter().cycle()) {
        let now = time(&format!("17:00:{:02}", round % 60));
        match write(&mut files, "flapping", columns, &numbers(0..1), now) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), LogFilesErrorKind::TooManyChanges);
                assert_eq!((error.written(), error.not_written()), (0, 1));
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && names(directory.path()).len() <= 1 + MOST_CHANGES as usize);
    // An hour later a change is welcome again.
    let later = write(
        &mut files,
        "flapping",
        &two[0],
        &numbers(0..1),
        time("18:01:00"),
    );
    let other = write(
        &mut files,
        "flapping",
        &two[1],
        &numbers(0..1),
        time("18:01:01"),
    );
    assert!(later.is_ok() && other.is_ok());
}

#[test]
fn other_columns_get_another_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut files = LogFiles::new(config(path)).unwrap();
    let (one, two) = (columns(&[("n", "count")]), columns(&[("m", "count")]));
    for (at, columns) in [&one, &two, &one, &one].into_iter().enumerate() {
        let rows = numbers(at as u64..at as u64 + 1);
        write(&mut files, "s", columns, &rows, time("17:00:00")).unwrap();
    }
    let span = "s.2018-03-24-17-00-00-17-00-00";
    let expected = [
        format!("{span}.log"),
        format!("{span}_1.log"),
        "s.log".into(),
    ];
    assert_eq!(names(path), expected);
    assert_eq!(count_rows(path).unwrap()["s"], 4);
    let kept = |name: &str| {
        text(path, name)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    };
    assert_eq!(expected.each_ref().map(|name| kept(name)), [1, 1, 2]);
    // By name they are in the order in which they were written.
    let rows = read_rows(path, "s").unwrap();
    let values = rows.iter().flat_map(|row| row.values());
    assert!(values.eq(["0", "1", "2", "3"]));

    // What is no log has no rows.
    std::fs::write(path.join("stderr.log"), "hello\n").unwrap();
    std::fs::write(path.join("s.txt"), "hello\n").unwrap();
    assert_eq!(count_rows(path).unwrap(), [("s".to_owned(), 4)].into());
    std::fs::write(path.join("s.x.log.gz"), b"\x1f\x8bno compressed data").unwrap();
    let error = count_rows(path).unwrap_err();
    assert_eq!(error.kind(), LogFilesErrorKind::Read);
    assert!(error.path().ends_with("s.x.log.gz"));
}

#[test]
fn what_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let kind = |result: Result<LogFiles, LogFilesError>| result.unwrap_err().kind();
    for name in ["", "a/b", "..\\", "\u{e9}", &"x".repeat(129)] {
        let config = LogFilesConfig {
            writer_name: Some(name.to_owned()),
            ..config(path)
        };
        assert_eq!(kind(LogFiles::new(config)), LogFilesErrorKind::WriterName);
    }
    std::fs::write(path.join("file"), "").unwrap();
    let in_file = LogFiles::new(config(&path.join("file/below")));
    assert_eq!(kind(in_file), LogFilesErrorKind::Directory);

    let mut files = LogFiles::new(config(path)).unwrap();
    let number = columns(&[("n", "count")]);
    let mut refused = |stream: &str, columns: &[Column]| {
        let error = write(
            &mut files,
            stream,
            columns,
            &numbers(0..3),
            time("17:00:00"),
        );
        let error = error.unwrap_err();
        assert_eq!((error.written(), error.not_written()), (0, 3));
        error.kind()
    };
    for stream in ["", "../x", "a.b", &"x".repeat(65)] {
        assert_eq!(refused(stream, &number), LogFilesErrorKind::StreamName);
    }
    for bad in [
        columns(&[]),
        columns(&[("", "count")]),
        columns(&[("n", "")]),
        columns(&[("n", "count"), ("n", "count")]),
    ] {
        assert_eq!(refused("s", &bad), LogFilesErrorKind::Columns);
    }
    for stream in 0..MOST_STREAMS {
        let name = format!("s{stream}");
        write(&mut files, &name, &number, &numbers(0..1), time("17:00:00")).unwrap();
    }
    let error = write(
        &mut files,
        "more",
        &number,
        &numbers(0..2),
        time("17:00:00"),
    )
    .unwrap_err();
    assert_eq!(error.kind(), LogFilesErrorKind::TooManyStreams);
    assert_eq!(error.not_written(), 2);
    // Those that are open are served on.
    write(&mut files, "s0", &number, &numbers(0..1), time("17:00:00")).unwrap();
}

#[test]
fn a_directory_that_cannot_be_used_loses_nothing_silently() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs");
    let mut files = LogFiles::new(LogFilesConfig {
        rotation: Some(Duration::from_secs(60)),
        ..config(&path)
    })
    .unwrap();
    let number = columns(&[("n", "count")]);
    write(&mut files, "s", &number, &numbers(0..1), time("17:00:30")).unwrap();
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    std::fs::write(&path, "in the way").unwrap();
    // The open file is written on, and its rotation is tried again at the next border.
    let error = write(&mut files, "s", &number, &numbers(1..3), time("17:01:00")).unwrap_err();
    assert_eq!(error.kind(), LogFilesErrorKind::Rotate);
    assert_eq!((error.written(), error.not_written()), (2, 0));
    assert_eq!(files.next_rotation(), Some(time("17:02:00")));
    write(&mut files, "s", &number, &numbers(3..4), time("17:01:30")).unwrap();
    assert_eq!(count_rows(&elsewhere).unwrap()["s"], 4);
    let error = write(&mut files, "t", &number, &numbers(0..5), time("17:01:30")).unwrap_err();
    assert_eq!(error.kind(), LogFilesErrorKind::Directory);
    assert_eq!((error.written(), error.not_written()), (0, 5));
    assert!(error.path().ends_with("logs"));
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&elsewhere, &path).unwrap();
    write(&mut files, "t", &number, &numbers(0..5), time("17:01:31")).unwrap();
    files.tick(time("17:02:00")).unwrap();
    assert_eq!(
        count_rows(&path).unwrap(),
        [("s".to_owned(), 4), ("t".to_owned(), 5)].into()
    );
}

/// A row of every type that a column may have, and what reading it gives.
/// logrotate and its like move files away: what was in them stays, what comes goes to new ones.
#[test]
fn a_file_that_somebody_moved_is_ended_and_a_new_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut files = LogFiles::new(config(directory)).unwrap();
    let columns = columns(&[("n", "count")]);
    let now = time("17:00:00");
    write(&mut files, "s", &columns, &numbers(0..2), now).unwrap();
    std::fs::rename(directory.join("s.log"), directory.join("s.log.1")).unwrap();
    write(&mut files, "s", &columns, &numbers(2..3), now).unwrap();
    assert!(text(directory, "s.log.1").contains("\n1\n#close"));
    assert!(text(directory, "s.log").ends_with("\n2\n"));
    // On request it is done at once, so that whoever moved the file may compress it.
    std::fs::rename(directory.join("s.log"), directory.join("s.log.2")).unwrap();
    files.reopen(now).unwrap();
    assert!(text(directory, "s.log.2").contains("\n2\n#close"));
    // A file that is in its place goes on.
    write(&mut files, "s", &columns, &numbers(3..4), now).unwrap();
    files.reopen(now).unwrap();
    write(&mut files, "s", &columns, &numbers(4..5), now).unwrap();
    assert!(text(directory, "s.log").ends_with("\n3\n4\n"));
}

/// 339,200 records were "written" into files of a directory that was gone.
#[test]
fn rows_in_a_removed_file_are_told_and_a_new_one_is_begun() {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let mut files = LogFiles::new(config(&logs)).unwrap();
    let columns = columns(&[("n", "count")]);
    let now = time("17:00:00");
    write(&mut files, "s", &columns, &numbers(0..5), now).unwrap();
    std::fs::remove_dir_all(&logs).unwrap();
    let error = write(&mut files, "s", &columns, &numbers(5..7), now).unwrap_err();
    assert_eq!(error.kind(), LogFilesErrorKind::Removed);
    assert_eq!(
        (error.gone(), error.written(), error.not_written()),
        (5, 2, 0)
    );
    assert!(text(&logs, "s.log").ends_with("\n5\n6\n"));
    // A tick notices it, too.
    std::fs::remove_file(logs.join("s.log")).unwrap();
    let error = files.tick(now).unwrap_err();
    assert_eq!(
        (error.kind(), error.gone()),
        (LogFilesErrorKind::Removed, 2)
    );
    files.tick(now).unwrap();
}

fn row() -> impl Strategy<Value = (Vec<Data>, BTreeMap<String, Vec<Option<String>>>)> {
    let scalars = (
        any::<Option<bool>>(),
        any::<Option<u64>>(),
        any::<Option<i64>>(),
        any::<Option<String>>(),
        prop::option::of(any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).into())),
        prop::option::of(-4_000_000_000_000_000_i64..4_000_000_000_000_000),
    );
    // A set of nothing but an empty or unset element reads as an empty or unset set, as in Zeek.
    let set = prop::collection::vec(any::<Option<String>>(), 2..5);
    (scalars, set).prop_map(|((flag, count, integer, string, address, micros), set)| {
        fn data<T>(value: Option<T>, wrap: impl FnOnce(T) -> Data) -> Data {
            value.map_or(Data::None, wrap)
        }
        let time = |micros: i64| Timestamp::from_nanos(micros * 1000);
        let row = vec![
            data(string.clone(), |text| Data::from(text.as_str())),
            data(flag, Data::Boolean),
            data(count, Data::Count),
            data(integer, Data::Integer),
            data(address, Data::Address),
            data(micros.map(time), Data::Timestamp),
            Data::vector(
                set.iter()
                    .map(|text| text.as_deref().map_or(Data::None, Data::from)),
            ),
        ];
        let one = |text: Option<String>| text.map(|text| vec![Some(text)]);
        let expected = [
            ("string", one(string)),
            ("count", one(count.map(|count| count.to_string()))),
            ("integer", one(integer.map(|integer| integer.to_string()))),
            (
                "address",
                one(address.map(|address: muster_data::Address| address.to_string())),
            ),
            ("flag", one(flag.map(|flag| flag.to_string()))),
            ("time", one(micros.map(|micros| time(micros).to_string()))),
            ("set", Some(set)),
        ];
        let expected = expected
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        (row, expected)
    })
}

/// Texts that cannot be shown are escaped in JSON, as in Zeek, and no reader can tell.
fn shown(row: &BTreeMap<String, Vec<Option<String>>>) -> BTreeMap<String, Vec<Option<String>>> {
    let text = |text: &String| {
        let mut out = Vec::new();
        crate::zeek_log::or_escaped(&mut out, text.as_bytes(), b"\x08\x0c\n\r\t");
        String::from_utf8(out).unwrap()
    };
    let texts = |texts: &Vec<Option<String>>| texts.iter().map(|t| t.as_ref().map(text)).collect();
    row.iter()
        .map(|(name, values)| (name.clone(), texts(values)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_written_is_read(rows in prop::collection::vec(row(), 1..6), json: bool) {
        let directory = tempfile::tempdir().unwrap();
        let format = if json { LogFormat::Json } else { LogFormat::Tsv };
        let config = LogFilesConfig { format, ..config(directory.path()) };
        let mut files = LogFiles::new(config).unwrap();
        let columns = columns(&[
            ("string", "string"), ("flag", "bool"), ("count", "count"), ("integer", "int"),
            ("address", "addr"), ("time", "time"), ("set", "vector[string]"),
        ]);
        let data: Vec<Vec<Data>> = rows.iter().map(|row| row.0.clone()).collect();
        write(&mut files, "s", &columns, &data, Timestamp::EPOCH).unwrap();
        files.close(Timestamp::EPOCH).unwrap();
        let path = directory.path().join("s.log");
        let mut reader = crate::LogReader::open(&path, &[]).unwrap();
        for (_, expected) in &rows {
            let row = reader.next_row().unwrap().expect("a row");
            let expected = if json { &shown(expected) } else { expected };
            let found: BTreeMap<String, Vec<Option<String>>> = row
                .fields()
                .map(|(name, field)| {
                    let value = match name {
                        "set" => field
                            .elements()
                            .into_iter()
                            .map(|text| text.map(Into::into))
                            .collect(),
                        "flag" => vec![field.boolean().map(|flag| flag.to_string())],
                        "time" => vec![field.timestamp().map(|time| time.to_string())],
                        _ => vec![Some(field.text().into_owned())],
                    };
                    (name.to_owned(), value)
                })
                .collect();
            prop_assert_eq!(&found, expected);
        }
        prop_assert!(reader.next_row().unwrap().is_none());
    }
}
