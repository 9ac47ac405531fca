//! Two copies by hand: what becomes of messages that are lost.

use std::time::Duration;

use muster_data::{Timespan, Timestamp};
use muster_wire::{EndpointId, Mono};

use super::super::log::{KEPT, KEPT_FOR_NEWCOMERS, Log};
use crate::op::{Answer, Op, Writer};
use crate::protocol::{LogEntry, StoreMessage};
use crate::{
    Assignment, CopyRequest, Encoded, Notice, Now, Output, Primary, PrimaryConfig, StoreName,
};

const BEGAN: u64 = 1;

/// The entries that are kept for a copy that fetches a snapshot.
const KEPT_AT_MOST: u64 = (KEPT * KEPT_FOR_NEWCOMERS) as u64;

fn id(number: u8) -> EndpointId {
    EndpointId::from_bytes([number; 16])
}

fn name() -> StoreName {
    StoreName::new("a/b").unwrap()
}

/// A primary and a copy that joins, and what is on its way between them.
struct Pair {
    now: Now,
    primary: Primary,
    copy: Primary,
    to_copy: Vec<Vec<u8>>,
    to_primary: Vec<Vec<u8>>,
    is_proposed: bool,
    /// How far the copy's clock is ahead, in seconds.
    copy_ahead: i64,
    told: Vec<Notice>,
}

impl Now {
    fn ahead(self, seconds: i64) -> Self {
        let wall = self.wall + Timespan::from_secs(seconds);
        Self { wall, ..self }
    }
}

impl Pair {
    /// The primary has so many entries.
    fn with(entries: u64) -> Self {
        let now = Now {
            mono: Mono(0),
            wall: Timestamp::from_secs(1),
        };
        let copy = |number| Primary::copy(name(), id(number), PrimaryConfig::default(), None, now);
        let mut pair = Self {
            now,
            primary: copy(1),
            copy: copy(2),
            to_copy: Vec::new(),
            to_primary: Vec::new(),
            is_proposed: false,
            copy_ahead: 0,
            told: Vec::new(),
        };
        let alone = Assignment {
            epoch: 1,
            began: BEGAN,
            primary: Some(id(1)),
            in_sync: vec![id(1)],
            joining: None,
            min_copies: 1,
        };
        pair.primary.assign(alone.clone(), now);
        for number in 0..entries {
            pair.put(number);
        }
        let joins = Assignment {
            epoch: 2,
            joining: Some(id(2)),
            ..alone
        };
        pair.primary.assign(joins.clone(), now);
        pair.copy.assign(joins, now);
        pair.collect();
        pair
    }

    fn put(&mut self, number: u64) {
        let op = Op::Put {
            key: Encoded::of(&number),
            value: Encoded::of(&"x".repeat(200)),
            ttl: None,
        };
        let writer = Writer {
            endpoint: id(9),
            instance: 1,
        };
        let answer = self.primary.apply_foreign(writer, op, self.now);
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.primary.poll() {
            match output {
                Output::Send(to, bytes) if to == id(2) => self.to_copy.push(bytes),
                Output::Request { request, .. } => {
                    self.is_proposed |= request == CopyRequest::Joined(id(2));
                }
                _ => {}
            }
        }
        while let Some(output) = self.copy.poll() {
            match output {
                Output::Send(to, bytes) if to == id(1) => self.to_primary.push(bytes),
                Output::Notice(notice) => self.told.push(notice),
                _ => {}
            }
        }
    }

    /// Delivers what is on its way, but what `is_lost` for the copy. Returns how often the copy has begun to fetch.
    fn deliver(&mut self, mut is_lost: impl FnMut(&StoreMessage) -> bool) -> usize {
        let mut begun = 0;
        for bytes in std::mem::take(&mut self.to_primary) {
            let message = StoreMessage::decode(&bytes).unwrap();
            let begins = matches!(message, StoreMessage::Fetch { after: None, .. });
            begun += usize::from(begins);
            self.primary.receive(id(2), message, self.now);
        }
        for bytes in std::mem::take(&mut self.to_copy) {
            let message = StoreMessage::decode(&bytes).unwrap();
            if !is_lost(&message) {
                let now = self.now.ahead(self.copy_ahead);
                self.copy.receive(id(1), message, now);
            }
        }
        self.collect();
        begun
    }

    /// The coordinators count the copy in.
    fn joined(&mut self) -> Assignment {
        let both = Assignment {
            epoch: 3,
            began: BEGAN,
            primary: Some(id(1)),
            in_sync: vec![id(1), id(2)],
            joining: None,
            min_copies: 1,
        };
        self.primary.assign(both.clone(), self.now);
        self.copy
            .assign(both.clone(), self.now.ahead(self.copy_ahead));
        self.settle();
        both
    }

    /// Lets everything come about that is due.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.deliver(|_| false);
            self.wait(Duration::from_millis(100));
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono = self.now.mono.after(time);
        self.now.wall = self.now.wall + Timespan::from(time);
        self.primary.tick(self.now);
        self.copy.tick(self.now.ahead(self.copy_ahead));
        self.collect();
    }
}

