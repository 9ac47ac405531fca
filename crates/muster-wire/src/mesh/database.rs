//! What one endpoint knows of all (protocol version 2, section 5).

use std::collections::HashMap;
use std::sync::Arc;

use crate::EndpointId;
use crate::mesh::bits::BitSet;
use crate::mesh::graph::Graph;
use crate::mesh::record::{LinkChanges, LinkRecord, NodeRecord, Record, Versions};

/// What a database holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Endpoints, this one included.
    pub nodes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nodes: 4096 }
    }
}

/// What became of a record that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was news. If it is a newer life of a name, this is the one that it replaced.
    News(Option<EndpointId>),
    /// The same or something newer is known.
    Known,
    /// A change of a version that is not the one held, or links of an endpoint whose node record is
    /// not: whole records are needed.
    Gap,
    /// It was not taken.
    Refused(Refusal),
}

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A newer life has the same name.
    Superseded,
    /// The database holds as many endpoints as it may.
    Full,
    /// Links of an endpoint that does not relay.
    Orphan,
}

#[derive(Debug)]
struct Entry {
    node: Arc<NodeRecord>,
    links: u64,
    /// Announced neighbours of which no node record is known.
    unresolved: Vec<EndpointId>,
}

/// The records of all endpoints, by slot: small numbers that stand for ids in sets and trees.
#[derive(Debug)]
pub struct Database {
    limits: Limits,
    me: u32,
    entries: Vec<Option<Entry>>,
    slots: HashMap<EndpointId, u32>,
    names: HashMap<String, u32>,
    graph: Arc<Graph>,
    graph_version: u64,
    nodes_version: u64,
    free: Vec<u32>,
    /// Slots that were given up, but may still be named by a snapshot of the graph.
    resting: Vec<u32>,
}

impl Database {
    /// The database of an endpoint that knows only itself.
    pub fn new(me: NodeRecord, limits: Limits) -> Self {
        let mut database = Self {
            limits,
            me: 0,
            entries: Vec::new(),
            slots: HashMap::new(),
            names: HashMap::new(),
            graph: Arc::default(),
            graph_version: 0,
            nodes_version: 0,
            free: Vec::new(),
            resting: Vec::new(),
        };
        database.place(Arc::new(me));
        Arc::make_mut(&mut database.graph).set_me(0);
        database
    }

    /// The slot of this endpoint itself.
    pub fn me(&self) -> u32 {
        self.me
    }

    /// The slot of an endpoint that a node record is known of.
    pub fn slot(&self, id: EndpointId) -> Option<u32> {
        self.slots.get(&id).copied()
    }

    /// The node record in a slot.
    pub fn node(&self, slot: u32) -> Option<&Arc<NodeRecord>> {
        Some(&self.entry(slot)?.node)
    }

    /// The number of endpoints.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the database is empty: never, it holds its own endpoint.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The links of all endpoints.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Counts the changes of the graph.
    pub fn graph_version(&self) -> u64 {
        self.graph_version
    }

    /// Counts the changes of node records.
    pub fn nodes_version(&self) -> u64 {
        self.nodes_version
    }

    /// The endpoints whose announced filter matches a topic.
    pub fn matching(&self, topic: &[u8]) -> BitSet {
        let entries = (0u32..).zip(&self.entries);
        entries
            .filter(|(_, entry)| {
                let node = entry.as_ref().map(|entry| &entry.node);
                node.is_some_and(|node| node.filter.matches(topic))
            })
            .map(|(slot, _)| slot)
            .collect()
    }

    /// How new the records in a slot are.
    pub fn versions(&self, slot: u32) -> Option<Versions> {
        let entry = self.entry(slot)?;
        Some(Versions {
            id: entry.node.id,
            incarnation: entry.node.incarnation,
            node: entry.node.version,
            links: entry.links,
        })
    }

    /// The whole link record in a slot, if there is one.
    pub fn links(&self, slot: u32) -> Option<LinkRecord> {
        let entry = self.entry(slot)?;
        if entry.links == 0 {
            return None;
        }
        let known = self.graph.announced(slot).iter();
        let mut neighbours: Vec<EndpointId> = known
            .filter_map(|neighbour| self.graph.id(*neighbour))
            .chain(entry.unresolved.iter().copied())
            .collect();
        neighbours.sort_unstable();
        Some(LinkRecord {
            id: entry.node.id,
            incarnation: entry.node.incarnation,
            version: entry.links,
            neighbours,
        })
    }

