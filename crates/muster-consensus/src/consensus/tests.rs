//! What a voter does, step by step.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::Mono;

use super::{COMPACT_ENTRIES, Consensus};
use crate::{
    Body, ClusterId, Config, Content, DiskId, Entry, Fault, Kept, KeptError, Members, Message,
    Output, Promise, Refused, Role, VoterChange, VoterId,
};

const CLUSTER: ClusterId = ClusterId([1; 16]);

fn voter(number: u8) -> VoterId {
    VoterId {
        name: format!("box-{number}"),
        disk: DiskId([number; 16]),
    }
}

fn founded(me: u8, voters: u8) -> Kept {
    let members = Members::new((1..=voters).map(voter).collect(), Vec::new()).unwrap();
    Kept::founding(CLUSTER, voter(me).disk, members, Bytes::new())
}

fn begin(me: u8, kept: Kept) -> Consensus {
    let config = Config {
        rank: u32::from(me) - 1,
        witnesses: BTreeSet::from([voter(3).name]),
        ..Config::default()
    };
    Consensus::new(voter(me), kept, config, Mono(0), u64::from(me)).unwrap()
}

fn message(from: u8, to: u8, body: Body) -> Message {
    Message {
        cluster: CLUSTER,
        from: voter(from).disk,
        to: voter(to).disk,
        body,
    }
}

fn vote(term: u64, pre: bool) -> Body {
    Body::Vote {
        pre,
        term,
        last: 9,
        last_term: 1,
        commit: 1,
        commit_term: 1,
        handed_on: false,
    }
}

/// Voters whose disks and network are as fast as can be.
struct Fast {
    voters: Vec<Consensus>,
    files: Vec<Kept>,
    applied: Vec<Vec<Entry>>,
    down: BTreeSet<usize>,
    now: Mono,
}

impl Fast {
    fn new(count: u8) -> Self {
        let files: Vec<Kept> = (1..=count).map(|me| founded(me, count)).collect();
        let voters = files.iter().cloned().zip(1..=count);
        Self {
            voters: voters.map(|(kept, me)| begin(me, kept)).collect(),
            applied: vec![Vec::new(); files.len()],
            files,
            down: BTreeSet::new(),
            now: Mono(0),
        }
    }

    fn settle(&mut self) {
        let mut more = true;
        while more {
            more = false;
            for at in 0..self.voters.len() {
                while let Some(output) = self.voters[at].poll() {
                    more = true;
                    self.obey(at, output);
                }
            }
        }
    }

    fn obey(&mut self, at: usize, output: Output) {
        match output {
            Output::Send(to, message) => {
                let name = self.voters[at].me().name.clone();
                let lost = self.down.contains(&at);
                let to = self.voters.iter().position(|it| *it.me() == to);
                if let Some(to) = to.filter(|to| !lost && !self.down.contains(to)) {
                    let _ = self.voters[to].receive(&name, message, self.now);
                }
            }
            Output::Persist(number, batch) => {
                self.files[at].write(&batch);
                self.voters[at].persisted(number);
            }
            Output::Apply(entry) => self.applied[at].push(entry),
            Output::Stopped(fault) => panic!("{fault}"),
            _ => {}
        }
    }

