//! What a node sends to whom, and what an answer is worth.

use super::*;

fn at(ms: u64) -> Mono {
    Mono(ms * 1_000_000)
}

fn seen(number: u64, term: u64) -> LeaseAnswer {
    LeaseAnswer {
        number,
        term,
        epoch: 5,
        session: 0,
        is_out: false,
        voters: 0,
        confirmed: None,
        generation: None,
    }
}

fn granted(number: u64, term: u64) -> LeaseAnswer {
    LeaseAnswer {
        session: 5,
        voters: 3,
        ..seen(number, term)
    }
}

#[test]
fn a_lease_needs_the_leader_and_most_voters_of_one_term() {
    let mut lease = Lease::new(at(0));
    let number = lease.renew(at(0)).unwrap().number;
    assert_eq!(lease.renew(at(499)), None);
    assert_eq!(lease.standing(at(1)), Standing::Alone);
    assert_eq!(
        lease.answered("a", &granted(number, 4), at(3)),
        Heard::Nothing
    );
    // A voter of another term has moved on.
    assert_eq!(lease.answered("b", &seen(number, 5), at(4)), Heard::Nothing);
    assert!(!lease.runs(at(4)));
    assert_eq!(lease.answered("c", &seen(number, 4), at(5)), Heard::Granted);
    assert_eq!(lease.standing(at(5)), Standing::In);
    // It runs from when it was sent.
    assert!(lease.runs(at(1999)));
    assert!(!lease.runs(at(2000)));
    assert_eq!(lease.standing(at(2000)), Standing::Suspended);
}

#[test]
fn the_same_voter_twice_is_one() {
    let mut lease = Lease::new(at(0));
    let number = lease.renew(at(0)).unwrap().number;
    lease.answered("a", &granted(number, 4), at(1));
    lease.answered("a", &granted(number, 4), at(2));
    lease.answered("a", &seen(number, 4), at(2));
    assert!(!lease.runs(at(3)));
}

#[test]
fn a_node_that_was_stopped_takes_no_old_answer() {
    let mut lease = Lease::new(at(0));
    let number = lease.renew(at(0)).unwrap().number;
    lease.answered("a", &granted(number, 4), at(1));
    assert!(lease.turn(at(1500)));
    assert_eq!(
        lease.answered("b", &seen(number, 4), at(1500)),
        Heard::Nothing
    );
    assert!(!lease.runs(at(1500)));
    let number = lease.renew(at(1500)).unwrap().number;
    assert!(!lease.turn(at(1600)));
    lease.answered("a", &granted(number, 4), at(1601));
    assert_eq!(
        lease.answered("b", &seen(number, 4), at(1602)),
        Heard::Granted
    );
}

#[test]
fn who_is_out_asks_again_at_once() {
    let mut lease = Lease::new(at(0));
    let number = lease.renew(at(0)).unwrap().number;
    lease.answered("a", &granted(number, 4), at(1));
    lease.answered("b", &seen(number, 4), at(1));
    let number = lease.renew(at(500)).unwrap().number;
    let out = LeaseAnswer {
        is_out: true,
        ..seen(number, 4)
    };
    assert_eq!(lease.answered("a", &out, at(501)), Heard::Out);
    assert_eq!(lease.standing(at(501)), Standing::Out);
    assert!(lease.renew(at(501)).is_some());
    // Once is enough.
    assert_eq!(lease.answered("a", &out, at(502)), Heard::Nothing);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut lease = Lease::new(at(0));
    for number in 0..100 {
        lease.renew(at(number * 500));
    }
    assert_eq!(lease.sent.len(), UNDER_WAY);
    for term in 0..100 {
        for voter in 0..100 {
            lease.answered(&format!("v{voter}"), &seen(100, term), at(50_000));
        }
    }
    let last = lease.sent.back().unwrap();
    assert!(last.seen.len() <= UNDER_WAY);
    assert!(last.seen.values().all(|it| it.len() <= UNDER_WAY));
}

/// A leader's answer that counts alone.
fn confirmed(number: u64) -> LeaseAnswer {
    LeaseAnswer {
        confirmed: Some(true),
        ..granted(number, 4)
    }
}

/// A leader's answer that counts with others', of one that could have found out by itself that it leads.
fn can_confirm(number: u64) -> LeaseAnswer {
    LeaseAnswer {
        confirmed: Some(false),
        ..granted(number, 4)
    }
}

/// A node whose loop turns all the time, and what it sends.
struct Node {
    lease: Lease,
    now: u64,
    sent: Vec<String>,
}

impl Node {
    /// It has a lease, by the leader and another voter.
    fn new() -> Self {
        let mut node = Self {
            lease: Lease::new(at(0)),
            now: 0,
            sent: Vec::new(),
        };
        node.pass(0);
        node.hears("a", &can_confirm(1));
        node.hears("b", &seen(1, 4));
        assert_eq!(node.sent(), ["0: 1 to all"]);
        assert!(node.lease.runs(at(1)));
        node
    }