    /// Offers a record. Whatever the order of offers, the newest remains.
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
            if (node.incarnation, node.version) <= (entry.node.incarnation, entry.node.version) {
                return Applied::Known;
            }
            let is_new_life = node.incarnation > entry.node.incarnation;
            let is_graph_change = is_new_life || node.transit != entry.node.transit;
            entry.node = node.clone();
            if is_new_life {
                entry.links = 0;
                entry.unresolved.clear();
            }
            if is_graph_change {
                let graph = self.graph_mut();
                graph.set_transit(slot, node.transit);
                if is_new_life {
                    graph.set_announced(slot, Vec::new());
                }
            }
            self.nodes_version += 1;
            return Applied::News(None);
        }
        if self.len() >= self.limits.nodes {
            return Applied::Refused(Refusal::Full);
        }
        self.place(node.clone());
        Applied::News(None)
    }

    fn place(&mut self, node: Arc<NodeRecord>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            u32::try_from(self.entries.len() - 1).expect("a database has few endpoints")
        });
        let (id, transit) = (node.id, node.transit);
        self.slots.insert(id, slot);
        if !node.name.is_empty() {
            self.names.insert(node.name.clone(), slot);
        }
        self.entries[slot as usize] = Some(Entry {
            node,
            links: 0,
            unresolved: Vec::new(),
        });
        self.nodes_version += 1;
        let mut naming = Vec::new();
        for (other, entry) in (0u32..).zip(&mut self.entries) {
            if let Some(entry) = entry
                && let Some(at) = entry.unresolved.iter().position(|known| *known == id)
            {
                entry.unresolved.swap_remove(at);
                naming.push(other);
            }
        }
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
            Some(entry) if entry.node.incarnation < links.incarnation => {
                return Applied::Gap;
            }
            Some(entry)
                if entry.node.incarnation > links.incarnation || entry.links >= links.version =>
            {
                return Applied::Known;
            }
            _ => {}
        }
        let mut known = Vec::new();
        let mut unresolved = Vec::new();
        for neighbour in &links.neighbours {
            match self.slot(*neighbour) {
                Some(other) if other != slot => known.push(other),
                Some(_) => {}
                None => unresolved.push(*neighbour),
            }
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.links = links.version;
            entry.unresolved = unresolved;
        }
        self.graph_mut().set_announced(slot, known);
        Applied::News(None)
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
        for neighbour in &changes.removed {
            self.drop_neighbour(slot, *neighbour);
        }
        for neighbour in &changes.added {
            self.add_neighbour(slot, *neighbour);
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.links = changes.after;
        }
        Applied::News(None)
    }

    fn links_slot(&self, id: EndpointId) -> Result<u32, Applied> {
        match self.slot(id) {
            Some(slot) if self.graph.is_transit(slot) => Ok(slot),
            Some(_) => Err(Applied::Refused(Refusal::Orphan)),
            None => Err(Applied::Gap),
        }
    }

    fn add_neighbour(&mut self, slot: u32, neighbour: EndpointId) {
        match self.slot(neighbour) {
            Some(other) if other != slot => self.graph_mut().add_announced(slot, other),
            Some(_) => {}
            None => {
                if let Some(entry) = self.entry_mut(slot)
                    && !entry.unresolved.contains(&neighbour)
                {
                    entry.unresolved.push(neighbour);
                }
            }
        }
    }

    fn drop_neighbour(&mut self, slot: u32, neighbour: EndpointId) {
        if let Some(other) = self.slot(neighbour) {
            self.graph_mut().remove_announced(slot, other);
        } else if let Some(entry) = self.entry_mut(slot) {
            entry.unresolved.retain(|other| *other != neighbour);
        }
    }

    /// A link of this endpoint is announced, or stands if it is a leaf, which announces none.
    pub fn link_up(&mut self, neighbour: EndpointId) {
        self.add_neighbour(self.me, neighbour);
    }

    /// A connection of this endpoint has ended: its own view changes at once.
    pub fn link_down(&mut self, neighbour: EndpointId) {
        self.drop_neighbour(self.me, neighbour);
    }

    /// The version of this endpoint's link record that was announced last.
    pub fn set_own_links(&mut self, version: u64) {
        if let Some(entry) = self.entry_mut(self.me) {
            entry.links = version;
        }
    }

    /// Gives an endpoint up. Those that announce it as a neighbour go on doing so.
    pub fn remove(&mut self, id: EndpointId) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        if let Some(entry) = self.entries[slot as usize].take()
            && self.names.get(&entry.node.name) == Some(&slot)
        {
            self.names.remove(&entry.node.name);
        }
        let graph = self.graph.clone();
        for (other, entry) in (0u32..).zip(&mut self.entries) {
            if let Some(entry) = entry
                && graph.announces(other, slot)
            {
                entry.unresolved.push(id);
            }
        }
        drop(graph);
        self.graph_mut().remove(slot);
        self.nodes_version += 1;
        self.resting.push(slot);
    }

    /// No snapshot of the graph is in use any more: slots that were given up may be used again. Returns
    /// them.
    pub fn recycle(&mut self) -> Vec<u32> {
        let slots = std::mem::take(&mut self.resting);
        self.free.extend_from_slice(&slots);
        slots
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    fn graph_mut(&mut self) -> &mut Graph {
        self.graph_version += 1;
        Arc::make_mut(&mut self.graph)
    }

    #[cfg(test)]
    pub(super) fn ignore_two_way_check(&mut self) {
        self.graph_mut().one_announcement_is_enough = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Filter, Incarnation};

    fn id(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    fn node(number: u8, name: &str, incarnation: u64, version: u64) -> NodeRecord {
        NodeRecord {
            id: id(number),
            incarnation: Incarnation(incarnation),
            version,
            transit: true,
            ready: true,
            name: name.to_owned(),
            role: String::new(),
            machine: String::new(),
            filter: Filter::from_prefixes(["/a"]),
        }
    }

    fn offer(database: &mut Database, node: NodeRecord) -> Applied {
        database.apply(&Record::Node(Arc::new(node)))
    }

    fn links(number: u8, version: u64, neighbours: &[u8]) -> Record {
        Record::Links(LinkRecord {
            id: id(number),
            incarnation: Incarnation(1),
            version,
            neighbours: neighbours.iter().map(|n| id(*n)).collect(),
        })
    }

    #[test]
    fn the_newer_life_of_a_name_remains_in_either_order() {
        for turned in [false, true] {
            let mut database = Database::new(node(1, "one", 1, 1), Limits::default());
            let (old, new) = (node(2, "two", 1, 9), node(3, "two", 2, 1));
            if turned {
                offer(&mut database, new);
                let refused = offer(&mut database, old);
                assert_eq!(refused, Applied::Refused(Refusal::Superseded));
            } else {
                offer(&mut database, old);
                assert_eq!(offer(&mut database, new), Applied::News(Some(id(2))));
            }
            assert!(database.slot(id(2)).is_none() && database.slot(id(3)).is_some());
            assert_eq!(database.len(), 2);
        }
    }

    #[test]
    fn a_link_counts_when_both_announce_it() {
        let mut database = Database::new(node(1, "", 1, 1), Limits::default());
        assert_eq!(database.apply(&links(2, 1, &[3])), Applied::Gap);
        offer(&mut database, node(2, "", 1, 1));
        assert_eq!(database.apply(&links(2, 1, &[3])), Applied::News(None));
        offer(&mut database, node(3, "", 1, 1));
        let (two, three) = (database.slot(id(2)).unwrap(), database.slot(id(3)).unwrap());
        assert!(!database.graph().linked(two, three));
        database.apply(&links(3, 1, &[2]));
        assert!(database.graph().linked(two, three) && database.graph().linked(three, two));
        // The record survives that its neighbour is given up and comes back in another slot.
        database.remove(id(3));
        assert_eq!(database.links(two).unwrap().neighbours, [id(3)]);
        offer(&mut database, node(3, "", 1, 1));
        let three = database.slot(id(3)).unwrap();
        assert!(database.graph().announces(two, three));
    }

    #[test]
    fn changes_apply_to_their_version_only() {
        let mut database = Database::new(node(1, "", 1, 1), Limits::default());
        offer(&mut database, node(2, "", 1, 1));
        database.apply(&links(2, 3, &[1, 5]));
        let change = |before: u64, after: u64| {
            Record::Changes(LinkChanges {
                id: id(2),
                incarnation: Incarnation(1),
                before,
                after,
                added: vec![id(4)],
                removed: vec![id(1), id(5)],
            })
        };
        assert_eq!(database.apply(&change(2, 3)), Applied::Known);
        assert_eq!(database.apply(&change(4, 5)), Applied::Gap);
        assert_eq!(database.apply(&change(3, 4)), Applied::News(None));
        let slot = database.slot(id(2)).unwrap();
        assert_eq!(database.links(slot).unwrap().neighbours, [id(4)]);
        assert_eq!(database.versions(slot).unwrap().links, 4);
    }

    #[test]
    fn a_database_is_bounded() {
        let mut database = Database::new(node(1, "", 1, 1), Limits { nodes: 3 });
        offer(&mut database, node(2, "two", 1, 1));
        offer(&mut database, node(3, "", 1, 1));
        assert_eq!(
            offer(&mut database, node(4, "", 1, 1)),
            Applied::Refused(Refusal::Full)
        );
        // A new life takes the place of its old one.
        assert_eq!(
            offer(&mut database, node(5, "two", 2, 1)),
            Applied::News(Some(id(2)))
        );
        assert_eq!(database.len(), 3);
    }
}
