//! The rules that a layout must satisfy as a whole.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use super::document::{At, clip, unknown_name};
use super::problem::{LayoutProblemKind as Kind, Problems};
use super::reader::Completeness;
use super::{Layout, Node, Role};
use crate::coordination::{self, COUNT, VOTERS, VotersError};
use crate::pools;
use crate::settings::{FORWARD, Origin, Settings};
use crate::suggestion::nearest;
use crate::topics::{LOGS, Topics};

/// Adds everything that is wrong between the parts of a layout.
pub(super) fn check(layout: &Layout, completeness: Completeness, problems: &mut Problems) {
    check_managers(layout, completeness, problems);
    check_names(layout, problems);
    check_ports(layout, problems);
    check_memberships(layout, problems);
    if completeness == Completeness::Complete {
        check_pools(layout, problems);
    }
    check_topics(layout, problems);
    check_options(layout, problems);
    if completeness == Completeness::Complete {
        check_forwarding(layout, problems);
    }
    super::stores::check(layout, completeness, problems);
}

fn check_managers(layout: &Layout, completeness: Completeness, problems: &mut Problems) {
    let has_any = layout.with_role(Role::Manager).next().is_some();
    if !has_any && completeness == Completeness::Complete {
        let remedy = "add `[[node]]` with `name = \"manager\"` and `role = \"manager\"`";
        problems.add_with(1, Kind::Missing, "the cluster has no manager", remedy);
    }
}

fn check_names(layout: &Layout, problems: &mut Problems) {
    // Zeek's own tools compare names without case, and file names may do so too.
    let mut seen: HashMap<String, &Node> = HashMap::new();
    for node in &layout.nodes {
        match seen.entry(node.name.as_str().to_ascii_lowercase()) {
            Entry::Vacant(place) => {
                place.insert(node);
            }
            Entry::Occupied(first) => {
                let first = first.get();
                let message = if first.name == node.name {
                    format!(
                        "node `{}` is declared twice, first on line {}",
                        node.name, first.line
                    )
                } else {
                    format!(
                        "node `{}` differs from `{}` on line {} only by case",
                        node.name, first.name, first.line
                    )
                };
                problems.add(node.line, Kind::Duplicate, message);
            }
        }
    }
}

fn check_ports(layout: &Layout, problems: &mut Problems) {
    let mut seen: HashMap<_, &Node> = HashMap::new();
    for node in &layout.nodes {
        match seen.entry(node.socket_address()) {
            Entry::Vacant(place) => {
                place.insert(node);
            }
            Entry::Occupied(first) => problems.add_with(
                node.line,
                Kind::Duplicate,
                format!(
                    "node `{}` listens at {} like `{}`",
                    node.name,
                    node.socket_address(),
                    first.get().name
                ),
                "give one of them another `port`, or leave it out",
            ),
        }
    }
}

fn check_memberships(layout: &Layout, problems: &mut Problems) {
    let mut reported = None;
    for node in &layout.nodes {
        // Nodes of one `count` share their line and their mistakes.
        if reported == Some(node.line) {
            continue;
        }
        reported = Some(node.line);
        for name in &node.pools {
            match layout.pool(name) {
                None => {
                    let known = layout.pools.iter().map(|pool| pool.name.as_str());
                    unknown_name(
                        At {
                            line: node.line,
                            value: name.as_str(),
                        },
                        "pool",
                        known,
                        problems,
                    );
                }
                Some(pool) if name.is_built_in() => problems.add_with(
                    node.line,
                    Kind::Unsupported,
                    format!("node `{}` joins the built-in pool `{name}`", node.name),
                    format!(
                        "every {} is eligible for it; name only the layout's own pools",
                        pool.role
                    ),
                ),
                Some(pool) if !layout.serves_as(node, pool.role) => problems.add(
                    node.line,
                    Kind::Pool,
                    format!(
                        "node `{}` is a {} and cannot join pool `{name}` of type {}",
                        node.name, node.role, pool.role
                    ),
                ),
                Some(_) => {}
            }
        }
    }
}

