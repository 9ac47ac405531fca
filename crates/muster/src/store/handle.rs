//! The author's view of a store.

mod writes;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use muster_data::{Data, DecodeOwned, Encode, Timespan, Timestamp};
use muster_store::op::{Answer, Op};
use muster_store::protocol::{Query, Reply};
use muster_store::{
    Backend, Encoded, Entries, Entry, Freshness, Level, Placement, Revision, StoreName,
    StoreReport, WriteFailure, WriteOutcome, arithmetic,
};
use muster_wire::EndpointId;
use tokio::sync::oneshot;

use super::error::{OpenError, StoreError, StoreErrorKind};
use super::host::{AskToOpen, Completion, Copies, Host};
use super::options::{CloneOptions, PrimaryOptions};
use super::watch::{RawWatch, Scope, Watch};
use crate::endpoint::Endpoint;

/// How long an operation may take, unless it says otherwise.
const WITHIN: Duration = Duration::from_secs(10);

/// Where reads look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// At this node's copy. It has every write that this node has awaited, and what others write shortly after.
    Local,
    /// At this node's copy, unless it is stale: then reads fail with [`StoreErrorKind::Stale`].
    Fresh,
    /// At the primary, which has the latest value.
    Primary,
}

/// A value with its revision, as [`Store::entry`] returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<V> {
    /// The value.
    pub value: V,
    /// Which change made it, for [`Store::swap`].
    pub revision: Revision,
    /// When its TTL ends.
    pub expires: Option<Timestamp>,
}

/// What came of a [`Store::swap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    /// The value was set, or removed.
    Done,
    /// The key has changed since then, or the primary was restarted. The swap did nothing: read again.
    Changed,
}

/// A handle of a store, typed by its author. Cheap to clone. The store stays open on this endpoint while there is a
/// handle.
///
/// Keys and values may be of any types with an encoding; `Data` fits all. Operations are written to the primary,
/// whichever node has it, and are applied once and in the order in which this node asked. A future that is dropped
/// does not take its write back.
///
/// `K` and `V` are the types of what is read. What is written has the type of the argument: with a `Store<_, u64>`
/// write `&1u64`, since the compiler takes a literal alone for an `i32`, which would be stored as one.
///
/// # Time and bounds
/// Every operation ends within [`Store::within`], 10 seconds unless set. At most 65,536 writes and 64 MiB wait on one
/// endpoint; beyond, they fail at once. A key has at most 64 KiB, a value 16 MiB, encoded.
///
/// # Errors
/// Writes fail with [`StoreErrorKind::Refused`] (nothing has changed) or [`StoreErrorKind::Failed`]; conditional ones also
/// with [`StoreErrorKind::OutcomeUnknown`]. [`StoreError::is_not_applied`] says whether it is certain that nothing has
/// changed. Reads fail with [`StoreErrorKind::NoPrimary`] if there is nothing to read within the time,
/// [`StoreErrorKind::Stale`] where only fresh values were asked for, and [`StoreErrorKind::Conversion`] if what is kept is
/// not of the author's type.
#[derive(Debug)]
pub struct Store<K = Data, V = Data> {
    host: Arc<Host>,
    level: Option<Level>,
    within: Duration,
    read: Read,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Store<K, V> {
    fn clone(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            of: PhantomData,
            ..*self
        }
    }
}

impl Endpoint {
    /// Opens the primary of a store on this endpoint. With a backend, it returns when everything that the backend has
    /// kept has been read.
    ///
    /// # Errors
    /// [`OpenError::Open`] if the endpoint has the store already, [`OpenError::Backend`] if what the backend has kept
    /// cannot be read, [`OpenError::Thread`] if the system refuses a thread for the backend.
    pub async fn open_primary(
        &self,
        name: &StoreName,
        options: PrimaryOptions,
    ) -> Result<Store, OpenError> {
        let placement = options.placement();
        let store = Store::unopened(self, name, &placement, None)?;
        store.open(placement, options.backend).await?;
        Ok(store)
    }