#[test]
fn a_loss_while_a_snapshot_is_fetched_is_made_good_without_beginning_anew() {
    let mut pair = Pair::with(5000);
    pair.deliver(|_| false);
    let mut number = 5000;
    let mut begun = 0;
    for turn in 0..40 {
        pair.put(number);
        number += 1;
        begun += pair.deliver(|message| {
            matches!(message, StoreMessage::Replicate(it) if turn == 4 && !it.entries.is_empty())
        });
        pair.wait(Duration::from_millis(20));
    }
    pair.settle();
    assert!(pair.copy.is_whole());
    assert_eq!(pair.copy.state().entries().len() as u64, number);
    assert!(pair.is_proposed);
    assert_eq!(begun, 1);
}

#[test]
fn a_newcomer_that_is_told_to_begin_later_than_it_did_begins_again() {
    let mut pair = Pair::with(10);
    // Its question reaches the primary twice, and only the first answer reaches it.
    let question = pair.to_primary.clone();
    pair.deliver(|_| false);
    pair.put(10);
    pair.to_primary.extend(question);
    pair.deliver(|message| matches!(message, StoreMessage::Attached(_)));
    for number in 11..40 {
        pair.put(number);
        pair.deliver(|_| false);
        pair.wait(Duration::from_millis(100));
    }
    pair.settle();
    assert!(pair.copy.is_whole());
    assert!(pair.is_proposed);
    assert_eq!(pair.copy.state().entries().len(), 40);
}

/// It was told to begin later and later, once for each answer to what it had been told before, as long as somebody wrote.
#[test]
fn a_newcomer_whose_question_came_twice_gets_in_sync_while_somebody_writes() {
    let mut pair = Pair::with(10);
    let question = pair.to_primary.clone();
    pair.deliver(|_| false);
    pair.put(10);
    pair.to_primary.extend(question);
    let mut begun = 0;
    for number in 11..60 {
        begun += pair.deliver(|_| false);
        // Between any two messages something is decided.
        pair.put(number);
        pair.wait(Duration::from_millis(5));
    }
    assert!(begun <= 2, "it began {begun} times");
    assert!(pair.copy.is_whole());
    assert!(pair.is_proposed);
}

/// What is kept for a newcomer that does not say what it has is bounded, and it begins anew when it does.
#[test]
fn a_newcomer_that_stands_still_is_given_up() {
    let mut pair = Pair::with(10);
    pair.deliver(|_| false);
    // It has been told where it begins, and is heard no more.
    let mut log = Log::behind(0, 0);
    while log.committed() < KEPT_AT_MOST {
        log.push(LogEntry::nothing());
        log.commit();
    }
    assert_eq!(log.first_for_newcomers(), 1);
    log.push(LogEntry::nothing());
    log.commit();
    assert_eq!(log.first_for_newcomers(), log.committed() + 1);
    let (leading, ..) = pair.primary.leading().unwrap();
    leading.peers.give_up_slow(log.first_for_newcomers());
    assert_eq!(leading.peers.needed(), u64::MAX);
    log.trim(u64::MAX);
    assert!(!log.covers(10));
    pair.settle();
    assert!(pair.copy.is_whole());
    assert!(pair.is_proposed);
}

#[test]
fn ttls_go_on_as_they_were_whatever_the_clock_of_the_next_primary_says() {
    for ahead in [3600, -3600, 0] {
        let mut pair = Pair::with(3);
        pair.copy_ahead = ahead;
        let put = Op::Put {
            key: Encoded::key("short"),
            value: Encoded::of(&1u64),
            ttl: Some(Timespan::from_secs(60)),
        };
        let writer = Writer {
            endpoint: id(9),
            instance: 1,
        };
        pair.primary.apply_foreign(writer, put, pair.now);
        pair.collect();
        pair.settle();
        let both = pair.joined();
        // The primary is lost, and the copy takes its place.
        let alone = Assignment {
            epoch: 4,
            primary: Some(id(2)),
            in_sync: vec![id(2)],
            ..both
        };
        let now = pair.now.ahead(ahead);
        pair.copy.assign(alone, now);
        let has = |pair: &Pair| {
            let entries = pair.copy.state().entries();
            entries.get(&Encoded::key("short")).is_some()
        };
        // Four seconds have passed.
        pair.wait(Duration::from_secs(55));
        assert!(has(&pair), "{ahead}");
        pair.wait(Duration::from_secs(2));
        assert!(!has(&pair), "{ahead}");
        let told: Vec<String> = pair.told.iter().map(ToString::to_string).collect();
        let expected: &[&str] = match ahead {
            3600 => {
                &["the clock here is 3600 s ahead of that of its primary: TTLs end by that one"]
            }
            -3600 => &["the clock here is 3600 s behind that of its primary: TTLs end by that one"],
            _ => &[],
        };
        assert_eq!(told, expected);
    }
}