    fn run(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        loop {
            let up = (0..self.voters.len()).filter(|at| !self.down.contains(at));
            let Some((at, next)) = up
                .map(|at| (at, self.voters[at].next_tick()))
                .min_by_key(|it| it.1)
            else {
                return;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            self.voters[at].tick(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn leader(&self) -> Option<usize> {
        let up = (0..self.voters.len()).filter(|at| !self.down.contains(at));
        up.filter(|at| self.voters[*at].leads())
            .max_by_key(|at| self.voters[*at].term())
    }
}

#[test]
fn the_first_by_rank_leads_and_entries_are_applied_everywhere() {
    let mut group = Fast::new(3);
    group.run(1_000);
    assert_eq!(group.leader(), Some(0));
    let index = group.voters[0].propose(Bytes::from_static(b"one")).unwrap();
    group.settle();
    group.run(200);
    for applied in &group.applied {
        let last = applied.last().unwrap();
        assert_eq!(last.index, index);
        assert_eq!(last.content, Content::Data(Bytes::from_static(b"one")));
    }
    assert_eq!(
        group.voters[1].propose(Bytes::from_static(b"two")),
        Err(Refused::NotLeader)
    );
    assert_eq!(group.voters[0].propose(Bytes::new()), Err(Refused::Size));
}

#[test]
fn whoever_hears_that_the_leader_is_out_of_reach_campaigns_at_once() {
    let mut group = Fast::new(3);
    group.run(1_000);
    group.down.insert(0);
    for at in [1, 2] {
        group.voters[at].reachable(&voter(1), false, group.now);
    }
    group.settle();
    group.run(100);
    assert_eq!(group.leader(), Some(1), "not the witness");
    let term = group.voters[1].term();
    assert_eq!(group.voters[2].role(), &Role::Follower(Some(voter(2))));
    // The old leader comes back, and follows.
    group.down.clear();
    group.run(1_000);
    assert_eq!((group.leader(), group.voters[0].term()), (Some(1), term));
}

#[test]
fn a_witness_hands_leadership_on() {
    let mut group = Fast::new(3);
    group.run(1_000);
    group.voters[0].transfer_to(&voter(3)).unwrap();
    group.settle();
    assert!(group.voters[2].leads());
    group.run(500);
    assert_ne!(group.leader(), Some(2));
    assert!(group.leader().is_some());
}

#[test]
fn a_leader_that_was_stopped_leads_no_more_when_it_wakes() {
    let mut group = Fast::new(3);
    group.run(1_000);
    group.down.insert(0);
    group.run(3_000);
    let other = group.leader().unwrap();
    let now = group.now;
    group.voters[0].tick(now);
    assert!(!group.voters[0].leads());
    group.down.clear();
    group.run(500);
    assert_eq!(group.leader(), Some(other));
}

#[test]
fn a_vote_leaves_when_it_is_on_disk() {
    let mut one = begin(1, founded(1, 3));
    one.receive("box-2", message(2, 1, vote(2, false)), Mono(1))
        .unwrap();
    let outputs: Vec<Output> = std::iter::from_fn(|| one.poll()).collect();
    let batches = outputs.iter().filter_map(|output| match output {
        Output::Persist(number, batch) => Some((*number, batch)),
        Output::Send(..) => panic!("{output:?}"),
        _ => None,
    });
    let (number, batch) = batches.last().unwrap();
    let promise = Promise {
        term: 2,
        vote: voter(2).disk.number(),
        commit: 1,
    };
    assert!(batch.sync && batch.promise == Some(promise));
    one.persisted(number);
    let sent = one.poll();
    let Some(Output::Send(to, message)) = sent else {
        panic!("{sent:?}")
    };
    assert_eq!(to, voter(2));
    assert!(matches!(
        message.body,
        Body::VoteReply { granted: true, .. }
    ));
}

#[test]
fn a_lone_leader_says_nothing_before_its_term_is_on_disk() {
    let members = Members::new(vec![voter(1)], vec![voter(2)]).unwrap();
    let mut one = begin(
        1,
        Kept::founding(CLUSTER, voter(1).disk, members, Bytes::new()),
    );
    one.tick(one.next_tick());
    assert!(one.leads());
    let mut last = 0;
    while let Some(output) = one.poll() {
        assert!(!matches!(output, Output::Send(..)), "{output:?}");
        if let Output::Persist(number, _) = output {
            last = number;
        }
    }
    one.persisted(last);
    let sends = std::iter::from_fn(|| one.poll()).any(|it| matches!(it, Output::Send(..)));
    assert!(sends);
}

#[test]
fn an_empty_disk_never_votes() {
    for pre in [true, false] {
        let mut stranger = begin(2, Kept::stranger(CLUSTER, voter(2).disk));
        let asked = stranger.receive("box-1", message(1, 2, vote(5, pre)), Mono(1));
        assert_eq!(asked, Err(Refused::Empty));
        for _ in 0..100 {
            stranger.tick(stranger.next_tick());
        }
        assert_eq!(stranger.poll(), None);
    }
}

#[test]
fn a_newcomer_learns_everything_and_then_votes() {
    let mut group = Fast::new(3);
    group.run(1_000);
    let file = Kept::stranger(CLUSTER, voter(4).disk);
    let mut newcomer = begin(4, file.clone());
    newcomer.tick(group.now);
    group.voters.push(newcomer);
    group.files.push(file);
    group.applied.push(Vec::new());
    let leader = &mut group.voters[0];
    let promoted = leader.change(&VoterChange::Promote(voter(4).disk));
    assert_eq!(promoted, Err(Refused::Unfit), "a stranger");
    leader.change(&VoterChange::AddLearner(voter(4))).unwrap();
    group.settle();
    let promote = VoterChange::Promote(voter(4).disk);
    assert_eq!(group.voters[0].change(&promote), Err(Refused::Behind));
    group.run(500);
    // It needs a state that knows it.
    let leader = &mut group.voters[0];
    assert!(leader.wants_compaction());
    let applied = leader.applied();
    leader.compact(applied, Bytes::from_static(b"all")).unwrap();
    group.settle();
    group.run(500);
    group.voters[0].change(&promote).unwrap();
    group.settle();
    group.run(500);
    assert_eq!(group.voters[3].role(), &Role::Follower(Some(voter(1))));
    assert_eq!(group.voters[3].members().unwrap().voters().len(), 4);
    assert_eq!(group.files[3].snapshot.as_ref().unwrap().state, "all");
}

#[test]
fn a_removed_leader_stops_leading() {
    let mut group = Fast::new(3);
    group.run(1_000);
    let leader = &mut group.voters[0];
    let own = VoterChange::Remove(voter(1).disk);
    assert_eq!(leader.change(&own), Err(Refused::Unfit));
    leader.transfer_to(&voter(2)).unwrap();
    group.settle();
    group.run(200);
    assert_eq!(group.leader(), Some(1));
    group.voters[1].change(&own).unwrap();
    group.settle();
    group.run(2_000);
    assert_eq!(group.leader(), Some(1));
    assert_eq!(group.voters[1].members().unwrap().voters().len(), 2);
}

#[test]
fn what_was_kept_is_refused_if_it_contradicts_itself() {
    let entry = |index, term| Entry {
        index,
        term,
        content: Content::Nothing,
    };
    let check = |change: &dyn Fn(&mut Kept)| {
        let mut kept = founded(1, 3);
        kept.promise.term = 3;
        kept.entries = vec![entry(2, 2), entry(3, 3)];
        change(&mut kept);
        Consensus::new(voter(1), kept, Config::default(), Mono(0), 1).err()
    };
    assert_eq!(check(&|_| ()), None);
    assert_eq!(
        check(&|kept| kept.disk = voter(2).disk),
        Some(KeptError::Foreign)
    );
    assert_eq!(
        check(&|kept| kept.snapshot = None),
        Some(KeptError::Headless)
    );
    assert_eq!(
        check(&|kept| drop(kept.entries.remove(0))),
        Some(KeptError::Gap(3))
    );
    assert_eq!(
        check(&|kept| kept.entries[1].term = 1),
        Some(KeptError::Gap(3))
    );
    assert_eq!(
        check(&|kept| kept.promise.term = 2),
        Some(KeptError::Ahead(3))
    );
    assert_eq!(
        check(&|kept| kept.promise.commit = 4),
        Some(KeptError::Cut { last: 3, commit: 4 })
    );
    assert_eq!(
        check(&|kept| kept.promise.commit = 0),
        Some(KeptError::Stale(1))
    );
}

#[test]
fn a_voter_that_has_forgotten_stops() {
    let mut group = Fast::new(3);
    group.run(1_000);
    let old = group.files[1].clone();
    for _ in 0..5 {
        group.voters[0].propose(Bytes::from_static(b"x")).unwrap();
        group.settle();
    }
    // Somebody has put an old copy of the file back.
    let mut second = begin(2, old);
    second.tick(group.now);
    let now = group.now;
    group.voters[0].tick(now.after(Duration::from_millis(200)));
    let mut told = Err(Refused::Stopped);
    while let Some(output) = group.voters[0].poll() {
        if let Output::Send(to, message) = output
            && to == voter(2)
            && matches!(message.body, Body::Heartbeat { .. })
        {
            told = second.receive("box-1", message, now);
            break;
        }
    }
    assert_eq!(told, Err(Refused::Contradiction));
    assert!(matches!(second.fault(), Some(Fault::Forgotten { .. })));
    assert_eq!(second.next_tick(), Mono(u64::MAX));
}

#[test]
fn messages_for_others_are_refused_and_a_wrong_disk_is_answered() {
    let mut one = begin(1, founded(1, 3));
    while one.poll().is_some() {}
    let mut foreign = message(2, 1, Body::TakeOver { term: 1 });
    foreign.cluster = ClusterId([2; 16]);
    let refused = one.receive("box-2", foreign, Mono(1));
    assert_eq!(refused, Err(Refused::ForeignCluster));
    let refused = one.receive("box-2", message(2, 9, vote(2, false)), Mono(1));
    assert_eq!(refused, Err(Refused::WrongDisk));
    let answer = message(1, 2, Body::WrongDisk);
    assert_eq!(one.poll(), Some(Output::Send(voter(2), answer)));
    let refused = one.receive("box-3", message(2, 1, vote(2, false)), Mono(1));
    assert_eq!(refused, Err(Refused::Collision), "under another name");
    let mut twin = message(2, 1, vote(2, false));
    twin.from.0[15] = 7;
    let refused = one.receive("box-2", twin, Mono(1));
    assert_eq!(refused, Err(Refused::Collision), "the same number");
    // The answer says that a disk is gone.
    one.receive("box-2", message(8, 1, Body::WrongDisk), Mono(1))
        .unwrap();
    let new = VoterId {
        name: voter(2).name,
        disk: voter(8).disk,
    };
    assert_eq!(one.poll(), Some(Output::WrongDisk(new)));
}

#[test]
fn a_panic_of_the_engine_stops_the_voter_and_nothing_else() {
    let mut one = begin(1, founded(1, 3));
    one.engine(|_| panic!("made for this test"));
    let fault = Fault::Engine("made for this test".to_owned());
    let last = std::iter::from_fn(|| one.poll()).last();
    assert_eq!(last, Some(Output::Stopped(fault)));
    one.tick(Mono(u64::MAX / 2));
    one.persisted(1);
    assert_eq!(one.propose(Bytes::from_static(b"x")), Err(Refused::Stopped));
    let told = one.receive("box-2", message(2, 1, vote(2, false)), Mono(1));
    assert_eq!((told, one.poll()), (Err(Refused::Stopped), None));
}

#[test]
fn a_long_log_asks_to_be_compacted_and_one_that_nobody_compacts_is_full() {
    let mut group = Fast::new(1);
    group.run(100);
    let propose = |group: &mut Fast, size: usize| {
        let proposed = group.voters[0].propose(vec![1; size].into());
        group.settle();
        proposed
    };
    for _ in 0..COMPACT_ENTRIES {
        propose(&mut group, 1).unwrap();
    }
    assert!(group.voters[0].wants_compaction());
    let applied = group.voters[0].applied();
    let refused = group.voters[0].compact(applied + 1, Bytes::new());
    assert_eq!(refused, Err(Refused::NotApplied));
    group.voters[0].compact(applied, Bytes::new()).unwrap();
    group.settle();
    assert!(!group.voters[0].wants_compaction() && group.files[0].entries.is_empty());
    let full = (0..400)
        .map(|_| propose(&mut group, 60_000))
        .find(Result::is_err);
    assert_eq!(full, Some(Err(Refused::Full)));
}

#[test]
fn a_life_begins_with_the_state_and_what_was_agreed_on_since() {
    let mut group = Fast::new(1);
    group.run(100);
    for _ in 0..3 {
        group.voters[0].propose(Bytes::from_static(b"x")).unwrap();
        group.settle();
    }
    let applied = group.applied[0].clone();
    let mut again = begin(1, group.files[0].clone());
    let first = again.poll();
    assert!(matches!(first, Some(Output::Install { index: 1, .. })));
    let entries = std::iter::from_fn(|| again.poll()).filter_map(|output| match output {
        Output::Apply(entry) => Some(entry),
        _ => None,
    });
    let entries: Vec<Entry> = entries.collect();
    assert!(!entries.is_empty());
    assert_eq!(entries[..], applied[..entries.len()]);
}

#[test]
fn a_lost_state_is_sent_again_whatever_is_answered_to_something_older() {
    let mut group = Fast::new(3);
    group.run(1_000);
    let leader = &mut group.voters[0];
    leader.change(&VoterChange::AddLearner(voter(4))).unwrap();
    group.settle();
    let leader = &mut group.voters[0];
    let applied = leader.applied();
    leader.compact(applied, Bytes::from_static(b"all")).unwrap();
    group.settle();
    let term = group.voters[0].term();
    let mut states = 0;
    for _ in 0..60 {
        group.now = group.now.after(Duration::from_millis(50));
        // The newcomer says that it is there, and that it has nothing. Nothing that is sent to it arrives.
        let alive = Body::HeartbeatReply { term, commit: 0 };
        let older = Body::AppendReply {
            term,
            index: 0,
            commit: 0,
            rejected: None,
        };
        let refused = Body::AppendReply {
            term,
            index: applied,
            commit: 0,
            rejected: Some(crate::Hint { index: 0, term: 0 }),
        };
        for body in [alive, refused, older] {
            let now = group.now;
            let _ = group.voters[0].receive("box-4", message(4, 1, body), now);
        }
        for at in 0..3 {
            group.voters[at].tick(group.now);
        }
        while let Some(output) = group.voters[0].poll() {
            if let Output::Send(_, message) = &output {
                states += u32::from(matches!(message.body, Body::Snapshot { .. }));
            }
            group.obey(0, output);
        }
        group.settle();
    }
    assert!(states > 1, "{states}");
}
