use muster_data::Timestamp;
use muster_wire::{EndpointId, Mono};

use super::*;
use crate::instance::InstanceConfig;
use crate::op::{Answer, Op};
use crate::protocol::{Query, Reply};
use crate::{
    Backend, Commit, CopyRole, Encoded, Hears, Level, MemoryBackend, Placement, SettledWrite,
    StoreName, StorePart, WriteFailure,
};

const ME: u8 = 1;
const OTHER: u8 = 2;

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

fn at(millis: u64) -> Now {
    Now {
        mono: Mono(1 + millis * 1_000_000),
        wall: Timestamp::from_nanos(1_000 + i64::try_from(millis).unwrap() * 1_000_000),
    }
}

fn put(key: &str) -> Op {
    Op::Put {
        key: Encoded::key(key),
        value: Encoded::of(&1u64),
        ttl: None,
    }
}

fn assignment(epoch: u64, primary: u8, in_sync: &[u8], joining: Option<u8>) -> Assignment {
    Assignment {
        epoch,
        began: 1,
        primary: Some(id(primary)),
        in_sync: in_sync.iter().map(|number| id(*number)).collect(),
        joining: joining.map(id),
        min_copies: 1,
    }
}

/// An instance with a disk that does what it is asked to when it is told.
struct Node {
    instance: Instance,
    disk: MemoryBackend,
    commits: Vec<Commit>,
    loads: usize,
}

impl Node {
    fn new() -> Self {
        let config = InstanceConfig {
            endpoint: id(ME),
            number: 1,
            frame_limit: 1 << 20,
            rival_patience: Duration::from_secs(6),
        };
        let mut instance = Instance::new(StoreName::new("kv").unwrap(), config, at(0));
        instance.set_watched(true);
        Self {
            instance,
            disk: MemoryBackend::default(),
            commits: Vec::new(),
            loads: 0,
        }
    }

    fn primary(&mut self, is_persistent: bool) {
        let placement = Placement::Primary {
            config: PrimaryConfig::default(),
            backend: is_persistent.then_some("memory for tests"),
        };
        self.instance.open(placement, at(0));
        self.drain();
    }

    fn clone(&mut self) {
        let placement = Placement::Clone(CloneConfig::default());
        self.instance.open(placement, at(0));
        self.drain();
    }

    fn assign(&mut self, assignment: Assignment, is_persistent: bool, now: Now) -> Vec<Output> {
        let backend = is_persistent.then_some("memory for tests");
        let config = PrimaryConfig::default();
        self.instance.assign(assignment, &config, backend, now);
        self.drain()
    }

    fn write(&mut self, key: &str, level: Level, token: u64, now: Now) -> Vec<Output> {
        let outcome = self.instance.write(put(key), level, token, None, now);
        let mut out = self.drain();
        let settled = outcome.map(|outcome| SettledWrite { token, outcome });
        out.extend(settled.map(Output::Settled));
        out
    }

    /// What it wants done, but for the disk, which waits.
    fn drain(&mut self) -> Vec<Output> {
        let mut out = Vec::new();
        while let Some(output) = self.instance.poll() {
            match output {
                Output::Commit(commit) => self.commits.push(commit),
                Output::Load { .. } => self.loads += 1,
                output => out.push(output),
            }
        }
        out
    }

    fn load(&mut self, now: Now) -> Vec<Output> {
        assert!(self.loads > 0, "nothing is to be read");
        self.loads -= 1;
        let restored = Restored::load(&mut self.disk, 1 << 20).ok();
        self.instance.loaded(restored, now);
        self.drain()
    }

    fn commit(&mut self, now: Now) -> Vec<Output> {
        let commit = self.commits.remove(0);
        let failed = self.disk.commit(&commit).is_err().then_some(commit);
        self.instance.committed(failed, now);
        self.drain()
    }

    fn keys(&self) -> usize {
        self.instance.entries().unwrap().len()
    }
}

fn settled(out: &[Output]) -> Vec<(u64, bool)> {
    let settled = out.iter().filter_map(|output| match output {
        Output::Settled(settled) => Some(settled),
        _ => None,
    });
    settled
        .map(|it| (it.token, matches!(it.outcome, Ok(Answer::Done { .. }))))
        .collect()
}

