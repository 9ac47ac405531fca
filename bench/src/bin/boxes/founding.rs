//! How boxes become a cluster: the first is founded, the others join.

use std::path::Path;

use anyhow::{Context, Result};
use muster_bench::boxes::{Boxes, until};

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
