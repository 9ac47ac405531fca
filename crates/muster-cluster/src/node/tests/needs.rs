//! Stores that endpoints without a layout need: one node has them opened.

use crate::coordination::{StoreCandidate, StoreCopy, StoreGroup, View, ViewUpdate};

use super::*;

const NAMED: &str = r#"
    [store."test/elsewhere"]
    master = "data-1"
"#;

fn store() -> StoreName {
    StoreName::new("test/a").unwrap()
}

fn need(need: StoreNeed) -> NeedStore {
    NeedStore::new(&store(), need)
}

/// What was told or passed on: the topic, and what was said.
fn sent(rig: &mut Rig) -> Vec<(String, String)> {
    let sent = std::mem::take(&mut rig.published).into_iter();
    let sent = sent.filter_map(|(topic, payload)| {
        let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(&payload)) else {
            return None;
        };
        if let Some((store, state)) = StoreState::read(&event) {
            return Some((topic, format!("{store} {state:?}")));
        }
        let need = event.arguments().to::<NeedStore>().ok();
        let need = need.filter(|_| event.name() == NeedStore::NAME)?;
        let asker = need.asker.as_deref().unwrap_or("nobody");
        Some((topic, format!("{:?} for {asker}", need.need())))
    });
    sent.collect()
}

fn answers(asker: u8) -> String {
    format!("muster/stores/{}/", id(asker))
}

const STRANGER: u8 = 9;

fn rig(name: &str) -> Rig {
    let mut rig = Rig::of(
        &format!("{LAYOUT}{NAMED}"),
        name,
        &Registry::new().with::<Actor>(),
    )
    .unwrap();
    rig.step(Input::Reach(id(STRANGER), Reach::PeerUp(Version::V1)));
    rig.said();
    rig.published.clear();
    rig
}

#[test]
fn the_primarys_node_is_asked_to_open_it_by_anybody() {
    let mut rig = rig("manager");
    rig.receive(STRANGER, &need(StoreNeed::Any));
    let asked = format!("{} needs test/a: Any", id(STRANGER));
    assert_eq!(rig.said(), [asked]);
    assert_eq!(sent(&mut rig), []);
}

#[test]
fn a_node_that_relays_passes_it_on_to_the_primarys_node() {
    let mut rig = rig("logger-1");
    rig.receive(STRANGER, &need(StoreNeed::Existing));
    let away = format!(
        "test/a {:?}",
        StoreState::Away {
            node: "manager".to_owned()
        }
    );
    assert_eq!(sent(&mut rig), [(answers(STRANGER), away)]);
    rig.up("manager", 1);
    rig.published.clear();
    rig.receive(STRANGER, &need(StoreNeed::Existing));
    let passed_on = format!("Existing for {}", id(STRANGER));
    let to_manager = "zeek/cluster/node/manager/".to_owned();
    assert_eq!(sent(&mut rig), [(to_manager, passed_on)]);
}

/// What a worker is sent goes nowhere from there.
#[test]
fn a_node_that_does_not_relay_says_whom_to_ask() {
    let mut rig = rig("worker-1");
    rig.up("manager", 1);
    rig.published.clear();
    rig.receive(STRANGER, &need(StoreNeed::Any));
    let said = sent(&mut rig);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, answers(STRANGER));
    assert!(
        said[0].1.contains("Elsewhere") && said[0].1.contains("manager"),
        "{said:?}"
    );
}

#[test]
fn only_nodes_pass_it_on_and_only_once() {
    let mut rig = rig("manager");
    rig.up("logger-1", 2);
    rig.pass(Duration::from_secs(6));
    rig.said();
    rig.published.clear();
    let passed_on = NeedStore {
        asker: Some(id(7).to_string()),
        ..need(StoreNeed::Any)
    };
    rig.receive(STRANGER, &passed_on);
    let said = rig.said();
    assert!(
        said.len() == 1 && said[0].starts_with("refused Muster::need_store"),
        "{said:?}"
    );
    assert_eq!(rig.node.counts().control_events_refused, 1);
    rig.receive(2, &passed_on);
    assert_eq!(rig.said(), [format!("{} needs test/a: Any", id(7))]);
    assert_eq!(sent(&mut rig), []);
    // The two have different layouts.
    let wrong = NeedStore {
        store: "test/elsewhere".to_owned(),
        ..passed_on
    };
    rig.receive(2, &wrong);
    assert_eq!(rig.said(), NOTHING);
    let said = sent(&mut rig);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, answers(7));
    assert!(
        said[0].1.contains("Refused") && said[0].1.contains("by that of manager on data-1"),
        "{said:?}"
    );
}

