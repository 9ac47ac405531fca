//! What becomes of a group: who is in goes in, and what is settled comes out.

use muster_cluster::coordination::Membership;
use muster_wire::EndpointId;

use super::*;

/// Reads nodes: the first letter is the box, the number behind the colon the life; an exclamation mark stands for one that is out, a minus
/// for one that has left.
fn view(text: &str) -> View {
    let mut view = View::founded([1; 16], 0);
    for word in text.split_whitespace() {
        let out = match word.chars().last() {
            Some('!') => Some(OutReason::Silent),
            Some('-') => Some(OutReason::Left),
            _ => None,
        };
        let copy = copy(word.trim_end_matches(['!', '-']));
        let membership = Membership {
            box_name: copy.node[..1].to_owned(),
            life: copy.life,
            incarnation: 1,
            session: 1,
            changed: 1,
            out,
        };
        assert!(view.set(1, &copy.node, membership));
    }
    view
}

fn copy(text: &str) -> StoreCopy {
    let (node, life) = text.split_once(':').expect("a node and its life");
    let life = life.parse().expect("a number");
    StoreCopy::new(node, EndpointId::from_bytes([life; 16]))
}

/// Reads a group: how many copies of which candidates, what is in sync with the primary marked by a star, and who joins behind a plus.
fn group(persistent: bool, copies: u64, candidates: &str, state: &str) -> StoreGroup {
    let candidates = candidates.split_whitespace().map(|node| StoreCandidate {
        node: node.to_owned(),
        box_name: node[..1].to_owned(),
    });
    let mut group = StoreGroup {
        opened: 2,
        began: 3,
        changed: 4,
        persistent,
        copies,
        min_copies: 1,
        candidates: candidates.collect(),
        primary: None,
        in_sync: Vec::new(),
        joining: None,
    };
    for word in state.split_whitespace() {
        if let Some(word) = word.strip_prefix('+') {
            group.joining = Some(copy(word));
        } else {
            let copy = copy(word.trim_start_matches('*'));
            if word.starts_with('*') {
                group.primary = Some(copy.clone());
            }
            group.in_sync.push(copy);
        }
    }
    group
}

fn shown(group: &StoreGroup) -> String {
    let one = |copy: &StoreCopy| format!("{}:{}", copy.node, copy.life.as_bytes()[0]);
    let in_sync = group.in_sync.iter().map(|copy| {
        let is_primary = group.primary.as_ref() == Some(copy);
        format!("{}{}", if is_primary { "*" } else { "" }, one(copy))
    });
    let joining = group.joining.iter().map(|copy| format!("+{}", one(copy)));
    let mut words: Vec<String> = in_sync.chain(joining).collect();
    if group.began != 3 {
        words.push("anew".to_owned());
    }
    words.join(" ")
}

