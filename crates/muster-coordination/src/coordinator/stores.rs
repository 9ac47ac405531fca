//! What a leader has heard about stores, and what it makes of it.
//!
//! Nothing here is agreed on. A leader that comes after this one begins with nothing: whoever wants something says it again until the view
//! has it.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_cluster::coordination::{
    CopyJoined, CopyStuck, MOST_STORES, StoreCopy, StoreGroup, StoreWanted, View,
};
use muster_wire::{EndpointId, Mono};

use super::{Coordinator, clip};
use crate::sabotage::Sabotage;
use crate::state::{
    Change, JOINED, MOVE, PASS, RESTART, SHRINK, State, Wanted, better_copy, can_take_one_more,
    first_in, next_copy, surplus_copy,
};

/// How long the opening of a store waits for its first candidate: at a start the layout's choice gets the primary.
const WAIT_FOR_FIRST: Duration = Duration::from_secs(2);

/// How long the opening of a store on disk waits for it: what the store has is there, if it was kept before there were copies.
const WAIT_FOR_FIRST_FILE: Duration = Duration::from_secs(10);

/// How long a store in memory waits for a copy that is in sync, until it begins empty.
const WAIT_FOR_MEMORY: Duration = Duration::from_secs(30);

/// How long a store with several files waits for all of them, until it begins with one.
const WAIT_FOR_FILES: Duration = Duration::from_secs(10);

/// How long a node may take to get in sync until another one is asked.
const WAIT_FOR_JOINING: Duration = Duration::from_secs(30);

/// How long a node must be in until it gets the copy of another one of its box that comes behind it in rank: of a box that comes back the
/// first node that is in gets the copies, whichever it is.
const PLACE_AFTER: Duration = Duration::from_secs(10);

/// How long an operator's order is worth something: the copy that it needs may take its time.
const ORDER_FOR: Duration = Duration::from_secs(600);

/// How long a node's wish for a store is remembered that it does not repeat.
const WANTED_FOR: Duration = Duration::from_secs(10);

/// The stores that may wait to be opened. Who wants others repeats it.
const MOST_WANTED: usize = 512;

/// Why a store's primary is not moved, or a node's copy not made the store's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreOrderError {
    /// This coordinator does not lead.
    #[error("this coordinator does not lead")]
    NotLeading,
    /// The coordinators know of no such store.
    #[error("no such store was opened")]
    UnknownStore,
    /// The node is no candidate of the store.
    #[error("the node is none of those that may have a copy of the store")]
    NoCandidate,
    /// The node is out.
    #[error("the node is out")]
    Out,
    /// The store waits for its last copies. A copy that is not in sync may be adopted instead, and what it does not have is lost.
    #[error("the store waits for its last copies")]
    Waits,
    /// The store has a primary, so there is nothing to adopt.
    #[error("the store has a primary")]
    HasPrimary,
}

/// What a leader has heard, by store.
#[derive(Debug, Default)]
pub(super) struct Stores {
    wanted: BTreeMap<String, Want>,
    reported: BTreeMap<String, Reported>,
    orders: BTreeMap<String, Order>,
    /// Since when a store waits.
    waiting: BTreeMap<String, Mono>,
    /// The node that is to have a copy instead of another one of its box, and since when it could.
    better: BTreeMap<String, (StoreCopy, Mono)>,
    /// Since when a node is to become a copy.
    joining: BTreeMap<String, (StoreCopy, Mono)>,
    sabotage: Sabotage,
}

#[derive(Debug)]
struct Want {
    wanted: StoreWanted,
    since: Mono,
    heard: Mono,
    /// Whether its word counts for a store that has a primary: the life that it had.
    from: EndpointId,
}

/// What a store's primary has said last.
#[derive(Debug, PartialEq, Eq)]
struct Reported {
    kind: u64,
    epoch: u64,
    copy: StoreCopy,
}

#[derive(Debug)]
struct Order {
    node: String,
    /// To begin with what the node has; otherwise the primary moves there.
    adopts: bool,
    since: Mono,
}

