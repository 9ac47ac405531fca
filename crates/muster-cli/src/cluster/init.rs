//! `muster init`: the first machine of a cluster of several.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster_agent::{AGENT_PORT, BoxFile, IdentityFiles, Places, is_of_this_machine};
use muster_cluster::Layout;

use super::agent_client::Target;
use super::this_box::{failure, hand_over, place_layout, refuse_twice, write_box_file};
use super::{Home, load_text, read_layout};
use crate::commands::Execute;
use crate::output::{Failure, say};

/// The name of a cluster whose layout gives it none.
const CLUSTER: &str = "muster";

/// Found a cluster of several machines: this one is its first box, and has its authority
///
/// The layout names the boxes (`[box.a]` with `address`) and says which nodes are on which (`box = "a"`). It becomes the
/// layout of this box, /etc/muster/muster.toml. Run `muster agent`, then `muster token create`, then `muster join` on the
/// next machine.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The name of this box in the layout [default: the one whose address is this machine's]
    #[arg(long = "box", value_name = "NAME")]
    name: Option<String>,
    /// Layout file
    #[arg(value_name = "FILE", default_value = "muster.toml")]
    layout: PathBuf,
    /// Make certificates that are valid for so many seconds
    #[arg(long, hide = true, value_name = "SECONDS")]
    certificate_seconds: Option<u32>,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        init(&self)
    }
}

fn init(arguments: &Arguments) -> Result<ExitCode> {
    let root = Target::of_box().root.unwrap_or_default();
    refuse_twice(&root)?;
    let text = read_layout(&arguments.layout)?;
    let loaded = load_text(&arguments.layout, &text, &[], Home::Standard(&root))?;
    let boxes = loaded.layout.boxes();
    let (name, address) = match &arguments.name {
        Some(name) => {
            let address = boxes.get(name).copied().ok_or_else(|| {
                Failure::new(format!("{} has no box {name}", loaded.layout.file()))
                    .hint(format!("add `[box.{name}]` with `address = \"…\"`"))
            })?;
            (name.clone(), address)
        }
        None => the_box_here(&loaded.layout)?,
    };
    if !is_of_this_machine(address) {
        return Err(
            Failure::new(format!("{address} is not an address of this machine"))
                .hint(format!("the layout has box {name} there"))
                .into(),
        );
    }
    let file = BoxFile {
        name: name.clone(),
        cluster: cluster_name(&loaded.layout),
        listen: (address, AGENT_PORT).into(),
        authority: None,
        certificate_seconds: arguments.certificate_seconds,
    };
    let identity = IdentityFiles::below(&Places::standard(&root).state);
    place_layout(&root, &text)?;
    let founded = muster_agent::found(&file, &identity).map_err(|error| failure(&error))?;
    // Last: what it says is there.
    write_box_file(&root, &file)?;
    hand_over(&root)?;
    say(&format!(
        "cluster {} founded; authority sha256:{}; this box is {name}",
        file.cluster, founded.authority
    ));
    Ok(ExitCode::SUCCESS)
}

/// The only box of a layout whose address is this machine's.
fn the_box_here(layout: &Layout) -> Result<(String, IpAddr)> {
    let boxes = layout.boxes().iter();
    let here: Vec<_> = boxes
        .filter(|(_, address)| is_of_this_machine(**address))
        .collect();
    match here[..] {
        [(name, address)] => Ok((name.clone(), *address)),
        [] => Err(Failure::new(format!("{} has no box with an address of this machine", layout.file()))
            .hint("a cluster of several machines names them: `[box.a]` with `address = \"…\"`, and `box = \"a\"` in its nodes")
            .into()),
        _ => Err(Failure::new("several boxes have addresses of this machine")
            .hint("say which one this is: --box NAME")
            .into()),
    }
}

/// The name of the cluster that a layout is of: the usual one if it says none.
pub(super) fn cluster_name(layout: &Layout) -> String {
    let mut nodes = layout.nodes().iter();
    let named = nodes
        .next()
        .map(|node| node.settings.text("cluster.name").to_owned());
    let named = named.filter(|name| !name.is_empty());
    named.unwrap_or_else(|| CLUSTER.to_owned())
}
