//! One coordinator, what it hears by hand.

use muster_consensus::{ClusterId, DiskId, Kept};
use muster_data::{DataRef, Encode, Record};
use muster_wire::zeek::Message;
use muster_wire::{EndpointId, Mono};

use super::{Config, Coordinator, Output, Severity, To};
use crate::messages::{Begin, Present};

const OURS: [u8; 16] = [1; 16];
const FOREIGN: [u8; 16] = [9; 16];

struct Rig {
    coordinator: Coordinator,
    now: Mono,
    /// What went out since it was looked at last.
    out: Vec<Output>,
}

impl Rig {
    /// The first of three voters, in no group yet.
    fn new() -> Self {
        let config = Config {
            me: "a".to_owned(),
            voters: ["a", "b", "c"].map(str::to_owned).to_vec(),
            witnesses: Vec::new(),
            nodes: [("node".to_owned(), "a".to_owned())].into(),
        };
        let coordinator = Coordinator::new(config, DiskId(OURS), None, Mono(0), 1).unwrap();
        let mut rig = Self {
            coordinator,
            now: Mono(0),
            out: Vec::new(),
        };
        rig.settle();
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
                Output::Persist(number, _) => self.coordinator.persisted(*number),
                _ => {}
            }
            self.out.push(output);
        }
    }

    fn tells<R: Record + Encode>(&mut self, voter: &str, record: &R) {
        let bytes = muster_cluster::coordination::event(record);
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&bytes)) else {
            panic!("an event")
        };
        let name = format!("{}{voter}", muster_cluster::AGENT_PREFIX);
        let from = EndpointId::from_random([voter.as_bytes()[0]; 16]);
        self.coordinator.receive(from, &name, &event, self.now);
        self.settle();
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

fn present(disk: u8, cluster: &[u8], generation: u64) -> Present {
    Present {
        disk: vec![disk; 16],
        cluster: cluster.to_vec(),
        generation,
        voters: ["a", "b", "c"].map(str::to_owned).to_vec(),
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
