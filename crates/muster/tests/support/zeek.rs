//! Running a real Zeek.
//!
//! `MUSTER_ZEEK` names the program, or a wrapper that ends by `exec`. A test that needs it and has none
//! says so on stderr and passes. Zeek listens on loopback only. It is killed when its test is over; if
//! the test's process is killed, the scripts' own limit ends it.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The longest that a test waits for anything that Zeek does.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends a Zeek that nobody ends.
const LIMIT: &str = "
redef exit_only_after_terminate = T;
event muster_time_is_up() { terminate(); }
event zeek_init() { schedule 120sec { muster_time_is_up() }; }
";

/// The program.
pub(crate) struct Zeek(String);

/// The Zeek that the environment names; without it, the test is skipped, aloud.
pub(crate) fn zeek() -> Option<Zeek> {
    if let Ok(path) = std::env::var("MUSTER_ZEEK") {
        return Some(Zeek(path));
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // Not by a macro: the test harness would keep it to itself.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED {test}: MUSTER_ZEEK names no Zeek").unwrap();
    None
}

impl Zeek {
    /// Whether this Zeek was built with a plugin, as `Zeek::Cluster_Backend_ZeroMQ`; said aloud if not.
    pub(crate) fn has(&self, plugin: &str) -> bool {
        let output = Command::new(&self.0).arg("-N").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let has = text.lines().any(|line| line.starts_with(plugin));
        if !has {
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: this Zeek has no {plugin}").unwrap();
        }
        has
    }

    /// Runs a script in a directory, which is made, with further arguments: `name=value` sets a
    /// constant, anything else is a script.
    pub(crate) fn start(&self, directory: &Path, script: &str, arguments: &[&str]) -> RunningZeek {
        self.start_node("", directory, script, arguments)
    }

    /// The same as a node of a cluster, whose `cluster-layout.zeek` is in the directory.
    pub(crate) fn start_node(
        &self,
        node: &str,
        directory: &Path,
        script: &str,
        arguments: &[&str],
    ) -> RunningZeek {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("test.zeek"), format!("{script}{LIMIT}")).unwrap();
        let mut child = Command::new(&self.0)
            .args(arguments)
            .arg("test.zeek")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("CLUSTER_NODE", node)
            .env("ZEEK_DEFAULT_LISTEN_ADDRESS", "127.0.0.1")
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.0));
        let (sender, lines) = mpsc::sync_channel(4096);
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        RunningZeek {
            child,
            lines,
            seen: Vec::new(),
        }
    }
}

fn forward(stream: impl Read + Send + 'static, sender: mpsc::SyncSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
}

/// A running Zeek, killed when dropped.
pub(crate) struct RunningZeek {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl RunningZeek {
    /// Waits for a line, of stdout or stderr, that begins with some words; the rest of it.
    pub(crate) fn says(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("Zeek never said `{start}`, but:\n{}", self.seen.join("\n"));
            };
            let rest = line.strip_prefix(start).map(|rest| rest.trim().to_owned());
            self.seen.push(line);
            if let Some(rest) = rest {
                return rest;
            }
        }
    }

    /// Waits for the end; all that was said.
    pub(crate) fn ended(&mut self) -> &[String] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("Zeek does not end; it said:\n{}", self.seen.join("\n"))
                }
            }
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.seen.join("\n"));
        &self.seen
    }

    /// Asks it to end, as an operator does, and waits.
    pub(crate) fn terminate(&mut self) -> &[String] {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(kill.unwrap().success());
        self.ended()
    }
}

impl Drop for RunningZeek {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
