//! Which endpoints are linked with which, in one endpoint's view.

mod fenced;
mod lists;
mod rows;

use crate::EndpointId;
use crate::mesh::bits::BitSet;
use crate::mesh::changes::Changes;
use crate::mesh::score::key;

use fenced::Fenced;
use lists::Lists;
use rows::Rows;

/// A link that began or ceased to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkChange {
    pub(super) ends: [u32; 2],
    pub(super) is_added: bool,
}

/// The endpoints of a database by slot, the neighbours that each of them announces, and the links
/// that count because of that. A snapshot of it stays valid as long as its slots are not given away.
///
/// Trees are computed far more often than links change, and a link counts only if two announcements
/// agree: so the links that count are kept up to date with every announcement, and a walk tests
/// nothing.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    me: Option<u32>,
    ids: Vec<EndpointId>,
    keys: Vec<u64>,
    present: BitSet,
    transit: BitSet,
    /// Those out of reach: what they announced of leaves may long be over, and nobody else says so.
    cut_off: BitSet,
    fenced: Fenced,
    announced: Lists,
    /// Those that count as linked twice: to walk along, and to ask for one or for many at once.
    linked: Lists,
    rows: Rows,
    changes: Changes<LinkChange>,
    /// For the simulator, which must see what the rule is good for.
    #[cfg(feature = "simulation")]
    one_announcement_is_enough: bool,
}

impl Graph {
    /// Returns the number of slots, both those in use and those that are free.
    pub fn slots(&self) -> usize {
        self.ids.len()
    }

    /// Returns the endpoint of a slot, or `None` if the slot is not in use.
    pub fn id(&self, slot: u32) -> Option<EndpointId> {
        self.present.contains(slot).then(|| self.ids[slot as usize])
    }

    /// The endpoint's id as 64 bits.
    pub(super) fn key(&self, slot: u32) -> u64 {
        self.keys[slot as usize]
    }

    /// Returns `true` if an endpoint says that it relays. Whether it is relied upon says [`Graph::leads_on`].
    pub fn is_transit(&self, slot: u32) -> bool {
        self.transit.contains(slot)
    }

    /// The number of those that relay, in reach or not.
    pub(super) fn relays(&self) -> usize {
        self.transit.len()
    }

    /// Returns the neighbours that an endpoint announces, in ascending order of slots.
    pub fn announced(&self, slot: u32) -> &[u32] {
        self.announced.get(slot)
    }

    /// Returns `true` if an endpoint announces a neighbour.
    pub fn announces(&self, slot: u32, neighbour: u32) -> bool {
        self.announced.contains(slot, neighbour)
    }

    /// Returns `true` if the link between two endpoints counts (section 5).
    pub fn linked(&self, a: u32, b: u32) -> bool {
        self.rows.contains(a, b)
    }

    /// Returns the neighbours to which an endpoint has a link that counts, in ascending order of
    /// slots.
    pub fn neighbours(&self, slot: u32) -> &[u32] {
        self.linked.get(slot)
    }

    /// Returns [`Graph::neighbours`] as bits.
    pub(super) fn row(&self, slot: u32) -> &[u64] {
        self.rows.get(slot)
    }

    /// Counts the links that began or ceased to count.
    pub(super) fn version(&self) -> u64 {
        self.changes.version()
    }

    /// The links that changed after a version; `None` if that is too long ago, or if more than links
    /// changed.
    pub(super) fn changes_since(&self, version: u64) -> Option<impl Iterator<Item = LinkChange>> {
        self.changes.since(version)
    }

    /// The rule of section 5. Between transit endpoints both must announce a link, or the dead would be
    /// linked for ever. Our own lost links are taken out at once.
    fn counts(&self, a: u32, b: u32) -> bool {
        if self.fenced.is_mute(a) || self.fenced.is_mute(b) {
            return false;
        }
        match (self.is_transit(a), self.is_transit(b)) {
            #[cfg(feature = "simulation")]
            (true, true) if self.one_announcement_is_enough => {
                self.announces(a, b) || self.announces(b, a)
            }
            (true, true) => self.announces(a, b) && self.announces(b, a),
            (true, false) => self.leaf_counts(a, b),
            (false, true) => self.leaf_counts(b, a),
            (false, false) => false,
        }
    }

