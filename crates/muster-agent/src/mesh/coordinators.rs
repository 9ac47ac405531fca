//! What an agent tells of the coordinators, and what all agents together know of them.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_coordination::{MemberStatus as Member, Status};
use muster_gateway::status::{
    COMPLETE, CoordinatorStatus, CoordinatorsStatus, IN, LEADER, MemberStatus, NO_PART, OUT, SHORT,
    STORE, StoresStatus, VERSION, WAITING,
};
use muster_wire::counters::{Counter, Descriptor};

use super::{MeshConfig, MeshPlace, agent_name};
use crate::coordination::{Shown, ShownStores};
use crate::pki::hexadecimal;

/// How long a box's own coordinator may take to say what it knows.
const ANSWER: Duration = Duration::from_millis(500);

/// How long one may take to go on alone: it writes a file.
const RECOVERY: Duration = Duration::from_secs(6);

mod descriptors {
    muster_wire::counters! {
        /// 1 if the coordinator of the box decides who is in, 0 otherwise. In a cluster one is 1. If none is for more than some
        /// seconds nobody comes in and nobody is put out: `muster coordinators` says who is away. Only boxes with a coordinator
        /// have it.
        pub(super) LEADER = gauge("muster_coordination_leader");
        /// The number of the election that the coordinator of the box knows. Growth means that leaders are lost again and
        /// again.
        pub(super) TERM = gauge("muster_coordination_term");
        /// The number of the last decision that the agent of the box goes by. One that stays behind those of other boxes does
        /// not hear the coordinators.
        pub(super) EPOCH = gauge("muster_coordination_epoch");
        /// How often the coordinators were recovered from the loss of most of them. It is the same on all boxes; one that is
        /// behind has not heard of it yet.
        pub(super) GENERATION = gauge("muster_coordination_generation");
        /// The coordinators that the one of the box hears, itself among them (`present`), or does not hear (`away`). When most
        /// are away nothing is decided.
        pub(super) VOTERS = gauge("muster_coordination_voters").labels(&["state"]);
        /// The nodes that are `in` or `out` by the last decision that the coordinator of the box knows. A node that is out has
        /// stopped, hangs or is cut off: `muster coordinators` says which and why.
        pub(super) MEMBERS = gauge("muster_coordination_members").labels(&["state"]);
        /// The stores about which coordinators have decided who keeps them: `complete` (as many copies are in sync as are to be), `short`
        /// (fewer are: the loss of a box may make them wait) or `waiting` (nobody has the primary: what is written waits, and is refused
        /// after a while). `muster stores` names them.
        pub(super) STORES = gauge("muster_coordination_stores").labels(&["state"]);
        /// 1 if the loss of one box would stop nothing: all coordinators are there, and every store is complete. It is 0 otherwise, and
        /// where one box decides alone: `muster coordinators` says what is missing, and since when.
        pub(super) REDUNDANT = gauge("muster_coordination_redundant");
    }
}

/// What describes the metrics of coordinators.
pub(crate) const DESCRIPTORS: &[Descriptor] = descriptors::ALL;

impl MeshConfig {
    /// What there is to tell of the coordinators.
    fn tell(&self, shown: Shown, reached: &BTreeSet<String>) -> CoordinatorsStatus {
        let Shown {
            status,
            epoch,
            problem,
            away,
            stores,
            lacks,
        } = shown;
        let own = &self.coordination.own;
        let told = match status {
            Some(status) => told(own, status),
            None => CoordinatorsStatus {
                part: NO_PART.to_owned(),
                epoch,
                voters: self.voters(reached),
                ..CoordinatorsStatus::default()
            },
        };
        let mut told = CoordinatorsStatus {
            version: VERSION,
            box_name: own.clone(),
            agent_epoch: epoch,
            problem: problem.or(told.problem),
            stores,
            lacks,
            ..told
        };
        for voter in &mut told.voters {
            let since = away.get(&voter.box_name).filter(|_| !voter.present);
            voter.away_since = since.copied();
        }
        told.judge();
        told
    }

    /// What there is to tell of stores.
    pub(crate) fn tell_stores(&self, shown: ShownStores) -> StoresStatus {
        let ShownStores {
            leader,
            term,
            generation,
            epoch,
            stores,
        } = shown;
        StoresStatus {
            version: VERSION,
            box_name: self.coordination.own.clone(),
            leader,
            term,
            generation,
            epoch,
            stores,
        }
    }

