//! What a node does by the word of its cluster's coordinators.

use crate::coordination::{
    LeaseAnswer, Leaving, Membership as Decided, OutReason, Renew, Standing, StoreCandidate,
    StoreCopy, StoreGroup, View, ViewUpdate, ViewWanted,
};
use crate::pools::Pools;

use super::*;

const BOXES: &str = r#"
    [box.a]
    address = "10.0.0.1"
    [box.b]
    address = "10.0.0.2"
    [box.c]
    address = "10.0.0.3"
    [[node]]
    name = "manager"
    role = "manager"
    box = "a"
    [[node]]
    name = "data-a"
    role = "data"
    box = "a"
    [[node]]
    name = "data-b"
    role = "data"
    box = "b"
    [[node]]
    name = "data-c"
    role = "data"
    box = "c"
    [[node]]
    name = "data-z"
    role = "data"
    box = "c"
"#;

/// The life of a node, and the endpoints of the agents.
const DATA: [(&str, u8); 4] = [("data-a", 1), ("data-b", 2), ("data-c", 3), ("data-z", 4)];
pub(super) const AGENTS: [(&str, u8); 3] = [("agent.a", 101), ("agent.b", 102), ("agent.c", 103)];

/// A node of three boxes, whose agents have announced themselves.
pub(super) fn rig(name: &str) -> Rig {
    let registry = Registry::new().with::<Actor>();
    let mut rig = Rig::of(BOXES, name, &registry).unwrap();
    for (agent, number) in AGENTS {
        rig.step(Input::Announced(id(number), agent));
        rig.step(Input::Reach(id(number), Reach::Discovered));
    }
    rig.said();
    rig
}

/// What went to coordinators since the last time: the events of one kind with their topics.
pub(super) fn told<E: Event>(rig: &mut Rig) -> Vec<(String, E)> {
    let published = std::mem::take(&mut rig.published).into_iter();
    let told = published.filter_map(|(topic, payload)| {
        let event = EventRef::read(DataRef::from_validated(&payload)).ok()?;
        let is_it = event.name() == E::NAME;
        is_it.then(|| (topic, event.arguments().to::<E>().unwrap()))
    });
    told.collect()
}

pub(super) fn seen(number: u64) -> LeaseAnswer {
    LeaseAnswer {
        number,
        term: 1,
        epoch: 0,
        session: 0,
        is_out: false,
        voters: 0,
        confirmed: None,
        generation: None,
    }
}

pub(super) fn granted(number: u64, session: u64) -> LeaseAnswer {
    LeaseAnswer {
        session,
        voters: 3,
        ..seen(number)
    }
}

/// The node renews, and two of three voters answer.
fn grant(rig: &mut Rig, session: u64) {
    rig.published.clear();
    rig.pass(Duration::from_millis(500));
    let renewals = told::<Renew>(rig);
    let number = renewals.last().unwrap().1.number;
    rig.receive(101, &granted(number, session));
    rig.receive(102, &seen(number));
    assert_eq!(standing(rig), Standing::In);
}

fn standing(rig: &Rig) -> Standing {
    rig.node.coordination().unwrap().standing
}

pub(super) fn member(life: u8, session: u64, changed: u64, out: Option<OutReason>) -> Decided {
    Decided {
        box_name: "a".to_owned(),
        life: id(life),
        incarnation: 1,
        session,
        changed,
        out,
    }
}

/// The view of epoch 9: two nodes of three are in, and of the fourth nothing was ever decided. A node's own life is the rig's.
fn decided(own: &str) -> View {
    let mut view = View::founded([7; 16], 0);
    for (name, life) in &DATA[..3] {
        let life = if *name == own { 0 } else { *life };
        let is_out = *name == "data-c";
        let (changed, out) = if is_out {
            (9, Some(OutReason::Silent))
        } else {
            (3, None)
        };
        view.set(9, name, member(life, 3, changed, out));
    }
    if own == "manager" {
        view.set(9, own, member(0, 3, 3, None));
    }
    view
}

fn owners(pools: &Pools) -> Vec<String> {
    let owner = |key: u64| pools.owner(&PoolName::proxy(), &Key::from(key));
    (0..200)
        .map(|key| owner(key).unwrap().to_string())
        .collect()
}

/// The owners of keys if a few members are all that there are.
fn owners_among(names: &[&str]) -> Vec<String> {
    let layout = Layout::parse(BOXES, "test", &[]).unwrap();
    let mut pools = Pools::new(&layout, None);
    for name in names {
        pools.node_up(&NodeName::new(name).unwrap());
    }
    owners(&pools)
}

