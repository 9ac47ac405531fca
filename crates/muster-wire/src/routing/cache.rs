//! Routes and next hops of the topics seen last.

use std::sync::Arc;

use super::evicting::EvictingCache;
use super::{Route, Table};
use crate::{EndpointId, Topic};

/// About the bytes that a cache of routes takes at most: some 15,000 topics. One topic of any size may be among them.
/// Every link has one, and whoever is at its other end decides how much of it is used.
const CACHED_BYTES: usize = 4 << 20;

/// What a cached topic costs besides its bytes.
const ENTRY_OVERHEAD: usize = 256;

/// The routes of the topics seen last. Each publisher and each link's reader has its own.
#[derive(Debug)]
pub struct RouteCache {
    version: u64,
    routes: EvictingCache<Topic, Arc<Route>>,
    /// Where what was found last lies: most messages have the topic of the one before.
    last: usize,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self {
            version: 0,
            routes: EvictingCache::new(CACHED_BYTES),
            last: 0,
        }
    }
}

impl RouteCache {
    /// Returns the topic that `bytes` are and its route, from the cache or from `table`. Returns
    /// `None` if they are no valid topic.
    pub fn lookup<P, S>(
        &mut self,
        table: &Table<P, S>,
        bytes: &[u8],
    ) -> Option<(&Topic, &Arc<Route>)> {
        let position = self.find(table, bytes)?;
        self.get(position)
    }

    /// Returns the route of a topic, from the cache or from `table`.
    #[inline]
    pub fn route<P, S>(&mut self, table: &Table<P, S>, topic: &Topic) -> Option<&Arc<Route>> {
        let last = self.routes.get(self.last);
        let is_last = last.is_some_and(|last| last.key.is_clone_of(topic));
        if !is_last || self.version != table.version {
            self.find_or(table, topic.as_bytes(), || Some(topic.clone()))?;
        }
        self.get(self.last).map(|(_, route)| route)
    }

    /// Returns the topic and route at a position that [`RouteCache::find`] of this cache returned
    /// last.
    pub fn get(&self, position: usize) -> Option<(&Topic, &Arc<Route>)> {
        let entry = self.routes.get(position);
        entry.map(|entry| (&entry.key, &entry.value))
    }

    /// Returns the position of a topic in this cache, which looks it up in `table` if need be. The
    /// position is valid until the next call of this. Returns `None` if the bytes are no valid topic.
    pub fn find<P, S>(&mut self, table: &Table<P, S>, bytes: &[u8]) -> Option<usize> {
        self.find_or(table, bytes, || Topic::new(bytes).ok())
    }

    fn find_or<P, S>(
        &mut self,
        table: &Table<P, S>,
        bytes: &[u8],
        topic: impl FnOnce() -> Option<Topic>,
    ) -> Option<usize> {
        if self.version != table.version {
            self.version = table.version;
            self.routes.clear();
        }
        let last = self.routes.get(self.last);
        if last.is_none_or(|last| last.key.as_bytes() != bytes) {
            self.last = match self.routes.find(bytes) {
                Some(position) => position,
                None => self.add(table, topic()?),
            };
        }
        Some(self.last)
    }

    fn add<P, S>(&mut self, table: &Table<P, S>, topic: Topic) -> usize {
        let bytes = topic.as_bytes();
        let (route, size) = (Arc::new(table.route(bytes)), bytes.len() + ENTRY_OVERHEAD);
        self.routes.add(topic, route, size)
    }
}

/// The next hops kept, of as many origins and topics.
const CACHED_HOPS: usize = 32_768;

/// The next hops of the origins and topics seen last, kept beside the [`RouteCache`] of a link's
/// reader.
#[derive(Debug)]
pub struct HopCache {
    version: u64,
    hops: EvictingCache<Passage, Arc<[u32]>>,
    /// What was found last: most messages are of the origin and topic of the one before.
    last: usize,
}

impl Default for HopCache {
    fn default() -> Self {
        Self {
            version: 0,
            hops: EvictingCache::new(CACHED_HOPS),
            last: 0,
        }
    }
}

