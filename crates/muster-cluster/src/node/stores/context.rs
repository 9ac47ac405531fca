//! A store as a handler sees it: reads return at once, the outcome of a write comes back as a call.

use std::marker::PhantomData;
use std::time::Duration;

use muster_data::{ConvertError, DecodeOwned, Encode, Kind, Timespan};
use muster_store::op::{Answer, Op};
use muster_store::{Encoded, Level, StoreName, WriteOutcome, arithmetic};

use super::{Continuation, SharedStore, WAITING, WriteError};
use crate::node::context::Context;
use crate::node::framework::Framework;
use crate::node::{Effect, Severity};
use crate::register::STORE;

/// A store as a handler sees it; from [`Context::store`].
#[derive(Debug)]
pub struct StoreContext<'a, 'c, K, V> {
    pub(crate) cx: &'a mut Context<'c>,
    pub(crate) name: StoreName,
    level: Level,
    within: Option<Duration>,
    of: PhantomData<fn() -> (K, V)>,
}

/// A write that is sent when it is decided what follows: with [`PendingWrite::then`] or
/// [`PendingWrite::count_failures`].
#[must_use = "the write is not sent until it is said what follows"]
pub struct PendingWrite<'a, 'c, T> {
    cx: &'a mut Context<'c>,
    name: StoreName,
    op: Op,
    level: Level,
    within: Option<Duration>,
    read: fn(&Answer) -> Result<T, WriteError>,
    /// The outcome, if it is known without a write.
    decided: Option<Result<Answer, WriteError>>,
}

/// What is done with a write's outcome.
pub(crate) type Then<F> = Box<dyn FnOnce(&mut F, &mut Context<'_>, WriteOutcome) + Send>;

impl<'c> Context<'c> {
    /// Returns a store, which the framework must have declared.
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
    /// Makes the outcome of a write come when it is on the primary's disk.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.level = Level::Durable;
        self
    }

    /// Sets how long a write may take; the layout's `stores.mutation_buffer_interval` unless set.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Returns the value of a key in this node's copy, or `None` if the key is absent or there is no copy yet. The
    /// copy has every write of this node whose outcome is known, and what others write shortly after.
    ///
    /// # Errors
    /// [`ConvertError`] if the value is not of the type `V`.
    pub fn get<Q: Encode + ?Sized>(&self, key: &Q) -> Result<Option<V>, ConvertError> {
        let reads = self.cx.core.stores.reads.as_deref();
        let entry = reads.and_then(|reads| reads.get(&self.name, &Encoded::key(key)));
        entry.map(|entry| entry.value.view().to()).transpose()
    }

    /// Returns `true` if this node has a copy.
    pub fn is_attached(&self) -> bool {
        let reads = self.cx.core.stores.reads.as_deref();
        reads.is_some_and(|reads| reads.is_attached(&self.name))
    }

    /// Returns the number of keys in this node's copy.
    pub fn size(&self) -> usize {
        let reads = self.cx.core.stores.reads.as_deref();
        reads.map_or(0, |reads| reads.size(&self.name))
    }

    fn write<T>(
        self,
        op: Op,
        read: fn(&Answer) -> Result<T, WriteError>,
    ) -> PendingWrite<'a, 'c, T> {
        PendingWrite {
            within: self.within,
            ..PendingWrite::new(self.cx, self.name, op, self.level, read)
        }
    }

    /// Sets a value without a TTL.
    pub fn put<Q, W>(self, key: &Q, value: &W) -> PendingWrite<'a, 'c, ()>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let (key, value) = (Encoded::key(key), Encoded::of(value));
        let ttl = None;
        self.write(Op::Put { key, value, ttl }, done)
    }

    /// Sets a value with a TTL, after which it expires.
    pub fn put_for<Q, W>(self, key: &Q, value: &W, ttl: Duration) -> PendingWrite<'a, 'c, ()>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let (key, value) = (Encoded::key(key), Encoded::of(value));
        let ttl = Some(span(ttl));
        self.write(Op::Put { key, value, ttl }, done)
    }

    /// Sets a value without a TTL if the key is absent. The outcome is `true` if it was absent. If several nodes try
    /// at once, exactly one of them succeeds.
    pub fn put_unique<Q, W>(self, key: &Q, value: &W) -> PendingWrite<'a, 'c, bool>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_unique_until(key, value, None)
    }

    /// Sets a value with a TTL if the key is absent. The outcome is `true` if it was absent.
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

    /// Removes a key. The outcome is `true` if the key was present.
    pub fn erase<Q: Encode + ?Sized>(self, key: &Q) -> PendingWrite<'a, 'c, bool> {
        let key = Encoded::key(key);
        self.write(Op::Erase { key }, was_done)
    }

    /// Adds to a number. The outcome is its new value. An absent key counts from 0.
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

    /// Prepares any operation.
    pub fn operate(self, op: Op) -> PendingWrite<'a, 'c, Answer> {
        self.write(op, |answer| Ok(answer.clone()))
    }
}

