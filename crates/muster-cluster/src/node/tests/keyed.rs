//! Who is taken for an owner of keys.

use super::coordination::{granted, member, rig, seen, told};
use super::*;
use crate::coordination::{Renew, View, ViewUpdate};
use crate::node::KeyedError;
use crate::node::duties::ManagerPassed;

/// A data node comes up. Its hello says whether it owns keys.
fn data_up(rig: &mut Rig, name: &str, number: u8, features: u64) {
    rig.step(Input::Reach(id(number), Reach::PeerUp(Version::V1)));
    let hello = Hello {
        name: name.to_owned(),
        id: id(number).to_string(),
    };
    let metadata = Metadata {
        features: Some(features),
        incarnation: Some(number.into()),
        ..Metadata::default()
    };
    let mut payload = Vec::new();
    zeek::put_event(&mut payload, Hello::NAME, metadata, |out| hello.encode(out));
    rig.step(Input::Message {
        from: id(number),
        payload: &payload,
    });
}

/// The view of an epoch: the manager is in, whose rig it is, and these data nodes.
fn view(epoch: u64, data: &[(&str, u8)]) -> View {
    let mut view = View::founded([7; 16], 0);
    view.set(3, "manager", member(0, 3, 3, None));
    for (name, life) in data {
        view.set(epoch, name, member(*life, epoch, epoch, None));
    }
    view
}

/// The manager of three boxes, which is in.
fn manager(data: &[(&str, u8)]) -> Rig {
    let mut rig = rig("manager");
    rig.pass(Duration::from_millis(500));
    let number = told::<Renew>(&mut rig).last().unwrap().1.number;
    rig.receive(101, &granted(number, 3));
    rig.receive(102, &seen(number));
    rig.receive(101, &ViewUpdate::whole(&view(3, data)));
    rig
}

impl Rig {
    fn publishes(&mut self) -> Result<(), KeyedError> {
        let arguments = encode_to_vec(&row(1));
        let core = &mut self.node.core;
        let key = Key::from(1u64);
        let taken = core.publish_keyed(&PoolName::proxy(), key, Row::NAME, &arguments);
        self.pass(Duration::from_millis(10));
        taken.map(drop)
    }
}

#[test]
fn events_wait_for_owners_that_are_alive_and_not_in_yet() {
    let mut rig = manager(&[]);
    rig.publishes().unwrap();
    data_up(&mut rig, "data-a", 1, zeek::OWNS_KEYS);
    rig.publishes().unwrap();
    assert_eq!(rig.node.open_keyed_events(), 2);
    rig.receive(101, &ViewUpdate::whole(&view(7, &[("data-a", 1)])));
    rig.publishes().unwrap();
    assert_eq!(rig.node.open_keyed_events(), 3);
    assert_eq!(rig.node.counts().keyed_unowned, 0);
}

#[test]
fn events_for_members_that_handle_none_are_dropped() {
    for is_in in [false, true] {
        let members = [("data-a", 1), ("data-b", 2)];
        let members = if is_in { &members[..] } else { &[] };
        let mut rig = manager(members);
        rig.publishes().unwrap();
        data_up(&mut rig, "data-a", 1, 0);
        data_up(&mut rig, "data-b", 2, 0);
        assert_eq!(rig.node.open_keyed_events(), 0);
        assert!(matches!(rig.publishes(), Err(KeyedError::NoOwner(_))));
        assert_eq!(rig.node.counts().keyed_unowned, 2);
        // One that does is enough.
        data_up(&mut rig, "data-c", 3, zeek::OWNS_KEYS);
        rig.publishes().unwrap();
        assert_eq!(rig.node.open_keyed_events(), 1);
    }
}

/// A message to the manager's topic.
fn word(number: u64) -> Vec<u8> {
    encoded(Row::NAME, None, None, &row(number))
}

#[test]
fn what_the_active_manager_has_not_handled_is_passed_on_to_it() {
    let layout = r#"
        [[node]]
        name = "manager"
        role = "manager"
        count = 2
    "#;
    let registry = Registry::new().with::<Actor>();
    let mut rig = Rig::of(layout, "manager-2", &registry).unwrap();
    assert!(!rig.node.is_active_manager());
    let payload = word(4);
    rig.step(Input::ForManager {
        from: id(9),
        payload: &payload,
    });
    rig.pass(Duration::from_millis(4_900));
    assert_eq!(rig.node.open_keyed_events(), 0);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.node.counts().for_manager_passed, 1);
    assert_eq!(rig.node.open_keyed_events(), 1);
}

#[test]
fn what_is_passed_on_is_handled_once() {
    let mut rig = Rig::new("manager");
    rig.said();
    let passes = |rig: &mut Rig, from: u8, message: Vec<u8>| {
        let passed = ManagerPassed {
            from: id(from).as_bytes().to_vec(),
            message,
        };
        let payload = encoded(ManagerPassed::NAME, None, None, &passed);
        let event = EventRef::read(DataRef::from_validated(&payload)).unwrap();
        rig.node.take_passed(id(1), &event);
        rig.pass(Duration::from_millis(1));
        rig.said()
    };
    assert_eq!(passes(&mut rig, 9, word(4)), ["row 4 at None"]);
    assert_eq!(passes(&mut rig, 9, word(4)), NOTHING);
    assert_eq!(passes(&mut rig, 8, word(4)), ["row 4 at None"]);
    assert_eq!(passes(&mut rig, 9, word(5)), ["row 5 at None"]);
    let refused = rig.node.counts().events_refused;
    passes(&mut rig, 9, vec![0xff; 7]);
    assert_eq!(rig.node.counts().events_refused, refused + 1);
}
