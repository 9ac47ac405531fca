//! Which node has a store's primary, and what keeps it: the operator's part of data stores.

use std::collections::HashMap;

use muster_store::StoreName;
use toml::de::DeTable;

use super::document::{At, Fields, clip};
use super::problem::{LayoutProblemKind as Kind, Problems};
use super::reader::{Completeness, named_tables};
use super::{Layout, Node, NodeName, Role};
use crate::coordination::{MOST_CANDIDATES, MOST_COPIES, StoreCandidate, goal};
use crate::settings::{Choice, Origin};
use crate::suggestion::nearest;

/// The most `[store."NAME"]` sections of one layout.
const MOST_STORES: usize = 1024;

const STORE_KEYS: &[&str] = &[
    "backend",
    "master",
    "path",
    "synchronous",
    "journal_mode",
    "failure_mode",
    "integrity_check",
    "copies",
    "min_copies",
];

/// The most copies that a section may want.
const MOST: u32 = 8;
const _: () = assert!(MOST as usize == MOST_COPIES, "what coordinators take");

/// The setting for how many copies of a store there are; 0 leaves it to the layout's boxes.
const COPIES: &str = "stores.copies";

/// The setting for how many copies of a store are needed.
const MIN_COPIES: &str = "stores.min_copies";

/// What keeps a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreBackend {
    /// The primary's memory: what it holds ends with the process.
    Memory,
    /// An SQLite file.
    Sqlite,
}

/// How a store's file is kept, in the words of SQLite and of Zeek's options. What is not set is the
/// backend's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFile {
    /// `OFF`, `NORMAL`, `FULL` or `EXTRA`.
    pub synchronous: Option<String>,
    /// `DELETE` or `WAL`.
    pub journal_mode: Option<String>,
    /// What is done with a corrupt file: `FAIL`, or `DELETE` to start with an empty one.
    pub failure_mode: Option<String>,
    /// Whether the whole file is checked when it is opened.
    pub integrity_check: bool,
}

/// What a layout says about one store: its `[store."NAME"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// The store.
    pub name: StoreName,
    /// What keeps it, if not the default.
    pub backend: Option<StoreBackend>,
    /// The node that has its primary, if not the default.
    pub master: Option<String>,
    /// Its file, if not in the default place; relative to the layout file's directory.
    pub path: Option<String>,
    /// How its file is kept.
    pub file: StoreFile,
    /// How many copies of it there are, if not the default.
    pub copies: Option<u32>,
    /// Below so many copies in sync nothing is acknowledged, if not the default.
    pub min_copies: Option<u32>,
    /// The line of its section, counted from 1.
    pub line: usize,
}

/// Where a store lives, with all defaults applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePlan {
    /// The node that has its primary.
    pub master: NodeName,
    /// What keeps it.
    pub backend: StoreBackend,
    /// Its file, relative to the layout file's directory unless absolute. Not used in memory.
    pub path: String,
    /// How its file is kept.
    pub file: StoreFile,
    /// How many copies of it there are to be: 1 to [`MOST_COPIES`].
    pub copies: u64,
    /// Below so many copies in sync nothing is acknowledged: 1 to `copies`.
    pub min_copies: u64,
    /// The nodes that may have a copy, the one with the primary first: see [`Layout::store_candidates`].
    pub candidates: Vec<StoreCandidate>,
}

impl StorePlan {
    /// Returns the boxes that have copies while all nodes are in, the one with the primary first: a copy each, as long as there are
    /// other boxes with candidates.
    pub fn boxes(&self) -> Vec<&str> {
        let mut boxes = Vec::new();
        for candidate in &self.candidates {
            let name = candidate.box_name.as_str();
            if !boxes.contains(&name) && (boxes.len() as u64) < self.copies {
                boxes.push(name);
            }
        }
        boxes
    }

