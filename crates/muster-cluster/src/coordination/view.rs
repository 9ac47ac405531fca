//! A view: who is in a cluster and who keeps its stores, as its coordinators have decided it.

use std::collections::BTreeMap;

use muster_wire::EndpointId;

use super::messages::ViewUpdate;
use super::stores::{MOST_STORES, StoreGroup};
use crate::layout::{LONGEST_NAME, MOST_NODES};

/// The longest name of a box in bytes: as long as one of a host.
pub(super) const LONGEST_BOX: usize = 255;

/// The first epoch of a generation is so many behind that of the one before: more than coordinators ever decide.
const EPOCHS: u64 = 1_000_000_000_000;

/// Who is in a cluster and who keeps its stores, by an epoch. Everybody who has the view of an epoch has the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    cluster: [u8; 16],
    generation: u64,
    epoch: u64,
    /// The epoch in which a node was forgotten last.
    forgotten: u64,
    members: BTreeMap<String, Membership>,
    stores: BTreeMap<String, StoreGroup>,
}

/// What coordinators have decided about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Where it runs.
    pub box_name: String,
    /// The endpoint of its last life that was in.
    pub life: EndpointId,
    /// Of two lives the later one has the larger one.
    pub incarnation: u64,
    /// The epoch of its admission: of what a node does under a session nothing counts any more when it is out.
    pub session: u64,
    /// The epoch of its last change.
    pub changed: u64,
    /// Why it is out, if it is.
    pub out: Option<OutReason>,
}

/// Why a node is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutReason {
    /// It is out of everybody's reach.
    Reset,
    /// It has not renewed its lease: it hangs, or cannot be heard.
    Silent,
    /// It has left in order.
    Left,
    /// Another life of it has begun.
    Superseded,
    /// A later release has a reason that this one does not know.
    Other,
}

impl OutReason {
    /// Returns its number in messages.
    pub fn number(self) -> u64 {
        match self {
            Self::Reset => 1,
            Self::Silent => 2,
            Self::Left => 3,
            Self::Superseded => 4,
            Self::Other => 5,
        }
    }

    /// Returns the reason of a number. All that is not known is [`OutReason::Other`].
    pub fn of(number: u64) -> Self {
        match number {
            1 => Self::Reset,
            2 => Self::Silent,
            3 => Self::Left,
            4 => Self::Superseded,
            _ => Self::Other,
        }
    }

    /// Returns it in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Reset => "out of reach",
            Self::Silent => "does not answer",
            Self::Left => "stopped",
            Self::Superseded => "begun anew",
            Self::Other => "out",
        }
    }
}

/// What an update has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewChange {
    /// A life of a node is in.
    In {
        /// The node's name.
        node: String,
        /// Its endpoint.
        life: EndpointId,
    },
    /// A life of a node is out.
    Out {
        /// The node's name.
        node: String,
        /// Its endpoint.
        life: EndpointId,
        /// Why.
        reason: OutReason,
    },
    /// The group of a store is another one, or gone.
    Store {
        /// The store's name.
        store: String,
    },
}

/// Why an update was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It begins behind the epoch that is known: what is between is missing.
    #[error("changes are missing")]
    Gap,
    /// It is of another group of coordinators, which does not come after the known one.
    #[error("a view of other coordinators")]
    Foreign,
    /// It contradicts itself.
    #[error("a view that contradicts itself")]
    Malformed,
}

impl View {
    /// The first view of a new group of coordinators: nobody is in.
    pub fn founded(cluster: [u8; 16], generation: u64) -> Self {
        Self {
            cluster,
            generation,
            ..Self::default()
        }
    }

