//! Records: announced, taken, passed on (protocol version 2, section 6).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::repair::cut;
use super::{Decision, Mesh, is_due};
use crate::EndpointId;
use crate::mesh::codec::MeshFrame;
use crate::mesh::database::{Applied, Refusal};
use crate::mesh::hold_down::Change;
use crate::mesh::newness;
use crate::mesh::record::{LinkChanges, LinkRecord, Record};
use crate::time::Mono;

impl Mesh {
    /// Announces what changed, together with what waits to be flooded from here.
    pub(super) fn flush(&mut self, now: Mono) {
        let mut records = Vec::new();
        records.extend(self.changed_node(now));
        if self.identity.transit {
            records.extend(self.changed_links(now));
        }
        self.announce_anew = false;
        let joiners = std::mem::take(&mut self.joiners);
        let mut held = std::mem::take(&mut self.pending);
        held.remove(&self.identity.id);
        held.retain(|id| !joiners.contains(id));
        let held = held.iter().flat_map(|id| self.whole_records(*id));
        let held: Vec<Record> = held.collect();
        for joiner in &joiners {
            records.extend(self.whole_records(*joiner));
        }
        let is_announced = !(records.is_empty() && held.is_empty());
        self.hold_down.flushed(is_announced, now);
        if is_announced {
            let mut targets = self.children(self.database.me());
            for fresh in self.fresh_neighbours() {
                // A tree that stood before may lead to a neighbour that is fresh again.
                if !targets.contains(&fresh) {
                    targets.push(fresh);
                }
            }
            if joiners.is_empty() {
                self.announce(&targets, records, held);
            } else {
                // Everybody passes on all of what is acknowledged, and of the rest what is news.
                self.spread(&targets, self.identity.id, &held);
                self.flood_joiners(targets, &records, joiners, now);
            }
        }
        self.try_join(None, now);
    }

    /// Makes joining endpoints known to all, and waits for acknowledgements.
    fn flood_joiners(
        &mut self,
        targets: Vec<EndpointId>,
        records: &[Record],
        joiners: BTreeSet<EndpointId>,
        now: Mono,
    ) {
        self.note_joining(records, now);
        self.floods += 1;
        self.last_flood = (self.floods, self.hold_down.announcement());
        let flood = (self.identity.id, self.floods);
        self.send_records(&targets, flood.0, Some(flood.1), records);
        #[cfg(feature = "simulation")]
        let targets = if self.sabotage == crate::mesh::Sabotage::NoBarrier {
            Vec::new()
        } else {
            targets
        };
        let joiners = joiners.into_iter().collect();
        if let Some(outcome) = self.barrier.begin(flood, None, targets, joiners, now) {
            self.flood_over(outcome);
        }
    }

    /// Neighbours that our trees do not lead to yet: they must hear of the link from us.
    fn fresh_neighbours(&self) -> Vec<EndpointId> {
        let peers = self.neighbours.keys().copied();
        peers
            .filter(|peer| !self.is_linked(*peer) && !self.is_between_leaves(*peer))
            .collect()
    }

    /// Returns `true` if our link to a neighbour counts.
    pub(super) fn is_linked(&self, peer: EndpointId) -> bool {
        let slot = self.database.slot(peer);
        slot.is_some_and(|slot| self.database.graph().linked(self.database.me(), slot))
    }

    /// Returns `true` if neither we nor a neighbour relay: nothing but heartbeats goes over such a
    /// link.
    pub(super) fn is_between_leaves(&self, peer: EndpointId) -> bool {
        if self.identity.transit {
            return false;
        }
        let slot = self.database.slot(peer);
        let node = slot.and_then(|slot| self.database.node(slot));
        node.is_some_and(|node| !node.transit)
    }

    fn changed_node(&mut self, now: Mono) -> Option<Record> {
        let node = self.own_node();
        let held = self.database.node(self.database.me())?;
        let is_same =
            node.ready == held.ready && node.filter == held.filter && node.guests == held.guests;
        if is_same && !self.announce_anew {
            return None;
        }
        self.node_version = node.version;
        let node = Arc::new(node);
        let seal = self.seal_of(&node);
        self.watch(now, |mesh| mesh.database.set_own_node(&node, seal.clone()));
        Some(Record::Node(node, seal))
    }