    /// Returns how many of the copies that are wanted there can be: see [`StoreGroup::goal`](crate::coordination::StoreGroup::goal).
    pub fn goal(&self) -> u64 {
        goal(self.copies, &self.candidates)
    }

    /// Returns `true` if it acknowledges nothing while one of several boxes with its copies is away.
    pub fn needs_all_boxes(&self) -> bool {
        let boxes = self.boxes().len() as u64;
        boxes > 1 && self.min_copies >= boxes
    }
}

impl Layout {
    /// The stores that the layout mentions.
    pub fn stores(&self) -> &[StoreSpec] {
        &self.stores
    }

    /// Returns `true` if the layout mentions the store.
    pub fn names_store(&self, name: &StoreName) -> bool {
        self.stores.iter().any(|spec| spec.name == *name)
    }

    /// Returns where a store lives. `persistent` is what its author asks for; what the layout says about the store
    /// takes precedence. `None` if the layout has no node for its primary; a checked layout always has one.
    pub fn store(&self, name: &StoreName, persistent: bool) -> Option<StorePlan> {
        let spec = self.stores.iter().find(|spec| spec.name == *name);
        self.plan(spec, persistent, || self.default_path(name))
    }

    /// Returns where the stores live that the layout does not mention. The path is the directory of their files.
    pub fn other_stores(&self, persistent: bool) -> Option<StorePlan> {
        self.plan(None, persistent, || self.store_directory())
    }

    fn plan(
        &self,
        spec: Option<&StoreSpec>,
        persistent: bool,
        default_path: impl FnOnce() -> String,
    ) -> Option<StorePlan> {
        let master = self.primary_node(spec)?;
        let default_backend = if persistent {
            "stores.default_persistent_backend"
        } else {
            "stores.default_backend"
        };
        let backend = spec.and_then(|spec| spec.backend).unwrap_or_else(|| {
            let word = self.settings.text(default_backend);
            StoreBackend::from_name(word).unwrap_or(StoreBackend::Memory)
        });
        let path = spec.and_then(|spec| spec.path.clone());
        let candidates = self.candidates_behind(master);
        let (copies, min_copies) = self.copies(spec, &candidates);
        Some(StorePlan {
            master: master.name.clone(),
            backend,
            path: path.unwrap_or_else(default_path),
            file: spec.map(|spec| spec.file.clone()).unwrap_or_default(),
            copies,
            min_copies,
            candidates,
        })
    }

    /// Returns the nodes that may have a copy of a store, in order of preference: the node that the layout gives its primary; then the
    /// others that are no workers, those of other boxes before those of the same one, and among these data nodes before loggers before
    /// managers, in the order of the layout. There are at most 16, and none if [`store`](Self::store) has no plan.
    pub fn store_candidates(&self, name: &StoreName, persistent: bool) -> Vec<StoreCandidate> {
        let plan = self.store(name, persistent);
        plan.map_or_else(Vec::new, |plan| plan.candidates)
    }

    fn primary_node(&self, spec: Option<&StoreSpec>) -> Option<&Node> {
        let default = Some(self.settings.text("stores.default_master_node"));
        let named = spec.and_then(|spec| spec.master.as_deref());
        match named.or(default.filter(|name| !name.is_empty())) {
            Some(name) => self.find(name),
            None => self.manager(),
        }
    }

    fn candidates_behind(&self, first: &Node) -> Vec<StoreCandidate> {
        let place = |node: &Node| match node.role {
            Role::Proxy => 0,
            Role::Logger => 1,
            Role::Manager | Role::Worker => 2,
        };
        let others = self.nodes.iter();
        let others = others.filter(|node| node.role != Role::Worker && node.name != first.name);
        let mut others: Vec<&Node> = others.collect();
        others.sort_by_key(|node| (node.box_name == first.box_name, place(node)));
        let all = std::iter::once(first).chain(others);
        all.take(MOST_CANDIDATES)
            .map(|node| StoreCandidate {
                node: node.name.to_string(),
                box_name: node.box_name.clone(),
            })
            .collect()
    }

