//! Stores as a framework uses them: reads of this node's copy at once, writes whose outcome comes back as a
//! call.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use muster_data::{ConvertError, Data, DecodeOwned, Encode, Kind, Record, Timespan};
use muster_store::op::{Answer, Op, StoreEvent, WriteRefusal};
use muster_store::{Encoded, Entry, Level, StoreName, WriteFailure, arithmetic};

use super::Effect;
use super::context::Context;
use super::framework::Framework;

/// The writes of one node's frameworks that may wait for their outcome.
const WAITING: usize = 65_536;

/// A store that a framework uses, by name and by the types of its keys and values. A constant of the
/// framework, which [`Declarations::store`](super::Declarations::store) opens on every node that the framework
/// runs on. Where the primary is, and what keeps it, is the layout's affair.
///
/// ```
/// use muster_cluster::node::SharedStore;
///
/// const TRACKED: SharedStore<String, u64> = SharedStore::new("software/tracked").persistent();
/// ```
#[derive(Debug)]
pub struct SharedStore<K = Data, V = Data> {
    pub(crate) name: &'static str,
    pub(crate) is_persistent: bool,
    pub(crate) is_watched: bool,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K, V> SharedStore<K, V> {
    /// A store of this name, in memory unless the layout says otherwise.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            is_persistent: false,
            is_watched: false,
            of: PhantomData,
        }
    }

    /// What it holds outlives the cluster, unless the layout says otherwise.
    #[must_use]
    pub const fn persistent(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// Every change of it calls [`Framework::store_changed`], beginning with what is there.
    #[must_use]
    pub const fn watched(mut self) -> Self {
        self.is_watched = true;
        self
    }

    /// The store's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A store that was declared on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredStore {
    pub(crate) name: &'static str,
    pub(crate) is_persistent: bool,
    pub(crate) is_watched: bool,
}

/// How a node's frameworks read its stores: the driver's part.
pub trait StoreReads: Send + fmt::Debug {
    /// The entry of a key, in this node's copy.
    fn get(&self, store: &StoreName, key: &Encoded) -> Option<Entry>;

    /// Whether there is a copy.
    fn is_attached(&self, store: &StoreName) -> bool;

    /// The number of keys.
    fn size(&self, store: &StoreName) -> usize;
}

/// Some node asks the one that has a store's primary to open it.
#[derive(Record, Debug, Clone, PartialEq)]
#[record(name = "Muster::open_store")]
pub struct OpenStore {
    /// The store.
    pub store: String,
    /// Whether its author asks for persistence.
    pub persistent: bool,
}

/// What a write waits with.
pub(crate) type Then =
    Box<dyn FnOnce(&mut dyn Any, &mut Context<'_>, Result<Answer, WriteFailure>) + Send>;

/// The writes whose outcome a node waits for.
#[derive(Default)]
pub(crate) struct Waiting {
    next: u64,
    /// By token: the framework, and what it does then.
    then: HashMap<u64, (usize, Then)>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("writes", &self.then.len())
            .finish_non_exhaustive()
    }
}

impl Waiting {
    pub(crate) fn take(&mut self, token: u64) -> Option<(usize, Then)> {
        self.then.remove(&token)
    }

    fn add(&mut self, framework: usize, then: Then) -> Option<u64> {
        if self.then.len() >= WAITING {
            return None;
        }
        self.next += 1;
        self.then.insert(self.next, (framework, then));
        Some(self.next)
    }
}

/// Why a write came to nothing, or may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The primary refuses it: nothing has changed.
    #[error(transparent)]
    Refused(#[from] WriteRefusal),
    /// It was not done in its time, or perhaps; it says which.
    #[error(transparent)]
    Failed(#[from] WriteFailure),
    /// It was applied before its primary was started anew; what came of it is not known.
    #[error("applied, but what came of it is not known: the primary was started anew")]
    OutcomeUnknown,
    /// The new value is not of the author's type.
    #[error(transparent)]
    Conversion(#[from] ConvertError),
}

/// A store in the hands of a handler.
#[derive(Debug)]
pub struct StoreContext<'a, 'c, K, V> {
    pub(crate) cx: &'a mut Context<'c>,
    pub(crate) name: StoreName,
    level: Level,
    within: Option<Duration>,
    of: PhantomData<fn() -> (K, V)>,
}

/// A write that is on its way once somebody has said what follows: [`PendingWrite::then`], or
/// [`PendingWrite::count_failures`].
#[must_use = "the write is not sent until it is said what follows"]
pub struct PendingWrite<'a, 'c, T> {
    cx: &'a mut Context<'c>,
    name: StoreName,
    op: Op,
    level: Level,
    within: Option<Duration>,
    read: fn(&Answer) -> Result<T, WriteError>,
}

impl<'c> Context<'c> {
    /// A store, which the framework must have declared.
    pub fn store<'a, K, V>(&'a mut self, store: &SharedStore<K, V>) -> StoreContext<'a, 'c, K, V>
    where
        K: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        let name = StoreName::new(store.name).expect("names were checked when they were declared");
        StoreContext {
            cx: self,
            name,
            level: Level::Applied,
            within: None,
            of: PhantomData,
        }
    }
}

