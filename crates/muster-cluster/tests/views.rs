//! Views of coordinators, and those who follow them: whatever is lost, repeated or late, in the end all have the same.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use muster_cluster::coordination::{
    MOST_CANDIDATES, MOST_COPIES, MOST_STORES, Membership, NotTaken, OutReason, StoreCandidate,
    StoreCopy, StoreGroup, View, ViewChange, ViewCopy, ViewMember, ViewStore, ViewUpdate,
};
use muster_cluster::{LONGEST_NAME, MOST_NODES};
use muster_data::{Data, Limits, encode_to_vec, from_data};
use muster_wire::EndpointId;
use proptest::collection::vec;
use proptest::prelude::*;

/// What coordinators decide.
#[derive(Debug, Clone, Copy)]
enum Decision {
    Admit(usize),
    Expel(usize, u64),
    Forget(usize),
    /// A store has another primary, or its first one.
    Give(usize, usize),
    /// Others go on, with what they know: the last decisions may be lost.
    Recover(bool),
}

/// What happens between coordinators and one that follows them.
#[derive(Debug, Clone, Copy)]
enum Step {
    Decide(Decision),
    /// One of the updates so far arrives, perhaps again.
    Arrive(prop::sample::Index),
    /// The last one arrives.
    ArriveLast,
    /// It asks, and is answered by somebody who knows everything.
    Ask,
}

fn decision() -> impl Strategy<Value = Decision> {
    prop_oneof![
        6 => (0..5_usize).prop_map(Decision::Admit),
        6 => (0..5_usize, 1..6_u64).prop_map(|(node, why)| Decision::Expel(node, why)),
        2 => (0..5_usize).prop_map(Decision::Forget),
        4 => (0..3_usize, 0..5_usize).prop_map(|(store, node)| Decision::Give(store, node)),
        1 => any::<bool>().prop_map(Decision::Recover),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => decision().prop_map(Step::Decide),
        3 => any::<prop::sample::Index>().prop_map(Step::Arrive),
        3 => Just(Step::ArriveLast),
        1 => Just(Step::Ask),
    ]
}

