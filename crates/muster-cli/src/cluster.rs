//! Commands that deal with a whole cluster or one of its nodes.

pub(crate) mod agent;
mod agent_client;
pub(crate) mod boxes;
pub(crate) mod certificates;
pub(crate) mod check;
pub(crate) mod coordinators;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod doors;
pub(crate) mod events;
mod findings;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod join;
mod ledger;
pub(crate) mod logs;
pub(crate) mod node;
mod node_services;
pub(crate) mod operators;
pub(crate) mod records;
mod remote;
pub(crate) mod restart;
pub(crate) mod run;
pub(crate) mod spool;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod stores;
mod supervise;
mod this_box;
pub(crate) mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use muster_agent::{ArchiveConfig, ArchivesByDefault, Places};
use muster_cluster::node::Registry;
use muster_cluster::{Layout, SettingSpec};

use crate::output::Failure;

/// A layout, and where its files are.
#[derive(Debug, Clone)]
pub(crate) struct LoadedLayout {
    pub(crate) layout: Arc<Layout>,
    /// Where its nodes' files are.
    pub(crate) places: Places,
    /// What becomes of the log files that its loggers have ended, if anything does.
    pub(crate) archive: Option<ArchiveConfig>,
    /// The layout's own directory, which its input files are relative to.
    pub(crate) base: PathBuf,
}

/// What the directories of a cluster's files go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home<'a> {
    /// The layout says it: one directory has everything.
    Layout,
    /// The machine's standard directories, below a root.
    Standard(&'a Path),
}

/// The frameworks that this program's nodes may run.
fn registry() -> Registry {
    muster_frameworks::standard()
}

pub(crate) fn specs() -> Vec<SettingSpec> {
    let mut specs = registry().settings();
    specs.extend_from_slice(muster_frameworks::log_files::SETTINGS);
    specs.extend_from_slice(muster_gateway::SETTINGS);
    specs.extend_from_slice(muster_agent::SETTINGS);
    specs.extend_from_slice(crate::log::SETTINGS);
    specs
}

/// Reads and checks a layout, with settings from the command line.
pub(crate) fn load(path: &Path, settings: &[String]) -> Result<LoadedLayout> {
    load_text(path, &read_layout(path)?, settings, Home::Layout)
}

fn read_layout(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", path.display()))
            .hint("give the path of a layout file, or run `muster demo` to see one at work")
    })?;
    Ok(text)
}

/// Checks a layout whose file had this text.
fn load_text(path: &Path, text: &str, settings: &[String], home: Home<'_>) -> Result<LoadedLayout> {
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
    let places = match home {
        Home::Layout => Places::in_one(&base.join(layout.directory())),
        Home::Standard(root) => {
            let places = Places::standard(root);
            layout = layout.in_directory(&places.state.to_string_lossy());
            places
        }
    };
    let archives = match home {
        Home::Layout => ArchivesByDefault::No,
        Home::Standard(_) => ArchivesByDefault::Yes,
    };
    let archive = ArchiveConfig::from_settings(layout.settings(), archives)
        .map_err(|error| Failure::new(format!("{file}: {error}")))?;
    Ok(LoadedLayout {
        archive,
        places,
        base,
        layout: Arc::new(layout),
    })
}

/// Makes the directories for logs and state.
fn make_directories(places: &Places) -> Result<()> {
    for directory in [&places.state, &places.logs] {
        std::fs::create_dir_all(directory).map_err(|error| {
            Failure::new(format!("cannot make {}: {error}", directory.display()))
                .hint("set `directory = \"…\"` at the top of the layout to use another one")
        })?;
    }
    Ok(())
}
