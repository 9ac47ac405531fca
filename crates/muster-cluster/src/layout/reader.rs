//! From TOML to a layout: the top of the file, settings, boxes and pools.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use toml::de::{DeTable, DeValue};

use super::check::check_voters;
use super::document::{At, Entry, Fields, clip, entries, flatten, raw, unknown_key};
use super::link_settings::read_links;
use super::node_reader::{assign_ports, read_nodes};
use super::problem::{LayoutProblemKind as Kind, Problems};
use super::stores::read_stores;
use super::{Layout, MOST_NODES, NodeName, PoolName, PoolSpec, Role};
use crate::settings::{CORE_SETTINGS, Origin, SettingSpec, Settings};
use crate::suggestion::nearest;
use crate::topics::Topics;

/// The directory of a layout that names none.
pub(super) const DIRECTORY: &str = "muster";

/// The only schema so far.
const SCHEMA: u32 = 1;

/// The most pools of one layout.
const MOST_POOLS: usize = 256;

const TOP_KEYS: &[&str] = &[
    "layout",
    "prefix",
    "directory",
    "node",
    "box",
    "pool",
    "store",
    "link",
];
const BOX_KEYS: &[&str] = &["address"];
const POOL_KEYS: &[&str] = &["type", "max_nodes", "exclusive"];

/// Whether all nodes of a file could be read; otherwise what is missing in the layout may only be
/// mistyped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completeness {
    Complete,
    Partial,
}

/// Reads a layout as far as it can be read; what is missing or wrong is in `problems`.
pub(super) fn read(
    document: &DeTable<'_>,
    file: &str,
    specs: &[SettingSpec],
    problems: &mut Problems,
) -> (Layout, Completeness) {
    let mut settings = Settings::defaults(specs);
    read_settings(document, specs, &mut settings, problems);
    let boxes = read_boxes(document, problems);
    // A box whose address is wrong is one all the same.
    let names = boxes.keys().map(String::as_str).collect();
    check_voters(&settings, &names, problems);
    let pools = read_pools(document, problems);
    let stores = read_stores(document, problems);
    let (drafts, completeness) = read_nodes(document, &boxes, &settings, specs, problems);
    let nodes = assign_ports(drafts, problems);
    let link_specs = read_links(document, &nodes, completeness, problems);

    let mut index = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        index.entry(node.name.clone()).or_insert(at);
    }
    let mut layout = Layout {
        file: file.to_owned(),
        topics: Topics::default(),
        directory: DIRECTORY.to_owned(),
        boxes: boxes
            .into_iter()
            .filter_map(|(name, address)| Some((name, address?)))
            .collect(),
        nodes,
        index,
        pools,
        stores,
        link_specs,
        settings,
        specs: specs.to_vec(),
    };
    read_top(document, &mut layout, problems);
    layout
        .pools
        .sort_by_cached_key(|pool| layout.topics.pool(&pool.name));
    (layout, completeness)
}

/// The three texts and numbers at the top of the file.
fn read_top(document: &DeTable<'_>, layout: &mut Layout, problems: &mut Problems) {
    // Unknown keys of the top level are settings or were reported with them.
    let mut fields = Fields::open(document, "at the top".to_owned(), problems);
    let schema = fields.number("layout", 0, u32::MAX);
    if let Some(schema) = schema.filter(|schema| schema.value != SCHEMA) {
        let message = format!("layout schema {} is not known", schema.value);
        let remedy = format!("write `layout = {SCHEMA}`, or use a newer muster");
        fields
            .problems()
            .add_with(schema.line, Kind::Unsupported, message, remedy);
    }
    if let Some(prefix) = fields.text("prefix") {
        match Topics::new(prefix.value) {
            Ok(topics) => layout.topics = topics,
            Err(error) => fields
                .problems()
                .add(prefix.line, Kind::BadValue, error.to_string()),
        }
    }
    if let Some(directory) = fields.text("directory") {
        if directory.value.is_empty() || directory.value.contains('\0') {
            fields.problems().add(
                directory.line,
                Kind::BadValue,
                "`directory` is not a usable path",
            );
        } else {
            directory.value.clone_into(&mut layout.directory);
        }
    }
}