    /// The view with which other coordinators go on when most of these are lost.
    ///
    /// Its epoch is behind all that these have reached, also if nobody who is left has heard of it, so that epochs never go back. Who
    /// knows an earlier one is told everything.
    #[must_use]
    pub fn recovered(&self, cluster: [u8; 16]) -> Self {
        let generation = self.generation.saturating_add(1);
        let epoch = generation
            .saturating_mul(EPOCHS)
            .max(self.epoch.saturating_add(1));
        // Who has heard of a later change that is lost is not to take what comes now for older.
        let stores = self.stores.iter().map(|(store, group)| {
            let changed = epoch;
            let group = group.clone();
            (store.clone(), StoreGroup { changed, ..group })
        });
        let stores = stores.collect();
        Self {
            cluster,
            generation,
            epoch,
            forgotten: epoch,
            members: self.members.clone(),
            stores,
        }
    }

    /// The group that has decided it; zeros if there is none.
    pub fn cluster(&self) -> &[u8; 16] {
        &self.cluster
    }

    /// How often coordinators were recovered from the loss of most of them.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its number; 0 if nothing is decided.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch in which a node was forgotten last. It is not told to others.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns the view with the epoch in which a node was forgotten last, as it was kept.
    #[must_use]
    pub fn with_forgotten(mut self, epoch: u64) -> Self {
        self.forgotten = epoch;
        self
    }

