//! One coordinator that does not get on with others, and what it says of them and to nodes.

use std::time::Duration;

use muster_cluster::coordination::{LeaseAnswer, Renew};
use muster_consensus::{ClusterId, DiskId, Kept};
use muster_data::{DataRef, Encode, Record};
use muster_wire::zeek::Message;
use muster_wire::{EndpointId, Mono};

use super::super::{Coordinator, Output, Severity, To};
use super::{config, present};
use crate::messages::{Begin, Present};

const OURS: [u8; 16] = [1; 16];
const FOREIGN: [u8; 16] = [9; 16];

struct Rig {
    coordinator: Coordinator,
    now: Mono,
    /// Nothing gets to its disk.
    stalls: bool,
    persisted: u64,
    /// What went out since it was looked at last.
    out: Vec<Output>,
}

impl Rig {
    /// The first of three voters, in no group yet.
    fn new() -> Self {
        let coordinator = Coordinator::new(config("a"), DiskId(OURS), None, Mono(0), 1).unwrap();
        let mut rig = Self {
            coordinator,
            now: Mono(0),
            stalls: false,
            persisted: 0,
            out: Vec::new(),
        };
        rig.settle();
        rig
    }

    /// The only voter, with a node that is in.
    fn alone() -> Self {
        let mut rig = Self::new();
        let mut config = rig.coordinator.config.clone();
        config.voters.truncate(1);
        rig.coordinator = Coordinator::new(config, DiskId(OURS), None, Mono(0), 1).unwrap();
        rig.pass(1000);
        rig.coordinator.reaches(life("node"), "node", true, rig.now);
        rig.says("node", &renew(1, 0));
        rig.pass(100);
        rig.out.clear();
        rig
    }

    /// In a group with the others.
    fn founded() -> Self {
        let mut rig = Self::new();
        rig.tells("b", &present(2, &[], 0));
        rig.tells("c", &present(3, &[], 0));
        assert!(rig.coordinator.view().is_some());
        rig.out.clear();
        rig
    }

    fn settle(&mut self) {
        while let Some(output) = self.coordinator.poll() {
            match &output {
                Output::Begin(_) => self.coordinator.begun(),
                Output::Persist(number, _) => {
                    self.persisted = *number;
                    if !self.stalls {
                        self.coordinator.persisted(self.persisted);
                    }
                }
                _ => {}
            }
            self.out.push(output);
        }
    }

    /// A voter says something.
    fn tells<R: Record + Encode>(&mut self, voter: &str, record: &R) {
        let name = format!("{}{voter}", muster_cluster::AGENT_PREFIX);
        self.says(&name, record);
    }

    fn says<R: Record + Encode>(&mut self, name: &str, record: &R) {
        let bytes = muster_cluster::coordination::event(record);
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes)) else {
            panic!("an event")
        };
        self.coordinator.receive(life(name), name, &event, self.now);
        self.settle();
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.now < end {
            self.now = self.coordinator.next_tick().max(self.now).min(end);
            self.coordinator.tick(self.now, 0);
            self.settle();
        }
    }

    /// The sessions that were granted since the last time.
    fn granted(&mut self) -> Vec<u64> {
        let sent = std::mem::take(&mut self.out).into_iter();
        let answers = sent.filter_map(|output| match output {
            Output::Send(To::Life(_), bytes) => {
                let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes))
                else {
                    panic!("an event")
                };
                event.arguments().to::<LeaseAnswer>().ok()
            }
            _ => None,
        });
        answers.map(|it| it.session).collect()
    }

    fn errors(&self) -> Vec<&str> {
        let reports = self.out.iter().filter_map(|output| match output {
            Output::Report(Severity::Error, text) => Some(text.as_str()),
            _ => None,
        });
        reports.collect()
    }

    /// What it says of itself to a voter.
    fn said(&self, voter: &str) -> Vec<Present> {
        let sent = self.out.iter().filter_map(|output| match output {
            Output::Send(To::Voter(to), bytes) if to == voter => {
                let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(bytes))
                else {
                    panic!("an event")
                };
                event.arguments().to::<Present>().ok()
            }
            _ => None,
        });
        sent.collect()
    }
}

fn life(name: &str) -> EndpointId {
    EndpointId::from_random([name.as_bytes()[name.len() - 1]; 16])
}

fn renew(number: u64, session: u64) -> Renew {
    Renew {
        node: "node".to_owned(),
        box_name: "a".to_owned(),
        incarnation: 1,
        session,
        number,
        alone: None,
    }
}

