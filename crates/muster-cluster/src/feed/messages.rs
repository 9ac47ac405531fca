//! What sources and followers say to one another.
//!
//! All are events. Elements behind the known ones are ignored.

use muster_data::{DataRef, VectorRef, encode};

/// The event by which a source says to all followers of a feed that it is there.
pub(crate) const SOURCE: &str = "Muster::feed_source";

/// The event by which a follower says to a source what it has, and asks for more.
pub(crate) const WANT: &str = "Muster::feed_want";

/// The event with a part of a list.
pub(crate) const PART: &str = "Muster::feed_part";

/// A source is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement<'a> {
    /// The feed.
    pub(crate) feed: &'a str,
    /// The number of its last change.
    pub(crate) head: u64,
}

/// A follower has everything up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    /// The number of this message; later ones have larger ones.
    pub(crate) number: u64,
    /// The position.
    pub(crate) position: u64,
    /// Whether what was sent behind the position is to be sent again: it was lost, or nothing was sent yet.
    pub(crate) is_anew: bool,
}

/// A part of a list: changes in the order of their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartRef<'a> {
    /// The feed.
    pub(crate) feed: &'a str,
    /// It is for those who have everything up to this number.
    pub(crate) from: u64,
    /// With it they have everything up to this one.
    pub(crate) to: u64,
    /// The number of the last change when the part was made.
    pub(crate) head: u64,
    /// Removals up to this number were forgotten when the part was made.
    pub(crate) floor: u64,
    /// The changes: vectors of key and value, or of a key that is removed.
    pub(crate) changes: VectorRef<'a>,
}

/// Appends the arguments of [`SOURCE`].
pub(crate) fn put_announcement(out: &mut Vec<u8>, announcement: &Announcement<'_>) {
    encode::vector_header(out, 2);
    encode::string(out, announcement.feed.as_bytes());
    encode::count(out, announcement.head);
}

/// Reads the arguments of [`SOURCE`].
pub(crate) fn read_announcement(arguments: DataRef<'_>) -> Option<Announcement<'_>> {
    let mut elements = arguments.as_vector()?.iter();
    Some(Announcement {
        feed: elements.next()?.as_str()?,
        head: elements.next()?.as_count()?,
    })
}

/// Appends the arguments of [`WANT`].
pub(crate) fn put_want(out: &mut Vec<u8>, feed: &str, want: &Want) {
    encode::vector_header(out, 4);
    encode::string(out, feed.as_bytes());
    encode::count(out, want.number);
    encode::count(out, want.position);
    encode::boolean(out, want.is_anew);
}

/// Reads the arguments of [`WANT`]: the feed, and what is wanted.
pub(crate) fn read_want(arguments: DataRef<'_>) -> Option<(&str, Want)> {
    let mut elements = arguments.as_vector()?.iter();
    let feed = elements.next()?.as_str()?;
    let want = Want {
        number: elements.next()?.as_count()?,
        position: elements.next()?.as_count()?,
        is_anew: elements.next()?.to().ok()?,
    };
    Some((feed, want))
}

/// Appends the arguments of [`PART`] but for the changes, a vector that has to follow.
pub(crate) fn put_part(out: &mut Vec<u8>, feed: &str, from: u64, to: u64, head: u64, floor: u64) {
    encode::vector_header(out, 6);
    encode::string(out, feed.as_bytes());
    for number in [from, to, head, floor] {
        encode::count(out, number);
    }
}

/// Reads the arguments of [`PART`]. Numbers that contradict one another are no part.
pub(crate) fn read_part(arguments: DataRef<'_>) -> Option<PartRef<'_>> {
    let mut elements = arguments.as_vector()?.iter();
    let feed = elements.next()?.as_str()?;
    let mut number = || elements.next()?.as_count();
    let (from, to, head, floor) = (number()?, number()?, number()?, number()?);
    let changes = elements.next()?.as_vector()?;
    let is_part = from <= to && to <= head && floor <= head;
    is_part.then_some(PartRef {
        feed,
        from,
        to,
        head,
        floor,
        changes,
    })
}