/// A store that one node keeps.
fn group(primary: StoreCopy) -> StoreGroup {
    StoreGroup {
        opened: 1,
        began: 1,
        changed: 1,
        persistent: false,
        copies: 1,
        min_copies: 1,
        candidates: vec![StoreCandidate {
            node: primary.node.clone(),
            box_name: "box".to_owned(),
        }],
        in_sync: vec![primary.clone()],
        primary: Some(primary),
        joining: None,
    }
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

#[derive(Debug)]
struct Coordinators {
    view: View,
    /// What a voter knows that is behind.
    behind: View,
    told: u64,
    lives: u8,
    groups: u8,
}

impl Coordinators {
    fn new() -> Self {
        let view = View::founded([1; 16], 0);
        Self {
            behind: view.clone(),
            view,
            told: 0,
            lives: 0,
            groups: 1,
        }
    }

    /// Decides, and returns what is told.
    fn decide(&mut self, decision: Decision) -> ViewUpdate {
        let before = self.view.clone();
        let epoch = self.view.epoch() + 1 + u64::from(self.lives % 3);
        match decision {
            Decision::Admit(node) => {
                self.lives = self.lives.wrapping_add(1);
                let membership = Membership {
                    box_name: "box".to_owned(),
                    life: EndpointId::from_random([self.lives; 16]),
                    incarnation: u64::from(self.lives),
                    session: epoch,
                    changed: epoch,
                    out: None,
                };
                if self.view.is_in(&name(node)) != Some(true) {
                    assert!(self.view.set(epoch, &name(node), membership));
                }
            }
            Decision::Expel(node, why) => {
                let known = self.view.get(&name(node)).cloned();
                if let Some(known) = known.filter(|it| it.out.is_none()) {
                    let out = Membership {
                        changed: epoch,
                        out: Some(OutReason::of(why)),
                        ..known
                    };
                    assert!(self.view.set(epoch, &name(node), out));
                }
            }
            Decision::Forget(node) => {
                if self.view.is_in(&name(node)) == Some(false) {
                    self.view.forget(epoch, &name(node));
                }
            }
            Decision::Give(store, node) => {
                let store = format!("store-{store}");
                let life = EndpointId::from_random([self.lives; 16]);
                let primary = StoreCopy::new(&name(node), life);
                let known = self.view.store(&store);
                let opened = known.map_or(epoch, |it| it.opened);
                let group = StoreGroup {
                    opened,
                    began: opened,
                    changed: epoch,
                    ..group(primary)
                };
                assert!(self.view.set_store(epoch, &store, group));
            }
            Decision::Recover(is_behind) => {
                self.groups += 1;
                let known = if is_behind { &self.behind } else { &self.view };
                self.view = known.recovered([self.groups; 16]);
                self.told = 0;
            }
        }
        // Whoever goes on belongs to the last group.
        let is_same = before.generation() == self.view.generation();
        self.behind = if is_same { before } else { self.view.clone() };
        let update = ViewUpdate::since(&self.view, self.told);
        self.told = self.view.epoch();
        update
    }
}

type Members = BTreeMap<String, Membership>;

fn members(view: &View) -> Members {
    let members = view.members();
    members
        .map(|(node, it)| (node.to_owned(), it.clone()))
        .collect()
}

fn stores(view: &View) -> BTreeMap<String, StoreGroup> {
    let stores = view.stores();
    stores
        .map(|(store, it)| (store.to_owned(), it.clone()))
        .collect()
}

/// Whoever follows, and whom it takes to be in by what it was told to have changed.
#[derive(Debug, Default)]
struct Follower {
    view: View,
    lives: BTreeMap<String, EndpointId>,
    /// What it takes to be so about stores, by the same.
    stores: BTreeMap<String, StoreGroup>,
}

impl Follower {
    /// Takes an update, and returns whether something was missing.
    fn take(&mut self, update: &ViewUpdate) -> bool {
        let before = (self.view.generation(), self.view.epoch());
        let changes = match self.view.update(update) {
            Ok(changes) => changes,
            Err(error) => return error == NotTaken::Gap,
        };
        for change in changes {
            match change {
                ViewChange::In { node, life } => {
                    assert_eq!(self.lives.insert(node, life), None, "it was in");
                }
                ViewChange::Out { node, life, .. } => {
                    if self.lives.get(&node) == Some(&life) {
                        self.lives.remove(&node);
                    }
                }
                ViewChange::Store { store } => match self.view.store(&store) {
                    Some(group) => {
                        let group = group.clone();
                        assert_ne!(self.stores.insert(store, group.clone()), Some(group));
                    }
                    None => assert!(self.stores.remove(&store).is_some()),
                },
            }
        }
        let now = (self.view.generation(), self.view.epoch());
        assert!(
            now.0 >= before.0 && now.1 >= before.1,
            "{before:?}, {now:?}"
        );
        let view = self.view.members();
        let lives = view.filter(|(_, it)| it.out.is_none());
        let lives: BTreeMap<_, _> = lives.map(|(node, it)| (node.to_owned(), it.life)).collect();
        assert_eq!(self.lives, lives);
        assert_eq!(self.stores, stores(&self.view));
        false
    }

    fn ask(&mut self, of: &View) {
        if of.epoch() > self.view.epoch() {
            let update = ViewUpdate::since(of, self.view.epoch());
            assert!(!self.take(&update), "the answer can be taken");
        }
    }
}

proptest! {
    #[test]
    fn whoever_follows_has_the_same_in_the_end(steps in vec(step(), 1..60)) {
        let mut coordinators = Coordinators::new();
        let mut follower = Follower::default();
        let mut updates = Vec::new();
        let mut history = BTreeMap::new();
        for step in steps {
            let update: Option<&ViewUpdate> = match step {
                Step::Decide(decision) => {
                    updates.push(coordinators.decide(decision));
                    let view = &coordinators.view;
                    let known = history.insert((*view.cluster(), view.epoch()), members(view));
                    // An epoch is one decision.
                    prop_assert!(known.is_none_or(|it| it == members(view)));
                    None
                }
                Step::Arrive(at) if !updates.is_empty() => Some(at.get(&updates)),
                Step::ArriveLast => updates.last(),
                Step::Ask => {
                    follower.ask(&coordinators.view);
                    None
                }
                Step::Arrive(_) => None,
            };
            if let Some(update) = update
                && follower.take(update)
            {
                follower.ask(&coordinators.view);
            }
            let view = &follower.view;
            if view.epoch() > 0 {
                prop_assert_eq!(history.get(&(*view.cluster(), view.epoch())), Some(&members(view)));
            }
        }
        follower.ask(&coordinators.view);
        prop_assert_eq!(members(&follower.view), members(&coordinators.view));
        prop_assert_eq!(stores(&follower.view), stores(&coordinators.view));
        prop_assert_eq!(follower.view.epoch(), coordinators.view.epoch());
    }

    /// What comes from elsewhere is refused, or bounded.
    #[test]
    fn any_update_is_taken_or_refused(updates in vec(update(), 1..8), own in update()) {
        let mut view = View::default();
        for update in updates {
            let bytes = encode_to_vec(&update);
            let data = Data::from_bytes(&bytes, &Limits::default()).unwrap();
            prop_assert_eq!(&from_data::<ViewUpdate>(&data).unwrap(), &update);
            let before = view.clone();
            if view.update(&update).is_err() {
                prop_assert_eq!(&before, &view);
            }
            prop_assert!(view.members().all(|(node, it)| node.len() <= LONGEST_NAME && it.box_name.len() <= 255));
            for (store, group) in view.stores() {
                prop_assert!(store.len() <= 255 && group.candidates.len() <= MOST_CANDIDATES);
                prop_assert!(group.in_sync.len() <= MOST_COPIES && group.copies <= MOST_COPIES as u64);
                prop_assert!(group.primary.iter().all(|it| group.in_sync.contains(it)));
            }
            let recovered = view.recovered([9; 16]);
            for (store, group) in recovered.stores() {
                let changed = recovered.epoch();
                let known = view.store(store).unwrap().clone();
                prop_assert_eq!(group, &StoreGroup { changed, ..known });
            }
            let _ = ViewUpdate::since(&view, own.epoch);
        }
    }

    #[test]
    fn any_value_is_an_update_or_none(bytes in vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), own in update()) {
        let mut altered = encode_to_vec(&own);
        let start = at.index(altered.len());
        let end = (start + bytes.len() / 2).min(altered.len());
        altered.splice(start..end, bytes.iter().copied());
        for bytes in [bytes, altered] {
            if let Ok(data) = Data::from_bytes(&bytes, &Limits::default())
                && let Ok(update) = from_data::<ViewUpdate>(&data)
            {
                let _ = View::default().update(&update);
            }
        }
    }
}

