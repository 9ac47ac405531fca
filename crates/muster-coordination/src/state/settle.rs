//! What becomes of a store's group when nodes come and go.

use std::collections::BTreeSet;

use muster_cluster::coordination::{
    MOST_COPIES, OutReason, StoreCandidate, StoreCopy, StoreGroup, View,
};

use super::stores::can_take_one_more;
use crate::sabotage::Sabotage;

/// Returns a store's group as it is by who is in, in an epoch. Everybody computes the same; what is settled stays as it is.
///
/// Copies leave that are out, but not the last ones. A copy that is in sync takes the primary's place. If none is in, the store waits,
/// or begins anew if nothing is left to wait for. Copies that are missing are looked for, one at a time.
pub(crate) fn settle(
    view: &View,
    epoch: u64,
    group: &StoreGroup,
    sabotage: Sabotage,
) -> StoreGroup {
    let mut group = group.clone();
    let is_in = |copy: &StoreCopy| view.life(&copy.node) == Some(copy.life);
    if sabotage == Sabotage::LetsLastCopyLeave || group.in_sync.iter().any(is_in) {
        group.in_sync.retain(is_in);
    }
    if sabotage == Sabotage::PromotesCandidates && !group.primary.as_ref().is_some_and(is_in) {
        promote_anybody(view, &mut group);
    }
    if !group.in_sync.iter().any(is_in) {
        (group.primary, group.joining) = (None, None);
        begin_if_nothing_is_left(view, epoch, &mut group);
    } else if !group.primary.as_ref().is_some_and(is_in) {
        group.primary = successor(view, &group);
    }
    group.joining = joining(view, &group);
    group
}

/// A store begins with one copy: with what the node has on disk, or with nothing.
pub(crate) fn begin(group: &mut StoreGroup, epoch: u64, copy: StoreCopy) {
    group.began = epoch;
    group.in_sync = vec![copy.clone()];
    group.primary = Some(copy);
    group.joining = None;
}

/// Returns the copy that the first candidate has that is in.
pub(crate) fn first_in(view: &View, group: &StoreGroup) -> Option<StoreCopy> {
    let mut candidates = group.candidates.iter();
    candidates.find_map(|it| Some(StoreCopy::new(&it.node, view.life(&it.node)?)))
}

/// No copy that is in sync is in.
fn begin_if_nothing_is_left(view: &View, epoch: u64, group: &mut StoreGroup) {
    if group.persistent && !group.in_sync.is_empty() {
        // A file comes back with its node. Of several files somebody has to choose one, when there was time for all to come.
        if let [only] = group.in_sync.as_slice()
            && let Some(life) = view.life(&only.node)
        {
            let copy = StoreCopy::new(&only.node, life);
            begin(group, epoch, copy);
        }
        return;
    }
    if !group.in_sync.iter().all(|copy| is_gone(view, copy)) {
        return;
    }
    if let Some(copy) = first_in(view, group) {
        begin(group, epoch, copy);
    } else if !group.in_sync.is_empty() {
        group.in_sync.clear();
        group.began = epoch;
    }
}

/// Whether what a life had in memory is gone for certain.
fn is_gone(view: &View, copy: &StoreCopy) -> bool {
    let member = view.get(&copy.node);
    member.is_none_or(|it| it.life != copy.life || it.out == Some(OutReason::Left))
}

/// Where a node runs.
fn box_of<'a>(view: &'a View, group: &'a StoreGroup, node: &str) -> Option<&'a str> {
    let candidate = || group.candidates.iter().find(|it| it.node == node);
    match view.get(node) {
        Some(member) => Some(&member.box_name),
        None => candidate().map(|it| it.box_name.as_str()),
    }
}

/// Of the copies in sync, all of which are in, the one that takes the primary's place: one on another box, which does not go the same way.
fn successor(view: &View, group: &StoreGroup) -> Option<StoreCopy> {
    let lost = group.primary.as_ref();
    let lost_box = lost.and_then(|lost| box_of(view, group, &lost.node));
    let is_beside =
        |copy: &StoreCopy| lost_box.is_some() && box_of(view, group, &copy.node) == lost_box;
    let copies = group.in_sync.iter();
    let best = copies.min_by_key(|copy| (is_beside(copy), group.rank(&copy.node)));
    best.cloned()
}

