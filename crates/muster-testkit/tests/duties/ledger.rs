//! A framework whose duty is to count, and who keeps account of what it was told, outside of all nodes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::node::{
    Context, Declarations, Framework, KeyedContext, KeyedTable, Registry, Site,
};
use muster_cluster::{PoolName, Role};
use muster_data::Record;

/// A node has something to publish.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::publish")]
pub(crate) struct Publish {
    pub(crate) life: String,
    pub(crate) number: u64,
    /// Whether it is for the manager, or for the duty.
    pub(crate) is_word: bool,
}

/// Something for the duty.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::hit")]
struct Hit {
    life: String,
    number: u64,
}

/// Something for the manager.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::word")]
pub(crate) struct Word {
    pub(crate) life: String,
    pub(crate) number: u64,
}

/// A manager is to tell its rows.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::tell")]
pub(crate) struct Tell {}

const DUTY: &str = "test/counting";

/// How often an event was handled, by its publisher's life and its number.
const HITS: KeyedTable<String, (String, u64), u64> = KeyedTable::new("test/hits");

/// How often managers look whether they have the duty.
const LOOK: Duration = Duration::from_millis(20);

/// Which event: the life that has published it, and its number there.
pub(crate) type EventName = (String, u64);

/// What has happened in a run. The nodes of a simulation have one thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// What was published for the manager.
    pub(crate) words: BTreeSet<EventName>,
    /// What was published for the duty and acknowledged.
    pub(crate) acknowledged: BTreeSet<EventName>,
    /// The rows that managers have told, with how many have told them.
    pub(crate) rows: BTreeMap<EventName, u64>,
    /// The life of a manager that has acted for the duty last.
    acting: Option<String>,
    /// The lives that have seen that they do not have the duty since they acted last.
    idle: BTreeSet<String>,
    /// The lives that have acted.
    former: BTreeSet<String>,
    /// How often another one acted than before.
    pub(crate) takings: usize,
    pub(crate) problem: Option<String>,
}

impl Ledger {
    /// A manager acts for the duty. If another one has acted since it did, it must have seen meanwhile that it does not have it.
    fn acts(&mut self, me: &str) {
        if self.acting.as_deref() != Some(me) {
            self.takings += 1;
            let is_new = !self.former.contains(me);
            if !(is_new || self.idle.contains(me)) {
                self.fail(format!("OVERLAP: {me} acts after {:?}", self.acting));
            }
            self.acting = Some(me.to_owned());
        }
        self.idle.remove(me);
        self.former.insert(me.to_owned());
    }

    fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

pub(crate) fn take() -> Ledger {
    LEDGER.take()
}

pub(crate) fn registry() -> Registry {
    LEDGER.take();
    Registry::new().with::<Counting>()
}

struct Counting {
    is_manager: bool,
}

impl Framework for Counting {
    const NAME: &'static str = "test";

    fn create(site: &Site<'_>) -> Option<Self> {
        let is_manager = site.is(Role::Manager);
        Some(Self { is_manager })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::publish);
        if self.is_manager {
            declarations.stream::<Word>("words");
            declarations.duty(DUTY, Self::hit);
            declarations.on(Self::word);
            declarations.on(Self::tell);
        }
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        if self.is_manager {
            cx.schedule_mono(LOOK, 0);
        }
    }

    /// What runs on all managers acts on the one that has the duty.
    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        look(cx);
        cx.schedule_mono(LOOK, 0);
    }
}

/// A manager looks whether it has the duty, and acts if it has.
fn look(cx: &Context<'_>) {
    let me = cx.id().to_string();
    let has = cx.has_duty(DUTY);
    LEDGER.with_borrow_mut(|ledger| {
        if has {
            ledger.acts(&me);
        } else {
            ledger.idle.insert(me);
        }
    });
}

#[allow(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "handlers are methods that take their event"
)]
impl Counting {
    fn publish(&mut self, event: Publish, cx: &mut Context<'_>) {
        let Publish {
            life,
            number,
            is_word,
        } = event;
        if is_word {
            let name = (life.clone(), number);
            LEDGER.with_borrow_mut(|ledger| ledger.words.insert(name));
            let topic = cx.topic_for_manager();
            return cx.publish(&topic, &Word { life, number }).unwrap();
        }
        let hit = Hit {
            life: life.clone(),
            number,
        };
        let published = cx.publish_to_duty(DUTY, &hit);
        published.unwrap().then(move |_: &mut Self, _| {
            LEDGER.with_borrow_mut(|ledger| ledger.acknowledged.insert((life, number)));
        });
    }

    fn hit(&mut self, hit: Hit, cx: &mut KeyedContext<'_, '_, String>) {
        if !cx.has_duty(DUTY) {
            let problem = format!("IDLE: {hit:?} is handled without the duty");
            LEDGER.with_borrow_mut(|ledger| ledger.fail(problem));
        }
        let row = (hit.life, hit.number);
        let times = cx.row(&HITS, &row).unwrap_or(0) + 1;
        assert!(cx.set(&HITS, &row, &times));
    }

    fn word(&mut self, word: Word, cx: &mut Context<'_>) {
        cx.log("words", &word).unwrap();
    }

    fn tell(&mut self, _: Tell, cx: &mut Context<'_>) {
        let rows = cx.owned_rows(&PoolName::manager(), &HITS);
        LEDGER.with_borrow_mut(|ledger| {
            for (_, row, times) in rows {
                *ledger.rows.entry(row).or_default() += times;
            }
        });
    }
}
