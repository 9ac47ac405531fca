//! Stores as a framework uses them: it reads this node's copy at once, and hears of a write's outcome by a call.

mod context;
mod needs;
mod placement;

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::marker::PhantomData;

use muster_data::{ConvertError, Data, DecodeOwned};
use muster_store::op::{StoreEvent, WriteRefusal};
use muster_store::{Encoded, Entry, Revision, StoreName, WriteFailure};

pub use context::{PendingWrite, StoreContext};
pub(crate) use context::{Then, done, was_done};
pub use needs::{NeedStore, StoreFacts, StoreNeed, StoreState, StoreVerdict};
pub use placement::{OpenStore, copy_config, placement_by_coordinators, primary_config};

use crate::register::Unfit;

/// The writes of one node's frameworks that may wait for their outcome.
const WAITING: usize = 65_536;

/// With as many, the node takes in less: what it is sent would make more of them.
const MANY: usize = WAITING / 2;

/// A store that a framework uses, with its name and the types of its keys and values. It is a constant of the
/// framework; [`Declarations::store`](super::Declarations::store) opens it on every node that the framework runs on.
/// The layout decides where the primary is, and what keeps it.
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

    /// Makes what the store holds outlive the cluster, unless the layout says otherwise.
    #[must_use]
    pub const fn persistent(mut self) -> Self {
        self.is_persistent = true;
        self
    }

    /// Makes every change of the store call [`Framework::store_changed`](super::Framework::store_changed), beginning
    /// with what is there.
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

/// How a node's frameworks read its stores. The driver of the loop implements it.
pub trait StoreReads: Send + fmt::Debug {
    /// The entry of a key, in this node's copy.
    fn get(&self, store: &StoreName, key: &Encoded) -> Option<Entry>;

    /// The value of a key in this node's copy with its revision, both of one moment.
    fn versioned(&self, store: &StoreName, key: &Encoded) -> Option<(Encoded, Revision)>;

    /// Whether there is a copy.
    fn is_attached(&self, store: &StoreName) -> bool;

    /// The number of keys.
    fn size(&self, store: &StoreName) -> usize;
}

/// What a write waits with: a [`Then`] of the framework that has asked.
pub(crate) type Continuation = Box<dyn Any + Send>;

/// What a node has of its stores.
#[derive(Debug, Default)]
pub(crate) struct StoreAccess {
    pub(super) reads: Option<Box<dyn StoreReads>>,
    pub(super) writes: PendingWrites,
    /// The frameworks that watch a store.
    pub(super) watchers: HashMap<&'static str, Vec<usize>>,
    /// The requests of endpoints that are no nodes.
    needs: needs::Allowance,
}

/// The writes whose outcome a node waits for.
#[derive(Default)]
pub(crate) struct PendingWrites {
    next: u64,
    /// By token: the framework, and what it does then.
    then: HashMap<u64, (usize, Continuation)>,
    /// Writes that were not sent, because too many wait or their outcome is known: they are answered as soon as the handler that
    /// asked returns.
    refused: VecDeque<(usize, Continuation)>,
}

impl fmt::Debug for PendingWrites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingWrites")
            .field("writes", &self.then.len())
            .finish_non_exhaustive()
    }
}

impl PendingWrites {
    pub(crate) fn take(&mut self, token: u64) -> Option<(usize, Continuation)> {
        self.then.remove(&token)
    }

    /// Returns the next write that was not sent.
    pub(crate) fn take_refused(&mut self) -> Option<(usize, Continuation)> {
        self.refused.pop_front()
    }

    pub(crate) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Returns `true` if so many writes wait that whoever causes them should wait, too.
    pub(crate) fn are_many(&self) -> bool {
        self.then.len() >= MANY
    }

    /// Returns a token for a write of the node's own, of whose outcome no framework hears.
    pub(crate) fn token(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes what is to be done as soon as the handler that asked returns.
    fn answer_soon(&mut self, framework: usize, then: Continuation) {
        self.refused.push_back((framework, then));
    }

    /// Takes what is to be done when a write is over. Returns its token, or `None` if the write is not to be sent.
    fn add(&mut self, framework: usize, then: Continuation) -> Option<u64> {
        if self.then.len() >= WAITING {
            self.answer_soon(framework, then);
            return None;
        }
        let token = self.token();
        self.then.insert(token, (framework, then));
        Some(token)
    }
}

/// Why a write failed, or may have failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The primary refuses it: nothing has changed.
    #[error(transparent)]
    Refused(#[from] WriteRefusal),
    /// The write was not applied, or may have been applied, or is not on disk; the [`WriteFailure`] says which.
    #[error(transparent)]
    Failed(#[from] WriteFailure),
    /// The write was applied before its primary was restarted; its result is not known.
    #[error("applied, but its result is not known: the primary was restarted")]
    OutcomeUnknown,
    /// The new value is not of the author's type.
    #[error(transparent)]
    Conversion(#[from] ConvertError),
    /// The value is not what the register takes: nothing was sent.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// A change of a store, for [`Framework::store_changed`](super::Framework::store_changed).
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

    /// Returns the key as an author's type.
    ///
    /// # Errors
    /// [`ConvertError`] if the key is not of this type.
    pub fn key_as<K: DecodeOwned>(&self) -> Result<K, ConvertError> {
        self.key.view().to()
    }

    /// Returns the value now as an author's type, if there is one.
    ///
    /// # Errors
    /// [`ConvertError`] if the value is not of this type.
    pub fn new_as<V: DecodeOwned>(&self) -> Result<Option<V>, ConvertError> {
        self.new.map(|value| value.view().to()).transpose()
    }
}
