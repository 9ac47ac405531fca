//! Feeds: a large list that one node gives to many, without I/O.
//!
//! `Source` has the list, `Follower` what one node has received of it. Between them are `messages.rs`. Both are told what
//! arrives and the time; what is to be sent, and what a framework is to be told, comes out.
//!
//! Every change of the list has a number, and of each key the last change alone is kept, in the order of numbers. A follower has a
//! *position*: it has all changes up to there. So whoever joins and whoever was away for a moment are the same: both get, in parts, what
//! is behind their position. Removals cannot be kept for ever. A follower that may have missed one that is forgotten begins at 0 again,
//! and when it is at the end, drops what it has not been given anew.

mod declared;
mod error;
mod event;
mod follower;
mod index;
mod keys;
mod limits;
mod list;
pub(crate) mod messages;
mod parts;
mod sabotage;
mod source;
#[cfg(test)]
mod tests;

pub use declared::Feed;
pub(crate) use declared::is_name;
pub use error::{FeedError, FeedErrorKind};
pub use event::FeedEvent;
pub(crate) use event::{FollowerHook, Told};
#[cfg(test)]
pub(crate) use follower::Fate;
pub(crate) use follower::Follower;
pub use limits::FeedLimits;
#[cfg(any(test, feature = "simulation"))]
pub use sabotage::Sabotage as FeedSabotage;
pub(crate) use source::{Heard as SourceHeard, Source};
