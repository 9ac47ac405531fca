#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stderr, reason = "what is left out is said aloud")]

mod damage;
mod model;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use muster_consensus::{
    ClusterId, Content, Entry, Members, Promise, Snapshot, VoterChange, VoterId,
};
use muster_test_support::Random;
use tempfile::TempDir;

use super::VoterFileErrorKind as Kind;
use super::*;

const CLUSTER: ClusterId = ClusterId([9; 16]);

fn voter(number: u8) -> VoterId {
    VoterId {
        name: format!("agent.box-{number}"),
        disk: DiskId([number; 16]),
    }
}

fn members() -> Members {
    Members::new(vec![voter(1), voter(2), voter(3)], vec![voter(4)]).unwrap()
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("voter.sqlite");
    (directory, path)
}

fn open(path: &Path) -> (VoterFile, Option<Kept>) {
    let (file, _, kept) = VoterFile::open(path).unwrap();
    (file, kept)
}

/// A file that has begun as a founder's, and what it holds.
fn founded(path: &Path) -> (VoterFile, Kept) {
    let (mut file, disk, kept) = VoterFile::open(path).unwrap();
    assert_eq!(kept, None);
    let kept = Kept::founding(CLUSTER, disk, members(), vec![5; 100].into());
    file.begin(&kept).unwrap();
    (file, kept)
}

fn kind_of(path: &Path) -> Kind {
    let error = VoterFile::open(path).map(|_| ()).unwrap_err();
    let text = error.to_string();
    let at = path.display().to_string();
    assert!(text.contains(&at) && !text.contains('\n'), "{text}");
    error.kind()
}

fn entry(index: u64, term: u64, size: usize) -> Entry {
    let content = match size {
        0 => Content::Nothing,
        1 => Content::Change(VoterChange::AddLearner(voter(7))),
        _ => Content::Data(vec![u8::try_from(index % 251).unwrap(); size].into()),
    };
    Entry {
        index,
        term,
        content,
    }
}

fn nothing() -> Batch {
    Batch {
        promise: None,
        snapshot: None,
        clears: false,
        entries: Vec::new(),
        sync: true,
    }
}

fn promise(term: u64, vote: u64, commit: u64) -> Batch {
    Batch {
        promise: Some(Promise { term, vote, commit }),
        ..nothing()
    }
}

fn entries(entries: Vec<Entry>) -> Batch {
    Batch {
        entries,
        ..nothing()
    }
}

fn state(index: u64, size: usize) -> Batch {
    let state = vec![u8::try_from(index % 251).unwrap(); size].into();
    Batch {
        snapshot: Some(Snapshot {
            index,
            term: 1,
            members: members(),
            state,
        }),
        ..nothing()
    }
}

#[test]
fn a_file_keeps_its_identity_and_is_its_owner_s_alone() {
    let (directory, path) = place();
    let (file, disk, kept) = VoterFile::open(&path).unwrap();
    assert_eq!(kept, None);
    drop(file);
    let (file, again, kept) = VoterFile::open(&path).unwrap();
    assert_eq!((again, kept), (disk, None));
    drop(file);
    let (file, mut kept) = founded(&path);
    drop(file);
    let (mut file, read) = open(&path);
    assert_eq!(read.as_ref(), Some(&kept));
    let batch = entries(vec![entry(2, 1, 0), entry(3, 1, 1), entry(4, 1, 60_000)]);
    file.write(&batch).unwrap();
    kept.write(&batch);
    drop(file);
    assert_eq!(open(&path).1, Some(kept));
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name();
        assert!(["voter.sqlite", "voter.sqlite-journal"].contains(&name.to_str().unwrap()));
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name:?}");
    }
    let (_other, elsewhere) = place();
    let (_file, other, _) = VoterFile::open(&elsewhere).unwrap();
    assert_ne!(other, disk);
}

