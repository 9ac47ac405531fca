//! A coordinator that decides alone, and what nodes and operators tell it about stores.

use std::time::Duration;

use muster_cluster::coordination::{
    CopyJoined, CopyStuck, Leaving, Renew, StoreCandidate, StoreGroup, StoreWanted, event,
};
use muster_data::{DataRef, Encode};
use muster_wire::zeek::Message;

use super::super::*;
use super::config;

struct Rig {
    coordinator: Coordinator,
    now: Mono,
    renewals: u64,
    /// The nodes that renew, with their lives.
    up: BTreeMap<&'static str, u8>,
    reports: Vec<String>,
    proposals: usize,
}

fn life(node: &str, of: u8) -> EndpointId {
    let mut bytes = [of; 16];
    bytes[0] = node.as_bytes()[0];
    EndpointId::from_random(bytes)
}

fn wanted(copies: u64, candidates: &[&str]) -> StoreWanted {
    StoreWanted {
        store: "store".to_owned(),
        persistent: false,
        copies,
        min_copies: 1,
        candidates: candidates
            .iter()
            .map(|node| StoreCandidate {
                node: (*node).to_owned(),
                box_name: box_of(node).to_owned(),
            })
            .collect(),
    }
}

/// The nodes a, b and c are of boxes of these names, d is of box c.
fn box_of(node: &str) -> &str {
    if node == "d" { "c" } else { node }
}

impl Rig {
    fn new(up: &[&'static str]) -> Self {
        let mut config = config("a");
        config.voters.truncate(1);
        let nodes = ["a", "b", "c", "d"].map(|it| (it.to_owned(), box_of(it).to_owned()));
        config.nodes = nodes.into();
        let disk = DiskId([1; 16]);
        let coordinator = Coordinator::new(config, disk, None, Mono(0), 1).unwrap();
        let mut rig = Self {
            coordinator,
            now: Mono(0),
            renewals: 0,
            up: BTreeMap::new(),
            reports: Vec::new(),
            proposals: 0,
        };
        rig.pass(1000);
        for node in up {
            rig.starts(node, 1);
        }
        rig
    }

    fn starts(&mut self, node: &'static str, of: u8) {
        self.up.insert(node, of);
        self.coordinator
            .reaches(life(node, of), node, true, self.now);
        self.settle();
        self.pass(100);
    }

    fn ends(&mut self, node: &'static str) {
        let of = self.up.remove(node).expect("it is up");
        let id = life(node, of);
        self.coordinator.reaches(id, node, false, self.now);
        self.pass(500);
    }

    /// A node stops in order.
    fn leaves(&mut self, node: &'static str) {
        let session = self.coordinator.view().unwrap().get(node).unwrap().session;
        let node_name = node.to_owned();
        let leaving = Leaving {
            node: node_name,
            session,
        };
        let of = self.up.remove(node).expect("it is up");
        self.says_of(node, of, &leaving);
        self.pass(300);
    }

    fn settle(&mut self) {
        while let Some(output) = self.coordinator.poll() {
            match output {
                Output::Begin(_) => self.coordinator.begun(),
                Output::Persist(number, batch) => {
                    self.proposals += batch.entries.len();
                    self.coordinator.persisted(number);
                }
                Output::Report(_, text) => self.reports.push(text),
                _ => {}
            }
        }
    }

    fn says<R: Record + Encode>(&mut self, node: &str, record: &R) {
        let of = self.up.get(node).copied().unwrap_or(1);
        self.says_of(node, of, record);
    }

    fn says_of<R: Record + Encode>(&mut self, name: &str, of: u8, record: &R) {
        let bytes = event(record);
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes)) else {
            panic!("an event")
        };
        self.coordinator
            .receive(life(name, of), name, &event, self.now);
        self.settle();
    }

    /// Time passes, and whoever is up renews.
    fn pass(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(50));
            self.renewals += 1;
            if self.renewals.is_multiple_of(6) || millis <= 100 {
                for (node, of) in self.up.clone() {
                    let renew = Renew {
                        node: node.to_owned(),
                        box_name: box_of(node).to_owned(),
                        incarnation: of.into(),
                        session: 0,
                        number: self.renewals,
                        alone: None,
                    };
                    self.says_of(node, of, &renew);
                }
            }
            self.coordinator.tick(self.now, 0);
            self.settle();
        }
    }

    fn group(&self) -> &StoreGroup {
        let view = self.coordinator.view().unwrap();
        view.store("store").expect("it is open")
    }

    fn is_open(&self) -> bool {
        let view = self.coordinator.view().unwrap();
        view.store("store").is_some()
    }

    fn shown(&self) -> String {
        let group = self.group();
        let in_sync = group.in_sync.iter().map(|copy| {
            let is_primary = group.primary.as_ref() == Some(copy);
            format!("{}{}", if is_primary { "*" } else { "" }, copy.node)
        });
        let joining = group.joining.iter().map(|copy| format!("+{}", copy.node));
        let words: Vec<String> = in_sync.chain(joining).collect();
        words.join(" ")
    }

    fn joined(&self, node: &str) -> CopyJoined {
        CopyJoined {
            store: "store".to_owned(),
            epoch: self.group().changed,
            node: node.to_owned(),
            life: life(node, self.up.get(node).copied().unwrap_or(1)).to_string(),
        }
    }

    fn stuck(&self, node: &str) -> CopyStuck {
        let CopyJoined {
            store,
            epoch,
            node,
            life,
        } = self.joined(node);
        CopyStuck {
            store,
            epoch,
            node,
            life,
        }
    }

    /// The store is open, with these copies in sync.
    fn filled(copies: &[&'static str]) -> Self {
        let mut rig = Self::new(&["a", "b", "c"]);
        let wanted = wanted(copies.len() as u64, &["a", "b", "c"]);
        rig.says("a", &wanted);
        for node in &copies[1..] {
            let joined = rig.joined(node);
            rig.says("a", &joined);
        }
        assert_eq!(rig.shown(), format!("*{}", copies.join(" ")));
        rig.reports.clear();
        rig
    }
}

