//! `muster token`: what lets a machine join.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::agent_client::Target;
use super::logs::since as duration;
use crate::arguments::RemoteArguments;
use crate::commands::{Execute, on_runtime};
use crate::output::print;

/// Tokens with which machines join
#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Make a token that one machine can use, once
    Create(Create),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// How long it is valid, such as 15m, 2h or 1d
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    ttl: Duration,
    /// The only box that may use it
    #[arg(long = "box", value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    remote: RemoteArguments,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        let Self::Create(create) = self;
        on_runtime(async move {
            let target = Target::of_box_or(&create.remote).await?;
            let token = target.create_token(create.ttl, create.name).await?;
            print(&format!("{token}\n"))?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
