//! Changes of stores, one by one: what fits is done, and what does not fit does nothing.

use muster_cluster::coordination::{MOST_CANDIDATES, OutReason};

use super::super::{Applied, Entry};
use super::*;

struct Story {
    state: State,
    index: u64,
}

fn life(of: u8) -> EndpointId {
    EndpointId::from_random([of; 16])
}

fn wanted(copies: u64, candidates: &str) -> StoreWanted {
    let candidates = candidates.split_whitespace().map(|node| StoreCandidate {
        node: node.to_owned(),
        box_name: node[..1].to_owned(),
    });
    StoreWanted {
        store: "store".to_owned(),
        persistent: false,
        copies,
        min_copies: 1,
        candidates: candidates.collect(),
    }
}

impl Story {
    /// Nodes of a few boxes are in, each in its first life.
    fn new(nodes: &str) -> Self {
        let mut story = Self {
            state: State::founded([1; 16], 0),
            index: 1,
        };
        for node in nodes.split_whitespace() {
            story.admit(node, 1);
        }
        story
    }

    fn apply(&mut self, changes: Vec<Change>) -> Applied {
        self.index += 1;
        let entry = Entry {
            time: self.index,
            wall: 0,
            changes,
        };
        self.state.apply(self.index, &entry, Sabotage::Nothing)
    }

    fn does(&mut self, change: Change) -> bool {
        self.apply(vec![change]).has_changed
    }

    fn admit(&mut self, node: &str, of: u8) {
        let session = self.state.view().get(node).map_or(0, |it| it.session);
        let change = Change::admit(node, &node[..1], life(of), u64::from(of), session);
        assert!(self.does(change));
    }

    fn out(&self, node: &str, reason: OutReason) -> Change {
        let member = self.state.view().get(node).expect("a member");
        Change::expel(node, member.session, reason)
    }

    fn group(&self) -> &StoreGroup {
        self.state.view().store("store").expect("it was opened")
    }

