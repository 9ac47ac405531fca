//! Whole pools, simulated: producers, members that die, hang and come back, and a bad network between them.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::{EndpointId, Mono};

use self::world::{Fate, burst, run};
use super::entry::{Changes, Version};
use super::messages::{
    Events, EventsAck, KeyedEvent, LaneAck, LaneItem, LaneMessage, Mark, encoded,
};
use super::sabotage::Sabotage;
use super::{Holder, Keeper, KeeperLimits, KeeperStep, Publishing, Roster, RosterMember};

/// Seeds from `MUSTER_FIRST_SEED` on, as many as `MUSTER_SEEDS` says.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("MUSTER_FIRST_SEED").unwrap_or(0);
    first..first + number("MUSTER_SEEDS").unwrap_or(usual)
}

#[test]
fn every_acknowledged_event_is_in_the_rows_once_and_in_order() {
    let mut fate = Fate::default();
    for seed in seeds(60) {
        let found = run(seed, Sabotage::None);
        assert!(found.problem.is_none(), "seed {seed}: {found:?}");
        fate.add(&found.fate);
    }
    // Otherwise nothing was tried.
    assert!(
        fate.crashes > 0 && fate.expulsions > 0 && fate.joins > 0,
        "{fate:?}"
    );
    assert!(fate.again > 0 && fate.handed_over > 0, "{fate:?}");
    println!("{fate:?}");
}

#[test]
fn many_events_at_once_are_done_without_being_sent_again() {
    let (repeated, took) = burst(50_000);
    assert_eq!(repeated, 0);
    // A window of events goes there and back in some milliseconds of simulated time.
    assert!(took < 1_000, "{took} ms");
}

#[test]
fn every_rule_that_is_broken_is_noticed() {
    for broken in [
        Sabotage::AcknowledgesAlone,
        Sabotage::ServesAtOnce,
        Sabotage::HandlesAgain,
        Sabotage::HandsOverRowsAlone,
        Sabotage::HandsOverNoOutputs,
        Sabotage::LetsGoAtOnce,
        Sabotage::NumbersOutputsAnew,
        Sabotage::KeepsForItself,
        Sabotage::StandbyKeepsForItself,
        Sabotage::KeepsStaleCopies,
        Sabotage::TakesWithGaps,
        Sabotage::TakesFromFormer,
        Sabotage::ForgetsTooEarly,
        Sabotage::DoesNotWait,
        Sabotage::CountsTermsAlone,
        Sabotage::TakesOldest,
    ] {
        let noticed = seeds(200).find(|seed| run(*seed, broken).problem.is_some());
        println!("{broken:?}: {noticed:?}");
        assert!(noticed.is_some(), "{broken:?} was not noticed");
    }
}

fn life(number: u8) -> EndpointId {
    EndpointId::from_bytes([number; 16])
}

fn roster(epoch: u64, lives: &[u8]) -> Roster {
    let members = lives.iter().map(|number| RosterMember {
        holder: Holder {
            life: life(*number),
            session: epoch,
        },
        site: u32::from(*number),
        place: format!("box {number}"),
    });
    Roster::new(epoch, members.collect())
}

#[test]
fn what_a_former_owner_has_done_holds_nothing_back() {
    let mut publishing = Publishing::new();
    let mut now = Mono::default();
    publishing.enter(roster(1, &[1]));
    for _ in 0..5_000 {
        publishing.publish(7, Bytes::from_static(b"x")).unwrap();
    }
    let sent = publishing.take_steps(now);
    assert!(sent.iter().all(|sending| sending.to == life(1)));
    // There is another owner, and nothing gets to it; then the first one says what it has done.
    publishing.enter(roster(2, &[2]));
    let lost = publishing.take_steps(now);
    let sent: usize = lost.iter().map(|sending| sending.events.events.len()).sum();
    assert_eq!(sent, 4_096);
    let ack = EventsAck {
        generation: 1,
        expected: 4_096,
        done: (0..4_096).collect(),
    };
    publishing.acknowledged(life(1), &ack, now);
    assert_eq!(publishing.len(), 904);
    now = now.after(Duration::from_secs(2));
    publishing.tick(now);
    let sent = publishing.take_steps(now);
    let sent: Vec<_> = sent
        .iter()
        .filter(|sending| sending.to == life(2) && !sending.events.events.is_empty())
        .collect();
    let events: usize = sent.iter().map(|it| it.events.events.len()).sum();
    assert_eq!(events, 904);
    assert_eq!(sent[0].events.first, 0, "all before is done");
}

