//! Commands that deal with a whole cluster or one of its nodes.

pub(crate) mod certificates;
pub(crate) mod check;
mod control;
pub(crate) mod demo;
mod findings;
mod fleet;
pub(crate) mod import;
mod ledger;
pub(crate) mod node;
mod node_services;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod stop;
mod supervisor;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use muster_cluster::node::Registry;
use muster_cluster::{Layout, SettingSpec};

use crate::output::{Failure, say};

/// A layout, and where its files are.
#[derive(Debug, Clone)]
pub(crate) struct LoadedLayout {
    pub(crate) layout: Arc<Layout>,
    /// The directory for logs and process files; absolute.
    pub(crate) directory: PathBuf,
    /// The layout's own directory, which its input files are relative to.
    pub(crate) base: PathBuf,
}

/// The frameworks that this program's nodes may run.
fn registry() -> Registry {
    muster_frameworks::standard()
}

fn specs() -> Vec<SettingSpec> {
    let mut specs = registry().settings();
    specs.extend_from_slice(muster_frameworks::log_files::SETTINGS);
    specs.extend_from_slice(muster_gateway::SETTINGS);
    specs
}

/// Reads and checks a layout, with settings from the command line.
pub(crate) fn load(path: &Path, settings: &[String]) -> Result<LoadedLayout> {
    load_text(path, &read_layout(path)?, settings)
}

fn read_layout(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", path.display()))
            .hint("give the path of a layout file, or run `muster demo` to see one at work")
    })?;
    Ok(text)
}

/// Checks a layout whose file had this text.
fn load_text(path: &Path, text: &str, settings: &[String]) -> Result<LoadedLayout> {
    let file = path.display().to_string();
    let mut layout = Layout::parse(text, &file, &specs())
        .map_err(|error| Failure::new(error.to_string().trim_end().to_owned()))?;
    for setting in settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| {
            Failure::new(format!("`{setting}` is not a setting"))
                .hint("a setting is KEY=VALUE, such as scan.threshold=20")
        })?;
        layout = layout
            .with_override(key.trim(), value.trim())
            .map_err(|error| Failure::new(error.to_string()))?;
    }
    let settings = layout.nodes().iter().map(|node| &node.settings);
    muster_gateway::check_bridges(settings)
        .map_err(|error| Failure::new(format!("{file}: {error}")))?;
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve {file}"))?;
    let base = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok(LoadedLayout {
        directory: base.join(layout.directory()),
        base,
        layout: Arc::new(layout),
    })
}

/// Where a cluster runs, and what became of its layout since.
#[derive(Debug)]
pub(crate) struct Place {
    /// The layout's file as it was typed.
    pub(crate) file: String,
    /// The directory for logs and process files; absolute.
    pub(crate) directory: PathBuf,
    /// What is wrong with the layout by now.
    pub(crate) problem: Option<String>,
}

/// Finds the cluster of a layout that may have errors by now.
pub(crate) fn locate(path: &Path) -> Result<Place> {
    let text = read_layout(path)?;
    let file = path.display().to_string();
    let absolute = std::path::absolute(path).with_context(|| format!("cannot resolve {file}"))?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    let problem = load_text(path, &text, &[]).err();
    Ok(Place {
        directory: base.join(Layout::directory_in(&text)),
        problem: problem.map(|error| error.to_string()),
        file,
    })
}

impl Place {
    /// Tells of a layout that has errors by now; the cluster runs with what it was before.
    pub(crate) fn warn(&self) {
        if let Some(problem) = &self.problem {
            say(&format!(
                "warning: the layout has errors by now, and the cluster runs without what was changed:\n{problem}"
            ));
        }
    }
}

/// Makes the directory for logs and process files.
fn make_directory(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| unwritable("make", directory, &error).into())
}

/// The failure to do something in the directory for logs and process files.
fn unwritable(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
        .hint("set `directory = \"…\"` at the top of the layout to use another one")
}
