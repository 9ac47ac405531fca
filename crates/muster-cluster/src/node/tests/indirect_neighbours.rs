//! Neighbours that are reached only through others.

use super::*;

fn direct(rig: &Rig, name: &str) -> bool {
    let name = NodeName::new(name).unwrap();
    let node = rig.node.membership().get(&name).unwrap();
    node.life.as_ref().unwrap().direct
}

fn indirect_neighbours(rig: &Rig) -> Vec<String> {
    rig.node
        .indirect_neighbours()
        .map(ToString::to_string)
        .collect()
}

/// What the operator was told of links.
fn of_links(rig: &mut Rig) -> Vec<String> {
    let mut said = rig.said();
    said.retain(|text| text.contains("link"));
    said
}

fn heard_of(rig: &mut Rig, name: &str, number: u8) {
    let id = id(number);
    rig.step(Input::Reach(id, Reach::Discovered));
    rig.hello(name, number);
}

fn linked(rig: &mut Rig, number: u8, direct: bool) {
    let id = id(number);
    let reach = if direct {
        Reach::PeerUp(Version::V2)
    } else {
        Reach::PeerDown(Version::V2)
    };
    rig.step(Input::Reach(id, reach));
}

#[test]
fn a_neighbour_without_a_link_is_a_member_and_told_of_after_a_while() {
    let mut rig = Rig::new("worker-1");
    for (name, number) in [
        ("manager", 1),
        ("logger-1", 2),
        ("logger-2", 3),
        ("data-1", 4),
    ] {
        rig.up(name, number);
    }
    heard_of(&mut rig, "data-2", 5);
    assert!(rig.node.has_all_neighbours() && !direct(&rig, "data-2"));
    assert_eq!(indirect_neighbours(&rig), ["data-2"]);
    // Usually the link stands a moment later.
    rig.said();
    rig.pass(Duration::from_secs(4));
    linked(&mut rig, 5, true);
    rig.pass(Duration::from_secs(10));
    assert!(direct(&rig, "data-2"));
    assert_eq!(
        (of_links(&mut rig), indirect_neighbours(&rig).len()),
        (Vec::new(), 0)
    );
    // Here it does not, and the operator is told once, and when it is back.
    linked(&mut rig, 5, false);
    rig.pass(Duration::from_secs(60));
    assert_eq!(
        of_links(&mut rig),
        ["no link with data-2: it is reached only through other nodes"]
    );
    linked(&mut rig, 5, true);
    assert_eq!(of_links(&mut rig), ["the link with data-2 is up again"]);
    // Other workers never have one.
    heard_of(&mut rig, "worker-2", 6);
    rig.said();
    rig.pass(Duration::from_secs(60));
    assert_eq!(
        (of_links(&mut rig), indirect_neighbours(&rig).len()),
        (Vec::new(), 0)
    );
    assert!(!direct(&rig, "worker-2"));
}

#[test]
fn of_a_neighbour_that_is_down_nothing_more_is_told() {
    let mut rig = Rig::new("worker-1");
    heard_of(&mut rig, "data-2", 5);
    rig.pass(Duration::from_secs(6));
    rig.said();
    rig.step(Input::Reach(id(5), Reach::Unreachable));
    assert_eq!(of_links(&mut rig), NOTHING);
    assert_eq!(indirect_neighbours(&rig).len(), 0);
    // Its next life is waited for anew.
    heard_of(&mut rig, "data-2", 6);
    rig.said();
    rig.pass(Duration::from_secs(4));
    assert_eq!(of_links(&mut rig), NOTHING);
}