/// Mostly possible, with numbers at all ends.
fn update() -> impl Strategy<Value = ViewUpdate> {
    let number = || prop_oneof![0..4_u64, Just(u64::MAX), any::<u64>()];
    let member = (
        prop_oneof![(0..4_usize).prop_map(name), ".{0,200}"],
        prop_oneof![Just("box".to_owned()), ".{0,100}"],
        prop_oneof![
            4 => any::<[u8; 16]>().prop_map(|it| EndpointId::from_random(it).to_string()),
            1 => ".{0,40}",
        ],
        (number(), number(), number(), number()),
    );
    let member = member.prop_map(|(node, box_name, life, numbers)| {
        let (incarnation, session, changed, out) = numbers;
        ViewMember {
            node,
            box_name,
            life,
            incarnation,
            session,
            changed,
            out,
        }
    });
    let cluster = prop_oneof![
        4 => (0..2_u8).prop_map(|it| vec![it; 16]),
        1 => vec(any::<u8>(), 0..20),
    ];
    let numbers = (number(), number(), number());
    let update = (cluster, numbers, vec(member, 0..6), vec(store(), 0..4));
    update.prop_map(
        |(cluster, (generation, since, epoch), members, stores)| ViewUpdate {
            cluster,
            generation,
            since,
            epoch,
            members,
            stores,
        },
    )
}