impl Stores {
    pub(super) fn sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
    }

    /// Another leader begins, or this one was stopped: time counts from now.
    pub(super) fn forget(&mut self) {
        *self = Self {
            sabotage: self.sabotage,
            ..Self::default()
        };
    }

    /// This leader goes on after it was stopped.
    pub(super) fn counts_anew(&mut self) {
        self.waiting.clear();
        self.better.clear();
        self.joining.clear();
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn weight(&self) -> usize {
        self.wanted.len()
            + self.reported.len()
            + self.orders.len()
            + self.waiting.len()
            + self.better.len()
            + self.joining.len()
    }

    /// A member wants a store, and it was looked at whether that is possible. Returns `true` if that is new.
    fn wants(&mut self, from: EndpointId, wanted: StoreWanted, now: Mono) -> bool {
        if let Some(known) = self.wanted.get_mut(&wanted.store) {
            // Who came first is heard, as long as it says so.
            if known.from == from {
                (known.wanted, known.heard) = (wanted, now);
            }
            return false;
        }
        if self.wanted.len() >= MOST_WANTED {
            return false;
        }
        let want = Want {
            since: now,
            heard: now,
            from,
            wanted,
        };
        self.wanted.insert(want.wanted.store.clone(), want);
        true
    }

    /// What is to be proposed about stores.
    pub(super) fn decide(&mut self, state: &State, now: Mono) -> Vec<Change> {
        self.look(state, now);
        let mut changes = BTreeMap::new();
        let wanted = self.wanted.iter().filter_map(|(store, want)| {
            let first = want.wanted.candidates.first()?;
            let is_due = state.view().store(store).is_some()
                || state.view().life(&first.node).is_some()
                || now.since(want.since) >= wait_for_first(&want.wanted);
            let epoch = state.view().store(store).map_or(0, |it| it.changed);
            is_due.then(|| (store.clone(), Change::open(&want.wanted, epoch)))
        });
        changes.extend(wanted);
        for (store, group) in state.view().stores() {
            if !changes.contains_key(store)
                && let Some(change) = self.about(state.view(), store, group, now)
            {
                changes.insert(store.to_owned(), change);
            }
        }
        changes.into_values().collect()
    }

    /// Forgets what is over, and notes what has begun.
    fn look(&mut self, state: &State, now: Mono) {
        let view = state.view();
        self.wanted.retain(|store, want| {
            let is_fresh = now.since(want.heard) < WANTED_FOR;
            is_fresh && may_open(state, store, &want.wanted, want.from)
        });
        let sabotage = self.sabotage;
        self.reported.retain(|store, report| {
            let group = view.store(store);
            group.is_some_and(|group| report.fits(group, sabotage))
        });
        self.orders.retain(|store, order| {
            let group = view.store(store);
            let is_fresh = now.since(order.since) < ORDER_FOR;
            is_fresh && group.is_some_and(|group| order.is_open(view, group))
        });
        let stores = || view.stores();
        self.waiting
            .retain(|store, _| view.store(store).is_some_and(StoreGroup::waits));
        for (store, group) in stores().filter(|(_, group)| group.waits()) {
            if !self.waiting.contains_key(store) && !group.in_sync.is_empty() {
                self.waiting.insert(store.to_owned(), now);
            }
        }
        self.better.retain(|store, _| view.store(store).is_some());
        self.joining.retain(|store, (copy, _)| {
            let group = view.store(store);
            group.is_some_and(|group| group.joining.as_ref() == Some(copy))
        });
        for (store, group) in stores() {
            match better_copy(view, group) {
                None => {
                    self.better.remove(store);
                }
                Some(copy) => {
                    let known = self.better.get(store);
                    if known.is_none_or(|(known, _)| *known != copy) {
                        self.better.insert(store.to_owned(), (copy, now));
                    }
                }
            }
            if let Some(copy) = &group.joining
                && !self.joining.contains_key(store)
            {
                self.joining.insert(store.to_owned(), (copy.clone(), now));
            }
        }
    }

    /// What is to be proposed about a store that is open.
    fn about(&self, view: &View, store: &str, group: &StoreGroup, now: Mono) -> Option<Change> {
        if let Some(report) = self.reported.get(store) {
            return Some(Change::of_copy(
                report.kind,
                store,
                group.changed,
                &report.copy,
            ));
        }
        if let Some(order) = self.orders.get(store) {
            let kind = if order.adopts { RESTART } else { MOVE };
            let is_joining = group
                .joining
                .as_ref()
                .is_some_and(|it| it.node == order.node);
            if order.adopts || !is_joining {
                return Some(Change::of_node(kind, store, group.changed, &order.node));
            }
        }
        if group.waits() {
            let waited = now.since(*self.waiting.get(store)?);
            let node = begins_with(view, group, waited)?;
            return Some(Change::of_node(RESTART, store, group.changed, &node));
        }
        if !self.orders.contains_key(store) {
            if let Some(copy) = surplus_copy(view, group) {
                return Some(Change::of_copy(SHRINK, store, group.changed, &copy));
            }
            if let Some((copy, since)) = self.better.get(store)
                && now.since(*since) >= PLACE_AFTER
            {
                return Some(Change::of_node(MOVE, store, group.changed, &copy.node));
            }
        }
        let (copy, since) = self.joining.get(store)?;
        let is_late = now.since(*since) >= WAIT_FOR_JOINING;
        // Who is alone is waited for, unless only an order wanted it that is over.
        let is_extra = group.in_sync.len() as u64 >= group.copies;
        let has_another = || next_copy(view, group, Some(&copy.node)).is_some();
        let passes = is_late && !self.orders.contains_key(store) && (is_extra || has_another());
        passes.then(|| Change::of_copy(PASS, store, group.changed, copy))
    }
}

