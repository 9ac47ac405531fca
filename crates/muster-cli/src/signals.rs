//! The signals that ask a process for something.

use std::io::IsTerminal;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An orderly stop.
    Stop,
    /// To open log files anew, as after a rotation by somebody else.
    Reopen,
}

/// The signals that ask for something.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    has_terminal: bool,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            has_terminal: std::io::stderr().is_terminal(),
        })
    }

    /// Waits for the next of them. SIGHUP asks to reopen files, unless it says that the terminal is gone.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hang_up.recv() => if self.has_terminal { Asked::Stop } else { Asked::Reopen },
        }
    }
}
