//! What a follower's framework is told.

use muster_data::{ConvertError, DataRef, DecodeOwned};

use crate::layout::NodeName;

/// What happens to the list that a framework follows. [`Declarations::feed`](crate::node::Declarations::feed) declares who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedEvent<K, V> {
    /// The list of a source is taken from its beginning: for the first time, or anew as the source has begun anew, another one is followed,
    /// or too much was missed. What is there stays; what the new list does not have is [removed](FeedEvent::Removed) before it is complete.
    Begun {
        /// The node that has the list.
        source: NodeName,
    },
    /// An item is there, or has another value. While a list is taken anew, an item may come again as it was.
    Put {
        /// Its key.
        key: K,
        /// Its value.
        value: V,
    },
    /// An item is no longer there. Only keys that were put are removed.
    Removed {
        /// Its key.
        key: K,
    },
    /// Everything is there: the items are what the source had a moment ago. What follows are changes, as they happen.
    Complete,
    /// The source is gone, or out of reach. What is there stays. [`FeedEvent::Begun`] follows, or [`FeedEvent::Complete`] if it was not gone
    /// but out of reach.
    Gone,
}

/// What a follower's framework is told, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    Begun(&'a NodeName),
    Put(DataRef<'a>, DataRef<'a>),
    Removed(DataRef<'a>),
    Complete,
    Gone,
}

/// Takes what a framework is told. Returns `false` if it cannot be read.
pub(crate) type FollowerHook<'a> = dyn FnMut(Told<'_>) -> bool + 'a;

impl<K: DecodeOwned, V: DecodeOwned> FeedEvent<K, V> {
    /// Reads what is told.
    ///
    /// # Errors
    /// If the key or the value is of another type.
    pub(crate) fn read(told: Told<'_>) -> Result<Self, ConvertError> {
        Ok(match told {
            Told::Begun(source) => Self::Begun {
                source: source.clone(),
            },
            Told::Put(key, value) => Self::Put {
                key: key.to()?,
                value: value.to()?,
            },
            Told::Removed(key) => Self::Removed { key: key.to()? },
            Told::Complete => Self::Complete,
            Told::Gone => Self::Gone,
        })
    }
}
