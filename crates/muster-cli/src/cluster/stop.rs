//! `muster stop`: returns when every node has ended, or those that were named.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::agent_client::Target;
use super::restart::find;
use super::supervise::{Job, stop_without_agent};
use crate::arguments::LayoutOption;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, NOT_RUNNING, USAGE, say};

/// Stop a running cluster in an orderly way, or some of its nodes
///
/// A node that was named stays down until `muster start` or `muster restart` asks for it.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Nodes to stop [default: all, and their agent]
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(self))
    }
}

async fn run(mut arguments: Arguments) -> Result<ExitCode> {
    // As `muster run FILE` names it. Nodes are not called so.
    if let [file] = arguments.nodes.as_slice()
        && Path::new(file).extension().is_some_and(|end| end == "toml")
    {
        if arguments.layout.file.is_some() {
            let failure = Failure::new("the layout is given twice").code(USAGE);
            return Err(failure.into());
        }
        arguments.layout.file = Some(PathBuf::from(file));
        arguments.nodes.clear();
    }
    let target = Target::of(&arguments.layout).await?;
    if arguments.nodes.is_empty() && target.is_remote() {
        return Err(Failure::new("which nodes are to stop has to be said from another machine")
            .hint("nothing there could be started again without an agent; `muster stop` on the box stops all of it")
            .code(USAGE)
            .into());
    }
    if arguments.nodes.is_empty() {
        return stop_all(&target).await;
    }
    for node in &arguments.nodes {
        // What cannot be done at all is found before anything is done.
        find(&target, node).await?;
    }
    for node in &arguments.nodes {
        target.change(&format!("nodes/{node}/stop")).await?;
    }
    let deadline = tokio::time::Instant::now() + 2 * muster_agent::STOP_LIMIT;
    loop {
        let status = target.status().await?;
        let mut named = status.nodes.iter();
        let is_up = |node: &muster_gateway::status::ProcessStatus| {
            arguments.nodes.contains(&node.node) && node.pid.is_some()
        };
        let Some(node) = named.find(|node| is_up(node)) else {
            break;
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(Failure::new(format!("{} has not stopped", node.node)).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say(&format!("stopped {}", arguments.nodes.join(", ")));
    Ok(ExitCode::SUCCESS)
}

/// Stops all nodes and their agent; the nodes alone, if the agent is gone.
pub(super) async fn stop_all(target: &Target) -> Result<ExitCode> {
    let asked = target.stop_everything().await;
    if let Err(error) = asked {
        let failure = error.downcast_ref::<Failure>();
        let has_no_agent = failure.is_some_and(|failure| failure.code == NOT_RUNNING);
        if !has_no_agent || muster_agent::running_nodes(target.places()).is_empty() {
            return Err(error);
        }
    }
    while target.is_running().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // An agent that was killed meanwhile has left them running.
    if muster_agent::running_nodes(target.places()).is_empty() {
        say("stopped");
        return Ok(ExitCode::SUCCESS);
    }
    let stopped = stop_without_agent(&Job::of(target, None)?).await?;
    say(&format!("stopped {}, without an agent", stopped.join(", ")));
    Ok(ExitCode::SUCCESS)
}
