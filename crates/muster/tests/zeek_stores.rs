//! Stores shared with a real Zeek, as master and as clone, written from its scripts.
//!
//! See `support/zeek.rs` for how Zeek is found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/zeek.rs"]
mod zeek;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use muster::store::{CloneOptions, PrimaryOptions, Store, StoreName};
use muster::{Endpoint, EndpointConfig};
use muster_test_support::within;
use zeek::{RunningZeek, zeek};

/// Both write under conditions, and each sees what the other has written.
async fn shared(store: Store<String, u64>, zeek: &mut RunningZeek) {
    assert_eq!(within(store.get("early")).await.unwrap(), Some(1));
    assert!(within(store.put_unique("both", &9u64)).await.unwrap());
    within(store.put("from-muster", &7u64)).await.unwrap();
    assert_eq!(zeek.says("got "), "7");
    assert_eq!(zeek.says("both "), "F");
    assert_eq!(zeek.says("fresh "), "T");
    within(async {
        while store.get("done").await.unwrap() != Some(3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(store.get("fresh").await.unwrap(), Some(2));
    assert_eq!(store.get("both").await.unwrap(), Some(14));
    assert_eq!(store.get("from-muster").await.unwrap(), None);
    let sets = store.typed::<String, BTreeSet<IpAddr>>();
    let expected: IpAddr = "10.0.0.1".parse().unwrap();
    assert_eq!(sets.get("set").await.unwrap(), Some([expected].into()));
    assert!(!within(store.put_unique("fresh", &1u64)).await.unwrap());
    assert!(within(store.erase("fresh")).await.unwrap());
    assert!(!within(store.erase("fresh")).await.unwrap());
}

async fn run(kind: &str) {
    let Some(program) = zeek() else {
        return;
    };
    let name = StoreName::new("muster/test").unwrap();
    let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
    let store = if kind == "clone" {
        let options = PrimaryOptions::default();
        let store = endpoint.open_primary(&name, options).await.unwrap();
        store.put("early", &1u64).await.unwrap();
        store
    } else {
        let options = CloneOptions::default();
        endpoint.open_clone(&name, options).await.unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let script = include_str!("zeek/stores.zeek");
    let arguments = ["Broker::disable_ssl=T", &format!("Test::kind={kind}")];
    let mut zeek = program.start(directory.path(), script, &arguments);
    let port = zeek.says("listening ");
    let address = format!("127.0.0.1:{port}");
    let retry = Some(Duration::from_millis(50));
    within(endpoint.peer(&address, retry)).await.unwrap();
    shared(store.typed(), &mut zeek).await;
    zeek.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clone_of_zeeks_master() {
    run("master").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_zeeks_clone() {
    run("clone").await;
}
