//! `muster restart`: returns when the node runs and is ready again, or has not become so in time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use muster_gateway::status::{FAILED, ProcessStatus};

use super::control::{Request, Response, ask};
use super::{Place, locate};
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, say};

/// Stop one node in an orderly way and start it again
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The node's name
    pub(crate) node: String,
    /// Layout file of the cluster
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let place = locate(&arguments.layout)?;
    let name = &arguments.node;
    let before = match find(&place, name).await? {
        Ok(process) => ready_life(&process),
        Err(names) => {
            return Err(Failure::new(format!("the cluster has no node `{name}`"))
                .hint(format!("its nodes are {}", names.join(", ")))
                .into());
        }
    };
    place.warn();
    let restart = Request::Restart { node: name.clone() };
    if let Response::Noted(note) = ask(&place, &restart).await? {
        say(&note);
    }
    let deadline = tokio::time::Instant::now() + super::supervisor::STOP_LIMIT * 2;
    let mut reason = None;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Ok(process) = find(&place, name).await? else {
            break;
        };
        let now = ready_life(&process);
        if now.is_some() && now != before {
            say(&format!("{name} is running again"));
            return Ok(ExitCode::SUCCESS);
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

/// A node of the running cluster, or else the names of all.
async fn find(place: &Place, name: &str) -> Result<Result<ProcessStatus, Vec<String>>> {
    let Response::Status(status) = ask(place, &Request::Status).await? else {
        return Err(Failure::new("the supervisor sent no status").into());
    };
    let mut nodes = status.nodes;
    Ok(match nodes.iter().position(|node| node.node == name) {
        Some(at) => Ok(nodes.swap_remove(at)),
        None => Err(nodes.into_iter().map(|node| node.node).collect()),
    })
}

/// The id of the life of a node that is ready.
fn ready_life(process: &ProcessStatus) -> Option<String> {
    let report = process.report.as_ref()?;
    let is_ready = process.process == "running" && report.state == "ready";
    is_ready.then(|| report.id.clone())
}