    fn changed_links(&mut self, now: Mono) -> Option<Record> {
        let peers: Vec<EndpointId> = self.neighbours.keys().copied().collect();
        let is_usable = |peer: &EndpointId| {
            self.announced.contains(peer) || self.is_to_be_announced(*peer, now)
        };
        let current: BTreeSet<EndpointId> = peers.into_iter().filter(is_usable).collect();
        if current == self.announced && !self.announce_anew {
            return None;
        }
        let added: Vec<EndpointId> = current.difference(&self.announced).copied().collect();
        let removed = self.announced.difference(&current).copied().collect();
        let before = self.links_version;
        self.announced = current;
        self.links_version = newness::next(self.links_version);
        self.watch(now, |mesh| {
            mesh.database.set_own_links(mesh.links_version);
            for peer in &added {
                mesh.database.link_up(*peer);
            }
        });
        self.last_news = now;
        self.seal_links();
        if before == 0 || self.announce_anew {
            return self.sealed_links();
        }
        let changes = LinkChanges {
            id: self.identity.id,
            incarnation: self.identity.incarnation,
            before,
            after: self.links_version,
            added,
            removed,
        };
        Some(Record::Changes(changes, self.links_seal.clone()))
    }

    /// Returns `true` if a new link is announced now (section 6.2). One that brings somebody in
    /// reach is; one that only makes a path better waits until the view has settled, so that the
    /// tree that stood before is everybody's. An endpoint that joins is announced by the one that
    /// it asked, and by nobody else before it is ready.
    fn is_to_be_announced(&self, peer: EndpointId, now: Mono) -> bool {
        let Some(slot) = self.database.slot(peer) else {
            return false;
        };
        let is_ready = self.database.node(slot).is_some_and(|node| node.ready);
        if self.ready && !is_ready && !self.joiners.contains(&peer) {
            return false;
        }
        let is_needed = !self.database.reach().contains(slot);
        self.settled.is_none() || is_due(self.links_may_wait, now) || is_needed
    }

    /// Our link record as it was announced last; the database holds what is true now.
    pub(super) fn own_links(&self) -> Option<LinkRecord> {
        (self.links_version > 0).then(|| LinkRecord {
            id: self.identity.id,
            incarnation: self.identity.incarnation,
            version: self.links_version,
            neighbours: self.announced.iter().copied().collect(),
        })
    }

    /// All records of an endpoint, the node record first.
    pub(super) fn whole_records(&self, id: EndpointId) -> Vec<Record> {
        let mut records = Vec::new();
        if let Some(slot) = self.database.slot(id) {
            let node = self.database.node(slot);
            let seal = self.database.seal(slot);
            records.extend(node.map(|node| Record::Node(Arc::clone(node), seal.cloned())));
            records.extend(if id == self.identity.id {
                self.sealed_links()
            } else {
                let seal = self.database.links_seal(slot).cloned();
                let links = self.database.links(slot);
                links.map(|links| Record::Links(links, seal))
            });
        }
        records
    }

    pub(super) fn send_records(
        &mut self,
        targets: &[EndpointId],
        root: EndpointId,
        flood: Option<u64>,
        records: &[Record],
    ) {
        // What somebody waits for is one flood; the rest goes in frames of bearable size.
        let parts = match flood {
            Some(_) => vec![records],
            None => cut(records),
        };
        for part in parts {
            self.counts.records_sent += (part.len() * targets.len()) as u64;
            let frame = MeshFrame::Records {
                root,
                more: false,
                flood,
                records: part.to_vec(),
            };
            self.send_all(targets, frame);
        }
    }

    /// A flood came from a neighbour.
    pub(super) fn flooded(
        &mut self,
        from: EndpointId,
        (root, flood): (EndpointId, Option<u64>),
        records: &[Record],
        now: Mono,
    ) {
        self.hold_down.heard(now);
        let news = self.take(from, records, now);
        let waits = |record: &Record| {
            let id = record.id();
            self.pending.contains(&id) || self.aside.contains(&id)
        };
        if flood.is_none() && news.is_empty() && !records.iter().any(waits) {
            // Nothing goes on: where it would go need not be found out.
            return;
        }
        let is_new_flood = flood.is_some_and(|flood| !self.barrier.has_seen((root, flood)));
        let is_sponsor = self.sponsor.is_some_and(|(sponsor, _)| sponsor == root);
        if flood.is_some() && is_sponsor && !self.ready {
            let reach = self.database.reach().iter();
            let all = reach.filter_map(|slot| self.database.graph().id(slot));
            self.membership.witnessed_by(all.collect());
        }
        let mut outcome = None;
        if let Some(children) = self.flood_children(from, root) {
            if let (Some(number), true) = (flood, is_new_flood) {
                self.note_joining(records, now);
                self.send_records(&children, root, flood, records);
                let waiting = (root, number);
                let from = Some(from);
                outcome = self.barrier.begin(waiting, from, children, Vec::new(), now);
            } else {
                let mut news = news;
                // What came before off the trees and is held back is still news to those below.
                let held = records.iter().filter(|record| self.is_held_back(record));
                let mut known: BTreeSet<_> = news.iter().map(name).collect();
                let held = held.filter(|record| known.insert(name(record))).cloned();
                let held: Vec<Record> = held.collect();
                news.extend(held);
                self.let_go(records);
                self.spread(&children, root, &news);
            }
        } else {
            // Not noted as seen: it will come down its tree as well, and then must go on.
            self.counts.off_tree += 1;
            self.hold_back(from, &news, now);
        }
        if let Some(outcome) = outcome {
            self.flood_over(outcome);
        } else if let Some(number) = flood
            && (!is_new_flood || !self.barrier.has_seen((root, number)))
        {
            let flood = number;
            self.send(from, MeshFrame::JoinAcknowledged { root, flood });
        }
    }