    /// The coordinators, as a box knows them that has none.
    fn voters(&self, reached: &BTreeSet<String>) -> Vec<CoordinatorStatus> {
        let voters = self.coordination.voters.iter();
        voters
            .map(|of_box| CoordinatorStatus {
                box_name: of_box.clone(),
                present: reached.contains(&agent_name(of_box)),
                votes: true,
                ..CoordinatorStatus::default()
            })
            .collect()
    }

    /// What there is to tell of the coordinators by an agent that is not in the mesh.
    pub(crate) fn tell_without(&self, problem: Option<String>) -> CoordinatorsStatus {
        let shown = Shown {
            problem,
            ..Shown::default()
        };
        self.tell(shown, &BTreeSet::new())
    }
}

impl MeshPlace {
    /// What this box knows of the coordinators.
    pub(crate) async fn coordinators(&self) -> CoordinatorsStatus {
        let shown = tokio::time::timeout(ANSWER, self.coordination()).await;
        let shown = shown.unwrap_or_else(|_| Shown {
            problem: Some("the coordinator of this box does not answer".to_owned()),
            ..Shown::default()
        });
        self.config.tell(shown, &self.reached())
    }

    /// What this box knows of stores.
    pub(crate) async fn stores(&self) -> StoresStatus {
        let shown = tokio::time::timeout(ANSWER, self.shown_stores()).await;
        let shown = shown.ok().flatten().unwrap_or_default();
        self.config.tell_stores(shown)
    }

    /// Has this box's coordinator go on alone. `None` if it takes too long, and may be done later.
    pub(crate) async fn recover_soon(&self, lost: String) -> Option<Result<String, String>> {
        let recovered = tokio::time::timeout(RECOVERY, self.recover(lost)).await;
        recovered.ok()
    }
}

/// What a coordinator knows, as it is told.
fn told(own: &str, status: Status) -> CoordinatorsStatus {
    let part = status.part.name().to_owned();
    let is_waiting = part == WAITING;
    let voters = status.voters.into_iter().map(|voter| {
        let is_own = voter.box_name == own;
        CoordinatorStatus {
            present: voter.is_present,
            votes: voter.votes,
            part: is_own.then(|| part.clone()),
            box_name: voter.box_name,
            problem: None,
            away_since: None,
        }
    });
    let voters: Vec<CoordinatorStatus> = voters.collect();
    let missing = voters.iter().filter(|voter| is_waiting && !voter.present);
    CoordinatorsStatus {
        waiting_for: missing.map(|voter| voter.box_name.clone()).collect(),
        leader: status.leader,
        term: status.term,
        epoch: status.epoch,
        generation: status.generation,
        cluster: status.cluster.map(|id| hexadecimal(&id)),
        decided: status.members.iter().map(|member| member.since).max(),
        members: status.members.into_iter().map(of_member).collect(),
        problem: status.problem,
        voters,
        part,
        ..CoordinatorsStatus::default()
    }
}

fn of_member(member: Member) -> MemberStatus {
    MemberStatus {
        state: if member.out.is_some() { OUT } else { IN }.to_owned(),
        reason: member.out.map(|reason| reason.text().to_owned()),
        node: member.node,
        box_name: member.box_name,
        session: member.session,
        since: member.since,
        heard_seconds: member.heard.map(|ago| ago.as_secs_f64()),
    }
}

/// How much an answer says: of who decides more than of who knows who does, and of a later election more than of an earlier one.
fn weight(status: &CoordinatorsStatus) -> (u8, u64, u64) {
    let rank = match (status.part.as_str(), &status.leader) {
        (LEADER, _) => 3,
        (NO_PART, _) => 0,
        (_, Some(_)) => 2,
        (_, None) => 1,
    };
    (rank, status.generation, status.term)
}

