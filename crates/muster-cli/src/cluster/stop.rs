//! `muster stop`: returns when every node has ended.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::net::UnixStream;

use super::control::{Request, ask, socket_path};
use super::locate;
use crate::arguments::LayoutFile;
use crate::commands::{Execute, on_runtime};
use crate::output::say;

/// Stop a running cluster in an orderly way
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) layout: LayoutFile,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let place = locate(arguments.layout.path())?;
    ask(&place, &Request::Stop).await?;
    let path = socket_path(&place.directory);
    while UnixStream::connect(&path).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say("stopped");
    Ok(ExitCode::SUCCESS)
}