#[test]
fn a_node_renews_with_every_voter_twice_a_second() {
    let mut rig = rig("data-a");
    rig.pass(Duration::ZERO);
    rig.published.clear();
    for number in 1..=3 {
        rig.pass(Duration::from_millis(499));
        assert_eq!(told::<Renew>(&mut rig), []);
        rig.pass(Duration::from_millis(1));
        let renewals = told::<Renew>(&mut rig);
        let topics: Vec<&str> = renewals.iter().map(|(topic, _)| topic.as_str()).collect();
        let topic = |agent: &str| format!("zeek/cluster/node/{agent}/");
        assert_eq!(topics, ["agent.a", "agent.b", "agent.c"].map(topic));
        for (_, renew) in renewals {
            assert_eq!(
                (renew.node.as_str(), renew.box_name.as_str()),
                ("data-a", "a")
            );
            assert_eq!((renew.session, renew.incarnation), (0, 1));
            assert_eq!(renew.number, number + 1);
        }
    }
    assert_eq!(standing(&rig), Standing::Alone);
}

#[test]
fn only_agents_of_voters_answer() {
    let mut rig = rig("data-a");
    rig.step(Input::Announced(id(50), "data-b"));
    rig.step(Input::Announced(id(51), "agent.d"));
    rig.pass(Duration::from_millis(500));
    let number = told::<Renew>(&mut rig).last().unwrap().1.number;
    // A node, the agent of a box that has no vote, and one that has not said who it is.
    for from in [50, 51, 52] {
        rig.receive(from, &granted(number, 3));
        rig.receive(from, &ViewUpdate::whole(&decided("data-a")));
    }
    assert_eq!(rig.node.counts().control_events_refused, 6);
    assert_eq!(standing(&rig), Standing::Alone);
    assert_eq!(rig.node.coordination().unwrap().epoch, 0);
    rig.receive(101, &granted(number, 3));
    rig.receive(101, &granted(number, 3));
    assert_eq!(standing(&rig), Standing::Alone, "one voter of three");
    rig.receive(103, &seen(number));
    assert_eq!(standing(&rig), Standing::In);
    assert_eq!(rig.node.counts().control_events_refused, 6);
    assert_eq!(rig.node.coordination().unwrap().session, 3);
}

#[test]
fn all_who_have_a_view_have_the_same_owners() {
    let expected = owners_among(&["data-a", "data-b"]);
    for (name, _) in &DATA[..3] {
        // Each of them sees somebody else, and one sees nobody.
        let mut rig = rig(name);
        if *name == "data-b" {
            rig.up("data-c", 3);
        }
        if *name != "data-c" {
            grant(&mut rig, 3);
        }
        rig.receive(101, &ViewUpdate::whole(&decided(name)));
        if *name == "data-c" {
            // Without a lease it goes by the view and by what it sees: nobody.
            assert_eq!(standing(&rig), Standing::Alone);
            rig.up("data-a", 1);
            rig.up("data-b", 2);
        }
        assert_eq!(owners(rig.node.pools()), expected, "{name}");
    }
}

/// Zeek's nodes never renew.
#[test]
fn of_whom_nothing_was_decided_is_in_when_it_is_seen() {
    let mut rig = rig("data-a");
    grant(&mut rig, 3);
    rig.receive(101, &ViewUpdate::whole(&decided("data-a")));
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
    rig.up("data-z", 4);
    let with = owners_among(&["data-a", "data-b", "data-z"]);
    assert_eq!(owners(rig.node.pools()), with);
    rig.step(Input::Reach(id(4), Reach::PeerDown(Version::V1)));
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
    // One that is out stays out, although it is seen.
    rig.up("data-c", 3);
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
}

#[test]
fn without_a_lease_only_who_is_seen_is_in() {
    let mut rig = rig("data-a");
    grant(&mut rig, 3);
    rig.receive(101, &ViewUpdate::whole(&decided("data-a")));
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
    rig.said();
    // Nobody answers.
    rig.pass(Duration::from_millis(1999));
    assert_eq!(standing(&rig), Standing::In);
    rig.pass(Duration::from_millis(1));
    assert_eq!(standing(&rig), Standing::Suspended);
    assert!(rig.said()[0].starts_with("no lease: "));
    assert_eq!(owners(rig.node.pools()), owners_among(&["data-a"]));
    rig.up("data-b", 2);
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    assert_eq!(owners(rig.node.pools()), owners_among(&["data-a"]));
    grant(&mut rig, 3);
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
}

