//! Feeds without nodes: both sides and the time by hand, and over a bad network.

mod bad_network;

use muster_data::{Data, DataRef, encode_to_vec};
use muster_wire::zeek::Message;
use muster_wire::{EndpointId, Mono};

use super::messages::{
    Announcement, PART, Want, put_announcement, put_want, read_announcement, read_part, read_want,
};
use super::sabotage::Sabotage;
use super::source::Heard;
use super::*;
use crate::layout::NodeName;

/// Bounds that are reached soon.
const TINY: FeedLimits = FeedLimits {
    items: 500,
    bytes: 50_000,
    removals: 6,
    part: 200,
    window: 600,
    window_of_all: 2_000,
    followers: 8,
};

const FEED: &str = "test/list";

fn life(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

fn name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn want(number: u64, position: u64) -> Want {
    Want {
        number,
        position,
        is_anew: true,
    }
}

/// A source that is open, with so many items.
fn source_of(items: u64) -> Source {
    let mut source = Source::new(FEED, TINY);
    for number in 0..items {
        let key = encode_to_vec(&number);
        source
            .put(&key, &encode_to_vec(&(number + 100)), Mono(0))
            .unwrap();
    }
    source.open(Mono(0));
    source
}

/// Hands a payload to a follower.
fn hand(
    follower: &mut Follower,
    from: EndpointId,
    payload: &[u8],
    now: Mono,
    tell: &mut FollowerHook<'_>,
) -> Fate {
    let Ok(Message::Event(event)) = Message::read(DataRef::from_validated(payload)) else {
        panic!("no event");
    };
    assert_eq!(event.name(), PART);
    let part = read_part(event.arguments()).unwrap();
    assert_eq!(part.feed, FEED);
    follower.part(from, &part, payload.len(), now, tell)
}

#[test]
fn a_list_that_is_not_open_goes_to_nobody() {
    let mut source = Source::new(FEED, TINY);
    let key = encode_to_vec(&1_u64);
    source.put(&key, &key, Mono(0)).unwrap();
    assert_eq!(source.next_deadline(Mono(5)), None);
    assert_eq!(source.announcement(Mono(5)), None);
    assert_eq!(source.wanted(life(1), &want(1, 0), Mono(5)), Heard::Stray);
    assert!(source.take_parts(Mono(5)).is_empty());
    source.open(Mono(6));
    assert_eq!(source.announcement(Mono(6)), Some(1));
    assert_eq!(source.wanted(life(1), &want(1, 0), Mono(6)), Heard::Taken);
    assert_eq!(source.take_parts(Mono(6)).len(), 1);
}

#[test]
fn followers_at_the_same_place_get_the_same_bytes() {
    let mut source = source_of(100);
    for number in 1..=3 {
        assert_eq!(
            source.wanted(life(number), &want(1, 0), Mono(1)),
            Heard::Taken
        );
    }
    let sent = source.take_parts(Mono(1));
    assert!(sent.len() >= 6, "{}", sent.len());
    for of_three in sent.chunks(3) {
        let first = of_three[0].1.as_ptr();
        assert!(of_three.iter().all(|(_, bytes)| bytes.as_ptr() == first));
    }
    assert!(source.most_under_way() < TINY.window + TINY.part + 100);
    // Nobody gets more before it has said what it has.
    assert!(source.take_parts(Mono(2)).is_empty());
}

#[test]
fn followers_and_what_is_under_way_to_all_are_bounded() {
    let mut source = source_of(400);
    let taken = (1..20).filter(|number| {
        let heard = source.wanted(life(*number), &want(1, 0), Mono(1));
        assert!(matches!(heard, Heard::Taken | Heard::TooMany));
        heard == Heard::Taken
    });
    assert_eq!(taken.count(), TINY.followers);
    let bytes = |sent: &[(EndpointId, bytes::Bytes)]| -> usize {
        sent.iter().map(|(_, part)| part.len()).sum()
    };
    let sent = source.take_parts(Mono(1));
    assert!(bytes(&sent) < TINY.window_of_all + TINY.part + 100);
    // Where one is gone, others are sent something.
    source.gone(life(1));
    assert!(!source.take_parts(Mono(2)).is_empty());
    assert_eq!(source.wanted(life(30), &want(1, 0), Mono(3)), Heard::Taken);
    // Those that say nothing for long are forgotten.
    let later = Mono(0).after(std::time::Duration::from_secs(20));
    assert_eq!(source.announcement(later), Some(400));
    assert_eq!(source.most_under_way(), 0);
}

#[test]
fn an_empty_list_is_complete_at_once() {
    let mut source = source_of(0);
    let mut follower = Follower::new(TINY);
    let mut told = Vec::new();
    let mut tell = |it: Told<'_>| {
        told.push(format!("{it:?}"));
        true
    };
    follower.announced(&name("a"), life(1), 0, Mono(1), &mut tell);
    let wants = follower.take_wants();
    assert_eq!(wants, [(life(1), want(1, 0))]);
    source.wanted(life(9), &wants[0].1, Mono(1));
    for (_, payload) in source.take_parts(Mono(1)) {
        let fate = hand(&mut follower, life(1), &payload, Mono(2), &mut tell);
        assert!(fate.is_taken);
    }
    assert_eq!(follower.next_deadline(Mono(2)), Some(Mono(2)));
    follower.tick(Mono(2), &mut tell);
    assert_eq!(follower.complete(), Some((life(1), 0)));
    assert_eq!(told, ["Begun(a)", "Complete"]);
}