    /// How many copies a store is to have, and how many it needs.
    fn copies(&self, spec: Option<&StoreSpec>, candidates: &[StoreCandidate]) -> (u64, u64) {
        let wanted = spec.and_then(|spec| spec.copies).map(u64::from);
        let wanted = wanted.unwrap_or_else(|| self.settings.count(COPIES));
        let mut boxes = candidates.iter().map(|it| &it.box_name);
        let first = boxes.next();
        let copies = match wanted {
            0 if boxes.any(|it| Some(it) != first) => 2,
            0 => 1,
            wanted => wanted,
        };
        let needed = spec.and_then(|spec| spec.min_copies).map(u64::from);
        let needed = needed.unwrap_or_else(|| self.settings.count(MIN_COPIES));
        (copies, needed.min(copies))
    }

    /// The file of a store in the default place: the name with `/` replaced, as Zeek names its files. Where
    /// two names make one file, the second store does not open: files have one owner.
    fn default_path(&self, name: &StoreName) -> String {
        let file: String = name
            .as_str()
            .chars()
            .map(|letter| if letter == '/' { '_' } else { letter })
            .collect();
        format!("{}/{file}.sqlite", self.store_directory())
    }

    fn store_directory(&self) -> String {
        let directory = self.settings.text("stores.default_store_dir");
        if directory.is_empty() {
            format!("{}/stores", self.directory)
        } else {
            directory.trim_end_matches('/').to_owned()
        }
    }
}

/// Reads the `[store."NAME"]` sections.
pub(super) fn read_stores(document: &DeTable<'_>, problems: &mut Problems) -> Vec<StoreSpec> {
    let mut stores: Vec<StoreSpec> = Vec::new();
    for (entry, table) in named_tables(document, "store", problems) {
        let place = format!("in `[store.\"{}\"]`", clip(entry.key));
        let name = match StoreName::new(entry.key) {
            Ok(name) => name,
            Err(error) => {
                problems.add_with(
                    entry.line,
                    Kind::BadValue,
                    error.to_string(),
                    "a name with `/` is written in quotes: `[store.\"software/tracked\"]`",
                );
                continue;
            }
        };
        if stores.len() >= MOST_STORES {
            let message = format!("more than {MOST_STORES} stores");
            problems.add(entry.line, Kind::TooLarge, message);
            break;
        }
        let mut fields = Fields::new(table, STORE_KEYS, place, problems);
        let mut one_of = |key: &str, known: &[&str]| {
            let text = fields.text(key)?;
            let upper = text.value.to_uppercase();
            let found = known.iter().find(|known| known.to_uppercase() == upper);
            if found.is_none() {
                let list: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
                let message = format!("`{key}` is not \"{}\"", clip(text.value));
                let remedy = format!("known are {}", list.join(", "));
                fields
                    .problems()
                    .add_with(text.line, Kind::BadValue, message, remedy);
            }
            found.map(|found| (*found).to_owned())
        };
        let backend = one_of("backend", &["memory", "sqlite"]);
        let file = StoreFile {
            synchronous: one_of("synchronous", &["OFF", "NORMAL", "FULL", "EXTRA"]),
            journal_mode: one_of("journal_mode", &["DELETE", "WAL"]),
            failure_mode: one_of("failure_mode", &["FAIL", "DELETE"]),
            integrity_check: false,
        };
        let integrity_check = fields.boolean("integrity_check");
        let copies = fields.number("copies", 0, MOST);
        let min_copies = fields.number("min_copies", 1, MOST);
        if let (Some(copies), Some(min_copies)) = (copies, min_copies)
            && copies.value > 0
            && min_copies.value > copies.value
        {
            let message = more_needed_than_wanted(min_copies.value.into(), copies.value.into());
            let problems = fields.problems();
            problems.add(min_copies.line, Kind::BadValue, message);
        }
        let path = fields.text("path");
        if let Some(path) = path.filter(|path| path.value.is_empty() || path.value.contains('\0')) {
            let problems = fields.problems();
            problems.add(path.line, Kind::BadValue, "`path` is not a usable path");
        }
        let master = fields.text("master");
        let known_master = master.and_then(|master| {
            NodeName::new(master.value)
                .map_err(|error| {
                    let problems = fields.problems();
                    problems.add(master.line, Kind::BadValue, error.to_string());
                })
                .ok()
        });
        stores.push(StoreSpec {
            name,
            backend: backend.as_deref().and_then(StoreBackend::from_name),
            master: known_master.map(|name| name.to_string()),
            path: path.map(|path| path.value.to_owned()),
            file: StoreFile {
                integrity_check: integrity_check.is_some_and(|check| check.value),
                ..file
            },
            copies: copies.map(|it| it.value),
            min_copies: min_copies.map(|it| it.value),
            line: entry.line,
        });
    }
    stores
}

