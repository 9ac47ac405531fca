//! What arrives for which a node has no use.

use super::*;

#[test]
fn an_event_that_nobody_handles_is_counted_and_told_once() {
    let mut rig = Rig::new("data-1");
    rig.up("worker-1", 1);
    rig.said();
    let send = |rig: &mut Rig, name: &str| {
        let payload = encoded(name, None, None, &(1u64,));
        rig.step(Input::Message {
            from: id(1),
            payload: &payload,
        });
    };
    for _ in 0..3 {
        send(&mut rig, "Intel::insert_indicator");
    }
    assert_eq!(
        rig.said(),
        [
            "no framework handles event Intel::insert_indicator of worker-1; from now on it is only counted"
        ]
    );
    // What Zeek's nodes tell one another when they meet asks nothing of ours.
    for name in [
        "Broker::announce_masters",
        "Cluster::Experimental::node_fully_connected",
        "Cluster::Experimental::cluster_started",
    ] {
        send(&mut rig, name);
    }
    // Rows of the node's own inputs are no loss.
    let row = encoded("Muster::connection", None, None, &(1u64,));
    rig.step(Input::Raise(&row));
    assert_eq!(rig.said(), NOTHING);
    let counts = rig.node.counts();
    assert_eq!(counts.events_unhandled.get("Intel::insert_indicator"), 3);
    assert_eq!(
        (counts.events_unhandled.total(), counts.events_refused),
        (3, 0)
    );
    // As many names as anybody cares to think of take no more memory than 65.
    for number in 0..1_000 {
        send(&mut rig, &format!("Made::up_{number}"));
    }
    assert_eq!(rig.said().len(), 64);
    let counts = rig.node.counts();
    assert_eq!(counts.events_unhandled.iter().count(), 65);
    assert_eq!(counts.events_unhandled.get(ByName::OTHER), 937);
    let counters = counts.counters();
    let unhandled = counters
        .iter()
        .filter(|counter| counter.key() == "events_unhandled");
    assert_eq!(unhandled.map(|counter| counter.value).sum::<u64>(), 1_003);
    let label = ("event", "Intel::insert_indicator".to_owned());
    let named = counters
        .iter()
        .find(|counter| counter.labels.contains(&label));
    assert_eq!(named.unwrap().value, 3);
}

#[test]
fn a_variables_new_value_is_no_mistake() {
    let mut rig = Rig::new("worker-1");
    rig.said();
    for value in 0..4u64 {
        let mut update = Vec::new();
        zeek::put_identifier_update(&mut update, "Site::local_nets", |out| value.encode(out));
        rig.step(Input::Message {
            from: id(1),
            payload: &update,
        });
    }
    let said = rig.said();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("variable Site::local_nets"), "{said:?}");
    let counts = rig.node.counts();
    assert_eq!(counts.identifier_updates.get("Site::local_nets"), 4);
    assert_eq!(counts.events_refused, 0);
}