impl<'a, 'c, K: Encode + DecodeOwned, V: Encode + DecodeOwned> StoreContext<'a, 'c, K, V> {
    /// Writes are waited for until they are on the primary's disk.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.level = Level::Durable;
        self
    }

    /// How long a write may take; the layout's `stores.mutation_buffer_interval` otherwise.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// The value of a key in this node's copy. It has what this node's frameworks have written and been
    /// answered; what others write it has shortly after. Nothing while the copy is on its way.
    pub fn get<Q: Encode + ?Sized>(&self, key: &Q) -> Result<Option<V>, ConvertError> {
        let reads = self.cx.core.store_reads.as_deref();
        let entry = reads.and_then(|reads| reads.get(&self.name, &Encoded::key(key)));
        entry.map(|entry| entry.value.view().to()).transpose()
    }

    /// Whether this node has a copy.
    pub fn is_attached(&self) -> bool {
        let reads = self.cx.core.store_reads.as_deref();
        reads.is_some_and(|reads| reads.is_attached(&self.name))
    }

    /// The number of keys in this node's copy.
    pub fn size(&self) -> usize {
        let reads = self.cx.core.store_reads.as_deref();
        reads.map_or(0, |reads| reads.size(&self.name))
    }

    fn write<T>(
        self,
        op: Op,
        read: fn(&Answer) -> Result<T, WriteError>,
    ) -> PendingWrite<'a, 'c, T> {
        PendingWrite {
            cx: self.cx,
            name: self.name,
            op,
            level: self.level,
            within: self.within,
            read,
        }
    }

    /// Sets a value, for good.
    pub fn put<Q, W>(self, key: &Q, value: &W) -> PendingWrite<'a, 'c, ()>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let (key, value) = (Encoded::key(key), Encoded::of(value));
        let ttl = None;
        self.write(Op::Put { key, value, ttl }, done)
    }

    /// Sets a value for a time.
    pub fn put_for<Q, W>(self, key: &Q, value: &W, ttl: Duration) -> PendingWrite<'a, 'c, ()>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let (key, value) = (Encoded::key(key), Encoded::of(value));
        let ttl = Some(span(ttl));
        self.write(Op::Put { key, value, ttl }, done)
    }

    /// Sets a value if the key is absent; whether it was. Of all nodes that try at once, one wins.
    pub fn put_unique<Q, W>(self, key: &Q, value: &W) -> PendingWrite<'a, 'c, bool>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_unique_until(key, value, None)
    }

    /// The same for a time.
    pub fn put_unique_for<Q, W>(
        self,
        key: &Q,
        value: &W,
        ttl: Duration,
    ) -> PendingWrite<'a, 'c, bool>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_unique_until(key, value, Some(span(ttl)))
    }

    fn put_unique_until<Q, W>(
        self,
        key: &Q,
        value: &W,
        ttl: Option<Timespan>,
    ) -> PendingWrite<'a, 'c, bool>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let (key, value) = (Encoded::key(key), Encoded::of(value));
        self.write(Op::PutUnique { key, value, ttl }, was_done)
    }

    /// Removes a key; whether it had a value.
    pub fn erase<Q: Encode + ?Sized>(self, key: &Q) -> PendingWrite<'a, 'c, bool> {
        let key = Encoded::key(key);
        self.write(Op::Erase { key }, was_done)
    }

    /// Adds to a number; what it is then. An absent key counts from 0.
    pub fn increment<Q, A>(self, key: &Q, amount: &A) -> PendingWrite<'a, 'c, V>
    where
        Q: Encode + ?Sized,
        A: Encode + ?Sized,
    {
        let value = Encoded::of(amount);
        let initial = arithmetic::incremented_kind(value.kind());
        self.add(key, value, initial, number::<V>)
    }

    /// Adds an element to a set.
    pub fn insert_into<Q, E>(self, key: &Q, element: &E) -> PendingWrite<'a, 'c, ()>
    where
        Q: Encode + ?Sized,
        E: Encode + ?Sized,
    {
        self.add(key, Encoded::of(element), Kind::Set, done)
    }

    /// Appends an element to a vector.
    pub fn push<Q, E>(self, key: &Q, element: &E) -> PendingWrite<'a, 'c, ()>
    where
        Q: Encode + ?Sized,
        E: Encode + ?Sized,
    {
        self.add(key, Encoded::of(element), Kind::Vector, done)
    }

    fn add<Q: Encode + ?Sized, T>(
        self,
        key: &Q,
        value: Encoded,
        initial: Kind,
        read: fn(&Answer) -> Result<T, WriteError>,
    ) -> PendingWrite<'a, 'c, T> {
        let key = Encoded::key(key);
        self.write(
            Op::Add {
                key,
                value,
                initial,
                ttl: None,
            },
            read,
        )
    }

    /// Any operation.
    pub fn operate(self, op: Op) -> PendingWrite<'a, 'c, Answer> {
        self.write(op, |answer| Ok(answer.clone()))
    }
}

