//! Stores over real sockets: primaries and clones on endpoints of a mesh, and what happens when they go.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster::store::{
    CloneOptions, CopyMode, Freshness, MemoryBackend, OpKind, PrimaryOptions, Read, Revision,
    Scope, Store, StoreErrorKind, StoreName, StorePart, Swapped, SyncedSet, SyncedTable,
    WatchEvent, WriteRefusal,
};
use muster::{Endpoint, EndpointConfig, Exposure, Forwarding};
use muster_data::{Address, Data, Record};
use muster_test_support::within;

const RETRY: Option<Duration> = Some(Duration::from_millis(50));

fn start(forwarding: Forwarding) -> Endpoint {
    let config = EndpointConfig {
        forwarding,
        ..EndpointConfig::default()
    };
    Endpoint::start(config).unwrap()
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    address.to_string()
}

fn name() -> StoreName {
    StoreName::new("test/store").unwrap()
}

/// A relay with two leaves.
async fn star() -> (Endpoint, [Endpoint; 2]) {
    let relay = start(Forwarding::Relay);
    let address = listening(&relay).await;
    let leaves = [start(Forwarding::Leaf), start(Forwarding::Leaf)];
    for leaf in &leaves {
        within(leaf.peer(&address, RETRY)).await.unwrap();
    }
    (relay, leaves)
}

async fn primary(endpoint: &Endpoint) -> Store {
    let options = PrimaryOptions::default();
    endpoint.open_primary(&name(), options).await.unwrap()
}

async fn clone(endpoint: &Endpoint) -> Store {
    let options = CloneOptions::default();
    endpoint.open_clone(&name(), options).await.unwrap()
}

