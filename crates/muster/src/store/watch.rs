//! Watching a store: what is there, then every change, without a gap.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use muster_data::{DataRef, DecodeOwned, ValueRef};
use muster_store::op::{Change, StoreEvent};
use muster_store::{Encoded, Entries};
use tokio::sync::Notify;

use super::error::StoreError;
use super::handle::convert;
use super::host::Host;

/// The changes that wait for a watcher; one that falls behind further begins anew.
const WAITING: usize = 65_536;

/// The bytes of their keys and values.
const WAITING_BYTES: usize = 64 << 20;

/// How often a watch looks whether its store is still open.
const CLOSED: Duration = Duration::from_secs(1);

/// Which keys are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// One.
    Key(Encoded),
    /// Strings that begin with these bytes, and vectors whose first element is such a string.
    Prefix(Vec<u8>),
}

impl Scope {
    /// One key.
    pub fn key(key: &(impl muster_data::Encode + ?Sized)) -> Self {
        Self::Key(Encoded::key(key))
    }

    /// The keys that begin with a text.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self::Prefix(prefix.as_ref().to_vec())
    }

    fn contains(&self, key: &Encoded) -> bool {
        match self {
            Self::All => true,
            Self::Key(one) => one == key,
            Self::Prefix(prefix) => begins_with(key.view(), prefix),
        }
    }
}

fn begins_with(key: DataRef<'_>, prefix: &[u8]) -> bool {
    match key.get() {
        ValueRef::String(text) => text.starts_with(prefix),
        ValueRef::Vector(elements) => elements
            .get(0)
            .is_some_and(|first| begins_with(first, prefix)),
        _ => false,
    }
}

/// What a [`Watch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent<K, V> {
    /// A key that was absent has a value. Everything that is there already comes like this, at first and after
    /// [`WatchEvent::Restarted`].
    Insert {
        /// The key.
        key: K,
        /// Its value.
        value: V,
    },
    /// A key has another value.
    Update {
        /// The key.
        key: K,
        /// Its value before.
        old: V,
        /// Its value now.
        new: V,
    },
    /// A key was removed.
    Erase {
        /// The key.
        key: K,
        /// The value that it had.
        old: V,
    },
    /// A key's TTL ran out.
    Expire {
        /// The key.
        key: K,
        /// The value that it had.
        old: V,
    },
    /// Everything that was there has been reported; changes follow.
    Synced,
    /// The watcher fell too far behind. What was reported before is void; everything that is there is reported again.
    Restarted,
}

/// Changes of a store in order.
#[derive(Debug)]
pub struct Watch<K, V> {
    host: Arc<Host>,
    queue: Arc<Queue>,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K: DecodeOwned, V: DecodeOwned> Watch<K, V> {
    pub(super) fn new(host: Arc<Host>, scope: Scope) -> Self {
        let queue = host.watch(scope);
        Self {
            host,
            queue,
            of: PhantomData,
        }
    }

    /// Waits for the next event. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conversion`](super::StoreErrorKind::Conversion) for an entry that is not of the author's types;
    /// it does not end the watch.
    pub async fn next(&mut self) -> Result<WatchEvent<K, V>, StoreError> {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.queue.filled.notified().await;
        }
    }

    /// Returns the next event if there is one already, without waiting. Fails like [`Watch::next`].
    pub fn take(&mut self) -> Option<Result<WatchEvent<K, V>, StoreError>> {
        if self.queue.is_behind() {
            self.host.watch_anew(&self.queue);
        }
        let raw = self.queue.lock().events.pop_front()?;
        let name = self.host.name();
        let key = |key: &Encoded| convert::<K>(name, key);
        let value = |value: &Encoded| convert::<V>(name, value);
        Some((|| {
            Ok(match raw {
                Raw::Put {
                    key: of,
                    old: None,
                    new,
                } => WatchEvent::Insert {
                    key: key(&of)?,
                    value: value(&new)?,
                },
                Raw::Put {
                    key: of,
                    old: Some(old),
                    new,
                } => WatchEvent::Update {
                    key: key(&of)?,
                    old: value(&old)?,
                    new: value(&new)?,
                },
                Raw::Erase { key: of, old } => WatchEvent::Erase {
                    key: key(&of)?,
                    old: value(&old)?,
                },
                Raw::Expire { key: of, old } => WatchEvent::Expire {
                    key: key(&of)?,
                    old: value(&old)?,
                },
                Raw::Synced => WatchEvent::Synced,
                Raw::Restarted => WatchEvent::Restarted,
            })
        })())
    }
}

/// The changes of a store as it keeps them, for the loop of a node.
#[derive(Debug)]
pub(crate) struct RawWatch {
    /// Does not keep the store open.
    host: Weak<Host>,
    queue: Arc<Queue>,
}

impl RawWatch {
    pub(super) fn new(host: &Arc<Host>, scope: Scope) -> Self {
        let queue = host.watch(scope);
        let host = Arc::downgrade(host);
        Self { host, queue }
    }

