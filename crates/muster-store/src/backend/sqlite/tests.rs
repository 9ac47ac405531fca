use super::*;
use crate::conformance;
use crate::op::Amendment;

#[test]
fn does_what_a_backend_must() {
    for (journal_mode, synchronous) in [
        (None, None),
        (Some(JournalMode::Delete), Some(Synchronous::Normal)),
        (Some(JournalMode::Wal), Some(Synchronous::Off)),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut number = 0;
        conformance::check(|| {
            number += 1;
            let path = directory.path().join(format!("below/{number}.sqlite"));
            move || -> Box<dyn Backend> {
                let options = SqliteOptions {
                    journal_mode,
                    synchronous,
                    integrity_check: true,
                    ..SqliteOptions::default()
                };
                Box::new(Sqlite::new(&path, options))
            }
        });
    }
}

fn file(name: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    (directory, path)
}

/// The schema and the bytes are those that a C++ primary has written, as captured.
#[test]
fn a_file_of_brokers_opens() {
    let (_directory, path) = file("broker.sqlite");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE meta(key text primary key, value text);
             CREATE TABLE store(key blob primary key, value blob, expiry integer);
             INSERT INTO meta VALUES('broker_version', '2.8.0');
             INSERT INTO store VALUES(x'05016B', x'020000000000000005', NULL);
             INSERT INTO store VALUES(x'050174', x'0101', 1000);",
        )
        .unwrap();
    drop(connection);
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    let kept = backend.load().unwrap();
    assert_eq!((kept.timeline, kept.changes), (0, 0));
    let found: Vec<String> = kept
        .entries
        .iter()
        .map(|(key, entry)| format!("{key} = {} {:?}", entry.value, entry.expires))
        .collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], "\"k\" = 5 None");
    assert_eq!(kept.entries[1].1.expires, Some(Timestamp::from_nanos(1000)));
    let commit = Commit {
        changes: 1,
        index: 0,
        timeline: 1,
        writes: vec![BackendWrite::Erase(Encoded::key("t"))],
        writers: Vec::new(),
    };
    backend.commit(&commit).unwrap();
    backend.close().unwrap();
    // The journal mode of a file that was there stays, and Broker's tables have its shape.
    let connection = Connection::open(&path).unwrap();
    let journal: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(journal, "delete");
    let rows: i64 = connection
        .query_row("SELECT count(*) FROM store", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
    assert_eq!(Sqlite::read(&path).unwrap().len(), 1);
}

#[test]
fn a_second_owner_is_told() {
    let (_directory, path) = file("one.sqlite");
    let mut first = Sqlite::new(&path, SqliteOptions::default());
    first.load().unwrap();
    let error = Sqlite::new(&path, SqliteOptions::default())
        .load()
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Locked, "{error}");
    // Not even where damaged files are to be removed.
    let options = SqliteOptions {
        failure_mode: FailureMode::Delete,
        ..SqliteOptions::default()
    };
    assert!(Sqlite::new(&path, options).load().is_err());
    assert!(path.exists());
    first.close().unwrap();
    Sqlite::new(&path, SqliteOptions::default()).load().unwrap();
}

#[test]
fn a_damaged_file_is_refused_or_replaced() {
    for content in [
        &b"this is no database, but it is long enough to look at"[..],
        &[7; 8192],
    ] {
        let (_directory, path) = file("damaged.sqlite");
        std::fs::write(&path, content).unwrap();
        let error = Sqlite::new(&path, SqliteOptions::default())
            .load()
            .unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Damaged, "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
        let options = SqliteOptions {
            failure_mode: FailureMode::Delete,
            ..SqliteOptions::default()
        };
        let kept = Sqlite::new(&path, options).load().unwrap();
        assert!(kept.entries.is_empty());
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let (directory, path) = file("occupied");
    std::fs::write(&path, "").unwrap();
    let below = directory.path().join("occupied/x.sqlite");
    let error = Sqlite::new(below, SqliteOptions::default())
        .load()
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Io, "{error}");
    let directory = directory.path().join("occupied");
    assert!(error.to_string().contains(&*directory.to_string_lossy()));
}