#[test]
fn a_store_is_opened_at_once_when_the_first_candidate_is_in() {
    let mut rig = Rig::new(&["a", "b", "c"]);
    rig.says("c", &wanted(2, &["b", "c"]));
    assert_eq!(rig.shown(), "*b +c");
    let joined = rig.joined("c");
    rig.says("b", &joined);
    assert_eq!(rig.shown(), "*b c");
}

#[test]
fn the_first_candidate_has_two_seconds_to_come() {
    let mut rig = Rig::new(&["b"]);
    rig.says("b", &wanted(1, &["a", "b"]));
    rig.pass(1900);
    assert!(!rig.is_open());
    rig.starts("a", 1);
    assert_eq!(rig.shown(), "*a");
    let mut rig = Rig::new(&["b"]);
    rig.says("b", &wanted(1, &["a", "b"]));
    rig.pass(2300);
    assert_eq!(rig.shown(), "*b");
    // It is not taken back.
    rig.starts("a", 1);
    assert_eq!(rig.shown(), "*b");
    // Nobody is there yet.
    let mut rig = Rig::new(&["c"]);
    rig.says("c", &wanted(1, &["a", "b"]));
    rig.pass(2300);
    assert_eq!(rig.shown(), "");
    rig.starts("b", 1);
    assert_eq!(rig.shown(), "*b");
}

#[test]
fn only_members_want_stores_and_only_of_nodes_that_there_are() {
    let mut rig = Rig::new(&["a"]);
    // Another life of a node, one that is out, and a stranger.
    rig.says_of("a", 2, &wanted(1, &["a"]));
    rig.says("b", &wanted(1, &["a"]));
    rig.says("x", &wanted(1, &["a"]));
    assert!(!rig.is_open());
    rig.reports.clear();
    for _ in 0..3 {
        rig.says("a", &wanted(1, &["x", "y"]));
        rig.says("a", &wanted(9, &["a"]));
    }
    assert!(!rig.is_open());
    assert_eq!(rig.reports.len(), 1, "{:?}", rig.reports);
    rig.says("a", &wanted(1, &["x", "a"]));
    assert_eq!(rig.shown(), "*a");
    assert_eq!(rig.group().candidates.len(), 1);
}

#[test]
fn of_several_who_want_a_store_the_first_one_is_heard() {
    let mut rig = Rig::new(&["b", "c"]);
    let mut second = wanted(1, &["a"]);
    second.persistent = true;
    rig.says("b", &wanted(1, &["a", "b"]));
    rig.says("c", &second);
    rig.pass(2500);
    assert!(!rig.group().persistent);
}

#[test]
fn who_is_primary_says_how_its_store_is_kept() {
    let mut rig = Rig::filled(&["a", "b"]);
    rig.says("b", &wanted(1, &["a", "b", "c"]));
    assert_eq!(rig.group().copies, 2);
    rig.says("a", &wanted(3, &["a", "b", "c"]));
    assert_eq!(rig.shown(), "*a b +c");
    rig.says("a", &wanted(1, &["a", "b", "c"]));
    assert_eq!(rig.shown(), "*a");
    // What is so already is not decided again.
    let before = rig.proposals;
    for _ in 0..10 {
        rig.says("a", &wanted(1, &["a", "b", "c"]));
        rig.pass(300);
    }
    assert_eq!(rig.proposals, before);
}

