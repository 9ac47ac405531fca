//! When nodes count as mutually up, and what is said of those that do not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use muster_cluster::{
    Layout, Look, Membership, NodeName, PoolName, Quorum, Readiness, ReadyError, Role,
};
use muster_data::Timestamp;
use muster_wire::{EndpointId, Incarnation, Mono};

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker", count = 3 },
    ]
"#;

fn id(n: u8) -> EndpointId {
    EndpointId::from_random([n; 16])
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// The manager, life 0, and whom it sees.
struct Table {
    layout: Layout,
    members: Membership,
    now: Mono,
    numbers: u64,
}

impl Table {
    fn new() -> Self {
        let layout = Layout::parse(LAYOUT, "x", &[]).unwrap();
        let zero = Timestamp::from_secs(0);
        let members = Membership::new(&layout, &name("manager"), id(0), Incarnation(1), zero);
        Self {
            layout,
            members,
            now: Mono(0),
            numbers: 0,
        }
    }

    fn up(&mut self, who: &str, n: u8) {
        self.comes(who, n, Some(Incarnation(u64::from(n))));
    }

    fn comes(&mut self, who: &str, n: u8, incarnation: Option<Incarnation>) {
        self.members
            .peer_added(id(n), true, Timestamp::from_secs(0));
        let events = self.members.hello(id(n), who, id(n), incarnation);
        assert_eq!(events.len(), 1);
    }

    fn down(&mut self, n: u8) {
        assert_eq!(self.members.peer_lost(id(n)).len(), 1);
    }

    fn wait(&self, quorum: &Quorum) -> Readiness {
        let deadline = self.now.after(Duration::from_secs(10));
        Readiness::new(&self.layout, quorum, self.now, deadline).unwrap()
    }

    fn look(&mut self, wait: &mut Readiness) -> Look {
        wait.look(&self.layout, &self.members, self.now, || {
            self.numbers += 1;
            self.numbers
        })
    }

    /// Looks when the wait wants it, and expects a question after so many milliseconds.
    fn asks_after(&mut self, wait: &mut Readiness, millis: u64) -> (u64, Arc<[EndpointId]>) {
        let before = self.now;
        loop {
            match self.look(wait) {
                Look::Ask { question, lives } => {
                    let span = self.now.since(before);
                    assert_eq!(span, Duration::from_millis(millis));
                    return (question, lives);
                }
                Look::Wait => self.now = wait.next_deadline(),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What is said at the deadline.
    fn lack(&mut self, wait: &mut Readiness) -> String {
        self.now = self.now.after(Duration::from_secs(10));
        match self.look(wait) {
            Look::NotReady(lack) => lack.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn all_are_ready_when_everybody_has_said_that_it_misses_nobody() {
    let mut table = Table::new();
    let mut wait = table.wait(&Quorum::Roles(vec![Role::Manager, Role::Proxy]));
    assert_eq!(table.look(&mut wait), Look::Wait);
    table.up("data-1", 1);
    assert_eq!(table.look(&mut wait), Look::Wait, "too few are up");
    table.up("data-2", 2);
    let (question, lives) = table.asks_after(&mut wait, 0);
    assert_eq!((question, lives.len()), (1, 3));
    // One comes again, twice: a burst is one question.
    for (gone, new) in [(2, 3), (3, 4)] {
        table.down(gone);
        table.up("data-2", new);
        assert_eq!(table.look(&mut wait), Look::Wait);
    }
    let (question, lives) = table.asks_after(&mut wait, 50);
    assert_eq!((question, lives.len()), (2, 3));
    assert!(wait.answered(&name("data-1"), id(1), 2, &[id(4)]));
    assert!(wait.answered(&name("data-2"), id(4), 2, &[]));
    assert_eq!(table.look(&mut wait), Look::Wait);
    // The question is repeated, with the same number, ever more rarely.
    for millis in [100, 200, 400, 800, 1_000, 1_000] {
        assert_eq!(table.asks_after(&mut wait, millis).0, 2);
    }
    assert!(!wait.answered(&name("data-1"), id(1), 1, &[]), "late");
    assert!(
        !wait.answered(&name("worker-1"), id(5), 2, &[]),
        "not asked"
    );
    // It is lost for a moment: whoever answered before has to answer again.
    table.down(4);
    assert_eq!(table.look(&mut wait), Look::Wait);
    table.up("data-2", 4);
    assert_eq!(table.asks_after(&mut wait, 50).0, 3);
    assert!(wait.answered(&name("data-1"), id(1), 3, &[]));
    assert_eq!(table.look(&mut wait), Look::Wait);
    assert!(wait.answered(&name("data-2"), id(4), 3, &[]));
    assert_eq!(table.look(&mut wait), Look::Ready);
}

#[test]
fn an_answer_counts_for_the_lives_that_it_was_asked_for() {
    let mut table = Table::new();
    table.up("data-1", 1);
    table.up("data-2", 2);
    let mut wait = table.wait(&Quorum::Roles(vec![Role::Proxy]));
    assert_eq!(table.asks_after(&mut wait, 0).0, 1);
    wait.answered(&name("data-2"), id(2), 1, &[]);
    // It comes again: data-2 has answered for the life before, and the new one not at all.
    table.down(1);
    table.up("data-1", 3);
    assert_eq!(table.asks_after(&mut wait, 50).0, 2);
    wait.answered(&name("data-1"), id(3), 2, &[]);
    assert_eq!(table.look(&mut wait), Look::Wait);
    assert_eq!(
        table.lack(&mut wait.clone()),
        "1 of 2 nodes are mutually up; data-2 does not see data-1"
    );
    wait.answered(&name("data-2"), id(2), 2, &[]);
    assert_eq!(table.look(&mut wait), Look::Ready);
}

#[test]
fn an_error_names_who_is_down_who_is_silent_and_who_does_not_see_whom() {
    let mut table = Table::new();
    for (who, n) in [("data-1", 1), ("worker-1", 2), ("worker-2", 3)] {
        table.up(who, n);
    }
    let mut wait = table.wait(&Quorum::All);
    // Too few are up: they are asked shortly before the deadline, for the error's sake.
    table.asks_after(&mut wait, 9_000);
    wait.answered(&name("data-1"), id(1), 1, &[id(0), id(3)]);
    wait.answered(&name("worker-1"), id(2), 1, &[]);
    assert_eq!(
        table.lack(&mut wait),
        "2 of 6 nodes are mutually up; not up: data-2, worker-3; up, but without an answer: worker-2; \
         data-1 does not see manager"
    );
    // Whoever misses too many is taken to see nobody.
    let mut wait = table.wait(&Quorum::Roles(vec![Role::Worker]));
    let (question, _) = table.asks_after(&mut wait, 9_000);
    let many: Vec<_> = (100..=255).map(id).collect();
    wait.answered(&name("worker-1"), id(2), question, &many);
    wait.answered(&name("worker-2"), id(3), question, &[id(2)]);
    assert_eq!(
        table.lack(&mut wait),
        "1 of 3 nodes are mutually up; not up: worker-3; worker-1 does not see worker-2, worker-1 does \
         not see manager, worker-2 does not see worker-1"
    );
}

#[test]
fn some_of_a_kind_are_enough_if_they_see_one_another() {
    let mut table = Table::new();
    for (who, n) in [("worker-1", 1), ("worker-2", 2), ("worker-3", 3)] {
        table.up(who, n);
    }
    let mut wait = table.wait(&Quorum::OfRole(Role::Worker, 2));
    table.asks_after(&mut wait, 0);
    // 1 and 2 do not see one another, and 3 does not see us.
    wait.answered(&name("worker-1"), id(1), 1, &[id(2)]);
    wait.answered(&name("worker-2"), id(2), 1, &[id(1)]);
    wait.answered(&name("worker-3"), id(3), 1, &[id(0)]);
    assert_eq!(table.look(&mut wait), Look::Wait);
    wait.answered(&name("worker-3"), id(3), 1, &[]);
    assert_eq!(table.look(&mut wait), Look::Ready);
    // Nobody has to be asked: this node sees itself.
    let pool = Quorum::OfPool(PoolName::logger(), 1);
    let mut wait = table.wait(&pool);
    assert_eq!(table.look(&mut wait), Look::Ready);
}

#[test]
fn zeek_nodes_count_from_their_hello() {
    let mut table = Table::new();
    table.comes("data-1", 1, None);
    table.up("data-2", 2);
    table.up("worker-1", 3);
    table.comes("worker-2", 4, None);
    let mut wait = table.wait(&Quorum::OfRole(Role::Proxy, 2));
    table.asks_after(&mut wait, 0);
    wait.answered(&name("data-2"), id(2), 1, &[id(1)]);
    assert_eq!(table.look(&mut wait), Look::Wait, "they are linked");
    wait.answered(&name("data-2"), id(2), 1, &[]);
    assert_eq!(table.look(&mut wait), Look::Ready);
    // Workers are not: no Muster worker ever sees one of Zeek.
    let mut wait = table.wait(&Quorum::OfRole(Role::Worker, 2));
    let (question, _) = table.asks_after(&mut wait, 0);
    wait.answered(&name("worker-1"), id(3), question, &[id(4)]);
    assert_eq!(table.look(&mut wait), Look::Ready);
}

#[test]
fn what_can_never_be_is_refused() {
    let table = Table::new();
    let refused = |quorum| {
        let wait = Readiness::new(&table.layout, &quorum, Mono(0), Mono(1));
        wait.map(|_| ()).unwrap_err()
    };
    let pool = PoolName::new("nope").unwrap();
    let unknown = refused(Quorum::OfPool(pool.clone(), 1));
    assert_eq!(unknown, ReadyError::UnknownPool(pool));
    assert_eq!(
        refused(Quorum::OfRole(Role::Worker, 4)).to_string(),
        "4 nodes are to be ready, but the layout has only 3 of that kind"
    );
}