    /// The flood that makes these known has come by here, and is acknowledged.
    fn note_joining(&mut self, records: &[Record], now: Mono) {
        for record in records {
            if let Record::Node(node, _) = record
                && !node.ready
            {
                self.membership.joins(node.id, now);
            }
        }
    }

    /// Somebody else has flooded all that waits to be flooded of some endpoints: everybody gets it from
    /// there.
    fn let_go(&mut self, records: &[Record]) {
        let named: BTreeSet<_> = records.iter().map(name).collect();
        let ids: BTreeSet<EndpointId> = records.iter().map(Record::id).collect();
        for id in ids {
            let slot = self.database.slot(id);
            let Some(held) = slot.and_then(|slot| self.database.versions(slot)) else {
                continue;
            };
            let is_whole = named.contains(&(id, NODE, held.node));
            let is_linked = named.contains(&(id, LINKS, held.links));
            if is_whole && (is_linked || held.links == 0) {
                self.pending.remove(&id);
                self.aside.remove(&id);
            }
        }
    }

    /// Returns `true` if a record is held and waits to be flooded from here.
    fn is_held_back(&self, record: &Record) -> bool {
        let id = record.id();
        if !self.pending.contains(&id) {
            return false;
        }
        let slot = self.database.slot(id);
        let held = slot.and_then(|slot| self.database.versions(slot));
        held.is_some_and(|held| match record {
            Record::Node(node, _) => held.node == node.version,
            Record::Links(links, _) => held.links == links.version,
            Record::Changes(changes, _) => held.links == changes.after,
        })
    }

    /// Where a flood that came from a neighbour goes on; `None` if it cannot.
    pub(super) fn flood_children(
        &mut self,
        from: EndpointId,
        root: EndpointId,
    ) -> Option<Vec<EndpointId>> {
        let mut children = self.tree_children(from, root)?;
        // Joining neighbours, whose link is not announced yet, miss nothing meanwhile.
        let fresh = self.neighbours.keys().copied().filter(|peer| {
            let slot = self.database.slot(*peer);
            let is_reached = slot.is_some_and(|slot| self.database.reach().contains(slot));
            !is_reached && !self.is_linked(*peer) && !self.is_between_leaves(*peer)
        });
        children.extend(fresh);
        children.sort_unstable();
        children.dedup();
        children.retain(|child| *child != from && *child != root);
        Some(children)
    }

    /// Our children in the tree of a flood's root; `None` if the flood cannot go on there: over a link
    /// that we have not announced yet, or with a root that is not in our view.
    fn tree_children(&mut self, from: EndpointId, root: EndpointId) -> Option<Vec<EndpointId>> {
        if root == self.identity.id {
            return Some(Vec::new());
        }
        if self.identity.transit && !self.announced.contains(&from) {
            return None;
        }
        let root = self.database.slot(root)?;
        // Links have no direction: we are in its tree if it is in reach.
        let is_in_tree = self.database.reach().contains(root);
        is_in_tree.then(|| self.children(root))
    }

