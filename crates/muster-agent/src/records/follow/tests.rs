#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;

use super::*;
use crate::records::Condition;

const HEADER: &str = "#separator \\x09\n#fields\tts\tnote\n#types\ttime\tstring\n";

struct Logs {
    directory: tempfile::TempDir,
    followed: Followed,
}

/// The name of a rotated file.
fn rotated(hour: u32) -> String {
    format!(
        "notice.logger-1.2018-03-24-{hour:02}-00-00-{:02}-00-00.log",
        hour + 1
    )
}

fn notes(records: &[RecordLine]) -> Vec<String> {
    let note = |record: &RecordLine| match &record.remark {
        Some(remark) => format!("remark: {remark}"),
        None => record
            .fields
            .iter()
            .find(|(name, _)| name == "note")
            .unwrap()
            .1
            .clone(),
    };
    records.iter().map(note).collect()
}

impl Logs {
    /// Some files, and a follower that has seen them.
    fn new(files: &[(&str, &[&str])], asked: Asked) -> (Self, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, notes) in files {
            write(&directory.path().join(name), notes);
        }
        let archive = directory.path().join("archive");
        let asked = Asked {
            stream: "notice".to_owned(),
            ..asked
        };
        let (found, followed) = Followed::start(directory.path(), &archive, asked).unwrap();
        assert_eq!(found.problems, [""; 0]);
        let notes = notes(&found.records);
        (
            Self {
                directory,
                followed,
            },
            notes,
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let file = File::options().append(true).open(self.path(name));
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// As the archive does it.
    fn archive(&self, name: &str, hour: u32) {
        let day = self.path("archive/2018-03-24");
        std::fs::create_dir_all(&day).unwrap();
        let path = self.path(name);
        let metadata = std::fs::metadata(&path).unwrap();
        let to = day.join(format!(
            "notice.{hour:02}:00:00-{:02}:00:00-logger-1.log.gz",
            hour + 1
        ));
        let file = File::create(to).unwrap();
        let builder = flate2::GzBuilder::new().comment(archive::original(&metadata));
        let mut encoder = builder.write(&file, flate2::Compression::fast());
        encoder.write_all(&std::fs::read(&path).unwrap()).unwrap();
        encoder.finish().unwrap();
        file.set_modified(metadata.modified().unwrap()).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    fn look(&mut self) -> Vec<String> {
        notes(&self.followed.look())
    }

    /// A look after so long a pause that anything may have happened.
    fn late_look(&mut self) -> Vec<String> {
        let (before, written) = self.followed.looked;
        self.followed.looked = (before.checked_sub(2 * LONG_PAUSE).unwrap(), written);
        self.look()
    }

    fn reading(&self) -> usize {
        let known = self.followed.files.values();
        known
            .filter(|known| matches!(known, Known::Reading(_)))
            .count()
    }
}

fn write(path: &Path, notes: &[&str]) {
    let rows = notes.iter().map(|note| row(note));
    std::fs::write(path, format!("{HEADER}{}", rows.collect::<String>())).unwrap();
}

fn row(note: &str) -> String {
    format!("1521911000.5\t{note}\n")
}

fn all() -> Asked {
    Asked {
        most: 1000,
        ..Asked::default()
    }
}

const CURRENT: &str = "notice.logger-1.log";

#[test]
fn what_is_written_comes_once_through_rotation_and_archiving() {
    let (mut logs, before) = Logs::new(
        &[
            (CURRENT, &["b"]),
            (&rotated(1), &["a"]),
            ("scans.logger-1.log", &["of another stream"]),
        ],
        all(),
    );
    assert_eq!(before.len(), 2);
    assert_eq!(logs.look(), [""; 0]);
    logs.append(CURRENT, &row("c"));
    logs.append(CURRENT, "1521911000.5\tto");
    assert_eq!(logs.look(), ["c"]);
    // Its logger renames it, ends it, and begins another one.
    logs.append(CURRENT, "rn\n");
    logs.rename(CURRENT, &rotated(2));
    logs.append(&rotated(2), &row("d"));
    logs.append(&rotated(2), "#close\t2018-03-24-03-00-00\n");
    write(&logs.path(CURRENT), &["e"]);
    let mut found = logs.look();
    found.sort();
    assert_eq!(found, ["d", "e", "torn"]);
    assert_eq!(logs.look(), [""; 0]);
    // What is archived before it was read to its end is open still.
    logs.append(&rotated(2), &row("f"));
    logs.archive(&rotated(2), 2);
    logs.archive(&rotated(1), 1);
    assert_eq!(logs.late_look(), ["f"]);
    assert_eq!(logs.late_look(), [""; 0]);
    assert_eq!(logs.reading(), 1);
    // Another logger, and one that was emptied.
    write(&logs.path("notice.logger-2.log"), &["g"]);
    assert_eq!(logs.look(), ["g"]);
    std::fs::write(logs.path("notice.logger-2.log"), "").unwrap();
    assert_eq!(logs.look(), [""; 0]);
    write(&logs.path("notice.logger-2.log"), &["h"]);
    assert_eq!(logs.look(), ["h"]);
}

#[test]
fn a_file_that_came_and_went_between_two_looks_is_found_in_the_archive() {
    let (mut logs, _) = Logs::new(&[(CURRENT, &["a"])], all());
    logs.append(CURRENT, &row("b"));
    logs.rename(CURRENT, &rotated(1));
    logs.archive(&rotated(1), 1);
    write(&logs.path(CURRENT), &["c"]);
    logs.rename(CURRENT, &rotated(2));
    logs.archive(&rotated(2), 2);
    write(&logs.path(CURRENT), &["d"]);
    let mut found = logs.late_look();
    found.sort();
    assert_eq!(found, ["b", "c", "d"]);
    assert_eq!(logs.late_look(), [""; 0]);
}

#[test]
fn a_file_that_is_read_to_its_end_is_closed_and_its_inode_may_come_again() {
    let (mut logs, _) = Logs::new(&[(&rotated(1), &["a"])], all());
    assert_eq!(logs.look(), [""; 0]);
    assert_eq!(logs.reading(), 1);
    let file = File::options().write(true).open(logs.path(&rotated(1)));
    file.unwrap()
        .set_modified(SystemTime::now() - 2 * SETTLED)
        .unwrap();
    assert_eq!(logs.look(), [""; 0]);
    assert_eq!(logs.reading(), 0);
    assert_eq!(logs.late_look(), [""; 0]);
    // The same inode under another name is another file.
    logs.rename(&rotated(1), CURRENT);
    assert_eq!(logs.look(), ["a"]);
}

#[test]
fn a_look_brings_so_much_and_no_file_waits_for_another() {
    let (mut logs, before) = Logs::new(
        &[(CURRENT, &["a", "b"]), ("notice.logger-2.log", &[])],
        Asked {
            most: 1,
            ..Asked::default()
        },
    );
    assert_eq!(before, ["b"]);
    logs.append(CURRENT, &row("much").repeat(5 * MOST_AT_ONCE));
    logs.append("notice.logger-2.log", &row("little"));
    let (mut looks, mut much, mut little) = (0, 0, 0);
    loop {
        let found = logs.look();
        looks += 1;
        assert!(found.len() <= MOST_AT_ONCE);
        much += found.iter().filter(|note| *note == "much").count();
        little += found.iter().filter(|note| *note == "little").count();
        if looks == 2 {
            assert_eq!(little, 1);
        }
        if !logs.followed.has_more() {
            break;
        }
    }
    assert_eq!((much, little), (5 * MOST_AT_ONCE, 1));
}

#[test]
fn only_what_fulfils_the_conditions_comes() {
    let conditions = vec![Condition::parse("note!=no").unwrap()];
    let (mut logs, before) = Logs::new(
        &[(CURRENT, &["yes", "no"])],
        Asked {
            conditions,
            ..all()
        },
    );
    assert_eq!(before, ["yes"]);
    logs.append(CURRENT, &(row("no") + &row("new") + "1.5\ta\tb\tc\n"));
    let found = logs.look();
    assert_eq!(found[1], "new");
    assert!(
        found[0].ends_with("notice.logger-1.log: 1 rows cannot be read"),
        "{found:?}"
    );
}
