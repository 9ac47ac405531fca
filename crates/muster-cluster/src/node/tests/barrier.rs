//! Waiting for nodes that are mutually up: the question, its answers, and how waits end.

use super::super::barrier::{NotSeen, Question};
use super::*;

const LIMIT: Duration = Duration::from_secs(5);

fn wait(rig: &mut Rig, token: u64, quorum: &Quorum) {
    rig.step(Input::AwaitReady {
        token,
        quorum,
        limit: LIMIT,
    });
}

fn lives(numbers: &[u8]) -> Vec<String> {
    numbers
        .iter()
        .map(|number| id(*number).to_string())
        .collect()
}

/// What the operator and the driver were told of waits.
fn of_waits(rig: &mut Rig) -> Vec<String> {
    // What comes in bursts is looked at together.
    rig.pass(Duration::from_millis(5));
    let mut said = rig.said();
    said.retain(|text| text.starts_with("wait"));
    said
}

fn answer(rig: &mut Rig, from: u8, question: u64, missed: &[u8]) {
    let lives = lives(missed);
    rig.receive(from, &NotSeen { question, lives });
}

#[test]
fn a_wait_asks_everybody_and_ends_when_all_have_answered() {
    let mut rig = Rig::new("worker-1");
    let data = Quorum::OfRole(Role::Proxy, 2);
    wait(&mut rig, 7, &data);
    rig.up("data-1", 1);
    let asked = "Muster::whom_do_you_see to zeek/cluster/all/".to_owned();
    assert!(!rig.published().contains(&asked), "too few are up");
    rig.up("data-2", 2);
    rig.pass(Duration::from_millis(5));
    assert!(rig.published().contains(&asked));
    rig.pass(Duration::from_millis(110));
    assert_eq!(rig.published(), [asked], "nobody has answered");
    answer(&mut rig, 1, 1, &[]);
    assert_eq!(of_waits(&mut rig), NOTHING);
    answer(&mut rig, 2, 1, &[]);
    assert_eq!(of_waits(&mut rig), ["wait 7: ready"]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.published(), NOTHING, "nobody waits any longer");
}

#[test]
fn waits_end_in_time_when_they_are_refused_and_when_the_node_stops() {
    let mut rig = Rig::new("worker-1");
    wait(&mut rig, 1, &Quorum::OfRole(Role::Logger, 1));
    wait(&mut rig, 2, &Quorum::OfRole(Role::Logger, 3));
    wait(&mut rig, 3, &Quorum::All);
    rig.step(Input::GiveUpReady { token: 3 });
    let said = of_waits(&mut rig);
    assert_eq!(
        said,
        ["wait 2: 3 nodes are to be ready, but the layout has only 2 of that kind"]
    );
    rig.pass(LIMIT);
    assert_eq!(
        of_waits(&mut rig),
        ["wait 1: not ready in time: 0 of 1 nodes are mutually up; not up: logger-1, logger-2"]
    );
    for token in 0..70 {
        wait(&mut rig, token, &Quorum::All);
    }
    let said = of_waits(&mut rig);
    assert_eq!(said.len(), 6, "64 wait");
    assert_eq!(said[0], "wait 64: too many waits for readiness already");
    rig.step(Input::Stop);
    wait(&mut rig, 99, &Quorum::All);
    let said = of_waits(&mut rig);
    assert_eq!(said.len(), 65);
    assert!(
        said.iter()
            .all(|text| text.ends_with("the node is stopping"))
    );
}

#[test]
fn a_node_answers_with_those_that_it_does_not_see() {
    let mut rig = Rig::new("worker-1");
    rig.up("data-1", 1);
    rig.published();
    let ask = |rig: &mut Rig, from, lives| {
        let question = Question { question: 5, lives };
        rig.receive(from, &question);
    };
    ask(&mut rig, 1, lives(&[0, 1, 2]));
    let (topic, payload) = rig.published.pop().unwrap();
    assert_eq!(topic, format!("zeek/cluster/nodeid/{}/", id(1)));
    let expected = NotSeen {
        question: 5,
        lives: lives(&[2]),
    };
    assert_eq!(payload, encoded(NotSeen::NAME, None, None, &expected));
    // Whoever is no member learns that it is not seen either.
    ask(&mut rig, 9, lives(&[0, 9]));
    assert_eq!(rig.published().len(), 1);
    // Of others nothing is said, and what is no question is refused.
    ask(&mut rig, 1, lives(&[1, 2]));
    ask(&mut rig, 1, vec!["x".to_owned()]);
    assert_eq!(rig.published(), NOTHING);
    assert_eq!(rig.node.counts().events_refused, 1);
}

#[test]
fn a_framework_can_wait() {
    let mut rig = Rig::new("worker-1");
    rig.act("await_loggers 1");
    rig.up("logger-2", 3);
    rig.pass(Duration::from_millis(5));
    answer(&mut rig, 3, 1, &[]);
    rig.pass(Duration::from_millis(5));
    let said = rig.said();
    assert!(said.contains(&"ready 1 Ok(())".to_owned()), "{said:?}");
}