/// A disk that becomes full after any number of pages: what was acknowledged is there, and nothing by half.
#[test]
fn a_disk_that_fills_up_loses_nothing_that_was_acknowledged() {
    for pages in (8..40).step_by(5) {
        let (_directory, path) = file("full.sqlite");
        let mut backend = Sqlite::new(&path, SqliteOptions::default());
        backend.load().unwrap();
        let connection = backend.connection.as_ref().unwrap();
        connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
        let mut acknowledged = 0;
        for number in 1..=500u64 {
            let entry = |half: u64| Entry {
                value: Encoded::of(&"x".repeat(400)),
                expires: None,
                changed: number * 2 - half,
            };
            let writes = [1, 0]
                .map(|half| BackendWrite::Put(Encoded::key(&(number * 2 - half)), entry(half)));
            let commit = Commit {
                timeline: 1,
                changes: number * 2,
                index: 0,
                writes: writes.into(),
                writers: Vec::new(),
            };
            if backend.commit(&commit).is_err() {
                break;
            }
            acknowledged = number * 2;
        }
        assert!(acknowledged < 1000);
        // As a crash leaves it.
        drop(backend);
        let kept = Sqlite::new(&path, SqliteOptions::default()).load().unwrap();
        assert_eq!(kept.entries.len() as u64, acknowledged);
        assert_eq!(kept.changes, acknowledged);
    }
}

fn put(key: u64, changes: u64) -> Commit {
    let entry = Entry {
        value: Encoded::of(&key),
        expires: None,
        changed: changes,
    };
    Commit {
        timeline: 7,
        changes,
        index: 0,
        writes: vec![BackendWrite::Put(Encoded::of(&key), entry)],
        writers: Vec::new(),
    }
}

/// What was put into a removed file was acknowledged as durable, and gone.
#[test]
fn a_file_that_somebody_removes_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("below");
    let path = below.join("a.sqlite");
    for journal_mode in [JournalMode::Wal, JournalMode::Delete] {
        let _ = std::fs::remove_dir_all(&below);
        let options = SqliteOptions {
            journal_mode: Some(journal_mode),
            ..SqliteOptions::default()
        };
        let mut backend = Sqlite::new(&path, options.clone());
        backend.load().unwrap();
        backend.commit(&put(1, 1)).unwrap();
        assert_eq!(backend.take_notice(), None);
        std::fs::remove_dir_all(&below).unwrap();
        backend.commit(&put(2, 2)).unwrap();
        assert!(backend.take_notice().unwrap().contains("was removed"));
        backend.commit(&put(3, 3)).unwrap();
        assert_eq!(backend.take_notice(), None);
        // As after a crash: what was acknowledged is in the file, although nobody has closed it.
        let copies = directory.path().join("copies");
        let _ = std::fs::remove_dir_all(&copies);
        std::fs::create_dir(&copies).unwrap();
        for file in std::fs::read_dir(&below).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copies.join(file.file_name())).unwrap();
        }
        let persisted = Sqlite::new(copies.join("a.sqlite"), options)
            .load()
            .unwrap();
        assert_eq!((persisted.timeline, persisted.changes), (7, 3));
        assert_eq!(persisted.entries.len(), 3);
        backend.close().unwrap();
    }
}

