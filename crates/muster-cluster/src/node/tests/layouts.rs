//! Nodes that run with different layouts.

use muster_wire::zeek::LayoutFingerprint;

use super::*;

fn hello(rig: &mut Rig, name: &str, number: u8, fingerprint: Option<LayoutFingerprint>) {
    let hello = Hello {
        name: name.to_owned(),
        id: id(number).to_string(),
    };
    let metadata = Metadata {
        features: None,
        timestamp: None,
        incarnation: Some(number.into()),
        fingerprint,
    };
    let mut payload = Vec::new();
    zeek::put_event(&mut payload, Hello::NAME, metadata, |out| hello.encode(out));
    rig.step(Input::Message {
        from: id(number),
        payload: &payload,
    });
}

/// Two owners for a third of the keys, and everybody said `ready`.
#[test]
fn nodes_with_other_layouts_are_named() {
    let ours = Layout::parse(LAYOUT, "test", &[]).unwrap().fingerprint();
    let other = LayoutFingerprint {
        layout: ours.layout + 1,
        ..ours
    };
    let mut rig = Rig::new("worker-1");
    rig.step(Input::Reach(id(2), Reach::PeerUp(Version::V1)));
    hello(&mut rig, "manager", 2, Some(other));
    hello(&mut rig, "manager", 2, Some(other));
    let said = rig.said();
    let told: Vec<_> = said
        .iter()
        .filter(|text| text.starts_with("layout of manager: "))
        .collect();
    assert_eq!(told.len(), 1, "{said:?}");
    assert!(
        rig.node
            .troubles()
            .any(|trouble| trouble.cause.name() == "layout")
    );
    // It is over with the life that had the other one.
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    assert_eq!(rig.node.troubles().count(), 0);
    rig.said();
    // Zeek's nodes and those with the same layout are in order; other settings are told once.
    rig.step(Input::Reach(id(3), Reach::PeerUp(Version::V1)));
    hello(&mut rig, "manager", 3, Some(ours));
    rig.step(Input::Reach(id(4), Reach::PeerUp(Version::V1)));
    hello(&mut rig, "logger-1", 4, None);
    rig.step(Input::Reach(id(5), Reach::PeerUp(Version::V1)));
    let settings = LayoutFingerprint {
        settings: ours.settings + 1,
        ..ours
    };
    hello(&mut rig, "data-1", 5, Some(settings));
    assert_eq!(rig.node.troubles().count(), 0);
    let said = rig.said();
    assert_eq!(
        said.iter().filter(|text| text.contains("settings")).count(),
        1,
        "{said:?}"
    );
}
