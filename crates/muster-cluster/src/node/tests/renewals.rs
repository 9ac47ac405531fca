//! With whom a node renews its lease, and whom it fences when it has one again.

use crate::coordination::{LeaseAnswer, Membership, OutReason, Renew, View, ViewUpdate};

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

/// The only way to the coordinators leads through a node that was out: as soon as the node had a lease again it fenced that, and never
/// heard that it was in.
#[test]
fn a_node_that_has_missed_a_view_fences_nobody_before_it_has_heard_it() {
    let mut rig = rig("data-a");
    let relay = |out| Membership {
        box_name: "b".to_owned(),
        life: id(2),
        incarnation: 1,
        session: 2,
        changed: 4,
        out,
    };
    let mut view = View::founded([7; 16], 0);
    view.set(4, "data-b", relay(Some(OutReason::Silent)));
    let own = Membership {
        life: id(0),
        session: 3,
        ..relay(None)
    };
    view.set(4, "data-a", own);
    rig.receive(101, &ViewUpdate::whole(&view));
    let fences = |rig: &mut Rig| {
        let mut said = rig.said();
        said.retain(|text| text.contains("fence "));
        said
    };
    fences(&mut rig);
    rig.pass(Duration::from_millis(500));
    let (_, number) = renewals(&mut rig);
    rig.receive(
        101,
        &LeaseAnswer {
            epoch: 9,
            ..granted(number, 3)
        },
    );
    rig.receive(102, &seen(number));
    assert!(rig.node.lease_until().is_some());
    assert_eq!(fences(&mut rig), [""; 0]);
    let mut known = relay(None);
    known.changed = 9;
    view.set(9, "data-b", known);
    rig.receive(101, &ViewUpdate::whole(&view));
    assert_eq!(fences(&mut rig), [format!("unfence {}", id(2))]);
    // From then on it fences at once.
    view.set(
        10,
        "data-b",
        Membership {
            changed: 10,
            ..relay(Some(OutReason::Silent))
        },
    );
    rig.receive(101, &ViewUpdate::whole(&view));
    assert_eq!(fences(&mut rig), [format!("fence {}", id(2))]);
}
