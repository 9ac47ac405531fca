//! What is lost, late, too much, or ends.

use super::*;

#[test]
fn a_question_that_comes_twice_is_handled_once() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    let question = net.take().pop().unwrap();
    net.hand_over(&question);
    let lost = net.take();
    assert_eq!(lost.len(), 1);
    // The answer was lost: the question is sent again, and answered again.
    net.0[MANAGER].pass(Duration::from_millis(500));
    net.carry();
    assert_eq!(net.said(MANAGER), ["7: 14"]);
    assert_eq!(net.said(1), ["doubles 7 at Some(5)"]);
    // Copies of both come late.
    net.hand_over(&question);
    net.hand_over(&lost[0]);
    net.carry();
    assert_eq!(net.said(MANAGER), NOTHING);
    assert_eq!(net.said(1), NOTHING);
    assert_eq!(net.counts(MANAGER).questions_repeated, 1);
    assert_eq!(net.counts(MANAGER).answers_late, 2);
    assert_eq!(net.counts(1).questions_again, 2);
}

#[test]
fn a_request_ends_at_its_deadline() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    net.0[MANAGER].pass(Duration::from_millis(2_999));
    assert_eq!(net.said(MANAGER), NOTHING);
    assert_eq!(net.0[MANAGER].node.open_requests(), 1);
    net.0[MANAGER].pass(Duration::from_millis(1));
    assert_eq!(
        net.said(MANAGER),
        ["7: request to data-1: no answer by the deadline (perhaps handled)"]
    );
    // The answer of a node that was too slow.
    net.carry();
    assert_eq!(net.said(MANAGER), NOTHING);
    assert!(net.counts(MANAGER).answers_late > 0);
    assert_eq!(net.counts(MANAGER).questions_unknown, 1);
}

#[test]
fn a_request_ends_with_its_node_and_that_to_an_owner_goes_to_the_next_one() {
    let mut net = Net::new();
    let key = key_of(&net, "data-1");
    net.ask("node data-1", 7);
    net.ask(&format!("owner {key}"), 8);
    let lost = net.take();
    net.loses(MANAGER, 1);
    assert_eq!(
        net.said(MANAGER),
        ["7: request to data-1: the node is gone (perhaps handled)"]
    );
    net.carry();
    assert_eq!(net.said(MANAGER), ["8: 16"]);
    assert_eq!(net.said(2), ["doubles 8 at Some(5)"]);
    // The first owner has lived all the time, and is heard too late.
    for message in &lost {
        net.hand_over(message);
    }
    net.carry();
    assert_eq!(net.said(MANAGER), NOTHING);
}

#[test]
fn of_a_key_without_an_owner_the_next_one_is_waited_for() {
    let mut net = Net::new();
    let key = key_of(&net, "data-1");
    net.ask(&format!("owner {key}"), 8);
    net.take();
    net.loses(MANAGER, 1);
    net.loses(MANAGER, 2);
    net.take();
    net.0[MANAGER].pass(Duration::from_secs(1));
    assert_eq!(net.said(MANAGER), NOTHING);
    net.loses(2, MANAGER);
    net.sees(MANAGER, 2);
    net.sees(2, MANAGER);
    net.carry();
    assert_eq!(net.said(MANAGER), ["8: 16"]);
    net.loses(MANAGER, 2);
    net.ask(&format!("owner {key}"), 9);
    let nobody = "9: request: nobody is there to ask";
    assert_eq!(net.said(MANAGER), [nobody]);
}

#[test]
fn a_node_that_stops_ends_its_requests_before_anything_else() {
    let mut net = Net::new();
    net.ask("node data-1", 7);
    net.0[MANAGER].step(Input::Stop);
    assert_eq!(
        net.said(MANAGER),
        [
            "7: request to data-1: this node has stopped before an answer came (perhaps handled)",
            "done",
            "1: request to manager: this node stops, and asks nobody any more",
        ]
    );
}

#[test]
fn too_many_requests_are_refused_and_each_has_an_outcome() {
    let mut net = Net::new();
    net.ask("many data-1", 1_100);
    assert_eq!(net.0[MANAGER].node.open_requests(), 1_024);
    assert_eq!(net.counts(MANAGER).questions_not_handled, 76);
    net.carry();
    assert_eq!(net.0[MANAGER].node.open_requests(), 0);
    assert_eq!(net.counts(1).questions_handled, 1_024);
}

#[test]
fn a_framework_that_asks_for_ever_keeps_nobody_else_from_work() {
    let mut net = Net::new();
    net.ask("for_ever", 1);
    let now = net.0[MANAGER].now.mono;
    assert_eq!(net.0[MANAGER].node.next_deadline(), Some(now));
    net.0[MANAGER].step(Input::Tick);
    let asked = net.counts(MANAGER).questions_not_handled;
    assert!((10..200_000).contains(&asked), "{asked}");
}

#[test]
fn questions_and_answers_that_are_none_are_refused() {
    let mut net = Net::new();
    for event in ["Muster::question", "Muster::answer"] {
        let payload = encoded(event, None, None, &row(1));
        net.hand_over(&(MANAGER, 1, Bytes::from(payload)));
    }
    assert_eq!(net.counts(1).events_refused, 2);
    // An answer to nothing, and one in a way that later releases may know.
    let mut payload = Vec::new();
    let unknown = [Data::from(7_u64), Data::from(99_u64), Data::None];
    let unknown = Data::vector(unknown);
    zeek::put_event(&mut payload, "Muster::answer", Metadata::default(), |out| {
        unknown.encode(out);
    });
    net.hand_over(&(MANAGER, 1, Bytes::from(payload)));
    assert_eq!(net.counts(1).answers_late, 1);
}