#[test]
fn many_requests_have_it_busy_and_nothing_else() {
    let mut rig = rig("manager");
    for _ in 0..1000 {
        rig.receive(STRANGER, &need(StoreNeed::Any));
    }
    assert_eq!(rig.said().len(), 64);
    let said = sent(&mut rig);
    assert_eq!(said.len(), 1000 - 64);
    assert!(said.iter().all(|(_, text)| text == "test/a Busy"));
    rig.pass(Duration::from_secs(1));
    rig.receive(STRANGER, &need(StoreNeed::Any));
    assert_eq!(rig.said().len(), 1);
}

#[test]
fn malformed_requests_are_refused() {
    let mut rig = rig("manager");
    let nameless = NeedStore {
        store: "/".to_owned(),
        ..need(StoreNeed::Any)
    };
    rig.receive(STRANGER, &nameless);
    assert_eq!(rig.said(), NOTHING);
    assert_eq!(rig.node.counts().events_refused, 1);
}

/// Where coordinators decide, the manager may be away: the first that is there opens a store, and where one is open the view says.
#[test]
fn by_coordinators_any_node_that_is_there_finds_a_store_a_home() {
    let mut view = View::founded([7; 16], 0);
    let mut rig = coordination::rig("data-b");
    rig.step(Input::Reach(id(STRANGER), Reach::PeerUp(Version::V1)));
    rig.said();
    rig.published.clear();
    rig.receive(101, &coordination::seen(1));
    rig.receive(STRANGER, &need(StoreNeed::Any));
    let asked = format!("{} needs test/a: Any", id(STRANGER));
    assert_eq!(rig.said().last(), Some(&asked), "the first is away");
    rig.up("manager", 1);
    rig.published.clear();
    rig.receive(STRANGER, &need(StoreNeed::Any));
    let passed_on = format!("Any for {}", id(STRANGER));
    let to_manager = "zeek/cluster/node/manager/".to_owned();
    assert_eq!(sent(&mut rig), [(to_manager, passed_on)]);

    // It is open elsewhere, on a node that this one has lost: another one will take its place.
    let primary = StoreCopy::new("data-c", id(3));
    let mut group = StoreGroup {
        opened: 3,
        began: 3,
        changed: 5,
        persistent: false,
        copies: 2,
        min_copies: 1,
        candidates: ["manager", "data-b", "data-c"].map(candidate).to_vec(),
        in_sync: vec![primary.clone()],
        primary: Some(primary),
        joining: None,
    };
    view.set_store(5, "test/a", group.clone());
    rig.receive(101, &ViewUpdate::whole(&view));
    let away = || "test/a Away { node: \"data-c\" }".to_owned();
    rig.receive(STRANGER, &need(StoreNeed::Existing));
    assert_eq!(sent(&mut rig), [(answers(STRANGER), away())]);
    // It is there: the asker finds it.
    rig.up("data-c", 3);
    rig.published.clear();
    rig.receive(STRANGER, &need(StoreNeed::Existing));
    assert_eq!(
        sent(&mut rig),
        [(answers(STRANGER), "test/a Open".to_owned())]
    );
    // It waits for its last copy.
    group.primary = None;
    group.changed = 6;
    view.set_store(6, "test/a", group);
    rig.receive(101, &ViewUpdate::whole(&view));
    rig.receive(STRANGER, &need(StoreNeed::Existing));
    assert_eq!(sent(&mut rig), [(answers(STRANGER), away())]);
}

fn candidate(node: &str) -> StoreCandidate {
    StoreCandidate {
        node: node.to_owned(),
        box_name: node[node.len() - 1..].to_owned(),
    }
}