/// Waits until a store reads as expected.
async fn until<T: PartialEq>(mut read: impl AsyncFnMut() -> T, expected: T) {
    within(async {
        while read().await != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Host {
    address: Address,
    seen: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_reads_and_writes_the_same() {
    let (relay, [one, two]) = star().await;
    // The primary is at a leaf: nobody needs to know where.
    let stores = [primary(&one).await, clone(&two).await, clone(&relay).await];
    let host = Host {
        address: "10.0.0.1".parse().unwrap(),
        seen: 3,
    };
    for (number, store) in stores.iter().enumerate() {
        let typed = store.typed::<String, Host>();
        let key = format!("host {number}");
        within(typed.put(&key, &host)).await.unwrap();
        // Whoever has awaited a write reads it at once.
        assert_eq!(typed.get(&key).await.unwrap(), Some(host.clone()));
    }
    for store in &stores {
        until(async || store.size().await.unwrap(), 3).await;
        let all: BTreeMap<String, Host> = store.typed().snapshot().await.unwrap();
        assert_eq!(all.len(), 3);
        assert!(store.exists("host 0").await.unwrap());
        assert!(!store.exists("host 7").await.unwrap());
    }
    assert_eq!(stores[1].primary(), Some(one.id()));
    assert!(matches!(
        stores[1]
            .typed::<String, u64>()
            .get("host 0")
            .await
            .unwrap_err()
            .kind(),
        StoreErrorKind::Conversion(_)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_of_all_kinds() {
    let (relay, [one, _]) = star().await;
    let _primary = primary(&relay).await;
    let store = clone(&one).await;
    let counts = store.typed::<String, u64>();
    assert_eq!(within(counts.increment("n", &2u64)).await.unwrap(), 2);
    assert_eq!(counts.increment("n", &3u64).await.unwrap(), 5);
    assert_eq!(counts.decrement("n", &1u64).await.unwrap(), 4);
    assert!(!counts.put_unique("n", &9u64).await.unwrap());
    assert!(counts.put_unique("m", &9u64).await.unwrap());
    assert!(counts.erase("m").await.unwrap());
    assert!(!counts.erase("m").await.unwrap());
    store.append("text", "ab").await.unwrap();
    store.append("text", "c").await.unwrap();
    assert_eq!(store.get("text").await.unwrap(), Some(Data::string("abc")));
    for element in [3u64, 1, 3] {
        store.insert_into("set", &element).await.unwrap();
    }
    store.remove_from("set", &1u64).await.unwrap();
    let set: BTreeSet<u64> = store
        .typed::<String, _>()
        .get("set")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(set, BTreeSet::from([3]));
    assert_eq!(store.get_at("set", &3u64).await.unwrap(), Some(true));
    store.insert_entry_into("table", "k", &7u64).await.unwrap();
    assert_eq!(store.get_at("table", "k").await.unwrap(), Some(7u64));
    store.push("list", &1u64).await.unwrap();
    store.push("list", "two").await.unwrap();
    assert_eq!(
        store.get_at("list", &1u64).await.unwrap(),
        Some("two".to_owned())
    );
    assert_eq!(store.pop("list").await.unwrap(), Some("two".to_owned()));
    assert_eq!(store.pop("list").await.unwrap(), Some(1u64));
    assert_eq!(store.pop::<_, u64>("list").await.unwrap(), None);
    let clash = store.append("n", "x").await.unwrap_err();
    assert!(matches!(
        clash.kind(),
        StoreErrorKind::Refused(WriteRefusal::TypeClash)
    ));
    // Compare and swap.
    let entry = counts.entry("n").await.unwrap().unwrap();
    assert_eq!(entry.value, 4);
    let swapped = counts
        .swap("n", entry.revision, Some(&10u64))
        .await
        .unwrap();
    assert_eq!(swapped, Swapped::Done);
    let swapped = counts
        .swap("n", entry.revision, Some(&11u64))
        .await
        .unwrap();
    assert_eq!(swapped, Swapped::Changed);
    let new = counts
        .swap("new", Revision::ABSENT, Some(&1u64))
        .await
        .unwrap();
    assert_eq!(new, Swapped::Done);
    assert_eq!(counts.get("n").await.unwrap(), Some(10));
    store.clear().await.unwrap();
    assert_eq!(store.size().await.unwrap(), 0);
    let lost = store.clone().durable().put("x", &1u64).await.unwrap_err();
    assert!(lost.is_not_applied(), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_wins() {
    let (relay, [one, two]) = star().await;
    let stores = [primary(&relay).await, clone(&one).await, clone(&two).await];
    let mut tasks = Vec::new();
    for round in 0..50u64 {
        for store in &stores {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let won = store.put_unique(&round, &1u64).await.unwrap();
                store.increment("sum", &1u64).await.unwrap();
                won
            }));
        }
    }
    let mut won = 0;
    for task in tasks {
        won += u32::from(within(task).await.unwrap());
    }
    assert_eq!(won, 50);
    let sum = stores[0].get("sum").await.unwrap();
    assert_eq!(sum, Some(Data::Count(150)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_with_what_is_there_and_misses_nothing() {
    let (relay, [one, _]) = star().await;
    let primary = primary(&relay).await;
    primary.put("a/1", &1u64).await.unwrap();
    primary.put("b/1", &1u64).await.unwrap();
    let store = clone(&one).await.typed::<String, u64>();
    let mut watch = store.watch(Scope::prefix("a/"));
    let mut next = async || within(watch.next()).await.unwrap();
    let (key, other) = ("a/1".to_owned(), "a/2".to_owned());
    assert_eq!(
        next().await,
        WatchEvent::Insert {
            key: key.clone(),
            value: 1
        }
    );
    assert_eq!(next().await, WatchEvent::Synced);
    primary.put("b/1", &2u64).await.unwrap();
    primary.put("a/1", &2u64).await.unwrap();
    primary
        .put_for("a/2", &3u64, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(
        next().await,
        WatchEvent::Update {
            key: key.clone(),
            old: 1,
            new: 2
        }
    );
    assert_eq!(
        next().await,
        WatchEvent::Insert {
            key: other.clone(),
            value: 3
        }
    );
    assert_eq!(next().await, WatchEvent::Expire { key: other, old: 3 });
    primary.clear().await.unwrap();
    assert_eq!(next().await, WatchEvent::Erase { key, old: 2 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_copy_asks_the_primary() {
    let (relay, [one, _]) = star().await;
    let primary = primary(&relay).await;
    primary.put("a", &1u64).await.unwrap();
    let mut options = CloneOptions::default();
    options.config.copy = CopyMode::None;
    let store = one.open_clone(&name(), options).await.unwrap();
    assert_eq!(within(store.get("a")).await.unwrap(), Some(Data::Count(1)));
    store.put("b", &2u64).await.unwrap();
    assert_eq!(store.get("b").await.unwrap(), Some(Data::Count(2)));
    assert_eq!(store.size().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_leaves_share_a_store_over_one_peering() {
    let [one, two] = [start(Forwarding::Leaf), start(Forwarding::Leaf)];
    let address = listening(&one).await;
    let primary = primary(&one).await;
    within(two.peer(&address, RETRY)).await.unwrap();
    let store = clone(&two).await;
    within(store.put("a", &1u64)).await.unwrap();
    assert_eq!(primary.get("a").await.unwrap(), Some(Data::Count(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_primary_operations_say_so_and_a_late_one_is_found() {
    let (relay, [one, _]) = star().await;
    let store = clone(&one).await;
    let hasty = store.clone().within(Duration::from_millis(200));
    let error = hasty.get("a").await.unwrap_err();
    assert_eq!(*error.kind(), StoreErrorKind::NoPrimary);
    let error = hasty.put("a", &1u64).await.unwrap_err();
    assert!(error.is_not_applied());
    assert_eq!(store.freshness(), Freshness::Unattached);
    let patient = store.clone();
    let put = tokio::spawn(async move { patient.put("b", &2u64).await });
    let primary = primary(&relay).await;
    within(put).await.unwrap().unwrap();
    assert_eq!(primary.get("b").await.unwrap(), Some(Data::Count(2)));
    assert_eq!(primary.get("a").await.unwrap(), None);
    let fresh = store.reading(Read::Fresh);
    assert_eq!(fresh.get("b").await.unwrap(), Some(Data::Count(2)));
}

/// The story: a C++ clone ignores a primary that was restarted for ever, and keeps its old content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_restarts_elsewhere_is_followed_and_keeps_what_was_durable() {
    let (relay, [one, two]) = star().await;
    let shelf = MemoryBackend::default();
    let options = || PrimaryOptions {
        backend: Some(Box::new(shelf.clone())),
        ..PrimaryOptions::default()
    };
    let first = one.open_primary(&name(), options()).await.unwrap();
    let store = clone(&relay).await;
    within(store.clone().durable().put("a", &1u64))
        .await
        .unwrap();
    within(first.durable().put("b", &2u64)).await.unwrap();
    one.shut_down().await;
    drop(one);
    let during = store.clone();
    let put = tokio::spawn(async move { during.durable().increment("a", &1u64).await });
    let second = two.open_primary(&name(), options()).await.unwrap();
    let sum = within(put).await.unwrap().unwrap();
    assert_eq!(sum, Data::Count(2));
    assert_eq!(second.get("b").await.unwrap(), Some(Data::Count(2)));
    until(async || store.get("b").await.unwrap(), Some(Data::Count(2))).await;
    assert_eq!(store.primary(), Some(two.id()));
    assert!(second.close().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_tell_of_failures_and_of_lost_primaries() {
    let (relay, [one, _]) = star().await;
    let disk = MemoryBackend::default();
    let options = PrimaryOptions {
        backend: Some(Box::new(disk.clone())),
        ..PrimaryOptions::default()
    };
    let primary = one.open_primary(&name(), options).await.unwrap();
    let mut options = CloneOptions::default();
    options.config.stale_interval = Duration::from_millis(100);
    options.config.primary_timeout = Duration::from_millis(100);
    let store = relay.open_clone(&name(), options).await.unwrap().durable();
    within(store.put("a", &1u64)).await.unwrap();
    let part = |endpoint: &Endpoint| endpoint.store_reports().remove(0).part;
    let kept = |endpoint: &Endpoint| match part(endpoint) {
        StorePart::Primary(report) => (report.failures, report.is_failing),
        other => panic!("{other:?}"),
    };
    let report = one.store_reports().remove(0);
    assert_eq!((report.name, report.entries), (name(), 1));
    assert_eq!(kept(&one), (0, false));
    disk.fail_after(0);
    within(store.put("b", &1u64)).await.unwrap_err();
    let (failures, is_failing) = kept(&one);
    assert!(failures > 0 && is_failing);
    disk.mend();
    until(async || kept(&one).1, false).await;
    match part(&one) {
        StorePart::Primary(report) => {
            assert_eq!((report.backend, report.writers), ("test", 1));
            assert_eq!(report.pending_commits, 0);
        }
        other => panic!("{other:?}"),
    }
    let clone = |endpoint: &Endpoint| match part(endpoint) {
        StorePart::Clone(report) => (report.freshness, report.missing, report.primary),
        other => panic!("{other:?}"),
    };
    until(async || clone(&relay).1, 0).await;
    assert_eq!(clone(&relay).2, Some(one.id()));
    drop(primary);
    one.shut_down().await;
    until(async || clone(&relay).0, Freshness::Stale).await;
    assert_eq!(one.store_reports(), []);
}

/// Endpoints that meet with a primary each: in a mesh, and two leaves, which speak version 1 with one another as Broker
/// does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_primaries_of_one_name_notice_one_another() {
    let start = |forwarding| {
        let mut config = EndpointConfig {
            forwarding,
            ..EndpointConfig::default()
        };
        config.heartbeat.interval = Duration::from_millis(50);
        config.heartbeat.timeout = Duration::from_millis(200);
        Endpoint::start(config).unwrap()
    };
    let rival = |endpoint: &Endpoint| match endpoint.store_reports().remove(0).part {
        StorePart::Primary(report) => report.rival,
        other => panic!("{other:?}"),
    };
    for forwarding in [Forwarding::Relay, Forwarding::Leaf] {
        let [one, two] = [start(forwarding), start(forwarding)];
        let _primaries = [primary(&one).await, primary(&two).await];
        assert_eq!((rival(&one), rival(&two)), (None, None));
        let address = listening(&one).await;
        within(two.peer(&address, RETRY)).await.unwrap();
        let both = async || (rival(&one), rival(&two));
        until(both, (Some(two.id()), Some(one.id()))).await;
        // One that opens later is told at once.
        let third = start(Forwarding::Leaf);
        within(third.peer(&address, RETRY)).await.unwrap();
        let _primary = primary(&third).await;
        assert!(rival(&third).is_some());
        third.shut_down().await;
        two.shut_down().await;
        until(async || rival(&one), None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_table_is_a_plain_map_on_every_node() {
    let (relay, [one, two]) = star().await;
    let first = SyncedTable::new(clone(&one).await.typed::<String, u64>());
    // Before anybody has the primary.
    first.insert(&"early".to_owned(), &1);
    let _primary = primary(&relay).await;
    let second = SyncedTable::new(clone(&two).await.typed::<String, u64>());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    second.on_change(move |change| {
        let new = change.new.map_or("-".to_owned(), |new| new.to_string());
        told.lock().unwrap().push(format!("{} {new}", change.key));
    });
    within(second.synced()).await;
    within(first.insert_and_wait(&"b".to_owned(), &2))
        .await
        .unwrap();
    assert_eq!(first.get(&"b".to_owned()), Some(2));
    second.insert_for(&"c".to_owned(), &3, Duration::from_millis(100));
    second.remove(&"early".to_owned());
    let expected = BTreeMap::from([("b".to_owned(), 2)]);
    let both = async || {
        heard.lock().unwrap().iter().any(|told| told == "c -") && *first.read() == expected
    };
    until(both, true).await;
    assert_eq!(*second.read(), expected);
    assert_eq!((first.failed(), second.failed()), (0, 0));
    let set = SyncedSet::new(&clone(&relay_of(&relay).await).await.typed::<u64, bool>());
    set.insert(&7);
    until(async || set.contains(&7), true).await;
}

/// Another endpoint at a relay.
async fn relay_of(relay: &Endpoint) -> Endpoint {
    let address = listening(relay).await;
    let leaf = start(Forwarding::Leaf);
    within(leaf.peer(&address, RETRY)).await.unwrap();
    leaf
}

/// A new kind of operation does not compile here: it is given a method, and the method is used.
#[tokio::test]
async fn every_operation_is_a_method_of_a_handle() {
    let endpoint = start(Forwarding::Direct);
    let store = primary(&endpoint).await.typed::<String, u64>();
    for kind in OpKind::ALL {
        let before = store.revision().change;
        match kind {
            OpKind::Put => store.put("a", &1u64).await.unwrap(),
            OpKind::PutUnique => assert!(store.put_unique("b", &1u64).await.unwrap()),
            OpKind::Erase => assert!(store.erase("a").await.unwrap()),
            OpKind::Add => assert_eq!(store.increment("b", &2u64).await.unwrap(), 3),
            OpKind::Subtract => assert_eq!(store.decrement("b", &1u64).await.unwrap(), 2),
            OpKind::Clear => store.clear().await.unwrap(),
            OpKind::Swap => {
                let swapped = store.swap("c", Revision::ABSENT, Some(&4u64)).await;
                assert_eq!(swapped.unwrap(), Swapped::Done);
            }
            // Only a primary issues it.
            OpKind::Expire => continue,
        }
        assert_eq!(store.revision().change, before + 1, "{kind:?}");
    }
    endpoint.shut_down().await;
}
