//! What the handler of a keyed event may do, and what becomes of it if it does something else.

use std::time::Duration;

use muster_cluster::node::{
    Context, Declarations, Framework, KeyedContext, KeyedError, KeyedTable, Registry, Site,
};
use muster_cluster::{PoolName, Role};
use muster_data::Record;
use muster_testkit::Cluster;

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker", count = 2 },
    ]
"#;

/// A worker is to publish something.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::publish")]
struct Publish {
    key: String,
    what: String,
}

/// Something for the owner of a key.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::do")]
struct Do {
    key: String,
    what: String,
}

/// A node is to say what it has.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::tell")]
struct Tell {}

/// What somebody says.
#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::said")]
struct Said {
    node: String,
    text: String,
}

const ROWS: KeyedTable<String, String, u64> = KeyedTable::new("test/rows");
const OTHERS: KeyedTable<String, u64, String> = KeyedTable::new("test/rows_of_others");

struct Doing {
    role: Role,
    node: String,
    handles: bool,
}

impl Framework for Doing {
    const NAME: &'static str = "test";

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            role: site.node.role,
            node: site.node.name.to_string(),
            handles: site.node.name.as_str() != "data-3",
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.stream::<Said>("said");
        match self.role {
            Role::Worker => declarations.on(Self::publish),
            Role::Proxy => {
                declarations.on(Self::tell);
                if self.handles {
                    declarations.keyed(PoolName::proxy(), |it: &Do| it.key.clone(), Self::act);
                }
            }
            _ => {}
        }
    }
}

#[allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "handlers are methods that take their event by value"
)]
impl Doing {
    fn say(&self, cx: &mut Context<'_>, text: &str) {
        let said = Said {
            node: self.node.clone(),
            text: text.to_owned(),
        };
        cx.log("said", &said).unwrap();
    }

    fn publish(&mut self, event: Publish, cx: &mut Context<'_>) {
        let Publish { key, what } = event;
        let pool = match what.as_str() {
            "nowhere" => PoolName::new("nowhere").unwrap(),
            _ => PoolName::proxy(),
        };
        let published_with = if what == "lie" { "another" } else { &key };
        let text = format!("{what} is done");
        let event = Do {
            key: key.clone(),
            what,
        };
        let problem = match cx.publish_keyed(&pool, published_with, &event) {
            Ok(published) => {
                published.then(move |this: &mut Self, cx| this.say(cx, &text));
                return;
            }
            Err(error) => error,
        };
        assert!(matches!(&problem, KeyedError::UnknownPool(_)), "{problem}");
        self.say(cx, &problem.to_string());
    }

    fn act(&mut self, event: Do, cx: &mut KeyedContext<'_, '_, String>) {
        let what = event.what.clone();
        let times = cx.row(&ROWS, &what).unwrap_or(0) + 1;
        assert!(cx.set(&ROWS, &what, &times));
        assert_eq!(
            cx.row(&ROWS, &what),
            Some(times),
            "it sees what it has done"
        );
        assert!(cx.set(&OTHERS, &times, &what));
        match what.as_str() {
            "panic" => panic!("on purpose"),
            "remove" => {
                for (row, _) in cx.rows(&ROWS) {
                    cx.remove(&ROWS, &row);
                }
                assert_eq!(cx.rows(&ROWS), Vec::new());
            }
            "pass on" => {
                let next = Do {
                    key: format!("{} and on", event.key),
                    what: "passed on".to_owned(),
                };
                let pool = PoolName::proxy();
                cx.publish_keyed(&pool, next.key.as_str(), &next).unwrap();
            }
            _ => {}
        }
    }

    fn tell(&mut self, _: Tell, cx: &mut Context<'_>) {
        let pool = PoolName::proxy();
        for (key, row, times) in cx.owned_rows(&pool, &ROWS) {
            let doubled = cx.with_key(&pool, &key, |cx| {
                cx.set(&ROWS, &row, &(times * 2));
                cx.row(&ROWS, &row)
            });
            let doubled = doubled.flatten().unwrap();
            self.say(cx, &format!("{key}: {row} {times}, now {doubled}"));
        }
        let foreign = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|key| {
            let key = key.to_owned();
            cx.with_key(&pool, &key, |_| ()).is_some()
        });
        let owned = foreign.into_iter().filter(|is_owned| *is_owned).count();
        self.say(cx, &format!("owns {owned} of 8"));
    }
}

fn cluster(layout: &str) -> Cluster {
    let mut cluster = Cluster::of(layout, Registry::new().with::<Doing>());
    cluster.start();
    cluster.run_for(Duration::from_secs(5));
    cluster
}

fn publish(cluster: &mut Cluster, key: &str, what: &str) {
    let event = Publish {
        key: key.to_owned(),
        what: what.to_owned(),
    };
    cluster.raise("worker-1", &event);
    cluster.run_for(Duration::from_millis(300));
}