/// What is in sync, who is in, and what becomes of it.
type Case = (&'static str, &'static str, &'static str);

fn look(persistent: bool, copies: u64, candidates: &str, cases: &[Case]) {
    for (state, members, expected) in cases {
        let (group, view) = (group(persistent, copies, candidates, state), view(members));
        let settled = settle(&view, 9, &group, Sabotage::Nothing);
        assert_eq!(shown(&settled), *expected, "{state} when {members}");
        let again = settle(&view, 10, &settled, Sabotage::Nothing);
        assert_eq!(again, settled, "{state} when {members}, again");
    }
}

#[test]
fn a_copy_that_is_in_sync_takes_the_place_of_the_primary() {
    let cases = [
        ("*a:1 b:1", "a:1 b:1 c:1", "*a:1 b:1"),
        ("*a:1 b:1", "a:1! b:1 c:1", "*b:1 +c:1"),
        ("*a:1 b:1", "a:1- b:1", "*b:1"),
        ("*a:1 b:1", "a:2 b:1", "*b:1 +a:2"),
        ("*a:1 b:1", "b:1", "*b:1"),
        ("*a:1 b:1", "a:1 b:1! c:1", "*a:1 +c:1"),
        // Nobody goes back when the former one returns.
        ("a:1 *b:1", "a:1 b:1", "a:1 *b:1"),
        // One on another box comes before one of better rank beside the lost one.
        ("*a:1 a2:1 b:1", "a:1! a2:1 b:1", "a2:1 *b:1"),
        ("*b:1 a2:1 a:1", "a:1 a2:1 b:1!", "a2:1 *a:1"),
        // One that is no candidate any more comes last, but comes.
        ("*a:1 z:1 b:1", "a:1! b:1 z:1", "z:1 *b:1"),
        ("*a:1 z:1", "a:1! z:1", "*z:1"),
    ];
    look(false, 2, "a a2 b c", &cases);
    look(true, 2, "a a2 b c", &cases);
}

#[test]
fn a_store_in_memory_waits_for_its_last_copies_until_they_are_gone() {
    look(
        false,
        2,
        "a b c",
        &[
            ("*a:1 b:1", "a:1! b:1! c:1", "a:1 b:1"),
            ("*a:1", "a:1! b:1 c:1", "a:1"),
            // Whoever was in sync, and lives, has everything.
            ("a:1 b:1", "a:1! b:1 c:1", "*b:1 +c:1"),
            ("a:1 b:1", "a:1 b:1 c:1", "*a:1 b:1"),
            ("a:1 b:1", "a:2 b:1! c:1", "a:1 b:1"),
            ("a:1 b:1", "a:2! b:1! c:1", "a:1 b:1"),
            // A process has ended, and with it what it had.
            ("a:1 b:1", "a:2 b:2", "*a:2 +b:2 anew"),
            ("a:1 b:1", "a:2! b:1- c:1", "*c:1 anew"),
            ("a:1", "b:1 c:1", "*b:1 +c:1 anew"),
            ("*a:1", "a:1- c:1", "*c:1 anew"),
            ("*a:1", "a:1- d:1", "anew"),
            // Nobody has had it.
            ("", "d:1", ""),
            ("", "b:7 c:1", "*b:7 +c:1 anew"),
        ],
    );
}

#[test]
fn a_store_with_files_waits_for_the_nodes_that_have_them() {
    look(
        true,
        2,
        "a b c",
        &[
            ("*a:1 b:1", "a:1! b:1! c:1", "a:1 b:1"),
            ("*a:1", "a:1- b:1 c:1", "a:1"),
            ("*a:1", "b:1 c:1", "a:1"),
            ("a:1 b:1", "a:1! b:1 c:1", "*b:1 +c:1"),
            // The only file that counts is back.
            ("a:1", "a:2 b:1", "*a:2 +b:1 anew"),
            ("a:1", "a:2! b:1", "a:1"),
            // Which of two has more nobody knows here.
            ("a:1 b:1", "a:2 b:2 c:1", "a:1 b:1"),
            ("", "b:7 c:1", "*b:7 +c:1 anew"),
        ],
    );
}

#[test]
fn copies_that_are_missing_are_looked_for_on_other_boxes() {
    look(
        false,
        3,
        "a a2 b b2 c",
        &[
            ("*a:1", "a:1 a2:1", "*a:1"),
            ("*a:1", "a:1 a2:1 b2:1", "*a:1 +b2:1"),
            ("*a:1 b2:1", "a:1 a2:1 b:1 b2:1 c:1", "*a:1 b2:1 +c:1"),
            ("*a:1 b2:1 c:1", "a:1 b:1 b2:1 c:1", "*a:1 b2:1 c:1"),
            // One that was told goes on, though a better one has come.
            ("*a:1 +c:1", "a:1 b:1 c:1", "*a:1 +c:1"),
            ("*a:1 +c:1", "a:1 b:1 c:1!", "*a:1 +b:1"),
            ("*a:1 +c:1", "a:1 c:2", "*a:1 +c:2"),
            ("*a:1 +z:1", "a:1 z:1", "*a:1"),
            // Nobody becomes a copy of a store that waits.
            ("*a:1 +c:1", "a:1! c:1", "a:1"),
            // One more is told that is to have the primary; two more are too many.
            (
                "*a:1 a2:1 b:1 +c:1",
                "a:1 a2:1 b:1 c:1",
                "*a:1 a2:1 b:1 +c:1",
            ),
            (
                "*a:1 a2:1 b:1 b2:1 +c:1",
                "a:1 a2:1 b:1 b2:1 c:1",
                "*a:1 a2:1 b:1 b2:1",
            ),
        ],
    );
    // On the only box that there is they are beside one another.
    look(
        false,
        2,
        "a a2 a3",
        &[("*a:1", "a:1 a3:1", "*a:1 +a3:1"), ("*a:1", "a:1", "*a:1")],
    );
}

#[test]
fn a_store_of_one_copy_has_no_other() {
    look(
        false,
        1,
        "a b",
        &[
            ("*a:1", "a:1 b:1", "*a:1"),
            ("*a:1", "a:2 b:1", "*a:2 anew"),
            ("*a:1", "a:1! b:1", "a:1"),
        ],
    );
}
