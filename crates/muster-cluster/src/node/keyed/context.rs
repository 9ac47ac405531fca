//! Keyed work as a handler does it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use muster_data::{ConvertError, DecodeOwned, Encode, Limits, encode_to_vec, validate_first};

use super::table::{KeyedTable, read};
use super::{Number, Waiting};
use crate::hrw::Key;
use crate::keyed::{Changes, Keeper, RowChange};
use crate::layout::PoolName;
use crate::node::context::{Context, PublishError};
use crate::node::event::Event;
use crate::node::framework::Framework;

/// What is done when an event has reached its end.
pub(crate) type Then<F> = Box<dyn FnOnce(&mut F, &mut Context<'_>) + Send>;

/// What a handler has done to a row.
pub(crate) type Change = RowChange;

/// Why an owner does not handle an event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyedRefusal {
    /// It has other fields.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Who has published it takes something else of it for its key.
    #[error("its key is another one than it was published with")]
    OtherKey,
}

/// Why an event for the owner of a key was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyedError {
    /// So many events of this node are open that there is no room for another one: 65,536, or 64 MiB.
    #[error("too many events for the owners of keys of {0} are open")]
    Full(PoolName),
    /// Members of the pool are alive, and none of them handles keyed events: Zeek processes, and nodes of former releases.
    #[error("nobody in pool {0} handles events for the owners of keys")]
    NoOwner(PoolName),
    /// The layout has no such pool.
    #[error("there is no pool {0}")]
    UnknownPool(PoolName),
    /// A framework on this node has declared the event with other arguments.
    #[error(transparent)]
    Wrong(#[from] PublishError),
}

/// An event that was published for the owner of its key.
#[derive(Debug)]
pub struct Published<'a, 'c> {
    cx: &'a mut Context<'c>,
    pool: PoolName,
    number: Number,
}

impl<'c> Context<'c> {
    /// Publishes an event for the owner of a key. It is handled there by the method that was declared with
    /// [`Declarations::keyed`](super::super::Declarations::keyed).
    ///
    /// *The event is handled once, by the owner, or by the next owner if that is gone, and what is done to the rows of its key is in two
    /// places before it is acknowledged.* Until then this node sends it again. Events of one node for one key are handled in order. What
    /// is open when this node's process ends may be lost.
    ///
    /// # Errors
    /// [`KeyedError`] if too many events are open, there is no such pool, or the event is declared otherwise.
    pub fn publish_keyed<'a, E: Event>(
        &'a mut self,
        pool: &PoolName,
        key: impl Into<Key>,
        event: &E,
    ) -> Result<Published<'a, 'c>, KeyedError> {
        self.core.fits::<E>()?;
        let arguments = encode_to_vec(event);
        let number = self
            .core
            .publish_keyed(pool, key.into(), E::NAME, &arguments)?;
        Ok(Published {
            cx: self,
            pool: pool.clone(),
            number,
        })
    }

    /// Returns the rows of a table under all keys of a pool that this node owns, in no order that means anything. It looks at every
    /// row that this node owns.
    pub fn owned_rows<K, R, V>(
        &self,
        pool: &PoolName,
        table: &KeyedTable<K, R, V>,
    ) -> Vec<(K, R, V)>
    where
        K: DecodeOwned,
        R: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        let Some(keeper) = self.core.keyed.keeper(pool) else {
            return Vec::new();
        };
        let prefix = table.prefix(&[]);
        let mut rows = Vec::new();
        for digest in keeper.owned() {
            let found = keeper.rows_from(digest, &prefix);
            for (row, value) in found.take_while(|(row, _)| row.starts_with(&prefix)) {
                let rest = &row[prefix.len()..];
                let Ok(length) = validate_first(rest, &Limits::default()) else {
                    continue;
                };
                let (key, row) = rest.split_at(length);
                if let (Some(key), Some(row), Some(value)) = (read(key), read(row), read(value)) {
                    rows.push((key, row, value));
                }
            }
        }
        rows
    }

    /// Works on the rows of a key outside of an event, as when a window is closed. Returns `None`, and does nothing, if this node
    /// does not own the key, or does not have its rows yet.
    pub fn with_key<K, T>(
        &mut self,
        pool: &PoolName,
        key: &K,
        work: impl FnOnce(&mut KeyedContext<'_, '_, K>) -> T,
    ) -> Option<T>
    where
        K: Encode + Clone + Into<Key>,
    {
        let digest = key.clone().into().digest();
        let keeper = self.core.keyed.keeper(pool)?;
        if !keeper.serves(digest) {
            return None;
        }
        let outer = self.core.begin_drafts();
        let mut keyed = KeyedContext::new(self, pool, digest, encode_to_vec(key));
        let result = work(&mut keyed);
        let rows = keyed.into_changes();
        let outputs = self.core.end_drafts(outer);
        let changes = Changes { rows, outputs };
        let pool = self.core.keyed.pools.get_mut(pool);
        if let Some(keeper) = pool.and_then(|pool| pool.keeper.as_mut()) {
            keeper.changed(digest, None, changes);
            self.core.keyed.is_due = true;
        }
        Some(result)
    }
}

