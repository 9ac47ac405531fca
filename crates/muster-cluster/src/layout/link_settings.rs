//! `[[link]]`: settings for what some nodes send to some of their peers.

use std::fmt;

use toml::de::DeTable;

use super::document::{At, Fields, clip, entries, raw, tables};
use super::problem::{LayoutProblemKind as Kind, Problems};
use super::reader::Completeness;
use super::{Layout, Node, Role};
use crate::settings::{CORE_SETTINGS, Origin, SettingSpec, SettingValue, Settings};
use crate::suggestion::nearest;

/// The most sections of one layout.
const MOST_LINKS: usize = 1024;

/// The keys that name the ends.
const ENDS: [&str; 3] = ["from", "to", "between"];

/// The settings of a peering that a `[[link]]` may have, all of the section `peering`.
const KEYS: &[&str] = &[
    "from",
    "to",
    "between",
    "data_queue",
    "data_queue_bytes",
    "overflow",
    "interactive_queue",
    "interactive_queue_bytes",
    "interactive_overflow",
    "bulk_queue",
    "bulk_queue_bytes",
    "bulk_overflow",
    "slow",
];

/// A setting of a `[[link]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSetting {
    /// Its key, such as `peering.slow`.
    pub key: &'static str,
    /// Its value.
    pub value: SettingValue,
    /// Its line, counted from 1.
    pub line: usize,
}

/// A `[[link]]` of a layout: settings for what the nodes at one end send to those at the other.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSpec {
    /// The senders; all nodes if not set.
    pub from: Option<LinkEnd>,
    /// The receivers; all nodes if not set.
    pub to: Option<LinkEnd>,
    /// Whether it holds for the opposite direction as well.
    pub both_ways: bool,
    /// The settings.
    pub settings: Vec<LinkSetting>,
    /// The line of the section, counted from 1.
    pub line: usize,
}

/// The nodes at one end of a `[[link]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// The node of this name.
    Node(String),
    /// All nodes of a role.
    Role(Role),
    /// All nodes of a box.
    Box(String),
}

impl LinkEnd {
    /// Returns `true` if the node is one of them.
    pub fn has(&self, node: &Node) -> bool {
        match self {
            Self::Node(name) => node.name.as_str() == name,
            Self::Role(role) => node.role == *role,
            Self::Box(name) => node.box_name == *name,
        }
    }
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name),
            Self::Role(role) => write!(f, "role {role}"),
            Self::Box(name) => write!(f, "box {name}"),
        }
    }
}

impl LinkSpec {
    /// Returns `true` if it applies to what `from` sends to `to`.
    pub fn covers(&self, from: &Node, to: &Node) -> bool {
        let is_one_way = |from: &Node, to: &Node| {
            let has = |end: &Option<LinkEnd>, node| end.as_ref().is_none_or(|end| end.has(node));
            has(&self.from, from) && has(&self.to, to)
        };
        is_one_way(from, to) || (self.both_ways && is_one_way(to, from))
    }
}

impl Layout {
    /// The `[[link]]` sections, in the order of the file.
    pub fn link_specs(&self) -> &[LinkSpec] {
        &self.link_specs
    }

    /// Returns the settings of `from` for what it sends to `to`, or `None` if no `[[link]]` sets any. Those that a
    /// `[[link]]` sets have the origin [`Origin::Link`], and take precedence over the node's own but not over the
    /// command line. If several sections cover the two nodes, the last one that has a setting decides.
    pub fn link_settings(&self, from: &Node, to: &Node) -> Option<Settings> {
        let mut settings = None;
        let covering = self.link_specs.iter().filter(|spec| spec.covers(from, to));
        for LinkSetting { key, value, line } in covering.flat_map(|spec| &spec.settings) {
            if from.settings.origin(key) == Origin::Override {
                continue;
            }
            let settings = settings.get_or_insert_with(|| from.settings.clone());
            settings.set(key, value.clone(), Origin::Link { line: *line });
        }
        settings
    }
}

/// Reads the `[[link]]` sections; the ends are looked up among the nodes.
pub(super) fn read_links(
    document: &DeTable<'_>,
    nodes: &[Node],
    completeness: Completeness,
    problems: &mut Problems,
) -> Vec<LinkSpec> {
    let mut specs = Vec::new();
    let found = entries(document, problems)
        .into_iter()
        .find(|entry| entry.key == "link");
    let Some(entry) = found else {
        return specs;
    };
    let not_a_list = |line, problems: &mut Problems| {
        let remedy = "write `[[link]]` for each";
        problems.add_with(
            line,
            Kind::BadValue,
            "`link` is not a list of links",
            remedy,
        );
    };
    let Some(items) = entry.value.as_array() else {
        not_a_list(entry.line, problems);
        return specs;
    };
    for item in tables(items, problems) {
        let Some(table) = item.value else {
            not_a_list(item.line, problems);
            continue;
        };
        if specs.len() >= MOST_LINKS {
            let message = format!("more than {MOST_LINKS} links with settings");
            problems.add(item.line, Kind::TooLarge, message);
            break;
        }
        let names = Names {
            nodes,
            completeness,
        };
        let table = At {
            line: item.line,
            value: table,
        };
        specs.push(names.read_link(table, problems));
    }
    specs
}

