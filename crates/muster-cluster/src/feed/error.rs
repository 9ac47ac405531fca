//! Why a list is not changed.

/// Why a feed's list was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feed `{feed}`: {kind}")]
pub struct FeedError {
    feed: &'static str,
    kind: FeedErrorKind,
}

/// What keeps a list from being changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedErrorKind {
    /// No framework of this node is the feed's source.
    #[error("this node is not declared as its source")]
    NotSource,
    /// The item is larger than a part may be.
    #[error("an item of {bytes} bytes, and it may have {most}")]
    ItemTooLarge {
        /// The bytes of key and value, encoded.
        bytes: usize,
        /// How many there may be.
        most: usize,
    },
    /// The list has as many items as a list may have.
    #[error("it has {0} items, and may not have more")]
    TooManyItems(usize),
    /// With the item the list would be larger than a list may be.
    #[error("its items would have more than {0} bytes")]
    TooManyBytes(usize),
}

impl FeedError {
    pub(crate) fn new(feed: &'static str, kind: FeedErrorKind) -> Self {
        Self { feed, kind }
    }

    /// Returns what is wrong.
    pub fn kind(&self) -> &FeedErrorKind {
        &self.kind
    }

    /// Returns the name of the feed.
    pub fn feed(&self) -> &'static str {
        self.feed
    }
}
