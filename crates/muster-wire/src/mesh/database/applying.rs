//! How records are applied to the database: which are news, and which are refused.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Database, Entry};
use crate::mesh::codec::MAX_NEIGHBOURS;
use crate::mesh::newness::{Order, order, order_of_versions};
use crate::mesh::record::{LinkChanges, LinkRecord, NodeRecord, Record};
use crate::mesh::seal::{NodeSeal, Owner, Signature};
use crate::{EndpointId, Incarnation};

/// What became of a record that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was news.
    News,
    /// The same version or a newer one is known.
    Known,
    /// Another of the same version is known. One of the two is forged, and everybody keeps the one that is known here.
    Outweighed,
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
    /// Its incarnation or version is so much above what is held that it cannot be the endpoint's own.
    Absurd,
    /// It has no seal, and endpoints have certificates here.
    Unsealed,
    /// Its seal is not that of its origin's certificate, or not over what it says.
    Seal,
    /// The certificate is of no authority that is trusted here.
    Untrusted,
    /// The certificate has expired, or is not valid yet.
    OutOfDate,
    /// The certificate is of one whose endpoint ids are others.
    Identity,
}

impl Database {
    /// Applies a record, if it is newer than what is held. In whatever order records are applied,
    /// the newest remains.
    pub fn apply(&mut self, record: &Record) -> Applied {
        match record {
            Record::Node(node, seal) => self.apply_node(node, seal.as_ref()),
            Record::Links(links, seal) => self.apply_links(links, seal.as_ref()),
            Record::Changes(changes, seal) => self.apply_changes(changes, seal.as_ref()),
        }
    }

    fn apply_node(&mut self, node: &Arc<NodeRecord>, seal: Option<&Arc<NodeSeal>>) -> Applied {
        if let Some(slot) = self.slot(node.id)
            && let Some(held) = self.entry(slot).map(|entry| entry.age)
        {
            let age = (node.incarnation, node.version);
            let mut is_outweighed = false;
            let is_new_life = match self.order(node.incarnation.0, held.0.0) {
                Order::Newer => true,
                Order::Older => return Applied::Known,
                Order::Absurd => return Applied::Refused(Refusal::Absurd),
                Order::Same => match self.order_of_versions(node.version, held.1) {
                    Order::Newer => false,
                    Order::Same if self.outweighs(slot, node) => false,
                    Order::Same if self.node(slot) != Some(node) => {
                        is_outweighed = true;
                        false
                    }
                    Order::Same | Order::Older => return Applied::Known,
                    Order::Absurd => return Applied::Refused(Refusal::Absurd),
                },
            };
            // What is known already was looked at when it came.
            let (owner, seal) = match self.check_node(node, seal) {
                Ok(checked) => checked,
                Err(refusal) => return Applied::Refused(refusal),
            };
            if is_outweighed {
                return Applied::Outweighed;
            }
            let Some(entry) = self.entry_mut(slot) else {
                return Applied::Known;
            };
            let is_graph_change = is_new_life || node.transit != entry.node.transit;
            entry.node = node.clone();
            entry.age = age;
            entry.seal = seal;
            entry.owner = owner;
            // Nor has anybody links who does not relay.
            let has_no_links = is_new_life || !node.transit;
            if has_no_links && entry.links > 0 {
                entry.links = 0;
                entry.links_seal = None;
                self.unresolved.clear(slot);
            }
            if is_graph_change {
                let graph = self.graph_mut();
                graph.set_transit(slot, node.transit);
                if has_no_links {
                    graph.set_announced(slot, Vec::new());
                }
            }
            if age != held {
                self.gives_sign_of_life(slot);
            }
            self.node_changed(slot, node);
            self.recount(slot);
            return Applied::News;
        }
        let (owner, seal) = match self.check_node(node, seal) {
            Ok(checked) => checked,
            Err(refusal) => return Applied::Refused(refusal),
        };
        if self.len() >= self.limits.nodes {
            return Applied::Refused(Refusal::Full);
        }
        self.place(node.clone(), seal, owner);
        Applied::News
    }

