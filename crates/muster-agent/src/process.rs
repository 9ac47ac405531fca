//! A process by a descriptor of its own (`pidfd_open(2)`): a number may become another process's, a descriptor not.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::sync::watch;

/// The stack of the thread that waits for a process, in bytes; it does nothing else.
const STACK: usize = 64 << 10;

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Unknown: it was no child of this process, and the kernel tells only parents.
    Unknown,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As `wait(2)` has them.
        match self {
            Self::Code(code) => ExitStatus::from_raw(code << 8).fmt(f),
            Self::Signal(signal) => ExitStatus::from_raw(*signal).fmt(f),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Process {
    /// Starts a command.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<(Self, std::process::Child)> {
        let child = command.spawn()?;
        // It is not reaped before somebody waits for it, so the number is still its own.
        let process = Self::of(Pid::from_child(&child))?;
        Ok((process, child))
    }

    /// Finds a process by its number. Whoever asks has to know that the number is still the one it means.
    pub(crate) fn of(pid: Pid) -> io::Result<Self> {
        let descriptor = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
        let (tell, ended) = watch::channel(None);
        let watched = Arc::clone(&descriptor);
        std::thread::Builder::new()
            .name(format!("process {}", raw(pid)))
            .stack_size(STACK)
            .spawn(move || tell.send_replace(Some(wait(&watched))))?;
        Ok(Self {
            pid,
            descriptor,
            ended,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        raw(self.pid)
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|ended| *ended)
            .unwrap_or(Ended::Unknown)
    }

    /// Kills it, if it has not ended.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }
}

/// Waits on this thread until a process has ended.
fn wait(process: &OwnedFd) -> Ended {
    // A descriptor of a process becomes readable when the process ends.
    let mut descriptors = [PollFd::new(process, PollFlags::IN)];
    while let Err(Errno::INTR) = poll(&mut descriptors, None) {}
    let status = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
    let Ok(Some(status)) = status else {
        return Ended::Unknown;
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, Some(signal)) => Ended::Signal(signal),
        (None, None) => Ended::Unknown,
    }
}

/// The number of a process.
pub(crate) fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Returns whether a process runs another program than the one at a path, as after an upgrade.
pub(crate) fn is_outdated(pid: u32, program: &std::path::Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &std::path::Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let runs = identity(std::path::Path::new(&format!("/proc/{pid}/exe")));
    let is_there = identity(program);
    runs.is_some() && is_there.is_some() && runs != is_there
}

/// Reaps the children that ended while nobody waited: those of this very process before it replaced its program. Who still
/// runs is untouched.
pub(crate) fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_end_is_told_with_its_reason() {
        let (process, _child) = Process::spawn(Command::new("sh").args(["-c", "exit 78"])).unwrap();
        assert_eq!(process.ended().await, Ended::Code(78));
        let (process, _child) = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        assert!(crate::usage::age(process.pid()).unwrap() < Duration::from_secs(60));
        process.kill();
        assert_eq!(process.ended().await, Ended::Signal(9));
        assert_eq!(Ended::Signal(9).to_string(), "signal: 9 (SIGKILL)");
        process.kill();
    }

    #[tokio::test]
    async fn a_process_of_somebody_else_is_watched_but_does_not_say_how_it_ended() {
        // The shell's own child outlives it, and is nobody's here.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "sleep 600 >/dev/null 2>&1 & echo $!"])
            .stdin(std::process::Stdio::null());
        let output = shell.output().unwrap();
        let pid: i32 = String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let process = Process::of(Pid::from_raw(pid).unwrap()).unwrap();
        process.kill();
        assert_eq!(process.ended().await, Ended::Unknown);
    }

    #[test]
    fn a_program_that_was_replaced_is_outdated() {
        let own = std::process::id();
        let program = std::env::current_exe().unwrap();
        assert!(!is_outdated(own, &program));
        assert!(is_outdated(own, std::path::Path::new("/bin/sh")));
        assert!(!is_outdated(own, std::path::Path::new("/no/such/program")));
    }
}
