//! From `[[node]]` to nodes: roles, numbering, addresses, ports, options.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use toml::de::{DeTable, DeValue};

use super::document::{At, Fields, clip, entries, tables, unknown_name};
use super::problem::{LayoutProblemKind as Kind, Problems};
use super::reader::{Completeness, apply, read_address};
use super::{AGENT_PREFIX, FIRST_PORT, MOST_NODES, Node, NodeName, PoolName, Role};
use crate::settings::{Origin, SettingSpec, Settings};
use crate::suggestion::nearest;

/// The most nodes that one `count` stands for.
const MOST_COUNT: u32 = 1024;

const NODE_KEYS: &[&str] = &[
    "name", "role", "box", "address", "port", "count", "pools", "transit", "input", "options",
];

/// A node whose port may not be known yet.
pub(super) struct Draft {
    node: Node,
    has_port: bool,
}

/// Reads all nodes; those that are mistyped are left out and make the result partial.
pub(super) fn read_nodes(
    document: &DeTable<'_>,
    boxes: &BTreeMap<String, Option<IpAddr>>,
    settings: &Settings,
    specs: &[SettingSpec],
    problems: &mut Problems,
) -> (Vec<Draft>, Completeness) {
    let mut drafts = Vec::new();
    let mut completeness = Completeness::Complete;
    for entry in entries(document, problems)
        .into_iter()
        .filter(|entry| entry.key == "node")
    {
        let Some(items) = entry.value.as_array() else {
            problems.add_with(
                entry.line,
                Kind::BadValue,
                "`node` is not a list of nodes",
                "write `[[node]]` for each",
            );
            completeness = Completeness::Partial;
            continue;
        };
        for item in tables(items, problems) {
            let Some(table) = item.value else {
                problems.add_with(
                    item.line,
                    Kind::BadValue,
                    "a node is a table",
                    "write `[[node]]` for each",
                );
                completeness = Completeness::Partial;
                continue;
            };
            if drafts.len() <= MOST_NODES {
                let table = At {
                    line: item.line,
                    value: table,
                };
                let before = drafts.len();
                read_node(table, boxes, settings, specs, &mut drafts, problems);
                if drafts.len() == before {
                    completeness = Completeness::Partial;
                }
            }
        }
    }
    if drafts.len() > MOST_NODES {
        problems.add(1, Kind::TooLarge, format!("more than {MOST_NODES} nodes"));
        drafts.truncate(MOST_NODES);
        completeness = Completeness::Partial;
    }
    (drafts, completeness)
}

