//! `muster check`: what a layout resolves to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use muster::store::StoreName;
use muster_cluster::coordination::{
    OnOneBox, StoreCandidate, stores_on_one_box, survival, voters, witnesses,
};
use muster_cluster::{
    Key, Layout, LinkEnd, LinkSetting, Origin, Pools, Setting, SettingSpec, StoreBackend,
    StorePlan, links,
};
use muster_frameworks::log_input;

use super::findings::find;
use super::node::exposure;
use super::{LoadedLayout, load};
use crate::commands::{Execute, on_runtime};
use crate::output::{print, say};

/// Check a layout and print what it resolves to
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Layout file
    #[arg(value_name = "FILE", default_value = "muster.toml")]
    pub(crate) layout: PathBuf,
    /// Override a setting of the layout, such as `scan.threshold=20`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    /// Also print settings that have their default
    #[arg(long)]
    pub(crate) all: bool,
    /// Check for nodes that are started with this option
    #[arg(long)]
    pub(crate) plaintext_anywhere: bool,
    /// Check for nodes that are started with this option
    #[arg(long)]
    pub(crate) anonymous_anywhere: bool,
}

impl Execute for Arguments {
    fn execute(self) -> Result<ExitCode> {
        // Endpoints are started, and ended, to try their certificates.
        on_runtime(async move { run(&self) })
    }
}