fn more_needed_than_wanted(needed: u64, wanted: u64) -> String {
    format!("`min_copies` is {needed}, more than `copies`, which is {wanted}")
}

/// No store may need more copies than it has.
fn check_copies(layout: &Layout, problems: &mut Problems) {
    let settings = &layout.settings;
    let line = |key| match settings.origin(key) {
        Origin::Layout { line } => Some(line),
        _ => None,
    };
    let (wanted, needed) = (settings.count(COPIES), settings.count(MIN_COPIES));
    if wanted > 0 && needed > wanted {
        let line = line(MIN_COPIES).or(line(COPIES)).unwrap_or(1);
        let message = more_needed_than_wanted(needed, wanted);
        problems.add(line, Kind::BadValue, message);
        return;
    }
    for spec in &layout.stores {
        // With both of its own it was looked at where they stand.
        if spec.copies.is_some() == spec.min_copies.is_some() {
            continue;
        }
        let wanted = spec.copies.map_or(wanted, u64::from);
        let needed = spec.min_copies.map_or(needed, u64::from);
        if wanted > 0 && needed > wanted {
            let message = more_needed_than_wanted(needed, wanted);
            problems.add(spec.line, Kind::BadValue, message);
        }
    }
}

/// Masters must be nodes of the layout, and no two stores may have one file.
pub(super) fn check(layout: &Layout, completeness: Completeness, problems: &mut Problems) {
    check_copies(layout, problems);
    let default = layout.settings.text("stores.default_master_node");
    let line = match layout.settings.origin("stores.default_master_node") {
        Origin::Layout { line } => line,
        _ => 1,
    };
    let default = Some(At {
        line,
        value: default,
    });
    let named = layout.stores.iter().filter_map(|spec| {
        Some(At {
            line: spec.line,
            value: spec.master.as_deref()?,
        })
    });
    if completeness == Completeness::Complete {
        let default = default.filter(|name| !name.value.is_empty());
        for name in named.chain(default) {
            if layout.find(name.value).is_some() {
                continue;
            }
            let message = format!(
                "a store's master is on `{}`, which is no node",
                clip(name.value)
            );
            let nodes = layout.nodes.iter().map(|node| node.name.as_str());
            let remedy = match nearest(name.value, nodes) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a `[[node]]` of this layout".to_owned(),
            };
            problems.add_with(name.line, Kind::UnknownName, message, remedy);
        }
    }
    let mut files: HashMap<(Option<&str>, &str), &StoreSpec> = HashMap::new();
    for spec in &layout.stores {
        let Some(path) = spec.path.as_deref() else {
            continue;
        };
        if let Some(first) = files.insert((spec.master.as_deref(), path), spec) {
            let message = format!(
                "stores `{}` and `{}` (line {}) have one file, `{}`",
                spec.name,
                first.name,
                first.line,
                clip(path)
            );
            problems.add(spec.line, Kind::Duplicate, message);
        }
    }
}