    fn pass(&mut self, millis: u64) {
        for now in self.now..=self.now + millis {
            self.lease.turn(at(now));
            if let Some(Renewal { number, to }) = self.lease.renew(at(now)) {
                let to = to.unwrap_or_else(|| "all".to_owned());
                self.sent.push(format!("{now}: {number} to {to}"));
            }
        }
        self.now += millis;
    }

    fn hears(&mut self, voter: &str, answer: &LeaseAnswer) -> Heard {
        self.lease.answered(voter, answer, at(self.now))
    }

    fn sent(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sent)
    }
}

#[test]
fn who_knows_the_leader_renews_there_alone() {
    let mut node = Node::new();
    node.pass(500);
    assert_eq!(node.sent(), ["500: 2 to a"]);
    node.pass(200);
    assert_eq!(node.hears("a", &confirmed(2)), Heard::Granted);
    // It runs from when it was sent.
    assert!(node.lease.runs(at(2499)) && !node.lease.runs(at(2500)));
    node.pass(300);
    node.hears("a", &confirmed(3));
    node.pass(500);
    assert_eq!(node.sent(), ["1000: 3 to a", "1500: 4 to a"]);
}

/// The others are asked at once when the leader has not answered, and soon again as long as the lease runs.
#[test]
fn when_the_leader_does_not_answer_all_are_asked() {
    let mut node = Node::new();
    node.pass(1400);
    assert_eq!(
        node.sent(),
        ["500: 2 to a", "1000: 3 to all", "1250: 4 to all"]
    );
    node.hears("b", &can_confirm(4));
    assert_eq!(node.hears("c", &seen(4, 4)), Heard::Granted);
    node.pass(400);
    assert_eq!(node.sent(), ["1750: 5 to b"]);
    // What comes too late is worth what it was worth when it was asked, and leads nowhere.
    assert_eq!(node.hears("a", &confirmed(2)), Heard::Nothing);
    node.pass(500);
    assert_eq!(node.sent(), ["2250: 6 to all"]);
    // Without a lease it does not hurry.
    node.pass(2500);
    assert_eq!(
        node.sent(),
        [
            "2500: 7 to all",
            "2750: 8 to all",
            "3000: 9 to all",
            "3250: 10 to all",
            "3750: 11 to all",
            "4250: 12 to all",
            "4750: 13 to all"
        ]
    );
}

#[test]
fn who_leads_no_longer_and_says_so_is_not_waited_for() {
    let mut node = Node::new();
    node.pass(500);
    assert_eq!(node.hears("a", &seen(2, 5)), Heard::Nothing);
    node.pass(1);
    assert_eq!(node.sent(), ["500: 2 to a", "500: 3 to all"]);
}

/// Voters of a former release grant as they did, and are asked as they were.
#[test]
fn a_leader_that_cannot_find_out_that_it_leads_is_not_asked_alone() {
    let mut node = Node::new();
    node.pass(500);
    node.hears("a", &granted(2, 4));
    node.pass(1);
    node.hears("a", &granted(3, 4));
    assert_eq!(node.hears("c", &seen(3, 4)), Heard::Granted);
    node.pass(500);
    assert_eq!(
        node.sent(),
        ["500: 2 to a", "500: 3 to all", "1000: 4 to all"]
    );
}

#[test]
fn who_was_stopped_or_is_out_asks_all() {
    let mut node = Node::new();
    node.now = 1400;
    node.pass(0);
    assert_eq!(node.sent(), ["1400: 2 to all"]);
    let mut node = Node::new();
    node.pass(500);
    let out = LeaseAnswer {
        is_out: true,
        ..seen(2, 4)
    };
    assert_eq!(node.hears("a", &out), Heard::Out);
    node.pass(1);
    assert_eq!(node.sent(), ["500: 2 to a", "500: 3 to all"]);
}

/// Two voters that were taken for lost come back together, and decide as before until they hear of the recovery.
#[test]
fn coordinators_from_before_a_recovery_have_no_say() {
    let of = |generation, answer| LeaseAnswer {
        generation: Some(generation),
        ..answer
    };
    let mut lease = Lease::new(at(0));
    lease.sees(&View::founded([7; 16], 1), "node", at(0));
    let number = lease.renew(at(0)).unwrap().number;
    let before = [
        of(0, confirmed(number)),
        of(0, granted(number, 4)),
        of(0, seen(number, 4)),
    ];
    for (voter, answer) in ["a", "a", "b"].iter().zip(&before) {
        assert_eq!(lease.answered(voter, answer, at(1)), Heard::Nothing);
    }
    assert!(!lease.runs(at(1)));
    let now = of(1, confirmed(number));
    assert_eq!(lease.answered("c", &now, at(2)), Heard::Granted);
    let out = LeaseAnswer {
        is_out: true,
        ..before[2].clone()
    };
    assert_eq!(lease.answered("a", &out, at(3)), Heard::Nothing);
    // What was heard of those before is worth nothing when others are heard of.
    let mut lease = Lease::new(at(0));
    let number = lease.renew(at(0)).unwrap().number;
    lease.answered("a", &of(0, seen(number, 4)), at(1));
    let now = of(1, granted(number, 4));
    assert_eq!(lease.answered("c", &now, at(2)), Heard::Nothing);
    assert!(!lease.runs(at(2)));
}