/// What the ends of links may be called.
struct Names<'n> {
    nodes: &'n [Node],
    completeness: Completeness,
}

impl Names<'_> {
    fn read_link(&self, table: At<&DeTable<'_>>, problems: &mut Problems) -> LinkSpec {
        let line = table.line;
        let mut fields = Fields::new(table.value, KEYS, "in `[[link]]`".to_owned(), problems);
        let from = fields.text("from");
        let to = fields.text("to");
        let between = fields.texts("between");
        let settings = read_settings(&mut fields);
        let ends = ENDS.iter().filter(|end| fields.entry(end).is_some());
        let has_settings = table.value.len() > ends.count();
        let problems = fields.problems();
        if let Some(between) = &between
            && (between.value.len() != 2 || from.is_some() || to.is_some())
        {
            let message = "`between` names both ends, and stands alone";
            let remedy = "write `between = [\"edge\", \"center\"]`, or `from` and `to`";
            problems.add_with(between.line, Kind::BadValue, message, remedy);
        }
        if !has_settings && !problems.is_full() {
            let known: Vec<_> = KEYS.iter().filter(|key| !ENDS.contains(key)).collect();
            let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
            let remedy = format!("it may have {}", known.join(", "));
            problems.add_with(line, Kind::Missing, "a link that sets nothing", remedy);
        }
        let both_ways = between.is_some();
        let (from, to) = match between {
            Some(At { line, value }) => {
                let mut ends = value.into_iter().map(|value| At { line, value });
                (ends.next(), ends.next())
            }
            None => (from, to),
        };
        LinkSpec {
            from: from.and_then(|name| self.end(name, problems)),
            to: to.and_then(|name| self.end(name, problems)),
            both_ways,
            settings,
            line,
        }
    }

    /// Who is called so: a node, otherwise a role, otherwise a box.
    fn end(&self, name: At<&str>, problems: &mut Problems) -> Option<LinkEnd> {
        let text = name.value;
        if self.nodes.iter().any(|node| node.name.as_str() == text) {
            return Some(LinkEnd::Node(text.to_owned()));
        }
        if let Some(role) = Role::from_name(text) {
            return Some(LinkEnd::Role(role));
        }
        if self.nodes.iter().any(|node| node.box_name == text) {
            return Some(LinkEnd::Box(text.to_owned()));
        }
        if self.completeness == Completeness::Complete && !problems.is_full() {
            let message = format!("`{}` is no node, role or box", clip(text));
            let known = self.nodes.iter().map(|node| node.name.as_str());
            let boxes = self.nodes.iter().map(|node| node.box_name.as_str());
            let remedy = match nearest(text, known.chain(boxes)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name an end by its node, role or box".to_owned(),
            };
            problems.add_with(name.line, Kind::UnknownName, message, remedy);
        }
        None
    }
}

fn read_settings(fields: &mut Fields<'_, '_>) -> Vec<LinkSetting> {
    let mut settings = Vec::new();
    for key in KEYS.iter().filter(|key| !ENDS.contains(key)) {
        let Some(spec) = spec(key) else {
            continue;
        };
        let Some((line, value)) = fields
            .entry(key)
            .map(|entry| (entry.line, spec.read(&raw(entry.value))))
        else {
            continue;
        };
        match value {
            Ok(value) => settings.push(LinkSetting {
                key: spec.key(),
                value,
                line,
            }),
            Err(message) => {
                fields
                    .problems()
                    .add_with(line, Kind::BadValue, message, spec.help());
            }
        }
    }
    settings
}

/// The setting of a key of a link.
fn spec(key: &str) -> Option<&'static SettingSpec> {
    let is_it = |spec: &&SettingSpec| spec.key().strip_prefix("peering.") == Some(key);
    CORE_SETTINGS.iter().find(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_link_is_a_setting_of_peerings() {
        for key in KEYS.iter().filter(|key| !ENDS.contains(key)) {
            assert!(spec(key).is_some(), "{key}");
        }
    }
}
