//! The clients of a cluster under test: they ask stores for things all the time, and tell what they were told, a JSON object on
//! a line. It runs in the network of a box that is none of the cluster's.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster::store::{
    CloneOptions, CopyMode, Read, Store, StoreError, StoreErrorKind, StoreName, Swapped,
    WriteFailure,
};
use muster::{Certificates, Endpoint, EndpointConfig, Forwarding, Tls};
use muster_agent::IdentityFiles;
use muster_bench::oracle::{Asked, Kind, Outcome, Record};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

/// Endpoints that write and read.
const ENDPOINTS: u32 = 3;

/// The pause between two operations of one client.
const PAUSE: Duration = Duration::from_millis(15);

/// How long an operation may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// How long a reading may take when all is well again.
const LAST_LIMIT: Duration = Duration::from_secs(20);

/// How long a key is used, in nanoseconds.
const SLOT: u64 = 1_000_000_000;

/// What the clients say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// They are linked with the cluster.
    Linked,
    /// An operation has ended.
    Ended(Record),
    /// Everything has ended, and what stands was read.
    Rested,
}

/// The stores that are used: what the layout calls them.
pub(crate) const STORES: [&str; 2] = ["oracle/memory", IN_A_FILE];

/// The one that a file keeps.
const IN_A_FILE: &str = "oracle/file";

/// Now, in nanoseconds of the machine's monotonic clock.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        // Whoever has started this is gone, perhaps: then stdin has ended as well.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// Who does what on which keys: nothing while there is no round.
type Round = Option<Arc<str>>;

/// Runs until stdin ends. A line there is the name of a round, or `rest`.
pub(crate) fn run(identity: &Path, addresses: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve(identity, addresses))
}

async fn serve(identity: &Path, addresses: &[String]) -> Result<()> {
    let (rounds, round) = watch::channel::<Round>(None);
    let used = Arc::new(Used::default());
    let busy = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::new();
    for number in 0..ENDPOINTS {
        let endpoint = endpoint(identity, addresses)?;
        for (index, name) in (0..).zip(STORES) {
            let store = open(&endpoint, name).await?;
            if number == 0 {
                readers.push((name, store.clone()));
            }
            // Of those who write to the file some wait for the disk.
            let store = if number == 0 && name == IN_A_FILE {
                store.durable()
            } else {
                store
            };
            for (of_kind, kind) in (0..).zip(Kind::ALL) {
                let client = Client {
                    number: (number * 2 + index) * 4 + of_kind,
                    kind,
                    store: store.clone(),
                    store_name: name,
                    used: Arc::clone(&used),
                    written: 0,
                };
                tokio::spawn(client.run(round.clone(), Arc::clone(&busy)));
            }
        }
        while endpoint.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It is kept alive by its stores, and ends with the process.
        std::mem::forget(endpoint);
    }
    say(&Said::Linked);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if line != "rest" {
            rounds.send_replace(Some(line.into()));
            continue;
        }
        rounds.send_replace(None);
        while busy.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (kind, store, key) in used.take() {
            let found = readers.iter().find(|(name, _)| *name == store);
            let (_, reader) = found.context("every store has a reader")?;
            read_last(reader, kind, &key).await;
        }
        say(&Said::Rested);
    }
    Ok(())
}

/// An endpoint of nobody's cluster that goes by a box's identity and is linked with whoever listens there.
pub(crate) fn endpoint(identity: &Path, addresses: &[String]) -> Result<Endpoint> {
    let files = IdentityFiles::at(identity);
    let own = files.of_box();
    let endpoint = Endpoint::start(EndpointConfig {
        tls: Tls::Mutual(Certificates {
            cafile: Some(files.authorities()),
            capath: None,
            certificate: own.certificate,
            keyfile: own.key,
            passphrase: None,
        }),
        forwarding: Forwarding::Leaf,
        ..EndpointConfig::default()
    })?;
    for address in addresses {
        endpoint.dial(address, Some(Duration::from_millis(200)));
    }
    Ok(endpoint)
}

async fn open(endpoint: &Endpoint, name: &str) -> Result<Store> {
    let mut options = CloneOptions::default();
    options.config.copy = CopyMode::None;
    let name = StoreName::new(name).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
    let store = endpoint.open_clone(&name, options).await?;
    Ok(store.within(LIMIT).reading(Read::Primary))
}

