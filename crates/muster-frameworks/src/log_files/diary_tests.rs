//! The diary: which files get final names, when, and what is in them, whatever the process or the disk does in between.

use std::path::Path;

use muster_cluster::node::{BatchId, LogBatch, LogDelivery, LogNotes, LogSink, Numbers};
use muster_data::{Data, Timestamp, encode_to_vec};
use muster_wire::EndpointId;

use super::*;

const NOTHING: [u64; 0] = [];

fn producer() -> EndpointId {
    EndpointId::from_random([7; 16])
}

/// A batch of the stream `s` with one column, whose rows are these numbers.
fn batch(numbers: std::ops::Range<u64>) -> LogBatch {
    let columns = Data::vector([Data::vector([Data::from("number"), Data::from("count")])]);
    let rows = numbers.map(|number| Data::vector([Data::Count(number)]));
    let arguments = Data::vector([Data::from("s"), columns, Data::vector(rows)]);
    let bytes = encode_to_vec(&arguments);
    LogBatch::from_event(muster_data::DataRef::from_validated(&bytes)).unwrap()
}

fn delivery(number: u64) -> LogDelivery {
    LogDelivery {
        id: BatchId {
            producer: producer(),
            number,
        },
        node: "worker".to_owned(),
        floor: 0,
    }
}

fn notes() -> LogNotes {
    LogNotes {
        producer: producer(),
        node: "worker".to_owned(),
        floor: 0,
        keep: Numbers::default(),
        keep_shared: Numbers::default(),
        strike: Numbers::default(),
        promise: Numbers::default(),
    }
}

fn keep(number: u64) -> LogNotes {
    LogNotes {
        keep: [number].into_iter().collect(),
        ..notes()
    }
}

fn strike(number: u64) -> LogNotes {
    LogNotes {
        strike: [number].into_iter().collect(),
        ..notes()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + second)
}

/// A sink of hourly files, in its next life.
fn sink(directory: &Path) -> (FileSink, Vec<muster_cluster::node::ProducerRecord>) {
    let mut sink = FileSink::new(LogFilesConfig {
        directory: directory.to_owned(),
        format: LogFormat::Tsv,
        rotation: Some(std::time::Duration::from_secs(10)),
        writer_name: Some("l".to_owned()),
    })
    .unwrap();
    let records = sink.recover(at(0)).unwrap();
    (sink, records)
}

fn held(records: &[muster_cluster::node::ProducerRecord]) -> Vec<u64> {
    records
        .iter()
        .flat_map(|record| record.held.iter())
        .collect()
}

fn write(sink: &mut FileSink, number: u64, rows: std::ops::Range<u64>, second: i64) {
    let length = rows.end - rows.start;
    let written = sink.write(&batch(rows), Some(&delivery(number)), at(second));
    assert_eq!((written.records, written.problem), (length, None));
}

/// The rows of all files with final names.
fn last(directory: &Path) -> Vec<u64> {
    let names = std::fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut rows = Vec::new();
    for name in names.filter(|name| RotatedName::parse(name).is_some()) {
        let text = std::fs::read_to_string(directory.join(&name)).unwrap();
        assert!(text.starts_with("#separator"), "{text}");
        rows.extend(text.lines().filter_map(|line| line.parse::<u64>().ok()));
    }
    rows.sort_unstable();
    rows
}

/// Who counts rows in the files has to know which of those that were written are not in them.
#[test]
fn records_that_count_elsewhere_are_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut first, _) = sink(directory);
    write(&mut first, 0, 0..3, 1);
    write(&mut first, 1, 3..8, 1);
    write(&mut first, 2, 8..9, 1);
    first.note(Some(&strike(1)), at(1)).unwrap();
    assert_eq!((first.take_struck(), first.take_struck()), (5, 0));
    first.note(Some(&strike(1)), at(1)).unwrap();
    first.note(Some(&keep(0)), at(1)).unwrap();
    assert_eq!(first.take_struck(), 0);
    first.sync(at(1)).unwrap();
    drop(first);
    // What a former life has written is not among what this one counts.
    let (mut second, _) = sink(directory);
    second.note(Some(&strike(2)), at(2)).unwrap();
    assert_eq!(second.take_struck(), 0);
}

