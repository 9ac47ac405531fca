//! What coordinators agree on about stores, and how a change of it is applied.

use std::collections::BTreeMap;

use muster_cluster::coordination::{
    MOST_COPIES, MOST_STORES, StoreCandidate, StoreCopy, StoreGroup, StoreWanted, View, ViewStore,
};
use muster_data::Record;
use muster_wire::EndpointId;

use super::settle::{begin, settle};
use super::{Change, State};
use crate::sabotage::Sabotage;

/// What the groups of all stores may weigh: with it, and with as many nodes as there can be, a state can still be kept.
pub(crate) const MOST_WEIGHT: usize = 4 << 20;

/// A store has a group, or is wanted otherwise than before.
pub(crate) const OPEN: u64 = 10;
/// A copy is in sync.
pub(crate) const JOINED: u64 = 11;
/// A copy that is in sync, and not the primary, is so no longer.
pub(crate) const SHRINK: u64 = 12;
/// A copy that is in sync is the primary, or a candidate is to become a copy.
pub(crate) const MOVE: u64 = 13;
/// A candidate that was to become a copy comes after the others.
pub(crate) const PASS: u64 = 14;
/// A store that waits begins with what one node has.
pub(crate) const RESTART: u64 = 15;

/// What is changed about a store. The node and its life stand in the [`Change`].
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(crate) struct OfStore {
    pub(crate) store: String,
    /// The epoch of the group's last change that it presupposes; 0 for no group.
    pub(crate) epoch: u64,
    /// How the store is wanted, if it is opened.
    pub(crate) wanted: Option<Wanted>,
}

/// How a store is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(crate) struct Wanted {
    pub(crate) persistent: bool,
    pub(crate) copies: u64,
    pub(crate) min_copies: u64,
    pub(crate) candidates: Vec<StoreCandidate>,
}

/// A store has begun anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restarted {
    pub(crate) store: String,
    pub(crate) persistent: bool,
    /// The node that had the last copy.
    pub(crate) last: String,
    /// The node that it begins with, if one is in.
    pub(crate) with: Option<String>,
}

/// A store goes on with another primary than before, or with none. Where it begins anew, [`Restarted`] says so instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) store: String,
    /// The node that had the primary, if one had.
    pub(crate) from: Option<String>,
    /// The node that has it now; `None` while the store waits.
    pub(crate) to: Option<String>,
    /// The nodes whose copies are in sync.
    pub(crate) in_sync: Vec<String>,
}

/// What an entry does to stores, as it is noted while it is applied.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) restarted: Vec<Restarted>,
    /// The stores that were changed: the node that had the primary before, and when the history began.
    before: BTreeMap<String, (Option<String>, u64)>,
}

impl Noted {
    /// A store is about to be changed that has a group. If it never had a copy there is nothing to go on with.
    fn changes(&mut self, store: &str, group: &StoreGroup) {
        if !group.in_sync.is_empty() && !self.before.contains_key(store) {
            let primary = group.primary.as_ref().map(|it| it.node.clone());
            let before = (primary, group.began);
            self.before.insert(store.to_owned(), before);
        }
    }

    /// Returns the stores whose primary is on another node than before.
    pub(super) fn moved(&self, view: &View) -> Vec<Moved> {
        let moved = self.before.iter().filter_map(|(store, (from, began))| {
            let group = view.store(store).filter(|it| it.began == *began)?;
            let to = group.primary.as_ref().map(|it| it.node.clone());
            (to != *from).then(|| Moved {
                store: store.clone(),
                from: from.clone(),
                to,
                in_sync: group.in_sync.iter().map(|it| it.node.clone()).collect(),
            })
        });
        moved.collect()
    }
}

impl Change {
    pub(crate) fn open(wanted: &StoreWanted, epoch: u64) -> Self {
        let store = OfStore {
            store: wanted.store.clone(),
            epoch,
            wanted: Some(Wanted {
                persistent: wanted.persistent,
                copies: wanted.copies,
                min_copies: wanted.min_copies,
                candidates: wanted.candidates.clone(),
            }),
        };
        Self {
            store: Some(store),
            ..Self::of(OPEN, "", 0)
        }
    }

    /// A change of a kind about a copy.
    pub(crate) fn of_copy(kind: u64, store: &str, epoch: u64, copy: &StoreCopy) -> Self {
        Self {
            life: copy.life.to_string(),
            ..Self::of_node(kind, store, epoch, &copy.node)
        }
    }

    /// A change of a kind about what a node has in its present life.
    pub(crate) fn of_node(kind: u64, store: &str, epoch: u64, node: &str) -> Self {
        let store = OfStore {
            store: store.to_owned(),
            epoch,
            wanted: None,
        };
        Self {
            store: Some(store),
            ..Self::of(kind, node, 0)
        }
    }