/// The keys that were used in a round.
#[derive(Default)]
struct Used(Mutex<BTreeSet<(Kind, &'static str, String)>>);

impl Used {
    fn add(&self, kind: Kind, store: &'static str, key: &str) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert((kind, store, key.to_owned()));
    }

    fn take(&self) -> BTreeSet<(Kind, &'static str, String)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Client {
    number: u32,
    kind: Kind,
    store: Store,
    store_name: &'static str,
    used: Arc<Used>,
    written: u64,
}

impl Client {
    async fn run(mut self, mut round: watch::Receiver<Round>, busy: Arc<AtomicU64>) {
        let mut turn = u64::from(self.number);
        loop {
            if round.wait_for(Option::is_some).await.is_err() {
                return;
            }
            busy.fetch_add(1, Ordering::SeqCst);
            // Looked at again once it is known that this is busy.
            let name = round.borrow().clone();
            if let Some(name) = name {
                turn += 1;
                let key = format!("{name}/{}/{}", self.kind.name(), now() / SLOT);
                self.used.add(self.kind, self.store_name, &key);
                // A third of what is done reads.
                self.step(&key, turn.is_multiple_of(3)).await;
            }
            busy.fetch_sub(1, Ordering::SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A value that nobody has written.
    fn value(&mut self) -> u64 {
        self.written += 1;
        u64::from(self.number) << 40 | self.written
    }

    async fn step(&mut self, key: &str, reads: bool) {
        let asked = match (self.kind, reads) {
            (Kind::Register, true) => return self.swap(key).await,
            (Kind::Register, false) => Asked::Put(self.value()),
            (Kind::Unique, true) => Asked::GetUnique,
            (Kind::Unique, false) => Asked::PutUnique(self.value()),
            (Kind::Counter, true) => Asked::GetCounter,
            (Kind::Counter, false) => Asked::Increment,
            (Kind::List, true) => Asked::GetList,
            (Kind::List, false) => Asked::Push(self.value()),
        };
        let began = now();
        let outcome = self.perform(key, &asked).await;
        self.tell(key, began, asked, outcome);
    }

    async fn perform(&self, key: &str, asked: &Asked) -> Outcome {
        let numbers = self.store.typed::<String, u64>();
        match asked {
            Asked::Put(value) => {
                let put = numbers.put(key, value).await;
                put.map_or_else(|error| failed(&error), |()| Outcome::Done)
            }
            Asked::PutUnique(value) => {
                let put = numbers.put_unique(key, value).await;
                put.map_or_else(|error| failed(&error), Outcome::Applied)
            }
            Asked::Increment => {
                let sum = numbers.increment(key, &1_u64).await;
                sum.map_or_else(|error| failed(&error), |sum| Outcome::Value(Some(sum)))
            }
            Asked::Push(value) => {
                let pushed = self.store.push(key, value).await;
                pushed.map_or_else(|error| failed(&error), |()| Outcome::Done)
            }
            asked => read(&self.store, asked.kind(), key).await,
        }
    }

    /// Reads a register, and replaces what was read.
    async fn swap(&mut self, key: &str) {
        let numbers = self.store.typed::<String, u64>();
        let began = now();
        let entry = numbers.entry(key).await;
        let (from, revision) = match entry {
            Ok(Some(found)) => (Some(found.value), found.revision),
            Ok(None) => (None, muster::store::Revision::ABSENT),
            Err(error) => return self.tell(key, began, Asked::Get, failed(&error)),
        };
        self.tell(key, began, Asked::Get, Outcome::Value(from));
        let to = self.value();
        let began = now();
        let outcome = match numbers.swap(key, revision, Some(&to)).await {
            Ok(swapped) => Outcome::Applied(swapped == Swapped::Done),
            Err(error) => failed(&error),
        };
        self.tell(key, began, Asked::Swap { from, to }, outcome);
    }

    fn tell(&self, key: &str, began: u64, asked: Asked, outcome: Outcome) {
        say(&Said::Ended(Record {
            client: self.number,
            key: format!("{} {key}", self.store_name),
            began,
            ended: now(),
            asked,
            outcome,
        }));
    }
}

async fn read(store: &Store, kind: Kind, key: &str) -> Outcome {
    if kind == Kind::List {
        let list = store.typed::<String, Vec<u64>>().get(key).await;
        return match list {
            Ok(list) => Outcome::List(list.unwrap_or_default()),
            Err(error) => failed(&error),
        };
    }
    match store.typed::<String, u64>().get(key).await {
        Ok(value) => Outcome::Value(value),
        Err(error) => failed(&error),
    }
}

/// Reads what stands at the end.
async fn read_last(store: &Store, kind: Kind, key: &str) {
    let asked = match kind {
        Kind::Register => Asked::Get,
        Kind::Unique => Asked::GetUnique,
        Kind::Counter => Asked::GetCounter,
        Kind::List => Asked::GetList,
    };
    let began = now();
    let reader = store.clone().within(LAST_LIMIT);
    let outcome = read(&reader, kind, key).await;
    say(&Said::Ended(Record {
        client: u32::MAX,
        key: format!("{} {key}", store.name()),
        began,
        ended: now(),
        asked,
        outcome,
    }));
}

/// What an error says of a write; a reading that fails says nothing either way.
fn failed(error: &StoreError) -> Outcome {
    match error.kind() {
        StoreErrorKind::Failed(WriteFailure::Unknown | WriteFailure::NotDurable)
        | StoreErrorKind::OutcomeUnknown => Outcome::Unknown,
        _ => Outcome::Failed,
    }
}

/// Reads what a client has said.
pub(crate) fn parse(line: &str) -> Result<Said> {
    match serde_json::from_str(line) {
        Ok(said) => Ok(said),
        Err(error) => bail!("the clients say {line:?}: {error}"),
    }
}