#[test]
fn in_turn_are_only_those_whom_the_node_sees() {
    let mut rig = rig("manager");
    grant(&mut rig, 3);
    rig.receive(101, &ViewUpdate::whole(&decided("manager")));
    let mut turns = |count| -> Vec<String> {
        let pools = &mut rig.node.core.members.pools;
        let turn = |_| pools.next(&PoolName::proxy(), "test").unwrap().to_string();
        (0..count).map(turn).collect()
    };
    // It sees neither: somebody has to get it.
    assert_eq!(turns(2), ["data-a", "data-b"]);
    rig.up("data-b", 2);
    let pools = &mut rig.node.core.members.pools;
    for _ in 0..3 {
        let next = pools.next(&PoolName::proxy(), "test").unwrap();
        assert_eq!(next.as_str(), "data-b");
    }
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
}

#[test]
fn who_is_out_is_fenced_and_the_node_itself_never() {
    let mut rig = rig("data-a");
    grant(&mut rig, 3);
    rig.up("data-b", 2);
    rig.said();
    let fences = |rig: &mut Rig| {
        let mut said = rig.said();
        said.retain(|text| text.contains("fence") || text.starts_with("node out"));
        said
    };
    let mut view = decided("data-a");
    rig.receive(101, &ViewUpdate::whole(&view));
    let expected = [format!("unfence {}", id(2)), format!("fence {}", id(3))];
    assert_eq!(fences(&mut rig), expected);
    // Another life takes the place of one.
    view.set(12, "data-b", member(5, 12, 12, None));
    rig.receive(102, &ViewUpdate::since(&view, 9));
    let expected = [
        format!("fence {}", id(2)),
        "node out: data-b begun anew".to_owned(),
        format!("unfence {}", id(5)),
    ];
    assert_eq!(fences(&mut rig), expected);
    // The node itself is out: others do not talk to it, and it does not end its own links.
    view.set(13, "data-a", member(0, 3, 13, Some(OutReason::Silent)));
    rig.receive(102, &ViewUpdate::since(&view, 12));
    let expected = [
        "node out: data-a does not answer".to_owned(),
        format!("unfence {}", id(3)),
    ];
    assert_eq!(fences(&mut rig), expected);
    assert_eq!(standing(&rig), Standing::Out);
    assert_eq!(owners(rig.node.pools()), owners_among(&["data-b"]));
}

/// Its only way to the coordinators may lead through somebody who is in again, and it would never hear that.
#[test]
fn a_node_without_a_lease_fences_nobody_by_what_it_has_heard_last() {
    let mut rig = rig("data-a");
    let fences = |rig: &mut Rig| {
        let mut said = rig.said();
        said.retain(|text| text.contains("fence "));
        said
    };
    let fence = [format!("fence {}", id(3))];
    let unfence = [format!("unfence {}", id(3))];
    let mut view = decided("data-a");
    view.set(9, "data-b", member(2, 3, 3, None));
    // It hears who is out before it is in itself.
    rig.receive(101, &ViewUpdate::whole(&view));
    assert!(!fences(&mut rig).contains(&fence[0]));
    grant(&mut rig, 3);
    assert_eq!(fences(&mut rig), fence);
    // Nobody answers, and then somebody does.
    rig.pass(Duration::from_secs(2));
    assert_eq!(fences(&mut rig), unfence);
    grant(&mut rig, 3);
    assert_eq!(fences(&mut rig), fence);
    // Somebody else is out, and then it is out itself.
    view.set(10, "data-b", member(2, 3, 10, Some(OutReason::Silent)));
    rig.receive(101, &ViewUpdate::since(&view, 9));
    assert_eq!(fences(&mut rig), [format!("fence {}", id(2))]);
    view.set(11, "data-a", member(0, 3, 11, Some(OutReason::Silent)));
    rig.receive(101, &ViewUpdate::since(&view, 10));
    assert_eq!(
        fences(&mut rig),
        [format!("unfence {}", id(2)), unfence[0].clone()]
    );
}

