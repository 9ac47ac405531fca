//! Tables and sets that are the same on every node: what Bro's `&synchronized` was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use muster_data::{DecodeOwned, Encode};
use muster_store::op::{Answer, Op};
use muster_store::{Encoded, Level};
use tokio::sync::watch;

use super::error::StoreError;
use super::handle::{Store, span};
use super::host::Completion;
use super::watch::{Scope, WatchEvent};

/// How long a change that nobody waits for may wait for a primary: Zeek's default.
const WITHIN: Duration = Duration::from_secs(120);

/// How long the table may take to follow its store.
const SETTLING: Duration = Duration::from_secs(1);

/// A change of a [`SyncedTable`], for its hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedChange<K, V> {
    /// The key.
    pub key: K,
    /// Its value before, if it had one.
    pub old: Option<V>,
    /// Its value now, if it has one.
    pub new: Option<V>,
    /// Whether it was removed because its TTL ran out.
    pub is_expired: bool,
}

type Hook<K, V> = Box<dyn Fn(&SyncedChange<K, V>) + Send>;

/// A table that any node reads like a plain map, without waiting, and changes from anywhere.
///
/// **What it promises.** There is a store underneath, and all changes have one order, that of its primary: the tables
/// of all nodes converge. A change is seen in this node's table when the primary has ordered it, which takes a round
/// trip; [`SyncedTable::insert_and_wait`] returns after that. Of two nodes that set one key, the one that the primary
/// hears last wins. Before the cluster is up, and while the primary is away, changes wait, up to two minutes and
/// 65,536 of them, and are then applied in order; those that cannot be are counted ([`SyncedTable::failed`]), and the
/// first is reported in the log.
#[derive(Debug)]
pub struct SyncedTable<K, V> {
    store: Store<K, V>,
    inner: Arc<Inner<K, V>>,
    synced: watch::Receiver<bool>,
    task: tokio::task::JoinHandle<()>,
}

struct Inner<K, V> {
    table: RwLock<BTreeMap<K, V>>,
    hook: Mutex<Option<Hook<K, V>>>,
    failed: AtomicU64,
}