    /// All nodes that were ever in and are not forgotten, by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Membership)> {
        self.members.iter().map(|(name, it)| (name.as_str(), it))
    }

    /// What is decided about a node.
    pub fn get(&self, node: &str) -> Option<&Membership> {
        self.members.get(node)
    }

    /// Returns whether a node is in; `None` if nothing was ever decided about it.
    pub fn is_in(&self, node: &str) -> Option<bool> {
        self.members.get(node).map(|it| it.out.is_none())
    }

    /// What is decided about who keeps a store.
    pub fn store(&self, name: &str) -> Option<&StoreGroup> {
        self.stores.get(name)
    }

    /// All stores that were ever opened, by name.
    pub fn stores(&self) -> impl Iterator<Item = (&str, &StoreGroup)> {
        self.stores.iter().map(|(name, it)| (name.as_str(), it))
    }

    /// Returns the life of a node that is in.
    pub fn life(&self, node: &str) -> Option<EndpointId> {
        let member = self.members.get(node).filter(|it| it.out.is_none());
        member.map(|it| it.life)
    }

    /// A store's group is another one by the decision of an epoch. Returns `false` if there are too many stores.
    pub fn set_store(&mut self, epoch: u64, store: &str, group: StoreGroup) -> bool {
        if !self.stores.contains_key(store) && self.stores.len() >= MOST_STORES {
            return false;
        }
        self.epoch = epoch;
        self.stores.insert(store.to_owned(), group);
        true
    }

    /// A node's membership is another one by the decision of an epoch. Returns `false` if there are too many nodes.
    pub fn set(&mut self, epoch: u64, node: &str, membership: Membership) -> bool {
        let is_known = self.members.contains_key(node);
        if !is_known && self.members.len() >= MOST_NODES {
            return false;
        }
        self.epoch = epoch;
        self.members.insert(node.to_owned(), membership);
        true
    }

    /// Forgets a node by the decision of an epoch.
    pub fn forget(&mut self, epoch: u64, node: &str) {
        if self.members.remove(node).is_some() {
            self.epoch = epoch;
            self.forgotten = epoch;
        }
    }

    /// Takes an update, and returns what it has changed; nothing if it is an old one.
    ///
    /// # Errors
    ///
    /// Fails, and nothing has changed, if the update cannot follow this view.
    pub fn update(&mut self, update: &ViewUpdate) -> Result<Vec<ViewChange>, NotTaken> {
        let cluster: [u8; 16] = update.cluster.as_slice().try_into().or_malformed()?;
        let is_same = cluster == self.cluster;
        let is_first = self.cluster == [0; 16];
        if !is_same && !is_first && update.generation <= self.generation {
            return Err(NotTaken::Foreign);
        }
        if is_same && update.epoch <= self.epoch {
            return Ok(Vec::new());
        }
        if update.since > 0 && (!is_same || update.since > self.epoch) {
            return Err(NotTaken::Gap);
        }
        let (mut members, mut stores) = if update.since == 0 {
            (BTreeMap::new(), BTreeMap::new())
        } else {
            (self.members.clone(), self.stores.clone())
        };
        for member in &update.members {
            let membership = member.membership().ok_or(NotTaken::Malformed)?;
            // What is kept is bounded by this and by the number of nodes.
            if member.node.len() > LONGEST_NAME || membership.box_name.len() > LONGEST_BOX {
                return Err(NotTaken::Malformed);
            }
            members.insert(member.node.clone(), membership);
        }
        for store in &update.stores {
            let group = store.group().ok_or(NotTaken::Malformed)?;
            stores.insert(store.store.clone(), group);
        }
        if members.len() > MOST_NODES || stores.len() > MOST_STORES {
            return Err(NotTaken::Malformed);
        }
        let before = std::mem::replace(&mut self.members, members);
        let stores_before = std::mem::replace(&mut self.stores, stores);
        self.cluster = cluster;
        self.generation = update.generation;
        self.epoch = update.epoch;
        self.forgotten = 0;
        let mut changes = self.changes(&before);
        changes.extend(self.store_changes(&stores_before));
        Ok(changes)
    }

    /// The stores whose groups are others than before.
    fn store_changes(&self, before: &BTreeMap<String, StoreGroup>) -> Vec<ViewChange> {
        let gone = before
            .keys()
            .filter(|store| !self.stores.contains_key(*store));
        let changed = self.stores.iter();
        let changed = changed.filter(|(store, group)| before.get(*store) != Some(*group));
        let stores = gone.chain(changed.map(|(store, _)| store));
        stores
            .map(|store| ViewChange::Store {
                store: store.clone(),
            })
            .collect()
    }

    /// What is different from before: first who is out, then who is in.
    fn changes(&self, before: &BTreeMap<String, Membership>) -> Vec<ViewChange> {
        let mut changes = Vec::new();
        for (node, was) in before {
            let reason = match self.members.get(node) {
                Some(is) if is.session == was.session => is.out,
                // What was decided in between is not told, but that it is over.
                Some(_) => Some(OutReason::Superseded),
                None => Some(OutReason::Left),
            };
            if let (None, Some(reason)) = (was.out, reason) {
                changes.push(ViewChange::Out {
                    node: node.clone(),
                    life: was.life,
                    reason,
                });
            }
        }
        for (node, is) in &self.members {
            let was_in = before
                .get(node)
                .is_some_and(|was| was.out.is_none() && was.session == is.session);
            match is.out {
                None if !was_in => changes.push(ViewChange::In {
                    node: node.clone(),
                    life: is.life,
                }),
                // It came and went between two views.
                Some(reason) if before.get(node).is_none_or(|was| was.session != is.session) => {
                    changes.push(ViewChange::Out {
                        node: node.clone(),
                        life: is.life,
                        reason,
                    });
                }
                _ => {}
            }
        }
        changes
    }
}

trait OrMalformed<T> {
    fn or_malformed(self) -> Result<T, NotTaken>;
}

