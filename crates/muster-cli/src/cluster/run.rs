//! `muster run`: the agent of a box in the foreground, for one layout.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster::Exposure;
use muster_agent::{Access, Lives};

use super::load;
use super::node::exposure;
use super::supervise::{Job, supervise};
use crate::commands::{Execute, on_runtime};

/// Run every node of a layout on this machine, supervised
///
/// Nodes go on if this process is killed, and the next `muster run` takes them over. `muster stop` and Ctrl-C stop them in
/// order.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Layout file
    #[arg(value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Override a setting of the layout, such as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    #[command(flatten)]
    pub(crate) exposure: ExposureArguments,
    /// End the nodes if this process is killed, as containers and tests want it
    #[arg(long)]
    pub(crate) tied: bool,
}

// Where nodes may listen. (A doc comment would become the help of the commands.)
#[derive(Debug, Clone, Args)]
pub(crate) struct ExposureArguments {
    /// Allow listening without encryption on addresses other than loopback
    #[arg(long)]
    plaintext_anywhere: bool,
    /// Allow listening with anonymous TLS on addresses other than loopback
    #[arg(long)]
    anonymous_anywhere: bool,
}

impl ExposureArguments {
    pub(super) fn exposure(&self) -> Exposure {
        exposure(self.plaintext_anywhere, self.anonymous_anywhere)
    }

    /// What each node is told of it.
    pub(super) fn for_nodes(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.plaintext_anywhere {
            arguments.push("--plaintext-anywhere".to_owned());
        }
        if self.anonymous_anywhere {
            arguments.push("--anonymous-anywhere".to_owned());
        }
        arguments
    }
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(run(&self))
    }
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let loaded = load(&arguments.layout, &arguments.settings)?;
    let started = format!(
        "logs are in {}; press Ctrl-C to stop the cluster",
        loaded.places.logs.display()
    );
    let job = Job {
        loaded,
        layout_file: std::path::absolute(&arguments.layout)?,
        settings: arguments.settings.clone(),
        arguments: arguments.exposure.for_nodes(),
        root: None,
        lives: if arguments.tied {
            Lives::Tied
        } else {
            Lives::Own
        },
        own_box: None,
        exposure: arguments.exposure.exposure(),
    };
    supervise(&job, Access::Owner, &started, || {}).await
}
