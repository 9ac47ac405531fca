//! Whether the coordinators decide, and all go by what they decide.

use muster_gateway::status::{ClusterStatus, STORE, StoreCounts, WAITING};

use super::{Looking, reporting};

/// A decision that was made so many seconds ago everybody has heard.
const HEARD_AFTER: f64 = 10.0;

/// Whether every store has its primary and its copies.
pub(super) fn copies(status: &ClusterStatus, at: &mut Looking<'_>) {
    let Some(coordinators) = &status.coordinators else {
        return;
    };
    let StoreCounts {
        complete: _,
        short,
        waiting,
    } = coordinators.stores;
    let named: Vec<&str> = coordinators
        .lacks
        .iter()
        .filter(|lack| lack.kind == STORE)
        .map(|lack| lack.text.as_str())
        .collect();
    let named = named.join("; ");
    let all = coordinators.stores.all();
    if waiting > 0 {
        at.fail(
            format!("{} of {all} stores have no primary, or too few copies in sync: {named}", short + waiting),
            "a store that waits goes on when the nodes with its last copies are back; `muster stores` says which",
        );
    } else if short > 0 {
        at.warn(
            format!("{short} of {all} stores have too few copies in sync: {named}"),
            "`muster stores` says which nodes are out, or get a copy: until then the loss of one more box may make stores wait",
        );
    }
}