#[test]
fn a_file_waits_for_its_final_name_until_all_in_it_is_decided() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut sink, _) = sink(directory);
    write(&mut sink, 0, 0..3, 1);
    write(&mut sink, 1, 3..6, 2);
    sink.sync(at(2)).unwrap();
    sink.note(Some(&keep(0)), at(3)).unwrap();
    sink.tick(at(11)).unwrap();
    assert_eq!(last(directory), NOTHING);
    sink.note(Some(&keep(1)), at(12)).unwrap();
    assert_eq!(last(directory), NOTHING, "what is decided is not safe yet");
    sink.sync(at(12)).unwrap();
    assert_eq!(last(directory), [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        std::fs::read_dir(directory.join("unsettled"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn what_counts_elsewhere_is_not_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut sink, _) = sink(directory);
    for number in 0..4 {
        write(&mut sink, number, number * 3..number * 3 + 3, 1);
    }
    for notes in [keep(0), strike(1), keep(2), strike(3)] {
        sink.note(Some(&notes), at(2)).unwrap();
    }
    sink.close(at(3)).unwrap();
    drop(sink);
    assert_eq!(last(directory), [0, 1, 2, 6, 7, 8]);
    let (_, records) = self::sink(directory);
    let struck = records.iter().flat_map(|record| record.struck.iter());
    assert_eq!(struck.collect::<Vec<_>>(), [1, 3], "that is remembered");
}

#[test]
fn a_file_of_which_nothing_counts_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut sink, _) = sink(directory);
    write(&mut sink, 0, 0..3, 1);
    sink.note(Some(&strike(0)), at(2)).unwrap();
    sink.close(at(3)).unwrap();
    let files = std::fs::read_dir(directory).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, ["diary", "unsettled"]);
}

#[test]
fn the_next_life_knows_what_a_killed_one_has_written() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut killed, _) = sink(directory);
    write(&mut killed, 0, 0..3, 1);
    write(&mut killed, 1, 3..6, 1);
    killed.sync(at(1)).unwrap();
    write(&mut killed, 2, 6..9, 2);
    killed.note(Some(&keep(1)), at(2)).unwrap();
    drop(killed);
    let (mut next, records) = sink(directory);
    let mut known = held(&records);
    known.sort_unstable();
    assert_eq!(known, [0, 2]);
    assert_eq!(last(directory), NOTHING);
    next.note(Some(&keep(0)), at(20)).unwrap();
    next.note(Some(&strike(2)), at(20)).unwrap();
    next.sync(at(20)).unwrap();
    assert_eq!(last(directory), [0, 1, 2, 3, 4, 5]);
}

/// Every place at which a failure of the power can cut the file off, and the diary is whole.
#[test]
fn what_a_failing_power_has_lost_was_never_written() {
    let whole = {
        let directory = tempfile::tempdir().unwrap();
        let (mut sink, _) = sink(directory.path());
        write(&mut sink, 0, 0..3, 1);
        write(&mut sink, 1, 3..6, 1);
        std::fs::read(directory.path().join("s.l.log"))
            .unwrap()
            .len()
    };
    for length in 0..=whole {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let (mut killed, _) = sink(directory);
        write(&mut killed, 0, 0..3, 1);
        write(&mut killed, 1, 3..6, 1);
        drop(killed);
        let file = std::fs::File::options()
            .write(true)
            .open(directory.join("s.l.log"));
        let file = file.unwrap();
        file.set_len(length as u64).unwrap();
        let (mut next, records) = sink(directory);
        let mut known = held(&records);
        known.sort_unstable();
        let expected: &[u64] = match whole - length {
            0 => &[0, 1],
            1..=6 => &[0],
            _ => &[],
        };
        assert_eq!(known, expected, "{length} of {whole} bytes");
        for number in &known {
            next.note(Some(&keep(*number)), at(20)).unwrap();
        }
        next.close(at(20)).unwrap();
        let rows: Vec<u64> = (0..3 * known.len() as u64).collect();
        assert_eq!(last(directory), rows, "{length} of {whole} bytes");
    }
}