/// Keys whose owners are shown, as examples of how a pool divides work.
const SAMPLE_KEYS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "192.168.1.1", "example.org"];

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let loaded = load(&arguments.layout, &arguments.settings)?;
    let layout = &loaded.layout;
    let mut text = format!(
        "{}: {} nodes, topics below {}\ndirectory: {}\n\nnodes\n",
        layout.file(),
        layout.nodes().len(),
        layout.topics().prefix(),
        loaded.places.state.display()
    );
    for node in layout.nodes() {
        let _ = writeln!(
            text,
            "  {:<16} {:<8} {:<24} box {}{}",
            node.name,
            node.role,
            node.socket_address().to_string(),
            node.box_name,
            if node.input.is_empty() {
                String::new()
            } else {
                format!("  reads {}", node.input.join(", "))
            },
        );
    }
    text.push_str("\nlinks (dialler -> listener)\n");
    for node in layout.nodes() {
        let dialled: Vec<String> = links(layout)
            .iter()
            .filter(|link| link.dialer == node.name)
            .map(|link| link.listener.to_string())
            .collect();
        if !dialled.is_empty() {
            let _ = writeln!(text, "  {:<16} -> {}", node.name, dialled.join(", "));
        }
    }
    text.push_str("\npools\n");
    let mut pools = Pools::new(layout, None);
    for node in layout.nodes() {
        pools.node_up(&node.name);
    }
    for (name, view) in pools.iter() {
        let members: Vec<&str> = view
            .members()
            .iter()
            .map(|member| member.name.as_str())
            .collect();
        let members = if members.is_empty() {
            "nobody".to_owned()
        } else {
            members.join(", ")
        };
        let _ = writeln!(text, "  {name:<16} {members}");
        if view.members().len() < 2 {
            continue;
        }
        for key in SAMPLE_KEYS {
            if let Some(owner) = view.owner(&Key::from(key)) {
                let _ = writeln!(text, "  {:<16}   {key:?} is {owner}'s", "");
            }
        }
    }
    coordinators(&mut text, layout);
    inputs(&mut text, &loaded);
    stores(&mut text, layout);
    text.push_str("\nsettings\n");
    settings(&mut text, layout, arguments.all);
    for node in layout.nodes() {
        let mut own = String::new();
        for Setting { key, value, origin } in node.settings.iter() {
            if matches!(origin, Origin::Node { .. }) {
                let _ = writeln!(own, "  {:<16} {key} = {value}  ({origin})", node.name);
            }
        }
        text.push_str(&own);
    }
    link_settings(&mut text, layout);
    print(&text)?;
    let exposure = exposure(arguments.plaintext_anywhere, arguments.anonymous_anywhere);
    let findings = find(&loaded, exposure);
    for finding in &findings {
        let severity = if finding.is_error { "error" } else { "warning" };
        say(&format!("{severity}: {}", finding.text));
    }
    Ok(if findings.iter().any(|finding| finding.is_error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Which boxes decide, and which of them may be away.
fn coordinators(text: &mut String, layout: &Layout) {
    text.push_str("\ncoordinators (boxes whose agents decide who is in the cluster)\n");
    let voters = voters(layout);
    if voters.is_empty() {
        text.push_str(match layout.boxes().len() {
            0 => "  none: the layout names no boxes\n",
            _ => "  none: there is one box\n",
        });
        return;
    }
    let witnesses = witnesses(layout);
    let names: Vec<String> = voters
        .iter()
        .map(|name| {
            let is_witness = witnesses.contains(name);
            let note = if is_witness { " (a witness)" } else { "" };
            format!("{name}{note}")
        })
        .collect();
    let _ = writeln!(text, "  {}", names.join(", "));
    match voters.len() {
        1 => {}
        2..=4 => text.push_str("  any one of them may be away, and the others decide\n"),
        _ => text.push_str("  any two of them may be away, and the others decide\n"),
    }
    for (name, reason) in survival(layout).may_not {
        let _ = writeln!(text, "  box {name} may not be away, as {reason}");
    }
    // Whoever reads that a box may be away must not think that nothing is away with it.
    away_with_a_box(text, layout);
}

/// The stores of one kind that are named.
const STORES_NAMED: usize = 8;

/// What becomes of stores when a box is away.
fn away_with_a_box(text: &mut String, layout: &Layout) {
    let alone = stores_on_one_box(layout);
    let others = alone.iter().find(|it| it.store.is_none());
    match others {
        None => text.push_str(
            "  a store has copies on several boxes, and survives each of them that may be away\n",
        ),
        Some(others) => {
            let why = if others.may_be_on_more {
                "`stores.copies` is 1"
            } else {
                "no other box has nodes that keep stores, as workers do not"
            };
            let _ = writeln!(
                text,
                "  a store is on box {} alone, and is away with it until it is back: {why}",
                others.box_name
            );
        }
    }
    // Then the stores for which something else holds.
    let mut by_box: BTreeMap<&str, Vec<&StoreName>> = BTreeMap::new();
    for OnOneBox {
        store, box_name, ..
    } in &alone
    {
        if others.is_none_or(|it| it.box_name != *box_name) {
            by_box.entry(box_name).or_default().extend(store);
        }
    }
    for (box_name, stores) in by_box {
        let names = names(&stores);
        let _ = writeln!(
            text,
            "  on box {box_name} alone, and away with it until it is back: {names}"
        );
    }
    let named = || layout.stores().iter().map(|spec| &spec.name);
    let is_alone = |name: &StoreName| alone.iter().any(|it| it.store.as_ref() == Some(name));
    let several: Vec<&StoreName> = named().filter(|name| !is_alone(name)).collect();
    if others.is_some() && !several.is_empty() {
        let names = names(&several);
        let _ = writeln!(text, "  with copies on several boxes: {names}");
    }
    let needs_all = |plan: Option<StorePlan>| plan.is_some_and(|it| it.needs_all_boxes());
    let is_default = needs_all(layout.other_stores(false));
    let strict = named().filter(|name| needs_all(layout.store(name, false)));
    let strict: Vec<&StoreName> = strict.collect();
    if is_default {
        text.push_str(
            "  by `stores.min_copies`, it acknowledges nothing while one of its boxes is away\n",
        );
    } else if !strict.is_empty() {
        let names = names(&strict);
        let _ = writeln!(
            text,
            "  by `min_copies`, acknowledging nothing while one of their boxes is away: {names}"
        );
    }
}

/// Stores by name; of many the first.
fn names(stores: &[&StoreName]) -> String {
    let first = stores.iter().take(STORES_NAMED);
    let mut names: Vec<String> = first.map(ToString::to_string).collect();
    let more = stores.len() - names.len();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// What is set for single links, and for how many of them.
fn link_settings(text: &mut String, layout: &Layout) {
    if layout.link_specs().is_empty() {
        return;
    }
    text.push_str("\nlink settings (who sends to whom)\n");
    let links = links(layout);
    for spec in layout.link_specs() {
        let node = |name| layout.node(name);
        let directions = links.iter().flat_map(|link| {
            [
                (&link.dialer, &link.listener),
                (&link.listener, &link.dialer),
            ]
        });
        let covered = directions
            .filter_map(|(from, to)| node(from).zip(node(to)))
            .filter(|(from, to)| spec.covers(from, to));
        let end = |end: &Option<LinkEnd>| match end {
            Some(end) => end.to_string(),
            None => "all".to_owned(),
        };
        let arrow = if spec.both_ways { "<->" } else { "->" };
        let ends = format!("{} {arrow} {}", end(&spec.from), end(&spec.to));
        let _ = writeln!(text, "  {ends:<32} {} directions of links", covered.count());
        for LinkSetting { key, value, line } in &spec.settings {
            let _ = writeln!(text, "    {key} = {value}  (line {line})");
        }
    }
}

/// The files of an input that are named.
const FILES_NAMED: usize = 3;

/// What the inputs of this machine's nodes would read, for each pattern once.
fn inputs(text: &mut String, loaded: &LoadedLayout) {
    let mut patterns: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in loaded.layout.nodes() {
        for pattern in &node.input {
            patterns
                .entry(pattern)
                .or_default()
                .push(node.name.as_str());
        }
    }
    if patterns.is_empty() {
        return;
    }
    text.push_str("\ninputs (as they are on this machine)\n");
    for (pattern, nodes) in patterns {
        let found = log_input::find(&[loaded.base.join(pattern)]);
        let files: Vec<String> = found
            .iter()
            .flat_map(|matches| &matches.files)
            .filter(|file| file.exists())
            .map(|file| {
                file.strip_prefix(&loaded.base)
                    .unwrap_or(file)
                    .display()
                    .to_string()
            })
            .collect();
        let what = match files.len() {
            0 => "matches nothing".to_owned(),
            1 => format!("1 file: {}", files[0]),
            count => {
                let named = files[..count.min(FILES_NAMED)].join(", ");
                let more = match count.saturating_sub(FILES_NAMED) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{count} files: {named}{more}")
            }
        };
        let _ = writeln!(text, "  {pattern:<24} {what}  (for {})", nodes.join(", "));
        for problem in found.iter().flat_map(|matches| &matches.problems) {
            let _ = writeln!(text, "  {:<24} {problem}", "");
        }
    }
}

/// Who keeps the stores that the layout names, and all others.
fn stores(text: &mut String, layout: &Layout) {
    text.push_str("\nstores (the nodes that may have a copy, those that are preferred first)\n");
    for spec in layout.stores() {
        let Some(plan) = layout.store(&spec.name, false) else {
            continue;
        };
        let kept = match plan.backend {
            StoreBackend::Memory => "in memory",
            StoreBackend::Sqlite => &plan.path,
        };
        store(text, spec.name.as_str(), kept, &plan);
    }
    let (Some(plan), Some(persistent)) = (layout.other_stores(false), layout.other_stores(true))
    else {
        return;
    };
    let directory = &plan.path;
    let kept = match (plan.backend, persistent.backend) {
        (StoreBackend::Memory, StoreBackend::Memory) => "in memory".to_owned(),
        (StoreBackend::Memory, StoreBackend::Sqlite) => {
            format!("in memory, or in {directory} if the author asks for it")
        }
        (StoreBackend::Sqlite, _) => format!("in {directory}"),
    };
    let name = if layout.stores().is_empty() {
        "all"
    } else {
        "all others"
    };
    store(text, name, &kept, &plan);
}

fn store(text: &mut String, name: &str, kept: &str, plan: &StorePlan) {
    let _ = writeln!(text, "  {name:<24} {kept}");
    let copies = match plan.copies {
        1 => "1 copy".to_owned(),
        copies => format!("{copies} copies, at least {}", plan.min_copies),
    };
    let goal = plan.goal();
    let fewer = if goal < plan.copies {
        format!(" ({goal} can be)")
    } else {
        String::new()
    };
    let candidates: Vec<String> = plan.candidates.iter().map(candidate).collect();
    let _ = writeln!(
        text,
        "  {:<24} {copies}{fewer}: {}",
        "",
        candidates.join(", ")
    );
}

fn candidate(candidate: &StoreCandidate) -> String {
    format!("{} (box {})", candidate.node, candidate.box_name)
}

fn settings(text: &mut String, layout: &Layout, all: bool) {
    let live: BTreeSet<&str> = layout
        .specs()
        .filter(|spec| spec.is_live())
        .map(SettingSpec::key)
        .collect();
    let mut defaults = 0;
    for Setting { key, value, origin } in layout.settings().iter() {
        if origin == Origin::Default && !all {
            defaults += 1;
            continue;
        }
        let live = if live.contains(key) { "; live" } else { "" };
        let _ = writeln!(text, "  {key} = {value}  ({origin}{live})");
    }
    if defaults > 0 {
        let _ = writeln!(
            text,
            "  {defaults} more have their default (use --all to show them)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_inputs_would_read_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["2018-03-24", "2018-03-25"] {
            std::fs::create_dir_all(path("logs").join(name)).unwrap();
            for log in ["conn.log", "dns.log.gz"] {
                std::fs::write(path("logs").join(name).join(log), "").unwrap();
            }
        }
        let layout = r#"
            node = [
                { name = "manager", role = "manager" },
                { name = "worker", role = "worker", count = 2, input = ["logs/*/*.log*", "logs/2018-03-24/conn.log"] },
                { name = "other", role = "worker", input = ["none/*.log", "logs/2018-03-24/conn.log"] },
            ]
        "#;
        std::fs::write(path("muster.toml"), layout).unwrap();
        let loaded = load(&path("muster.toml"), &[]).unwrap();
        let mut text = String::new();
        inputs(&mut text, &loaded);
        let lines: Vec<&str> = text.trim().lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "inputs (as they are on this machine)",
                "logs/*/*.log*            4 files: logs/2018-03-24/conn.log, logs/2018-03-24/dns.log.gz, logs/2018-03-25/conn.log and 1 more  (for worker-1, worker-2)",
                "logs/2018-03-24/conn.log 1 file: logs/2018-03-24/conn.log  (for worker-1, worker-2, other)",
                "none/*.log               matches nothing  (for other)",
            ]
        );
    }
}