    /// The next change; `None` when the store is closed.
    pub(crate) async fn next(&mut self) -> Option<StoreEvent> {
        loop {
            if self.queue.is_behind() {
                self.host.upgrade()?.watch_anew(&self.queue);
            }
            let raw = self.queue.lock().events.pop_front();
            match raw {
                Some(Raw::Put { key, old, new }) => {
                    return Some(StoreEvent::Put {
                        key,
                        value: new,
                        expires: None,
                        old,
                        amendment: None,
                    });
                }
                Some(Raw::Erase { key, old }) => {
                    let old = Some(old);
                    return Some(StoreEvent::Erase { key, old });
                }
                Some(Raw::Expire { key, old }) => {
                    let old = Some(old);
                    return Some(StoreEvent::Expire { key, old });
                }
                Some(Raw::Synced | Raw::Restarted) => {}
                None => {
                    let filled = self.queue.filled.notified();
                    let waited = tokio::time::timeout(CLOSED, filled).await;
                    if waited.is_err() && self.host.strong_count() == 0 {
                        return None;
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
enum Raw {
    Put {
        key: Encoded,
        old: Option<Encoded>,
        new: Encoded,
    },
    Erase {
        key: Encoded,
        old: Encoded,
    },
    Expire {
        key: Encoded,
        old: Encoded,
    },
    Synced,
    Restarted,
}

/// What waits for one watcher.
#[derive(Debug)]
pub(super) struct Queue {
    scope: Scope,
    filled: Notify,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Raw>,
    bytes: usize,
    /// It has lost something.
    is_behind: bool,
    /// What is there has been told.
    is_synced: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_behind(&self) -> bool {
        let waiting = self.lock();
        waiting.is_behind && waiting.events.is_empty()
    }

    /// Tells all that is there. The store must not change meanwhile.
    pub(super) fn begin(&self, entries: &Entries) {
        let mut waiting = self.lock();
        if std::mem::take(&mut waiting.is_behind) {
            waiting.events.push_back(Raw::Restarted);
        }
        for (key, entry) in entries
            .in_order()
            .filter(|(key, _)| self.scope.contains(key))
        {
            // These are the store's own keys and values: they cost no memory of their own.
            waiting.events.push_back(Raw::Put {
                key: key.clone(),
                old: None,
                new: entry.value.clone(),
            });
        }
        waiting.events.push_back(Raw::Synced);
        waiting.is_synced = true;
        waiting.bytes = 0;
        drop(waiting);
        self.filled.notify_one();
    }

    fn push(&self, raw: Raw, size: usize) {
        let mut waiting = self.lock();
        if waiting.is_behind {
            return;
        }
        if waiting.events.is_empty() {
            waiting.bytes = 0;
        }
        waiting.bytes += size;
        if waiting.events.len() >= WAITING && waiting.bytes > size || waiting.bytes > WAITING_BYTES
        {
            // What it has not taken is void with the rest.
            waiting.events.clear();
            waiting.is_behind = true;
        } else {
            waiting.events.push_back(raw);
        }
        drop(waiting);
        self.filled.notify_one();
    }

    fn changed(&self, event: &StoreEvent) {
        let of = |key: &Encoded| self.scope.contains(key);
        match event {
            StoreEvent::Put {
                key, value, old, ..
            } if of(key) => {
                let size = key.size() + value.size();
                self.push(
                    Raw::Put {
                        key: key.clone(),
                        old: old.clone(),
                        new: value.clone(),
                    },
                    size,
                );
            }
            StoreEvent::Erase {
                key,
                old: Some(old),
            } if of(key) => {
                let (key, old) = (key.clone(), old.clone());
                let size = key.size() + old.size();
                self.push(Raw::Erase { key, old }, size);
            }
            StoreEvent::Expire {
                key,
                old: Some(old),
            } if of(key) => {
                let (key, old) = (key.clone(), old.clone());
                let size = key.size() + old.size();
                self.push(Raw::Expire { key, old }, size);
            }
            StoreEvent::Clear { old } => {
                for (key, old) in old.iter().filter(|(key, _)| of(key)) {
                    let (key, old) = (key.clone(), old.clone());
                    let size = key.size() + old.size();
                    self.push(Raw::Erase { key, old }, size);
                }
            }
            _ => {}
        }
    }
}

/// The watchers of one store.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Weak<Queue>>);

impl Watchers {
    /// One more, which begins with what is there, if that is known already.
    pub(super) fn add(&mut self, scope: Scope, entries: Option<&Entries>) -> Arc<Queue> {
        let queue = Arc::new(Queue {
            scope,
            filled: Notify::new(),
            waiting: Mutex::default(),
        });
        if let Some(entries) = entries {
            queue.begin(entries);
        }
        self.0.retain(|queue| queue.strong_count() > 0);
        self.0.push(Arc::downgrade(&queue));
        queue
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&mut self) -> bool {
        self.0.retain(|queue| queue.strong_count() > 0);
        !self.0.is_empty()
    }

    pub(super) fn changed(&self, change: &Change) {
        for queue in self.0.iter().filter_map(Weak::upgrade) {
            queue.changed(&change.event);
        }
    }

    /// The first snapshot has been told as changes.
    pub(super) fn synced(&self) {
        for queue in self.0.iter().filter_map(Weak::upgrade) {
            if !std::mem::replace(&mut queue.lock().is_synced, true) {
                queue.push(Raw::Synced, 0);
            }
        }
    }
}
