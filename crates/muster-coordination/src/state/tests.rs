//! What is agreed on: read and written, and applied.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

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

/// A state that has come about.
fn state() -> impl Strategy<Value = State> {
    let entries = vec((any::<u32>(), vec(change(), 0..4)), 0..20);
    (entries, any::<bool>()).prop_map(|(entries, recovered)| {
        let mut state = State::founded([1; 16], 0);
        for (index, (time, changes)) in (2..).zip(entries) {
            let changes = changes.iter().map(|it| made(&state, it)).collect();
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
    fn epochs_grow(entries in vec(vec(change(), 0..4), 1..30)) {
        let mut state = State::founded([1; 16], 0);
        for (index, changes) in (2..).zip(entries) {
            let before = state.view().clone();
            let changes = changes.iter().map(|it| made(&state, it)).collect();
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
                    let admit = Change::admit(&name, "a-box-with-some-name", life(1), 1, session);
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
    assert!(
        bytes.len() < muster_consensus::MAX_STATE,
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
    assert!(
        bytes.len() < muster_consensus::MAX_DATA,
        "{} bytes",
        bytes.len()
    );
}
