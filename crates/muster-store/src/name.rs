//! Names of stores, and the topics that follow from them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use muster_wire::Topic;

/// The longest name of a store, in bytes.
pub const MAX_NAME: usize = 255;

/// The name of a store: 1 to 255 bytes of UTF-8, usually parts with `/` between them, such as
/// `software/tracked`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreName(Arc<str>);

/// A text that is not a valid name of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a store's name has 1 to {MAX_NAME} bytes, without control characters, `<$>`, or `/` at either end"
)]
pub struct StoreNameError;

impl StoreName {
    /// Makes a name of a text.
    ///
    /// # Errors
    ///
    /// Fails unless the text has 1 to [`MAX_NAME`] bytes, without control characters, without
    /// `<$>`, and without `/` at either end.
    pub fn new(name: impl AsRef<str>) -> Result<Self, StoreNameError> {
        let name = name.as_ref();
        let fits = (1..=MAX_NAME).contains(&name.len());
        let at_end = name.starts_with('/') || name.ends_with('/');
        if !fits || at_end || name.contains("<$>") || name.chars().any(char::is_control) {
            return Err(StoreNameError);
        }
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the topic that a Muster primary listens to.
    pub fn primary_topic(&self) -> Topic {
        self.topic("muster/master")
    }

    /// Returns the topic that Muster clones listen to.
    pub fn clone_topic(&self) -> Topic {
        self.topic("muster/clone")
    }

    /// Returns the topic that a primary listens to for Broker's clones (protocol version 1, section
    /// 7.1).
    pub fn broker_master_topic(&self) -> Topic {
        self.topic("data/master")
    }

    /// Returns the topic that Broker's clones listen to.
    pub fn broker_clone_topic(&self) -> Topic {
        self.topic("data/clone")
    }

    /// Returns the store's name in a topic of Broker's protocol, and `true` if the topic is that of
    /// masters rather than clones. Returns `None` for other topics.
    pub fn of_broker_topic(topic: &[u8]) -> Option<(&str, bool)> {
        let topic = std::str::from_utf8(topic).ok()?;
        let primary = topic.strip_suffix("/<$>/data/master");
        let clone = || topic.strip_suffix("/<$>/data/clone");
        primary
            .map(|name| (name, true))
            .or_else(|| clone().map(|name| (name, false)))
    }

    fn topic(&self, suffix: &str) -> Topic {
        Topic::new(format!("{}/<$>/{suffix}", self.0)).expect("names are short and hold no `<$>`")
    }
}

impl FromStr for StoreName {
    type Err = StoreNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_follow_from_the_name() {
        let name = StoreName::new("software/tracked").unwrap();
        assert_eq!(
            name.primary_topic().as_bytes(),
            b"software/tracked/<$>/muster/master"
        );
        assert_eq!(
            name.broker_clone_topic().as_bytes(),
            b"software/tracked/<$>/data/clone"
        );
    }

    #[test]
    fn topics_of_broker_are_recognised() {
        let name = StoreName::new("a/b").unwrap();
        let of = |topic: Topic| {
            let found = StoreName::of_broker_topic(topic.as_bytes());
            found.map(|(name, is_primary)| (name.to_owned(), is_primary))
        };
        let expected = |is_primary| Some(("a/b".to_owned(), is_primary));
        assert_eq!(of(name.broker_master_topic()), expected(true));
        assert_eq!(of(name.broker_clone_topic()), expected(false));
        assert_eq!(of(name.primary_topic()), None);
        assert_eq!(of(name.clone_topic()), None);
    }

    #[test]
    fn what_would_confuse_topics_is_no_name() {
        for wrong in ["", "/a", "a/", "a/<$>/b", "a\nb", &"x".repeat(256)] {
            assert_eq!(StoreName::new(wrong), Err(StoreNameError), "{wrong:?}");
        }
    }
}