/// The sections that are no part of the schema: settings of the whole cluster.
fn read_settings(
    document: &DeTable<'_>,
    specs: &[SettingSpec],
    settings: &mut Settings,
    problems: &mut Problems,
) {
    for entry in entries(document, problems) {
        if TOP_KEYS.contains(&entry.key) {
            continue;
        }
        if !matches!(entry.value, DeValue::Table(_)) {
            let sections = all(specs).map(|spec| section(spec.key()));
            let sections: BTreeSet<_> = sections.collect();
            if sections.contains(entry.key) {
                let message = format!("`{0}` is a section, write `[{0}]`", entry.key);
                problems.add(entry.line, Kind::BadValue, message);
                continue;
            }
            let known: Vec<_> = TOP_KEYS.iter().copied().chain(sections).collect();
            unknown_key(&entry, "at the top", &known, problems);
            continue;
        }
        apply(
            &entry,
            "",
            specs,
            settings,
            |line| Origin::Layout { line },
            problems,
        );
    }
}

/// Applies one section, or one entry of a node's `options`, to settings.
pub(super) fn apply(
    entry: &Entry<'_>,
    path: &str,
    specs: &[SettingSpec],
    settings: &mut Settings,
    origin: impl Fn(usize) -> Origin,
    problems: &mut Problems,
) {
    let mut found = Vec::new();
    flatten(entry, path, problems, &mut found);
    for (key, inner) in found {
        let Some(spec) = all(specs).find(|spec| spec.key() == key) else {
            unknown_setting(&key, inner.line, specs, problems);
            continue;
        };
        match spec.read(&raw(inner.value)) {
            Ok(value) => settings.set(spec.key(), value, origin(inner.line)),
            Err(message) => problems.add_with(inner.line, Kind::BadValue, message, spec.help()),
        }
    }
}

fn unknown_setting(key: &str, line: usize, specs: &[SettingSpec], problems: &mut Problems) {
    if problems.is_full() {
        return;
    }
    let keys = || all(specs).map(SettingSpec::key);
    if let Some(near) = nearest(key, keys()) {
        let message = format!("unknown setting `{}`; did you mean `{near}`?", clip(key));
        problems.add(line, Kind::UnknownKey, message);
        return;
    }
    let siblings: Vec<_> = keys()
        .filter(|known| section(known) == section(key))
        .map(|known| format!("`{known}`"))
        .collect();
    let message = format!("unknown setting `{}`", clip(key));
    let remedy = if siblings.is_empty() {
        let sections: BTreeSet<_> = keys().map(section).collect();
        format!(
            "sections are {}",
            sections.into_iter().collect::<Vec<_>>().join(", ")
        )
    } else {
        format!("known are {}", siblings.join(", "))
    };
    problems.add_with(line, Kind::UnknownKey, message, remedy);
}

fn all(specs: &[SettingSpec]) -> impl Iterator<Item = &SettingSpec> {
    CORE_SETTINGS.iter().chain(specs)
}

fn section(key: &str) -> &str {
    key.split_once('.').map_or(key, |(section, _)| section)
}

/// The tables below `[box.NAME]`, `[pool.NAME]` or `[store."NAME"]`.
pub(super) fn named_tables<'a>(
    document: &'a DeTable<'a>,
    key: &str,
    problems: &mut Problems,
) -> Vec<(Entry<'a>, &'a DeTable<'a>)> {
    let mut found = Vec::new();
    for entry in entries(document, problems)
        .into_iter()
        .filter(|entry| entry.key == key)
    {
        let inner = entry.value.as_table().map(|table| entries(table, problems));
        let Some(inner) = inner else {
            problems.add_with(
                entry.line,
                Kind::BadValue,
                format!("`{key}` is not a group of sections"),
                format!("write one `[{key}.NAME]` for each"),
            );
            continue;
        };
        for named in inner {
            match named.value {
                DeValue::Table(table) => found.push((named, table)),
                _ => problems.add_with(
                    named.line,
                    Kind::BadValue,
                    format!("`{key}.{}` is not a section", clip(named.key)),
                    format!("write `[{key}.{}]`", clip(named.key)),
                ),
            }
        }
    }
    found
}

/// Boxes by name; the address of one whose own is wrong or missing is not known.
fn read_boxes(document: &DeTable<'_>, problems: &mut Problems) -> BTreeMap<String, Option<IpAddr>> {
    let mut boxes = BTreeMap::new();
    for (entry, table) in named_tables(document, "box", problems) {
        if let Err(error) = NodeName::new(entry.key) {
            problems.add(entry.line, Kind::BadValue, error.to_string());
        }
        let mut fields = Fields::new(
            table,
            BOX_KEYS,
            format!("in `[box.{}]`", clip(entry.key)),
            problems,
        );
        let text = fields.text("address");
        if text.is_none() && fields.entry("address").is_none() {
            problems.add_with(
                entry.line,
                Kind::Missing,
                format!("box `{}` has no address", clip(entry.key)),
                "write `address = \"192.0.2.1\"`",
            );
        }
        boxes.insert(
            entry.key.to_owned(),
            text.and_then(|text| read_address(text, problems)),
        );
    }
    boxes
}