#[test]
fn what_cannot_be_read_is_counted_and_not_there() {
    let mut source = source_of(3);
    let mut follower = Follower::new(TINY);
    let mut removed = 0;
    // From the second time on, the key 1 cannot be read.
    let mut puts = 0;
    let mut tell = |it: Told<'_>| match it {
        Told::Put(key, _) if key.as_count() == Some(1) => {
            puts += 1;
            puts == 1
        }
        Told::Removed(_) => {
            removed += 1;
            true
        }
        _ => true,
    };
    follower.announced(&name("a"), life(1), 3, Mono(1), &mut tell);
    source.wanted(life(9), &follower.take_wants()[0].1, Mono(1));
    let mut fates = Vec::new();
    for (_, payload) in source.take_parts(Mono(1)) {
        fates.push(hand(&mut follower, life(1), &payload, Mono(2), &mut tell));
    }
    follower.tick(Mono(2), &mut tell);
    let key = encode_to_vec(&1_u64);
    source.put(&key, &key, Mono(3)).unwrap();
    let later = Mono(3).after(std::time::Duration::from_millis(6));
    for (_, payload) in source.take_parts(later) {
        fates.push(hand(&mut follower, life(1), &payload, later, &mut tell));
    }
    let refused: u64 = fates.iter().map(|fate| fate.refused).sum();
    assert_eq!((fates.len(), refused, follower.len()), (2, 1, 2));
    assert_eq!(removed, 1);
}

#[test]
fn what_is_said_may_be_anything() {
    let announcement = Announcement {
        feed: FEED,
        head: 7,
    };
    let mut out = Vec::new();
    put_announcement(&mut out, &announcement);
    let read = read_announcement(DataRef::from_validated(&out));
    assert_eq!(read, Some(announcement));
    let mut out = Vec::new();
    put_want(&mut out, FEED, &want(3, 9));
    let read = read_want(DataRef::from_validated(&out));
    assert_eq!(read, Some((FEED, want(3, 9))));
    for text in [
        "[]",
        "1",
        "[\"a\"]",
        "[1, 2, 3, T]",
        "[\"a\", 1, 2, 3]",
        "[\"a\", -1]",
        "[\"a\", 5, 4, 9, 0, []]",
        "[\"a\", 0, 5, 4, 0, []]",
        "[\"a\", 0, 1, 4, 5, []]",
        "[\"a\", 0, 1, 4, 0, {}]",
    ] {
        let bytes = encode_to_vec(&text.parse::<Data>().unwrap());
        let value = DataRef::from_validated(&bytes);
        assert!(read_part(value).is_none(), "{text}");
        assert!(read_want(value).is_none(), "{text}");
    }
    // Changes that are none are counted.
    let text = "[\"test/list\", 0, 4, 4, 0, [1, [], [1], [1, 2, 3], [2, 3]], \"later\"]";
    let bytes = encode_to_vec(&text.parse::<Data>().unwrap());
    let part = read_part(DataRef::from_validated(&bytes)).unwrap();
    let mut follower = Follower::new(TINY);
    follower.announced(&name("a"), life(1), 4, Mono(1), &mut |_| true);
    let fate = follower.part(life(1), &part, 10, Mono(1), &mut |_| true);
    assert_eq!((fate.told, fate.refused), (2, 2));
    assert_eq!(follower.len(), 2);
}