fn changes(out: &[Output]) -> usize {
    let is_change = |output: &&Output| matches!(output, Output::Changed(_));
    out.iter().filter(is_change).count()
}

fn has(out: &[Output], notice: Notice) -> bool {
    out.contains(&Output::Notice(notice))
}

#[test]
fn a_primary_that_is_put_where_it_is_goes_on_with_what_it_has() {
    let mut node = Node::new();
    node.primary(true);
    node.load(at(0));
    assert_eq!(settled(&node.write("a", Level::Durable, 1, at(1))), []);
    let before = node.instance.applied().timeline;
    let out = node.assign(assignment(1, ME, &[ME], None), true, at(2));
    assert!(node.instance.is_primary() && !has(&out, Notice::WritesGivenUp));
    assert_eq!(
        changes(&out),
        0,
        "nothing has changed for those who watch: {out:?}"
    );
    assert_eq!(node.keys(), 1);
    assert!(
        node.instance.applied().timeline > before,
        "clones attach again"
    );
    assert_eq!(settled(&node.commit(at(3))), [(1, true)]);
    let out = node.write("b", Level::Applied, 2, at(4));
    assert_eq!((settled(&out), changes(&out)), (vec![], 1));
    let out = node.write("c", Level::Durable, 3, at(5));
    assert_eq!(settled(&out), []);
    let out = node.commit(at(6));
    assert_eq!((settled(&out), changes(&out)), (vec![(2, true)], 1));
    assert_eq!(settled(&node.commit(at(7))), [(3, true)]);
    let Some(StorePart::Primary(report)) = node.instance.report(at(8).mono).map(|it| it.part)
    else {
        panic!("it is the primary");
    };
    let copies = report.copies.unwrap();
    assert_eq!(
        (copies.role, copies.epoch, copies.in_sync),
        (CopyRole::Primary, 1, 1)
    );
    let hears = Hears {
        for_primary: true,
        for_clones: true,
    };
    assert_eq!(node.instance.hears(), hears);
}

/// The only copy of a persistent store that is in sync, with nothing to be put on disk.
fn alone(config: &PrimaryConfig) -> Node {
    let mut node = Node::new();
    node.clone();
    let kind = Some("memory for tests");
    let alone = assignment(1, ME, &[ME], None);
    node.instance.assign(alone, config, kind, at(1));
    node.drain();
    node.load(at(2));
    while !node.commits.is_empty() {
        node.commit(at(3));
    }
    node
}

#[test]
fn where_one_copy_is_in_sync_its_disk_has_what_others_hear_of() {
    let mut node = alone(&PrimaryConfig::default());
    let mut out = node.write("a", Level::Applied, 1, at(4));
    out.extend(node.write("b", Level::Applied, 2, at(5)));
    // Those who watch here see what is read here.
    assert_eq!((settled(&out), changes(&out)), (vec![], 1), "{out:?}");
    let broadcast = |output: &Output| matches!(output, Output::Broadcast(_));
    assert!(!out.iter().any(broadcast), "clones hear of nothing");
    // A question is answered with what is on disk.
    node.instance.query(9, Query::Size, at(5_000).mono, at(6));
    let replied = |out: &[Output]| {
        let mut replies = out.iter().filter_map(|output| match output {
            Output::Replied { reply, .. } => Some(reply.clone()),
            _ => None,
        });
        replies.next()
    };
    let asked = node.drain();
    assert_eq!(replied(&asked), None);
    let out = node.commit(at(7));
    assert_eq!((settled(&out), changes(&out)), (vec![(1, true)], 1));
    assert_eq!(replied(&out), Some(Reply::Size(1)));
    let out = node.commit(at(8));
    assert_eq!((settled(&out), changes(&out)), (vec![(2, true)], 0));

    // A disk that fails holds nobody: that is told otherwise.
    node.write("c", Level::Applied, 3, at(9));
    let commit = node.commits.remove(0);
    node.instance.committed(Some(commit), at(10));
    assert_eq!(settled(&node.drain()), [(3, true)]);
    assert_eq!(
        settled(&node.write("d", Level::Applied, 4, at(11))),
        [(4, true)]
    );

    // Who does not want that has it as without copies.
    let mut node = alone(&PrimaryConfig {
        alone_durable: false,
        ..PrimaryConfig::default()
    });
    let out = node.write("a", Level::Applied, 1, at(4));
    assert_eq!((settled(&out), changes(&out)), (vec![(1, true)], 1));
}