#[test]
fn a_stranger_begins_with_nothing() {
    let (_directory, path) = place();
    let (mut file, disk, _) = VoterFile::open(&path).unwrap();
    let mut kept = Kept::stranger(CLUSTER, disk);
    file.begin(&kept).unwrap();
    drop(file);
    let (mut file, read) = open(&path);
    assert_eq!(read.as_ref(), Some(&kept));
    // Entries have to wait for a state.
    let refused = file.write(&entries(vec![entry(1, 1, 5)])).unwrap_err();
    assert_eq!(refused.kind(), Kind::Misuse);
    for batch in [
        promise(3, 0, 0),
        Batch {
            clears: true,
            ..state(8, 10)
        },
    ] {
        file.write(&batch).unwrap();
        kept.write(&batch);
    }
    drop(file);
    assert_eq!(open(&path).1, Some(kept));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (_directory, path) = place();
    let (mut file, disk, _) = VoterFile::open(&path).unwrap();
    assert_eq!(file.write(&nothing()).unwrap_err().kind(), Kind::Misuse);
    let foreign = Kept::stranger(CLUSTER, DiskId([1; 16]));
    assert_eq!(file.begin(&foreign).unwrap_err().kind(), Kind::Misuse);
    let mut kept = Kept::founding(CLUSTER, disk, members(), Vec::new().into());
    file.begin(&kept).unwrap();
    assert_eq!(file.begin(&kept).unwrap_err().kind(), Kind::Misuse);
    let begun = [state(5, 10), entries(vec![entry(6, 1, 5), entry(7, 1, 5)])];
    for batch in &begun {
        file.write(batch).unwrap();
        kept.write(batch);
    }
    for batch in [
        entries(vec![entry(9, 1, 5)]),
        entries(vec![entry(5, 1, 5)]),
        entries(vec![entry(8, 1, 5), entry(10, 1, 5)]),
        entries(vec![entry(8, 1, muster_consensus::MAX_DATA + 1)]),
        entries(vec![entry(0, 1, 5)]),
        state(4, 10),
        state(8, MAX_STATE + 1),
        promise(u64::MAX, 0, 0),
    ] {
        let error = file.write(&batch).unwrap_err();
        assert_eq!(error.kind(), Kind::Misuse, "{batch:?}");
    }
    let more = entries(vec![entry(8, 1, 5)]);
    file.write(&more).unwrap();
    kept.write(&more);
    drop(file);
    assert_eq!(open(&path).1, Some(kept));
}

#[test]
fn what_is_not_synced_waits_and_not_for_ever() {
    let (_directory, path) = place();
    let (mut file, kept) = founded(&path);
    let unsynced = |batch: Batch| Batch {
        sync: false,
        ..batch
    };
    for commit in 2..1000 {
        file.write(&unsynced(promise(1, 0, commit))).unwrap();
    }
    assert_eq!(file.waiting.len(), 1);
    drop(file);
    let (mut file, read) = open(&path);
    assert_eq!(read, Some(kept));
    for index in 2..1000 {
        file.write(&unsynced(state(index, 10))).unwrap();
        assert!(file.waiting.len() <= MAX_WAITING);
    }
    file.write(&unsynced(state(1000, MAX_STATE))).unwrap();
    file.write(&unsynced(state(1001, MAX_STATE))).unwrap();
    assert!(file.waiting.is_empty());
    drop(file);
    let (mut file, read) = open(&path);
    assert_eq!(read.unwrap().snapshot, state(1001, MAX_STATE).snapshot);
    file.write(&unsynced(promise(2, 7, 1001))).unwrap();
    file.flush().unwrap();
    drop(file);
    assert_eq!(open(&path).1.unwrap().promise.term, 2);
}

#[test]
fn a_second_one_is_told_that_the_file_is_in_use() {
    let (_directory, path) = place();
    let (mut file, mut kept) = founded(&path);
    assert_eq!(kind_of(&path), Kind::InUse);
    // The first one goes on as if nothing had happened, and still has the file alone.
    let batch = promise(2, 3, 1);
    file.write(&batch).unwrap();
    kept.write(&batch);
    assert_eq!(kind_of(&path), Kind::InUse);
    drop(file);
    assert_eq!(open(&path).1, Some(kept));
}

/// Runs the test that runs as another process, with a file to use.
fn another_process(variable: &str, path: &Path) -> Command {
    let test = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&*test, "--exact", "--nocapture"]);
    command.env(variable, path).stdout(Stdio::null());
    command
}

/// A lock of SQLite's belongs to a process: that another one is told as well is not seen from within one.
#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    const VARIABLE: &str = "MUSTER_TEST_SECOND_VOTER";
    if let Some(path) = std::env::var_os(VARIABLE) {
        eprintln!("told: {:?}", kind_of(Path::new(&path)));
        return;
    }
    let (_directory, path) = place();
    let (mut file, _) = founded(&path);
    for _ in 0..2 {
        let said = another_process(VARIABLE, &path).output().unwrap().stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("told: InUse"), "{said}");
        file.write(&promise(2, 3, 1)).unwrap();
    }
}

