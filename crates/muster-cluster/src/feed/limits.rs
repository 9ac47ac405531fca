//! What feeds are bounded by.

/// The bounds of a feed, at its source and at each follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedLimits {
    /// The most items of a list.
    pub items: usize,
    /// The most bytes of a list's items, encoded.
    pub bytes: usize,
    /// The most removals that a source remembers. A follower that was away for more of them takes the whole list anew.
    pub removals: usize,
    /// The most bytes of a part, and of an item.
    pub part: usize,
    /// The most bytes that are on their way to one follower, but for the part that passes this.
    pub window: usize,
    /// The most bytes that are on their way to all followers of a feed, in the same way.
    pub window_of_all: usize,
    /// The most followers of a feed.
    pub followers: usize,
}

impl FeedLimits {
    /// What nodes go by. 4 million items and 512 MiB are four times what the largest lists of indicators have; a part is large enough that
    /// its handling outweighs its way, and small enough that a node does other things in between; a window is four of them.
    pub const STANDARD: Self = Self {
        items: 4_000_000,
        bytes: 512 << 20,
        removals: 65_536,
        part: 256 << 10,
        window: 1 << 20,
        window_of_all: 32 << 20,
        followers: 4_096,
    };
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self::STANDARD
    }
}