/// An origin's slot, the number of a topic's entry, and whose message it is if not the origin's own.
type Passage = (u32, u64, Option<EndpointId>);

impl HopCache {
    /// Returns [`Table::next_hops`] for an origin's slot, the topic at a position of `routes`,
    /// which must have been found in `table`, and the guest whose message it is.
    pub fn find<P, S>(
        &mut self,
        table: &Table<P, S>,
        routes: &RouteCache,
        origin: u32,
        position: usize,
        guest: Option<EndpointId>,
    ) -> &[u32] {
        if self.version != routes.version {
            self.version = routes.version;
            self.hops.clear();
        }
        let Some(topic) = routes.routes.get(position) else {
            return &[];
        };
        let passage = (origin, topic.number, guest);
        let last = self.hops.get(self.last);
        if last.is_none_or(|last| last.key != passage) {
            self.last = if let Some(position) = self.hops.find(&passage) {
                position
            } else {
                let hops = table.next_hops(origin, &topic.value.wanted, guest);
                self.hops.add(passage, hops.into(), 1)
            };
        }
        self.hops.get(self.last).map_or(&[], |found| &found.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filter;

    fn table(version: u64, prefix: &str) -> Table<(), ()> {
        let subscribers = vec![(Filter::from_prefixes([prefix]), ())];
        Table::new(version, Vec::new(), subscribers)
    }

    #[test]
    fn a_cache_lives_as_long_as_its_table() {
        let mut cache = RouteCache::default();
        let first = table(1, "a");
        assert_eq!(cache.lookup(&first, b"a").unwrap().1.subscribers, [0]);
        let second = table(2, "b");
        let (_, route) = cache.lookup(&second, b"a").unwrap();
        assert!(route.subscribers.is_empty());
        assert!(cache.lookup(&second, b"<$>/local/x").is_none());
    }

    #[test]
    fn a_cache_is_bounded_in_bytes() {
        let mut cache = RouteCache::default();
        let table = table(1, "a");
        for number in 0u32..20_000 {
            let topic = format!("a/{number}/{}", "x".repeat(1000));
            let (found, route) = cache.lookup(&table, topic.as_bytes()).unwrap();
            assert_eq!(found.as_bytes(), topic.as_bytes());
            assert_eq!(route.subscribers, [0]);
        }
        let kept = (0..20_000).filter(|at| cache.get(*at).is_some()).count();
        assert!(kept > 3000 && kept <= CACHED_BYTES / (1000 + ENTRY_OVERHEAD));
    }

    /// 15,000 topics in turn are looked up in the table once each, and most of somewhat more than there is room for are
    /// found in the cache.
    #[test]
    fn many_topics_are_found_in_the_cache() {
        let anew = |cache: &mut RouteCache, table: &Table<(), ()>, topics: u32| {
            let before = cache.routes.numbers();
            for topic in 0..topics {
                let topic = format!("a/{topic}");
                assert!(cache.lookup(table, topic.as_bytes()).is_some());
            }
            cache.routes.numbers() - before
        };
        let mut cache = RouteCache::default();
        let table = table(1, "a");
        assert_eq!(anew(&mut cache, &table, 15_000), 15_000);
        assert_eq!(anew(&mut cache, &table, 15_000), 0);
        for _ in 0..4 {
            anew(&mut cache, &table, 20_000);
        }
        let missed = anew(&mut cache, &table, 20_000);
        assert!(missed < 10_000, "{missed} of 20,000");
    }

    /// A topic that came to the place of another has its own next hops.
    #[test]
    fn next_hops_are_those_of_the_topic_whatever_was_evicted() {
        let (mut routes, mut hops) = (RouteCache::default(), HopCache::default());
        let table = table(1, "a");
        for topic in 0..60_000u32 {
            let topic = format!("a/{}", topic % 25_000);
            let position = routes.find(&table, topic.as_bytes()).unwrap();
            assert!(hops.find(&table, &routes, 0, position, None).is_empty());
            let (_, number, _) = hops.hops.get(hops.last).unwrap().key;
            assert_eq!(number, routes.routes.get(position).unwrap().number);
        }
    }
}
