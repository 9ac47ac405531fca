//! What is agreed on: read and written, and applied.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use muster_cluster::coordination::{StoreCandidate, StoreCopy, StoreWanted, ViewStore};

use super::*;

fn life(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

/// Mostly changes that fit: of a few nodes, with the session that they have.
fn change() -> impl Strategy<Value = (u64, usize, bool, u8, u64)> {
    (0..5_u64, 0..4_usize, any::<bool>(), any::<u8>(), 0..7_u64)
}

fn made(state: &State, change: &(u64, usize, bool, u8, u64)) -> Change {
    let (kind, node, fits, number, reason) = *change;
    let node = format!("node-{node}");
    let known = state.view().get(&node).map_or(0, |it| it.session);
    let session = if fits { known } else { u64::from(number) };
    Change {
        kind,
        session,
        box_name: "box".to_owned(),
        life: if number == 0 {
            "none".to_owned()
        } else {
            life(number).to_string()
        },
        incarnation: number.into(),
        reason,
        node,
        store: None,
    }
}

/// Mostly changes of stores that fit: of two stores, with the epoch that they have.
fn store_change() -> impl Strategy<Value = (u64, usize, usize, bool, (u64, bool))> {
    let how = (0..4_u64, any::<bool>());
    (9..17_u64, 0..2_usize, 0..4_usize, any::<bool>(), how)
}

fn made_of_store(state: &State, change: &(u64, usize, usize, bool, (u64, bool))) -> Change {
    let (kind, store, node, fits, (copies, persistent)) = *change;
    let store = format!("store-{store}");
    let node = format!("node-{node}");
    let known = state.view().store(&store);
    let epoch = known.map_or(0, |it| it.changed) + u64::from(!fits);
    let copies_known = known
        .iter()
        .flat_map(|it| it.in_sync.iter().chain(&it.joining));
    let copy = copies_known.last().cloned();
    let copy = copy.unwrap_or(StoreCopy::new(&node, life(1)));
    if kind <= 10 {
        let candidates = (0..4).map(|it| StoreCandidate {
            node: format!("node-{it}"),
            box_name: if it < 3 { "box" } else { "other" }.to_owned(),
        });
        let wanted = StoreWanted {
            store,
            persistent,
            copies,
            min_copies: 1,
            candidates: candidates.skip(usize::from(persistent)).collect(),
        };
        return Change::open(&wanted, epoch);
    }
    match kind {
        JOINED | SHRINK | PASS => Change::of_copy(kind, &store, epoch, &copy),
        _ => Change::of_node(kind, &store, epoch, &node),
    }
}

/// A state that has come about.
fn state() -> impl Strategy<Value = State> {
    let entry = (any::<u32>(), vec(change(), 0..4), vec(store_change(), 0..3));
    let entries = vec(entry, 0..20);
    (entries, any::<bool>()).prop_map(|(entries, recovered)| {
        let mut state = State::founded([1; 16], 0);
        for (index, (time, changes, of_stores)) in (2..).zip(entries) {
            let changes = changes.iter().map(|it| made(&state, it));
            let of_stores = of_stores.iter().map(|it| made_of_store(&state, it));
            let changes = changes.chain(of_stores).collect();
            let entry = Entry {
                time: time.into(),
                wall: 7,
                changes,
            };
            state.apply(index, &entry, Sabotage::Nothing);
        }
        if recovered {
            state.refounded([2; 16])
        } else {
            state
        }
    })
}

proptest! {
    #[test]
    fn a_state_is_read_as_it_was_written(state in state()) {
        let read = State::decode(&state.encode()).unwrap();
        prop_assert_eq!(&read, &state);
        // Who goes on with either says the same.
        let mut views = [read, state].map(|it| it.refounded([3; 16]));
        for state in &mut views {
            state.apply(1, &Entry { time: 1, wall: 1, changes: vec![Change::admit("new", "box", life(9), 1, 0)] }, Sabotage::Nothing);
        }
        prop_assert_eq!(&views[0], &views[1]);
    }

    #[test]
    fn altered_bytes_are_a_state_or_an_error(
        state in state(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in any::<Index>(),
        change in change(),
    ) {
        let mut bytes = state.encode();
        for (at, new) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *new;
        }
        let cut_off = bytes[..cut.index(bytes.len() + 1)].to_vec();
        for bytes in [bytes, cut_off] {
            let _ = Entry::decode(&bytes);
            if let Ok(mut state) = State::decode(&bytes) {
                prop_assert_eq!(State::decode(&state.encode()), Ok(state.clone()));
                let entry = Entry { time: u64::MAX, wall: 0, changes: vec![made(&state, &change)] };
                state.apply(u64::MAX, &entry, Sabotage::Nothing);
                let _ = state.admissible_at("node-0");
                let _ = state.refounded([4; 16]);
            }
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        let _ = State::decode(&bytes);
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
        }
    }

    /// Epochs grow, and each change has the epoch of its entry.
    #[test]
    fn epochs_grow(entries in vec((vec(change(), 0..4), vec(store_change(), 0..3)), 1..30)) {
        let mut state = State::founded([1; 16], 0);
        for (index, (changes, of_stores)) in (2..).zip(entries) {
            let before = state.view().clone();
            let changes = changes.iter().map(|it| made(&state, it));
            let of_stores = of_stores.iter().map(|it| made_of_store(&state, it));
            let changes = changes.chain(of_stores).collect();
            let entry = Entry { time: index, wall: 0, changes };
            let has_changed = state.apply(index, &entry, Sabotage::Nothing).has_changed;
            prop_assert_eq!(has_changed, state.view().epoch() > before.epoch());
            if !has_changed {
                prop_assert_eq!(state.view(), &before);
            }
            for (node, it) in state.view().members() {
                prop_assert!(it.changed <= state.view().epoch() && it.session <= it.changed);
                prop_assert!(before.get(node) == Some(it) || it.changed == state.view().epoch());
            }
            for (store, group) in state.view().stores() {
                let is_new = group.changed == state.view().epoch();
                prop_assert!(before.store(store) == Some(group) || is_new);
                // It can be told, and nothing more follows from who is in.
                prop_assert!(ViewStore::of(store, group).group().is_some());
                let settled = settle::settle(state.view(), u64::MAX, group, Sabotage::Nothing);
                prop_assert_eq!(&settled, group);
                let is_in = |it: &StoreCopy| state.view().life(&it.node) == Some(it.life);
                prop_assert!(group.primary.iter().all(is_in));
                prop_assert_eq!(group.waits(), !group.in_sync.iter().any(is_in));
            }
        }
    }
}

/// As many nodes as a layout has, each with all that is remembered of it, can be kept.
#[test]
fn the_largest_state_can_be_kept() {
    let mut state = State::founded([1; 16], 0);
    let node = |number| format!("{number:0>128}");
    let mut index = 1;
    for first in (0..muster_cluster::MOST_NODES).step_by(MOST_CHANGES) {
        for round in 0..=RETURNS {
            for kind in [ADMIT, EXPEL] {
                index += 1;
                let changes = (first..first + MOST_CHANGES).map(|number| {
                    let name = node(number);
                    let session = state.view().get(&name).map_or(0, |it| it.session);
                    let admit = Change::admit(&name, &"x".repeat(255), life(1), 1, session);
                    let expel = Change::expel(&name, session, OutReason::Silent);
                    if kind == ADMIT { admit } else { expel }
                });
                let changes = changes.collect();
                let time = round as u64;
                let wall = u64::from(u32::MAX);
                let entry = Entry {
                    time,
                    wall,
                    changes,
                };
                assert!(state.apply(index, &entry, Sabotage::Nothing).has_changed);
            }
        }
    }
    let another = Change::admit("another", "box", life(2), 1, 0);
    let changes = vec![another];
    let entry = Entry {
        time: 0,
        wall: 0,
        changes,
    };
    let applied = state.apply(index + 1, &entry, Sabotage::Nothing);
    assert!(!applied.has_changed);
    let bytes = state.encode();
    // Beside as many stores as there may be.
    assert!(
        bytes.len() + stores::MOST_WEIGHT < muster_consensus::MAX_STATE,
        "{} bytes",
        bytes.len()
    );
    assert_eq!(State::decode(&bytes), Ok(state));
}

/// A leader proposes all that it may at once: what does not fit would be proposed again and again.
#[test]
fn the_largest_entry_can_be_proposed() {
    let longest = "x".repeat(muster_cluster::LONGEST_NAME);
    let box_name = "x".repeat(255);
    let change = Change::admit(&longest, &box_name, life(1), u64::MAX, u64::MAX);
    let entry = Entry {
        time: u64::MAX,
        wall: u64::MAX,
        changes: vec![change; MOST_CHANGES],
    };
    let bytes = entry.encode();
    // What is looked at before more is added is the changes alone.
    let size = |change: &Change| encode_to_vec(change).len();
    let changes: usize = entry.changes.iter().map(size).sum();
    assert!(bytes.len() <= changes + crate::coordinator::ENTRY_BYTES);
    assert!(
        bytes.len() < muster_consensus::MAX_DATA,
        "{} bytes",
        bytes.len()
    );
}

/// What a node may want fits into an entry, so that it is not wanted for ever.
#[test]
fn the_largest_opening_can_be_proposed() {
    let candidates = (0..muster_cluster::coordination::MOST_CANDIDATES).map(|it| StoreCandidate {
        node: format!("{it:0>128}"),
        box_name: "x".repeat(255),
    });
    let wanted = StoreWanted {
        store: "x".repeat(255),
        persistent: true,
        copies: 8,
        min_copies: 8,
        candidates: candidates.collect(),
    };
    assert!(wanted.is_possible());
    let bytes = encode_to_vec(&Change::open(&wanted, u64::MAX)).len();
    assert!(bytes < muster_consensus::MAX_DATA / 4, "{bytes} bytes");
}