/// A primary that was frozen, and a new one since: what it says when it wakes would take in a copy that has not got everything.
#[test]
fn a_former_primary_decides_nothing() {
    let mut rig = Rig::filled(&["a", "b"]);
    let late = rig.stuck("b");
    rig.ends("a");
    assert_eq!(rig.shown(), "*b +c");
    let joined = rig.joined("c");
    rig.says_of("a", 1, &joined);
    rig.says_of("a", 1, &late);
    rig.pass(500);
    assert_eq!(rig.shown(), "*b +c");
    // In the epoch before it was primary, too.
    let mut early = joined.clone();
    early.epoch -= 1;
    rig.says("b", &early);
    rig.pass(500);
    assert_eq!(rig.shown(), "*b +c");
    rig.says("b", &joined);
    assert_eq!(rig.shown(), "*b c");
}

#[test]
fn only_the_primary_gives_up_copies_and_never_itself() {
    let mut rig = Rig::filled(&["a", "b", "c"]);
    let (own, others) = (rig.stuck("a"), rig.stuck("b"));
    rig.says("c", &others);
    rig.says("b", &own);
    rig.says("a", &own);
    rig.pass(500);
    assert_eq!(rig.shown(), "*a b c");
    rig.says("a", &others);
    assert_eq!(rig.shown(), "*a c +b");
}

#[test]
fn a_store_in_memory_waits_for_thirty_seconds_and_begins_empty() {
    let mut rig = Rig::filled(&["a"]);
    rig.ends("a");
    assert_eq!(rig.shown(), "a");
    rig.pass(29_000);
    assert_eq!(rig.shown(), "a");
    rig.pass(1_500);
    assert_eq!(rig.shown(), "*b");
    let told =
        "coordination: store store begins empty: its last copy, in the memory of node a, is gone";
    assert!(rig.reports.iter().any(|it| it == told), "{:?}", rig.reports);
}

#[test]
fn a_store_whose_last_copy_ends_in_order_begins_empty_at_once() {
    let mut rig = Rig::filled(&["a"]);
    rig.leaves("a");
    assert_eq!(rig.shown(), "*b");
    assert!(rig.reports.iter().any(|it| it.contains("begins empty")));
}

#[test]
fn a_store_with_several_files_begins_when_all_are_there_or_after_ten_seconds() {
    let mut rig = Rig::new(&["a", "b", "c"]);
    let mut on_disk = wanted(2, &["a", "b", "c"]);
    on_disk.persistent = true;
    rig.says("a", &on_disk);
    let joined = rig.joined("b");
    rig.says("a", &joined);
    let ends_both = |rig: &mut Rig| {
        for node in ["a", "b"] {
            let of = rig.up.remove(node).unwrap();
            rig.coordinator
                .reaches(life(node, of), node, false, rig.now);
        }
        rig.pass(500);
        assert_eq!(rig.shown(), "a b");
    };
    ends_both(&mut rig);
    rig.starts("b", 2);
    rig.pass(9_000);
    assert_eq!(rig.shown(), "a b");
    rig.pass(1_500);
    assert_eq!(rig.shown(), "*b +c");
    let told = "coordination: store store begins with what node b has on disk";
    assert!(rig.reports.iter().any(|it| it == told), "{:?}", rig.reports);
    let joined = rig.joined("c");
    rig.says("b", &joined);
    for node in ["b", "c"] {
        let of = rig.up.remove(node).unwrap();
        rig.coordinator
            .reaches(life(node, of), node, false, rig.now);
    }
    rig.pass(500);
    rig.starts("c", 2);
    rig.starts("b", 3);
    // There is nothing more to wait for.
    rig.pass(500);
    assert_eq!(rig.shown(), "*b +c");
}

#[test]
fn another_node_is_asked_when_one_does_not_get_in_sync() {
    let mut rig = Rig::new(&["a", "b", "c"]);
    rig.says("a", &wanted(2, &["a", "b", "c"]));
    rig.pass(29_000);
    assert_eq!(rig.shown(), "*a +b");
    rig.pass(1_500);
    assert_eq!(rig.shown(), "*a +c");
    // The only one that there is goes on.
    rig.ends("b");
    let before = rig.group().changed;
    rig.pass(40_000);
    assert_eq!(
        (rig.shown().as_str(), rig.group().changed),
        ("*a +c", before)
    );
}

