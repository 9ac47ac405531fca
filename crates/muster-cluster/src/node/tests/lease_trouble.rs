//! A node that has no lease although it should have one is not ready, and says why.

use super::coordination::{AGENTS, granted, seen, told};
use super::*;
use crate::coordination::{LeaseAnswer, Renew};

const BOXES: &str = r#"
    [box.a]
    address = "10.0.0.1"
    [box.b]
    address = "10.0.0.2"
    [box.c]
    address = "10.0.0.3"
    [[node]]
    name = "manager"
    role = "manager"
    box = "a"
"#;

fn rig() -> Rig {
    let mut rig = Rig::of(BOXES, "manager", &Registry::new().with::<Actor>()).unwrap();
    for (name, number) in AGENTS {
        rig.step(Input::Announced(id(number), name));
    }
    rig.said();
    rig
}

impl Rig {
    /// The number of the last renewal.
    fn renewed(&mut self) -> u64 {
        told::<Renew>(self).last().unwrap().1.number
    }

    /// So many voters answer a renewal. The first one leads.
    fn answered(&mut self, number: u64, voters: usize, is_out: bool) {
        for (voter, (_, endpoint)) in AGENTS[..voters].iter().enumerate() {
            let answer = match (voter, is_out) {
                (0, false) => granted(number, 5),
                (0, true) => LeaseAnswer {
                    is_out,
                    ..seen(number)
                },
                _ => seen(number),
            };
            self.receive(*endpoint, &answer);
        }
    }

    fn troubles(&self) -> Vec<String> {
        let troubles = self.node.troubles();
        troubles
            .map(|trouble| format!("{}: {}", trouble.cause, trouble.text))
            .collect()
    }
}

#[test]
fn a_node_that_never_heard_of_coordinators_fails_at_nothing() {
    let mut rig = rig();
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.troubles(), NOTHING);
}

#[test]
fn a_lease_that_is_over_is_trouble_until_there_is_another_one() {
    let mut rig = rig();
    let number = rig.renewed();
    rig.answered(number, 2, false);
    assert_eq!(rig.node.state(), NodeState::Ready);
    // It runs for two seconds, and a moment without one is no trouble.
    rig.pass(Duration::from_millis(2_900));
    assert_eq!(rig.troubles(), NOTHING);
    rig.pass(Duration::from_millis(700));
    let suspended = "lease: this node was stopped, or hears too few coordinators";
    assert_eq!(rig.troubles(), [suspended]);
    assert_eq!(rig.node.state(), NodeState::Degraded);
    let number = rig.renewed();
    rig.answered(number, 1, true);
    rig.pass(Duration::from_millis(600));
    let out = "lease: out by the coordinators' word, and not admitted yet";
    assert_eq!(rig.troubles(), [out]);
    let number = rig.renewed();
    rig.answered(number, 3, false);
    assert_eq!(rig.troubles(), NOTHING);
    assert_eq!(rig.node.state(), NodeState::Ready);
    assert!(
        rig.said()
            .iter()
            .any(|text| text.starts_with("lease: in order again"))
    );
}

#[test]
fn who_stops_does_not_miss_its_lease() {
    let mut rig = rig();
    let number = rig.renewed();
    rig.answered(number, 2, false);
    rig.step(Input::Stop);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.troubles(), NOTHING);
}
