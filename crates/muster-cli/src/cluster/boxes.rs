//! `muster box`: the machines of a cluster.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster_cluster::NodeName;

use super::agent_client::Target;
use crate::arguments::RemoteArguments;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, USAGE};

/// Boxes of the cluster
#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Let a box of this name join again, as after its disk was replaced; no agent takes the certificate of the old one any
    /// more
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// The box
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    remote: RemoteArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        let Self::Forget(forget) = self;
        let checked = NodeName::new(&forget.name);
        checked.map_err(|error| Failure::new(error.to_string()).code(USAGE))?;
        on_runtime(async move {
            let target = Target::of_box_or(&forget.remote).await?;
            let name = &forget.name;
            let forgotten = format!("box {name} is forgotten; one of this name may join again");
            let what = format!("boxes/{name}/forget");
            target.change_and_say(&what, Some(&forgotten)).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
