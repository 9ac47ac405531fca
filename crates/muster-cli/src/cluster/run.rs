//! `muster run`: every node of a layout on this machine, supervised.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::fleet::{Fleet, News};
use super::{control, load, make_directory};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};

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
    let mut extra: Vec<String> = arguments
        .settings
        .iter()
        .flat_map(|setting| ["--set".to_owned(), setting.clone()])
        .collect();
    if arguments.plaintext_anywhere {
        extra.push("--plaintext-anywhere".to_owned());
    }
    if arguments.anonymous_anywhere {
        extra.push("--anonymous-anywhere".to_owned());
    }
    let file = std::path::absolute(&arguments.layout)?;
    let mut fleet = Fleet::new(layout.layout, file, layout.directory.clone(), extra);
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
            () = signals.next() => {
                if fleet.is_stopping() {
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
            }
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

/// The signals that ask for an orderly stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