impl<K, V> std::fmt::Debug for Inner<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl<K, V> Drop for SyncedTable<K, V> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K, V> SyncedTable<K, V>
where
    K: Encode + DecodeOwned + Ord + Clone + Send + Sync + 'static,
    V: Encode + DecodeOwned + Clone + Send + Sync + 'static,
{
    /// Creates the table of a store. It follows the store in a task until it is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(store: Store<K, V>) -> Self {
        let inner = Arc::new(Inner {
            table: RwLock::default(),
            hook: Mutex::default(),
            failed: AtomicU64::new(0),
        });
        let (sender, synced) = watch::channel(false);
        let task = tokio::spawn(follow(store.clone(), Arc::clone(&inner), sender));
        Self {
            store,
            inner,
            synced,
            task,
        }
    }

    /// Locks the table and returns it as it is now. Changes wait until the guard is dropped: hold it only briefly.
    pub fn read(&self) -> RwLockReadGuard<'_, BTreeMap<K, V>> {
        let table = self.inner.table.read();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<V> {
        self.read().get(key).cloned()
    }

    /// Whether a key has a value.
    pub fn contains(&self, key: &K) -> bool {
        self.read().contains_key(key)
    }

    /// Calls `hook` after every change, in the order of the changes; the table shows the change already. The hook must
    /// not block, and takes the place of an earlier one. If the table falls 65,536 changes behind, it shows what it
    /// had until the whole store has been read again. The hook is then called with the differences, where keys that
    /// have expired appear as removed.
    pub fn on_change(&self, hook: impl Fn(&SyncedChange<K, V>) + Send + 'static) {
        let mut place = self
            .inner
            .hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(Box::new(hook));
    }

    /// Waits until the table has what its store has, for the first time. Without a primary it waits for ever: put a
    /// timeout around it.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // An error means that the task has ended with its store.
        let _ = synced.wait_for(|is_synced| *is_synced).await;
    }

    /// Sets a value on all nodes. Returns without waiting for that.
    pub fn insert(&self, key: &K, value: &V) {
        self.write(Op::Put {
            key: Encoded::key(key),
            value: Encoded::of(value),
            ttl: None,
        });
    }

    /// Sets a value with a TTL on all nodes. Returns without waiting for that.
    pub fn insert_for(&self, key: &K, value: &V, ttl: Duration) {
        self.write(Op::Put {
            key: Encoded::key(key),
            value: Encoded::of(value),
            ttl: Some(span(ttl)),
        });
    }

    /// Sets a value and waits until this node's table has it. A future that is dropped does not take the change back.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn insert_and_wait(&self, key: &K, value: &V) -> Result<(), StoreError> {
        self.store.put(key, value).await?;
        // The store of this node has it; the table follows.
        self.settle(key).await;
        Ok(())
    }

    /// Removes a key on all nodes. Returns without waiting for that.
    pub fn remove(&self, key: &K) {
        self.write(Op::Erase {
            key: Encoded::key(key),
        });
    }

    /// Removes all keys on all nodes. Returns without waiting for that.
    pub fn clear(&self) {
        self.write(Op::Clear);
    }

    /// How many changes of this node failed.
    pub fn failed(&self) -> u64 {
        self.inner.failed.load(Ordering::Relaxed)
    }

    /// The store underneath.
    pub fn store(&self) -> &Store<K, V> {
        &self.store
    }

    /// Waits until the table shows what the store has for a key.
    async fn settle(&self, key: &K) {
        let key_bytes = Encoded::key(key);
        let settling = async {
            loop {
                let stored = self.store.look_up(&key_bytes).map(|entry| entry.value);
                let shown = self.get(key).map(|value| Encoded::of(&value));
                if stored == shown {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // Where somebody else sets a value of another type, the table never shows it.
        let _ = tokio::time::timeout(SETTLING, settling).await;
    }

    fn write(&self, op: Op) {
        let inner = Arc::clone(&self.inner);
        let name = self.store.name().clone();
        let done = Completion::Call(Box::new(move |outcome| {
            let problem = match outcome {
                Ok(Answer::Refused(refusal)) => refusal.to_string(),
                Err(failure) => failure.to_string(),
                Ok(_) => return,
            };
            if inner.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!(
                    "store {name}: a change failed: {problem}; further ones are only counted"
                );
            }
        }));
        self.store.write_raw(op, Level::Applied, WITHIN, done);
    }
}

/// Keeps a table as its store is.
async fn follow<K, V>(store: Store<K, V>, inner: Arc<Inner<K, V>>, synced: watch::Sender<bool>)
where
    K: Encode + DecodeOwned + Ord + Clone + Send + Sync + 'static,
    V: Encode + DecodeOwned + Clone + Send + Sync + 'static,
{
    let mut watch = store.watch(Scope::All);
    drop(store);
    let mut is_warned = false;
    let mut following = Following::Changes;
    loop {
        match watch.next().await {
            Ok(event) => {
                let is_synced = matches!(event, WatchEvent::Synced);
                following = following.take(event, &inner);
                if is_synced {
                    synced.send_replace(true);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut is_warned, true) {
                    tracing::warn!("{error}; the entry is not in the table");
                }
            }
        }
    }
}

/// Where a table stands behind its store.
enum Following<K, V> {
    /// It takes changes as they come.
    Changes,
    /// It fell too far behind, and gathers what is there. Until that is whole it shows what it had.
    Renewal(BTreeMap<K, V>),
}

impl<K: Encode + Ord + Clone, V: Encode + Clone> Following<K, V> {
    fn take(self, event: WatchEvent<K, V>, inner: &Inner<K, V>) -> Self {
        let (key, new, is_expired) = match event {
            WatchEvent::Insert { key, value } => (key, Some(value), false),
            WatchEvent::Update { key, new, .. } => (key, Some(new), false),
            WatchEvent::Erase { key, .. } => (key, None, false),
            WatchEvent::Expire { key, .. } => (key, None, true),
            WatchEvent::Restarted => return Self::Renewal(BTreeMap::new()),
            WatchEvent::Synced => {
                if let Self::Renewal(table) = self {
                    inner.replace(table);
                }
                return Self::Changes;
            }
        };
        match self {
            Self::Changes => {
                inner.change(key, new, is_expired);
                Self::Changes
            }
            Self::Renewal(mut table) => {
                match new {
                    Some(value) => table.insert(key, value),
                    None => table.remove(&key),
                };
                Self::Renewal(table)
            }
        }
    }
}

impl<K: Encode + Ord + Clone, V: Encode + Clone> Inner<K, V> {
    /// Makes one change, and tells of it.
    fn change(&self, key: K, new: Option<V>, is_expired: bool) {
        let old = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            match &new {
                Some(value) => table.insert(key.clone(), value.clone()),
                None => table.remove(&key),
            }
        };
        self.tell(&SyncedChange {
            key,
            old,
            new,
            is_expired,
        });
    }

    /// Puts a whole table in the place of the one that is shown, and tells what is different as changes.
    fn replace(&self, new: BTreeMap<K, V>) {
        let changes: Vec<SyncedChange<K, V>> = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let old = std::mem::replace(&mut *table, new);
            let gone = old.iter().filter(|(key, _)| !table.contains_key(key));
            let gone = gone.map(|(key, value)| (key, Some(value), None));
            let now = table
                .iter()
                .map(|(key, value)| (key, old.get(key), Some(value)));
            let all = gone.chain(now).filter(|(_, old, new)| {
                // Values need not be comparable; their bytes are.
                old.map(Encoded::of) != new.map(Encoded::of)
            });
            let change = |(key, old, new): (&K, Option<&V>, Option<&V>)| SyncedChange {
                key: key.clone(),
                old: old.cloned(),
                new: new.cloned(),
                is_expired: false,
            };
            all.map(change).collect()
        };
        for change in &changes {
            self.tell(change);
        }
    }

    fn tell(&self, change: &SyncedChange<K, V>) {
        let hook = self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hook) = &*hook {
            hook(change);
        }
    }
}

