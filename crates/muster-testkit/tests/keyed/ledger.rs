//! A framework that counts events under their keys, and who keeps account of what it was told, outside of all nodes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use muster_cluster::node::{
    Context, Declarations, Framework, KeyedContext, KeyedTable, Registry, Site,
};
use muster_cluster::{PoolName, Role};
use muster_data::Record;

/// A worker has something to publish.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::publish")]
pub(crate) struct Publish {
    pub(crate) key: String,
    pub(crate) life: String,
    pub(crate) number: u64,
}

/// Something for the owner of a key.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::hit")]
struct Hit {
    key: String,
    life: String,
    number: u64,
}

/// The owner of a key has handled an event: something for the owner of another key, and for the log.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::echo")]
struct Echo {
    life: String,
    number: u64,
}

/// A node is to tell its rows.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::tell")]
pub(crate) struct Tell {}

/// How often an event was handled, by worker's life and number.
const HITS: KeyedTable<String, (String, u64), u64> = KeyedTable::new("test/hits");

/// How often of a worker's life an event was told of by who has handled it.
const ECHOES: KeyedTable<String, u64, u64> = KeyedTable::new("test/echoes");

/// The last number of a worker's life.
const LAST: KeyedTable<String, String, u64> = KeyedTable::new("test/last");

/// What has happened in a run. The nodes of a simulation have one thread.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By key: life and number of what was acknowledged.
    pub(crate) acknowledged: BTreeSet<(String, String, u64)>,
    /// The rows that nodes have told, with how many have told them.
    pub(crate) rows: BTreeMap<(String, String, u64), u64>,
    /// The echoes that nodes have told, by life and number.
    pub(crate) echoes: BTreeMap<(String, u64), u64>,
    pub(crate) problem: Option<String>,
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
    role: Role,
}

impl Framework for Counting {
    const NAME: &'static str = "test";

    fn create(site: &Site<'_>) -> Option<Self> {
        let role = site.node.role;
        Some(Self { role })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        if self.role == Role::Worker {
            declarations.on(Self::publish);
        }
        if self.role == Role::Proxy {
            declarations.keyed(PoolName::proxy(), |hit: &Hit| hit.key.clone(), Self::hit);
            declarations.keyed(
                PoolName::proxy(),
                |echo: &Echo| echo.life.clone(),
                Self::echo,
            );
            declarations.stream::<Echo>("hits");
            declarations.on(Self::tell);
        }
    }
}

#[allow(
    clippy::unused_self,
    clippy::needless_pass_by_value,
    reason = "handlers are methods that take their event"
)]
impl Counting {
    fn publish(&mut self, event: Publish, cx: &mut Context<'_>) {
        let Publish { key, life, number } = event;
        let hit = Hit {
            key: key.clone(),
            life: life.clone(),
            number,
        };
        let published = cx.publish_keyed(&PoolName::proxy(), key.as_str(), &hit);
        published.unwrap().then(move |_: &mut Self, _| {
            LEDGER.with_borrow_mut(|ledger| {
                ledger.acknowledged.insert((key, life, number));
            });
        });
    }

    fn hit(&mut self, hit: Hit, cx: &mut KeyedContext<'_, '_, String>) {
        let row = (hit.life.clone(), hit.number);
        let times = cx.row(&HITS, &row).unwrap_or(0) + 1;
        let last = cx.row(&LAST, &hit.life).unwrap_or(0);
        let problem = if times > 1 {
            Some(format!("TWICE: {hit:?}"))
        } else if last >= hit.number {
            Some(format!("ORDER: {hit:?} comes after {last}"))
        } else {
            None
        };
        if let Some(problem) = problem {
            LEDGER.with_borrow_mut(|ledger| {
                ledger.problem.get_or_insert(problem);
            });
        }
        assert!(cx.set(&HITS, &row, &times));
        assert!(cx.set(&LAST, &hit.life, &hit.number));
        let Hit { life, number, .. } = hit;
        let echo = Echo { life, number };
        cx.log("hits", &echo).unwrap();
        let pool = PoolName::proxy();
        cx.publish_keyed(&pool, echo.life.as_str(), &echo).unwrap();
    }

    fn echo(&mut self, echo: Echo, cx: &mut KeyedContext<'_, '_, String>) {
        let times = cx.row(&ECHOES, &echo.number).unwrap_or(0) + 1;
        assert!(cx.set(&ECHOES, &echo.number, &times));
    }

    fn tell(&mut self, _: Tell, cx: &mut Context<'_>) {
        let rows = cx.owned_rows(&PoolName::proxy(), &HITS);
        let echoes = cx.owned_rows(&PoolName::proxy(), &ECHOES);
        LEDGER.with_borrow_mut(|ledger| {
            for (key, (life, number), times) in rows {
                *ledger.rows.entry((key, life, number)).or_default() += times;
            }
            for (life, number, times) in echoes {
                *ledger.echoes.entry((life, number)).or_default() += times;
            }
        });
    }
}
