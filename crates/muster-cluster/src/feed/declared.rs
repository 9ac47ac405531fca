//! A feed as its author declares it.

use std::fmt;
use std::marker::PhantomData;

/// The most bytes of a feed's name.
const LONGEST_NAME: usize = 128;

/// A list of items that one node has and many follow. It is a constant of the framework;
/// [`Declarations::feed_source`](crate::node::Declarations::feed_source) declares it on the node that has the list,
/// [`Declarations::feed`](crate::node::Declarations::feed) on those that follow it, and [`Context::feed`](crate::node::Context::feed)
/// changes it.
///
/// *A follower that the source reaches comes to have exactly the source's items, and sees the changes of each key in their order; while
/// it takes the list, anew or for the first time, each item that both lists have is there, in an old or in its new state.* Changes of one
/// key that follow one another quickly may be passed over, the last one never.
///
/// The list is in memory alone. A source that begins anew has an empty list, and followers keep what they have until it
/// is [opened](crate::node::FeedContext::open).
///
/// ```
/// use muster_cluster::feed::Feed;
/// use muster_data::Address;
///
/// /// Addresses that are known to be bad, and why.
/// const INDICATORS: Feed<Address, String> = Feed::new("intel/indicators");
/// ```
pub struct Feed<K, V> {
    name: &'static str,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Feed<K, V> {
    /// Returns a feed of this name, which is unique in the cluster: letters, digits, `.`, `_`, `-`, `/` and `:`, at most 128 of them.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            of: PhantomData,
        }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<K, V> fmt::Debug for Feed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Feed").field(&self.name).finish()
    }
}

/// Returns `true` for what a feed may be called.
pub(crate) fn is_name(name: &str) -> bool {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(may_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        assert!(is_name("intel/indicators") && is_name("a"));
        for name in ["", "two words", "a\n", "ä", &"a".repeat(LONGEST_NAME + 1)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