/// Two files of one store are for the operator to choose from.
#[test]
fn a_file_in_the_place_of_another_is_left_alone() {
    let (_directory, path) = file("a.sqlite");
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    backend.load().unwrap();
    backend.commit(&put(1, 1)).unwrap();
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    std::fs::write(&path, "of somebody else").unwrap();
    let error = backend.commit(&put(2, 2)).unwrap_err();
    assert!(error.to_string().contains("has taken the place"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"of somebody else");
    std::fs::rename(&aside, &path).unwrap();
    backend.commit(&put(2, 2)).unwrap();
}

/// A set of so many numbers.
fn set(numbers: u64) -> Entry {
    let numbers: Vec<_> = (0..numbers).map(muster_data::Data::Count).collect();
    Entry {
        value: Encoded::of(&muster_data::Data::Set(numbers.into_iter().collect())),
        expires: None,
        changed: 1,
    }
}

fn add(numbers: u64) -> BackendWrite {
    let part = Amendment::Add(Encoded::of(&(numbers - 1)));
    BackendWrite::Amend(Encoded::key("set"), set(numbers), part)
}

fn commit_of(write: BackendWrite) -> Commit {
    Commit {
        timeline: 1,
        changes: 1,
        writes: vec![write],
        ..Commit::default()
    }
}

/// The length of the value in Broker's table, and the number of amendments.
fn written(backend: &Sqlite) -> (i64, i64) {
    let connection = backend.connection.as_ref().unwrap();
    let number = |query: &str| connection.query_row(query, [], |row| row.get(0)).unwrap();
    (
        number("SELECT length(value) FROM store"),
        number("SELECT count(*) FROM muster_amendment"),
    )
}

#[test]
fn an_insert_into_a_large_set_writes_its_element_alone() {
    let (_directory, path) = file("amended.sqlite");
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    backend.load().unwrap();
    let whole = BackendWrite::Put(Encoded::key("set"), set(1000));
    backend.commit(&commit_of(whole)).unwrap();
    let length = written(&backend).0;
    for numbers in 1001..=1100 {
        backend.commit(&commit_of(add(numbers))).unwrap();
    }
    assert_eq!(written(&backend), (length, 100));
    assert_eq!(Sqlite::read(&path).map(|read| read.len()).ok(), None); // it is locked
    for numbers in 1101..=1400 {
        backend.commit(&commit_of(add(numbers))).unwrap();
    }
    // So much in amendments as the value is large: then it was written whole.
    let (length, amendments) = written(&backend);
    assert!(length > 9 * 1100 && amendments < 300);
    backend.close().unwrap();
    // Broker finds all of it.
    let connection = Connection::open(&path).unwrap();
    let value: Vec<u8> = connection
        .query_row("SELECT value FROM store", [], |row| row.get(0))
        .unwrap();
    assert_eq!(value, set(1400).value.as_bytes());
}

#[test]
fn amendments_that_a_failure_has_left_are_of_no_use_to_what_is_written_later() {
    let (_directory, path) = file("failing.sqlite");
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    backend.load().unwrap();
    let whole = |numbers| BackendWrite::Put(Encoded::key("set"), set(numbers));
    backend.commit(&commit_of(whole(100))).unwrap();
    backend.commit(&commit_of(add(101))).unwrap();
    let only_reads = |backend: &Sqlite, only_reads: bool| {
        let connection = backend.connection.as_ref().unwrap();
        connection
            .pragma_update(None, "query_only", only_reads)
            .unwrap();
    };
    only_reads(&backend, true);
    assert!(backend.commit(&commit_of(whole(50))).is_err());
    only_reads(&backend, false);
    backend.commit(&commit_of(whole(50))).unwrap();
    backend.commit(&commit_of(add(51))).unwrap();
    drop(backend);
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    let kept = backend.load().unwrap();
    assert_eq!(kept.entries[0].1.value, set(51).value);
}

#[test]
fn an_amendment_of_nothing_is_damage() {
    let (_directory, path) = file("damaged.sqlite");
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    backend.load().unwrap();
    backend
        .commit(&commit_of(BackendWrite::Put(Encoded::key("set"), set(100))))
        .unwrap();
    backend.commit(&commit_of(add(101))).unwrap();
    let connection = backend.connection.as_ref().unwrap();
    connection.execute("DELETE FROM store", []).unwrap();
    drop(backend);
    let mut backend = Sqlite::new(&path, SqliteOptions::default());
    let error = backend.load().unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged);
    let text = error.to_string();
    assert!(text.contains("amendment 1 fits to no entry"), "{text}");
}