fn wait_for_first(wanted: &StoreWanted) -> Duration {
    if wanted.persistent {
        WAIT_FOR_FIRST_FILE
    } else {
        WAIT_FOR_FIRST
    }
}

/// Whether there is something to open, or to open otherwise, by a member's word.
fn may_open(state: &State, store: &str, wanted: &StoreWanted, from: EndpointId) -> bool {
    let primary = state.view().store(store).and_then(|it| it.primary.as_ref());
    let may = primary.is_none_or(|it| it.life == from);
    let wanted = Wanted {
        persistent: wanted.persistent,
        copies: wanted.copies,
        min_copies: wanted.min_copies,
        candidates: wanted.candidates.clone(),
    };
    let epoch = state.view().epoch().saturating_add(1);
    let opened = || state.opened(epoch, store, &wanted);
    may && opened().is_some_and(|group| state.has_room_for(store, &group))
}

/// Returns the node whose copy a store begins with that has waited for so long, if it has waited enough.
fn begins_with(view: &View, group: &StoreGroup, waited: Duration) -> Option<String> {
    if !group.persistent {
        let is_over = waited >= WAIT_FOR_MEMORY;
        return is_over
            .then(|| first_in(view, group))
            .flatten()
            .map(|it| it.node);
    }
    let nodes = || group.in_sync.iter().map(|copy| copy.node.as_str());
    let are_all_in = nodes().all(|node| view.life(node).is_some());
    let files = nodes().filter(|node| view.life(node).is_some());
    let first = files.min_by_key(|node| group.rank(node))?;
    (are_all_in || waited >= WAIT_FOR_FILES).then(|| first.to_owned())
}

impl Reported {
    fn fits(&self, group: &StoreGroup, sabotage: Sabotage) -> bool {
        let is_late = self.kind == JOINED && sabotage == Sabotage::TakesStaleJoined;
        let is_of_now = self.epoch == group.changed || is_late;
        is_of_now
            && match self.kind {
                JOINED => group.joining.as_ref() == Some(&self.copy),
                _ => {
                    group.in_sync.contains(&self.copy) && group.primary.as_ref() != Some(&self.copy)
                }
            }
    }
}

impl Order {
    fn is_open(&self, view: &View, group: &StoreGroup) -> bool {
        let copies = group.in_sync.iter();
        let is_in_sync = copies.clone().any(|it| it.node == self.node);
        let is_joining = group
            .joining
            .as_ref()
            .is_some_and(|it| it.node == self.node);
        let is_primary = group
            .primary
            .as_ref()
            .is_some_and(|it| it.node == self.node);
        let is_candidate = group.rank(&self.node) < group.candidates.len();
        view.life(&self.node).is_some()
            && if self.adopts {
                group.waits() && (is_candidate || is_in_sync)
            } else {
                let may_join = is_joining || (is_candidate && can_take_one_more(group));
                !group.waits() && !is_primary && (is_in_sync || may_join)
            }
    }
}

impl Coordinator {
    /// Moves a store's primary to a node, as an operator wants it. If the node has no copy that is in sync it gets one first, which takes
    /// its time: the view says when it is done. While that lasts it may be out again, and the order with it.
    ///
    /// # Errors
    ///
    /// Fails if this coordinator does not lead, or if the node cannot have the primary.
    pub fn move_store(&mut self, store: &str, node: &str) -> Result<(), StoreOrderError> {
        self.order(store, node, false)
    }

