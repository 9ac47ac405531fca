//! What an agent writes down of its nodes, for the agent after it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::launch::write_whole;
use crate::place::Places;

/// What is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// Whether somebody has stopped it on purpose.
    #[serde(default)]
    pub(crate) is_held: bool,
    /// Why its last process ended, unless it was asked to.
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// What is known of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) nodes: BTreeMap<String, NodeRecord>,
}

/// Where the record is.
pub(crate) fn path(places: &Places) -> PathBuf {
    places.state.join("agent.json")
}

impl Record {
    /// Reads what the agent before this one wrote. One that cannot be read is none: the nodes themselves are found by
    /// their sockets.
    pub(crate) fn read(path: &Path) -> Self {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}", path.display());
                }
                return Self::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(
                "{} is no record of an agent ({error}): restarts are counted from 0",
                path.display()
            );
            Self::default()
        })
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        write_whole(path, &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&Places::in_one(directory.path()));
        assert_eq!(Record::read(&path), Record::default());
        let node = NodeRecord {
            restarts: 3,
            is_held: true,
            reason: Some("signal: 9".to_owned()),
        };
        let record = Record {
            nodes: BTreeMap::from([("data-1".to_owned(), node)]),
        };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path), record);
        let text = std::fs::read(&path).unwrap();
        for length in 0..text.len() {
            std::fs::write(&path, &text[..length]).unwrap();
            assert_eq!(Record::read(&path), Record::default());
        }
    }
}