impl Published<'_, '_> {
    /// Has a method called when the event has been handled, and what came of it is in two places. It is never called before the
    /// present handler has returned; not at all if the process ends before.
    pub fn then<F: Framework>(self, then: impl FnOnce(&mut F, &mut Context<'_>) + Send + 'static) {
        let then: Then<F> = Box::new(then);
        let waiting = Waiting {
            framework: self.cx.framework,
            then: Box::new(then),
        };
        let keyed = &mut self.cx.core.keyed;
        match self.number {
            Number::Event(number) => keyed.pool(&self.pool).waiting.insert(number, waiting),
            Number::Output(number) => keyed.outputs.asked.insert(number, waiting),
        };
    }
}

/// What the handler of a keyed event can do: change the rows of its key, and everything that a [`Context`] can.
///
/// What it does to rows counts when the handler returns, all of it or nothing, and so does what it logs and publishes: that is kept with
/// the rows, and leaves the node when the standby has it as well. *A log record is once in the files with a final name, an event for
/// the owner of another key is handled once, whoever dies meanwhile.* An event that is published to a topic leaves at least once: again, if its
/// owner dies in the moments before the standby knows that it has left.
///
/// A call may give away 4,096 outputs, and a node have some 64,000 open; what is beyond leaves at once, and is counted. What a handler
/// asks ([`Context::request`]), writes to stores or counts is not held back.
#[derive(Debug)]
pub struct KeyedContext<'a, 'c, K> {
    cx: &'a mut Context<'c>,
    pool: PoolName,
    digest: u32,
    key: Vec<u8>,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    /// How many bytes the changes add at most.
    grown: usize,
    of: PhantomData<fn() -> K>,
}

impl<'a, 'c, K> KeyedContext<'a, 'c, K> {
    pub(crate) fn new(cx: &'a mut Context<'c>, pool: &PoolName, digest: u32, key: Vec<u8>) -> Self {
        Self {
            cx,
            pool: pool.clone(),
            digest,
            key,
            changes: BTreeMap::new(),
            grown: 0,
            of: PhantomData,
        }
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        let changes = self.changes.into_iter();
        changes
            .map(|(row, value)| RowChange { row, value })
            .collect()
    }

    /// Returns a row of the key.
    pub fn row<R, V>(&self, table: &KeyedTable<K, R, V>, row: &R) -> Option<V>
    where
        R: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        let row = table.row(&self.key, row);
        if let Some(changed) = self.changes.get(&row) {
            return read(changed.as_ref()?);
        }
        let keeper = self.cx.core.keyed.keeper(&self.pool)?;
        read(keeper.row(self.digest, &row)?)
    }

    /// Returns all rows of the key in a table, in the order of their encoding.
    pub fn rows<R, V>(&self, table: &KeyedTable<K, R, V>) -> Vec<(R, V)>
    where
        R: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        let prefix = table.prefix(&self.key);
        let mut rows: BTreeMap<&Bytes, &Bytes> = BTreeMap::new();
        if let Some(keeper) = self.cx.core.keyed.keeper(&self.pool) {
            let found = keeper.rows_from(self.digest, &prefix);
            rows.extend(found.take_while(|(row, _)| row.starts_with(&prefix)));
        }
        for (row, value) in self
            .changes
            .iter()
            .filter(|(row, _)| row.starts_with(&prefix))
        {
            match value {
                Some(value) => rows.insert(row, value),
                None => rows.remove(row),
            };
        }
        let rows = rows.into_iter();
        rows.filter_map(|(row, value)| Some((read(&row[prefix.len()..])?, read(value)?)))
            .collect()
    }

    /// Sets a row of the key. Returns `false`, and sets nothing, if all rows of this node have 1 GiB together.
    pub fn set<R, V>(&mut self, table: &KeyedTable<K, R, V>, row: &R, value: &V) -> bool
    where
        R: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        let row = table.row(&self.key, row);
        let value = Bytes::from(encode_to_vec(value));
        let keeper = self.cx.core.keyed.keeper(&self.pool);
        let room = keeper.map_or(0, Keeper::room);
        let size = row.len() + value.len();
        if self.grown + size > room {
            self.cx.core.counts.rows_refused += 1;
            return false;
        }
        self.grown += size;
        self.changes.insert(row, Some(value));
        true
    }

    /// Removes a row of the key.
    pub fn remove<R, V>(&mut self, table: &KeyedTable<K, R, V>, row: &R)
    where
        R: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        self.changes.insert(table.row(&self.key, row), None);
    }
}

impl<'c, K> Deref for KeyedContext<'_, 'c, K> {
    type Target = Context<'c>;

    fn deref(&self) -> &Self::Target {
        self.cx
    }
}

impl<K> DerefMut for KeyedContext<'_, '_, K> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.cx
    }
}