fn check_pools(layout: &Layout, problems: &mut Problems) {
    for role in [Role::Logger, Role::Proxy, Role::Worker] {
        let exclusive = || {
            layout
                .pools
                .iter()
                .filter(|pool| pool.role == role && pool.exclusive)
        };
        let wanted: usize = exclusive()
            .filter_map(|pool| pool.max_nodes)
            .map(|most| most as usize)
            .sum();
        let available = layout
            .nodes
            .iter()
            .filter(|node| layout.serves_as(node, role));
        let available = available.count();
        if wanted > available {
            let names: Vec<_> = exclusive().map(|pool| format!("`{}`", pool.name)).collect();
            problems.add_with(
                exclusive().map(|pool| pool.line).max().unwrap_or(1),
                Kind::Pool,
                format!("the exclusive pools {} need {wanted} of type {role}, the layout has {available}", names.join(", ")),
                "lower `max_nodes`, or add nodes",
            );
            return;
        }
    }
    for assigned in pools::assign(layout) {
        let Some(spec) = layout.pool(&assigned.pool) else {
            continue;
        };
        let members = assigned.members.len();
        let wanted = match (spec.exclusive, spec.max_nodes) {
            // Reported where it was read.
            (true, None) => continue,
            (true, Some(most)) => most as usize,
            (false, _) => 1,
        };
        if spec.line > 0 && members < wanted && (!spec.name.is_built_in() || spec.exclusive) {
            let message = if members == 0 {
                format!(
                    "no node is left for pool `{}` of type {}",
                    spec.name, spec.role
                )
            } else {
                format!(
                    "pool `{}` needs {wanted} of type {}, {members} are left",
                    spec.name, spec.role
                )
            };
            problems.add_with(
                spec.line,
                Kind::Pool,
                message,
                "add nodes, or make another pool smaller",
            );
        }
    }
}

/// Subscriptions match by prefix: a topic that starts with another's name would reach its
/// subscribers as well.
fn check_topics(layout: &Layout, problems: &mut Problems) {
    let topics: &Topics = &layout.topics;
    let mut named = vec![
        (topics.broadcast(), 1, "the broadcast".to_owned()),
        (Topics::logs(), 1, "logs".to_owned()),
    ];
    named.extend(Role::ALL.map(|role| (topics.role(role), 1, format!("role {role}"))));
    named.extend(layout.pools.iter().map(|pool| {
        (
            topics.pool(&pool.name),
            pool.line.max(1),
            format!("pool `{}`", pool.name),
        )
    }));
    named.extend(layout.nodes.iter().map(|node| {
        (
            topics.node(&node.name),
            node.line,
            format!("node `{}`", node.name),
        )
    }));
    named.sort();
    if topics.prefix().starts_with(LOGS.trim_end_matches('/')) {
        problems.add_with(
            1,
            Kind::TopicClash,
            format!(
                "the prefix `{}` lies where loggers subscribe, at `{LOGS}`",
                topics.prefix()
            ),
            "choose another `prefix`",
        );
        return;
    }
    for (index, (topic, _, what)) in named.iter().enumerate() {
        for (longer, line, clashing) in named[index + 1..]
            .iter()
            .take_while(|(next, ..)| next.has_prefix(topic.as_bytes()))
        {
            if longer != topic {
                problems.add_with(
                    *line,
                    Kind::TopicClash,
                    format!("the topic of {clashing}, `{longer}`, would reach {what} at `{topic}` as well"),
                    "choose a name that does not start with the other's",
                );
            }
        }
    }
}

/// Voters are boxes of the layout, and as many as can have a majority.
pub(super) fn check_voters(settings: &Settings, boxes: &BTreeSet<&str>, problems: &mut Problems) {
    let Origin::Layout { line } = settings.origin(VOTERS) else {
        return;
    };
    let Err(wrong) = coordination::check_named(settings.text_list(VOTERS), boxes) else {
        return;
    };
    let (kind, remedy) = match &wrong {
        VotersError::Count(_) => (
            Kind::BadValue,
            "name 1, 3 or 5 boxes, or none to have them chosen".to_owned(),
        ),
        VotersError::Twice(_) => (Kind::Duplicate, "name each box once".to_owned()),
        VotersError::NoBox(name) => {
            let remedy = match nearest(name, boxes.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it with `[box.{}]`", clip(name)),
            };
            (Kind::UnknownName, remedy)
        }
    };
    problems.add_with(line, kind, wrong.to_string(), remedy);
}

/// Somebody has to write what forwarding loggers give on.
fn check_forwarding(layout: &Layout, problems: &mut Problems) {
    let mut loggers = layout.with_role(Role::Logger);
    let Some(first) = loggers.next() else {
        return;
    };
    if layout.forwards_logs(first) && loggers.all(|other| layout.forwards_logs(other)) {
        let message = format!("`{FORWARD}` is set for all loggers, so nobody writes logs");
        let remedy =
            "set it in the `options` of loggers beside Zeek's workers, and have another logger";
        problems.add_with(first.line, Kind::Unsupported, message, remedy);
    }
}

/// All nodes have the same coordinators: none has its own word about them.
fn check_options(layout: &Layout, problems: &mut Problems) {
    let mut reported = None;
    for node in &layout.nodes {
        for key in [COUNT, VOTERS] {
            let Origin::Node { line } = node.settings.origin(key) else {
                continue;
            };
            // Nodes of one `count` share their line and their mistakes.
            if reported.replace((line, key)) == Some((line, key)) {
                continue;
            }
            let message = format!("`{key}` is set for node `{}` alone", node.name);
            let remedy = "it is one for the whole cluster: write it in `[coordination]`";
            problems.add_with(line, Kind::Unsupported, message, remedy);
        }
    }
}
