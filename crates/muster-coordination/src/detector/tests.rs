//! Transcripts: what a leader hears, and what it decides when.

use super::*;
use crate::state::{ADMIT, Entry, FORGET};

/// The leader's detector, and what was agreed on by its proposals.
struct Rig {
    detector: Detector,
    state: State,
    now: Mono,
    index: u64,
    decided: Vec<String>,
}

fn id(life: u8) -> EndpointId {
    EndpointId::from_random([life; 16])
}

impl Rig {
    /// Two nodes on each of two boxes.
    fn new() -> Self {
        let nodes = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")];
        let layout = nodes.map(|(node, on)| (node.to_owned(), on.to_owned()));
        Self {
            detector: Detector::new(layout.into(), Mono(0)),
            state: State::founded([1; 16], 0),
            now: Mono(0),
            index: 1,
            decided: Vec::new(),
        }
    }

    /// All are in, in the lives 1 to 4.
    fn all_in() -> Self {
        let mut rig = Self::new();
        for (life, node) in (1..).zip(["a1", "a2", "b1", "b2"]) {
            rig.reached(life);
            rig.renew(node, life);
        }
        rig.pass(100);
        assert_eq!(
            rig.decided(),
            ["50 in a1", "50 in a2", "50 in b1", "50 in b2"]
        );
        rig
    }

    fn reached(&mut self, life: u8) {
        self.detector.reaches(id(life), true, self.now);
    }

    fn lost(&mut self, life: u8) {
        self.detector.reaches(id(life), false, self.now);
    }

    fn renew(&mut self, node: &str, life: u8) {
        let renew = Renew {
            node: node.to_owned(),
            box_name: node[..1].to_owned(),
            incarnation: life.into(),
            session: 0,
            number: 0,
            alone: None,
        };
        let member = self.state.view().get(node);
        let member = member.filter(|it| it.out.is_none()).map(|it| it.life);
        self.detector.renewed(id(life), renew, member, self.now);
    }

    /// Looks every 50 ms, as a leader does, and applies what is proposed.
    fn pass(&mut self, millis: u64) {
        self.pass_with(millis, &[]);
    }

    /// The same while some renew.
    fn pass_with(&mut self, millis: u64, renewing: &[(&str, u8)]) {
        for _ in 0..millis / 50 {
            self.now = self.now.after(Duration::from_millis(50));
            let time = self.now.0 / 1_000_000;
            if time.is_multiple_of(500) {
                for (node, life) in renewing {
                    self.renew(node, *life);
                }
            }
            let changes = self.detector.decide(&self.state, time, self.now);
            for change in &changes {
                let node = &change.node;
                self.decided.push(match change.kind {
                    ADMIT => format!("{time} in {node}"),
                    FORGET => format!("{time} forget {node}"),
                    _ => format!("{time} out {node}: {}", OutReason::of(change.reason).text()),
                });
            }
            if !changes.is_empty() {
                self.index += 1;
                let wall = time / 1000;
                self.state.apply(
                    self.index,
                    &Entry {
                        time,
                        wall,
                        changes,
                    },
                    Sabotage::Nothing,
                );
            }
        }
    }

    fn decided(&mut self) -> Vec<String> {
        std::mem::take(&mut self.decided)
    }
}

const ALL: [(&str, u8); 4] = [("a1", 1), ("a2", 2), ("b1", 3), ("b2", 4)];
const NOTHING: [&str; 0] = [];

#[test]
fn who_renews_stays() {
    let mut rig = Rig::all_in();
    rig.pass_with(60_000, &ALL);
    assert_eq!(rig.decided(), NOTHING);
}

/// One of its nodes is noticed first: the others do not take over from it for a moment.
#[test]
fn a_box_is_out_as_a_whole() {
    let mut rig = Rig::all_in();
    rig.lost(1);
    rig.pass(100);
    rig.lost(2);
    rig.pass(50);
    assert_eq!(rig.decided(), NOTHING, "it may be led another way");
    rig.pass(100);
    assert_eq!(
        rig.decided(),
        ["300 out a1: out of reach", "300 out a2: out of reach"]
    );
}

#[test]
fn one_node_alone_is_out_alone() {
    let mut rig = Rig::all_in();
    rig.lost(1);
    rig.pass_with(1000, &ALL[1..]);
    assert_eq!(rig.decided(), ["300 out a1: out of reach"]);
}

#[test]
fn who_is_back_within_the_grace_stays() {
    let mut rig = Rig::all_in();
    rig.lost(1);
    rig.pass(150);
    rig.reached(1);
    rig.pass_with(5000, &ALL);
    assert_eq!(rig.decided(), NOTHING);
}

#[test]
fn who_does_not_renew_is_out_when_its_lease_is_over() {
    let mut rig = Rig::all_in();
    rig.pass_with(5000, &ALL[..3]);
    // It was heard at 0.
    assert_eq!(rig.decided(), ["2850 out b2: does not answer"]);
}

/// Silence counts from when a leader begins: others may have heard what it has not.
#[test]
fn a_new_leader_counts_from_its_beginning() {
    let mut rig = Rig::all_in();
    rig.pass_with(2400, &ALL[..3]);
    rig.detector.counts_from(rig.now);
    rig.pass_with(2800, &ALL[..3]);
    assert_eq!(rig.decided(), NOTHING);
    rig.pass_with(50, &ALL[..3]);
    assert_eq!(rig.decided(), ["5350 out b2: does not answer"]);
}