/// What nodes have said since the last time, in order of their texts.
fn said(cluster: &mut Cluster, known: &mut usize) -> Vec<String> {
    cluster.run_for(Duration::from_secs(3));
    let all = cluster.log_of::<Said>("said");
    let mut new: Vec<String> = all[*known..].iter().map(|said| said.text.clone()).collect();
    *known = all.len();
    new.sort();
    new
}

fn tell(cluster: &mut Cluster, nodes: &[&str]) {
    for node in nodes {
        cluster.raise(node, &Tell {});
    }
}

#[test]
fn rows_are_those_of_the_key_and_change_with_or_without_an_event() {
    let mut cluster = cluster(LAYOUT);
    let mut known = 0;
    publish(&mut cluster, "x", "once");
    publish(&mut cluster, "x", "twice");
    publish(&mut cluster, "x", "twice");
    publish(&mut cluster, "y", "once");
    publish(&mut cluster, "z", "once");
    publish(&mut cluster, "z", "remove");
    publish(&mut cluster, "x", "pass on");
    assert_eq!(said(&mut cluster, &mut known).len(), 7, "all are done");
    tell(&mut cluster, &["data-1", "data-2"]);
    let found = said(&mut cluster, &mut known);
    let rows = [
        "x and on: passed on 1, now 2",
        "x: once 1, now 2",
        "x: pass on 1, now 2",
        "x: twice 2, now 4",
        "y: once 1, now 2",
    ];
    assert_eq!(found[2..], rows);
    // Every key has one owner.
    let owned = |text: &String| -> usize { text.split(' ').nth(1).unwrap().parse().unwrap() };
    assert_eq!(found[..2].iter().map(owned).sum::<usize>(), 8);
}

#[test]
fn a_handler_that_panics_changes_nothing_and_is_not_called_again() {
    let mut cluster = cluster(LAYOUT);
    let mut known = 0;
    publish(&mut cluster, "x", "panic");
    publish(&mut cluster, "x", "once");
    assert_eq!(
        said(&mut cluster, &mut known),
        ["once is done", "panic is done"]
    );
    assert_eq!(cluster.total(|counts| counts.panics), 1);
    tell(&mut cluster, &["data-1", "data-2"]);
    let found = said(&mut cluster, &mut known);
    assert_eq!(found[2..], ["x: once 1, now 2"]);
}

#[test]
fn a_key_that_the_event_does_not_have_is_refused() {
    let mut cluster = cluster(LAYOUT);
    let mut known = 0;
    publish(&mut cluster, "x", "lie");
    assert_eq!(said(&mut cluster, &mut known), ["lie is done"]);
    assert_eq!(cluster.total(|counts| counts.events_refused), 1);
    publish(&mut cluster, "x", "nowhere");
    let problem = said(&mut cluster, &mut known);
    assert_eq!(problem, ["there is no pool nowhere"]);
}

#[test]
fn rows_move_to_the_next_owner_and_back() {
    let mut cluster = cluster(LAYOUT);
    let mut known = 0;
    for key in ["a", "b", "c", "d", "e", "f"] {
        publish(&mut cluster, key, "once");
    }
    assert_eq!(said(&mut cluster, &mut known).len(), 6);
    cluster.kill("data-1");
    cluster.run_for(Duration::from_secs(2));
    publish(&mut cluster, "a", "alone");
    cluster.restart("data-1");
    cluster.run_for(Duration::from_secs(5));
    cluster.kill("data-2");
    cluster.run_for(Duration::from_secs(2));
    known += said(&mut cluster, &mut 0).len() - known;
    tell(&mut cluster, &["data-1"]);
    let found = said(&mut cluster, &mut known);
    assert_eq!(found.len(), 8, "{found:?}");
    assert_eq!(found[7], "owns 8 of 8");
    assert_eq!(found[..2], ["a: alone 1, now 2", "a: once 1, now 2"]);
}

#[test]
fn who_does_not_handle_keyed_events_owns_no_keys() {
    // The third data node runs the framework without its handler; the fourth is a Zeek process.
    let layout = LAYOUT.replace(
        "count = 2 },\n        { name = \"worker\"",
        "count = 4 },\n        { name = \"worker\"",
    );
    let mut cluster = Cluster::of(&layout, Registry::new().with::<Doing>()).zeek("data-4");
    cluster.start();
    cluster.run_for(Duration::from_secs(12));
    let mut known = 0;
    for number in 0..20 {
        publish(&mut cluster, &format!("key-{number}"), "once");
    }
    assert_eq!(said(&mut cluster, &mut known).len(), 20, "all are done");
    tell(&mut cluster, &["data-1", "data-2"]);
    let found = said(&mut cluster, &mut known);
    let rows = found.iter().filter(|text| text.contains("once 1, now 2"));
    assert_eq!(rows.count(), 20);
    assert_eq!(cluster.total(|counts| counts.keyed_handled), 20);
}
