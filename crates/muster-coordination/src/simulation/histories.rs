//! What must never become of a store, whoever fails: looked at in every step that a coordinator takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::coordination::{OutReason, StoreCopy, StoreGroup, View};
use muster_wire::{EndpointId, Mono};

/// Somebody has said something of a copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    pub(super) by: EndpointId,
    pub(super) store: String,
    pub(super) epoch: u64,
    pub(super) copy: (String, EndpointId),
    pub(super) is_in_sync: bool,
}

#[derive(Default)]
pub(super) struct Histories {
    said: BTreeSet<Said>,
    /// Since when a store waits, by its name and the epoch in which that began.
    waiting: BTreeMap<(String, u64), Mono>,
    pub(super) promotions: BTreeSet<(String, u64)>,
    pub(super) restarts: BTreeSet<(String, u64)>,
    pub(super) joins: BTreeSet<(String, u64)>,
    pub(super) shrinks: BTreeSet<(String, u64)>,
}

impl Histories {
    pub(super) fn is_said(&mut self, said: Said) {
        self.said.insert(said);
    }

    /// A coordinator has applied an entry.
    pub(super) fn step(&mut self, before: &View, after: &View, now: Mono) -> Result<(), String> {
        for (store, group) in after.stores() {
            check_state(after, group).map_err(|error| format!("{error}: {store} {group:?}"))?;
            let Some(known) = before.store(store) else {
                continue;
            };
            let told = if known == group {
                Ok(())
            } else if group.changed != after.epoch() {
                Err("S5: a change without its epoch".to_owned())
            } else {
                self.change(after, store, known, group, now)
            };
            told.map_err(|error| format!("{error}: {store} from {known:?} to {group:?}"))?;
            if group.waits() && !known.waits() {
                let key = (store.to_owned(), group.changed);
                self.waiting.entry(key).or_insert(now);
            }
        }
        if let Some((store, _)) = before.stores().find(|(it, _)| after.store(it).is_none()) {
            return Err(format!("S1: store {store} is gone"));
        }
        Ok(())
    }

    fn was_said(
        &self,
        known: &StoreGroup,
        store: &str,
        copy: &StoreCopy,
        is_in_sync: bool,
    ) -> bool {
        known.primary.as_ref().is_some_and(|primary| {
            self.said.contains(&Said {
                by: primary.life,
                store: store.to_owned(),
                epoch: known.changed,
                copy: (copy.node.clone(), copy.life),
                is_in_sync,
            })
        })
    }

    fn change(
        &mut self,
        after: &View,
        store: &str,
        known: &StoreGroup,
        group: &StoreGroup,
        now: Mono,
    ) -> Result<(), String> {
        let key = (store.to_owned(), group.changed);
        if known.began != group.began {
            self.restarts.insert(key);
            return self.restart(after, store, known, group, now);
        }
        for copy in &group.in_sync {
            if known.in_sync.contains(copy) {
                continue;
            }
            self.joins.insert(key.clone());
            if !self.was_said(known, store, copy, true) {
                return Err("S2: a copy is in sync by nobody's word who knows".to_owned());
            }
        }
        let is_smaller = group.copies < known.copies;
        for copy in &known.in_sync {
            if group.in_sync.contains(copy) || !is_in(after, copy) {
                continue;
            }
            self.shrinks.insert(key.clone());
            let is_said = self.was_said(known, store, copy, false);
            // As many as are wanted stay.
            let is_surplus = group.in_sync.len() as u64 >= group.copies;
            if known.primary.as_ref() == Some(copy) || !(is_said || is_smaller || is_surplus) {
                return Err("S2: a copy is out of sync by nobody's word who knows".to_owned());
            }
        }
        let mut stays = known.in_sync.iter();
        if !known.in_sync.is_empty() && !stays.any(|copy| group.in_sync.contains(copy)) {
            let mut joined = group.in_sync.iter();
            // The last one has taken another one in before it went.
            if !joined.any(|copy| self.was_said(known, store, copy, true)) {
                return Err("S7: the last copy has left".to_owned());
            }
        }
        if let Some(primary) = &group.primary
            && known.primary.as_ref() != Some(primary)
        {
            self.promotions.insert(key);
            if !known.in_sync.contains(primary) && !self.was_said(known, store, primary, true) {
                return Err("S7: a primary that was not in sync".to_owned());
            }
        }
        Ok(())
    }

    fn restart(
        &self,
        after: &View,
        store: &str,
        known: &StoreGroup,
        group: &StoreGroup,
        now: Mono,
    ) -> Result<(), String> {
        if group.began != group.changed {
            return Err("S1: a history that began at another time".to_owned());
        }
        if known.in_sync.iter().any(|copy| is_in(after, copy)) {
            return Err("S7: a store begins anew that has a copy".to_owned());
        }
        let is_gone = |copy: &StoreCopy| {
            let member = after.get(&copy.node);
            member.is_none_or(|it| it.life != copy.life || it.out == Some(OutReason::Left))
        };
        let since = self.waiting.get(&(store.to_owned(), known.changed));
        // Clocks differ.
        let waited = |seconds| {
            since.is_some_and(|since| now.since(*since) >= Duration::from_secs(seconds) * 9 / 10)
        };
        let had = |copy: &StoreCopy| known.in_sync.iter().any(|it| it.node == copy.node);
        let are_all_in = || {
            let mut copies = known.in_sync.iter();
            copies.all(|copy| after.life(&copy.node).is_some())
        };
        let may = if known.in_sync.is_empty() {
            true
        } else if known.persistent {
            group.in_sync.iter().all(had) && (are_all_in() || waited(10))
        } else {
            known.in_sync.iter().all(is_gone) || waited(30)
        };
        if may {
            Ok(())
        } else {
            Err("S7: a store begins anew that had something to wait for".to_owned())
        }
    }
}

fn is_in(view: &View, copy: &StoreCopy) -> bool {
    view.life(&copy.node) == Some(copy.life)
}

/// What holds of a group at any time.
fn check_state(view: &View, group: &StoreGroup) -> Result<(), String> {
    let primary = group.primary.as_ref();
    if primary.is_some_and(|it| !group.in_sync.contains(it) || !is_in(view, it)) {
        return Err("S7: a primary that is out, or not in sync".to_owned());
    }
    if primary.is_none() && group.in_sync.iter().any(|it| is_in(view, it)) {
        return Err("S7: a store waits that has a copy".to_owned());
    }
    let joining = group.joining.as_ref();
    if joining.is_some_and(|it| primary.is_none() || !is_in(view, it)) {
        return Err("S7: somebody is to become a copy who cannot".to_owned());
    }
    Ok(())
}
