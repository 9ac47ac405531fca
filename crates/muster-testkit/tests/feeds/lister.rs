//! A framework that has a list on the manager and follows it elsewhere, and remembers what it is told.

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use muster_cluster::Role;
use muster_cluster::feed::{Feed, FeedEvent};
use muster_cluster::node::{Context, Declarations, Framework, Site};
use muster_data::Record;
use muster_test_support::Random;
use muster_wire::EndpointId;

const LIST: Feed<u64, u64> = Feed::new("test/list");

/// Keys below this are in every list, with the same value.
const STEADY: u64 = 5;

/// Other keys are below this.
const KEYS: u64 = 80;

pub(crate) type Items = BTreeMap<u64, u64>;

/// The source is to change its list.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
#[record(name = "Test::change")]
pub(crate) struct Change {
    pub(crate) seed: u64,
    pub(crate) times: u64,
    /// Of a hundred.
    pub(crate) removals: u64,
}

/// What a life has been told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copy {
    pub(crate) items: Items,
    pub(crate) is_complete: bool,
    seen: Items,
    was_complete: bool,
}

/// What all frameworks of a run remember.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The list of the source's present life.
    pub(crate) list: Items,
    /// The digests of all lists that there ever were.
    lists: BTreeSet<u64>,
    next_value: u64,
    pub(crate) copies: BTreeMap<EndpointId, Copy>,
    pub(crate) completes: u64,
    pub(crate) wrong: Option<String>,
}

thread_local! {
    /// A cluster runs on one thread.
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Takes what was remembered so far.
pub(crate) fn forget() {
    MEMORY.take();
}

pub(crate) fn remembered<R>(act: impl FnOnce(&mut Memory) -> R) -> R {
    MEMORY.with_borrow_mut(act)
}

fn digest(items: &Items) -> u64 {
    let mut hasher = DefaultHasher::new();
    items.hash(&mut hasher);
    hasher.finish()
}

impl Memory {
    fn changed(&mut self, key: u64, value: Option<u64>) {
        match value {
            Some(value) => _ = self.list.insert(key, value),
            None => _ = self.list.remove(&key),
        }
        self.lists.insert(digest(&self.list));
    }

    fn told(&mut self, life: EndpointId, event: &FeedEvent<u64, u64>) {
        let copy = self.copies.entry(life).or_default();
        let mut wrong = None;
        match event {
            FeedEvent::Begun { .. } => {
                copy.seen.clear();
                copy.is_complete = false;
            }
            FeedEvent::Put { key, value } => {
                copy.items.insert(*key, *value);
                if copy.seen.insert(*key, *value) > Some(*value) {
                    wrong = Some("ORDER: an older value follows");
                }
            }
            FeedEvent::Removed { key } => {
                let was_there = copy.items.remove(key).is_some();
                wrong = (!was_there).then_some("REMOVED: nothing was there");
            }
            FeedEvent::Complete => {
                copy.is_complete = true;
                copy.was_complete = true;
                self.completes += 1;
                if !self.lists.contains(&digest(&copy.items)) {
                    wrong = Some("EQUAL: the source never had such a list");
                }
            }
            FeedEvent::Gone => copy.is_complete = false,
            _ => {}
        }
        if copy.was_complete && (0..STEADY).any(|key| !copy.items.contains_key(&key)) {
            wrong = Some("STEADY: an item that all lists have is away");
        }
        if let Some(wrong) = wrong {
            self.wrong = Some(format!("{wrong}: {life} is told {event:?}"));
        }
    }
}

pub(crate) struct Lister(Role);

impl Framework for Lister {
    const NAME: &'static str = "lister";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self(site.node.role))
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.0 == Role::Manager {
            declarations.feed_source(&LIST);
            declarations.on(Self::change);
        } else {
            declarations.feed(&LIST, Self::told);
        }
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        if self.0 != Role::Manager {
            return;
        }
        let seed = remembered(|memory| {
            memory.list.clear();
            memory.next_value += 1_000_000;
            memory.next_value
        });
        for key in 0..STEADY {
            put(cx, key, key);
        }
        self.change(
            Change {
                seed,
                times: 60,
                removals: 10,
            },
            cx,
        );
        cx.schedule_mono(std::time::Duration::from_millis(700), 1);
    }

    /// The list is loaded.
    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        cx.feed(&LIST).open().unwrap();
    }
}

impl Lister {
    #[allow(clippy::unused_self, reason = "a handler")]
    fn change(&mut self, change: Change, cx: &mut Context<'_>) {
        let mut random = Random::new(change.seed);
        for _ in 0..change.times {
            let key = STEADY + random.number(KEYS - STEADY);
            if random.number(100) < change.removals {
                if cx.feed(&LIST).remove(&key).unwrap() {
                    remembered(|memory| memory.changed(key, None));
                }
            } else {
                let value = remembered(|memory| {
                    memory.next_value += 1;
                    memory.next_value
                });
                put(cx, key, value);
            }
        }
    }

    #[allow(
        clippy::needless_pass_by_value,
        clippy::unused_self,
        reason = "a handler"
    )]
    fn told(&mut self, event: FeedEvent<u64, u64>, cx: &mut Context<'_>) {
        let life = cx.id();
        remembered(|memory| memory.told(life, &event));
    }
}

fn put(cx: &mut Context<'_>, key: u64, value: u64) {
    cx.feed(&LIST).put(&key, &value).unwrap();
    remembered(|memory| memory.changed(key, Some(value)));
}
