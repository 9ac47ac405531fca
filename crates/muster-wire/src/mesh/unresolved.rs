//! Announced neighbours of whom no node record is known.

use std::collections::HashMap;

use crate::EndpointId;

/// Who announces neighbours that are not known, by slot and by neighbour: most endpoints come after
/// somebody has announced a link to them.
#[derive(Debug, Default)]
pub(crate) struct Unresolved {
    by_slot: HashMap<u32, Vec<EndpointId>>,
    by_id: HashMap<EndpointId, Vec<u32>>,
}

impl Unresolved {
    /// The unknown neighbours that an endpoint announces.
    pub(crate) fn of(&self, slot: u32) -> &[EndpointId] {
        self.by_slot.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Returns `true` if an endpoint announces a neighbour that is not known.
    pub(crate) fn has(&self, slot: u32, neighbour: EndpointId) -> bool {
        let slots = self.by_id.get(&neighbour);
        slots.is_some_and(|slots| slots.contains(&slot))
    }

    /// An endpoint announces a neighbour that is not known.
    pub(crate) fn add(&mut self, slot: u32, neighbour: EndpointId) {
        let slots = self.by_id.entry(neighbour).or_default();
        if !slots.contains(&slot) {
            slots.push(slot);
            self.by_slot.entry(slot).or_default().push(neighbour);
        }
    }

    /// An endpoint announces it no longer.
    pub(crate) fn remove(&mut self, slot: u32, neighbour: EndpointId) {
        forget(&mut self.by_slot, &slot, &neighbour);
        forget(&mut self.by_id, &neighbour, &slot);
    }

    /// An endpoint announces none of them any longer.
    pub(crate) fn clear(&mut self, slot: u32) {
        for neighbour in self.by_slot.remove(&slot).unwrap_or_default() {
            forget(&mut self.by_id, &neighbour, &slot);
        }
    }

    /// A neighbour is known now; returns the slots of those that announce it.
    pub(crate) fn resolve(&mut self, neighbour: EndpointId) -> Vec<u32> {
        let slots = self.by_id.remove(&neighbour).unwrap_or_default();
        for slot in &slots {
            forget(&mut self.by_slot, slot, &neighbour);
        }
        slots
    }
}

fn forget<K, V>(lists: &mut HashMap<K, Vec<V>>, key: &K, value: &V)
where
    K: std::hash::Hash + Eq,
    V: PartialEq,
{
    if let Some(list) = lists.get_mut(key) {
        list.retain(|known| known != value);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree() {
        let id = |number: u8| EndpointId::from_random([number; 16]);
        let mut unresolved = Unresolved::default();
        for (slot, neighbour) in [(1, 8), (1, 9), (2, 8), (2, 8), (3, 8)] {
            unresolved.add(slot, id(neighbour));
        }
        assert_eq!(unresolved.of(2), [id(8)]);
        unresolved.remove(3, id(8));
        assert_eq!(unresolved.resolve(id(8)), [1, 2]);
        assert_eq!(
            (unresolved.of(1), unresolved.of(2)),
            (&[id(9)][..], &[][..])
        );
        unresolved.clear(1);
        assert!(unresolved.resolve(id(9)).is_empty());
        assert!(unresolved.by_slot.is_empty() && unresolved.by_id.is_empty());
    }
}