#[test]
fn an_operator_moves_a_primary_and_has_a_copy_made_before() {
    let mut rig = Rig::filled(&["a", "b"]);
    rig.coordinator.move_store("store", "b").unwrap();
    rig.settle();
    assert_eq!(rig.shown(), "a *b");
    rig.coordinator.move_store("store", "c").unwrap();
    rig.settle();
    assert_eq!(rig.shown(), "a *b +c");
    // It takes longer than a copy may take that nobody has ordered.
    rig.pass(35_000);
    assert_eq!(rig.shown(), "a *b +c");
    let joined = rig.joined("c");
    rig.says("b", &joined);
    // The copy that was there for the move alone leaves.
    rig.pass(1_000);
    assert_eq!(rig.shown(), "a *c");
    assert_eq!(rig.coordinator.move_store("store", "c"), Ok(()));
    assert_eq!(rig.shown(), "a *c");
}

#[test]
fn of_a_box_that_is_back_the_first_candidate_gets_the_copy_in_the_end() {
    let mut rig = Rig::new(&["a", "d"]);
    rig.says("a", &wanted(2, &["a", "c", "d"]));
    assert_eq!(rig.shown(), "*a +d");
    let joined = rig.joined("d");
    rig.says("a", &joined);
    // Nobody comes before it.
    rig.pass(15_000);
    assert_eq!(rig.shown(), "*a d");
    rig.starts("c", 1);
    rig.pass(9_000);
    assert_eq!(rig.shown(), "*a d");
    // It has been in for long enough. Until it has everything the other one stays.
    rig.pass(1_500);
    assert_eq!(rig.shown(), "*a d +c");
    let joined = rig.joined("c");
    rig.says("a", &joined);
    assert_eq!(rig.shown(), "*a c");
    let before = rig.group().changed;
    rig.pass(30_000);
    assert_eq!(rig.group().changed, before);
}

#[test]
fn a_better_node_that_does_not_get_in_sync_is_asked_once() {
    let mut rig = Rig::new(&["a", "d"]);
    rig.says("a", &wanted(2, &["a", "c", "d"]));
    let joined = rig.joined("d");
    rig.says("a", &joined);
    rig.starts("c", 1);
    rig.pass(10_500);
    assert_eq!(rig.shown(), "*a d +c");
    rig.pass(30_500);
    assert_eq!(rig.shown(), "*a d");
    let before = rig.group().changed;
    rig.pass(60_000);
    assert_eq!(rig.group().changed, before);
    // A primary is not moved for it.
    rig.ends("a");
    assert_eq!(rig.shown(), "*d");
}

#[test]
fn what_cannot_be_ordered_is_refused_with_its_reason() {
    let mut rig = Rig::filled(&["a", "b"]);
    let coordinator = &mut rig.coordinator;
    let refused = [
        ("another", "a", StoreOrderError::UnknownStore),
        ("store", "d", StoreOrderError::NoCandidate),
    ];
    for (store, node, reason) in refused {
        assert_eq!(coordinator.move_store(store, node), Err(reason));
        assert_eq!(coordinator.adopt_store(store, node), Err(reason));
    }
    let has_primary = Err(StoreOrderError::HasPrimary);
    assert_eq!(coordinator.adopt_store("store", "b"), has_primary);
    rig.ends("c");
    let out = Err(StoreOrderError::Out);
    assert_eq!(rig.coordinator.move_store("store", "c"), out);
    assert_eq!(rig.shown(), "*a b");
    let mut other = Coordinator::new(config("b"), DiskId([2; 16]), None, Mono(0), 1).unwrap();
    let not_leading = Err(StoreOrderError::NotLeading);
    assert_eq!(other.move_store("store", "a"), not_leading);
}

#[test]
fn a_store_that_waits_begins_with_what_an_operator_adopts() {
    let mut rig = Rig::filled(&["a"]);
    rig.ends("a");
    let waits = Err(StoreOrderError::Waits);
    assert_eq!(rig.coordinator.move_store("store", "c"), waits);
    rig.coordinator.adopt_store("store", "c").unwrap();
    rig.settle();
    assert_eq!(rig.shown(), "*c");
    assert!(rig.group().began > rig.group().opened);
}

/// More changes than one entry holds follow one another.
#[test]
fn stores_are_opened_by_the_hundred() {
    let mut rig = Rig::new(&["a", "b"]);
    rig.pass(1000);
    let mut wanted = wanted(2, &["c", "b", "a"]);
    for number in 0..400 {
        wanted.store = format!("{number:0>250}");
        rig.says("a", &wanted);
    }
    let before = rig.proposals;
    rig.pass(2_500);
    let view = rig.coordinator.view().unwrap();
    assert_eq!(view.stores().count(), 400);
    let entries = rig.proposals - before;
    assert!((4..20).contains(&entries), "{entries} entries");
}