fn read_node(
    table: At<&DeTable<'_>>,
    boxes: &BTreeMap<String, Option<IpAddr>>,
    settings: &Settings,
    specs: &[SettingSpec],
    drafts: &mut Vec<Draft>,
    problems: &mut Problems,
) {
    let line = table.line;
    let mut fields = Fields::new(table.value, NODE_KEYS, "in `[[node]]`".to_owned(), problems);
    let name = fields.text("name");
    let role = fields.text("role");
    let box_name = fields.text("box");
    let address = fields.text("address");
    let port = fields.number("port", 1, u32::from(u16::MAX));
    let count = fields.number("count", 1, MOST_COUNT);
    let pools = fields.texts("pools");
    let transit = fields.boolean("transit");
    let input = fields.texts("input");
    let label = name.map_or_else(
        || "a node".to_owned(),
        |name| format!("node `{}`", clip(name.value)),
    );
    for (key, present) in [
        ("name", fields.entry("name").is_some()),
        ("role", fields.entry("role").is_some()),
    ] {
        if !present {
            fields
                .problems()
                .add(line, Kind::Missing, format!("{label} has no `{key}`"));
        }
    }
    let mut settings = settings.clone();
    match fields
        .entry("options")
        .map(|entry| (entry.line, entry.value))
    {
        None => {}
        Some((_, DeValue::Table(options))) => {
            for option in entries(options, problems) {
                apply(
                    &option,
                    "",
                    specs,
                    &mut settings,
                    |line| Origin::Node { line },
                    problems,
                );
            }
        }
        Some((line, _)) => problems.add_with(
            line,
            Kind::BadValue,
            format!("`options` of {label} is not a table"),
            "write `options = { scan.threshold = 50 }`",
        ),
    }

    let role = role.and_then(|text| read_role(text, problems));
    if let (Some(input), Some(role)) = (&input, role.filter(|role| *role != Role::Worker)) {
        let message = format!("{label} has an `input` and is a {role}");
        problems.add_with(
            input.line,
            Kind::Unsupported,
            message,
            "only workers read input",
        );
    }
    let address = match (address, box_name) {
        (Some(text), _) => read_address(text, problems),
        (None, None) => None,
        (None, Some(name)) => boxes.get(name.value).copied().flatten(),
    }
    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if let Some(name) = box_name.filter(|name| !boxes.contains_key(name.value)) {
        let known = boxes.keys().map(String::as_str);
        unknown_name(
            At {
                line: name.line,
                value: name.value,
            },
            "box",
            known,
            problems,
        );
    }
    let pools = read_memberships(pools, problems);

    let (Some(name), Some(role)) = (name, role) else {
        return;
    };
    let number = count.map_or(1, |count| count.value);
    for index in 0..number {
        let text = if count.is_some() {
            format!("{}-{}", name.value, index + 1)
        } else {
            name.value.to_owned()
        };
        let name = match NodeName::new(&text) {
            Ok(name) => name,
            Err(error) => {
                problems.add(name.line, Kind::BadValue, error.to_string());
                return;
            }
        };
        if name.as_str().starts_with(AGENT_PREFIX) {
            let message = format!(
                "`{name}` is no name for a node: the agents of boxes have names that begin with `{AGENT_PREFIX}`"
            );
            problems.add(line, Kind::BadValue, message);
            return;
        }
        let own_port = match port.map(|port| u16::try_from(port.value + index)) {
            None => None,
            Some(Ok(port)) => Some(port),
            Some(Err(_)) => {
                let message = format!(
                    "{label} runs out of ports: `{name}` would have {}",
                    port.map_or(0, |port| port.value) + index
                );
                problems.add(port.map_or(line, |port| port.line), Kind::BadValue, message);
                return;
            }
        };
        drafts.push(Draft {
            has_port: own_port.is_some(),
            node: Node {
                name,
                role,
                box_name: box_name
                    .map_or_else(|| address.to_string(), |name| name.value.to_owned()),
                address,
                port: own_port.unwrap_or(0),
                pools: pools.clone(),
                transit: transit.map_or(role.is_hub(), |transit| transit.value),
                input: input
                    .iter()
                    .flat_map(|input| &input.value)
                    .map(|text| (*text).to_owned())
                    .collect(),
                settings: settings.clone(),
                line,
            },
        });
    }
}

fn read_role(text: At<&str>, problems: &mut Problems) -> Option<Role> {
    let role = Role::from_name(text.value);
    if role.is_none() && text.value == "control" {
        problems.add_with(
            text.line,
            Kind::Unsupported,
            "`control` is not a role of a layout",
            "remove the node: the `muster` command controls a cluster without one",
        );
    } else if role.is_none() {
        let names = Role::ALL.map(Role::as_str);
        let message = match nearest(text.value, names) {
            Some(near) => format!(
                "unknown role `{}`; did you mean `{near}`?",
                clip(text.value)
            ),
            None => format!("unknown role `{}`", clip(text.value)),
        };
        problems.add_with(
            text.line,
            Kind::BadValue,
            message,
            format!("roles are {}", names.join(", ")),
        );
    }
    role
}

/// The names in a node's `pools`; whether such pools exist is checked once all are known.
fn read_memberships(pools: Option<At<Vec<&str>>>, problems: &mut Problems) -> Vec<PoolName> {
    let Some(At { line, value: names }) = pools else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in names {
        match PoolName::new(name) {
            Ok(name) => found.push(name),
            Err(error) => problems.add(line, Kind::BadValue, error.to_string()),
        }
    }
    found
}

/// Hands out ports from 17760 up, in the order of the file, skipping those taken at that address.
pub(super) fn assign_ports(drafts: Vec<Draft>, problems: &mut Problems) -> Vec<Node> {
    let mut taken: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| draft.has_port) {
        taken
            .entry(draft.node.address)
            .or_default()
            .insert(draft.node.port);
    }
    let mut next: BTreeMap<IpAddr, u16> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(drafts.len());
    for Draft { mut node, has_port } in drafts {
        if !has_port {
            let taken = taken.entry(node.address).or_default();
            let from = next.get(&node.address).copied().unwrap_or(FIRST_PORT);
            let Some(port) = (from..=u16::MAX).find(|port| !taken.contains(port)) else {
                let message = format!(
                    "no port is left at {} for node `{}`",
                    node.address, node.name
                );
                problems.add(node.line, Kind::BadValue, message);
                continue;
            };
            taken.insert(port);
            next.insert(node.address, port);
            node.port = port;
        }
        nodes.push(node);
    }
    nodes
}
