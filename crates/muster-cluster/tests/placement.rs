//! On which boxes coordinators are, and which boxes may be away.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use muster_cluster::Layout;
use muster_cluster::coordination::{stores_on_one_box, survival, voters, witnesses};
use proptest::prelude::*;

/// A box in the order of the file, and the roles of its nodes.
type Box<'a> = (&'a str, &'a [&'a str]);

fn text(boxes: &[Box<'_>]) -> String {
    let mut text = String::new();
    for (at, (name, _)) in boxes.iter().enumerate() {
        writeln!(text, "[box.{name}]\naddress = \"10.0.0.{}\"", at + 1).unwrap();
    }
    for (on, roles) in boxes {
        for (number, role) in roles.iter().enumerate() {
            writeln!(
                text,
                "[[node]]\nname = \"{role}-{on}-{number}\"\nrole = \"{role}\"\nbox = \"{on}\""
            )
            .unwrap();
        }
    }
    text
}

fn layout(boxes: &[Box<'_>], settings: &str) -> Layout {
    let text = format!("[coordination]\n{settings}\n{}", text(boxes));
    Layout::parse(&text, "muster.toml", &[]).unwrap()
}

const A: Box<'_> = ("a", &["worker"]);
const B: Box<'_> = ("b", &["data", "worker"]);
const C: Box<'_> = ("c", &[]);
const D: Box<'_> = ("d", &["worker", "manager"]);
const E: Box<'_> = ("e", &["logger"]);
const F: Box<'_> = ("f", &["manager", "logger", "data"]);

#[test]
fn who_votes() {
    let cases: &[(&[Box<'_>], &str, &[&str])] = &[
        (&[D], "", &[]),
        (&[D, E], "", &["d"]),
        (&[D, C], "", &["d"]),
        (&[A, D], "", &["d"]),
        (&[D, C, E], "", &["d", "e", "c"]),
        (&[C, A, D], "", &["d", "c", "a"]),
        (&[A, B, C, D], "", &["d", "b", "c"]),
        (&[A, B, C, D, E], "", &["d", "e", "b"]),
        (&[A, B, C, D, E], "count = 5", &["d", "e", "b", "c", "a"]),
        (&[B, C, D, E], "count = 5", &["d", "e", "b"]),
        (&[A, B, C, D, E], "count = 1", &["d"]),
        (&[D, E], "count = 5", &["d"]),
        (&[A, B, C, D, E], "voters = []", &["d", "e", "b"]),
        (
            &[A, B, C, D, E],
            "voters = [\"c\", \"a\", \"d\"]",
            &["c", "a", "d"],
        ),
        (&[D, E], "voters = [\"e\"]", &["e"]),
        (&[D], "voters = [\"d\"]", &["d"]),
    ];
    for (boxes, settings, expected) in cases {
        assert_eq!(
            voters(&layout(boxes, settings)),
            *expected,
            "{boxes:?} {settings}"
        );
    }
}

/// Boxes that the layout does not name have no agent in the mesh.
#[test]
fn without_boxes_nobody_votes() {
    let text = "[[node]]\nname = \"m\"\nrole = \"manager\"\naddress = \"10.0.0.1\"\n\
                [[node]]\nname = \"w\"\nrole = \"worker\"\naddress = \"10.0.0.2\"\n";
    let layout = Layout::parse(text, "muster.toml", &[]).unwrap();
    assert!(voters(&layout).is_empty() && witnesses(&layout).is_empty());
    assert_eq!(survival(&layout), survival(&self::layout(&[D], "")));
    assert!(survival(&layout).may_die.is_empty() && survival(&layout).may_not.is_empty());
}

#[test]
fn a_witness_votes_without_nodes() {
    let witnesses = |boxes: &[Box<'_>]| Vec::from_iter(witnesses(&layout(boxes, "")));
    assert_eq!(witnesses(&[C, D, E]), ["c"]);
    assert_eq!(witnesses(&[C, D]), Vec::<String>::new());
    assert_eq!(witnesses(&[B, C, D, E]), Vec::<String>::new());
}

#[test]
fn which_boxes_may_be_away_and_why_not() {
    let told = |boxes: &[Box<'_>], settings: &str| {
        let survival = survival(&layout(boxes, settings));
        let not = survival.may_not.iter();
        let not: Vec<_> = not.map(|(name, why)| format!("{name}: {why}")).collect();
        (survival.may_die.join(" "), not.join("; "))
    };
    let pair = |may: &str, not: &str| (may.to_owned(), not.to_owned());
    assert_eq!(told(&[C, D, E], ""), pair("c d e", ""));
    assert_eq!(told(&[A, B, C, D, E], "count = 5"), pair("a b c d e", ""));
    assert_eq!(
        told(&[D, E], ""),
        pair(
            "e",
            "d: there is no third box: name one in the layout and let it join, it needs no nodes"
        )
    );
    assert_eq!(
        told(&[D, E, C], "count = 1"),
        pair("c e", "d: `coordination.count` is 1: set it to 3")
    );
    assert_eq!(
        told(&[D, E, C], "voters = [\"c\"]"),
        pair(
            "d e",
            "c: `coordination.voters` names no other box: name three"
        )
    );
    assert_eq!(
        told(&[D], "voters = [\"d\"]"),
        pair(
            "",
            "d: there is no other box: name two more in the layout and let them join, they need no nodes"
        )
    );
}

#[test]
fn stores_whose_copies_are_on_one_box_are_named() {
    let told = |boxes: &[Box<'_>], stores: &str| {
        let text = format!("{}{stores}", text(boxes));
        let layout = Layout::parse(&text, "muster.toml", &[]).unwrap();
        let found = stores_on_one_box(&layout).into_iter().map(|it| {
            let store = it.store.map_or("others".to_owned(), |it| it.to_string());
            let more = if it.may_be_on_more { ", by choice" } else { "" };
            format!("{store} on {}{more}", it.box_name)
        });
        found.collect::<Vec<_>>().join("; ")
    };
    let one = "[store.x]\ncopies = 1\n";
    let cases: &[(&[Box<'_>], &str, &str)] = &[
        (&[D], "", "others on d"),
        // Workers keep no stores.
        (&[A, D], "", "others on d"),
        (&[A, D], one, "others on d; x on d"),
        (&[D, E], "", ""),
        (&[D, E], one, "x on d, by choice"),
        (
            &[D, E],
            "[stores]\ncopies = 1\n[store.x]\ncopies = 3\n",
            "others on d, by choice",
        ),
        (
            &[B, D, E],
            "[store.x]\nmaster = \"data-b-0\"\ncopies = 1\n[store.y]\n",
            "x on b, by choice",
        ),
    ];
    for (boxes, stores, expected) in cases {
        assert_eq!(told(boxes, stores), *expected, "{boxes:?} {stores}");
    }
}

#[test]
fn how_many_copies_there_can_be_and_how_many_boxes_they_need() {
    let told = |boxes: &[Box<'_>], copies: u64, min_copies: u64| {
        let stores = format!("[stores]\ncopies = {copies}\nmin_copies = {min_copies}\n");
        let layout = Layout::parse(&(stores + &text(boxes)), "muster.toml", &[]).unwrap();
        let plan = layout.other_stores(true).unwrap();
        assert_eq!(plan.path, "muster/stores");
        let needs = if plan.needs_all_boxes() { "all" } else { "one" };
        format!(
            "{} on {}, needs {needs}",
            plan.goal(),
            plan.boxes().join(" ")
        )
    };
    assert_eq!(told(&[D, E], 2, 1), "2 on d e, needs one");
    assert_eq!(told(&[D, E], 2, 2), "2 on d e, needs all");
    assert_eq!(told(&[D, E], 3, 2), "2 on d e, needs all");
    assert_eq!(told(&[B, D, E], 3, 2), "3 on d b e, needs one");
    assert_eq!(told(&[D, E], 1, 1), "1 on d, needs one");
    // Processes of one box.
    assert_eq!(told(&[F, C], 2, 2), "2 on f, needs one");
    assert_eq!(told(&[F], 8, 1), "3 on f, needs one");
}

#[test]
fn a_command_line_names_voters_under_the_same_rules() {
    let layout = layout(&[C, D, E], "");
    let with = |names: &str| layout.clone().with_override("coordination.voters", names);
    assert_eq!(voters(&with("c").unwrap()), ["c"]);
    assert_eq!(voters(&with("e,d,c").unwrap()), ["e", "d", "c"]);
    assert_eq!(voters(&with("").unwrap()), ["d", "e", "c"]);
    for (names, wrong) in [
        ("c,d", "`coordination.voters` has 2 names"),
        ("c,d,c", "`coordination.voters` names `c` twice"),
        ("c,d,f", "`coordination.voters` names `f`, which is no box"),
    ] {
        assert_eq!(with(names).unwrap_err().to_string(), wrong);
    }
    assert!(
        layout
            .clone()
            .with_override("coordination.count", "2")
            .is_err()
    );
}

const ROLES: [&str; 4] = ["logger", "manager", "data", "worker"];

proptest! {
    #[test]
    fn the_order_of_the_file_does_not_matter(
        (nodes, shuffled) in prop::collection::vec((0_usize..7, 0_usize..4), 0..12)
            .prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
        (boxes, turned) in (1_usize..8)
            .prop_flat_map(|count| {
                let boxes: Vec<usize> = (0..count).collect();
                (Just(boxes.clone()), Just(boxes).prop_shuffle())
            }),
        count in prop::sample::select(vec![1, 3, 5]),
    ) {
        let read = |nodes: &[(usize, usize)], boxes: &[usize]| {
            let mut text = format!("[coordination]\ncount = {count}\n");
            for at in boxes {
                writeln!(text, "[box.box-{at}]\naddress = \"10.0.0.{}\"", at + 1).unwrap();
            }
            // Not more than one manager, and always one.
            let mut roles: Vec<_> = nodes.iter().map(|(at, role)| (at % boxes.len(), ROLES[*role])).collect();
            roles.retain(|(_, role)| *role != "manager");
            roles.push((count % boxes.len(), "manager"));
            for (number, (on, role)) in roles.iter().enumerate() {
                writeln!(text, "[[node]]\nname = \"n-{number}\"\nrole = \"{role}\"\nbox = \"box-{on}\"").unwrap();
            }
            Layout::parse(&text, "muster.toml", &[]).unwrap()
        };
        let layout = read(&nodes, &boxes);
        let voters = voters(&layout);
        prop_assert_eq!(&voters, &self::voters(&read(&shuffled, &turned)));
        let distinct: BTreeSet<&String> = voters.iter().collect();
        prop_assert_eq!(distinct.len(), voters.len());
        prop_assert!(voters.iter().all(|name| layout.boxes().contains_key(name)));
        if boxes.len() == 1 {
            prop_assert!(voters.is_empty());
        } else {
            prop_assert!(voters.len() % 2 == 1 && voters.len() <= count && voters.len() + 2 > count.min(boxes.len()));
            let survival = survival(&layout);
            prop_assert_eq!(survival.may_die.len() + survival.may_not.len(), boxes.len());
            prop_assert_eq!(survival.may_not.len(), usize::from(voters.len() == 1));
        }
    }
}
