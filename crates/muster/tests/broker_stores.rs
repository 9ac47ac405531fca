//! Stores shared with C++ Broker: its own code stands at the other end, as master and as clone.
//!
//! `MUSTER_BROKER_STORE` names a program that is built on Broker's library; a test that has none says so on stderr
//! and passes. It has one endpoint, without encryption and without forwarding, and one store. It ignores its
//! arguments, reads commands from stdin, a line each, and answers each with one line on stdout:
//!
//! | command | answer |
//! | --- | --- |
//! | `listen` | `listening PORT`: on loopback, at a port of the system's choice |
//! | `peer HOST PORT` | `ok` once peered, or `error` |
//! | `master NAME`, `clone NAME` | `ok`, or `error` and why: attaches the store, in memory |
//! | `put KEY COUNT`, `push KEY COUNT`, `increment KEY COUNT`, `erase KEY`, `clear` | `ok` at once |
//! | `put_for KEY COUNT MILLISECONDS` | `ok` at once: with an expiry |
//! | `put_unique KEY COUNT` | `inserted T` or `inserted F`, or `error` |
//! | `get KEY` | `value VALUE`, or `error` |
//! | `dump` | `dump` and, in the order of the keys, a blank and `KEY=VALUE` for each |
//!
//! Keys are strings without blanks, values counts; values are printed as Broker does. It ends with its input.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "the support is shared with other tests")]

#[path = "support/broker.rs"]
mod support;

use std::time::Duration;

use muster::store::{
    CloneOptions, Freshness, PrimaryOptions, Revision, Scope, Store, StoreErrorKind, StoreName,
    WatchEvent,
};
use muster::{Endpoint, EndpointConfig};
use muster_store::op::WriteRefusal;
use muster_test_support::within;

use support::{Broker, Program, RETRY, listening, named};

fn name() -> StoreName {
    StoreName::new("test/kv").unwrap()
}

fn program() -> Option<Program> {
    named("MUSTER_BROKER_STORE")
}

impl Broker {
    /// The answer to a command.
    async fn asks(&mut self, command: &str) -> String {
        self.write(command);
        self.prints().await
    }

    /// A command that has to succeed.
    async fn does(&mut self, command: &str) {
        assert_eq!(self.asks(command).await, "ok", "{command}");
    }