#[test]
fn the_only_copy_decides_nothing_while_it_hears_no_coordinators() {
    for is_persistent in [false, true] {
        let mut node = Node::new();
        node.clone();
        node.assign(assignment(1, ME, &[ME], None), is_persistent, at(1));
        if is_persistent {
            node.load(at(2));
            while !node.commits.is_empty() {
                node.commit(at(3));
            }
        }
        node.instance.suspend(true, at(4));
        let mut out = node.write("a", Level::Applied, 1, at(5));
        node.instance.query(9, Query::Size, at(5_000).mono, at(6));
        out.extend(node.drain());
        let replied = |out: &[Output]| out.iter().any(|it| matches!(it, Output::Replied { .. }));
        assert_eq!((settled(&out), changes(&out)), (vec![], 0), "{out:?}");
        assert!(!replied(&out) && node.commits.is_empty());
        node.instance.suspend(false, at(7));
        let mut out = node.drain();
        while !node.commits.is_empty() {
            out.extend(node.commit(at(8)));
        }
        assert_eq!((settled(&out), changes(&out)), (vec![(1, true)], 1));
        assert!(replied(&out), "{out:?}");
    }
}

#[test]
fn a_primary_that_is_put_elsewhere_gives_up_what_it_has_and_says_so() {
    for joining in [None, Some(ME)] {
        let mut node = Node::new();
        node.primary(true);
        node.load(at(0));
        node.write("a", Level::Applied, 1, at(1));
        node.write("b", Level::Durable, 2, at(1));
        let out = node.assign(assignment(3, OTHER, &[OTHER], joining), true, at(2));
        assert!(has(&out, Notice::WritesGivenUp));
        let unknown = SettledWrite {
            token: 2,
            outcome: Err(WriteFailure::Unknown),
        };
        assert!(out.contains(&Output::Settled(unknown)));
        assert!(!node.instance.is_primary());
        assert_eq!(
            (node.keys(), changes(&out)),
            (2, 0),
            "read until another one is heard"
        );
        let hears = Hears {
            for_primary: false,
            for_clones: true,
        };
        assert_eq!(node.instance.hears(), hears);
        assert_eq!(node.loads, usize::from(joining.is_some()));
        if joining.is_some() {
            node.commits.clear();
            node.load(at(5));
            let report = node.instance.report(at(6).mono).map(|it| it.part);
            let Some(StorePart::Copy(copy)) = report else {
                panic!("{report:?}");
            };
            assert_eq!(copy.copies.role, CopyRole::Joining);
            assert_eq!(copy.primary, Some(id(OTHER)));
            assert_eq!(node.keys(), 2);
        }
    }
}

#[test]
fn a_file_that_a_primary_has_written_to_of_its_own_accord_is_no_copy_of_the_others() {
    let mut node = Node::new();
    node.clone();
    node.assign(assignment(1, ME, &[ME], None), true, at(0));
    node.load(at(0));
    node.write("a", Level::Durable, 1, at(1));
    while !node.commits.is_empty() {
        node.commit(at(2));
    }
    let of_copies = node.disk.persisted();
    assert!(of_copies.index > 0);

    let mut again = Node::new();
    again.disk = node.disk.clone();
    again.primary(true);
    again.load(at(10));
    again.write("b", Level::Durable, 1, at(11));
    again.commit(at(12));
    let alone = again.disk.persisted();
    assert_eq!(alone.index, 0);
    assert!(alone.timeline > of_copies.timeline);
    let out = again.assign(assignment(7, OTHER, &[OTHER], None), true, at(13));
    assert!(has(&out, Notice::WritesGivenUp));
}