pub(super) fn coordinators(status: &ClusterStatus, at: &mut Looking<'_>) {
    let Some(coordinators) = &status.coordinators else {
        return;
    };
    if !coordinators.decides() {
        if coordinators.part == WAITING {
            at.warn(
                format!("they have not begun, and wait for {}", coordinators.waiting_for.join(", ")),
                "each box of theirs has to join, and its agent to run; port 17701 has to be open between them",
            );
            return;
        }
        at.fail(
            "nobody leads: no node comes in, and none is put out".to_owned(),
            "most of their boxes have to run and reach one another at port 17701; `muster coordinators` says which are away",
        );
    }
    for voter in &coordinators.voters {
        let name = &voter.box_name;
        if !voter.present {
            at.warn(
                format!("that of box {name} is away"),
                "is the machine up, its agent running, and port 17701 open between the boxes?",
            );
        } else if !voter.votes {
            at.warn(
                format!("that of box {name} has no vote yet"),
                "look again in a moment: it first learns what the others have decided",
            );
        }
        if let Some(problem) = &voter.problem {
            at.fail(
                format!("that of box {name}: {problem}"),
                "its file is coordinator.sqlite below /var/lib/muster of that box",
            );
        }
    }
    let now = status.agent.as_ref().map_or(0.0, |agent| agent.time);
    #[allow(clippy::cast_precision_loss, reason = "a time in seconds")]
    let decided = coordinators.decided.map(|at| at as f64);
    if decided.is_none_or(|at| now - at < HEARD_AFTER) {
        return;
    }
    for (name, report) in reporting(status) {
        let epoch = report.coordination.as_ref().map(|it| it.epoch);
        if let Some(epoch) = epoch.filter(|epoch| *epoch < coordinators.epoch) {
            at.warn(
                format!(
                    "{name} goes by decision {epoch}, and not by the last one, {}",
                    coordinators.epoch
                ),
                format!("does it reach the agents of the other boxes? `muster logs {name}`"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_gateway::status::{
        AgentStatus, CoordinationStatus, CoordinatorStatus, CoordinatorsStatus, LEADER, LackStatus,
        NodeStatus, ProcessStatus,
    };

    use super::super::{Check, Verdict, checks};
    use super::*;

    fn three() -> ClusterStatus {
        let voter = |name: &str| CoordinatorStatus {
            box_name: name.to_owned(),
            present: true,
            votes: true,
            ..CoordinatorStatus::default()
        };
        ClusterStatus {
            agent: Some(AgentStatus {
                time: 1_000.0,
                ..AgentStatus::default()
            }),
            nodes: vec![ProcessStatus {
                node: "data-1".to_owned(),
                process: "running".to_owned(),
                pid: Some(7),
                report: Some(NodeStatus {
                    state: "ready".to_owned(),
                    coordination: Some(CoordinationStatus {
                        standing: "in".to_owned(),
                        session: 3,
                        epoch: 17,
                    }),
                    ..NodeStatus::default()
                }),
                ..ProcessStatus::default()
            }],
            coordinators: Some(CoordinatorsStatus {
                part: LEADER.to_owned(),
                leader: Some("a".to_owned()),
                epoch: 17,
                decided: Some(900),
                voters: ["a", "b", "c"].map(voter).into(),
                ..CoordinatorsStatus::default()
            }),
            ..ClusterStatus::default()
        }
    }

    fn found(change: impl FnOnce(&mut CoordinatorsStatus)) -> Vec<String> {
        let mut status = three();
        if let Some(coordinators) = &mut status.coordinators {
            change(coordinators);
        }
        let checks = checks(&status);
        let of_them = |check: &&Check| check.what == "coordinators" && check.verdict > Verdict::Ok;
        let bad = checks.iter().filter(of_them);
        bad.map(|check| format!("{} {}", check.verdict.word(), check.text))
            .collect()
    }

    #[test]
    fn what_is_wrong_with_them_is_named() {
        assert_eq!(found(|_| {}), [""; 0]);
        assert_eq!(
            found(|it| it.leader = None),
            ["FAIL nobody leads: no node comes in, and none is put out"]
        );
        assert_eq!(
            found(|it| it.voters[2].present = false),
            ["WARN that of box c is away"]
        );
        assert_eq!(
            found(|it| it.voters[2].votes = false),
            ["WARN that of box c has no vote yet"]
        );
        assert_eq!(
            found(|it| it.voters[1].problem = Some("its file is broken".to_owned())),
            ["FAIL that of box b: its file is broken"]
        );
        assert_eq!(
            found(|it| {
                it.leader = None;
                WAITING.clone_into(&mut it.part);
                it.waiting_for = vec!["b".to_owned()];
                it.voters[1].present = false;
            }),
            ["WARN they have not begun, and wait for b"]
        );
    }

    #[test]
    fn stores_that_are_not_complete_are_named() {
        let found = |short, waiting, lacks: &[&str]| {
            let mut status = three();
            if let Some(coordinators) = &mut status.coordinators {
                coordinators.stores = StoreCounts {
                    complete: 5,
                    short,
                    waiting,
                };
                let lacks = lacks.iter().map(|text| LackStatus {
                    kind: STORE.to_owned(),
                    text: (*text).to_owned(),
                    ..LackStatus::default()
                });
                coordinators.lacks = lacks.collect();
            }
            let checks = checks(&status);
            let check = checks.iter().find(|check| check.what == "copies").unwrap();
            format!("{} {}", check.verdict.word(), check.text)
        };
        assert_eq!(
            found(0, 0, &[]),
            "OK every store has as many copies in sync as it is to have"
        );
        assert_eq!(
            found(1, 0, &["store x: 1 of 2 copies in sync"]),
            "WARN 1 of 6 stores have too few copies in sync: store x: 1 of 2 copies in sync"
        );
        assert_eq!(
            found(1, 1, &["store y waits", "store x"]),
            "FAIL 2 of 7 stores have no primary, or too few copies in sync: store y waits; store x"
        );
    }

    #[test]
    fn a_node_that_stays_behind_is_named_and_one_that_is_a_moment_late_is_not() {
        assert_eq!(
            found(|it| it.epoch = 18),
            ["WARN data-1 goes by decision 17, and not by the last one, 18"]
        );
        let late = found(|it| {
            it.epoch = 18;
            it.decided = Some(995);
        });
        assert_eq!(late, [""; 0]);
    }
}
