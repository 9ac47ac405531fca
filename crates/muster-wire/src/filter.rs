//! Filters: what an endpoint subscribes to, as a minimal set of topic prefixes.

use std::collections::BTreeMap;

use crate::bytes::{Reader, put_string, put_varbyte};
use crate::topic::LOCAL_PREFIX;

/// The most entries that a peer's filter may hold.
pub const MAX_ENTRIES: usize = 65_536;

/// The most bytes that the entries of a peer's filter may have together: as many as a handshake can
/// carry.
pub const MAX_BYTES: usize = crate::frame::HANDSHAKE_LIMIT;

/// A sorted set of topic prefixes of which none is a prefix of another. An empty filter matches
/// nothing, an empty entry matches everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Filter {
    entries: Vec<Box<[u8]>>,
}

/// A filter from the network that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The payload ends inside an entry, or bytes follow the last one.
    #[error("malformed filter")]
    Malformed,
    /// More than [`MAX_ENTRIES`] entries.
    #[error("a filter has at most {MAX_ENTRIES} entries")]
    TooMany,
    /// More than [`MAX_BYTES`] bytes in all entries together.
    #[error("the entries of a filter have at most {MAX_BYTES} bytes together")]
    TooLarge,
}

impl Filter {
    /// Makes the minimal filter of some prefixes. Prefixes below `<$>/local/` are left out.
    pub fn from_prefixes<I>(prefixes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut all: Vec<Box<[u8]>> = prefixes
            .into_iter()
            .filter(|prefix| !prefix.as_ref().starts_with(LOCAL_PREFIX))
            .map(|prefix| Box::from(prefix.as_ref()))
            .collect();
        all.sort_unstable();
        let mut entries: Vec<Box<[u8]>> = Vec::with_capacity(all.len());
        for prefix in all {
            if entries.last().is_none_or(|last| !prefix.starts_with(last)) {
                entries.push(prefix);
            }
        }
        Self { entries }
    }

    /// Returns `true` if an entry is a prefix of `topic`.
    pub fn matches(&self, topic: &[u8]) -> bool {
        // No entry is a prefix of another: only the greatest that is not above the topic can be.
        let at = self.entries.partition_point(|entry| &**entry <= topic);
        at > 0 && topic.starts_with(&self.entries[at - 1])
    }

    /// Returns the entries in ascending order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.entries.iter().map(|entry| &**entry)
    }

    /// Returns `true` if the filter matches nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns about how many bytes of memory the entries take.
    pub fn memory(&self) -> usize {
        const BESIDE: usize = 32;
        let entries = self.entries.iter();
        entries.map(|entry| entry.len() + BESIDE).sum()
    }

    /// Appends the filter as it is written in handshake messages and routing updates.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varbyte(out, self.entries.len());
        for entry in &self.entries {
            put_string(out, entry);
        }
    }

    /// Reads a filter that fills the whole of `payload`. Its entries may come in any order and be
    /// redundant: the filter is made minimal.
    ///
    /// # Errors
    ///
    /// Fails if the payload ends inside an entry or goes on after the last one, and if there are
    /// more than [`MAX_ENTRIES`] entries or [`MAX_BYTES`] bytes in them.
    pub fn decode(payload: &[u8]) -> Result<Self, FilterError> {
        let mut reader = Reader::new(payload);
        let filter = Self::read(&mut reader)?;
        if reader.is_empty() {
            Ok(filter)
        } else {
            Err(FilterError::Malformed)
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, FilterError> {
        let count = reader.varbyte().ok_or(FilterError::Malformed)? as usize;
        if count > MAX_ENTRIES {
            return Err(FilterError::TooMany);
        }
        let mut prefixes = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            let prefix = reader.string().ok_or(FilterError::Malformed)?;
            bytes += prefix.len();
            if bytes > MAX_BYTES {
                return Err(FilterError::TooLarge);
            }
            prefixes.push(prefix);
        }
        Ok(Self::from_prefixes(prefixes))
    }
}

/// The counted subscriptions of an endpoint, from which its announced filter follows. Unlike
/// Broker's filter, it shrinks when the last subscription to a prefix ends.
#[derive(Debug, Clone, Default)]
pub struct Subscriptions {
    counts: BTreeMap<Box<[u8]>, usize>,
}

impl Subscriptions {
    /// Adds a subscription to `prefix`.
    pub fn add(&mut self, prefix: &[u8]) {
        *self.counts.entry(prefix.into()).or_default() += 1;
    }

    /// Removes a subscription to `prefix`. Does nothing if there is none.
    pub fn remove(&mut self, prefix: &[u8]) {
        if let Some(count) = self.counts.get_mut(prefix) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(prefix);
            }
        }
    }

    /// Returns the number of prefixes.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Returns `true` if there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the filter to announce.
    pub fn filter(&self) -> Filter {
        Filter::from_prefixes(self.counts.keys())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(prefixes: &[&str]) -> Filter {
        Filter::from_prefixes(prefixes)
    }

    #[test]
    fn entries_that_another_covers_are_left_out() {
        let text = |filter: &Filter| {
            filter
                .entries()
                .map(|e| String::from_utf8_lossy(e).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(text(&filter(&["/b/c", "/a", "/b"])), ["/a", "/b"]);
        assert_eq!(text(&filter(&["/b", "", "/a"])), [""]);
        assert_eq!(text(&filter(&["<$>/local/data/statuses"])), [""; 0]);
    }

    #[test]
    fn matching_is_a_plain_byte_prefix() {
        let some = filter(&["/t", "zeek/cluster/node/worker-1/"]);
        assert!(some.matches(b"/tt") && some.matches(b"/t/sub") && some.matches(b"/t"));
        assert!(!some.matches(b"/") && !some.matches(b"zeek/cluster/node/worker-10/"));
        assert!(!filter(&[]).matches(b"/t") && filter(&[""]).matches(b"/t"));
    }

    #[test]
    fn a_filter_shrinks_with_its_last_subscription() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add(b"/a");
        subscriptions.add(b"/a");
        subscriptions.add(b"/a/b");
        subscriptions.remove(b"/a");
        assert_eq!(subscriptions.filter(), filter(&["/a"]));
        subscriptions.remove(b"/a");
        assert_eq!(subscriptions.filter(), filter(&["/a/b"]));
        subscriptions.remove(b"/never");
    }

    proptest! {
        #[test]
        fn matches_as_a_linear_search_would(
            prefixes in prop::collection::vec("[ab/]{0,5}", 0..20), topic in "[ab/]{0,8}"
        ) {
            let linear = prefixes.iter().any(|prefix| topic.starts_with(prefix));
            prop_assert_eq!(Filter::from_prefixes(&prefixes).matches(topic.as_bytes()), linear);
        }

        #[test]
        fn encoding_round_trips(prefixes in prop::collection::vec("[ab/]{0,5}", 0..20)) {
            let filter = Filter::from_prefixes(&prefixes);
            let mut bytes = Vec::new();
            filter.encode(&mut bytes);
            prop_assert_eq!(Filter::decode(&bytes), Ok(filter));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Filter::decode(&bytes);
        }
    }
}