#[test]
fn what_no_member_says_does_no_harm() {
    let mut keeper = Keeper::new(life(1), KeeperLimits::default());
    let now = Mono::default();
    let of = roster(1, &[1, 2]);
    keeper.enter(of.clone(), now);
    for first in [0, 1, u64::MAX - 1, u64::MAX] {
        for generation in [0, 1, u64::MAX] {
            let message = LaneMessage {
                roster: of.id(),
                generation,
                heard: (u64::MAX, u64::MAX),
                first,
                items: vec![Bytes::from_static(&[0]); 3],
            };
            keeper.heard(life(2), &message);
            keeper.heard(life(3), &message);
            let ack = LaneAck {
                roster: of.id(),
                generation,
                expected: first,
                wanted: BTreeSet::from([0, u32::MAX]),
            };
            keeper.lane_confirmed(life(2), &ack, now);
            keeper.take_steps(now);
        }
    }
    assert!(keeper.counts().malformed > 0);
    assert_eq!(keeper.digests(), (0, 0));
}

/// The first digest whose owner is a member.
fn digest_of(of: &Roster, owner: EndpointId) -> u32 {
    let is_owned = |digest: &u32| of.owner(*digest).is_some_and(|it| it.life == owner);
    (0..1_000).find(is_owned).unwrap()
}

fn say(of: &Roster, first: u64, item: &LaneItem) -> LaneMessage {
    LaneMessage {
        roster: of.id(),
        generation: 1,
        heard: (0, 0),
        first,
        items: vec![encoded(item)],
    }
}

/// What a member confirms.
fn confirmed(steps: &[KeeperStep]) -> Vec<&LaneAck> {
    let acks = steps.iter().filter_map(|step| match step {
        KeeperStep::Confirm(_, ack) => Some(ack),
        _ => None,
    });
    acks.collect()
}

#[test]
fn a_standby_asks_for_all_of_what_changes_do_not_fit_until_it_has_it() {
    let (now, of) = (Mono::default(), roster(1, &[1, 2]));
    let digest = digest_of(&of, life(2));
    let mut standby = Keeper::new(life(1), KeeperLimits::default());
    standby.enter(of.clone(), now);
    let version = |count| Version {
        epoch: 1,
        term: 1,
        count,
    };
    let changes = LaneItem::Changes {
        digest,
        base: version(1),
        version: version(2),
        changes: Changes::default(),
        events: Vec::new(),
    };
    standby.heard(life(2), &say(&of, 0, &changes));
    // It says so again, as a confirmation may be lost.
    standby.heard(life(2), &say(&of, 1, &LaneItem::Mark(Mark::Offered)));
    let steps = standby.take_steps(now);
    for (ack, expected) in confirmed(&steps).into_iter().zip([1, 2]) {
        assert_eq!(ack.expected, expected);
        assert_eq!(ack.wanted, BTreeSet::from([digest]));
    }
    let contents = super::entry::Contents {
        version: version(2),
        ..Default::default()
    };
    standby.heard(life(2), &say(&of, 2, &LaneItem::Contents(digest, contents)));
    let steps = standby.take_steps(now);
    assert_eq!(confirmed(&steps)[0].wanted, BTreeSet::new());
}

