//! Which nodes keep a store, and which of them has its primary, as coordinators have decided it.

use std::collections::BTreeSet;

use muster_data::Record;
use muster_store::{Assignment, CopyRequest, StoreName};
use muster_wire::EndpointId;

use super::messages::{CopyJoined, CopyStuck, StoreWanted, event};
use super::view::LONGEST_BOX;
use crate::layout::LONGEST_NAME;

/// The most stores that coordinators decide about.
pub const MOST_STORES: usize = 4096;

/// The most candidates of one store.
pub const MOST_CANDIDATES: usize = 16;

/// The most copies of one store.
pub const MOST_COPIES: usize = 8;

/// Which nodes keep a store, as coordinators have decided it.
///
/// Only a copy that is in sync becomes primary, and the last one in sync never leaves: then the group has no primary, and waits. A
/// number of copies that are lost together so costs time, and no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreGroup {
    /// The epoch of its opening.
    pub opened: u64,
    /// The epoch in which its present history began: a copy of a former history is worth nothing.
    pub began: u64,
    /// The epoch of its last change: the store's own messages carry it.
    pub changed: u64,
    /// Whether its copies are kept in files.
    pub persistent: bool,
    /// How many copies are wanted: 1 to [`MOST_COPIES`].
    pub copies: u64,
    /// Below so many copies in sync nothing is acknowledged.
    pub min_copies: u64,
    /// The nodes that may have a copy, in order of preference.
    pub candidates: Vec<StoreCandidate>,
    /// The copy that decides. It is one of those in sync, and its node is in. `None` while the store waits.
    pub primary: Option<StoreCopy>,
    /// The copies that have everything that was acknowledged.
    pub in_sync: Vec<StoreCopy>,
    /// A node that was told to become a copy.
    pub joining: Option<StoreCopy>,
}

/// A node that may have a copy of a store.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub struct StoreCandidate {
    /// The node's name.
    pub node: String,
    /// Where it runs.
    pub box_name: String,
}

/// A copy of a store: what one life of a node has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreCopy {
    /// The node's name.
    pub node: String,
    /// Its endpoint.
    pub life: EndpointId,
}

/// A store's group in a [`ViewUpdate`](super::ViewUpdate).
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub struct ViewStore {
    /// The store's name.
    pub store: String,
    /// The epoch of its opening.
    pub opened: u64,
    /// The epoch in which its present history began.
    pub began: u64,
    /// The epoch of its last change.
    pub changed: u64,
    /// Whether its copies are kept in files.
    pub persistent: bool,
    /// How many copies are wanted.
    pub copies: u64,
    /// Below so many copies in sync nothing is acknowledged.
    pub min_copies: u64,
    /// The nodes that may have a copy, in order of preference.
    pub candidates: Vec<StoreCandidate>,
    /// The copy that decides.
    pub primary: Option<ViewCopy>,
    /// The copies that are in sync.
    pub in_sync: Vec<ViewCopy>,
    /// The node that was told to become a copy.
    pub joining: Option<ViewCopy>,
}

/// A copy of a store in a [`ViewStore`].
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub struct ViewCopy {
    /// The node's name.
    pub node: String,
    /// Its endpoint.
    pub life: String,
}

impl StoreGroup {
    /// Returns `true` if a life of a node is in sync.
    pub fn is_in_sync(&self, node: &str, life: EndpointId) -> bool {
        self.in_sync.iter().any(|copy| copy.is(node, life))
    }

    /// Returns `true` if nobody decides in the store: the last copies in sync are out, or there never was one.
    pub fn waits(&self) -> bool {
        self.primary.is_none()
    }

    /// Returns how many copies are to be in sync: as many as are wanted, but no more than there are boxes with candidates. If all
    /// candidates are on one box, each of them may have a copy.
    pub fn goal(&self) -> u64 {
        goal(self.copies, &self.candidates)
    }

    /// Returns `true` if it has a primary, and as many copies in sync as it is to have.
    pub fn is_redundant(&self) -> bool {
        !self.waits() && self.in_sync.len() as u64 >= self.goal()
    }

    /// Returns `true` if it has a primary that acknowledges nothing, as too few copies are in sync.
    pub fn is_below_minimum(&self) -> bool {
        !self.waits() && (self.in_sync.len() as u64) < self.min_copies
    }

