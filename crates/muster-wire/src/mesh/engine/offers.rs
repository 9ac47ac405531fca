//! Offers: many records are named before they are sent, and only those that are missing travel
//! (protocol version 2, section 6.1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Mesh;
use super::repair::size;
use crate::EndpointId;
use crate::mesh::codec::MeshFrame;
use crate::mesh::record::{Record, Versions};
use crate::time::Mono;

/// Records of this many bytes or more are offered. Fewer are sent at once: asking for them would cost as much.
pub(super) const OFFERED: usize = 2 << 10;

/// What was taken up from one neighbour is not asked of others for this time.
const UNANSWERED: Duration = Duration::from_secs(1);

/// What was asked of a neighbour that has offered it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    versions: Versions,
    of: EndpointId,
    at: Mono,
}

/// What was offered and taken up, and has not come yet. Many neighbours offer the same: one sends it.
#[derive(Debug, Default)]
pub(super) struct Offers {
    asked: BTreeMap<EndpointId, Asked>,
    /// When those that were not answered were forgotten last: once is enough for all that one offer names.
    trimmed: Option<Mono>,
}

impl Offers {
    /// Records of an endpoint have come.
    pub(super) fn came(&mut self, id: EndpointId) {
        self.asked.remove(&id);
    }

    /// A neighbour is gone: others may be asked for what it has not sent.
    pub(super) fn link_down(&mut self, neighbour: EndpointId) {
        self.asked.retain(|_, asked| asked.of != neighbour);
    }

    /// The endpoints whose records are awaited.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Returns `true` if records that are missing are asked for now: not if they are on their way
    /// already. `most` are awaited at one time.
    fn takes_up(&mut self, versions: Versions, of: EndpointId, most: usize, now: Mono) -> bool {
        let is_open = |asked: &Asked| now.since(asked.at) < UNANSWERED;
        let known = self.asked.get(&versions.id);
        if known.is_some_and(|asked| is_open(asked) && !versions.is_newer_than(&asked.versions)) {
            return false;
        }
        if known.is_none() && self.asked.len() >= most {
            if self.trimmed.replace(now) != Some(now) {
                self.asked.retain(|_, asked| is_open(asked));
            }
            if self.asked.len() >= most {
                return false;
            }
        }
        let at = now;
        self.asked.insert(versions.id, Asked { versions, of, at });
        true
    }
}

impl Mesh {
    /// Sends records down the tree of `root`, or offers them if they are many.
    pub(super) fn spread(&mut self, targets: &[EndpointId], root: EndpointId, records: &[Record]) {
        let bytes: usize = records.iter().map(size).sum();
        let offered = OFFERED;
        #[cfg(feature = "simulation")]
        let offered = self.sabotage.offered_from(offered);
        if bytes < offered {
            return self.send_records(targets, root, None, records);
        }
        let ids: BTreeSet<EndpointId> = records.iter().map(Record::id).collect();
        self.offer_whole(targets, root, ids);
    }

    /// Announces our own changes, together with what was held back.
    pub(super) fn announce(
        &mut self,
        targets: &[EndpointId],
        mut records: Vec<Record>,
        held: Vec<Record>,
    ) {
        let bytes: usize = held.iter().map(size).sum();
        let offered = OFFERED;
        #[cfg(feature = "simulation")]
        let offered = self.sabotage.offered_from(offered);
        if bytes < offered {
            records.extend(held);
            self.send_records(targets, self.identity.id, None, &records);
        } else {
            self.send_records(targets, self.identity.id, None, &records);
            self.spread(targets, self.identity.id, &held);
        }
    }

    /// Offers all records of some endpoints.
    fn offer_whole(
        &mut self,
        targets: &[EndpointId],
        root: EndpointId,
        ids: impl IntoIterator<Item = EndpointId>,
    ) {
        let slots = ids.into_iter().filter_map(|id| self.database.slot(id));
        let list: Vec<Versions> = slots
            .filter_map(|slot| self.database.versions(slot))
            .collect();
        if list.is_empty() {
            return;
        }
        self.counts.offers += targets.len() as u64;
        self.send_all(targets, MeshFrame::Offer { root, list });
    }

    /// A neighbour offers records: what is missing here is taken up. What is here and waits to be flooded
    /// goes on as an offer to those below, as it would if it had been sent.
    pub(super) fn offered(
        &mut self,
        from: EndpointId,
        root: EndpointId,
        list: &[Versions],
        now: Mono,
    ) {
        if root.is_nil() {
            return self.repair_offered(from, list);
        }
        self.hold_down.heard(now);
        #[cfg(feature = "simulation")]
        if self.sabotage == crate::mesh::Sabotage::BelievedOffers {
            self.believe(list, now);
        }
        let mut taken = Vec::new();
        let mut waiting = Vec::new();
        let most = self.config.limits.nodes;
        for there in list {
            let slot = self.database.slot(there.id);
            let here = slot.and_then(|slot| self.database.versions(slot));
            if here.is_none_or(|here| there.is_newer_than(&here)) {
                if self.offers.takes_up(*there, from, most, now) {
                    taken.push(there.id);
                }
            } else if here == Some(*there) && self.pending.contains(&there.id) {
                waiting.push(there.id);
            }
        }
        if !taken.is_empty() {
            self.send(from, MeshFrame::Accept { root, ids: taken });
        }
        if waiting.is_empty() {
            return;
        }
        if let Some(children) = self.flood_children(from, root) {
            for id in &waiting {
                self.pending.remove(id);
                self.aside.remove(id);
            }
            self.offer_whole(&children, root, waiting);
        }
    }

    /// Takes versions for the records that have them: breaks a rule on purpose.
    #[cfg(feature = "simulation")]
    fn believe(&mut self, list: &[Versions], now: Mono) {
        for there in list {
            for mut record in self.whole_records(there.id) {
                match &mut record {
                    Record::Node(node, _) if there.incarnation == node.incarnation => {
                        std::sync::Arc::make_mut(node).version = there.node;
                    }
                    Record::Links(links, _) if there.incarnation == links.incarnation => {
                        links.version = there.links;
                    }
                    _ => continue,
                }
                self.watch(now, |mesh| mesh.database.apply(&record));
            }
        }
    }

    /// A neighbour takes up what was offered.
    pub(super) fn accepted(&mut self, from: EndpointId, root: EndpointId, ids: &[EndpointId]) {
        if root.is_nil() {
            return self.send_repair(from, ids);
        }
        let records = ids.iter().flat_map(|id| self.whole_records(*id));
        let records: Vec<Record> = records.collect();
        self.send_records(&[from], root, None, &records);
    }
}
