//! The layout: which nodes a cluster has, where they run, which pools they form.
//!
//! One TOML file describes a cluster; [`Layout::parse`] reads it and reports everything that is
//! wrong with it at once, each with its line.

mod check;
mod document;
mod fingerprint;
mod link_settings;
mod name;
mod node_reader;
mod problem;
mod reader;
mod stores;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

pub(crate) use document::clip;
pub use link_settings::{LinkEnd, LinkSetting, LinkSpec};
pub use name::{AGENT_PREFIX, LONGEST_NAME, NameError, NodeName, PoolName, Role};
pub use problem::{LayoutError, LayoutProblem, LayoutProblemKind};
pub use stores::{StoreBackend, StoreFile, StorePlan, StoreSpec};

use crate::coordination::{self, VOTERS};
use crate::links::{self, Neighbours};
use crate::settings::{
    CORE_SETTINGS, FORWARD, ForwardingMode, Origin, SettingError, SettingSpec, SettingValue,
    Settings,
};
use crate::topics::Topics;
use problem::{LayoutProblemKind as Kind, Problems};

/// The largest layout file in bytes.
pub const LARGEST_FILE: usize = 1024 * 1024;

/// The most nodes of one layout.
pub const MOST_NODES: usize = 4096;

/// The first port that is handed out to nodes without one: below those that Linux gives to connections (32768 to 60999),
/// among which a listener may find its own taken.
pub const FIRST_PORT: u16 = 17760;

/// A checked layout. Immutable except for overrides of settings.
#[derive(Debug, Clone)]
pub struct Layout {
    pub(super) file: String,
    pub(super) topics: Topics,
    pub(super) directory: String,
    pub(super) boxes: BTreeMap<String, IpAddr>,
    pub(super) nodes: Vec<Node>,
    pub(super) index: HashMap<NodeName, usize>,
    pub(super) pools: Vec<PoolSpec>,
    pub(super) stores: Vec<StoreSpec>,
    pub(super) link_specs: Vec<LinkSpec>,
    pub(super) settings: Settings,
    pub(super) specs: Vec<SettingSpec>,
}

/// One node of a layout.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name, unique in the layout.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// The machine it runs on, the unit of failure: the `box` it names, otherwise its address.
    pub box_name: String,
    /// Where its peers reach it.
    pub address: IpAddr,
    /// The TCP port its peers reach it at, never 0.
    pub port: u16,
    /// The pools it is explicitly a member of.
    pub pools: Vec<PoolName>,
    /// Whether it relays for others.
    pub transit: bool,
    /// The log files or patterns it reads, as written; workers only.
    pub input: Vec<String>,
    /// Its effective settings.
    pub settings: Settings,
    /// The line of its `[[node]]` in the file, counted from 1.
    pub line: usize,
}

impl Node {
    /// Where its peers reach it.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Returns what it does with the messages of others: never [`ForwardingMode::Auto`].
    pub fn forwarding(&self) -> ForwardingMode {
        match self.settings.choice("peering.forwarding") {
            // Every worker is linked to every hub: those relay.
            ForwardingMode::Auto if self.role.is_hub() => ForwardingMode::Relay,
            ForwardingMode::Auto => ForwardingMode::Leaf,
            mode => mode,
        }
    }
}

/// The rules by which a pool is filled; Zeek's `Cluster::PoolSpec`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// The pool's name.
    pub name: PoolName,
    /// The role of its members: worker, proxy or logger.
    pub role: Role,
    /// The most members it takes, or `None` for no limit.
    pub max_nodes: Option<u32>,
    /// Whether its members belong to no other pool of their role.
    pub exclusive: bool,
    /// The line of its `[pool.NAME]`; 0 for a built-in pool that the file does not mention.
    pub line: usize,
}

impl Layout {
    /// Reads and checks a layout.
    ///
    /// `file` is the name of the file in reported problems. `specs` are the settings of the frameworks, besides
    /// [`CORE_SETTINGS`].
    ///
    /// # Errors
    /// [`LayoutError`] with every problem that was found, if there is any.
    pub fn parse(text: &str, file: &str, specs: &[SettingSpec]) -> Result<Self, LayoutError> {
        if text.len() > LARGEST_FILE {
            let mut problems = Problems::new(file, "");
            let message = format!(
                "the file has {} bytes, more than {LARGEST_FILE}",
                text.len()
            );
            problems.add_with(
                1,
                Kind::TooLarge,
                message,
                "use `count` for nodes that differ only by number",
            );
            return Err(problems.into_error());
        }
        let mut problems = Problems::new(file, text);
        let Some(document) = document::parse(text, &mut problems) else {
            return Err(problems.into_error());
        };
        let (layout, completeness) = reader::read(&document, file, specs, &mut problems);
        check::check(&layout, completeness, &mut problems);
        problems.finish(layout)
    }

