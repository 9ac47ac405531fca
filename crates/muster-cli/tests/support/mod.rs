//! Running the real `muster` program.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub(crate) mod agent_box;
pub(crate) mod boxes;
pub(crate) mod cluster;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// The longest that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program with arguments, in a directory.
pub(crate) fn muster(directory: &Path, arguments: &[&str]) -> Command {
    muster_at(
        Path::new(env!("CARGO_BIN_EXE_muster")),
        directory,
        arguments,
    )
}

/// A copy of the program with arguments, in a directory.
pub(crate) fn muster_at(program: &Path, directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .env_remove("MUSTER_LOG");
    command
}

/// Runs the program to its end.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Output {
    muster(directory, arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running program whose stderr is read line by line; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Starts the program. Nodes that it runs end with it, however this test does.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = muster(directory, arguments);
        if arguments.first() == Some(&"run") {
            command.arg("--tied");
        }
        Self::spawn(&mut command)
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A copy of the program cannot be started while a process that another test has just made still has it open to write.
        let mut child = until("the program", || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            spawned => Some(spawned.unwrap()),
        });
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = sync_channel(4096);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: String::new(),
        }
    }

    /// Waits for a line on stderr that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(2 * PATIENCE) else {
                panic!("`{text}` never came; stderr was:\n{}", self.seen);
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the end; the exit code and the whole of stdout.
    pub(crate) fn finish(mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        // Its end must not wait for somebody to read what it says.
        while self.lines.recv().is_ok() {}
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// So many free ports.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    muster_measure::free_ports(count).unwrap()
}

/// Waits until `found` finds something.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    })
}
