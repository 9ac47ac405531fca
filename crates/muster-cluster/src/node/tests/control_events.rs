//! Control events: obeyed if a node sends them, counted if anybody else does.

use super::*;

/// A client of a gateway once ended nodes and made thousands of files.
#[test]
fn control_events_of_no_node_are_refused_and_counted() {
    let mut rig = Rig::new("manager");
    rig.up("worker-1", 2);
    rig.said();
    let stranger = 9;
    let open = |number: u64| OpenStore {
        store: format!("test/{number}"),
        persistent: true,
    };
    rig.step(Input::Reach(id(stranger), Reach::PeerUp(Version::V1)));
    // A node's hello may be on its way for a while.
    rig.receive(stranger, &open(0));
    assert_eq!(rig.said(), NOTHING);
    rig.pass(Duration::from_secs(6));
    let leave = Leave {
        name: "manager".to_owned(),
        id: id(0).to_string(),
        other: id(stranger).to_string(),
    };
    rig.receive(stranger, &leave);
    (0..100).for_each(|number| rig.receive(stranger, &open(number)));
    rig.receive(stranger, &Ready {});
    rig.watermark(stranger, "input", 100);
    let said = rig.said();
    assert!(
        said.iter().all(|text| text.starts_with("refused Muster::")),
        "{said:?}"
    );
    assert_eq!(
        said.len(),
        4,
        "told of once and again, then counted: {said:?}"
    );
    assert_eq!(rig.node.counts().control_events_refused, 104);
    // A node is obeyed.
    rig.receive(2, &open(1));
    assert_eq!(rig.said(), ["open test/1"]);
    rig.receive(2, &leave);
    assert!(rig.said().contains(&"leave".to_owned()));
}