    /// Records that came off the trees: they are flooded from here, together with our own changes, so that
    /// what a new link brings in and the link itself travel as one. Leaves flood nothing but their own.
    ///
    /// A leaf brings nobody in reach but itself. What else it tells may not be in reach for long: it is set
    /// aside until it is.
    pub(super) fn hold_back(&mut self, from: EndpointId, news: &[Record], now: Mono) {
        if !self.identity.transit {
            return;
        }
        let teller = self.database.slot(from);
        let is_leaf = teller.is_some_and(|slot| !self.database.graph().leads_on(slot));
        for id in news.iter().map(Record::id) {
            if !is_leaf || id == from || self.is_in_reach(id) {
                self.aside.remove(&id);
                self.pending.insert(id);
                self.hold_down.changed(Change::News, now);
            } else if !self.pending.contains(&id) {
                self.aside.insert(id);
            }
        }
    }

    /// What was set aside and is in reach now is held back like other news.
    pub(super) fn fetch_aside(&mut self, now: Mono) {
        if self.aside.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.aside) {
            if self.is_in_reach(id) {
                self.pending.insert(id);
                self.hold_down.changed(Change::News, now);
            } else if self.database.slot(id).is_some() {
                self.aside.insert(id);
            }
        }
    }

    fn is_in_reach(&self, id: EndpointId) -> bool {
        let slot = self.database.slot(id);
        slot.is_some_and(|slot| self.database.reach().contains(slot))
    }

    /// Applies records and returns those that were news.
    pub(super) fn take(&mut self, from: EndpointId, records: &[Record], now: Mono) -> Vec<Record> {
        let mut news = Vec::new();
        let mut wanted = Vec::new();
        let mut outweighed = Vec::new();
        let mut forged = BTreeMap::new();
        let contradicted = self.counts.contradicted;
        self.watch(now, |mesh| {
            for record in records {
                mesh.offers.came(record.id());
                match mesh.apply(record, now) {
                    Applied::News => news.push(record.clone()),
                    Applied::Gap => wanted.push(record.id()),
                    Applied::Known => {
                        mesh.counts.records_known += 1;
                        if record.id() == from && mesh.is_behind(record) {
                            outweighed.push(from);
                        }
                    }
                    Applied::Outweighed => outweighed.push(record.id()),
                    Applied::Refused(refusal) => {
                        *mesh.counts.refused.entry(refusal).or_default() += 1;
                        if refusal == Refusal::Absurd && record.id() == from {
                            outweighed.push(from);
                        }
                        if refusal.is_of_seals() {
                            forged.entry(refusal).or_insert_with(|| record.id());
                        }
                    }
                }
            }
        });
        if !outweighed.is_empty() {
            outweighed.dedup();
            self.send_repair(from, &outweighed);
        }
        if self.counts.contradicted > contradicted {
            self.decisions
                .push_back(Decision::Contradicted { by: from });
        }
        for (refusal, of) in forged {
            let by = from;
            self.decisions
                .push_back(Decision::Forged { by, of, refusal });
        }
        if !news.is_empty() {
            self.last_news = now;
        }
        // Its messages may be right behind: it is to be up before they are delivered.
        let is_ready = |record: &Record| matches!(record, Record::Node(node, _) if node.ready);
        let mut ready = news.iter().filter(|record| is_ready(record));
        if ready.any(|record| self.membership.awaits(record.id())) {
            self.look = Some(now);
        }
        let is_waiting = |record: &Record| {
            let id = record.id();
            self.neighbours.contains_key(&id) && !self.announced.contains(&id)
        };
        if self.identity.transit && news.iter().any(is_waiting) {
            self.hold_down.changed(Change::News, now);
        }
        if !wanted.is_empty() {
            self.send(from, MeshFrame::Want(wanted));
        }
        news
    }

    fn apply(&mut self, record: &Record, now: Mono) -> Applied {
        if record.id() == self.identity.id {
            return self.heard_of_ourselves(record, now);
        }
        let applied = self.database.apply(record);
        if applied != Applied::Refused(Refusal::Full) {
            return applied;
        }
        // Room is made by those that cannot be reached; the others keep their places.
        let over = std::mem::take(&mut self.unreachable);
        for id in over.ids() {
            self.database.remove(id);
        }
        self.database.apply(record)
    }
}

/// The kinds of records, as [`name`] tells them apart.
const NODE: u8 = 0;
const LINKS: u8 = 1;
const CHANGES: u8 = 2;

/// What tells a record from others: whose it is, its kind and its version. A neighbour decides how many
/// come together: they are not compared one with all.
fn name(record: &Record) -> (EndpointId, u8, u64) {
    match record {
        Record::Node(node, _) => (node.id, NODE, node.version),
        Record::Links(links, _) => (links.id, LINKS, links.version),
        Record::Changes(changes, _) => (changes.id, CHANGES, changes.after),
    }
}