/// A process that was stopped for a while finds answers in its queue which were true once.
#[test]
fn a_node_that_was_stopped_takes_nothing_that_waited_for_new() {
    let mut rig = rig("data-a");
    grant(&mut rig, 3);
    rig.receive(101, &ViewUpdate::whole(&decided("data-a")));
    rig.pass(Duration::from_millis(500));
    let number = told::<Renew>(&mut rig).last().unwrap().1.number;
    rig.said();
    rig.now.mono = rig.now.mono.after(Duration::from_millis(1001));
    // Its lease would run for a second more. What it does first is to find out.
    rig.receive(101, &granted(number, 3));
    assert!(rig.said()[0].starts_with("no lease: "));
    rig.receive(102, &seen(number));
    rig.receive(103, &seen(number));
    assert_eq!(standing(&rig), Standing::Suspended);
    assert_eq!(owners(rig.node.pools()), owners_among(&["data-a"]));
    // It has asked anew at once.
    let renewals = told::<Renew>(&mut rig);
    assert_eq!(renewals.len(), 3);
    let number = renewals[0].1.number;
    rig.receive(101, &granted(number, 3));
    rig.receive(102, &seen(number));
    assert_eq!(standing(&rig), Standing::In);
    assert_eq!(
        owners(rig.node.pools()),
        owners_among(&["data-a", "data-b"])
    );
}

#[test]
fn a_node_that_has_missed_a_view_asks_for_it() {
    let mut rig = rig("data-a");
    let mut view = decided("data-a");
    rig.receive(101, &ViewUpdate::whole(&view));
    view.set(11, "data-c", member(3, 11, 11, None));
    view.set(12, "data-b", member(2, 3, 12, Some(OutReason::Left)));
    rig.published.clear();
    rig.receive(102, &ViewUpdate::since(&view, 11));
    let topic = "zeek/cluster/node/agent.b/".to_owned();
    let wanted = [(topic, ViewWanted { epoch: 9 })];
    assert_eq!(told::<ViewWanted>(&mut rig), wanted);
    // Not again and again.
    rig.receive(102, &ViewUpdate::since(&view, 11));
    assert_eq!(told::<ViewWanted>(&mut rig), []);
    rig.receive(102, &ViewUpdate::since(&view, 9));
    assert_eq!(rig.node.coordination().unwrap().epoch, 12);
    assert_eq!(owners(rig.node.pools()), owners_among(&["data-a"]));
    // An answer to a renewal names a later one.
    rig.pass(Duration::from_millis(500));
    let number = told::<Renew>(&mut rig).last().unwrap().1.number;
    let answer = |epoch| LeaseAnswer {
        epoch,
        ..seen(number)
    };
    rig.receive(103, &answer(12));
    assert_eq!(told::<ViewWanted>(&mut rig), []);
    rig.receive(103, &answer(13));
    let topic = "zeek/cluster/node/agent.c/".to_owned();
    assert_eq!(
        told::<ViewWanted>(&mut rig),
        [(topic, ViewWanted { epoch: 12 })]
    );
}

#[test]
fn views_of_other_coordinators_are_refused() {
    let mut rig = rig("data-a");
    rig.receive(101, &ViewUpdate::whole(&decided("data-a")));
    let mut foreign = View::founded([8; 16], 0);
    foreign.set(99, "data-b", member(2, 99, 99, Some(OutReason::Left)));
    rig.said();
    rig.receive(102, &ViewUpdate::whole(&foreign));
    assert_eq!(rig.said().len(), 1);
    assert_eq!(rig.node.counts().control_events_refused, 1);
    assert_eq!(rig.node.coordination().unwrap().epoch, 9);
    // Those that go on when these are lost are followed.
    rig.receive(
        102,
        &ViewUpdate::whole(&decided("data-a").recovered([8; 16])),
    );
    assert!(rig.node.coordination().unwrap().epoch > 99);
}

#[test]
fn who_stops_in_order_says_so() {
    let mut rig = rig("data-a");
    grant(&mut rig, 3);
    rig.published.clear();
    rig.step(Input::Stop);
    let leaving = told::<Leaving>(&mut rig);
    assert_eq!(leaving.len(), 3);
    assert!(
        leaving
            .iter()
            .all(|(_, it)| it.node == "data-a" && it.session == 3)
    );
    rig.pass(Duration::from_secs(5));
    assert_eq!(told::<Renew>(&mut rig), []);
}

#[test]
fn where_there_are_no_coordinators_all_is_as_before() {
    let registry = Registry::new().with::<Actor>();
    let mut rig = Rig::with("data-1", &registry).unwrap();
    rig.step(Input::Announced(id(101), "agent.a"));
    rig.pass(Duration::from_secs(5));
    assert_eq!(told::<Renew>(&mut rig), []);
    assert_eq!(rig.node.coordination(), None);
    rig.receive(101, &granted(1, 3));
    rig.receive(101, &ViewUpdate::whole(&decided("data-1")));
    assert_eq!(rig.node.counts().control_events_refused, 2);
    rig.up("data-2", 2);
    rig.said();
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    assert_eq!(
        rig.said(),
        ["node down: data-2", "down data-2", "pool proxy -data-2"]
    );
    rig.step(Input::Stop);
    assert_eq!(told::<Leaving>(&mut rig), []);
}