/// Returns who is to become a copy.
fn joining(view: &View, group: &StoreGroup) -> Option<StoreCopy> {
    if group.waits() {
        return None;
    }
    let count = group.in_sync.len() as u64;
    let has_copy = |node: &str| group.in_sync.iter().any(|copy| copy.node == node);
    let may_stay = |copy: &&StoreCopy| {
        view.life(&copy.node) == Some(copy.life)
            && group.rank(&copy.node) < group.candidates.len()
            && !has_copy(&copy.node)
            // One more is told only because the primary is to move there.
            && count <= group.copies
            && count < MOST_COPIES as u64
    };
    if let Some(copy) = group.joining.as_ref().filter(may_stay) {
        return Some(copy.clone());
    }
    if count >= group.copies {
        return None;
    }
    next_copy(view, group, None)
}

/// Returns the first candidate that may become a copy, but for one node: on a box that has none, unless there is only one box.
pub(crate) fn next_copy(view: &View, group: &StoreGroup, but: Option<&str>) -> Option<StoreCopy> {
    let copies = group.in_sync.iter();
    let taken: BTreeSet<_> = copies
        .clone()
        .map(|copy| box_of(view, group, &copy.node))
        .collect();
    let boxes: BTreeSet<_> = group.candidates.iter().map(|it| &it.box_name).collect();
    let may = |it: &&StoreCandidate| {
        let is_apart = boxes.len() == 1 || !taken.contains(&box_of(view, group, &it.node));
        let has_copy = copies.clone().any(|copy| copy.node == it.node);
        is_apart && !has_copy && but != Some(it.node.as_str())
    };
    let mut candidates = group.candidates.iter().filter(may);
    candidates.find_map(|it| Some(StoreCopy::new(&it.node, view.life(&it.node)?)))
}

/// Returns a candidate that is in and comes before another one of its box in rank, which has a copy and not the primary.
pub(crate) fn better_copy(view: &View, group: &StoreGroup) -> Option<StoreCopy> {
    let is_settled = group.joining.is_none() && group.in_sync.len() as u64 == group.copies;
    if group.waits() || !is_settled || !can_take_one_more(group) {
        return None;
    }
    let others = group.in_sync.iter();
    let others = others.filter(|copy| Some(*copy) != group.primary.as_ref());
    let mut found = others.filter_map(|copy| {
        let at = box_of(view, group, &copy.node);
        let before = group.candidates.iter().take(group.rank(&copy.node));
        let mut before = before.filter(|it| {
            let has_copy = group.in_sync.iter().any(|copy| copy.node == it.node);
            !has_copy && box_of(view, group, &it.node) == at
        });
        before.find_map(|it| Some(StoreCopy::new(&it.node, view.life(&it.node)?)))
    });
    found.next()
}

/// Of more copies than are wanted, returns the one to leave: not the primary; one that is on a box with another, the last in rank.
pub(crate) fn surplus_copy(view: &View, group: &StoreGroup) -> Option<StoreCopy> {
    if group.waits() || group.in_sync.len() as u64 <= group.copies {
        return None;
    }
    let at = |copy: &StoreCopy| box_of(view, group, &copy.node);
    let is_beside = |copy: &StoreCopy| {
        let mut others = group.in_sync.iter().filter(|other| *other != copy);
        others.any(|other| at(other) == at(copy))
    };
    let others = group.in_sync.iter();
    let others = others.filter(|copy| Some(*copy) != group.primary.as_ref());
    let last = others.max_by_key(|copy| (is_beside(copy), group.rank(&copy.node)));
    last.cloned()
}

/// What must not be done: whoever is first is the primary.
fn promote_anybody(view: &View, group: &mut StoreGroup) {
    if let Some(copy) = first_in(view, group) {
        group.in_sync.retain(|it| it.node != copy.node);
        group.in_sync.truncate(MOST_COPIES - 1);
        group.in_sync.push(copy.clone());
        group.primary = Some(copy);
    }
}

#[cfg(test)]
mod tests;
