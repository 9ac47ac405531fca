//! A store that a framework watches could not be opened when its node started. Somebody else opens it later.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster::cluster::Layout;
use muster::cluster::node::{
    Context, CounterSpec, Declarations, Framework, LogBatch, LogDelivery, LogSink, Registry,
    SharedStore, Site, StoreChange, Written,
};
use muster::data::Timestamp;
use muster::{Exposure, Node, NodeConfig, Tls};
use muster_test_support::within;

const WATCHED: SharedStore<String, u64> = SharedStore::new("test/watched").persistent().watched();

struct Watcher;

impl Framework for Watcher {
    const NAME: &'static str = "watcher";

    const COUNTERS: &'static [CounterSpec] = &[CounterSpec::new("changes", "Changes seen.")];

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.store(&WATCHED);
    }

    fn store_changed(&mut self, _: &StoreChange<'_>, cx: &mut Context<'_>) {
        cx.count("changes", 1);
    }
}

struct Nowhere;

impl LogSink for Nowhere {
    fn write(&mut self, _: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        Written::default()
    }

    fn tick(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

async fn manager(base: &Path) -> Node {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let text = format!("node = [{{ name = \"manager\", role = \"manager\", port = {port} }}]");
    let config = NodeConfig {
        layout: Arc::new(Layout::parse(&text, "test", &[]).unwrap()),
        name: "manager".to_owned(),
        registry: Registry::new().with::<Watcher>(),
        log_sink: Box::new(Nowhere),
        input: None,
        tls: Tls::Off,
        exposure: Exposure::Guarded,
        spool: None,
        base: base.to_owned(),
    };
    Node::start(config).await.unwrap()
}

async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_opened_late_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing can be opened where a directory is.
    let in_the_way = directory.path().join("muster/stores/test_watched.sqlite");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let node = manager(directory.path()).await;
    until(|| !node.report().troubles.is_empty()).await;
    std::fs::remove_dir(&in_the_way).unwrap();

    let store = node.store("test/watched").persistent();
    let store = store.open().await.unwrap();
    store.put("a", &1u64).await.unwrap();
    until(|| node.report().counts.of_frameworks("changes") == 1).await;
    store.put("a", &2u64).await.unwrap();
    until(|| node.report().counts.of_frameworks("changes") == 2).await;
    node.stop(Duration::from_secs(5)).await;
}
