//! What a state remembers of the writers.

use std::collections::HashMap;

use super::MAX_WRITERS;
use crate::op::Writer;

/// No writer's place.
const NONE: u32 = u32::MAX;

/// The numbers of the last commands of writers, in the order in which they wrote last.
#[derive(Debug, Clone)]
pub(super) struct Writers {
    places: HashMap<Writer, u32>,
    known: Vec<Known>,
    oldest: u32,
    newest: u32,
}

/// A writer, linked with those that wrote before and after it.
#[derive(Debug, Clone, Copy)]
struct Known {
    writer: Writer,
    /// The number of the last command applied.
    number: u64,
    older: u32,
    newer: u32,
}

impl Default for Writers {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            known: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl Writers {
    /// The number of a writer's last command, if it is remembered.
    pub(super) fn last_of(&self, writer: Writer) -> Option<u64> {
        self.place_of(writer)
            .and_then(|place| self.number_at(place))
    }

    /// Notes a writer's command, unless its number is not above that of the last. Returns `true` if it was noted.
    pub(super) fn advance(&mut self, writer: Writer, number: u64) -> bool {
        let place = self.place_of(writer);
        let last = place.and_then(|place| self.number_at(place));
        if last.is_some_and(|last| number <= last) {
            return false;
        }
        let place = match place {
            Some(place) => {
                if place != self.newest {
                    self.unlink(place);
                    self.link(place);
                }
                place
            }
            None => self.add(writer),
        };
        if let Some(known) = self.known.get_mut(place as usize) {
            known.number = number;
        }
        true
    }

    /// A writer's place. Most commands come in batches of one writer.
    fn place_of(&self, writer: Writer) -> Option<u32> {
        let newest = self.known.get(self.newest as usize);
        if newest.is_some_and(|newest| newest.writer == writer) {
            return Some(self.newest);
        }
        self.places.get(&writer).copied()
    }

    fn number_at(&self, place: u32) -> Option<u64> {
        self.known.get(place as usize).map(|known| known.number)
    }

    /// Adds a writer as the newest, and forgets the oldest if there are too many.
    fn add(&mut self, writer: Writer) -> u32 {
        let known = Known {
            writer,
            number: 0,
            older: NONE,
            newer: NONE,
        };
        let place = if self.known.len() < MAX_WRITERS {
            self.known.push(known);
            u32::try_from(self.known.len() - 1).expect("few writers")
        } else {
            let place = self.oldest;
            self.unlink(place);
            let forgotten = std::mem::replace(&mut self.known[place as usize], known);
            self.places.remove(&forgotten.writer);
            place
        };
        self.places.insert(writer, place);
        self.link(place);
        place
    }

    fn unlink(&mut self, place: u32) {
        let Known { older, newer, .. } = self.known[place as usize];
        match self.known.get_mut(older as usize) {
            Some(known) => known.newer = newer,
            None => self.oldest = newer,
        }
        match self.known.get_mut(newer as usize) {
            Some(known) => known.older = older,
            None => self.newest = older,
        }
    }

    fn link(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        match self.known.get_mut(before as usize) {
            Some(known) => known.newer = place,
            None => self.oldest = place,
        }
        let known = &mut self.known[place as usize];
        (known.older, known.newer) = (before, NONE);
    }

    /// Writers and their numbers, the one that wrote least lately first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (Writer, u64)> {
        let known = |place: u32| self.known.get(place as usize);
        let all = std::iter::successors(known(self.oldest), move |last| known(last.newer));
        all.map(|known| (known.writer, known.number))
    }
}

impl PartialEq for Writers {
    fn eq(&self, other: &Self) -> bool {
        self.in_order().eq(other.in_order())
    }
}

impl Eq for Writers {}

#[cfg(test)]
mod tests {
    use muster_test_support::Random;
    use muster_wire::EndpointId;

    use super::*;

    fn writer(instance: u64) -> Writer {
        Writer {
            endpoint: EndpointId::from_random([7; 16]),
            instance,
        }
    }

    #[test]
    fn writers_stand_in_the_order_in_which_they_wrote_last() {
        let mut random = Random::new(1);
        let mut writers = Writers::default();
        let mut expected: Vec<(Writer, u64)> = Vec::new();
        for _ in 0..2000 {
            let (of, number) = (writer(random.number(12)), random.number(100));
            let known = expected.iter().position(|(known, _)| *known == of);
            let last = known.map(|at| expected[at].1);
            assert_eq!(writers.last_of(of), last);
            let is_new = last.is_none_or(|last| number > last);
            assert_eq!(writers.advance(of, number), is_new);
            if is_new {
                known.map(|at| expected.remove(at));
                expected.push((of, number));
            }
            assert!(writers.in_order().eq(expected.iter().copied()));
        }
    }

    #[test]
    fn the_writer_that_wrote_least_lately_is_forgotten_first() {
        let mut writers = Writers::default();
        let all = MAX_WRITERS as u64;
        for number in 0..all {
            assert!(writers.advance(writer(number), 1));
        }
        assert!(writers.advance(writer(0), 2));
        for number in all..all + 10 {
            assert!(writers.advance(writer(number), 1));
        }
        assert_eq!(writers.known.len(), MAX_WRITERS);
        assert_eq!(writers.places.len(), MAX_WRITERS);
        assert_eq!(writers.last_of(writer(0)), Some(2));
        for forgotten in 1..=10 {
            assert_eq!(writers.last_of(writer(forgotten)), None);
        }
        assert_eq!(writers.last_of(writer(11)), Some(1));
        assert_eq!(writers.in_order().count(), MAX_WRITERS);
    }
}
