//! What an agent does with log files that its loggers have ended.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::PathBuf;

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
        let file = std::fs::File::options().write(true).open(&rotated).unwrap();
        let ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
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
        told.contains("archive: 1 files wait for archive.command; cannot start"),
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