    /// A change of a kind about a life of a node, in the epoch of the group's last change.
    fn of(&self, kind: u64, node: &str, of: u8) -> Change {
        let copy = StoreCopy::new(node, life(of));
        Change::of_copy(kind, "store", self.group().changed, &copy)
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
}

#[test]
fn a_store_is_opened_once_and_filled_one_after_another() {
    let mut story = Story::new("b c");
    assert!(story.does(Change::open(&wanted(3, "a b c"), 0)));
    assert_eq!(story.shown(), "*b +c");
    let opened = story.index;
    let group = story.group();
    assert_eq!(
        (group.opened, group.began, group.changed),
        (opened, opened, opened)
    );
    assert!(!story.does(Change::open(&wanted(1, "a"), 0)));
    story.admit("a", 1);
    assert_eq!(story.shown(), "*b +c");
    assert_eq!(story.group().changed, opened);
    let joined = story.of(JOINED, "c", 1);
    assert!(story.does(joined.clone()));
    assert_eq!(story.shown(), "*b c +a");
    assert_eq!(story.group().changed, story.index);
    assert!(!story.does(joined));
    let joined = story.of(JOINED, "a", 1);
    assert!(story.does(joined));
    assert_eq!(story.shown(), "*b c a");
    assert_eq!(story.group().began, opened);
}

#[test]
fn what_presupposes_another_epoch_or_another_copy_does_nothing() {
    let mut story = Story::new("a b c");
    story.does(Change::open(&wanted(3, "a b c"), 0));
    let joined = story.of(JOINED, "b", 1);
    let mut early = joined.clone();
    early.store.as_mut().unwrap().epoch -= 1;
    assert!(!story.does(early));
    // Another life, one that was not told, one that is in sync, and a life that is none.
    for (node, of) in [("b", 2), ("c", 1), ("a", 1)] {
        let change = story.of(JOINED, node, of);
        assert!(!story.does(change), "{node} {of}");
    }
    let mut strange = joined.clone();
    strange.life.clear();
    assert!(!story.does(strange));
    let mut unknown = joined.clone();
    unknown.store.as_mut().unwrap().store = "another".to_owned();
    assert!(!story.does(unknown));
    // Of two in one entry the second one has not seen the first.
    let changes = vec![joined.clone(), story.of(PASS, "b", 1)];
    assert!(story.apply(changes).has_changed);
    assert_eq!(story.shown(), "*a b +c");
    assert_eq!(story.group().rank("b"), 1);
}

#[test]
fn neither_the_primary_nor_the_last_copy_is_put_out_of_sync() {
    let mut story = Story::new("a b");
    story.does(Change::open(&wanted(2, "a b"), 0));
    let last = story.of(SHRINK, "a", 1);
    assert!(!story.does(last));
    let joined = story.of(JOINED, "b", 1);
    story.does(joined);
    let primary = story.of(SHRINK, "a", 1);
    assert!(!story.does(primary));
    let other_life = story.of(SHRINK, "b", 2);
    assert!(!story.does(other_life));
    let shrink = story.of(SHRINK, "b", 1);
    assert!(story.does(shrink));
    // It may come again.
    assert_eq!(story.shown(), "*a +b");
}

/// A primary wanted its copy out, and is out itself in the same entry: that copy has everything, and there is no other one.
#[test]
fn no_copy_is_put_out_together_with_the_primary() {
    let changes: [fn(&Story) -> Change; 2] = [
        |story| story.of(SHRINK, "b", 1),
        |story| Change::open(&wanted(1, "a b"), story.group().changed),
    ];
    for change in changes {
        let mut story = Story::new("a b");
        story.does(Change::open(&wanted(2, "a b"), 0));
        let joined = story.of(JOINED, "b", 1);
        story.does(joined);
        let both = vec![story.out("a", OutReason::Reset), change(&story)];
        story.apply(both);
        assert_eq!(story.shown(), "*b");
    }
}

/// A box dies as a whole: its second copy must not take the place of the first one to go with it.
#[test]
fn a_box_that_dies_is_looked_at_when_all_of_it_is_out() {
    let mut story = Story::new("a a2 b");
    story.does(Change::open(&wanted(3, "a a2 b"), 0));
    let joined = story.of(JOINED, "b", 1);
    story.does(joined);
    let change = Change::of_node(MOVE, "store", story.group().changed, "a2");
    assert!(story.does(change));
    let joined = story.of(JOINED, "a2", 1);
    story.does(joined);
    assert_eq!(story.shown(), "*a b a2");
    let both = vec![
        story.out("a", OutReason::Reset),
        story.out("a2", OutReason::Reset),
    ];
    story.apply(both);
    assert_eq!(story.shown(), "*b");
}

#[test]
fn the_last_copies_stay_and_take_their_place_again() {
    let mut story = Story::new("a b");
    story.does(Change::open(&wanted(2, "a b"), 0));
    let joined = story.of(JOINED, "b", 1);
    story.does(joined);
    let began = story.group().began;
    let both = vec![
        story.out("a", OutReason::Silent),
        story.out("b", OutReason::Silent),
    ];
    let applied = story.apply(both);
    assert_eq!(
        (story.shown().as_str(), &*applied.restarted),
        ("a b", &[][..])
    );
    story.admit("b", 1);
    assert_eq!(story.shown(), "*b");
    let out = story.out("b", OutReason::Silent);
    story.does(out);
    // It has missed what the other one has decided alone.
    story.admit("a", 1);
    assert_eq!(story.shown(), "b");
    assert_eq!(story.group().began, began);
    story.admit("b", 1);
    assert_eq!(story.shown(), "*b +a");
    assert_eq!(story.group().began, began);
}

#[test]
fn what_becomes_of_a_primary_is_told_unless_its_store_begins_anew() {
    let mut story = Story::new("a b");
    let told = |applied: Applied| {
        let told = applied.moved.into_iter().map(|it| {
            let (from, to) = (it.from.unwrap_or_default(), it.to.unwrap_or_default());
            format!("{from}>{to} ({})", it.in_sync.join(" "))
        });
        told.collect::<Vec<_>>().join(", ")
    };
    // It is opened, and gets a copy: nobody needs to know.
    let opened = story.apply(vec![Change::open(&wanted(2, "a b"), 0)]);
    let joined = story.of(JOINED, "b", 1);
    assert_eq!(told(opened) + &told(story.apply(vec![joined])), "");
    let change = Change::of_node(MOVE, "store", story.group().changed, "b");
    assert_eq!(told(story.apply(vec![change])), "a>b (a b)");
    // Both are gone, and one comes back in the same entry.
    let out = vec![story.out("b", OutReason::Silent)];
    assert_eq!(told(story.apply(out)), "b>a (a)");
    let out = vec![story.out("a", OutReason::Silent)];
    assert_eq!(told(story.apply(out)), "a> (a)");
    let session = story.state.view().get("a").unwrap().session;
    let back = Change::admit("a", "a", life(1), 1, session);
    assert_eq!(told(story.apply(vec![back])), ">a (a)");
    let left = vec![story.out("a", OutReason::Left)];
    let applied = story.apply(left);
    assert_eq!((applied.restarted.len(), told(applied).as_str()), (1, ""));
}

#[test]
fn a_store_that_begins_anew_is_told() {
    let mut story = Story::new("a b");
    story.does(Change::open(&wanted(1, "a b"), 0));
    let left = story.out("a", OutReason::Left);
    let applied = story.apply(vec![left]);
    assert_eq!(story.shown(), "*b");
    assert_eq!(story.group().began, story.index);
    let told = Restarted {
        store: "store".to_owned(),
        persistent: false,
        last: "a".to_owned(),
        with: Some("b".to_owned()),
    };
    assert_eq!(applied.restarted, [told]);
}

#[test]
fn a_store_that_waits_begins_with_one_by_decision_and_no_other_does() {
    let mut story = Story::new("a b c");
    story.does(Change::open(&wanted(1, "a b"), 0));
    let with =
        |story: &Story, node: &str| Change::of_node(RESTART, "store", story.group().changed, node);
    // It has a primary.
    let early = with(&story, "b");
    assert!(!story.does(early));
    let out = story.out("a", OutReason::Silent);
    story.does(out);
    assert_eq!(story.shown(), "a");
    // One is out, one no candidate.
    for node in ["a", "c", "d"] {
        let change = with(&story, node);
        assert!(!story.does(change), "{node}");
    }
    // The last copy comes back at the same time.
    let session = story.state.view().get("a").unwrap().session;
    let back = Change::admit("a", "a", life(1), 1, session);
    let both = vec![back, with(&story, "b")];
    let applied = story.apply(both);
    assert_eq!((story.shown().as_str(), applied.restarted.len()), ("*a", 0));
    let out = story.out("a", OutReason::Silent);
    story.does(out);
    let change = with(&story, "b");
    assert_eq!(story.apply(vec![change]).restarted.len(), 1);
    assert_eq!(story.shown(), "*b");
    assert_eq!(story.group().began, story.index);
}

#[test]
fn a_primary_moves_to_a_copy_and_a_copy_is_made_where_there_is_none() {
    let mut story = Story::new("a b c d");
    story.does(Change::open(&wanted(2, "a b c"), 0));
    let joined = story.of(JOINED, "b", 1);
    story.does(joined);
    let to =
        |story: &Story, node: &str| Change::of_node(MOVE, "store", story.group().changed, node);
    // Where it is, and where it cannot be.
    for node in ["a", "d", "e"] {
        let change = to(&story, node);
        assert!(!story.does(change), "{node}");
    }
    let change = to(&story, "b");
    assert!(story.does(change));
    assert_eq!(story.shown(), "a *b");
    let change = to(&story, "c");
    assert!(story.does(change));
    assert_eq!(story.shown(), "a *b +c");
    let again = to(&story, "c");
    assert!(!story.does(again));
    let joined = story.of(JOINED, "c", 1);
    story.does(joined);
    let change = to(&story, "c");
    assert!(story.does(change));
    // The copy that is one too many stays until fewer are wanted.
    assert_eq!(story.shown(), "a b *c");
    let change = Change::open(&wanted(1, "a b c"), story.group().changed);
    assert!(story.does(change));
    assert_eq!(story.shown(), "*c");
}

#[test]
fn who_does_not_get_in_sync_comes_after_the_others() {
    let mut story = Story::new("a b c");
    story.does(Change::open(&wanted(2, "a b c"), 0));
    assert_eq!(story.shown(), "*a +b");
    let other = story.of(PASS, "c", 1);
    assert!(!story.does(other));
    let pass = story.of(PASS, "b", 1);
    assert!(story.does(pass));
    assert_eq!(story.shown(), "*a +c");
    assert_eq!((story.group().rank("c"), story.group().rank("b")), (1, 2));
    // The same candidates in another order are no reason to go back.
    let same = Change::open(&wanted(2, "a b c"), story.group().changed);
    assert!(!story.does(same));
    let fewer = Change::open(&wanted(2, "a b"), story.group().changed);
    assert!(story.does(fewer));
    assert_eq!(story.shown(), "*a +b");
}

#[test]
fn what_keeps_a_store_never_changes() {
    let mut story = Story::new("a b");
    story.does(Change::open(&wanted(1, "a"), 0));
    let mut on_disk = wanted(2, "a b");
    on_disk.persistent = true;
    let change = Change::open(&on_disk, story.group().changed);
    assert!(!story.does(change));
    let impossible = Change::open(&wanted(9, "a"), story.group().changed);
    assert!(!story.does(impossible));
}

/// What a state weighs is bounded, so that it can be kept whatever is opened.
#[test]
fn there_is_no_room_for_more_than_can_be_kept() {
    let mut story = Story::new("a");
    let long = |number: usize| StoreCandidate {
        node: format!("{number:0>128}"),
        box_name: format!("{number:0>255}"),
    };
    let mut wanted = wanted(8, "a");
    wanted.candidates = (0..MOST_CANDIDATES).map(long).collect();
    for node in &wanted.candidates {
        let change = Change::admit(&node.node, &node.box_name, life(1), 1, 0);
        story.does(change);
    }
    let mut opened = 0;
    loop {
        wanted.store = format!("{opened:0>255}");
        if !story.does(Change::open(&wanted, 0)) {
            break;
        }
        opened += 1;
        for copy in &wanted.candidates[1..8] {
            let changed = story.state.view().store(&wanted.store).unwrap().changed;
            let copy = StoreCopy::new(&copy.node, life(1));
            let joined = Change::of_copy(JOINED, &wanted.store, changed, &copy);
            assert!(story.does(joined));
        }
    }
    assert!(opened > 300, "{opened}");
    let bytes = story.state.encode().len();
    assert!(bytes < MOST_WEIGHT, "{bytes} bytes");
    assert_eq!(State::decode(&story.state.encode()), Ok(story.state));
}

#[test]
fn there_are_no_more_stores_than_a_view_has() {
    let mut story = Story::new("a b");
    let mut wanted = wanted(2, "a b");
    for first in (0..MOST_STORES).step_by(128) {
        let changes = (first..first + 128).map(|number| {
            wanted.store = number.to_string();
            Change::open(&wanted, 0)
        });
        let changes = changes.collect();
        assert!(story.apply(changes).has_changed);
    }
    assert_eq!(story.state.view().stores().count(), MOST_STORES);
    wanted.store = "another".to_owned();
    assert!(!story.does(Change::open(&wanted, 0)));
}
