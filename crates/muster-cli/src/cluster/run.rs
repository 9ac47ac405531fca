//! `muster run`: every node of a layout on this machine, supervised.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::fleet::{Fleet, News};
use super::{control, load, make_directory};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, MISCONFIGURED, say};

/// Run every node of a layout on this machine, supervised
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Layout file
    #[arg(value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Override a setting of the layout, such as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Allow listening without encryption on addresses other than loopback
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    /// Allow listening with anonymous TLS on addresses other than loopback
    #[arg(long)]
    pub(crate) anonymous_anywhere: bool,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let layout = load(&arguments.layout, &arguments.settings)?;
    make_directory(&layout.directory)?;
    let (_socket, requests) = control::listen(&layout.directory).await?;
    let mut extra = Vec::new();
    if arguments.plaintext_anywhere {
        extra.push("--plaintext-anywhere".to_owned());
    }
    if arguments.anonymous_anywhere {
        extra.push("--anonymous-anywhere".to_owned());
    }
    let file = std::path::absolute(&arguments.layout)?;
    let mut fleet = Fleet::new(layout.clone(), file, &arguments.settings, extra);
    let elsewhere = fleet.elsewhere();
    if elsewhere.len() == layout.layout.nodes().len() {
        let message = format!("no node of {} is on this machine", layout.layout.file());
        return Err(Failure::new(message)
            .hint(format!("its nodes are {}", elsewhere.join(", ")))
            .into());
    }
    if !elsewhere.is_empty() {
        say(&format!("left to other machines: {}", elsewhere.join(", ")));
    }
    fleet.serve(requests);
    let mut signals = Signals::new()?;
    fleet.start_all();
    say(&format!(
        "logs are in {}; press Ctrl-C to stop the cluster",
        layout.directory.display()
    ));
    let mut told_ready = false;
    let mut killed = Vec::new();
    while !fleet.is_done() {
        tokio::select! {
            () = fleet.next() => {}
            signal = signals.next() => {
                if signal == Asked::Reopen {
                    fleet.reopen();
                } else if fleet.is_stopping() {
                    say("killing the remaining nodes");
                    killed.extend(fleet.kill_all());
                } else {
                    say("stopping; press Ctrl-C again to kill the remaining nodes");
                    fleet.stop();
                }
            }
        }
        for news in fleet.take_news() {
            match news {
                News::Started(name) => say(&format!("{name}: started")),
                News::Ended(name, None) => say(&format!("{name}: ended")),
                News::Ended(name, Some(reason)) => {
                    told_ready = false;
                    say(&format!(
                        "{name}: ended, {reason} (see {})",
                        fleet.log_file(&name).display()
                    ));
                }
                News::Note(note) => say(&note),
            }
        }
        if fleet.has_failed() {
            return Err(Failure::new("no node can be configured")
                .code(MISCONFIGURED)
                .into());
        }
        if !told_ready && !fleet.is_stopping() && fleet.status().all_ready() {
            told_ready = true;
            say("all nodes are ready");
        }
    }
    if killed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    killed.sort();
    killed.dedup();
    Err(Failure::new(format!(
        "killed {} before it had stopped in an orderly way",
        killed.join(", ")
    ))
    .into())
}

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
