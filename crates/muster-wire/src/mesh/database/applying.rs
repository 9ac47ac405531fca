//! How records are applied to the database: which are news, and which are refused.

use std::sync::Arc;

use super::{Database, Entry};
use crate::EndpointId;
use crate::mesh::codec::MAX_NEIGHBOURS;
use crate::mesh::record::{LinkChanges, LinkRecord, NodeRecord, Record};

/// What became of a record that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was news.
    News,
    /// The same version or a newer one is known.
    Known,
    /// A whole record is needed: this is a change of a version other than the one held, or the
    /// links of an endpoint whose node record is not known.
    Gap,
    /// It was refused.
    Refused(Refusal),
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The database holds as many endpoints as it may.
    Full,
    /// It has links of an endpoint that does not relay.
    Orphan,
    /// The changes would leave the endpoint with more neighbours than a link record may hold.
    Neighbours,
}

impl Database {
    /// Applies a record, if it is newer than what is held. In whatever order records are applied,
    /// the newest remains.
    pub fn apply(&mut self, record: &Record) -> Applied {
        match record {
            Record::Node(node) => self.apply_node(node),
            Record::Links(links) => self.apply_links(links),
            Record::Changes(changes) => self.apply_changes(changes),
        }
    }

    fn apply_node(&mut self, node: &Arc<NodeRecord>) -> Applied {
        if let Some(slot) = self.slot(node.id)
            && let Some(entry) = self.entry_mut(slot)
        {
            let age = (node.incarnation, node.version);
            if age <= entry.age {
                return Applied::Known;
            }
            let is_new_life = node.incarnation > entry.age.0;
            let is_graph_change = is_new_life || node.transit != entry.node.transit;
            entry.node = node.clone();
            entry.age = age;
            if is_new_life {
                entry.links = 0;
                self.unresolved.clear(slot);
            }
            if is_graph_change {
                let graph = self.graph_mut();
                graph.set_transit(slot, node.transit);
                if is_new_life {
                    graph.set_announced(slot, Vec::new());
                }
            }
            self.node_changed(slot, node);
            self.recount(slot);
            return Applied::News;
        }
        if self.len() >= self.limits.nodes {
            return Applied::Refused(Refusal::Full);
        }
        self.place(node.clone());
        Applied::News
    }

    pub(super) fn place(&mut self, node: Arc<NodeRecord>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("a database has few endpoints")
        });
        let (id, transit) = (node.id, node.transit);
        self.node_changed(slot, &node);
        Arc::make_mut(&mut self.slots).insert(id, slot);
        self.entries[slot as usize] = Some(Entry {
            age: (node.incarnation, node.version),
            node,
            links: 0,
            share: 0,
        });
        let naming = self.unresolved.resolve(id);
        let graph = self.graph_mut();
        graph.place(slot, id, transit);
        for other in naming {
            graph.add_announced(other, slot);
        }
    }

    fn apply_links(&mut self, links: &LinkRecord) -> Applied {
        let slot = match self.links_slot(links.id) {
            Ok(slot) => slot,
            Err(refused) => return refused,
        };
        match self.entry(slot) {
            Some(entry) if entry.age.0 < links.incarnation => {
                return Applied::Gap;
            }
            Some(entry) if entry.age.0 > links.incarnation || entry.links >= links.version => {
                return Applied::Known;
            }
            _ => {}
        }
        let mut known = Vec::new();
        self.unresolved.clear(slot);
        for neighbour in &links.neighbours {
            match self.slot(*neighbour) {
                Some(other) if other != slot => known.push(other),
                Some(_) => {}
                None => self.unresolved.add(slot, *neighbour),
            }
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.links = links.version;
        }
        self.graph_mut().set_announced(slot, known);
        self.recount(slot);
        Applied::News
    }

    fn apply_changes(&mut self, changes: &LinkChanges) -> Applied {
        let slot = match self.links_slot(changes.id) {
            Ok(slot) => slot,
            Err(refused) => return refused,
        };
        let Some(held) = self.versions(slot) else {
            return Applied::Gap;
        };
        if (held.incarnation, held.links) >= (changes.incarnation, changes.after) {
            return Applied::Known;
        }
        if (held.incarnation, held.links) != (changes.incarnation, changes.before) {
            return Applied::Gap;
        }
        // No whole record may hold more, and those that receive one end the peering.
        let removed = changes.removed.iter().filter(|id| self.names(slot, **id));
        let held = self.graph.announced(slot).len() + self.unresolved.of(slot).len();
        if held - removed.count() + changes.added.len() > MAX_NEIGHBOURS {
            return Applied::Refused(Refusal::Neighbours);
        }
        for neighbour in &changes.removed {
            self.drop_neighbour(slot, *neighbour);
        }
        for neighbour in &changes.added {
            self.add_neighbour(slot, *neighbour);
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.links = changes.after;
        }
        self.recount(slot);
        Applied::News
    }

    /// Returns `true` if an endpoint announces a neighbour, known or not.
    fn names(&self, slot: u32, neighbour: EndpointId) -> bool {
        match self.slot(neighbour) {
            Some(other) => self.graph.announces(slot, other),
            None => self.unresolved.has(slot, neighbour),
        }
    }

    fn links_slot(&self, id: EndpointId) -> Result<u32, Applied> {
        match self.slot(id) {
            Some(slot) if self.graph.is_transit(slot) => Ok(slot),
            Some(_) => Err(Applied::Refused(Refusal::Orphan)),
            None => Err(Applied::Gap),
        }
    }

    pub(super) fn add_neighbour(&mut self, slot: u32, neighbour: EndpointId) {
        match self.slot(neighbour) {
            Some(other) if other != slot => self.graph_mut().add_announced(slot, other),
            Some(_) => {}
            None => self.unresolved.add(slot, neighbour),
        }
    }

    pub(super) fn drop_neighbour(&mut self, slot: u32, neighbour: EndpointId) {
        if let Some(other) = self.slot(neighbour) {
            self.graph_mut().remove_announced(slot, other);
        } else {
            self.unresolved.remove(slot, neighbour);
        }
    }
}
