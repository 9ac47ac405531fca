//! `muster start`: returns when the nodes run and are ready, or have not become so in time.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::agent_client::Target;
use super::restart::{Change, carry_out};
use crate::arguments::LayoutOption;
use crate::commands::{Execute, on_runtime};

/// Start nodes that were stopped, or that wait to be started again
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
            carry_out(&target, &self.nodes, Change::Start).await
        })
    }
}