impl<T, E> OrMalformed<T> for Result<T, E> {
    fn or_malformed(self) -> Result<T, NotTaken> {
        self.map_err(|_| NotTaken::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    fn member(session: u64, changed: u64, of: u8, out: Option<OutReason>) -> Membership {
        Membership {
            box_name: "a".to_owned(),
            life: life(of),
            incarnation: session,
            session,
            changed,
            out,
        }
    }

    #[test]
    fn updates_follow_one_another_and_a_gap_is_told() {
        let mut decided = View::founded([7; 16], 0);
        assert!(decided.set(3, "one", member(3, 3, 1, None)));
        let mut view = View::default();
        let changes = view.update(&ViewUpdate::whole(&decided)).unwrap();
        let came = |node: &str, of| ViewChange::In {
            node: node.to_owned(),
            life: life(of),
        };
        assert_eq!(changes, [came("one", 1)]);
        assert!(decided.set(5, "two", member(5, 5, 2, None)));
        let fifth = ViewUpdate::since(&decided, 3);
        assert_eq!(fifth.members.len(), 1);
        assert!(decided.set(6, "one", member(3, 6, 1, Some(OutReason::Silent))));
        let sixth = ViewUpdate::since(&decided, 5);
        assert_eq!(view.update(&sixth), Err(NotTaken::Gap));
        assert_eq!(view.update(&fifth).unwrap(), [came("two", 2)]);
        let went = ViewChange::Out {
            node: "one".to_owned(),
            life: life(1),
            reason: OutReason::Silent,
        };
        assert_eq!(view.update(&sixth).unwrap(), [went]);
        // Old news are none.
        assert_eq!(view.update(&fifth).unwrap(), []);
        assert_eq!(view.is_in("one"), Some(false));
        assert_eq!(view.is_in("three"), None);
    }

    #[test]
    fn a_life_that_was_replaced_between_two_views_is_out_first() {
        let mut decided = View::founded([7; 16], 0);
        decided.set(3, "one", member(3, 3, 1, None));
        let mut view = View::default();
        view.update(&ViewUpdate::whole(&decided)).unwrap();
        decided.set(9, "one", member(9, 9, 2, None));
        let changes = view.update(&ViewUpdate::since(&decided, 3)).unwrap();
        assert!(matches!(&changes[0], ViewChange::Out { life: it, .. } if *it == life(1)));
        assert!(matches!(&changes[1], ViewChange::In { life: it, .. } if *it == life(2)));
    }

    #[test]
    fn a_node_that_was_forgotten_is_gone_also_for_those_who_missed_it() {
        let mut decided = View::founded([7; 16], 0);
        decided.set(3, "one", member(3, 3, 1, Some(OutReason::Left)));
        let mut view = View::default();
        view.update(&ViewUpdate::whole(&decided)).unwrap();
        decided.forget(4, "one");
        let update = ViewUpdate::since(&decided, 3);
        assert_eq!(update.since, 0);
        view.update(&update).unwrap();
        assert_eq!(view.is_in("one"), None);
    }

    /// A node asked for what had changed since an epoch of the coordinators that were lost, was told just that, could not follow, and
    /// asked again.
    #[test]
    fn who_has_missed_a_recovery_is_told_everything() {
        let mut decided = View::founded([7; 16], 0);
        decided.set(3, "one", member(3, 3, 1, None));
        decided.set(5, "two", member(5, 5, 2, None));
        let mut view = View::default();
        view.update(&ViewUpdate::whole(&decided)).unwrap();
        // The one that is left has not heard of the second node.
        let mut left = View::founded([7; 16], 0);
        left.set(3, "one", member(3, 3, 1, None));
        let mut decided = left.recovered([8; 16]);
        assert!(decided.epoch() > view.epoch());
        let later = decided.epoch() + 1;
        decided.set(later, "three", member(later, later, 3, None));
        view.update(&ViewUpdate::since(&decided, view.epoch()))
            .unwrap();
        assert_eq!((view.epoch(), view.generation()), (later, 1));
        assert_eq!((view.is_in("one"), view.is_in("two")), (Some(true), None));
    }

    #[test]
    fn only_a_later_generation_replaces_other_coordinators() {
        let mut view = View::default();
        let first = View::founded([7; 16], 0);
        let mut first = ViewUpdate::whole(&first);
        first.epoch = 4;
        view.update(&first).unwrap();
        let mut other = ViewUpdate::whole(&View::founded([8; 16], 0));
        other.epoch = 9;
        assert_eq!(view.update(&other), Err(NotTaken::Foreign));
        other.generation = 1;
        other.epoch = 2;
        assert!(view.update(&other).is_ok());
        assert_eq!((view.epoch(), view.generation()), (2, 1));
        other.cluster = vec![1; 3];
        assert_eq!(view.update(&other), Err(NotTaken::Malformed));
    }
}