/// Puts together what several boxes know: the answer that says most, with what each coordinator says of itself. Since when something is
/// missing is known by whoever was there.
pub(crate) fn together(
    own: CoordinatorsStatus,
    others: Vec<CoordinatorsStatus>,
) -> CoordinatorsStatus {
    let mut parts = Vec::new();
    let (mut lacks, mut away) = (Vec::new(), Vec::new());
    let mut best: Option<CoordinatorsStatus> = None;
    // Among equals it is this box's own.
    for status in std::iter::once(own).chain(others) {
        let part = (
            status.box_name.clone(),
            status.part.clone(),
            status.problem.clone(),
        );
        parts.push(part);
        let lacks_of_stores = status.lacks.iter().filter(|it| it.kind == STORE);
        lacks.extend(lacks_of_stores.cloned());
        let voters = status.voters.iter();
        away.extend(voters.filter_map(|it| Some((it.box_name.clone(), it.away_since?))));
        if best
            .as_ref()
            .is_none_or(|best| weight(&status) > weight(best))
        {
            best = Some(status);
        }
    }
    let mut best = best.unwrap_or_default();
    for voter in &mut best.voters {
        if let Some((_, part, problem)) = parts.iter().find(|(name, ..)| *name == voter.box_name) {
            voter.part = Some(part.clone());
            voter.problem.clone_from(problem);
        }
        if !voter.present {
            let since = away.iter().filter(|(name, _)| *name == voter.box_name);
            voter.away_since = since.map(|(_, since)| *since).min();
        }
    }
    for lack in best.lacks.iter_mut().filter(|it| it.kind == STORE) {
        let same = lacks.iter().filter(|it| it.name == lack.name);
        lack.since = same.filter_map(|it| it.since).min();
    }
    best.judge();
    best
}

/// What a box counts of the coordinators, by what it knows itself.
pub(crate) fn counters(status: &CoordinatorsStatus) -> Vec<Counter> {
    let mut counters = vec![descriptors::EPOCH.of(status.agent_epoch)];
    if status.part == NO_PART {
        return counters;
    }
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let away = status.away().count();
    let states = [("present", status.voters.len() - away), ("away", away)];
    let is_out = |member: &&MemberStatus| member.state == OUT;
    let out = status.members.iter().filter(is_out).count();
    let members = [(IN, status.members.len() - out), (OUT, out)];
    counters.extend([
        descriptors::LEADER.of((status.part == LEADER).into()),
        descriptors::TERM.of(status.term),
        descriptors::GENERATION.of(status.generation),
    ]);
    counters.extend(states.map(|(state, number)| {
        descriptors::VOTERS.of_each([("state", state.to_owned())], count(number))
    }));
    counters.extend(members.map(|(state, number)| {
        descriptors::MEMBERS.of_each([("state", state.to_owned())], count(number))
    }));
    let stores = [
        (COMPLETE, status.stores.complete),
        (SHORT, status.stores.short),
        (WAITING, status.stores.waiting),
    ];
    counters.extend(
        stores.map(|(state, number)| {
            descriptors::STORES.of_each([("state", state.to_owned())], number)
        }),
    );
    let redundant = status.redundant;
    counters.extend(redundant.map(|it| descriptors::REDUNDANT.of(it.into())));
    counters
}

#[cfg(test)]
mod tests {
    use muster_cluster::coordination::OutReason;
    use muster_coordination::{Part, VoterStatus};
    use muster_gateway::status::LackStatus;

    use super::*;

    fn status(part: Part, present: [bool; 3]) -> Status {
        let voters = ["a", "b", "c"].into_iter().zip(present);
        Status {
            part,
            leader: (part == Part::Leader).then(|| "a".to_owned()),
            term: 3,
            epoch: 17,
            generation: 0,
            cluster: Some([0xab; 16]),
            voters: voters
                .map(|(name, is_present)| VoterStatus {
                    box_name: name.to_owned(),
                    is_present,
                    votes: true,
                })
                .collect(),
            members: vec![
                Member {
                    node: "data-1".to_owned(),
                    box_name: "a".to_owned(),
                    session: 9,
                    out: None,
                    since: 1_700_000_000,
                    heard: Some(Duration::from_millis(250)),
                },
                Member {
                    node: "data-2".to_owned(),
                    box_name: "b".to_owned(),
                    session: 11,
                    out: Some(OutReason::Silent),
                    since: 1_700_000_100,
                    heard: None,
                },
            ],
            problem: None,
        }
    }

