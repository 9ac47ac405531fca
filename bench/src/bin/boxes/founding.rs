//! How boxes become a cluster: the first is founded, the others join.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context, Result};
use muster_bench::boxes::{BoxOfOne, Boxes, until};

/// The boxes of a cluster.
pub(crate) const BOXES: [&str; 3] = ["a", "b", "c"];

/// The box that the clients are in, which is none of the cluster's.
pub(crate) const OUTSIDE: &str = "x";

/// Founds a cluster on box a and has the others join, each with its agent started by `start`. Returns the last token, which was
/// used.
pub(crate) fn found(
    boxes: &Boxes,
    layout: &Path,
    others: &[&str],
    mut start: impl FnMut(&str) -> Result<()>,
) -> Result<String> {
    let layout = layout.to_str().context("the directory is no text")?;
    let first = boxes.get("a")?;
    first.ends_with(0, &["init", "--box", "a", layout])?;
    start("a")?;
    until("the agent of a", || {
        let code = first.run(&["status"])?.status.code();
        Ok(code.filter(|code| *code != 3))
    })?;
    let mut used = String::new();
    for name in others {
        let token = first.ends_with(0, &["token", "create"])?;
        token.trim().clone_into(&mut used);
        let at = first.address.to_string();
        let joining = ["join", "--box", name, &used, &at];
        boxes.get(name)?.ends_with(0, &joining)?;
        start(name)?;
    }
    boxes
        .get("c")?
        .ends_with(0, &["status", "--wait", "ready"])?;
    Ok(used)
}

/// A cluster in boxes a, b and c.
pub(crate) struct Cluster<'a> {
    pub(crate) boxes: &'a Boxes,
    agents: Vec<Child>,
}

impl<'a> Cluster<'a> {
    /// Founds it, and waits until it is ready. `name` is that of the cluster, `nodes` are their names, roles and boxes, `options` says what is
    /// set for a node of a role, and `stores` are the other sections of the layout.
    pub(crate) fn found(
        boxes: &'a Boxes,
        name: &str,
        nodes: &[(&str, &str, &str)],
        options: fn(&str) -> String,
        stores: &str,
    ) -> Result<Self> {
        let mut cluster = Self {
            boxes,
            agents: Vec::new(),
        };
        let layout = cluster.layout(name, nodes, options, stores)?;
        found(boxes, &layout, &BOXES[1..], |name| cluster.start(name))?;
        Ok(cluster)
    }

    /// Starts a box's agent, and so its nodes.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let agent = self.boxes.get(name)?.agent()?;
        self.agents.push(agent);
        Ok(())
    }

    fn layout(
        &self,
        name: &str,
        nodes: &[(&str, &str, &str)],
        options: fn(&str) -> String,
        stores: &str,
    ) -> Result<PathBuf> {
        let mut text = format!("[cluster]\nname = \"{name}\"\n");
        for made in of_cluster(self.boxes) {
            writeln!(text, "[box.{}]\naddress = \"{}\"", made.name, made.address)?;
        }
        for (name, role, on) in nodes {
            writeln!(
                text,
                "[[node]]\nname = \"{name}\"\nrole = \"{role}\"\nbox = \"{on}\"\n{}",
                options(role)
            )?;
        }
        text.push_str(stores);
        let file = self.boxes.directory().join(format!("{name}.toml"));
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

/// The boxes of the cluster.
pub(crate) fn of_cluster(boxes: &Boxes) -> impl Iterator<Item = &BoxOfOne> {
    boxes.iter().filter(|made| made.name != OUTSIDE)
}

/// Copies the files of a box's identity.
pub(crate) fn copy_identity(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