    /// Opens a clone of a store on this endpoint. The primary may be on any endpoint in reach, and need not exist yet.
    /// Reads wait until there is something to read, writes until there is a primary.
    ///
    /// # Errors
    /// [`OpenError::Open`] if the endpoint has the store already.
    pub async fn open_clone(
        &self,
        name: &StoreName,
        options: CloneOptions,
    ) -> Result<Store, OpenError> {
        let placement = Placement::Clone(options.config);
        let store = Store::unopened(self, name, &placement, None)?;
        store.open(placement, None).await?;
        Ok(store)
    }

    /// Returns reports of the stores that are open on this endpoint, in the order of their names.
    pub fn store_reports(&self) -> Vec<StoreReport> {
        self.stores().reports()
    }
}

impl Store {
    /// A store that is not open yet, and takes writes all the same.
    pub(crate) fn unopened(
        endpoint: &Endpoint,
        name: &StoreName,
        placement: &Placement,
        ask_to_open: Option<AskToOpen>,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            host: Host::new(endpoint, name, placement, ask_to_open)?,
            level: None,
            within: WITHIN,
            read: Read::Local,
            of: PhantomData,
        })
    }

    /// Opens it, once.
    pub(crate) async fn open(
        &self,
        placement: Placement,
        backend: Option<Box<dyn Backend>>,
    ) -> Result<(), OpenError> {
        self.host.open(placement, backend).await
    }

    /// Follows a decision of coordinators about which nodes keep it.
    pub(crate) fn assign(&self, copies: Copies) {
        self.host.assign(copies);
    }
}

impl<K, V> Store<K, V> {
    /// Returns a handle of this store with keys and values of other types.
    pub fn typed<K2, V2>(&self) -> Store<K2, V2> {
        Store {
            host: Arc::clone(&self.host),
            level: self.level,
            within: self.within,
            read: self.read,
            of: PhantomData,
        }
    }

    /// Returns a handle whose writes wait until they have reached `level`; [`Level::Applied`] unless set.
    #[must_use]
    pub fn at_level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// Returns a handle whose writes wait until they are on the primary's disk.
    #[must_use]
    pub fn durable(self) -> Self {
        self.at_level(Level::Durable)
    }

    /// Sets how long an operation may take; 10 seconds unless set.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// Sets where reads look; at this node's copy unless set.
    #[must_use]
    pub fn reading(mut self, read: Read) -> Self {
        self.read = read;
        self
    }

    /// The store's name.
    pub fn name(&self) -> &StoreName {
        self.host.name()
    }

    /// Whether this endpoint has the primary.
    pub fn is_primary(&self) -> bool {
        self.host.is_primary()
    }

    /// Returns whether the state of the store outlives its primary's process, or `None` where that is not known: at a
    /// clone.
    pub fn is_persistent(&self) -> Option<bool> {
        self.host.is_persistent()
    }

    /// Returns the endpoint that has the primary, or `None` while it is not known.
    pub fn primary(&self) -> Option<EndpointId> {
        self.host.primary_endpoint()
    }

    /// Returns how old this node's copy may be.
    pub fn freshness(&self) -> Freshness {
        self.host.freshness()
    }

    /// Returns the revision of the last change that this node has.
    pub fn revision(&self) -> Revision {
        self.host.applied()
    }

    /// Waits until this node has something to read, at most [`Store::within`].
    ///
    /// # Errors
    /// [`StoreErrorKind::NoPrimary`] if no primary was heard from by then.
    pub async fn attached(&self) -> Result<(), StoreError> {
        self.host.attached(self.within).await
    }

    /// Waits until all writes of this node are settled and, at the primary of a persistent store, on disk, and
    /// closes its backend. Returns `true` if that was done within [`Store::within`]. Writes after that are never
    /// durable.
    pub async fn close(self) -> bool {
        self.host.close(self.within).await
    }

    /// Writes for the loop of a node.
    pub(crate) fn write_raw(&self, op: Op, level: Level, within: Duration, completion: Completion) {
        self.host.write(op, level, Some(within), completion);
    }

    /// What the loop of a node reads.
    pub(crate) fn look_up(&self, key: &Encoded) -> Option<Entry> {
        self.host.look(|entries| entries.get(key).cloned())?
    }

    /// What the loop of a node reads with its revision.
    pub(crate) fn versioned(&self, key: &Encoded) -> Option<(Encoded, Revision)> {
        let (_, found) = self.host.find(key);
        let (entry, timeline) = found?;
        let change = entry.changed;
        Some((entry.value, Revision { timeline, change }))
    }

