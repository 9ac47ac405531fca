//! A feed's list as a handler on its source sees it.

use muster_data::{DataRef, DecodeOwned, Encode, encode_to_vec};

use crate::feed::{Feed, FeedError, FeedErrorKind, Source};
use crate::node::context::Context;

/// The list of a feed that has its source on this node; from [`Context::feed`].
///
/// Changes go to followers with those that are made within 5 ms.
#[derive(Debug)]
pub struct FeedContext<'a, 'c, K, V> {
    cx: &'a mut Context<'c>,
    feed: &'a Feed<K, V>,
}

impl<'c> Context<'c> {
    /// Returns the list of a feed, whose [source](crate::node::Declarations::feed_source) must be on this node.
    pub fn feed<'a, K, V>(&'a mut self, feed: &'a Feed<K, V>) -> FeedContext<'a, 'c, K, V>
    where
        K: Encode + DecodeOwned,
        V: Encode + DecodeOwned,
    {
        FeedContext { cx: self, feed }
    }
}

impl<K: Encode + DecodeOwned, V: Encode + DecodeOwned> FeedContext<'_, '_, K, V> {
    /// Sets the value of a key. Nothing is sent if it has the value.
    ///
    /// # Errors
    /// [`FeedErrorKind`] says what is wrong: the source is not on this node, the item has more than 256 KiB, or the list would have more
    /// than 4 million items or 512 MiB. Then the list is what it was.
    pub fn put(&mut self, key: &K, value: &V) -> Result<(), FeedError> {
        let (key, value) = (encode_to_vec(key), encode_to_vec(value));
        let (feed, now) = (self.feed.name(), self.cx.now());
        let put = self.source()?.put(&key, &value, now);
        put.map_err(|kind| FeedError::new(feed, kind))
    }

    /// Removes a key. Returns `true` if it was there.
    ///
    /// # Errors
    /// [`FeedErrorKind::NotSource`] if the source is not on this node.
    pub fn remove(&mut self, key: &K) -> Result<bool, FeedError> {
        let now = self.cx.now();
        let key = encode_to_vec(key);
        Ok(self.source()?.remove(&key, now))
    }

    /// Lets followers have the list, from now on. Until then they keep what they have of an earlier source: so put what there is,
    /// and open the list then.
    ///
    /// # Errors
    /// [`FeedErrorKind::NotSource`] if the source is not on this node.
    pub fn open(&mut self) -> Result<(), FeedError> {
        let now = self.cx.now();
        self.source()?.open(now);
        Ok(())
    }

    /// Returns the value of a key, if there is one.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let key = encode_to_vec(key);
        let source = self.source().ok()?;
        DataRef::from_validated(source.get(&key)?).to().ok()
    }

    /// Returns the number of items; 0 if the source is not on this node.
    pub fn len(&mut self) -> usize {
        self.source().map_or(0, |source| source.len())
    }

    /// Returns `true` if there are no items.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of the encoded items, and of the removals that are remembered for followers that are behind.
    pub fn bytes(&mut self) -> usize {
        self.source().map_or(0, |source| source.bytes())
    }

    fn source(&mut self) -> Result<&mut Source, FeedError> {
        let feed = self.feed.name();
        let source = self.cx.core.source(feed);
        source.ok_or(FeedError::new(feed, FeedErrorKind::NotSource))
    }
}