impl<'a, 'c, T> PendingWrite<'a, 'c, T> {
    pub(crate) fn new(
        cx: &'a mut Context<'c>,
        name: StoreName,
        op: Op,
        level: Level,
        read: fn(&Answer) -> Result<T, WriteError>,
    ) -> Self {
        Self {
            cx,
            name,
            op,
            level,
            within: None,
            read,
            decided: None,
        }
    }

    /// Sets the outcome, if it is known without a write.
    pub(crate) fn decided(mut self, decided: Option<Result<Answer, WriteError>>) -> Self {
        self.decided = decided;
        self
    }
}

impl<T: 'static> PendingWrite<'_, '_, T> {
    /// Sends the write. When its outcome is known, `then` is called with the framework, like a handler of an event. If
    /// 65,536 writes of the node wait already, the write is not sent, and `then` is called with
    /// [`WriteFailure::TooMany`](muster_store::WriteFailure::TooMany) once the present handler has returned. Every write has an outcome, unless the node
    /// stops before.
    pub fn then<F: Framework>(
        self,
        then: impl FnOnce(&mut F, &mut Context<'_>, Result<T, WriteError>) + Send + 'static,
    ) {
        let (read, decided) = (self.read, self.decided);
        let is_decided = decided.is_some();
        let continuation: Then<F> = Box::new(move |framework, cx, outcome| {
            let outcome = decided.unwrap_or(match outcome {
                Ok(Answer::Refused(refusal)) => Err(WriteError::Refused(refusal)),
                Ok(answer) => Ok(answer),
                Err(failure) => Err(WriteError::Failed(failure)),
            });
            then(framework, cx, outcome.and_then(|answer| read(&answer)));
        });
        let erased: Continuation = Box::new(continuation);
        let core = &mut *self.cx.core;
        if is_decided {
            core.stores.writes.answer_soon(self.cx.framework, erased);
        } else if let Some(token) = core.stores.writes.add(self.cx.framework, erased) {
            if self.name.as_str() == STORE {
                core.registers.note_write(token);
            }
            core.outbox.effects.push(Effect::WriteStore {
                store: self.name,
                op: self.op,
                level: self.level,
                within: self.within,
                token,
            });
        } else {
            core.counts.store_writes_failed += 1;
            let text = || format!("more than {WAITING} writes wait for their stores");
            core.report(Severity::Warning, "store writes", text);
        }
    }

    /// Sends the write. If it fails, that is counted and reported to the operator.
    pub fn count_failures<F: Framework>(self, _of: &F) {
        let name = self.name.clone();
        self.then(move |_: &mut F, cx, outcome| {
            if let Err(error) = outcome {
                cx.core.counts.store_writes_failed += 1;
                let kind = format!("store {name}");
                let text = || format!("store {name}: a write failed: {error}");
                cx.core.report(Severity::Warning, &kind, text);
            }
        });
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "one of several readers of answers"
)]
pub(crate) fn done(_: &Answer) -> Result<(), WriteError> {
    Ok(())
}

pub(crate) fn was_done(answer: &Answer) -> Result<bool, WriteError> {
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