#[test]
fn an_event_is_not_done_before_the_standby_has_what_it_asks_for() {
    let (now, of) = (Mono::default(), roster(1, &[1, 2]));
    let digest = digest_of(&of, life(1));
    let mut owner = Keeper::new(life(1), KeeperLimits::default());
    owner.enter(of.clone(), now);
    owner.heard(life(2), &say(&of, 0, &LaneItem::Mark(Mark::Offered)));
    let events = Events {
        generation: 1,
        first: 0,
        floor: 0,
        outputs_floor: 0,
        events: vec![KeyedEvent {
            place: 0,
            number: 0,
            digest,
            payload: Bytes::new(),
            made_as: None,
        }],
    };
    owner.arrived(life(9), events);
    let (id, _) = owner.take_event().unwrap();
    owner.changed(digest, Some(id), Changes::default());
    let mut expected = 0;
    for is_wanted in [true, true, false] {
        let steps = owner.take_steps(now);
        let mut generation = 0;
        for step in &steps {
            match step {
                KeeperStep::Say(_, message) => {
                    generation = message.generation;
                    expected = message.first + message.items.len() as u64;
                }
                KeeperStep::Acknowledge(_, ack) => assert!(ack.done.is_empty()),
                KeeperStep::Confirm(..) => {}
            }
        }
        assert!(generation > 0, "all of it is said again");
        let ack = LaneAck {
            roster: of.id(),
            generation,
            expected,
            wanted: is_wanted.then_some(digest).into_iter().collect(),
        };
        owner.lane_confirmed(life(2), &ack, now);
    }
    let steps = owner.take_steps(now);
    let mut done = steps.iter().filter_map(|step| match step {
        KeeperStep::Acknowledge(to, ack) => Some((*to, ack.done.contains(0))),
        _ => None,
    });
    assert_eq!(done.next(), Some((life(9), true)));
}

#[test]
fn who_came_after_all_were_out_waits_for_them() {
    let now = Mono::default().after(Duration::from_secs(100));
    let serves = |roster: Roster, later: u64| {
        let mut keeper = Keeper::new(life(2), KeeperLimits::default());
        keeper.enter(roster, now);
        keeper.tick(now.after(Duration::from_secs(later)));
        keeper.serves(7)
    };
    // The last one that went out did so before this one came: it had everything.
    assert!(!serves(roster(9, &[2]).since_loss(Some(5)), 9));
    assert!(serves(roster(9, &[2]).since_loss(Some(5)), 10));
    // It was there when the last one went out, or nobody has.
    assert!(serves(roster(9, &[2]).since_loss(Some(9)), 0));
    assert!(serves(roster(9, &[2]).since_loss(None), 0));
    // Who was settled before knows more than that.
    let mut keeper = Keeper::new(life(2), KeeperLimits::default());
    keeper.enter(roster(9, &[2]), now);
    keeper.enter(roster(11, &[2]).since_loss(Some(10)), now);
    assert!(keeper.serves(7));
}

#[test]
fn who_has_lost_somebody_is_alone_when_their_lease_is_over() {
    let at = |ms: u64| Mono::default().after(Duration::from_millis(ms));
    let decided = |epoch: u64, lives: &[(u8, u64)]| {
        let members = lives.iter().map(|(number, session)| RosterMember {
            holder: Holder {
                life: life(*number),
                session: *session,
            },
            site: u32::from(*number),
            place: format!("box {number}"),
        });
        Roster::new(epoch, members.collect())
    };
    let mut keeper = Keeper::new(life(2), KeeperLimits::default());
    // It does not know who was there before it came.
    keeper.enter(decided(9, &[(1, 3), (2, 9)]), at(100));
    assert!(!keeper.is_alone(at(2_099)) && keeper.is_alone(at(2_100)));
    // Who comes takes nothing from anybody.
    keeper.enter(decided(11, &[(1, 3), (2, 9), (3, 11)]), at(5_000));
    assert!(keeper.is_alone(at(5_000)));
    keeper.enter(decided(12, &[(2, 9), (3, 11)]), at(6_000));
    assert!(!keeper.is_alone(at(7_999)) && keeper.is_alone(at(8_000)));
    // Nobody has a lease where nobody coordinates.
    let mut keeper = Keeper::new(life(2), KeeperLimits::default());
    keeper.enter(decided(0, &[(1, 0), (2, 0)]), at(100));
    keeper.enter(decided(0, &[(2, 0)]), at(200));
    assert!(keeper.is_alone(at(200)));
}