impl<T: 'static> PendingWrite<'_, '_, T> {
    /// Sends the write. When its outcome is known, `then` is called with the framework, as a handler of an
    /// event would be.
    pub fn then<F: Framework>(
        self,
        then: impl FnOnce(&mut F, &mut Context<'_>, Result<T, WriteError>) + Send + 'static,
    ) {
        let read = self.read;
        let erased: Then = Box::new(move |framework, cx, outcome| {
            let outcome = match outcome {
                Ok(Answer::Refused(refusal)) => Err(WriteError::Refused(refusal)),
                Ok(answer) => read(&answer),
                Err(failure) => Err(WriteError::Failed(failure)),
            };
            // A node hands every outcome to the framework that has asked.
            if let Some(framework) = framework.downcast_mut::<F>() {
                then(framework, cx, outcome);
            }
        });
        let core = &mut *self.cx.core;
        if let Some(token) = core.store_writes.add(self.cx.framework, erased) {
            core.effects.push(Effect::WriteStore {
                store: self.name,
                op: self.op,
                level: self.level,
                within: self.within,
                token,
            });
        } else {
            core.counts.store_writes_failed += 1;
            let text = || format!("more than {WAITING} writes wait for their stores");
            core.report(super::Severity::Warning, "store writes", text);
        }
    }

    /// Sends the write. What becomes of it is only counted, and told of when it fails.
    pub fn count_failures<F: Framework>(self, _of: &F) {
        let name = self.name.clone();
        self.then(move |_: &mut F, cx, outcome| {
            if let Err(error) = outcome {
                cx.core.counts.store_writes_failed += 1;
                let kind = format!("store {name}");
                let text = || format!("store {name}: a write failed: {error}");
                cx.core.report(super::Severity::Warning, &kind, text);
            }
        });
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "one of several readers of answers"
)]
fn done(_: &Answer) -> Result<(), WriteError> {
    Ok(())
}

fn was_done(answer: &Answer) -> Result<bool, WriteError> {
    match answer {
        Answer::Done { .. } => Ok(true),
        Answer::Repeated => Err(WriteError::OutcomeUnknown),
        _ => Ok(false),
    }
}

fn number<V: DecodeOwned>(answer: &Answer) -> Result<V, WriteError> {
    match answer {
        Answer::Done {
            value: Some(value), ..
        } => Ok(value.view().to()?),
        _ => Err(WriteError::OutcomeUnknown),
    }
}

fn span(ttl: Duration) -> Timespan {
    Timespan::from_nanos(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX))
}

/// A change of a store, for [`Framework::store_changed`].
#[derive(Debug, Clone, Copy)]
pub struct StoreChange<'a> {
    /// The store's name.
    pub store: &'a str,
    /// The key.
    pub key: &'a Encoded,
    /// The value before, if the key had one.
    pub old: Option<&'a Encoded>,
    /// The value now, if the key has one.
    pub new: Option<&'a Encoded>,
    /// Whether it was removed because its TTL ran out.
    pub is_expired: bool,
}

impl<'a> StoreChange<'a> {
    /// The changes of single keys that an event consists of.
    pub(crate) fn of(store: &'a StoreName, event: &'a StoreEvent) -> Vec<Self> {
        let change = |key, old, new| Self {
            store: store.as_str(),
            key,
            old,
            new,
            is_expired: false,
        };
        match event {
            StoreEvent::Put {
                key, value, old, ..
            } => vec![change(key, old.as_ref(), Some(value))],
            StoreEvent::Erase { key, old } => vec![change(key, old.as_ref(), None)],
            StoreEvent::Expire { key, old } => vec![Self {
                is_expired: true,
                ..change(key, old.as_ref(), None)
            }],
            StoreEvent::Clear { old } => {
                let all = old.iter();
                all.map(|(key, old)| change(key, Some(old), None)).collect()
            }
        }
    }

    /// The key as an author's type.
    pub fn key_as<K: DecodeOwned>(&self) -> Result<K, ConvertError> {
        self.key.view().to()
    }

    /// The value now as an author's type, if there is one.
    pub fn new_as<V: DecodeOwned>(&self) -> Result<Option<V>, ConvertError> {
        self.new.map(|value| value.view().to()).transpose()
    }
}