    /// Returns `true` if a life of a node keeps a copy, or is to.
    pub fn names(&self, life: EndpointId) -> bool {
        let mut copies = self.in_sync.iter().chain(&self.joining);
        copies.any(|copy| copy.life == life)
    }

    /// Returns what an endpoint's instance of the store is told of this decision.
    pub fn assignment(&self) -> Assignment {
        let life = |copy: &StoreCopy| copy.life;
        Assignment {
            epoch: self.changed,
            began: self.began,
            primary: self.primary.as_ref().map(life),
            in_sync: self.in_sync.iter().map(life).collect(),
            joining: self.joining.as_ref().map(life),
            min_copies: usize::try_from(self.min_copies).unwrap_or(usize::MAX),
        }
    }

    /// Returns the event by which a primary asks the coordinators for a decision about a copy that this one names; `None` if it names no
    /// such copy.
    pub fn asks(&self, store: &StoreName, epoch: u64, request: CopyRequest) -> Option<Vec<u8>> {
        let (CopyRequest::Joined(life) | CopyRequest::Stuck(life)) = request;
        let mut copies = self.in_sync.iter().chain(&self.joining);
        let node = copies.find(|copy| copy.life == life)?.node.clone();
        let (store, life) = (store.to_string(), life.to_string());
        Some(match request {
            CopyRequest::Joined(_) => event(&CopyJoined {
                store,
                epoch,
                node,
                life,
            }),
            CopyRequest::Stuck(_) => event(&CopyStuck {
                store,
                epoch,
                node,
                life,
            }),
        })
    }

    /// Returns the place of a node among the candidates; behind all of them if it is none.
    pub fn rank(&self, node: &str) -> usize {
        let rank = self.candidates.iter().position(|it| it.node == node);
        rank.unwrap_or(self.candidates.len())
    }
}

impl StoreCopy {
    /// Returns the copy that a life of a node has.
    pub fn new(node: &str, life: EndpointId) -> Self {
        Self {
            node: node.to_owned(),
            life,
        }
    }

    /// Returns `true` if it is what this life of this node has.
    pub fn is(&self, node: &str, life: EndpointId) -> bool {
        self.node == node && self.life == life
    }
}

impl ViewCopy {
    fn of(copy: &StoreCopy) -> Self {
        Self {
            node: copy.node.clone(),
            life: copy.life.to_string(),
        }
    }

    fn copy(&self) -> Option<StoreCopy> {
        if self.node.len() > LONGEST_NAME {
            return None;
        }
        Some(StoreCopy {
            node: self.node.clone(),
            life: self.life.parse().ok()?,
        })
    }
}

impl ViewStore {
    /// What is decided about a store of this name.
    pub fn of(store: &str, group: &StoreGroup) -> Self {
        let StoreGroup {
            opened,
            began,
            changed,
            persistent,
            copies,
            min_copies,
            candidates,
            primary,
            in_sync,
            joining,
        } = group;
        Self {
            store: store.to_owned(),
            opened: *opened,
            began: *began,
            changed: *changed,
            persistent: *persistent,
            copies: *copies,
            min_copies: *min_copies,
            candidates: candidates.clone(),
            primary: primary.as_ref().map(ViewCopy::of),
            in_sync: in_sync.iter().map(ViewCopy::of).collect(),
            joining: joining.as_ref().map(ViewCopy::of),
        }
    }

    /// Returns what it says, or `None` if it is not possible.
    pub fn group(&self) -> Option<StoreGroup> {
        StoreName::new(&self.store).ok()?;
        if self.in_sync.len() > MOST_COPIES {
            return None;
        }
        let one = |copy: &Option<ViewCopy>| match copy {
            None => Some(None),
            Some(copy) => copy.copy().map(Some),
        };
        let in_sync = self.in_sync.iter().map(ViewCopy::copy);
        let group = StoreGroup {
            opened: self.opened,
            began: self.began,
            changed: self.changed,
            persistent: self.persistent,
            copies: self.copies,
            min_copies: self.min_copies,
            candidates: self.candidates.clone(),
            primary: one(&self.primary)?,
            in_sync: in_sync.collect::<Option<_>>()?,
            joining: one(&self.joining)?,
        };
        group.is_possible().then_some(group)
    }
}

