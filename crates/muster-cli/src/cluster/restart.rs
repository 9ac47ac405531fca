//! `muster restart`: returns when the nodes run and are ready again, or have not become so in time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster_gateway::status::{FAILED, ProcessStatus};

use super::agent_client::Target;
use crate::arguments::LayoutOption;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};

/// Stop nodes in an orderly way and start them again, one after another
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The nodes' names
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
    #[command(flatten)]
    layout: LayoutOption,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(async move {
            let target = Target::of(&self.layout).await?;
            carry_out(&target, &self.nodes, Change::Restart).await
        })
    }
}

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Start,
    Restart,
}

/// Does it to one node after another, each when the one before is ready.
pub(super) async fn carry_out(
    target: &Target,
    nodes: &[String],
    change: Change,
) -> Result<ExitCode> {
    let mut befores = Vec::new();
    for name in nodes {
        // What cannot be done at all is found before anything is done.
        befores.push(find(target, name).await?);
    }
    target.warn();
    for (name, before) in nodes.iter().zip(befores) {
        one(target, name, &before, change).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn one(target: &Target, name: &str, before: &ProcessStatus, change: Change) -> Result<()> {
    let before = ready_life(before);
    match change {
        Change::Start if before.is_some() => {
            say(&format!("{name} is running already"));
            return Ok(());
        }
        Change::Start => target.change(&format!("nodes/{name}/start")).await?,
        Change::Restart => target.change(&format!("nodes/{name}/restart")).await?,
    }
    let deadline = tokio::time::Instant::now() + muster_agent::STOP_LIMIT * 2;
    let mut reason = None;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let process = find(target, name).await?;
        let now = ready_life(&process);
        if now.is_some() && now != before {
            let again = match change {
                Change::Start => "",
                Change::Restart => " again",
            };
            say(&format!("{name} is running{again}"));
            return Ok(());
        }
        if process.process == FAILED {
            let why = process.reason.unwrap_or_default();
            return Err(Failure::new(format!("{name} cannot be configured: {why}")).into());
        }
        reason = process.reason;
    }
    let why = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    Err(Failure::new(format!("{name} has not become ready{why}")).into())
}

/// A node of the running cluster.
pub(super) async fn find(target: &Target, name: &str) -> Result<ProcessStatus> {
    let mut nodes = target.status().await?.nodes;
    if let Some(at) = nodes.iter().position(|node| node.node == name) {
        return Ok(nodes.swap_remove(at));
    }
    let names: Vec<String> = nodes.into_iter().map(|node| node.node).collect();
    Err(Failure::new(format!("the cluster has no node `{name}`"))
        .hint(format!("its nodes are {}", names.join(", ")))
        .into())
}

/// The id of the life of a node that is ready.
fn ready_life(process: &ProcessStatus) -> Option<String> {
    let report = process.report.as_ref()?;
    let is_ready = process.process == "running" && report.state == "ready";
    is_ready.then(|| report.id.clone())
}