    fn copy(&self) -> Option<StoreCopy> {
        let life = self.life.parse::<EndpointId>().ok()?;
        Some(StoreCopy::new(&self.node, life))
    }
}

/// What a group weighs at most, whoever of its candidates has copies: more than its bytes where it is kept.
pub(super) fn weight(store: &str, group: &StoreGroup) -> usize {
    let candidates = group.candidates.iter();
    let bytes: usize = candidates
        .clone()
        .map(|it| it.node.len() + it.box_name.len() + 64)
        .sum();
    let longest = candidates.map(|it| it.node.len()).max().unwrap_or(0);
    // Those in sync, the primary, one that joins, and one more than wanted.
    let copies = usize::try_from(group.copies).map_or(MOST_COPIES, |it| it.min(MOST_COPIES)) + 3;
    256 + store.len() + bytes + copies * (longest + 96)
}

impl State {
    /// Returns `true` if there is room for another store, or for another one in its place.
    pub(crate) fn has_room_for(&self, store: &str, group: &StoreGroup) -> bool {
        let stores = || self.view.stores().filter(|(name, _)| *name != store);
        let others: usize = stores().map(|(name, it)| weight(name, it)).sum();
        stores().count() < MOST_STORES && others + weight(store, group) <= MOST_WEIGHT
    }

    /// Returns the group of a store as it is when it is opened, or opened otherwise than before; `None` if that is not possible or changes
    /// nothing.
    pub(crate) fn opened(&self, epoch: u64, store: &str, wanted: &Wanted) -> Option<StoreGroup> {
        let Wanted {
            persistent,
            copies,
            min_copies,
            ref candidates,
        } = *wanted;
        let Some(known) = self.view.store(store) else {
            let group = StoreGroup {
                opened: epoch,
                began: epoch,
                changed: epoch,
                persistent,
                copies,
                min_copies,
                candidates: candidates.clone(),
                primary: None,
                in_sync: Vec::new(),
                joining: None,
            };
            return is_possible(store, &group).then_some(group);
        };
        let are_same = known.candidates.len() == candidates.len()
            && candidates.iter().all(|it| known.candidates.contains(it));
        let is_same = (known.copies, known.min_copies) == (copies, min_copies) && are_same;
        if is_same || known.persistent != persistent {
            return None;
        }
        let mut group = known.clone();
        (group.copies, group.min_copies) = (copies, min_copies);
        if !are_same {
            // In their order until one was passed over; that is forgotten only when there are others.
            group.candidates.clone_from(candidates);
        }
        if copies < known.copies && has_primary(&self.view, known) {
            shrink_to_wanted(&mut group);
        }
        is_possible(store, &group).then_some(group)
    }

    /// Applies a change of a store.
    pub(super) fn change_store(&mut self, epoch: u64, change: &Change, noted: &mut Noted) -> bool {
        let Some(of_store) = &change.store else {
            return false;
        };
        let store = of_store.store.as_str();
        let known = self.view.store(store);
        if known.map_or(0, |it| it.changed) != of_store.epoch {
            return false;
        }
        let group = match (change.kind, known, &of_store.wanted) {
            (OPEN, _, Some(wanted)) => {
                let opened = self.opened(epoch, store, wanted);
                opened.filter(|group| self.has_room_for(store, group))
            }
            (JOINED, Some(known), _) => joined(known, change),
            (SHRINK, Some(known), _) => shrunk(&self.view, known, change),
            (MOVE, Some(known), _) => moved(&self.view, known, change),
            (PASS, Some(known), _) => passed(known, change),
            (RESTART, Some(known), _) => {
                let group = begun(&self.view, epoch, known, change);
                if group.is_some() {
                    let restarted = Restarted::between(store, known, group.as_ref());
                    noted.restarted.extend(restarted);
                }
                group
            }
            _ => None,
        };
        match group {
            Some(group) => {
                if let Some(known) = known {
                    noted.changes(store, known);
                }
                let changed = epoch;
                self.view
                    .set_store(epoch, store, StoreGroup { changed, ..group })
            }
            None => false,
        }
    }

    /// Makes all groups what they are by who is in.
    pub(super) fn settle_stores(
        &mut self,
        epoch: u64,
        sabotage: Sabotage,
        noted: &mut Noted,
    ) -> bool {
        let mut changed = Vec::new();
        for (store, group) in self.view.stores() {
            let settled = settle(&self.view, epoch, group, sabotage);
            if settled != *group {
                noted.changes(store, group);
                if settled.began != group.began {
                    let restarted = Restarted::between(store, group, Some(&settled));
                    noted.restarted.extend(restarted);
                }
                changed.push((store.to_owned(), settled));
            }
        }
        let has_changed = !changed.is_empty();
        for (store, group) in changed {
            let changed = epoch;
            self.view
                .set_store(epoch, &store, StoreGroup { changed, ..group });
        }
        has_changed
    }
}

