//! With whom a node renews its lease.

use crate::coordination::{LeaseAnswer, Renew};

use super::coordination::{granted, rig, seen, told};
use super::*;

/// The topics of the renewals that went out since the last time, and the number of the last.
fn renewals(rig: &mut Rig) -> (Vec<String>, u64) {
    let renewals = told::<Renew>(rig);
    let number = renewals.last().map_or(0, |(_, renew)| renew.number);
    for (_, renew) in &renewals {
        assert_eq!(renew.alone, Some(renewals.len() == 1));
    }
    let topics = renewals.into_iter().map(|(topic, _)| topic);
    (topics.collect(), number)
}

fn topics(agents: &[&str]) -> Vec<String> {
    let topic = |agent: &&str| format!("zeek/cluster/node/{agent}/");
    agents.iter().map(topic).collect()
}

const ALL: [&str; 3] = ["agent.a", "agent.b", "agent.c"];

#[test]
fn a_node_renews_with_the_leader_alone_and_with_all_if_it_does_not_answer() {
    let mut rig = rig("data-a");
    rig.pass(Duration::ZERO);
    let (asked, number) = renewals(&mut rig);
    assert_eq!(asked, topics(&ALL));
    let by_leader = |number, confirmed| LeaseAnswer {
        confirmed: Some(confirmed),
        ..granted(number, 3)
    };
    rig.receive(102, &by_leader(number, false));
    rig.receive(101, &seen(number));
    for _ in 0..3 {
        rig.pass(Duration::from_millis(500));
        let (asked, number) = renewals(&mut rig);
        assert_eq!(asked, topics(&["agent.b"]));
        rig.receive(102, &by_leader(number, true));
    }
    rig.pass(Duration::from_millis(500));
    assert_eq!(renewals(&mut rig).0, topics(&["agent.b"]));
    rig.pass(Duration::from_millis(500));
    assert_eq!(renewals(&mut rig).0, topics(&ALL));
}