    fn leaf_counts(&self, transit: u32, leaf: u32) -> bool {
        let stands = if self.me == Some(leaf) {
            self.announces(leaf, transit)
        } else {
            !self.cut_off.contains(transit)
        };
        stands && self.announces(transit, leaf)
    }

    /// Notes whether an endpoint is out of reach: then its leaves are not linked with it.
    pub(super) fn set_cut_off(&mut self, slot: u32, is_cut_off: bool) {
        if is_cut_off == self.cut_off.contains(slot) {
            return;
        }
        if is_cut_off {
            self.cut_off.insert(slot);
        } else {
            self.cut_off.remove(slot);
        }
        if self.is_transit(slot) {
            for other in self.announced(slot).to_vec() {
                self.look_at(slot, other);
            }
        }
    }

    /// Looks at one link again after an announcement of one of its ends has changed.
    fn look_at(&mut self, a: u32, b: u32) {
        let is_added = self.counts(a, b);
        if is_added == self.linked(a, b) {
            return;
        }
        for (from, to) in [(a, b), (b, a)] {
            self.rows.set(from, to, is_added);
            if is_added {
                self.linked.insert(from, to);
            } else {
                self.linked.remove(from, to);
            }
        }
        let ends = [a, b];
        self.changes.push(LinkChange { ends, is_added });
    }

    fn look_at_all(&mut self, slot: u32) {
        for other in self.all_slots() {
            if self.announces(slot, other) || self.announces(other, slot) {
                self.look_at(slot, other);
            }
        }
    }

    fn all_slots(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.slots()).unwrap_or(u32::MAX)
    }

    pub(super) fn set_me(&mut self, slot: u32) {
        self.me = Some(slot);
        self.cut_off.remove(slot);
        self.changes.forget();
        self.look_at_all(slot);
    }

    pub(super) fn place(&mut self, slot: u32, id: EndpointId, transit: bool) {
        let at = slot as usize;
        if at < self.ids.len() {
            // Another endpoint in the slot has other scores.
            self.changes.forget();
        } else {
            self.ids.resize(at + 1, EndpointId::NIL);
            self.keys.resize(at + 1, 0);
            self.announced.grow(at + 1);
            self.linked.grow(at + 1);
            self.rows.grow(at + 1);
        }
        self.ids[at] = id;
        self.keys[at] = key(id);
        self.present.insert(slot);
        self.cut_off.insert(slot);
        self.fenced.forget(slot);
        // Nobody announces what was not there.
        if transit {
            self.transit.insert(slot);
        }
    }

    pub(super) fn set_transit(&mut self, slot: u32, transit: bool) {
        if transit == self.is_transit(slot) {
            return;
        }
        if transit {
            self.transit.insert(slot);
        } else {
            self.transit.remove(slot);
        }
        self.look_at_all(slot);
        // Who relays decides over trees as much as links do.
        self.changes.forget();
    }

    pub(super) fn set_announced(&mut self, slot: u32, mut neighbours: Vec<u32>) {
        neighbours.sort_unstable();
        for other in self.announced(slot).to_vec() {
            if neighbours.binary_search(&other).is_err() {
                self.remove_announced(slot, other);
            }
        }
        for other in neighbours {
            self.add_announced(slot, other);
        }
    }

    pub(super) fn add_announced(&mut self, slot: u32, neighbour: u32) {
        if self.announced.insert(slot, neighbour) {
            // Somebody has met it just now.
            if self.fenced.is_mute(neighbour) && !self.fenced.is_mute(slot) {
                self.set_alive(neighbour);
            }
            self.look_at(slot, neighbour);
        }
    }

    pub(super) fn remove_announced(&mut self, slot: u32, neighbour: u32) {
        if self.announced.remove(slot, neighbour) {
            self.look_at(slot, neighbour);
        }
    }

    /// Takes an endpoint out. Its neighbours' lists no longer name it.
    pub(super) fn remove(&mut self, slot: u32) {
        self.set_announced(slot, Vec::new());
        for other in self.all_slots() {
            self.remove_announced(other, slot);
        }
        self.present.remove(slot);
        self.transit.remove(slot);
        self.fenced.forget(slot);
    }

    #[cfg(test)]
    pub(super) fn is_cut_off(&self, slot: u32) -> bool {
        self.cut_off.contains(slot)
    }

    #[cfg(feature = "simulation")]
    pub(super) fn ignore_two_way_check(&mut self) {
        self.one_announcement_is_enough = true;
    }
}