    #[test]
    fn a_coordinator_is_told_as_it_is() {
        let told = told("a", status(Part::Leader, [true, true, false]));
        assert_eq!(told.cluster.as_deref(), Some(&*"ab".repeat(16)));
        assert_eq!(
            (told.part.as_str(), told.decided),
            (LEADER, Some(1_700_000_100))
        );
        assert_eq!(told.away().collect::<Vec<_>>(), ["c"]);
        assert!(told.waiting_for.is_empty());
        let members: Vec<_> = told
            .members
            .iter()
            .map(|it| (it.state.as_str(), it.reason.as_deref(), it.heard_seconds))
            .collect();
        assert_eq!(
            members,
            [(IN, None, Some(0.25)), (OUT, Some("does not answer"), None)]
        );
        let waiting = super::told("b", status(Part::Waiting, [false, true, true]));
        assert_eq!(waiting.waiting_for, ["a"]);
    }

    fn of(box_name: &str, part: Part) -> CoordinatorsStatus {
        CoordinatorsStatus {
            box_name: box_name.to_owned(),
            ..told(box_name, status(part, [true; 3]))
        }
    }

    #[test]
    fn the_leader_s_answer_counts_and_each_says_what_it_does() {
        let none = CoordinatorsStatus {
            box_name: "d".to_owned(),
            part: NO_PART.to_owned(),
            ..CoordinatorsStatus::default()
        };
        let mut broken = of("c", Part::Learner);
        broken.problem = Some("its file cannot be used".to_owned());
        let answers = vec![
            of("b", Part::Follower),
            broken.clone(),
            of("a", Part::Leader),
        ];
        let all = together(none.clone(), answers);
        assert_eq!((all.box_name.as_str(), all.part.as_str()), ("a", LEADER));
        let parts: Vec<_> = all.voters.iter().map(|it| it.part.as_deref()).collect();
        assert_eq!(parts, [Some(LEADER), Some("follower"), Some("learner")]);
        assert!(all.voters[2].problem.is_some() && !all.is_well());
        // Of two who say that they lead, the one elected later does.
        let mut later = of("b", Part::Leader);
        later.term = 4;
        let two = together(of("a", Part::Leader), vec![later]);
        assert_eq!(two.box_name, "b");
        // Since when something is missing is known by whoever was there.
        let mut own = of("a", Part::Leader);
        own.voters[2].present = false;
        let mut other = own.clone();
        other.box_name = "b".to_owned();
        other.part = "follower".to_owned();
        other.voters[2].away_since = Some(7);
        let lack = |since| LackStatus {
            kind: STORE.to_owned(),
            name: "x".to_owned(),
            text: "store x: 1 of 2 copies in sync".to_owned(),
            since,
        };
        own.stores.short = 1;
        own.lacks = vec![lack(None)];
        other.lacks = vec![lack(Some(9))];
        let both = together(own, vec![other]);
        assert_eq!((both.box_name.as_str(), both.redundant), ("a", Some(false)));
        let texts: Vec<_> = both
            .lacks
            .iter()
            .map(|it| (it.text.as_str(), it.since))
            .collect();
        let expected = [
            ("box c is away", Some(7)),
            ("store x: 1 of 2 copies in sync", Some(9)),
        ];
        assert_eq!(texts, expected);
        // Who has no coordinator knows least.
        assert_eq!(together(none.clone(), vec![broken]).box_name, "c");
        assert_eq!(together(none, Vec::new()).box_name, "d");
    }

    #[test]
    fn counts_are_those_of_the_box() {
        let counts = |status: &CoordinatorsStatus| -> Vec<(String, u64)> {
            let counters = counters(status).into_iter();
            counters
                .map(|counter| (counter.descriptor.name.to_string(), counter.value))
                .collect()
        };
        let mut leader = of("a", Part::Leader);
        leader.agent_epoch = 16;
        leader.judge();
        let leader = counts(&leader);
        assert_eq!(leader.len(), 12);
        assert_eq!(leader[0], ("muster_coordination_epoch".to_owned(), 16));
        assert_eq!(leader[1], ("muster_coordination_leader".to_owned(), 1));
        let none = CoordinatorsStatus {
            part: NO_PART.to_owned(),
            ..CoordinatorsStatus::default()
        };
        assert_eq!(counts(&none).len(), 1);
    }
}
