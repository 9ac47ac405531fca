//! `muster join`: the next machine of a cluster.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster_agent::{IdentityFiles, Joining, Places};

use super::agent_client::Target;
use super::this_box::{failure, hand_over, place_layout, refuse_twice, write_box_file};
use crate::commands::{Execute, on_runtime};
use crate::output::say;

/// Join a cluster with a token: key and certificate of this machine, the cluster's authority and layout
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The name of this box in the layout
    #[arg(long = "box", value_name = "NAME")]
    name: String,
    /// The address of this box in the layout [default: the one on the way to ADDRESS]
    #[arg(long = "address", value_name = "IP")]
    own: Option<IpAddr>,
    /// What `muster token create` has printed
    #[arg(value_name = "TOKEN")]
    token: String,
    /// The address of the box that has the authority
    #[arg(value_name = "ADDRESS")]
    at: IpAddr,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        on_runtime(async move { join(&self).await })
    }
}

async fn join(arguments: &Arguments) -> Result<ExitCode> {
    let root = Target::of_box().root.unwrap_or_default();
    refuse_twice(&root)?;
    let identity = IdentityFiles::below(&Places::standard(&root).state);
    let joining = Joining {
        token: &arguments.token,
        at: arguments.at,
        name: &arguments.name,
        address: arguments.own,
    };
    let joined = joining.join(&identity).await;
    let (file, layout) = joined.map_err(|error| failure(&error))?;
    place_layout(&root, &layout)?;
    write_box_file(&root, &file)?;
    hand_over(&root)?;
    say(&format!(
        "joined cluster {} as box {}; `muster agent` runs its nodes",
        file.cluster, file.name
    ));
    Ok(ExitCode::SUCCESS)
}
