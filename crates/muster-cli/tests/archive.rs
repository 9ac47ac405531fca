//! What an agent does with log files that its loggers have ended.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use support::agent_box::{AgentBox, get};
use support::{Running, stdout, until};

const ROTATED: &str = "sightings.2018-03-24-17-00-00-18-00-00.log";

const ARCHIVED: &str = "2018-03-24/sightings.17:00:00-18:00:00.log";

impl AgentBox {
    /// A file that a logger has ended an hour ago.
    fn rotated(&self) -> PathBuf {
        let logs = self.root().join("var/log/muster/current");
        std::fs::create_dir_all(&logs).unwrap();
        let rows =
            "#separator \\x09\n#fields\tts\tnote\n#types\ttime\tstring\n1521911000.5\tseen\n";
        let rotated = logs.join(ROTATED);
        std::fs::write(&rotated, rows).unwrap();
        let file = File::options().write(true).open(&rotated).unwrap();
        let ago = SystemTime::now() - Duration::from_secs(3600);
        file.set_modified(ago).unwrap();
        rotated
    }

    fn archived(&self, end: &str) -> PathBuf {
        let archive = self.root().join("var/log/muster/archive");
        archive.join(format!("{ARCHIVED}{end}"))
    }
}

#[test]
fn rotated_log_files_are_archived_and_still_read() {
    let here = AgentBox::new();
    let rotated = here.rotated();
    let _agent = here.start();
    let archived = here.archived(".gz");
    until("the archived file", || {
        (archived.exists() && !rotated.exists()).then_some(())
    });
    let shown = stdout(&here.done(&["records", "sightings"]));
    assert!(shown.contains("seen"), "{shown}");
    let events = stdout(&here.done(&["events"]));
    assert!(events.contains("archived 1 log files"), "{events}");
    let socket = here.root().join("run/muster/view.sock");
    let metrics = get(&socket, "/metrics", "*/*");
    let count = "muster_archive_files_archived_total{role=\"agent\"} 1";
    assert!(metrics.lines().any(|line| line == count), "{metrics}");
}

#[test]
fn what_was_not_shipped_is_shipped_by_the_next_agent() {
    let far = tempfile::tempdir().unwrap();
    // A program of a user's: it is there later.
    let program = far.path().join("send it");
    let here = AgentBox::with(&format!(
        "[archive]\ncompression = \"zstd\"\ncommand = [\"{}\"]\n",
        program.display()
    ));
    here.rotated();
    let mut agent = here.start();
    let told = until("the failure in the status", || {
        let status = stdout(&here.run(&["status"]));
        status.contains("cannot start").then_some(status)
    });
    assert!(
        told.contains("archive: 1 file waits for archive.command; cannot start"),
        "{told}"
    );
    let socket = here.root().join("run/muster/view.sock");
    let metrics = get(&socket, "/metrics", "*/*");
    let count = "muster_archive_unshipped_files{role=\"agent\"} 1";
    assert!(metrics.lines().any(|line| line == count), "{metrics}");
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();

    let script = "#!/bin/sh\nset -e\ncp \"$1\" \"${0%/*}/new\"\nmv \"${0%/*}/new\" \"${0%/*}/$MUSTER_STREAM\"\n";
    let written = std::fs::write(&program, script);
    written.unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let mut next = Running::spawn(&mut here.command(&["agent"]));
    next.wait_for("all nodes are ready");
    let arrived = far.path().join("sightings");
    until("the file on the other side", || {
        arrived.exists().then_some(())
    });
    let sent = std::fs::read(&arrived).unwrap();
    assert_eq!(sent, std::fs::read(here.archived(".zst")).unwrap());
    until("the end of the backlog", || {
        let told = stdout(&here.run(&["status"]));
        (!told.contains("archive.command")).then_some(())
    });
    let shown = stdout(&here.done(&["records", "sightings"]));
    assert!(shown.contains("seen"), "{shown}");
}

const HEADER: &str = "#separator \\x09\n#fields\tts\tnumber\n#types\ttime\tcount\n";

/// A logger as bad as can be: it rotates again and again, and its files are archived at once.
#[test]
fn records_are_followed_through_rotation_and_archiving_and_each_comes_once() {
    let here = AgentBox::new();
    let _agent = here.start();
    let logs = here.root().join("var/log/muster/current");
    let current = logs.join("sightings.logger-1.log");
    std::fs::write(&current, HEADER).unwrap();
    let mut follower = here.command(&[
        "records",
        "sightings",
        "-f",
        "--where",
        "number!=7",
        "--format",
        "json",
    ]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut found = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    let mut next = || {
        line.clear();
        found.read_line(&mut line).unwrap();
        let record: Value = serde_json::from_str(&line).unwrap();
        record["number"].as_str().unwrap().parse::<u32>().unwrap()
    };
    let append = |number: u32| {
        let row = format!("1521911000.5\t{number}\n");
        let mut file = File::options().append(true).open(&current).unwrap();
        file.write_all(row.as_bytes()).unwrap();
        file
    };
    append(0);
    assert_eq!(next(), 0);
    let mut seen = BTreeMap::new();
    for hour in 0..20_u32 {
        for number in 1..=10 {
            append(hour * 10 + number);
        }
        let name = format!("sightings.logger-1.2018-03-24-{hour:02}-00-00-{hour:02}-30-00.log");
        std::fs::rename(&current, logs.join(&name)).unwrap();
        std::fs::write(&current, HEADER).unwrap();
        let old = File::options().write(true).open(logs.join(&name)).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(6))
            .unwrap();
    }
    append(201);
    while !seen.contains_key(&201) {
        *seen.entry(next()).or_insert(0) += 1;
    }
    until("the archive of all", || {
        let left = std::fs::read_dir(&logs).unwrap();
        (left
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .starts_with("sightings")
            })
            .count()
            == 1)
            .then_some(())
    });
    append(202);
    while !seen.contains_key(&202) {
        *seen.entry(next()).or_insert(0) += 1;
    }
    let all: Vec<u32> = seen.keys().copied().collect();
    let expected: Vec<u32> = (1..=202).filter(|number| *number != 7).collect();
    assert_eq!(all, expected);
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let shown = stdout(&here.done(&["records", "sightings", "--where", "number==7.0"]));
    assert_eq!(shown, "ts\tnumber\n1521911000.5\t7\n");
}