    pub(super) fn place(
        &mut self,
        node: Arc<NodeRecord>,
        seal: Option<Arc<NodeSeal>>,
        owner: Option<Arc<dyn Owner>>,
    ) {
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
            seal,
            links_seal: None,
            owner,
            share: 0,
        });
        let naming = self.unresolved.resolve(id);
        let is_fenced = self.is_fenced(id);
        let graph = self.graph_mut();
        graph.place(slot, id, transit);
        graph.set_leaf(slot, is_fenced);
        for other in naming {
            graph.add_announced(other, slot);
        }
    }

    fn apply_links(&mut self, links: &LinkRecord, seal: Option<&Signature>) -> Applied {
        let slot = match self.links_slot(links.id) {
            Ok(slot) => slot,
            Err(refused) => return refused,
        };
        let mut neighbours = links.neighbours.clone();
        neighbours.sort_unstable();
        let mut is_outweighed = false;
        match self.not_news(slot, links.incarnation, links.version) {
            Some(Applied::Known) if self.has_version(slot, links) => {
                let held = self
                    .links(slot)
                    .map(|held| held.neighbours)
                    .unwrap_or_default();
                match neighbours.cmp(&held) {
                    Ordering::Greater => {}
                    Ordering::Equal => return Applied::Known,
                    Ordering::Less => is_outweighed = true,
                }
            }
            Some(applied) => return applied,
            None => {}
        }
        if let Err(refusal) = self.check_links(slot, links, seal) {
            return Applied::Refused(refusal);
        }
        if is_outweighed {
            return Applied::Outweighed;
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
        if !self.has_version(slot, links) {
            self.gives_sign_of_life(slot);
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.links = links.version;
            entry.links_seal = seal.cloned();
        }
        self.graph_mut().set_announced(slot, known);
        self.recount(slot);
        Applied::News
    }

    fn apply_changes(&mut self, changes: &LinkChanges, seal: Option<&Signature>) -> Applied {
        let slot = match self.links_slot(changes.id) {
            Ok(slot) => slot,
            Err(refused) => return refused,
        };
        if let Some(applied) = self.not_news(slot, changes.incarnation, changes.after) {
            return applied;
        }
        let held = self.entry(slot).map(|entry| entry.links);
        if held != Some(changes.before) {
            return Applied::Gap;
        }
        // No whole record may hold more, and those that receive one end the peering.
        let removed = changes.removed.iter().filter(|id| self.names(slot, **id));
        let held = self.graph.announced(slot).len() + self.unresolved.of(slot).len();
        if held - removed.count() + changes.added.len() > MAX_NEIGHBOURS {
            return Applied::Refused(Refusal::Neighbours);
        }
        if let Err(refusal) = self.check_changes(slot, changes, seal) {
            return Applied::Refused(refusal);
        }
        self.gives_sign_of_life(slot);
        for neighbour in &changes.removed {
            self.drop_neighbour(slot, *neighbour);
        }
        for neighbour in &changes.added {
            self.add_neighbour(slot, *neighbour);
        }
        if let Some(entry) = self.entry_mut(slot) {
            entry.links = changes.after;
            entry.links_seal = seal.cloned();
        }
        self.recount(slot);
        Applied::News
    }

    /// What a number is beside one that is held.
    #[cfg_attr(
        not(feature = "simulation"),
        allow(clippy::unused_self, reason = "a simulation breaks the rule")
    )]
    fn order(&self, there: u64, here: u64) -> Order {
        #[cfg(feature = "simulation")]
        if self.believes_numbers {
            return match there.cmp(&here) {
                Ordering::Greater => Order::Newer,
                Ordering::Equal => Order::Same,
                Ordering::Less => Order::Older,
            };
        }
        order(there, here)
    }

    /// The same of versions.
    fn order_of_versions(&self, there: u64, here: u64) -> Order {
        if there == 0 || here == 0 {
            return order_of_versions(there, here);
        }
        self.order(there, here)
    }

    /// Returns `true` if a record is to be kept instead of the one that is held, of the same version: everybody keeps
    /// the same, so that it comes to who can contradict it.
    fn outweighs(&self, slot: u32, node: &Arc<NodeRecord>) -> bool {
        self.node(slot).is_some_and(|held| node > held)
    }

    /// What becomes of links of some version that are no news; `None` if they are.
    fn not_news(&self, slot: u32, incarnation: Incarnation, version: u64) -> Option<Applied> {
        let absurd = Some(Applied::Refused(Refusal::Absurd));
        let Some(entry) = self.entry(slot) else {
            return Some(Applied::Gap);
        };
        match self.order(incarnation.0, entry.age.0.0) {
            Order::Newer => Some(Applied::Gap),
            Order::Older => Some(Applied::Known),
            Order::Absurd => absurd,
            Order::Same => match self.order_of_versions(version, entry.links) {
                Order::Newer => None,
                Order::Same | Order::Older => Some(Applied::Known),
                Order::Absurd => absurd,
            },
        }
    }

    /// Returns `true` if the links that are held have the version of a record.
    fn has_version(&self, slot: u32, links: &LinkRecord) -> bool {
        let held = self.entry(slot).map(|entry| (entry.age.0, entry.links));
        held == Some((links.incarnation, links.version))
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