impl StoreGroup {
    /// Whether it contradicts nothing that holds for every group.
    fn is_possible(&self) -> bool {
        let nodes: BTreeSet<&str> = self.in_sync.iter().map(|it| it.node.as_str()).collect();
        let primary = self.primary.iter();
        let joining = self.joining.iter();
        are_wanted(self.copies, self.min_copies)
            && are_candidates(&self.candidates)
            && nodes.len() == self.in_sync.len()
            && primary.clone().all(|it| self.in_sync.contains(it))
            && joining.clone().all(|it| !nodes.contains(it.node.as_str()))
            && self.opened <= self.began
            && self.began <= self.changed
    }
}

/// How many of the copies that are wanted there can be with these candidates.
pub(crate) fn goal(copies: u64, candidates: &[StoreCandidate]) -> u64 {
    let boxes: BTreeSet<&str> = candidates.iter().map(|it| &*it.box_name).collect();
    let possible = match boxes.len() {
        1 => candidates.len(),
        count => count,
    };
    copies.min(possible as u64)
}

/// Whether a store can have so many copies.
fn are_wanted(copies: u64, min_copies: u64) -> bool {
    (1..=MOST_COPIES as u64).contains(&copies) && (1..=copies).contains(&min_copies)
}

/// Whether these can be the candidates of a store: a few different nodes.
fn are_candidates(candidates: &[StoreCandidate]) -> bool {
    let nodes: BTreeSet<&str> = candidates.iter().map(|it| it.node.as_str()).collect();
    let fits = |it: &StoreCandidate| {
        (1..=LONGEST_NAME).contains(&it.node.len()) && it.box_name.len() <= LONGEST_BOX
    };
    (1..=MOST_CANDIDATES).contains(&candidates.len())
        && nodes.len() == candidates.len()
        && candidates.iter().all(fits)
}

impl StoreWanted {
    /// Returns `true` if a primary with this endpoint has to say it: the store is kept otherwise than is wanted.
    pub fn is_news_of_primary(&self, group: &StoreGroup, life: EndpointId) -> bool {
        let is_primary = group.primary.as_ref().is_some_and(|it| it.life == life);
        let is_kept_so = group.copies == self.copies
            && group.min_copies == self.min_copies
            && group.candidates == self.candidates;
        is_primary && !is_kept_so
    }