/// Mostly possible, with mistakes of all kinds.
fn store() -> impl Strategy<Value = ViewStore> {
    let copy = || {
        let life = prop_oneof![
            4 => (0..3_u8).prop_map(|it| EndpointId::from_random([it; 16]).to_string()),
            1 => ".{0,40}",
        ];
        (prop_oneof![(0..4_usize).prop_map(name), ".{0,200}"], life)
            .prop_map(|(node, life)| ViewCopy { node, life })
    };
    let candidate = (0..9_usize).prop_map(|node| StoreCandidate {
        node: name(node),
        box_name: "box".to_owned(),
    });
    let name = prop_oneof![4 => (0..3_usize).prop_map(name), 1 => ".{0,300}"];
    let in_sync = (vec(copy(), 0..4), any::<bool>());
    (
        (name, any::<bool>()),
        (0..4_u64, 0..4_u64, 0..4_u64),
        (0..4_u64, 0..3_u64),
        vec(candidate, 0..3),
        in_sync,
        proptest::option::of(copy()),
    )
        .prop_map(
            |((store, persistent), epochs, counts, candidates, (in_sync, decides), joining)| {
                let (opened, began, changed) = epochs;
                let (copies, min_copies) = counts;
                ViewStore {
                    store,
                    opened,
                    began,
                    changed,
                    persistent,
                    copies,
                    min_copies,
                    candidates,
                    primary: in_sync.first().filter(|_| decides).cloned(),
                    in_sync,
                    joining,
                }
            },
        )
}

#[test]
fn a_view_has_no_more_stores_than_coordinators_decide_about() {
    let group = group(StoreCopy::new("one", EndpointId::from_random([1; 16])));
    let mut decided = View::founded([1; 16], 0);
    for store in 0..MOST_STORES {
        assert!(decided.set_store(1, &name(store), group.clone()));
    }
    assert!(!decided.set_store(2, "another", group.clone()));
    let mut view = View::default();
    let changes = view.update(&ViewUpdate::whole(&decided)).unwrap();
    assert_eq!(changes.len(), MOST_STORES);
    let another = |store: &str| ViewUpdate {
        since: 1,
        epoch: 2,
        stores: vec![ViewStore::of(store, &group)],
        ..ViewUpdate::whole(&decided)
    };
    assert_eq!(view.update(&another("another")), Err(NotTaken::Malformed));
    assert_eq!(view.update(&another("node-1")), Ok(Vec::new()));
    // What cannot be is not taken, nor anything beside it.
    let mut wrong = another("node-1");
    wrong.epoch = 3;
    wrong.stores[0].in_sync.clear();
    wrong.stores.push(ViewStore::of("node-2", &group));
    assert_eq!(view.update(&wrong), Err(NotTaken::Malformed));
    assert_eq!(view.epoch(), 2);
}

#[test]
fn a_view_has_no_more_nodes_than_a_layout() {
    let membership = Membership {
        box_name: "box".to_owned(),
        life: EndpointId::from_random([1; 16]),
        incarnation: 1,
        session: 1,
        changed: 1,
        out: None,
    };
    let mut decided = View::founded([1; 16], 0);
    for node in 0..MOST_NODES {
        assert!(decided.set(1, &name(node), membership.clone()));
    }
    assert!(!decided.set(2, "another", membership.clone()));
    let mut view = View::default();
    view.update(&ViewUpdate::whole(&decided)).unwrap();
    let more = ViewUpdate {
        since: 1,
        epoch: 2,
        members: vec![ViewMember::of("another", &membership)],
        ..ViewUpdate::whole(&decided)
    };
    assert_eq!(view.update(&more), Err(NotTaken::Malformed));
    assert_eq!(view.members().count(), MOST_NODES);
    let long = ViewUpdate {
        members: vec![ViewMember::of(&"x".repeat(LONGEST_NAME + 1), &membership)],
        ..ViewUpdate::whole(&decided)
    };
    assert_eq!(View::default().update(&long), Err(NotTaken::Malformed));
}
