//! Who is linked with whom, in one endpoint's view.

use crate::EndpointId;
use crate::mesh::bits::BitSet;
use crate::mesh::score::key;

/// The endpoints of a database by slot, and the neighbours that each of them announces. A snapshot
/// of it stays valid as long as its slots are not given away.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    me: Option<u32>,
    ids: Vec<EndpointId>,
    keys: Vec<u64>,
    present: BitSet,
    transit: BitSet,
    /// The announced neighbours twice: to walk along, and to ask for one.
    lists: Vec<Vec<u32>>,
    rows: Vec<BitSet>,
    /// For the simulator, which must see what the rule is good for.
    #[cfg(test)]
    pub(super) one_announcement_is_enough: bool,
}

impl Graph {
    /// The slots, those in use and those that are free.
    pub fn slots(&self) -> usize {
        self.ids.len()
    }

    /// The endpoint of a slot, if it is in use.
    pub fn id(&self, slot: u32) -> Option<EndpointId> {
        self.present.contains(slot).then(|| self.ids[slot as usize])
    }

    /// The endpoint's id as 64 bits.
    pub(super) fn key(&self, slot: u32) -> u64 {
        self.keys[slot as usize]
    }

    /// Whether an endpoint relays.
    pub fn is_transit(&self, slot: u32) -> bool {
        self.transit.contains(slot)
    }

    /// The neighbours that an endpoint announces.
    pub fn announced(&self, slot: u32) -> &[u32] {
        self.lists.get(slot as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether an endpoint announces a neighbour.
    pub fn announces(&self, slot: u32, neighbour: u32) -> bool {
        self.rows
            .get(slot as usize)
            .is_some_and(|row| row.contains(neighbour))
    }

    /// Whether a link counts (section 5). Between transit endpoints both must announce it, or the
    /// dead would be linked for ever. Our own lost links are taken out at once.
    pub fn linked(&self, a: u32, b: u32) -> bool {
        match (self.is_transit(a), self.is_transit(b)) {
            #[cfg(test)]
            (true, true) if self.one_announcement_is_enough => {
                self.announces(a, b) || self.announces(b, a)
            }
            (true, true) => self.announces(a, b) && self.announces(b, a),
            (true, false) => self.leaf_linked(a, b),
            (false, true) => self.leaf_linked(b, a),
            (false, false) => false,
        }
    }

    fn leaf_linked(&self, transit: u32, leaf: u32) -> bool {
        let stands = self.me != Some(leaf) || self.announces(leaf, transit);
        stands && self.announces(transit, leaf)
    }

    /// Those that count as linked with an endpoint.
    pub fn neighbours(&self, slot: u32, into: &mut Vec<u32>) {
        into.clear();
        if self.is_transit(slot) || self.me == Some(slot) {
            let list = self.announced(slot).iter().copied();
            into.extend(list.filter(|other| self.linked(slot, *other)));
        } else {
            let transit = self.transit.iter();
            into.extend(transit.filter(|other| self.linked(*other, slot)));
        }
        #[cfg(test)]
        if self.one_announcement_is_enough {
            into.clear();
            into.extend(
                self.present
                    .iter()
                    .filter(|other| self.linked(slot, *other)),
            );
        }
    }

    pub(super) fn set_me(&mut self, slot: u32) {
        self.me = Some(slot);
    }

    pub(super) fn place(&mut self, slot: u32, id: EndpointId, transit: bool) {
        let at = slot as usize;
        if at >= self.ids.len() {
            self.ids.resize(at + 1, EndpointId::NIL);
            self.keys.resize(at + 1, 0);
            self.lists.resize_with(at + 1, Vec::new);
            self.rows.resize_with(at + 1, BitSet::default);
        }
        self.ids[at] = id;
        self.keys[at] = key(id);
        self.present.insert(slot);
        self.set_transit(slot, transit);
    }

    pub(super) fn set_transit(&mut self, slot: u32, transit: bool) {
        if transit {
            self.transit.insert(slot);
        } else {
            self.transit.remove(slot);
        }
    }

    pub(super) fn set_announced(&mut self, slot: u32, neighbours: Vec<u32>) {
        self.rows[slot as usize] = neighbours.iter().copied().collect();
        self.lists[slot as usize] = neighbours;
    }

    pub(super) fn add_announced(&mut self, slot: u32, neighbour: u32) {
        if self.rows[slot as usize].insert(neighbour) {
            self.lists[slot as usize].push(neighbour);
        }
    }

    pub(super) fn remove_announced(&mut self, slot: u32, neighbour: u32) {
        self.rows[slot as usize].remove(neighbour);
        self.lists[slot as usize].retain(|other| *other != neighbour);
    }

    /// Takes an endpoint out. Its neighbours' lists no longer name it.
    pub(super) fn remove(&mut self, slot: u32) {
        self.present.remove(slot);
        self.transit.remove(slot);
        self.set_announced(slot, Vec::new());
        for other in 0..self.lists.len() {
            if self.rows[other].contains(slot) {
                self.rows[other].remove(slot);
                self.lists[other].retain(|neighbour| *neighbour != slot);
            }
        }
    }
}
