//! Checkpoints of a node's input: they wait for what was logged before them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    reason = "a handler is a method that takes its event by value"
)]

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use muster::cluster::Layout;
use muster::cluster::node::{
    Context, Declarations, Framework, LogBatch, LogDelivery, LogSink, Registry, Site, Written,
};
use muster::data::{Record, Timestamp};
use muster::wire::zeek::{Metadata, put_event};
use muster::{Exposure, Input, InputBatch, Node, NodeConfig, Tls};
use muster_data::Encode;

#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::seen")]
struct Seen {
    number: u64,
}

/// Logs what the input raises.
struct Logs;

impl Framework for Logs {
    const NAME: &'static str = "logs";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::seen);
        declarations.stream::<Seen>("seen");
    }
}

impl Logs {
    fn seen(&mut self, seen: Seen, cx: &mut Context<'_>) {
        cx.log("seen", &seen).unwrap();
    }
}

/// A disk that syncs when it is let, or fails.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    may_sync: bool,
    fails: bool,
    written: u64,
    synced: u64,
}

impl Disk {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn written(&self) -> u64 {
        self.0.0.lock().unwrap().written
    }

    fn synced(&self) -> u64 {
        self.0.0.lock().unwrap().synced
    }
}

impl LogSink for Disk {
    fn write(&mut self, batch: &LogBatch, _: Option<&LogDelivery>, _: Timestamp) -> Written {
        let records = batch.len() as u64;
        self.change(|state| state.written += records);
        Written {
            records,
            ..Written::default()
        }
    }

    fn sync(&mut self, _: Timestamp) -> Result<(), String> {
        let state = self.0.0.lock().unwrap();
        let waiting = self.0.1.wait_while(state, |it| !it.may_sync && !it.fails);
        let mut state = waiting.unwrap();
        if state.fails {
            return Err("the disk is gone".to_owned());
        }
        state.synced = state.written;
        Ok(())
    }

    fn tick(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }

    fn close(&mut self, _: Timestamp) -> Result<(), String> {
        Ok(())
    }
}

/// What checkpoints have found when they were called: the records that were synced, and the number of the checkpoint.
type Found = Arc<Mutex<Vec<(u64, u64)>>>;

/// Raises three events before each checkpoint, of so many; then waits for the end.
fn input(checkpoints: u64, disk: Disk, found: Found, sent: Arc<AtomicU64>) -> Input {
    Box::new(move |sender| {
        for checkpoint in 1..=checkpoints {
            for number in 0..3 {
                let mut batch = InputBatch::default();
                put_event(&mut batch.buffer, Seen::NAME, Metadata::default(), |out| {
                    Seen { number }.encode(out);
                });
                batch.events.push(0..batch.buffer.len());
                sender.send(batch).unwrap();
            }
            let (disk, found) = (disk.clone(), Arc::clone(&found));
            sender.note(Box::new(move || {
                let synced = disk.synced();
                found.lock().unwrap().push((checkpoint, synced));
            }));
            sent.store(checkpoint, Ordering::SeqCst);
        }
        while !sender.stop_flag().load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        sender.finish("done".to_owned());
    })
}

/// A manager that writes the logs, and a worker with the input.
async fn cluster(disk: Disk, input: Input, base: &Path) -> (Node, Node) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [manager, worker] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let text = format!(
        "node = [{{ name = \"manager\", role = \"manager\", port = {manager} }}, {{ name = \"worker\", role = \"worker\", port = {worker}, input = [\"x\"] }}]\n[logging]\nbatch_interval = \"1h\"\n"
    );
    let layout = Arc::new(Layout::parse(&text, "test", &[]).unwrap());
    let start = async |name: &str, disk: Disk, input: Option<Input>| {
        let config = NodeConfig {
            layout: Arc::clone(&layout),
            name: name.to_owned(),
            registry: Registry::new().with::<Logs>(),
            log_sink: Box::new(disk),
            input,
            tls: Tls::Off,
            exposure: Exposure::Guarded,
            spool: Some(base.join("spool").join(name)),
            base: base.to_owned(),
        };
        Node::start(config).await.unwrap()
    };
    let manager = start("manager", disk, None).await;
    (manager, start("worker", Disk::default(), Some(input)).await)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect(what);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_called_when_the_records_before_it_are_synced() {
    let base = tempfile::tempdir().unwrap();
    let (disk, found, sent) = (Disk::default(), Found::default(), Arc::default());
    let input = input(1, disk.clone(), Arc::clone(&found), Arc::clone(&sent));
    let (manager, worker) = cluster(disk.clone(), input, base.path()).await;
    // Although their batch is not full, and it would be an hour until it is due.
    until("the records in the files", || disk.written() == 3).await;
    assert_eq!(*found.lock().unwrap(), []);
    disk.change(|state| state.may_sync = true);
    until("the checkpoint", || !found.lock().unwrap().is_empty()).await;
    assert_eq!(*found.lock().unwrap(), [(1, 3)]);
    worker.stop(Duration::from_secs(20)).await;
    manager.stop(Duration::from_secs(20)).await;
}

/// An input that reads on while no record gets to a disk has its first checkpoint and the last one kept, and none in between.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_checkpoints_that_wait_the_last_one_counts() {
    let base = tempfile::tempdir().unwrap();
    let (disk, found, sent) = (Disk::default(), Found::default(), Arc::default());
    let input = input(20, disk.clone(), Arc::clone(&found), Arc::clone(&sent));
    let (manager, worker) = cluster(disk.clone(), input, base.path()).await;
    until("all that was sent", || {
        sent.load(Ordering::SeqCst) == 20 && worker.report().counts.records_logged == 60
    })
    .await;
    disk.change(|state| state.may_sync = true);
    until("the last checkpoint", || {
        found
            .lock()
            .unwrap()
            .last()
            .is_some_and(|last| last.0 == 20)
    })
    .await;
    let found = found.lock().unwrap().clone();
    for (checkpoint, synced) in &found {
        assert!(*synced >= 3 * checkpoint, "{found:?}");
    }
    assert!(found.len() <= 4, "{found:?}");
    worker.stop(Duration::from_secs(20)).await;
    manager.stop(Duration::from_secs(20)).await;
}

/// No logger takes the records, and the node ends: they are in its spool then, and what was read is not to be read again.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_checkpoint_is_called_at_the_end_of_the_node() {
    let base = tempfile::tempdir().unwrap();
    let (disk, found, sent) = (Disk::default(), Found::default(), Arc::default());
    disk.change(|state| state.fails = true);
    let input = input(1, disk.clone(), Arc::clone(&found), Arc::clone(&sent));
    let (manager, worker) = cluster(disk.clone(), input, base.path()).await;
    until("all that was sent", || {
        worker.report().counts.records_logged == 3
    })
    .await;
    assert_eq!(*found.lock().unwrap(), []);
    let last = worker.stop(Duration::from_secs(20)).await;
    assert_eq!(
        (last.counts.records_left, last.counts.records_acknowledged),
        (3, 0)
    );
    assert_eq!(*found.lock().unwrap(), [(1, 0)]);
    manager.stop(Duration::from_secs(20)).await;
}