    /// The number of keys here.
    pub(crate) fn here(&self) -> usize {
        self.host.look(Entries::len).unwrap_or(0)
    }

    /// Whether there is something to read.
    pub(crate) fn has_something(&self) -> bool {
        self.host.freshness() != Freshness::Unattached
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.host.is_open()
    }

    /// The changes for the loop of a node.
    pub(crate) fn watch_raw(&self, scope: Scope) -> RawWatch {
        RawWatch::new(&self.host, scope)
    }

    async fn write(&self, op: Op) -> Result<Answer, StoreError> {
        let (done, outcome) = oneshot::channel();
        let level = self.level.unwrap_or(Level::Applied);
        self.host
            .write(op, level, Some(self.within), Completion::Task(done));
        // The deadline is the store's affair: a timer for each write costs more than the write.
        self.settled(outcome.await.unwrap_or(Err(WriteFailure::Unknown)))
    }

    fn settled(&self, outcome: WriteOutcome) -> Result<Answer, StoreError> {
        match outcome {
            Ok(Answer::Refused(refusal)) => Err(StoreError::new(self.name(), refusal)),
            Ok(answer) => Ok(answer),
            Err(failure) => Err(StoreError::new(self.name(), failure)),
        }
    }

    /// Whether a conditional write was done.
    fn was_done(&self, answer: &Answer) -> Result<bool, StoreError> {
        match answer {
            Answer::Repeated => Err(StoreError::new(self.name(), StoreErrorKind::OutcomeUnknown)),
            answer => Ok(matches!(answer, Answer::Done { .. })),
        }
    }

    async fn readable(&self) -> Result<(), StoreError> {
        match self.host.freshness() {
            Freshness::Unattached => self.host.attached(self.within).await,
            freshness => self.accept(freshness),
        }
    }

    fn accept(&self, freshness: Freshness) -> Result<(), StoreError> {
        if freshness == Freshness::Stale && self.read == Read::Fresh {
            return Err(StoreError::new(self.name(), StoreErrorKind::Stale));
        }
        Ok(())
    }

    async fn find(&self, key: Encoded) -> Result<Option<(Entry, u64)>, StoreError> {
        if self.reads_here() {
            let (freshness, found) = self.host.find(&key);
            if freshness != Freshness::Unattached {
                return self.accept(freshness).map(|()| found);
            }
            self.attached_unless_given_up().await?;
            let (_, found) = self.host.find(&key);
            if self.reads_here() {
                return Ok(found);
            }
        }
        let (revision, reply) = self.host.ask(Query::Get(key), self.within).await?;
        match reply {
            Reply::Entry(entry) => Ok(entry.map(|entry| (entry, revision.timeline))),
            Reply::Size(_) => Ok(None),
        }
    }

    /// Returns `false` if the primary is to be asked: that is wanted, or there is no copy.
    fn reads_here(&self) -> bool {
        match self.read {
            Read::Primary => self.host.decides_alone(),
            _ => self.host.has_copy(),
        }
    }

    async fn attached_unless_given_up(&self) -> Result<(), StoreError> {
        match self.readable().await {
            Err(error) if *error.kind() == StoreErrorKind::NoCopy => Ok(()),
            attached => attached,
        }
    }

    /// Returns the number of keys, in this node's copy or, with [`Read::Primary`], at the primary.
    pub async fn size(&self) -> Result<u64, StoreError> {
        if self.reads_here() {
            self.attached_unless_given_up().await?;
            let size = self.host.look(|entries| entries.len() as u64).unwrap_or(0);
            if self.reads_here() {
                return Ok(size);
            }
        }
        let (_, reply) = self.host.ask(Query::Size, self.within).await?;
        match reply {
            Reply::Size(size) => Ok(size),
            Reply::Entry(_) => Ok(0),
        }
    }

    /// Returns all keys and entries at one moment, encoded, from this node's copy.
    pub async fn entries(&self) -> Result<Vec<(Encoded, Entry)>, StoreError> {
        self.readable().await?;
        let entries = self.host.look(|entries| {
            let all = entries.in_order();
            all.map(|(key, entry)| (key.clone(), entry.clone()))
                .collect()
        });
        Ok(entries.unwrap_or_default())
    }