/// What was lost came to count again in the life after the next: the snapshot had it.
#[test]
fn what_was_lost_stays_lost() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut killed, _) = sink(directory);
    write(&mut killed, 0, 0..3, 1);
    write(&mut killed, 1, 3..6, 1);
    drop(killed);
    let path = directory.join("s.l.log");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(length - 2).unwrap();
    drop(sink(directory));
    let (mut next, records) = sink(directory);
    assert_eq!(held(&records), [0]);
    next.note(Some(&keep(0)), at(20)).unwrap();
    next.close(at(20)).unwrap();
    assert_eq!(last(directory), [0, 1, 2]);
}

#[test]
fn files_of_former_releases_keep_their_records() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut former = LogFiles::new(LogFilesConfig {
        directory: directory.to_owned(),
        format: LogFormat::Tsv,
        rotation: None,
        writer_name: Some("l".to_owned()),
    })
    .unwrap();
    former.write(&batch(0..3), at(0)).unwrap();
    drop(former);
    let (mut sink, _) = sink(directory);
    assert_eq!(last(directory), [0, 1, 2]);
    write(&mut sink, 0, 3..6, 1);
    assert_eq!(read_rows(directory, "s").unwrap().len(), 6);
}

#[test]
fn two_processes_cannot_keep_one_diary() {
    let directory = tempfile::tempdir().unwrap();
    let (_first, _) = sink(directory.path());
    let mut second = FileSink::new(LogFilesConfig {
        directory: directory.path().to_owned(),
        format: LogFormat::Tsv,
        rotation: None,
        writer_name: Some("l".to_owned()),
    })
    .unwrap();
    let error = second.recover(at(0)).unwrap_err();
    assert!(error.contains("in use by another process"), "{error}");
}

#[test]
fn a_directory_that_was_removed_costs_what_was_in_it_and_nothing_more() {
    removed(|_| {});
    // Somebody has made another one in its place.
    removed(|logs| std::fs::create_dir_all(logs.join("diary/l")).unwrap());
}

fn removed(then: impl Fn(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let (mut sink, _) = sink(&logs);
    write(&mut sink, 0, 0..3, 1);
    sink.sync(at(1)).unwrap();
    std::fs::remove_dir_all(&logs).unwrap();
    then(&logs);
    // It is noticed, and nothing is said to be safe that is not.
    let written = sink.write(&batch(3..6), Some(&delivery(1)), at(2));
    assert_eq!(written.gone, 3, "{:?}", written.problem);
    assert!(sink.sync(at(2)).is_err());
    sink.note(None, at(3)).unwrap();
    // Its producer gives it to another logger.
    sink.note(Some(&strike(1)), at(3)).unwrap();
    sink.sync(at(3)).unwrap();
    write(&mut sink, 2, 6..9, 4);
    sink.note(Some(&keep(2)), at(4)).unwrap();
    sink.sync(at(4)).unwrap();
    sink.close(at(5)).unwrap();
    assert_eq!(last(&logs), [6, 7, 8]);
}

#[test]
fn an_entry_that_is_damaged_costs_itself() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let (mut killed, _) = sink(directory);
    for number in 0..5 {
        write(&mut killed, number, number * 3..number * 3 + 3, 1);
    }
    drop(killed);
    let diary = directory.join("diary/l");
    let mut segments: Vec<_> = std::fs::read_dir(&diary)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    segments.sort();
    let segment = segments.pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the middle of an entry of a batch.
    let place = bytes.len() - 250;
    bytes[place] ^= 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let (mut next, records) = sink(directory);
    assert_eq!(held(&records).len(), 4);
    for number in held(&records) {
        next.note(Some(&keep(number)), at(20)).unwrap();
    }
    next.close(at(20)).unwrap();
    assert_eq!(last(directory).len(), 12, "its producer sends it again");
    // If it was decided already, nobody does: what is thrown out is put aside.
    let aside = std::fs::read_dir(directory.join("unsettled")).unwrap();
    let aside: Vec<_> = aside.map(|it| it.unwrap().path()).collect();
    assert_eq!(aside.len(), 1);
    let rows = std::fs::read_to_string(&aside[0]).unwrap();
    let rows = rows.lines().filter(|line| line.parse::<u64>().is_ok());
    assert_eq!(rows.count(), 15);
}
