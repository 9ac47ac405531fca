//! Which node has a store's primary, and what keeps it: the operator's part of data stores.

use std::collections::HashMap;

use muster_store::StoreName;
use toml::de::DeTable;

use super::document::{At, Fields, clip};
use super::problem::{LayoutProblemKind as Kind, Problems};
use super::reader::{Completeness, named_tables};
use super::{Layout, NodeName};
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
];

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
        let default_master = Some(self.settings.text("stores.default_master_node"));
        let named = spec.and_then(|spec| spec.master.as_deref());
        let named = named.or(default_master.filter(|name| !name.is_empty()));
        let master = match named {
            Some(name) => self.find(name)?,
            None => self.manager()?,
        };
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
        Some(StorePlan {
            master: master.name.clone(),
            backend,
            path: path.unwrap_or_else(|| self.default_path(name)),
            file: spec.map(|spec| spec.file.clone()).unwrap_or_default(),
        })
    }

    /// The file of a store in the default place: the name with `/` replaced, as Zeek names its files. Where
    /// two names make one file, the second store does not open: files have one owner.
    fn default_path(&self, name: &StoreName) -> String {
        let directory = self.settings.text("stores.default_store_dir");
        let file: String = name
            .as_str()
            .chars()
            .map(|letter| if letter == '/' { '_' } else { letter })
            .collect();
        if directory.is_empty() {
            format!("{}/stores/{file}.sqlite", self.directory)
        } else {
            format!("{}/{file}.sqlite", directory.trim_end_matches('/'))
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
            line: entry.line,
        });
    }
    stores
}

/// Masters must be nodes of the layout, and no two stores may have one file.
pub(super) fn check(layout: &Layout, completeness: Completeness, problems: &mut Problems) {
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