    /// Waits until a command has an answer.
    async fn until(&mut self, command: &str, expected: &str) {
        let mut last = String::new();
        let waiting = async {
            while last != expected {
                last = self.asks(command).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(15), waiting).await;
        assert!(waited.is_ok(), "{command}: {last}, not {expected}");
    }

    async fn port(&mut self) -> String {
        let listens = self.asks("listen").await;
        listens.strip_prefix("listening ").unwrap().to_owned()
    }
}

async fn master(endpoint: &Endpoint) -> Store {
    let options = PrimaryOptions::default();
    endpoint.open_primary(&name(), options).await.unwrap()
}

async fn clone(endpoint: &Endpoint) -> Store<String, u64> {
    let options = CloneOptions::default();
    let store = endpoint.open_clone(&name(), options).await.unwrap();
    store.typed()
}

fn start() -> Endpoint {
    Endpoint::start(EndpointConfig::default()).unwrap()
}

/// A program with a store that is a peer of an endpoint.
async fn peered(program: &Program, endpoint: &Endpoint, kind: &str) -> Broker {
    let mut broker = program.run(&[]);
    broker.does(&format!("{kind} {}", name())).await;
    let address = listening(endpoint).await;
    let (host, port) = address.rsplit_once(':').unwrap();
    broker.does(&format!("peer {host} {port}")).await;
    broker
}

async fn until<T: PartialEq + std::fmt::Debug>(mut read: impl AsyncFnMut() -> T, expected: T) {
    let mut last = None;
    let waiting = async {
        while last.as_ref() != Some(&expected) {
            last = Some(read().await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    assert!(waited.is_ok(), "{last:?}, not {expected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_clone_follows_and_writes_to_a_muster_master() {
    let Some(program) = program() else {
        return;
    };
    let endpoint = start();
    let store = master(&endpoint).await.typed::<String, u64>();
    store.put("early", &1u64).await.unwrap();
    let mut broker = peered(&program, &endpoint, "clone").await;
    broker.until("get early", "value 1").await;
    broker.does("put x 10").await;
    broker.does("increment x 5").await;
    assert_eq!(broker.asks("put_unique x 1").await, "inserted F");
    assert_eq!(broker.asks("put_unique z 2").await, "inserted T");
    until(async || store.get("x").await.unwrap(), Some(15)).await;
    assert!(!store.put_unique("z", &9u64).await.unwrap());
    store.put("y", &7u64).await.unwrap();
    store.erase("early").await.unwrap();
    broker.until("dump", "dump x=15 y=7 z=2").await;
    // The last change is heard of even if nothing follows.
    store
        .put_for("short", &1u64, Duration::from_millis(200))
        .await
        .unwrap();
    broker.until("dump", "dump short=1 x=15 y=7 z=2").await;
    broker.until("dump", "dump x=15 y=7 z=2").await;
    broker.does("put_for s2 3 200").await;
    until(async || store.get("s2").await.unwrap(), Some(3)).await;
    until(async || store.get("s2").await.unwrap(), None).await;
    for number in 0..500 {
        broker.does(&format!("push list {number}")).await;
    }
    let list = store.typed::<String, Vec<u64>>();
    let expected: Vec<u64> = (0..500).collect();
    let length = async || {
        let list = list.get("list").await.unwrap();
        list.is_some_and(|list| list.len() == 500)
    };
    until(length, true).await;
    assert_eq!(list.get("list").await.unwrap(), Some(expected));
    broker.does("clear").await;
    until(async || store.size().await.unwrap(), 0).await;
    broker.until("dump", "dump").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muster_clone_follows_and_writes_to_brokers_master() {
    let Some(program) = program() else {
        return;
    };
    let endpoint = start();
    let mut broker = peered(&program, &endpoint, "master").await;
    broker.does("put early 1").await;
    let store = clone(&endpoint).await;
    within(store.attached()).await.unwrap();
    assert_eq!(store.get("early").await.unwrap(), Some(1));
    assert_eq!(store.freshness(), Freshness::Fresh);
    assert!(!store.is_primary() && store.primary().is_some());
    let mut watch = store.watch(Scope::key("w"));
    assert_eq!(watch.next().await.unwrap(), WatchEvent::Synced);
    // Whoever has awaited a write reads it at once, and the master has it.
    within(store.put("x", &10u64)).await.unwrap();
    assert_eq!(store.get("x").await.unwrap(), Some(10));
    assert_eq!(broker.asks("get x").await, "value 10");
    assert_eq!(within(store.increment("x", &5u64)).await.unwrap(), 15);
    assert!(!within(store.put_unique("x", &1u64)).await.unwrap());
    assert!(within(store.put_unique("w", &2u64)).await.unwrap());
    let (key, value) = ("w".to_owned(), 2);
    let insert = WatchEvent::Insert { key, value };
    assert_eq!(within(watch.next()).await.unwrap(), insert);
    assert!(within(store.erase("early")).await.unwrap());
    assert!(!within(store.erase("early")).await.unwrap());
    let clash = within(store.append("x", "text")).await.unwrap_err();
    assert_eq!(
        *clash.kind(),
        StoreErrorKind::Refused(WriteRefusal::TypeClash)
    );
    let swap = store.swap("x", Revision::ABSENT, Some(&1u64)).await;
    let unsupported = StoreErrorKind::Refused(WriteRefusal::Unsupported);
    assert_eq!(*swap.unwrap_err().kind(), unsupported);
    let durable = store.clone().durable().put("x", &1u64).await;
    assert_eq!(*durable.unwrap_err().kind(), unsupported);
    let list = store.typed::<String, Vec<u64>>();
    for number in 0..200u64 {
        within(list.push("list", &number)).await.unwrap();
    }
    let expected: Vec<u64> = (0..200).collect();
    assert_eq!(list.get("list").await.unwrap(), Some(expected));
    assert_eq!(within(list.pop("list")).await.unwrap(), Some(199u64));
    within(store.erase("list")).await.unwrap();
    broker.does("put_for short 1 200").await;
    until(async || store.get("short").await.unwrap(), Some(1)).await;
    until(async || store.get("short").await.unwrap(), None).await;
    assert_eq!(broker.asks("dump").await, "dump w=2 x=15");
    within(store.clear()).await.unwrap();
    assert_eq!(broker.asks("dump").await, "dump");
}

/// The story: a clone of Broker ignores a master that was started anew for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_master_that_is_started_anew_is_followed() {
    let Some(program) = program() else {
        return;
    };
    let endpoint = start();
    let mut broker = peered(&program, &endpoint, "master").await;
    let store = clone(&endpoint).await;
    within(store.put("x", &1u64)).await.unwrap();
    let first = store.primary();
    assert_eq!(broker.asks("dump").await, "dump x=1");
    drop(broker);
    until(async || endpoint.peers().len(), 0).await;
    let waits = store.clone();
    let put = tokio::spawn(async move { waits.put("y", &2u64).await });
    let mut broker = peered(&program, &endpoint, "master").await;
    // What was sent to the old master is reported, what was not goes to the new one.
    let put = within(put).await.unwrap();
    if put.is_ok() {
        until(async || store.get("y").await.unwrap(), Some(2)).await;
    }
    until(async || store.get("x").await.unwrap(), None).await;
    within(store.put("z", &3u64)).await.unwrap();
    assert_eq!(broker.asks("get z").await, "value 3");
    assert_ne!(store.primary(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muster_master_wins() {
    let Some(program) = program() else {
        return;
    };
    let [one, two] = [start(), start()];
    let mut broker = peered(&program, &one, "master").await;
    broker.does("put from-broker 1").await;
    let store = clone(&one).await;
    until(async || store.size().await.ok(), Some(1)).await;
    let mut watch = store.watch(Scope::All);
    let (key, value) = ("from-broker".to_owned(), 1);
    let insert = WatchEvent::Insert { key, value };
    assert_eq!(within(watch.next()).await.unwrap(), insert);
    assert_eq!(within(watch.next()).await.unwrap(), WatchEvent::Synced);
    let muster = master(&two).await;
    muster.put("from-muster", &2u64).await.unwrap();
    let address = listening(&one).await;
    within(two.peer(&address, RETRY)).await.unwrap();
    until(async || store.get("from-muster").await.unwrap(), Some(2)).await;
    assert_eq!(store.primary(), Some(two.id()));
    let (key, old) = ("from-broker".to_owned(), 1);
    let erase = WatchEvent::Erase { key, old };
    assert_eq!(within(watch.next()).await.unwrap(), erase);
    within(store.put("z", &3u64)).await.unwrap();
    assert!(muster.exists("z").await.unwrap());
    assert_eq!(broker.asks("dump").await, "dump from-broker=1");
}

/// More than a MiB, which is encoded beside the store's work, with writes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_state_comes_in_one_frame() {
    let Some(program) = program() else {
        return;
    };
    let endpoint = start();
    let store = master(&endpoint).await.typed::<String, u64>();
    let key = |number: u64| format!("{number:064}");
    for number in 0..30_000 {
        store.put(&key(number), &number).await.unwrap();
    }
    let mut broker = peered(&program, &endpoint, "clone").await;
    for number in 0..3000 {
        store.put("last", &number).await.unwrap();
    }
    broker.until("get last", "value 2999").await;
    let last = broker.asks(&format!("get {}", key(29_999))).await;
    assert_eq!(last, "value 29999");
}

/// Broker's clone goes on after a lost connection; so does what it wrote meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_loses_no_write() {
    let Some(program) = program() else {
        return;
    };
    let endpoint = start();
    let store = master(&endpoint).await.typed::<String, u64>();
    let mut broker = peered(&program, &endpoint, "clone").await;
    broker.does("put a 1").await;
    until(async || store.get("a").await.unwrap(), Some(1)).await;
    let peer = endpoint.peers()[0].id;
    within(endpoint.unpeer(peer)).await;
    broker.does("put b 2").await;
    store.put("c", &3u64).await.unwrap();
    let address = listening(&endpoint).await;
    let (host, port) = address.rsplit_once(':').unwrap();
    broker.does(&format!("peer {host} {port}")).await;
    until(async || store.get("b").await.unwrap(), Some(2)).await;
    broker.until("dump", "dump a=1 b=2 c=3").await;
}