/// What a process has synced before it is killed is there, and no half of what it was writing then.
#[test]
fn a_process_that_is_killed_has_what_it_synced() {
    const VARIABLE: &str = "MUSTER_TEST_KILLED_VOTER";
    let write_next = |kept: &mut Kept| {
        let batch = match kept.entries.len() {
            10.. => state(kept.last(), 50_000),
            _ => entries(vec![entry(kept.last() + 1, 1, 3000)]),
        };
        kept.write(&batch);
        batch
    };
    if let Some(path) = std::env::var_os(VARIABLE) {
        let (mut file, mut kept) = founded(Path::new(&path));
        // Whoever counts the lines ends it.
        for _ in 0..100_000 {
            file.write(&write_next(&mut kept)).unwrap();
            eprintln!("synced");
        }
        return;
    }
    let mut random = Random::new(4);
    for _ in 0..5 {
        let (_directory, path) = place();
        let mut command = another_process(VARIABLE, &path);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut synced = 1 + random.below(60);
        assert_eq!(lines.by_ref().take(synced).count(), synced);
        std::thread::sleep(Duration::from_micros(random.number(5000)));
        child.kill().unwrap();
        child.wait().unwrap();
        synced += lines
            .map_while(Result::ok)
            .filter(|line| line == "synced")
            .count();
        let (_file, disk, read) = VoterFile::open(&path).unwrap();
        let mut kept = Kept::founding(CLUSTER, disk, members(), vec![5; 100].into());
        for _ in 0..synced {
            write_next(&mut kept);
        }
        let mut next = kept.clone();
        write_next(&mut next);
        let read = read.unwrap();
        assert!(read == kept || read == next, "{synced}: {read:?}");
    }
}

#[test]
fn what_is_no_voter_s_file_is_refused_as_it_is() {
    let (directory, path) = place();
    std::fs::write(&path, "a text, and quite a long one: ".repeat(100)).unwrap();
    assert_eq!(kind_of(&path), Kind::Foreign);
    std::fs::write(&path, "short").unwrap();
    assert_eq!(kind_of(&path), Kind::Foreign);
    std::fs::write(&path, "").unwrap();
    assert_eq!(kind_of(&path), Kind::Damaged);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(kind_of(&path), Kind::Foreign);
    std::fs::remove_dir(&path).unwrap();
    for journal in ["delete", "wal"] {
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update_and_check(None, "journal_mode", journal, |_| Ok(()))
            .unwrap();
        connection
            .execute_batch("CREATE TABLE voter(id); INSERT INTO voter VALUES(1)")
            .unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(kind_of(&path), Kind::Foreign, "{journal}");
        assert!(std::fs::read(&path).unwrap() == before, "{journal}");
        std::fs::remove_file(&path).unwrap();
    }
    let nowhere = directory.path().join("none/voter.sqlite");
    assert_eq!(kind_of(&nowhere), Kind::Io);
}

#[test]
fn another_format_is_told_from_damage() {
    let (_directory, path) = place();
    drop(founded(&path));
    let set = |version: i64| {
        let connection = Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", version)
            .unwrap();
        drop(connection);
    };
    set(tables::VERSION + 1);
    assert_eq!(kind_of(&path), Kind::Newer);
    set(0);
    assert_eq!(kind_of(&path), Kind::Damaged);
    set(tables::VERSION);
    open(&path);
}

#[test]
fn where_nothing_may_be_written_no_file_is_used() {
    if rustix::process::geteuid().is_root() {
        eprintln!("left out: root may write everywhere");
        return;
    }
    let (directory, path) = place();
    drop(founded(&path));
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    allow(&path, 0o400);
    assert_eq!(kind_of(&path), Kind::Denied);
    allow(&path, 0o600);
    allow(directory.path(), 0o500);
    let error = VoterFile::open(&path).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(kind_of(&directory.path().join("new")), Kind::Denied);
    allow(directory.path(), 0o700);
    open(&path);
}

#[test]
fn a_full_disk_ends_the_use_of_a_file_and_costs_nothing_that_was_synced() {
    let (_directory, path) = place();
    let (mut file, mut kept) = founded(&path);
    let State::Open(connection) = &file.state else {
        unreachable!("it was opened");
    };
    connection
        .pragma_update_and_check(None, "max_page_count", 20, |_| Ok(()))
        .unwrap();
    let mut failed = None;
    for index in 2..100 {
        let batch = entries(vec![entry(index, 1, 3000)]);
        match file.write(&batch) {
            Ok(()) => kept.write(&batch),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let failed = failed.unwrap();
    assert_eq!(failed.kind(), Kind::Full);
    assert!(kept.last() > 2);
    assert_eq!(file.write(&promise(2, 0, 1)), Err(failed.clone()));
    assert_eq!(file.flush(), Err(failed.clone()));
    assert_eq!(file.begin(&kept), Err(failed));
    drop(file);
    assert_eq!(open(&path).1, Some(kept));
}

#[test]
fn what_a_crash_has_left_of_a_new_file_is_no_hindrance() {
    let (directory, path) = place();
    for leftover in [".new", "-journal", "-wal"] {
        std::fs::write(with_suffix(&path, leftover), "left").unwrap();
    }
    drop(founded(&path));
    assert!(!with_suffix(&path, ".new").exists());
    // One of two names is left if it comes between the last two steps.
    std::fs::hard_link(&path, with_suffix(&path, ".new")).unwrap();
    assert!(open(&path).1.is_some());
    drop(directory);
}