#[test]
fn nothing_is_given_up_where_nothing_was_written() {
    let mut node = Node::new();
    node.clone();
    node.assign(assignment(1, ME, &[ME], None), true, at(0));
    node.load(at(0));
    node.write("a", Level::Durable, 1, at(1));
    node.commit(at(2));
    let mut again = Node::new();
    again.disk = node.disk.clone();
    again.primary(true);
    again.load(at(10));
    let out = again.assign(assignment(7, OTHER, &[OTHER], None), true, at(13));
    assert!(!has(&out, Notice::WritesGivenUp));
}

#[test]
fn a_decision_that_comes_before_the_store_is_open_is_followed_then() {
    for is_persistent in [false, true] {
        for opens_first in [false, true] {
            let mut node = Node::new();
            if opens_first {
                node.primary(is_persistent);
            }
            let decided = assignment(1, ME, &[ME], None);
            node.assign(decided, is_persistent, at(1));
            if !opens_first {
                node.primary(is_persistent);
            }
            let mut out = node.write("a", Level::Applied, 1, at(2));
            while node.loads > 0 {
                out.extend(node.load(at(3)));
            }
            while !node.commits.is_empty() {
                out.extend(node.commit(at(3)));
            }
            assert_eq!(settled(&out), [(1, true)]);
            let report = node.instance.report(at(4).mono).map(|it| it.part);
            let Some(StorePart::Primary(report)) = report else {
                panic!("{report:?}");
            };
            assert!(report.copies.is_some());
            assert_eq!(report.backend == "memory", !is_persistent);
        }
    }
}

#[test]
fn a_backend_that_cannot_be_read_is_read_again_and_the_operator_hears_of_it_once() {
    let mut node = Node::new();
    node.clone();
    node.disk.fail_after(0);
    node.assign(assignment(2, OTHER, &[OTHER], Some(ME)), true, at(0));
    let out = node.load(at(100));
    assert!(has(&out, Notice::CopyUnreadable));
    for second in 1..=6 {
        node.instance.tick(at(100 + second * 5000 - 1));
        node.drain();
        assert_eq!(node.loads, 0, "{second}");
        let due = at(100 + second * 5000);
        assert!(node.instance.next_tick(due) <= due.mono);
        node.instance.tick(due);
        node.drain();
        if second == 6 {
            node.disk.mend();
        }
        assert!(!has(&node.load(due), Notice::CopyUnreadable));
    }
    let report = node.instance.report(at(40_000).mono).map(|it| it.part);
    assert!(matches!(report, Some(StorePart::Copy(_))), "{report:?}");
}

#[test]
fn a_backend_is_not_read_any_more_for_one_who_is_not_named() {
    let mut node = Node::new();
    node.clone();
    node.disk.fail_after(0);
    node.assign(assignment(2, OTHER, &[OTHER], Some(ME)), true, at(0));
    node.load(at(100));
    node.assign(assignment(3, OTHER, &[OTHER], None), true, at(200));
    node.instance.tick(at(6000));
    node.drain();
    assert_eq!(node.loads, 0);
}

#[test]
fn decisions_that_come_late_are_ignored() {
    let mut node = Node::new();
    node.clone();
    node.assign(assignment(5, ME, &[ME], None), false, at(0));
    let out = node.assign(assignment(4, OTHER, &[OTHER], None), false, at(1));
    assert!(out.is_empty() && node.instance.is_primary());
    node.assign(assignment(6, OTHER, &[OTHER], None), false, at(2));
    let report = node.instance.report(at(3).mono).map(|it| it.part);
    assert!(matches!(report, Some(StorePart::Clone(_))), "{report:?}");
}

#[test]
fn a_file_of_a_primary_without_copies_is_not_given_up_in_silence() {
    let mut alone = Node::new();
    alone.primary(true);
    alone.load(at(0));
    alone.write("a", Level::Durable, 1, at(1));
    alone.commit(at(2));
    let mut again = Node::new();
    again.disk = alone.disk.clone();
    again.clone();
    again.assign(assignment(2, OTHER, &[OTHER], Some(ME)), true, at(10));
    assert!(has(&again.load(at(11)), Notice::WritesGivenUp));
}