    /// Returns `true` if a store can be kept like this.
    pub fn is_possible(&self) -> bool {
        StoreName::new(&self.store).is_ok()
            && are_wanted(self.copies, self.min_copies)
            && are_candidates(&self.candidates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(node: &str, of: u8) -> StoreCopy {
        StoreCopy::new(node, EndpointId::from_random([of; 16]))
    }

    fn group() -> StoreGroup {
        let candidates = ["one", "two", "three"].map(|node| StoreCandidate {
            node: node.to_owned(),
            box_name: node[..1].to_owned(),
        });
        StoreGroup {
            opened: 2,
            began: 3,
            changed: 5,
            persistent: true,
            copies: 3,
            min_copies: 2,
            candidates: candidates.to_vec(),
            primary: Some(copy("one", 1)),
            in_sync: vec![copy("two", 2), copy("one", 1)],
            joining: Some(copy("three", 3)),
        }
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let group = group();
        assert_eq!(ViewStore::of("a/b", &group).group(), Some(group));
    }

    #[test]
    fn a_store_is_redundant_with_as_many_copies_as_it_can_have() {
        /// Copies wanted, boxes of the candidates, copies in sync; the goal, and whether it is reached.
        type Case = (u64, &'static [&'static str], u8, (u64, bool));
        let cases: [Case; 9] = [
            (1, &["a"], 1, (1, true)),
            (1, &["a", "b"], 1, (1, true)),
            (2, &["a", "b"], 1, (2, false)),
            (2, &["a", "b"], 2, (2, true)),
            (2, &["a", "b"], 3, (2, true)),
            // Two of one box are lost together.
            (3, &["a", "a", "b"], 2, (2, true)),
            (3, &["a", "b", "c"], 2, (3, false)),
            (2, &["a", "a"], 1, (2, false)),
            (4, &["a"], 1, (1, true)),
        ];
        for (copies, boxes, in_sync, expected) in cases {
            let candidates = boxes.iter().enumerate();
            let candidates = candidates.map(|(at, of)| StoreCandidate {
                node: at.to_string(),
                box_name: (*of).to_owned(),
            });
            let in_sync: Vec<_> = (0..in_sync).map(|at| copy(&at.to_string(), at)).collect();
            let mut group = StoreGroup {
                copies,
                min_copies: 2,
                candidates: candidates.collect(),
                primary: in_sync.first().cloned(),
                in_sync,
                ..group()
            };
            let found = (group.goal(), group.is_redundant());
            assert_eq!(found, expected, "{copies} {boxes:?}");
            assert_eq!(group.is_below_minimum(), group.in_sync.len() < 2);
            group.primary = None;
            assert!(!group.is_redundant() && !group.is_below_minimum());
        }
    }

    #[test]
    fn what_is_asked_of_coordinators_names_a_copy_that_they_know() {
        let (group, store) = (group(), StoreName::new("a").unwrap());
        let (third, stranger) = (copy("three", 3).life, copy("four", 4).life);
        let joined = CopyJoined {
            store: "a".to_owned(),
            epoch: 5,
            node: "three".to_owned(),
            life: third.to_string(),
        };
        let asked = group.asks(&store, 5, CopyRequest::Joined(third));
        assert_eq!(asked, Some(event(&joined)));
        assert_eq!(group.asks(&store, 5, CopyRequest::Stuck(stranger)), None);
        assert!(group.names(third) && !group.names(stranger));
        let assignment = group.assignment();
        assert_eq!((assignment.epoch, assignment.began), (5, 3));
        assert_eq!(assignment.joining, Some(third));
    }

    #[test]
    fn only_the_primary_says_that_its_store_is_to_be_kept_otherwise() {
        let group = group();
        let mut wanted = StoreWanted {
            store: "a".to_owned(),
            persistent: true,
            copies: 3,
            min_copies: 2,
            candidates: group.candidates.clone(),
        };
        let (primary, other) = (copy("one", 1).life, copy("two", 2).life);
        assert!(!wanted.is_news_of_primary(&group, primary));
        wanted.copies = 2;
        assert!(wanted.is_news_of_primary(&group, primary));
        assert!(!wanted.is_news_of_primary(&group, other));
    }

    /// What is wrong with one that cannot be.
    type Mistake = fn(&mut ViewStore);

    #[test]
    fn what_contradicts_itself_is_no_group() {
        let mistakes: [(&str, Mistake); 17] = [
            ("no name", |it| it.store.clear()),
            ("a name that is too long", |it| it.store = "x".repeat(256)),
            ("a primary that is not in sync", |it| it.in_sync.truncate(1)),
            ("a primary of another life", |it| {
                it.in_sync[1].life = EndpointId::NIL.to_string();
            }),
            ("a life that is none", |it| it.in_sync[0].life.clear()),
            ("twice in sync", |it| {
                it.in_sync.push(it.in_sync[0].clone());
            }),
            ("joining and in sync", |it| {
                it.joining = it.in_sync.first().cloned();
            }),
            ("a long name in sync", |it| {
                it.in_sync[0].node = "x".repeat(129);
            }),
            ("no candidates", |it| it.candidates.clear()),
            ("one candidate twice", |it| {
                it.candidates.push(it.candidates[0].clone());
            }),
            ("a candidate's long name", |it| {
                it.candidates[0].node = "x".repeat(129);
            }),
            ("a candidate's long box", |it| {
                it.candidates[0].box_name = "x".repeat(256);
            }),
            ("too many copies", |it| it.copies = 9),
            ("no copies", |it| it.copies = 0),
            ("more at least than at most", |it| it.min_copies = 4),
            ("none at least", |it| it.min_copies = 0),
            ("it began later than it has changed", |it| it.began = 6),
        ];
        for (what, mistake) in mistakes {
            let mut store = ViewStore::of("a", &group());
            mistake(&mut store);
            assert_eq!(store.group(), None, "{what}");
        }
        let mut many = ViewStore::of("a", &group());
        many.candidates = (0..17)
            .map(|number| StoreCandidate {
                node: number.to_string(),
                box_name: String::new(),
            })
            .collect();
        assert_eq!(many.group(), None);
        many.candidates.pop();
        assert!(many.group().is_some());
        for number in 0..6 {
            let copy = copy(&number.to_string(), number);
            many.in_sync.push(ViewCopy::of(&copy));
        }
        assert!(many.group().is_some());
        many.in_sync.push(ViewCopy::of(&copy("9", 9)));
        assert_eq!(many.group(), None);
    }
}
