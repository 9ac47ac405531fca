//! Logs of which no file is read any more, and how far they were: a copy of one, which what rotates logs makes or
//! compresses later, goes on there.

use std::collections::VecDeque;

use super::fingerprint::Origin;
use crate::zeek_log::Place;

/// The most logs that are remembered; the oldest are forgotten first.
const MOST: usize = 4096;

/// Logs that have ended.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<(Origin, Place)>);

impl Ended {
    /// A log was read to this place, of which no file is read any more.
    pub(super) fn put(&mut self, origin: Origin, place: Place) {
        self.take(origin);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((origin, place));
    }

    /// A file of a log is read again. Returns where it goes on.
    pub(super) fn take(&mut self, origin: Origin) -> Option<Place> {
        let at = self.0.iter().position(|(known, _)| *known == origin)?;
        self.0.remove(at).map(|(_, place)| place)
    }

    /// How far a log was read.
    pub(super) fn get(&self, origin: Origin) -> Option<&Place> {
        let mut known = self.0.iter();
        known.find_map(|(known, place)| (*known == origin).then_some(place))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Origin, &Place)> {
        self.0.iter().map(|(origin, place)| (*origin, place))
    }
}
