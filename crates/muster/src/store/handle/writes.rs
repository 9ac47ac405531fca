//! What a handle of a store changes.

use std::time::Duration;

use muster_data::{DecodeOwned, Encode, Kind, Timespan};
use muster_store::op::{Answer, Op};
use muster_store::{Encoded, Revision, arithmetic};

use super::{Store, Swapped, convert, span};
use crate::store::error::{StoreError, StoreErrorKind};

impl<K: Encode + DecodeOwned, V: Encode + DecodeOwned> Store<K, V> {
    /// Sets a value without a TTL.
    pub async fn put<Q, W>(&self, key: &Q, value: &W) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_until(key, value, None).await
    }

    /// Sets a value with a TTL, after which it expires.
    pub async fn put_for<Q, W>(&self, key: &Q, value: &W, ttl: Duration) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_until(key, value, Some(span(ttl))).await
    }

    async fn put_until<Q, W>(
        &self,
        key: &Q,
        value: &W,
        ttl: Option<Timespan>,
    ) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let op = Op::Put {
            key: Encoded::key(key),
            value: Encoded::of(value),
            ttl,
        };
        self.write(op).await.map(|_| ())
    }

    /// Sets a value without a TTL if the key is absent. Returns `true` if it was absent. If several nodes try at once,
    /// exactly one of them succeeds.
    pub async fn put_unique<Q, W>(&self, key: &Q, value: &W) -> Result<bool, StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_unique_until(key, value, None).await
    }

    /// Sets a value with a TTL if the key is absent. Returns `true` if it was absent. Otherwise like
    /// [`Store::put_unique`].
    pub async fn put_unique_for<Q, W>(
        &self,
        key: &Q,
        value: &W,
        ttl: Duration,
    ) -> Result<bool, StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        self.put_unique_until(key, value, Some(span(ttl))).await
    }

    async fn put_unique_until<Q, W>(
        &self,
        key: &Q,
        value: &W,
        ttl: Option<Timespan>,
    ) -> Result<bool, StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let op = Op::PutUnique {
            key: Encoded::key(key),
            value: Encoded::of(value),
            ttl,
        };
        let answer = self.write(op).await?;
        self.was_done(&answer)
    }

    /// Sets a value, or removes it with `None`, if the key has not changed since `seen`, which is the revision
    /// of its [`Store::entry`], or [`Revision::ABSENT`].
    pub async fn swap<Q, W>(
        &self,
        key: &Q,
        seen: Revision,
        value: Option<&W>,
    ) -> Result<Swapped, StoreError>
    where
        Q: Encode + ?Sized,
        W: Encode + ?Sized,
    {
        let op = Op::Swap {
            key: Encoded::key(key),
            seen,
            value: value.map(Encoded::of),
            ttl: None,
        };
        let answer = self.write(op).await?;
        Ok(if self.was_done(&answer)? {
            Swapped::Done
        } else {
            Swapped::Changed
        })
    }

    /// Removes a key. Returns `true` if the key was present.
    pub async fn erase<Q: Encode + ?Sized>(&self, key: &Q) -> Result<bool, StoreError> {
        let op = Op::Erase {
            key: Encoded::key(key),
        };
        let answer = self.write(op).await?;
        self.was_done(&answer)
    }

    /// Adds to a number. Returns its new value. An absent key counts from 0 (from the epoch, for a timespan).
    pub async fn increment<Q, A>(&self, key: &Q, amount: &A) -> Result<V, StoreError>
    where
        Q: Encode + ?Sized,
        A: Encode + ?Sized,
    {
        let value = Encoded::of(amount);
        let initial = arithmetic::incremented_kind(value.kind());
        let answer = self.add(key, value, initial).await?;
        self.number(answer)
    }

    /// Subtracts from a number. Returns its new value. A count below 0 wraps around, as in Broker.
    pub async fn decrement<Q, A>(&self, key: &Q, amount: &A) -> Result<V, StoreError>
    where
        Q: Encode + ?Sized,
        A: Encode + ?Sized,
    {
        let answer = self.subtract(key, Encoded::of(amount)).await?;
        self.number(answer)
    }

    /// Appends to a string.
    pub async fn append<Q: Encode + ?Sized>(&self, key: &Q, text: &str) -> Result<(), StoreError> {
        let value = Encoded::of(text);
        self.add(key, value, Kind::String).await.map(|_| ())
    }

    /// Adds an element to a set.
    pub async fn insert_into<Q, E>(&self, key: &Q, element: &E) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        E: Encode + ?Sized,
    {
        let value = Encoded::of(element);
        self.add(key, value, Kind::Set).await.map(|_| ())
    }

    /// Sets an entry of a table.
    pub async fn insert_entry_into<Q, I, E>(
        &self,
        key: &Q,
        index: &I,
        element: &E,
    ) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        I: Encode + ?Sized,
        E: Encode + ?Sized,
    {
        let value = Encoded::of(&(index, element));
        self.add(key, value, Kind::Table).await.map(|_| ())
    }

    /// Removes an element of a set, or a table's entry by its key.
    pub async fn remove_from<Q, E>(&self, key: &Q, element: &E) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        E: Encode + ?Sized,
    {
        self.subtract(key, Encoded::of(element)).await.map(|_| ())
    }

    /// Appends an element to a vector.
    pub async fn push<Q, E>(&self, key: &Q, element: &E) -> Result<(), StoreError>
    where
        Q: Encode + ?Sized,
        E: Encode + ?Sized,
    {
        let value = Encoded::of(element);
        self.add(key, value, Kind::Vector).await.map(|_| ())
    }

    /// Removes the last element of a vector. Returns it, or `None` if the vector was empty.
    pub async fn pop<Q, E>(&self, key: &Q) -> Result<Option<E>, StoreError>
    where
        Q: Encode + ?Sized,
        E: DecodeOwned,
    {
        match self.subtract(key, Encoded::key(key)).await? {
            Answer::Done {
                value: Some(value), ..
            } => convert(self.name(), &value).map(Some),
            answer => self.was_done(&answer).map(|_| None),
        }
    }

    async fn add<Q: Encode + ?Sized>(
        &self,
        key: &Q,
        value: Encoded,
        initial: Kind,
    ) -> Result<Answer, StoreError> {
        self.write(Op::Add {
            key: Encoded::key(key),
            value,
            initial,
            ttl: None,
        })
        .await
    }

    async fn subtract<Q: Encode + ?Sized>(
        &self,
        key: &Q,
        value: Encoded,
    ) -> Result<Answer, StoreError> {
        self.write(Op::Subtract {
            key: Encoded::key(key),
            value,
            ttl: None,
        })
        .await
    }

    fn number(&self, answer: Answer) -> Result<V, StoreError> {
        match answer {
            Answer::Done {
                value: Some(value), ..
            } => convert(self.name(), &value),
            _ => Err(StoreError::new(self.name(), StoreErrorKind::OutcomeUnknown)),
        }
    }
}