/// A new leader has never reached what crashed before it was there: that is found out by silence.
#[test]
fn whom_a_leader_has_never_reached_is_out_by_silence() {
    let mut rig = Rig::all_in();
    rig.detector = Detector::new(rig.detector.layout.clone(), rig.now);
    for life in 2..=4 {
        rig.reached(life);
    }
    rig.pass_with(4000, &ALL[1..]);
    assert_eq!(rig.decided(), ["2950 out a1: does not answer"]);
}

#[test]
fn the_next_life_follows_when_the_old_one_is_out_of_reach() {
    let mut rig = Rig::all_in();
    rig.reached(11);
    rig.renew("a1", 11);
    rig.pass(100);
    assert_eq!(rig.decided(), NOTHING, "two processes of one name");
    rig.lost(1);
    rig.pass(150);
    rig.renew("a1", 11);
    rig.pass(150);
    assert_eq!(rig.decided(), ["400 out a1: begun anew", "450 in a1"]);
    assert_eq!(rig.state.view().get("a1").unwrap().life, id(11));
}

/// Of a box whose nodes are all started anew none is out of reach for good.
#[test]
fn a_box_that_is_started_anew_is_not_out_for_what_is_there() {
    let mut rig = Rig::all_in();
    rig.lost(1);
    rig.lost(2);
    for (node, life) in [("a1", 11), ("a2", 12)] {
        rig.reached(life);
        rig.renew(node, life);
    }
    rig.pass(300);
    assert_eq!(
        rig.decided(),
        [
            "300 out a1: begun anew",
            "300 out a2: begun anew",
            "350 in a1",
            "350 in a2"
        ]
    );
}

#[test]
fn who_leaves_is_out_at_once_and_comes_back_when_it_asks() {
    let mut rig = Rig::all_in();
    rig.detector.leaves(id(1), "a1");
    rig.pass(50);
    assert_eq!(rig.decided(), ["150 out a1: stopped"]);
    rig.lost(1);
    rig.pass_with(1000, &ALL[1..]);
    assert_eq!(rig.decided(), NOTHING);
    rig.reached(11);
    rig.renew("a1", 11);
    rig.pass(50);
    assert_eq!(rig.decided(), ["1200 in a1"]);
}

/// Who says of another life that it leaves changes nothing.
#[test]
fn only_the_life_itself_leaves() {
    let mut rig = Rig::all_in();
    rig.detector.leaves(id(2), "a1");
    rig.detector.leaves(id(9), "a1");
    rig.pass_with(1000, &ALL);
    assert_eq!(rig.decided(), NOTHING);
}

#[test]
fn who_is_not_in_reach_is_not_admitted() {
    let mut rig = Rig::new();
    rig.renew("a1", 1);
    rig.pass(500);
    assert_eq!(rig.decided(), NOTHING);
    rig.reached(1);
    rig.pass(100);
    assert_eq!(rig.decided(), ["550 in a1"]);
    // An old wish is none.
    rig.renew("b1", 3);
    rig.pass(1500);
    rig.reached(3);
    rig.pass(100);
    assert_eq!(rig.decided(), NOTHING);
}

/// It waits a second longer each time; who leaves in order does not.
#[test]
fn who_comes_and_goes_waits_longer_each_time() {
    let mut rig = Rig::all_in();
    let mut waits = Vec::new();
    let mut others = ALL.to_vec();
    for life in 11..24 {
        rig.lost(others[0].1);
        rig.pass_with(250, &others[1..]);
        others[0].1 = life;
        let from = rig.now.0 / 1_000_000;
        rig.reached(life);
        rig.decided();
        while rig.decided.is_empty() {
            rig.renew("a1", life);
            rig.pass_with(50, &others);
        }
        waits.push((rig.now.0 / 1_000_000 - from) / 1000);
    }
    assert_eq!(waits, [0, 0, 0, 1, 3, 7, 15, 31, 59, 59, 59, 59, 59]);
}

/// What a layout does not have any more is forgotten an hour after it went.
#[test]
fn a_node_that_no_layout_has_is_forgotten() {
    let mut rig = Rig::all_in();
    rig.detector.layout.remove("b2");
    rig.pass_with(3000, &ALL[..3]);
    assert_eq!(rig.decided(), ["2850 out b2: does not answer"]);
    rig.now = rig.now.after(Duration::from_secs(3599));
    for (node, life) in &ALL[..3] {
        rig.renew(node, *life);
    }
    rig.pass(2000);
    assert_eq!(rig.decided(), ["3602900 forget b2"]);
    assert_eq!(rig.state.view().is_in("b2"), None);
}

/// A name that others use, too, does not take from the node that is in what was heard of it.
#[test]
fn others_under_its_name_do_not_make_a_node_silent() {
    let mut rig = Rig::all_in();
    for _ in 0..100 {
        rig.pass_with(50, &ALL);
        for life in 20..30 {
            rig.renew("a1", life);
        }
    }
    assert_eq!(rig.decided(), NOTHING);
    assert!(rig.detector.heard.len() <= 4 * LIVES);
}

/// Who does not lead decides nothing, and forgets all the same.
#[test]
fn what_is_out_of_reach_is_forgotten_by_all_and_bounded() {
    let mut rig = Rig::all_in();
    for number in 0..9_000_u32 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        let id = EndpointId::from_random(bytes);
        rig.detector.reaches(id, true, rig.now);
        rig.detector.reaches(id, false, rig.now);
    }
    assert!(rig.detector.lost.len() <= MOST_LOST);
    rig.lost(1);
    assert!(rig.detector.lost.contains_key(&id(1)));
    rig.now = rig.now.after(FORGOTTEN);
    rig.detector.forget_old(rig.now);
    assert_eq!(rig.detector.lost.len(), 0);
}