    /// Removes all keys.
    pub async fn clear(&self) -> Result<(), StoreError> {
        self.write(Op::Clear).await.map(|_| ())
    }
}

impl<K: Encode + DecodeOwned, V: Encode + DecodeOwned> Store<K, V> {
    /// Returns the value of a key, or `None` if the key is absent. Every write that was awaited on this endpoint is in
    /// it; what others write is there shortly after, or at once with [`Read::Primary`].
    pub async fn get<Q: Encode + ?Sized>(&self, key: &Q) -> Result<Option<V>, StoreError> {
        let found = self.find(Encoded::key(key)).await?;
        found
            .map(|(entry, _)| convert(self.name(), &entry.value))
            .transpose()
    }

    /// Returns the value of a key with its revision and the end of its TTL, or `None` if the key is absent.
    pub async fn entry<Q: Encode + ?Sized>(
        &self,
        key: &Q,
    ) -> Result<Option<Versioned<V>>, StoreError> {
        let found = self.find(Encoded::key(key)).await?;
        found
            .map(|(entry, timeline)| {
                Ok(Versioned {
                    value: convert(self.name(), &entry.value)?,
                    revision: Revision {
                        timeline,
                        change: entry.changed,
                    },
                    expires: entry.expires,
                })
            })
            .transpose()
    }

    /// Returns a part of a key's value: an element of a vector by its place, the value of a table's key, whether a set
    /// has an element. Returns `None` if there is no such key or part.
    pub async fn get_at<Q, I, T>(&self, key: &Q, index: &I) -> Result<Option<T>, StoreError>
    where
        Q: Encode + ?Sized,
        I: Encode + ?Sized,
        T: DecodeOwned,
    {
        let Some((entry, _)) = self.find(Encoded::key(key)).await? else {
            return Ok(None);
        };
        let part = arithmetic::part(&entry.value.to_data(), &muster_data::to_data(index));
        part.map(|part| convert(self.name(), &Encoded::of(&part)))
            .transpose()
    }

    /// Returns `true` if a key has a value.
    pub async fn exists<Q: Encode + ?Sized>(&self, key: &Q) -> Result<bool, StoreError> {
        Ok(self.find(Encoded::key(key)).await?.is_some())
    }

    /// Returns all keys in the order of their encodings, from this node's copy.
    pub async fn keys(&self) -> Result<Vec<K>, StoreError> {
        self.readable().await?;
        let keys: Vec<Encoded> = self
            .host
            .look(|entries| entries.in_order().map(|(key, _)| key.clone()).collect())
            .unwrap_or_default();
        keys.iter().map(|key| convert(self.name(), key)).collect()
    }

    /// Returns all keys with their values at one moment, from this node's copy.
    pub async fn snapshot(&self) -> Result<BTreeMap<K, V>, StoreError>
    where
        K: Ord,
    {
        self.pairs().await?.collect()
    }

    /// Returns the keys with their values at one moment, from this node's copy. Each is converted when the iterator
    /// yields it.
    pub async fn pairs(
        &self,
    ) -> Result<impl Iterator<Item = Result<(K, V), StoreError>> + use<K, V>, StoreError> {
        self.readable().await?;
        let all: Vec<(Encoded, Encoded)> = self
            .host
            .look(|entries| {
                let all = entries.in_order();
                all.map(|(key, entry)| (key.clone(), entry.value.clone()))
                    .collect()
            })
            .unwrap_or_default();
        let name = self.name().clone();
        Ok(all
            .into_iter()
            .map(move |(key, value)| Ok((convert(&name, &key)?, convert(&name, &value)?))))
    }

    /// Watches a part of the store: what is there, then every change of it, without a gap. Works before there is a
    /// primary.
    pub fn watch(&self, scope: Scope) -> Watch<K, V> {
        Watch::new(Arc::clone(&self.host), scope)
    }
}

pub(super) fn span(ttl: Duration) -> Timespan {
    Timespan::from_nanos(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX))
}

/// What an author's type makes of a value.
pub(super) fn convert<T: DecodeOwned>(name: &StoreName, value: &Encoded) -> Result<T, StoreError> {
    value
        .view()
        .to()
        .map_err(|error| StoreError::new(name, StoreErrorKind::Conversion(error)))
}
