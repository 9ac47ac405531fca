//! Endpoints that are fenced here: nothing is led through them, whatever is announced.

use super::Graph;
use crate::mesh::bits::BitSet;

/// The slots of those that are fenced.
#[derive(Debug, Clone, Default)]
pub(super) struct Fenced {
    /// Those that lead to nobody but themselves.
    leaves: BitSet,
    /// Those of them that have given no sign of life since they were fenced: none of their links counts.
    mute: BitSet,
}

impl Fenced {
    pub(super) fn is_mute(&self, slot: u32) -> bool {
        self.mute.contains(slot)
    }

    /// The slot is given up, or given to somebody else.
    pub(super) fn forget(&mut self, slot: u32) {
        self.leaves.remove(slot);
        self.mute.remove(slot);
    }
}

impl Graph {
    /// Returns `true` if others are reached through an endpoint: it relays, and is not fenced here.
    pub fn leads_on(&self, slot: u32) -> bool {
        self.is_transit(slot) && !self.fenced.leaves.contains(slot)
    }

    /// Fences an endpoint: it is out of reach until it gives a sign of life, and a leaf from then on.
    pub(in crate::mesh) fn fence(&mut self, slot: u32) {
        self.set_leaf(slot, true);
        if self.fenced.mute.insert(slot) {
            self.look_at_all(slot);
        }
    }

    /// Has an endpoint be a leaf here, without a doubt whether it is alive.
    pub(in crate::mesh) fn set_leaf(&mut self, slot: u32, is_leaf: bool) {
        if is_leaf == self.fenced.leaves.contains(slot) {
            return;
        }
        if is_leaf {
            self.fenced.leaves.insert(slot);
        } else {
            self.fenced.leaves.remove(slot);
        }
        // Who relays decides over trees as much as links do.
        self.changes.forget();
    }

    /// Returns `true` if an endpoint is fenced, and has given no sign of life since.
    pub(in crate::mesh) fn is_mute(&self, slot: u32) -> bool {
        self.fenced.is_mute(slot)
    }

    /// Notes that an endpoint is alive: its links count again as they are announced.
    pub(in crate::mesh) fn set_alive(&mut self, slot: u32) {
        if self.is_mute(slot) {
            self.fenced.mute.remove(slot);
            self.look_at_all(slot);
        }
    }
}