    /// Lets a store that waits for its last copies begin with what a node has, as an operator wants it. What only the last copies have is
    /// lost.
    ///
    /// # Errors
    ///
    /// Fails if this coordinator does not lead, if the store has a primary, or if the node cannot have it.
    pub fn adopt_store(&mut self, store: &str, node: &str) -> Result<(), StoreOrderError> {
        self.order(store, node, true)
    }

    fn order(&mut self, store: &str, node: &str, adopts: bool) -> Result<(), StoreOrderError> {
        let now = self.now;
        let group = self.group.as_mut().filter(|group| group.decides());
        let group = group.ok_or(StoreOrderError::NotLeading)?;
        let view = group.state.view();
        let known = view.store(store).ok_or(StoreOrderError::UnknownStore)?;
        let copies = known.in_sync.iter();
        let is_primary = known.primary.as_ref().is_some_and(|it| it.node == node);
        if known.rank(node) == known.candidates.len() && !copies.clone().any(|it| it.node == node) {
            return Err(StoreOrderError::NoCandidate);
        }
        if view.life(node).is_none() {
            return Err(StoreOrderError::Out);
        }
        match (adopts, known.waits()) {
            (true, false) => return Err(StoreOrderError::HasPrimary),
            (false, true) => return Err(StoreOrderError::Waits),
            // It is there.
            (false, false) if is_primary => return Ok(()),
            _ => {}
        }
        let order = Order {
            node: node.to_owned(),
            adopts,
            since: now,
        };
        group.stores.orders.insert(store.to_owned(), order);
        group.look_at = now;
        self.run_group(|_, _| {});
        Ok(())
    }

    /// A node opens a store.
    pub(super) fn store_wanted(&mut self, from: EndpointId, name: &str, mut wanted: StoreWanted) {
        let now = self.now;
        let Some(group) = self.group.as_mut().filter(|group| group.decides()) else {
            return;
        };
        if group.state.view().life(name) != Some(from) {
            return;
        }
        // Of other nodes nobody will ever hear.
        let detector = &group.detector;
        wanted
            .candidates
            .retain(|it| detector.has(&it.node, &it.box_name));
        if !wanted.is_possible() {
            let text = format!(
                "coordination: store `{}` cannot be kept as node {} wants it",
                clip(&wanted.store),
                clip(name)
            );
            return self.refuses(format!("store {}", clip(&wanted.store)), text);
        }
        if !may_open(&group.state, &wanted.store, &wanted, from) {
            let is_known = group.state.view().store(&wanted.store).is_some();
            if !is_known {
                let text = format!(
                    "coordination: no room for store {}: there are {MOST_STORES}, or they are too large together",
                    clip(&wanted.store)
                );
                self.refuses("no room for stores".to_owned(), text);
            }
            return;
        }
        if group.stores.wants(from, wanted, now) {
            group.look_at = now;
            self.run_group(|_, _| {});
        }
    }

    /// A store's primary counts a copy from now on.
    pub(super) fn copy_joined(&mut self, from: EndpointId, joined: &CopyJoined) {
        let CopyJoined {
            store,
            epoch,
            node,
            life,
        } = joined;
        self.copy_reported(from, JOINED, store, *epoch, (node, life));
    }

    /// A store's primary waits for a copy in vain.
    pub(super) fn copy_stuck(&mut self, from: EndpointId, stuck: &CopyStuck) {
        let CopyStuck {
            store,
            epoch,
            node,
            life,
        } = stuck;
        self.copy_reported(from, SHRINK, store, *epoch, (node, life));
    }

    fn copy_reported(
        &mut self,
        from: EndpointId,
        kind: u64,
        store: &str,
        epoch: u64,
        (node, life): (&str, &str),
    ) {
        let now = self.now;
        let Some(group) = self.group.as_mut().filter(|group| group.decides()) else {
            return;
        };
        let (Some(known), Ok(life)) = (group.state.view().store(store), life.parse()) else {
            return;
        };
        // Whoever was primary, and has not heard that it is so no longer, decides nothing.
        let is_primary = known.primary.as_ref().is_some_and(|it| it.life == from);
        let is_anybody = kind == SHRINK && self.sabotage == Sabotage::LetsAnybodyShrink;
        let report = Reported {
            kind,
            epoch,
            copy: StoreCopy::new(node, life),
        };
        if !(is_primary || is_anybody) || !report.fits(known, self.sabotage) {
            return;
        }
        if group.stores.reported.get(store) != Some(&report) {
            group.stores.reported.insert(store.to_owned(), report);
            group.look_at = now;
            self.run_group(|_, _| {});
        }
    }
}