fn store(changed: u64) -> StoreGroup {
    let primary = StoreCopy::new("data-b", id(2));
    StoreGroup {
        opened: 3,
        began: 3,
        changed,
        persistent: false,
        copies: 1,
        min_copies: 1,
        candidates: vec![StoreCandidate {
            node: "data-b".to_owned(),
            box_name: "b".to_owned(),
        }],
        in_sync: vec![primary.clone()],
        primary: Some(primary),
        joining: None,
    }
}

/// The stores that a node's driver was told of.
fn stores_of(rig: &mut Rig) -> Vec<String> {
    let said = rig.said().into_iter();
    said.filter(|it| it.starts_with("stores ") && !it.starts_with("stores go by"))
        .collect()
}

#[test]
fn a_node_hears_of_the_stores_that_have_changed() {
    let mut rig = rig("data-a");
    let mut view = decided("data-a");
    view.set_store(9, "one", store(9));
    view.set_store(9, "two", store(8));
    rig.receive(101, &ViewUpdate::whole(&view));
    assert_eq!(stores_of(&mut rig), ["stores one@9 two@8"]);
    // Another one says the same.
    rig.receive(102, &ViewUpdate::whole(&view));
    assert_eq!(stores_of(&mut rig), [""; 0]);
    let since = view.epoch();
    view.set_store(11, "two", store(11));
    rig.receive(101, &ViewUpdate::since(&view, since));
    assert_eq!(stores_of(&mut rig), ["stores two@11"]);
    // Nothing was decided about stores.
    let since = view.epoch();
    view.set(12, "data-c", member(3, 12, 12, None));
    rig.receive(101, &ViewUpdate::since(&view, since));
    assert_eq!(stores_of(&mut rig), [""; 0]);
    assert_eq!(rig.node.view().unwrap().store("two").unwrap().changed, 11);
    // It is told everything.
    let view = view.recovered([8; 16]);
    rig.receive(101, &ViewUpdate::whole(&view));
    let epoch = view.epoch();
    assert_eq!(
        stores_of(&mut rig),
        [format!("stores one@{epoch} two@{epoch}")]
    );
}

fn authorities_of(rig: &mut Rig) -> Vec<String> {
    let said = rig.said().into_iter();
    said.filter(|it| it.starts_with("stores go by ")).collect()
}

#[test]
fn a_node_that_hears_no_coordinator_goes_by_its_layout_until_it_hears_one() {
    let mut rig = rig("data-a");
    rig.pass(Duration::from_millis(2999));
    assert_eq!(authorities_of(&mut rig), [""; 0]);
    rig.pass(Duration::from_millis(501));
    assert_eq!(authorities_of(&mut rig), ["stores go by Layout"]);
    // The cluster is founded, and a voter answers.
    let number = told::<Renew>(&mut rig).last().unwrap().1.number;
    rig.receive(101, &seen(number));
    assert_eq!(authorities_of(&mut rig), ["stores go by Coordinators"]);
    // That is so for good.
    rig.pass(Duration::from_secs(60));
    assert_eq!(authorities_of(&mut rig), [""; 0]);
}

#[test]
fn a_node_that_is_cut_off_from_its_coordinators_waits_for_them() {
    let registry = Registry::new().with::<Actor>();
    let mut rig = Rig::of(BOXES, "data-a", &registry).unwrap();
    // An agent is there, so there are coordinators somewhere.
    rig.step(Input::Announced(id(104), "agent.d"));
    rig.step(Input::Reach(id(104), Reach::Discovered));
    rig.pass(Duration::from_secs(60));
    assert_eq!(authorities_of(&mut rig), [""; 0]);
    rig.step(Input::Announced(id(101), "agent.a"));
    rig.step(Input::Reach(id(101), Reach::Discovered));
    rig.receive(101, &ViewUpdate::whole(&decided("data-a")));
    assert_eq!(authorities_of(&mut rig), ["stores go by Coordinators"]);
}

#[test]
fn where_a_layout_has_no_coordinators_nothing_is_said_of_them() {
    let mut rig = Rig::new("data-1");
    rig.pass(Duration::from_secs(60));
    assert_eq!(authorities_of(&mut rig), [""; 0]);
}
