//! Where the nodes of a running cluster can be spoken to, by its layout.

use std::path::Path;

use anyhow::Result;
use muster::Tls;
use muster_agent::{IdentityFiles, is_of_this_machine};
use muster_cluster::{Node, Origin, Role};

use super::agent_client::Target;
use super::node::{tls, tls_of_box};
use super::{Home, LoadedLayout, load_text, read_layout};
use crate::output::{Failure, NOT_RUNNING};

/// A node that can be spoken to.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) node: String,
    pub(crate) address: String,
    /// How its connections are protected.
    pub(crate) tls: Tls,
}

/// Returns the nodes of a layout, or of `muster.toml` here, or else of the layout of this box: those of this machine first, and
/// among them those that relay.
pub(crate) fn doors(layout: Option<&Path>) -> Result<Vec<Door>> {
    let target = Target::find(layout)?;
    let file = &target.layout_file;
    if !file.exists() {
        return Err(Failure::new(format!(
            "no cluster is known: there is no muster.toml here, and no {}",
            file.display()
        ))
        .hint("name the layout's file with --layout, or a node with --address")
        .code(NOT_RUNNING)
        .into());
    }
    let home = target.root.as_deref().map_or(Home::Layout, Home::Standard);
    let loaded = load_text(file, &read_layout(file)?, &[], home)?;
    let mut nodes: Vec<&Node> = loaded.layout.nodes().iter().collect();
    nodes.sort_by_key(|node| (!is_of_this_machine(node.address), node.role == Role::Worker));
    let is_of_box = target.root.is_some();
    let door = |node: &&Node| Door {
        node: node.name.to_string(),
        address: node.socket_address().to_string(),
        tls: tls_towards(&loaded, node, is_of_box),
    };
    Ok(nodes.iter().map(door).collect())
}

/// What the layout says, or else the certificate of this box.
fn tls_towards(loaded: &LoadedLayout, node: &Node, is_of_box: bool) -> Tls {
    let files = IdentityFiles::below(&loaded.places.state);
    let has_identity = is_of_box && files.of_box().certificate.exists();
    if has_identity && node.settings.origin("tls.mode") == Origin::Default {
        return tls_of_box(&files, files.of_box());
    }
    tls(loaded, node)
}