/// A voter that fits took back what was said of one that does not, and every two seconds it was said again.
#[test]
fn a_voter_that_does_not_fit_is_told_once_though_another_one_does() {
    let mut rig = Rig::founded();
    for _ in 0..3 {
        rig.tells("b", &present(2, &OURS, 0));
        rig.tells("c", &present(3, &FOREIGN, 0));
    }
    assert_eq!(rig.errors().len(), 1, "{:?}", rig.errors());
    rig.tells("b", &present(2, &OURS, 0));
    let problem = rig.coordinator.status().problem.unwrap();
    assert!(problem.starts_with("box c belongs to"), "{problem}");
    // It has got a new file.
    rig.tells("c", &present(4, &[], 0));
    assert_eq!(rig.coordinator.status().problem, None);
    let mut other_layout = present(2, &OURS, 0);
    other_layout.voters.pop();
    for _ in 0..3 {
        rig.tells("b", &other_layout);
        rig.tells("c", &present(4, &OURS, 0));
    }
    assert_eq!(rig.errors().len(), 2, "{:?}", rig.errors());
}

/// Others of the old group took a stranger to the new one for a voter of a foreign group: it said that it was of the first
/// generation, as long as it knew nothing.
#[test]
fn a_stranger_says_the_generation_of_its_group() {
    let mut rig = Rig::new();
    let begin = Begin {
        cluster: FOREIGN.to_vec(),
        generation: 3,
        disk: OURS.to_vec(),
        founders: Vec::new(),
    };
    rig.tells("b", &begin);
    rig.out.clear();
    rig.coordinator.tick(rig.coordinator.next_tick(), 0);
    rig.settle();
    let said = rig.said("c");
    assert_eq!(said.last().map(|it| it.generation), Some(3), "{said:?}");
    assert_eq!(
        said.last().map(|it| it.cluster.as_slice()),
        Some(&FOREIGN[..])
    );
}

#[test]
fn a_voter_of_a_lower_generation_gives_its_group_up() {
    let mut rig = Rig::founded();
    rig.tells("b", &present(2, &FOREIGN, 1));
    assert!(rig.out.contains(&Output::Retire));
    assert!(rig.coordinator.view().is_none());
}

/// Whoever goes on alone without knowing who was in begins behind what others may know, too.
#[test]
fn recovered_from_nothing_is_behind_every_epoch_of_before() {
    let rig = Rig::new();
    let new = DiskId([5; 16]);
    let kept: Kept = rig.coordinator.recovered(new).unwrap();
    assert_eq!(kept.cluster, ClusterId(new.0));
    let mut other = Rig::new();
    let config = other.coordinator.config.clone();
    other.coordinator = Coordinator::new(config, new, Some(kept), Mono(0), 1).unwrap();
    let view = other.coordinator.view().unwrap();
    assert_eq!(view.generation(), 1);
    assert!(view.epoch() > 1_000_000);
}

/// Names are as long as whoever says them wants. What is said of them goes to a log and to operators.
#[test]
fn what_strangers_say_is_reported_in_short() {
    let mut rig = Rig::founded();
    let long = "x".repeat(100_000);
    let mut other_layout = present(2, &OURS, 0);
    other_layout.voters = vec![long.clone(); 100];
    rig.tells("b", &other_layout);
    let renew = Renew {
        node: "node".to_owned(),
        box_name: long,
        incarnation: 1,
        session: 0,
        number: 1,
        alone: None,
    };
    rig.says("node", &renew);
    let reports = rig.out.iter().filter_map(|output| match output {
        Output::Report(_, text) => Some(text.len()),
        _ => None,
    });
    let reports: Vec<usize> = reports.collect();
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|length| *length < 2_000), "{reports:?}");
}

/// Agents of boxes that have no vote come and go: nothing is kept of them.
#[test]
fn only_voters_are_remembered() {
    let mut rig = Rig::founded();
    let weight = rig.coordinator.weight();
    for number in 0..100 {
        let name = format!("agent.box-{number}");
        let from = EndpointId::from_random([1; 16]);
        rig.coordinator.reaches(from, &name, true, rig.now);
    }
    assert_eq!(rig.coordinator.weight(), weight);
}

/// A node that had been silent for too long was granted its lease again while it was being decided that it is out: it acted, and
/// others took its place.
#[test]
fn nothing_is_granted_to_a_node_while_it_is_given_up() {
    let mut rig = Rig::alone();
    rig.says("node", &renew(2, 0));
    let granted = rig.granted();
    let session = granted[0];
    assert!(session > 0, "{granted:?}");
    rig.stalls = true;
    rig.pass(2900);
    rig.granted();
    rig.says("node", &renew(3, session));
    assert_eq!(rig.granted(), [0]);
    rig.stalls = false;
    rig.coordinator.persisted(rig.persisted);
    rig.settle();
    let view = rig.coordinator.view().unwrap();
    // It was out, and has asked again.
    assert!(view.get("node").unwrap().session > session);
}
