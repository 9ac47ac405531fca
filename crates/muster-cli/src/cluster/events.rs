//! `muster events`: what happened on the box.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster_agent::Event;

use super::agent_client::Target;
use super::logs::{Since, moment, since_when};
use crate::arguments::{Format, LayoutOption};
use crate::commands::{Execute, on_runtime};
use crate::output::print;

/// Show what happened: nodes that started, ended, became ready; changes that somebody asked for
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Only what happened since then: so long ago as 90s, 15m, 2h or 1d, or a time such as 2026-11-29T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since_when)]
    since: Option<Since>,
    #[command(flatten)]
    layout: LayoutOption,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(self))
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let target = Target::of(&arguments.layout).await?;
    let query = format!(
        "events?since={}&follow={}",
        moment(arguments.since),
        arguments.follow
    );
    let mut lines = target.lines(&query).await?;
    while let Some(event) = next::<Event>(&target, &mut lines).await? {
        match arguments.format {
            Format::Json => print(&format!("{}\n", serde_json::to_string(&event)?))?,
            Format::Text => print(&format!(
                "{}  {:<12} {:<14} {}\n",
                super::logs::time(event.time),
                event.node.as_deref().unwrap_or("-"),
                event.kind.name(),
                event.text
            ))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The next of the agent's lines.
pub(super) async fn next<T: serde::de::DeserializeOwned>(
    target: &Target,
    lines: &mut muster_agent::Lines,
) -> Result<Option<T>> {
    lines
        .next()
        .await
        .map_err(|error| target.failure(&error).into())
}
