//! One run of the program that ships a file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::settings::ShipCommand;
use super::store::stream_of;

/// The stack of the thread that waits for the program, in bytes; it does nothing else.
const STACK: usize = 64 << 10;

/// What is kept of the end of the program's words, in bytes.
const WORDS: usize = 4096;

/// The longest reason in an event, in characters.
const LONGEST_REASON: usize = 300;

/// How long after its end the program's last words may take; a child of it may hold the pipe.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a file was not shipped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShipError {
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("cannot watch the program: {0}")]
    Watch(#[from] io::Error),
    #[error("{0}")]
    Ended(String),
    #[error("the program was ended after {0:?}, archive.command_timeout")]
    TooLong(Duration),
}

/// Has the program take a file. It is ended, with its children, when it takes too long, and when this is dropped.
pub(super) async fn run(ship: &ShipCommand, file: &Path, name: &str) -> Result<(), ShipError> {
    let mut command = command(ship, file, name);
    let child = command.spawn().map_err(|source| ShipError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    let mut running = Running::new(child)?;
    let ended = tokio::time::timeout(ship.limit, running.ended()).await;
    match ended {
        Ok(ended) => match ended? {
            (status, _) if status.success() => Ok(()),
            (status, words) => Err(ShipError::Ended(reason(status, &words))),
        },
        Err(_) => Err(ShipError::TooLong(ship.limit)),
    }
}

/// The command for a file: no shell reads its name.
fn command(ship: &ShipCommand, file: &Path, name: &str) -> Command {
    let path = file.to_string_lossy();
    let filled = |word: &String| word.replace("{file}", &path).replace("{name}", name);
    let mut words = ship.words.iter();
    let mut command = Command::new(words.next().map(filled).unwrap_or_default());
    command.args(words.map(filled));
    if !ship.words.iter().any(|word| word.contains("{file}")) {
        command.arg(file);
    }
    command
        .env("MUSTER_FILE", file)
        .env("MUSTER_NAME", name)
        .env("MUSTER_STREAM", stream_of(file))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // So that it can be ended with its children.
        .process_group(0);
    command
}

/// A program that runs. Its number is its own until it is reaped.
struct Running {
    child: Child,
    has_ended: oneshot::Receiver<()>,
    words: Option<pipe::Receiver>,
    is_reaped: bool,
}

impl Running {
    fn new(mut child: Child) -> io::Result<Self> {
        let made = Self::parts(&mut child);
        match made {
            Ok((has_ended, words)) => Ok(Self {
                child,
                has_ended,
                words,
                is_reaped: false,
            }),
            Err(error) => {
                let _ = child.kill();
                Err(error)
            }
        }
    }

    fn parts(child: &mut Child) -> io::Result<(oneshot::Receiver<()>, Option<pipe::Receiver>)> {
        let descriptor = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        let (tell, has_ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("archive.command".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                wait(&descriptor);
                if tell.send(()).is_err() {
                    // It was given up, and nobody else reaps it.
                    let _ = waitid(WaitId::PidFd(descriptor.as_fd()), WaitIdOptions::EXITED);
                }
            })?;
        let words = child.stderr.take();
        let words = words.map(|words| pipe::Receiver::from_owned_fd(words.into()));
        Ok((has_ended, words.transpose()?))
    }

    /// Waits for its end, and returns its last words.
    async fn ended(&mut self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut tail = Vec::new();
        let mut has_ended = false;
        if let Some(words) = self.words.take() {
            let reading = keep_tail(words, &mut tail);
            tokio::pin!(reading);
            tokio::select! {
                () = &mut reading => {}
                _ = &mut self.has_ended => {
                    has_ended = true;
                    let _ = tokio::time::timeout(LAST_WORDS, reading).await;
                }
            }
        }
        if !has_ended {
            let _ = (&mut self.has_ended).await;
        }
        // It has ended, so this does not wait.
        let status = self.child.wait();
        self.is_reaped = true;
        Ok((status?, tail))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_reaped {
            let group = Pid::from_child(&self.child);
            let _ = kill_process_group(group, Signal::KILL);
            // From here on the thread reaps it, unless it has told its end already.
            self.has_ended.close();
            if self.has_ended.try_recv().is_ok() {
                let _ = self.child.wait();
            }
        }
    }
}

/// Waits on this thread until a process has ended, and leaves it to be reaped.
fn wait(process: &OwnedFd) {
    // A descriptor of a process becomes readable when the process ends.
    let mut descriptors = [PollFd::new(process, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut descriptors, None) {}
}

/// Reads to the end, and keeps the last bytes.
async fn keep_tail(mut words: impl AsyncRead + Unpin, tail: &mut Vec<u8>) {
    let mut chunk = [0; 1024];
    while let Ok(length @ 1..) = words.read(&mut chunk).await {
        tail.extend_from_slice(&chunk[..length]);
        let more = tail.len().saturating_sub(WORDS);
        tail.drain(..more);
    }
}

/// How it has ended, with the last line that it has written.
fn reason(status: ExitStatus, words: &[u8]) -> String {
    let ended = match status.signal() {
        Some(signal) => format!("the program was ended by signal {signal}"),
        None => format!("{status}"),
    };
    let words = String::from_utf8_lossy(words);
    let line = words.lines().rev().find(|line| !line.trim().is_empty());
    let Some(line) = line else { return ended };
    let line = line.trim().chars().take(LONGEST_REASON);
    let line: String = line.flat_map(plain).collect();
    format!("{ended}: {line}")
}

/// A character as it may stand in a line.
fn plain(letter: char) -> impl Iterator<Item = char> {
    let escaped = letter.is_control().then(|| letter.escape_default());
    let itself = escaped.is_none().then_some(letter);
    escaped.into_iter().flatten().chain(itself)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn ship(words: &[&str]) -> ShipCommand {
        ShipCommand {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            limit: Duration::from_secs(600),
        }
    }

    const FILE: &str = "/a/2018-03-24/conn.17:00:00-18:00:00-$(id) .log.gz";
    const NAME: &str = "2018-03-24/conn.17:00:00-18:00:00-$(id) .log.gz";

    fn words(command: &Command) -> Vec<&str> {
        let program = std::iter::once(command.get_program());
        let words = program.chain(command.get_args());
        words.map(|word| word.to_str().unwrap()).collect()
    }

    #[test]
    fn the_file_is_an_argument_of_its_own_whatever_its_name_has() {
        let last = command(
            &ship(&["/usr/bin/push", "--to", "x y"]),
            Path::new(FILE),
            NAME,
        );
        assert_eq!(words(&last), ["/usr/bin/push", "--to", "x y", FILE]);
        let of_name = command(
            &ship(&["cp", "{file}", "/mnt/{name}"]),
            Path::new(FILE),
            NAME,
        );
        let target = format!("/mnt/{NAME}");
        assert_eq!(words(&of_name), ["cp", FILE, &target]);
        let stream = last.get_envs().find(|(key, _)| *key == "MUSTER_STREAM");
        assert_eq!(stream.unwrap().1.unwrap(), "conn");
    }

    #[tokio::test]
    async fn what_the_program_says_last_is_the_reason() {
        let script = "echo first >&2; printf 'no\\033 route' >&2; exit 7";
        let error = run(&ship(&["sh", "-c", script]), Path::new(FILE), NAME).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "exit status: 7: no\\u{1b} route"
        );
        let script = "test \"$1\" = \"$MUSTER_FILE\" && test \"$MUSTER_NAME\" = \"${1#/a/}\"";
        let shipped = run(&ship(&["sh", "-c", script, "sh"]), Path::new(FILE), NAME).await;
        shipped.unwrap();
        let none = run(&ship(&["/no/such/program"]), Path::new(FILE), NAME).await;
        let text = none.unwrap_err().to_string();
        assert!(
            text.starts_with("cannot start /no/such/program: "),
            "{text}"
        );
        // Words without end are read, and not kept.
        let script = "head -c 10000000 /dev/zero >&2; exit 3";
        let loud = run(&ship(&["sh", "-c", script]), Path::new(FILE), NAME).await;
        assert!(loud.unwrap_err().to_string().len() < 10_000);
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_ended_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = "sleep 600 & echo $! > \"$0.new\"; mv \"$0.new\" \"$0\"; wait";
        let mut slow = ship(&["sh", "-c", script, pids.to_str().unwrap()]);
        slow.limit = Duration::from_millis(1);
        let child = loop {
            let error = run(&slow, Path::new(FILE), NAME).await.unwrap_err();
            assert!(matches!(error, ShipError::TooLong(_)), "{error}");
            if let Ok(text) = std::fs::read_to_string(&pids) {
                break text.trim().parse::<i32>().unwrap();
            }
            slow.limit *= 2;
        };
        // Its number is not used again so soon: it is gone, or waits to be reaped by whoever has taken it in.
        let stat = format!("/proc/{child}/stat");
        let is_gone = || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        while !is_gone() {
            tokio::task::yield_now().await;
        }
    }
}