/// A set that any node reads like a plain set, without waiting, and changes from anywhere. It promises what a
/// [`SyncedTable`] does.
#[derive(Debug)]
pub struct SyncedSet<K>(SyncedTable<K, bool>);

impl<K> SyncedSet<K>
where
    K: Encode + DecodeOwned + Ord + Clone + Send + Sync + 'static,
{
    /// Creates the set of a store: its elements are the store's keys. It follows the store in a task until it is
    /// dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(store: &Store<K, bool>) -> Self {
        Self(SyncedTable::new(store.clone()))
    }

    /// Whether the set has this element.
    pub fn contains(&self, element: &K) -> bool {
        self.0.contains(element)
    }

    /// The elements as they are now.
    pub fn elements(&self) -> Vec<K> {
        self.0.read().keys().cloned().collect()
    }

    /// Waits until the set has what its store has, for the first time.
    pub async fn synced(&self) {
        self.0.synced().await;
    }

    /// Adds an element on all nodes. Returns without waiting for that.
    pub fn insert(&self, element: &K) {
        self.0.insert(element, &true);
    }

    /// Adds an element with a TTL on all nodes. Returns without waiting for that.
    pub fn insert_for(&self, element: &K, ttl: Duration) {
        self.0.insert_for(element, &true, ttl);
    }

    /// Removes an element on all nodes. Returns without waiting for that.
    pub fn remove(&self, element: &K) {
        self.0.remove(element);
    }

    /// Calls `hook` after every change, with the element and whether the set has it now. Otherwise like
    /// [`SyncedTable::on_change`].
    pub fn on_change(&self, hook: impl Fn(&K, bool) + Send + 'static) {
        self.0
            .on_change(move |change| hook(&change.key, change.new.is_some()));
    }

    /// How many changes of this node failed.
    pub fn failed(&self) -> u64 {
        self.0.failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: u64) -> WatchEvent<String, u64> {
        let key = key.to_owned();
        WatchEvent::Insert { key, value }
    }

    #[test]
    fn a_table_that_fell_behind_is_never_empty_and_tells_the_difference() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&told);
        let inner = Inner {
            table: RwLock::default(),
            hook: Mutex::new(Some(Box::new(move |change: &SyncedChange<String, u64>| {
                let of =
                    |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
                let line = format!("{} {} {}", change.key, of(change.old), of(change.new));
                hook.lock().unwrap().push(line);
            }))),
            failed: AtomicU64::new(0),
        };
        let shown = || {
            let table = inner.table.read().unwrap();
            let lines = table.iter().map(|(key, value)| format!("{key}{value}"));
            lines.collect::<String>()
        };
        let mut following = Following::Changes;
        for event in [put("a", 1), put("b", 2), put("c", 3), WatchEvent::Synced] {
            following = following.take(event, &inner);
        }
        assert_eq!(shown(), "a1b2c3");
        told.lock().unwrap().clear();
        // It falls behind, and again while it gathers what is there.
        let again = [
            WatchEvent::Restarted,
            put("x", 9),
            WatchEvent::Restarted,
            put("b", 2),
            put("c", 4),
            put("d", 5),
        ];
        for event in again {
            following = following.take(event, &inner);
            assert_eq!(shown(), "a1b2c3");
        }
        assert!(told.lock().unwrap().is_empty());
        following = following.take(WatchEvent::Synced, &inner);
        assert_eq!(shown(), "b2c4d5");
        assert_eq!(*told.lock().unwrap(), ["a 1 -", "c 3 4", "d - 5"]);
        following.take(put("e", 6), &inner);
        assert_eq!(told.lock().unwrap().last().unwrap(), "e - 6");
    }
}
