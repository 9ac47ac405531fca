//! Journals in a directory of a disk.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;

use muster_spool::{DiskFiles, Journal, JournalConfig, JournalErrorKind, JournalName, Start, read};

fn config(name: &str) -> JournalConfig {
    JournalConfig {
        segment_size: 1000,
        longest_record: 100_000,
        start: Start::AtOldest,
        ..JournalConfig::new(JournalName::new(name).unwrap())
    }
}

fn open(directory: &Path) -> (Journal<DiskFiles>, Vec<Vec<u8>>) {
    let files = DiskFiles::open(directory).unwrap();
    let mut records = Vec::new();
    let (journal, opened) = Journal::open(files, config("spool"), |it| {
        records.push(it.bytes.to_vec());
    })
    .unwrap();
    assert_eq!(opened.bad.total(), 0);
    (journal, records)
}

fn sync(journal: &mut Journal<DiskFiles>) {
    while let Some(unsynced) = journal.take_unsynced() {
        // As it is done: on another thread.
        let synced = std::thread::spawn(|| unsynced.sync()).join().unwrap();
        journal.synced(synced.unwrap()).unwrap();
    }
}

#[test]
fn records_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/for/it");
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for round in 0..5_u8 {
        let (mut journal, records) = open(&path);
        assert_eq!(records, expected);
        for length in [0, 10, 70_000, 300] {
            let bytes = vec![round; length];
            if journal.needs_segment() {
                journal.begin_segment(0, &bytes).unwrap();
            } else {
                journal.append(1, &bytes).unwrap();
            }
            expected.push(bytes);
        }
        sync(&mut journal);
        let names = fs::read_dir(&path).unwrap();
        let sizes = names.map(|it| it.unwrap().metadata().unwrap().len());
        assert_eq!(sizes.sum::<u64>(), journal.bytes());
    }
}

#[test]
fn released_segments_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    for number in 0..5 {
        journal.begin_segment(0, &[number]).unwrap();
    }
    journal.release(4);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
    sync(&mut journal);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    drop(journal);
    assert_eq!(open(directory.path()).1, [[3], [4]]);
}

#[test]
fn one_process_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    let error = DiskFiles::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::InUse);
    // A sync that is on its way has the lock as well.
    journal.begin_segment(0, b"header").unwrap();
    let unsynced = journal.take_unsynced().unwrap();
    drop(journal);
    DiskFiles::open(directory.path()).unwrap_err();
    drop(unsynced.sync().unwrap());
    assert_eq!(open(directory.path()).1, [b"header"]);
}

#[test]
fn several_journals_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let files = DiskFiles::open(directory.path()).unwrap();
    for name in ["a", "a-b", "b"] {
        let (mut journal, _) = Journal::open(files.clone(), config(name), |_| {}).unwrap();
        journal.begin_segment(0, name.as_bytes()).unwrap();
    }
    for name in ["a", "a-b", "b"] {
        let mut found: Vec<u8> = Vec::new();
        read(directory.path(), &config(name), |it| found.extend(it.bytes)).unwrap();
        assert_eq!(found, name.as_bytes());
    }
}

#[test]
fn a_reader_takes_no_lock_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path());
    journal.begin_segment(0, b"header").unwrap();
    journal.append(1, b"torn").unwrap();
    let file = directory.path().join("spool-0000000001.seg");
    let whole = fs::read(&file).unwrap();
    let torn = &whole[..whole.len() - 1];
    fs::write(&file, torn).unwrap();
    let mut found = Vec::new();
    let opened = read(directory.path(), &config("spool"), |it| {
        found.push(it.bytes.to_vec());
    })
    .unwrap();
    assert_eq!(found, [b"header"]);
    assert_eq!(opened.bad.cut, 1);
    assert_eq!(fs::read(&file).unwrap(), torn);
    // Nothing is made for it either.
    let nowhere = directory.path().join("nowhere");
    let error = read(&nowhere, &config("spool"), |_| {}).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Io);
    assert!(!nowhere.exists());
}

#[test]
fn a_directory_that_goes_away_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spool");
    let (mut journal, _) = open(&path);
    journal.begin_segment(0, b"header").unwrap();
    sync(&mut journal);
    fs::remove_dir_all(&path).unwrap();
    // The file is open and takes it, and would never be found.
    journal.append(1, b"into nothing").unwrap();
    journal.take_unsynced().unwrap().sync().unwrap_err();
    journal.sync_failed();
    let error = journal.begin_segment(0, b"next").unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Io);
    // Another directory in its place is not locked by us.
    fs::create_dir(&path).unwrap();
    journal.begin_segment(0, b"next").unwrap_err();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert!(open(&path).1.is_empty());
}

#[test]
fn what_is_no_file_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("spool-0000000001.seg")).unwrap();
    let pipe = directory.path().join("spool-0000000002.seg");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::write(directory.path().join("notes.txt"), "about it").unwrap();
    let files = DiskFiles::open(directory.path()).unwrap();
    let (mut journal, opened) = Journal::open(files, config("spool"), |_| {}).unwrap();
    let unreadable: Vec<u64> = opened.unreadable.iter().map(|it| it.segment).collect();
    assert_eq!(unreadable, [1, 2]);
    assert_eq!(journal.begin_segment(0, b"header").unwrap().segment, 3);
    journal.release(3);
    sync(&mut journal);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
}
