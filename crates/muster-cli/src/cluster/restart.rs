//! `muster restart`: returns when the node runs and is ready again, or has not become so in time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::control::{Request, Response, ask};
use super::{LoadedLayout, load};
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
    let layout = load(&arguments.layout, &[])?;
    if layout.layout.find(&arguments.node).is_none() {
        let names: Vec<&str> = layout
            .layout
            .nodes()
            .iter()
            .map(|node| node.name.as_str())
            .collect();
        return Err(
            Failure::new(format!("the layout has no node `{}`", arguments.node))
                .hint(format!("its nodes are {}", names.join(", ")))
                .into(),
        );
    }
    let before = life_of(&layout, &arguments.node).await?;
    ask(
        &layout,
        &Request::Restart {
            node: arguments.node.clone(),
        },
    )
    .await?;
    let deadline = tokio::time::Instant::now() + super::supervisor::STOP_LIMIT * 2;
    while tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = life_of(&layout, &arguments.node).await?;
        if now.is_some() && now != before {
            say(&format!("{} is running again", arguments.node));
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Failure::new(format!("{} has not become ready", arguments.node)).into())
}

/// The id of the life of a node that is ready.
async fn life_of(layout: &LoadedLayout, name: &str) -> Result<Option<String>> {
    let Response::Status(status) = ask(layout, &Request::Status).await? else {
        return Ok(None);
    };
    let node = status
        .nodes
        .into_iter()
        .find(|node| node.node == name && node.process == "running");
    Ok(node
        .and_then(|node| node.report)
        .filter(|report| report.state == "ready")
        .map(|report| report.id))
}
