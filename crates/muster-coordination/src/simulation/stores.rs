//! Stores that nodes want, and primaries that say of their copies what is so, what is no longer so, and what never was.

use std::collections::BTreeMap;

use muster_cluster::coordination::{
    CopyJoined, CopyStuck, Standing, StoreCandidate, StoreCopy, StoreGroup, StoreWanted, View,
    event,
};
use muster_wire::Mono;

use super::actors::Part;
use super::histories::Said;
use super::world::{World, ms};

/// How often a node says what it wants.
const EVERY: u64 = 400;

/// The stores of a run, and what was said of them.
#[derive(Default)]
pub(super) struct Stores {
    /// How they are wanted, by name.
    pub(super) wanted: BTreeMap<String, StoreWanted>,
    /// When a node says it again, by process.
    next: BTreeMap<usize, Mono>,
    /// What was said by each process, to be said again when it is long over.
    old: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl World {
    /// A few stores, each of some nodes.
    pub(super) fn with_stores(&mut self) {
        let nodes: Vec<StoreCandidate> = self
            .processes
            .iter()
            .filter(|it| matches!(it.part, Part::Node { .. }))
            .map(|it| StoreCandidate {
                node: it.name.clone(),
                box_name: self.boxes[it.box_at].clone(),
            })
            .collect();
        for number in 0..=self.random.below(4) {
            let mut left = nodes.clone();
            let mut candidates = Vec::new();
            for _ in 0..=self.random.below(nodes.len()) {
                candidates.push(left.remove(self.random.below(left.len())));
            }
            let copies = 1 + self.random.below(3) as u64;
            let wanted = StoreWanted {
                store: format!("store-{number}"),
                persistent: self.random.chance(50),
                copies,
                min_copies: 1,
                candidates,
            };
            self.stores.wanted.insert(wanted.store.clone(), wanted);
        }
    }

    /// What a node says of stores when its loop turns.
    pub(super) fn speak_of_stores(&mut self, at: usize) {
        let process = &self.processes[at];
        let clock = process.clock(self.now);
        let Part::Node { lease, view, .. } = &process.part else {
            return;
        };
        // Whoever is suspended may say something that is over, but begins nothing.
        let is_in = lease.standing(clock) == Standing::In;
        if self.stores.wanted.is_empty() || view.epoch() == 0 {
            return;
        }
        let view = view.clone();
        if is_in
            && self
                .stores
                .next
                .get(&at)
                .is_none_or(|next| *next <= self.now)
        {
            self.stores.next.insert(at, self.now.after(ms(EVERY)));
            self.ask_for_stores(at, &view);
        }
        let groups: Vec<(String, StoreGroup)> = view
            .stores()
            .map(|(store, group)| (store.to_owned(), group.clone()))
            .collect();
        for (store, group) in groups {
            self.speak_as_primary(at, &store, &group);
            self.speak_out_of_turn(at, &store, &group);
        }
    }

    fn ask_for_stores(&mut self, at: usize, view: &View) {
        let wanted: Vec<StoreWanted> = self.stores.wanted.values().cloned().collect();
        for wanted in wanted {
            let known = view.store(&wanted.store);
            let is_primary = known
                .and_then(|it| it.primary.as_ref())
                .is_some_and(|it| it.life == self.processes[at].life);
            let is_otherwise = known.is_some_and(|it| it.copies != wanted.copies);
            let name = &self.processes[at].name;
            let is_of_it = wanted.candidates.iter().any(|it| it.node == *name);
            if (known.is_none() && is_of_it) || (is_primary && is_otherwise) {
                self.tell_voters(at, &event(&wanted));
            }
        }
    }

    /// A primary takes its time with a copy, and gives one up at times.
    fn speak_as_primary(&mut self, at: usize, store: &str, group: &StoreGroup) {
        let life = self.processes[at].life;
        if group.primary.as_ref().is_none_or(|it| it.life != life) {
            return;
        }
        if let Some(copy) = &group.joining
            && self.random.chance(15)
        {
            self.say_joined(at, store, group, copy);
        }
        let others = group.in_sync.iter().filter(|it| it.life != life);
        let others: Vec<StoreCopy> = others.cloned().collect();
        if !others.is_empty() && !self.healed && self.random.below(200) == 0 {
            let copy = others[self.random.below(others.len())].clone();
            self.say_stuck(at, store, group, &copy);
        }
        if !self.healed && self.random.below(400) == 0 {
            let copies = 1 + self.random.below(3) as u64;
            if let Some(wanted) = self.stores.wanted.get_mut(store) {
                wanted.copies = copies;
            }
        }
    }

    /// Somebody says what is long over, or what is not his to say.
    fn speak_out_of_turn(&mut self, at: usize, store: &str, group: &StoreGroup) {
        if self.healed {
            return;
        }
        if self.random.below(30) == 0
            && let Some(old) = self.stores.old.get(&at).filter(|old| !old.is_empty())
        {
            let bytes = old[self.random.below(old.len())].clone();
            self.tell_voters(at, &bytes);
        }
        let life = self.processes[at].life;
        let is_primary = group.primary.as_ref().is_some_and(|it| it.life == life);
        let copies = group.in_sync.iter().chain(&group.joining);
        let copies: Vec<StoreCopy> = copies.cloned().collect();
        if is_primary || copies.is_empty() || self.random.below(100) != 0 {
            return;
        }
        let copy = copies[self.random.below(copies.len())].clone();
        if self.random.chance(50) {
            self.say_stuck(at, store, group, &copy);
        } else {
            self.say_joined(at, store, group, &copy);
        }
    }

    fn say_joined(&mut self, at: usize, store: &str, group: &StoreGroup, copy: &StoreCopy) {
        let joined = CopyJoined {
            store: store.to_owned(),
            epoch: group.changed,
            node: copy.node.clone(),
            life: copy.life.to_string(),
        };
        self.say_of_copy(at, store, group.changed, copy, true, &event(&joined));
    }

    fn say_stuck(&mut self, at: usize, store: &str, group: &StoreGroup, copy: &StoreCopy) {
        let stuck = CopyStuck {
            store: store.to_owned(),
            epoch: group.changed,
            node: copy.node.clone(),
            life: copy.life.to_string(),
        };
        self.say_of_copy(at, store, group.changed, copy, false, &event(&stuck));
    }

    fn say_of_copy(
        &mut self,
        at: usize,
        store: &str,
        epoch: u64,
        copy: &StoreCopy,
        is_in_sync: bool,
        bytes: &[u8],
    ) {
        self.histories.is_said(Said {
            by: self.processes[at].life,
            store: store.to_owned(),
            epoch,
            copy: (copy.node.clone(), copy.life),
            is_in_sync,
        });
        let old = self.stores.old.entry(at).or_default();
        if old.len() < 20 {
            old.push(bytes.to_vec());
        }
        self.tell_voters(at, bytes);
    }

    /// An operator moves a primary now and then.
    pub(super) fn order_at_times(&mut self, at: usize) {
        if self.healed || self.stores.wanted.is_empty() || self.random.below(300) != 0 {
            return;
        }
        let wanted: Vec<&StoreWanted> = self.stores.wanted.values().collect();
        let wanted = wanted[self.random.below(wanted.len())];
        let (store, candidates) = (wanted.store.clone(), wanted.candidates.clone());
        let node = &candidates[self.random.below(candidates.len())].node;
        if let Part::Coordinator {
            coordinator: Some(coordinator),
            ..
        } = &mut self.processes[at].part
            && coordinator.move_store(&store, node).is_ok()
        {
            self.account.moves += 1;
        }
    }

    /// Every store has a primary, and as many copies as its nodes allow.
    pub(super) fn check_stores(&self) -> Result<(), String> {
        let views = self.processes.iter().filter_map(|it| match &it.part {
            Part::Coordinator { coordinator, .. } => coordinator.as_ref()?.view(),
            Part::Node { .. } => None,
        });
        let Some(view) = views.max_by_key(|view| view.epoch()) else {
            return Ok(());
        };
        for wanted in self.stores.wanted.values() {
            let store = &wanted.store;
            let Some(group) = view.store(store) else {
                return Err(format!("L: store {store} was never opened"));
            };
            let boxes = wanted.candidates.iter().map(|it| &it.box_name);
            let mut boxes: Vec<_> = boxes.collect();
            boxes.sort();
            boxes.dedup();
            let places = if boxes.len() == 1 {
                wanted.candidates.len()
            } else {
                boxes.len()
            };
            let expected = places.min(usize::try_from(group.copies).unwrap_or(usize::MAX));
            if group.waits() || group.in_sync.len() < expected || group.copies != wanted.copies {
                return Err(format!("L: store {store} of {wanted:?} is {group:?}"));
            }
        }
        Ok(())
    }
}
