//! Nodes that are out of reach for a moment.

use super::*;

/// A hub that died within a second of the start took others with it: they were down and up again in the same moment.
#[test]
fn a_new_node_may_be_out_of_reach_for_a_moment() {
    let mut rig = Rig::new("manager");
    rig.step(Input::Reach(id(2), Reach::Discovered));
    rig.hello("worker-1", 2);
    rig.said();
    rig.pass(Duration::from_secs(1));
    rig.step(Input::Reach(id(2), Reach::Unreachable));
    rig.pass(Duration::from_millis(1400));
    rig.step(Input::Reach(id(2), Reach::Discovered));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.said(), NOTHING);
    // One that does not come back is down.
    rig.step(Input::Reach(id(2), Reach::Unreachable));
    assert_eq!(rig.said(), NOTHING);
    rig.pass(Duration::from_millis(1500));
    assert!(rig.said().contains(&"node down: worker-1".to_owned()));
}

/// A settled node that is out of reach is down at once.
#[test]
fn a_settled_node_is_down_at_once() {
    let mut rig = Rig::new("manager");
    rig.step(Input::Reach(id(2), Reach::Discovered));
    rig.hello("worker-1", 2);
    rig.pass(Duration::from_secs(6));
    rig.said();
    rig.step(Input::Reach(id(2), Reach::Unreachable));
    assert!(rig.said().contains(&"node down: worker-1".to_owned()));
}

/// One whose own link has ended is down at once, whichever is heard first.
#[test]
fn a_new_node_whose_link_has_ended_is_down_at_once() {
    let down = Reach::PeerDown(Version::V2);
    for order in [[down, Reach::Unreachable], [Reach::Unreachable, down]] {
        let mut rig = Rig::new("manager");
        rig.step(Input::Reach(id(2), Reach::PeerUp(Version::V2)));
        rig.step(Input::Reach(id(2), Reach::Discovered));
        rig.hello("worker-1", 2);
        rig.said();
        for reach in order {
            rig.step(Input::Reach(id(2), reach));
        }
        assert!(rig.said().contains(&"node down: worker-1".to_owned()));
    }
}

/// Its next life does not wait for the old one: down comes before up.
#[test]
fn the_next_life_ends_a_missing_one() {
    let mut rig = Rig::new("manager");
    rig.step(Input::Reach(id(2), Reach::Discovered));
    rig.hello("worker-1", 2);
    rig.said();
    rig.step(Input::Reach(id(2), Reach::Unreachable));
    rig.step(Input::Reach(id(3), Reach::Discovered));
    rig.hello("worker-1", 3);
    let said = rig.said();
    let at = |text: &str| said.iter().position(|said| said == text).unwrap();
    assert!(
        at("node down: worker-1") < at("node up: worker-1"),
        "{said:?}"
    );
}
