//! `muster agent`: the agent of a box, with the standard directories.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster_agent::Access;
use sd_notify::NotifyState;

use super::agent_client::Target;
use super::run::ExposureArguments;
use super::stop::stop_all;
use super::supervise::{Job, supervise};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, MISCONFIGURED, say};

/// Run the agent of this box: it keeps the box's nodes running
///
/// The layout is /etc/muster/muster.toml; state is in /var/lib/muster, logs are in /var/log/muster, sockets in /run/muster.
/// MUSTER_ROOT=DIR puts a directory before all of them. Nodes go on if the agent ends in any other way than by
/// `muster agent stop`, SIGTERM or SIGINT, and the next agent takes them over.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    exposure: ExposureArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replace the agent's program by the one on disk; its nodes go on
    Reload,
    /// Have the agent's nodes open their log files anew, as after a rotation by somebody else
    Reopen,
    /// Stop all nodes in an orderly way, and the agent
    Stop,
}

/// How long the agent may take until it answers with its new program.
const RELOAD_LIMIT: Duration = Duration::from_secs(10);

impl Execute for Arguments {
    const LOG_LEVEL: &'static str = "info";

    fn execute(self) -> Result<ExitCode> {
        on_runtime(async move {
            match self.command {
                None => run(&self.exposure).await,
                Some(Command::Reload) => reload().await,
                Some(Command::Reopen) => {
                    Target::of_box().change("reopen").await?;
                    Ok(ExitCode::SUCCESS)
                }
                Some(Command::Stop) => stop_all(&Target::of_box()).await,
            }
        })
    }
}

async fn run(exposure: &ExposureArguments) -> Result<ExitCode> {
    let target = Target::of_box();
    let job = Job::of(&target, Some(exposure)).map_err(|error| {
        // Whoever supervises the agent need not try again.
        match error.downcast::<Failure>() {
            Ok(failure) => failure.code(MISCONFIGURED).into(),
            Err(error) => error,
        }
    })?;
    let started = format!("the agent runs the nodes of {}", job.layout_file.display());
    let mut service = Service::new();
    supervise(&job, Access::Group, &started, || service.turn()).await
}

async fn reload() -> Result<ExitCode> {
    let target = Target::of_box();
    let started = |status: &muster_gateway::status::ClusterStatus| {
        status.agent.as_ref().map(|agent| agent.started)
    };
    let before = started(&target.status().await?);
    target.change("reload").await?;
    let deadline = tokio::time::Instant::now() + RELOAD_LIMIT;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // In between nobody listens.
        let Ok(status) = target.status().await else {
            continue;
        };
        if let Some(agent) = status.agent.as_ref().filter(|_| started(&status) != before) {
            say(&format!(
                "the agent goes on as process {} with version {}",
                agent.pid, agent.version
            ));
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Failure::new("the agent has not come back").into())
}

/// What a service manager is told: that the agent is up, and again and again that its loop turns.
struct Service {
    told_ready: bool,
    watchdog: Option<Duration>,
    told: tokio::time::Instant,
}

impl Service {
    fn new() -> Self {
        Self {
            told_ready: false,
            // Twice as often as it has to be.
            watchdog: sd_notify::watchdog_enabled().map(|limit| limit / 2),
            told: tokio::time::Instant::now(),
        }
    }

    fn turn(&mut self) {
        // Without a service manager there is nobody to tell.
        if !self.told_ready {
            self.told_ready = true;
            let _ = sd_notify::notify(&[NotifyState::Ready]);
        }
        if self
            .watchdog
            .is_some_and(|every| self.told.elapsed() >= every)
        {
            self.told = tokio::time::Instant::now();
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }
}