    /// Returns the `directory` of a text that need not be a valid layout: what says where a cluster runs, whatever became of its layout since.
    pub fn directory_in(text: &str) -> String {
        let is_top_level = |line: &&str| !line.trim_start().starts_with('[');
        let mut lines = text.lines().take_while(is_top_level);
        let directory = lines.find_map(|line| {
            let table = toml::from_str::<toml::Table>(line).ok()?;
            let directory = table.get("directory")?.as_str()?;
            (!directory.is_empty() && !directory.contains('\0')).then(|| directory.to_owned())
        });
        directory.unwrap_or_else(|| reader::DIRECTORY.to_owned())
    }

    /// The layout's file as the caller named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The directory for logs, state and process files as written in the layout. A relative one starts from the layout
    /// file's own directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Returns the layout with another [directory](Layout::directory), as where a machine has standard ones.
    #[must_use]
    pub fn in_directory(mut self, directory: &str) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// The boxes that the layout names, with their addresses. A box may have no nodes.
    pub fn boxes(&self) -> &BTreeMap<String, IpAddr> {
        &self.boxes
    }

    /// The topics of the cluster.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// All nodes, in the order of the file.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the node of this name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.find(name.as_str())
    }

    /// Returns the node of a name that a user typed.
    pub fn find(&self, name: &str) -> Option<&Node> {
        self.index.get(name).map(|&index| &self.nodes[index])
    }

    /// The nodes of a role, in the order of the file.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Returns the manager; the first one by name if there are several.
    pub fn manager(&self) -> Option<&Node> {
        self.with_role(Role::Manager)
            .min_by(|one, other| one.name.cmp(&other.name))
    }

    /// Returns `true` if there is more than one manager: one is active, and others take over from it.
    pub fn has_several_managers(&self) -> bool {
        self.with_role(Role::Manager).nth(1).is_some()
    }

    /// Returns `true` if the manager takes the logs because there is no logger (Zeek's `Cluster::manager_is_logger`).
    pub fn manager_is_logger(&self) -> bool {
        self.with_role(Role::Logger).next().is_none()
    }

    /// Returns `true` if the manager owns the keys of the proxy pools because there is no proxy. In Zeek nobody owns
    /// them then, and what is divided by key is lost.
    pub fn manager_is_proxy(&self) -> bool {
        self.with_role(Role::Proxy).next().is_none()
    }

    /// Returns `true` if the node can be a member of pools of this type.
    pub fn serves_as(&self, node: &Node, role: Role) -> bool {
        let stands_in = match role {
            Role::Logger => self.manager_is_logger(),
            Role::Proxy => self.manager_is_proxy(),
            Role::Manager | Role::Worker => false,
        };
        node.role == role || (stands_in && node.role == Role::Manager)
    }

    /// Returns `true` if the node takes the cluster's logs and writes them.
    pub fn takes_logs(&self, node: &Node) -> bool {
        self.serves_as(node, Role::Logger) && !self.forwards_logs(node)
    }

    /// Returns `true` if the node is a logger to Zeek's nodes, and gives what they log to those that write it
    /// (`logging.forward`).
    pub fn forwards_logs(&self, node: &Node) -> bool {
        node.role == Role::Logger && node.settings.boolean(FORWARD)
    }

    /// All pools, sorted by topic, Zeek's own three included.
    pub fn pools(&self) -> &[PoolSpec] {
        &self.pools
    }

    /// The rules of one pool.
    pub fn pool(&self, name: &PoolName) -> Option<&PoolSpec> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// The settings of the cluster as a whole, without those of single nodes.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All settings that this layout knows, the core's first.
    pub fn specs(&self) -> impl Iterator<Item = &SettingSpec> {
        CORE_SETTINGS.iter().chain(&self.specs)
    }

    /// Returns the peers of a node, by [`links`](crate::links()). There are none for a name that is not in the layout.
    pub fn neighbours(&self, name: &NodeName) -> Neighbours {
        links::neighbours(self, name)
    }

    /// Returns the layout with a setting overridden for every node, as from a command line. `value` is text of the
    /// setting's kind; lists are separated by commas. Overrides take precedence over the layout and over a node's own
    /// options.
    ///
    /// # Errors
    /// [`SettingError::UnknownKey`] if no such setting is declared, [`SettingError::BadValue`] if the text is not a
    /// value of it.
    pub fn with_override(mut self, key: &str, value: &str) -> Result<Self, SettingError> {
        let Some(spec) = self.specs().find(|spec| spec.key() == key).copied() else {
            let nearest = crate::suggestion::nearest(key, self.specs().map(SettingSpec::key))
                .map(str::to_owned);
            return Err(SettingError::UnknownKey {
                key: clip(key),
                nearest,
            });
        };
        let value = spec.read_text(value).map_err(SettingError::BadValue)?;
        if let SettingValue::TextList(names) = &value
            && key == VOTERS
        {
            let boxes = self.boxes.keys().map(String::as_str).collect();
            coordination::check_named(names, &boxes)
                .map_err(|wrong| SettingError::BadValue(wrong.to_string()))?;
        }
        self.settings
            .set(spec.key(), value.clone(), Origin::Override);
        for node in &mut self.nodes {
            node.settings
                .set(spec.key(), value.clone(), Origin::Override);
        }
        Ok(self)
    }
}