pub(super) fn read_address(text: At<&str>, problems: &mut Problems) -> Option<IpAddr> {
    let unusable = |address: &IpAddr| {
        address.is_unspecified()
            || address.is_multicast()
            || *address == IpAddr::V4(Ipv4Addr::BROADCAST)
    };
    match text.value.parse::<IpAddr>() {
        Ok(address) if unusable(&address) => problems.add_with(
            text.line,
            Kind::BadValue,
            format!("peers cannot reach a node at {address}"),
            "write the address of one machine",
        ),
        Ok(address) => return Some(address.to_canonical()),
        Err(_) => problems.add_with(
            text.line,
            Kind::BadValue,
            format!("\"{}\" is not an IP address", clip(text.value)),
            "write an IPv4 or IPv6 address without a port; host names are not resolved",
        ),
    }
    None
}

fn read_pools(document: &DeTable<'_>, problems: &mut Problems) -> Vec<PoolSpec> {
    let built_in = |name, role| PoolSpec {
        name,
        role,
        max_nodes: None,
        exclusive: false,
        line: 0,
    };
    let mut pools = vec![
        built_in(PoolName::logger(), Role::Logger),
        built_in(PoolName::proxy(), Role::Proxy),
        built_in(PoolName::worker(), Role::Worker),
        built_in(PoolName::manager(), Role::Manager),
    ];
    for (entry, table) in named_tables(document, "pool", problems) {
        let mut fields = Fields::new(
            table,
            POOL_KEYS,
            format!("in `[pool.{}]`", clip(entry.key)),
            problems,
        );
        let role = fields
            .text("type")
            .map(|text| (text, Role::from_name(text.value)));
        let max_nodes = fields.number(
            "max_nodes",
            1,
            u32::try_from(MOST_NODES).unwrap_or(u32::MAX),
        );
        let exclusive = fields
            .boolean("exclusive")
            .is_some_and(|exclusive| exclusive.value);
        if let Some((text, None | Some(Role::Manager))) = role {
            problems.add_with(
                text.line,
                Kind::BadValue,
                format!(
                    "\"{}\" cannot be the role of a pool's members",
                    clip(text.value)
                ),
                "a pool has members of type \"proxy\", \"worker\" or \"logger\"",
            );
        }
        if exclusive && max_nodes.is_none() {
            problems.add_with(
                entry.line,
                Kind::Pool,
                format!(
                    "pool `{}` is exclusive and has no `max_nodes`",
                    clip(entry.key)
                ),
                "say how many nodes it takes from the others: `max_nodes = 1`",
            );
        }
        let name = match PoolName::new(entry.key) {
            Ok(name) => name,
            Err(error) => {
                problems.add(entry.line, Kind::BadValue, error.to_string());
                continue;
            }
        };
        if name == PoolName::manager() {
            let problem = "`manager` is the pool of all managers".to_owned();
            problems.add_with(
                entry.line,
                Kind::Pool,
                problem,
                "give this one another name",
            );
            continue;
        }
        let role = role.and_then(|(text, role)| {
            Some((text.line, role.filter(|role| *role != Role::Manager)?))
        });
        let spec = PoolSpec {
            role: role.map_or(Role::Proxy, |(_, role)| role),
            max_nodes: max_nodes.map(|max_nodes| max_nodes.value),
            exclusive,
            line: entry.line,
            name,
        };
        let is_full = pools.len() >= MOST_POOLS;
        match pools.iter_mut().find(|pool| pool.name == spec.name) {
            None if is_full => {
                problems.add(
                    spec.line,
                    Kind::TooLarge,
                    format!("more than {MOST_POOLS} pools"),
                );
                break;
            }
            None => pools.push(spec),
            Some(known) => {
                if let Some((line, role)) = role.filter(|(_, role)| *role != known.role) {
                    let message = format!(
                        "the members of the built-in pool `{}` cannot be of type {role}",
                        spec.name
                    );
                    problems.add(line, Kind::BadValue, message);
                }
                *known = PoolSpec {
                    role: known.role,
                    ..spec
                };
            }
        }
    }
    pools
}