impl Restarted {
    /// What there is to tell when a group begins anew that had copies.
    fn between(store: &str, before: &StoreGroup, after: Option<&StoreGroup>) -> Option<Self> {
        let last = before.in_sync.first()?;
        let primary = after.and_then(|after| after.primary.as_ref());
        Some(Self {
            store: store.to_owned(),
            persistent: before.persistent,
            last: last.node.clone(),
            with: primary.map(|copy| copy.node.clone()),
        })
    }
}

/// What cannot be told is not agreed on.
fn is_possible(store: &str, group: &StoreGroup) -> bool {
    ViewStore::of(store, group).group().is_some()
}

/// Fewer copies are wanted than before: the last in rank leave.
fn shrink_to_wanted(group: &mut StoreGroup) {
    let wanted = usize::try_from(group.copies).unwrap_or(MOST_COPIES);
    if group.in_sync.len() >= wanted {
        group.joining = None;
    }
    while group.in_sync.len() > wanted {
        let copies = group.in_sync.iter();
        let others = copies.filter(|it| Some(*it) != group.primary.as_ref());
        let Some(last) = others.max_by_key(|it| group.rank(&it.node)).cloned() else {
            return;
        };
        group.in_sync.retain(|it| *it != last);
    }
}

/// Whether a store's primary is in, also by what the same entry has decided before. If it is not, each of the others is needed: one of
/// them is to take its place.
fn has_primary(view: &View, group: &StoreGroup) -> bool {
    let primary = group.primary.as_ref();
    primary.is_some_and(|it| view.life(&it.node) == Some(it.life))
}

fn joined(known: &StoreGroup, change: &Change) -> Option<StoreGroup> {
    let copy = change.copy()?;
    if known.waits() || known.joining.as_ref() != Some(&copy) || known.in_sync.len() >= MOST_COPIES
    {
        return None;
    }
    let mut group = known.clone();
    group.in_sync.push(copy);
    group.joining = None;
    Some(group)
}

fn shrunk(view: &View, known: &StoreGroup, change: &Change) -> Option<StoreGroup> {
    let copy = change.copy()?;
    let is_primary = known.primary.as_ref() == Some(&copy);
    if !has_primary(view, known) || is_primary || !known.in_sync.contains(&copy) {
        return None;
    }
    let mut group = known.clone();
    group.in_sync.retain(|it| *it != copy);
    Some(group)
}

fn moved(view: &View, known: &StoreGroup, change: &Change) -> Option<StoreGroup> {
    let copy = StoreCopy::new(&change.node, view.life(&change.node)?);
    let is_candidate = known.rank(&copy.node) < known.candidates.len();
    let is_there = [&known.primary, &known.joining].contains(&&Some(copy.clone()));
    if known.waits() || is_there {
        return None;
    }
    let mut group = known.clone();
    if known.in_sync.contains(&copy) {
        group.primary = Some(copy);
    } else if is_candidate && can_take_one_more(known) {
        group.joining = Some(copy);
    } else {
        return None;
    }
    Some(group)
}

/// Whether a copy may be added to those that are in sync, so that the primary moves there.
pub(crate) fn can_take_one_more(group: &StoreGroup) -> bool {
    let count = group.in_sync.len();
    count < MOST_COPIES && count as u64 <= group.copies
}

fn passed(known: &StoreGroup, change: &Change) -> Option<StoreGroup> {
    let copy = change.copy()?;
    let rank = known.rank(&copy.node);
    if known.joining.as_ref() != Some(&copy) || rank >= known.candidates.len() {
        return None;
    }
    let mut group = known.clone();
    let candidate = group.candidates.remove(rank);
    group.candidates.push(candidate);
    group.joining = None;
    Some(group)
}

fn begun(view: &View, epoch: u64, known: &StoreGroup, change: &Change) -> Option<StoreGroup> {
    let copy = StoreCopy::new(&change.node, view.life(&change.node)?);
    let is_candidate = known.rank(&copy.node) < known.candidates.len();
    let had_copy = known.in_sync.iter().any(|it| it.node == copy.node);
    let mut copies = known.in_sync.iter();
    // One that is in sync may have come back in the same entry.
    let is_back = copies.any(|it| view.life(&it.node) == Some(it.life));
    if !known.waits() || is_back || !(is_candidate || had_copy) {
        return None;
    }
    let mut group = known.clone();
    begin(&mut group, epoch, copy);
    Some(group)
}

#[cfg(test)]
mod tests;
