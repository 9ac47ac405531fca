//! `muster box`: the machines of a cluster.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use muster_cluster::NodeName;

use super::agent_client::Target;
use crate::commands::{Execute, on_runtime};
use crate::output::{Failure, USAGE, say};

/// Boxes of the cluster
#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Let a box of this name join again, as after its disk was replaced; the old one gets no new certificates
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// The box
    #[arg(value_name = "NAME")]
    name: String,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        let Self::Forget(forget) = self;
        let checked = NodeName::new(&forget.name);
        checked.map_err(|error| Failure::new(error.to_string()).code(USAGE))?;
        on_runtime(async move {
            let target = Target::of_box();
            target
                .change(&format!("boxes/{}/forget", forget.name))
                .await?;
            say(&format!("box {} may join again", forget.name));
            Ok(ExitCode::SUCCESS)
        })
    }
}
