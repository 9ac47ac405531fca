//! Floods that somebody waits for (protocol version 2, section 8.1).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::EndpointId;
use crate::time::Mono;

/// How long acknowledgements are waited for.
const DEADLINE: Duration = Duration::from_secs(1);

/// The floods remembered, those under way and those that are over.
const MAX_FLOODS: usize = 1024;

/// A flood: its root, and its number among those of the root.
pub(crate) type Flood = (EndpointId, u64);

#[derive(Debug)]
struct Waiting {
    /// Where the flood came from, and so where the acknowledgement goes; `None` at the root.
    from: Option<EndpointId>,
    children: BTreeSet<EndpointId>,
    /// At the root: those who want to know that they may be announced.
    joiners: Vec<EndpointId>,
    deadline: Mono,
}

/// What follows from the end of a flood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All below have it: tell where it came from.
    Acknowledge(EndpointId, Flood),
    /// All have it, or time is up: tell these that they are ready.
    Ready {
        /// The flood's number here.
        number: u64,
        /// Those that joined.
        joiners: Vec<EndpointId>,
        /// Whether all have said that they have it.
        is_acknowledged: bool,
    },
}

/// The floods under way.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    floods: BTreeMap<Flood, Waiting>,
    /// The deadlines in the order in which they come, perhaps with some of floods that are over.
    deadlines: VecDeque<(Mono, Flood)>,
    seen: BTreeSet<Flood>,
    order: VecDeque<Flood>,
    /// Children that did not answer in time.
    pub(crate) laggards: u64,
}

impl Barrier {
    /// Returns `true` if a flood was here before.
    pub(crate) fn has_seen(&self, flood: Flood) -> bool {
        self.seen.contains(&flood)
    }

    /// Waits for the children of a flood. Without any the outcome is there at once.
    pub(crate) fn begin(
        &mut self,
        flood: Flood,
        from: Option<EndpointId>,
        children: impl IntoIterator<Item = EndpointId>,
        joiners: Vec<EndpointId>,
        now: Mono,
    ) -> Option<Outcome> {
        if self.order.len() >= MAX_FLOODS
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
            self.floods.remove(&oldest);
            self.trim();
        }
        self.seen.insert(flood);
        self.order.push_back(flood);
        let waiting = Waiting {
            from,
            children: children.into_iter().collect(),
            joiners,
            deadline: now.after(DEADLINE),
        };
        if waiting.children.is_empty() {
            return Some(waiting.outcome(flood, true));
        }
        self.deadlines.push_back((waiting.deadline, flood));
        self.floods.insert(flood, waiting);
        None
    }

    /// A child has acknowledged a flood.
    pub(crate) fn acknowledged(&mut self, flood: Flood, child: EndpointId) -> Option<Outcome> {
        let waiting = self.floods.get_mut(&flood)?;
        waiting.children.remove(&child);
        if waiting.children.is_empty() {
            self.finish(flood)
        } else {
            None
        }
    }

    /// The link to a neighbour is gone: nothing waits for it, and nobody there waits for us.
    pub(crate) fn link_down(&mut self, neighbour: EndpointId) -> Vec<Outcome> {
        self.floods
            .retain(|_, waiting| waiting.from != Some(neighbour));
        self.trim();
        let floods: Vec<Flood> = self.floods.keys().copied().collect();
        let outcomes = floods
            .into_iter()
            .filter_map(|flood| self.acknowledged(flood, neighbour));
        outcomes.collect()
    }

    /// Floods whose time is up: at the root the wait is over, elsewhere nobody waits any longer.
    pub(crate) fn expired(&mut self, now: Mono) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some((deadline, flood)) = self.deadlines.front().copied()
            && deadline <= now
        {
            self.deadlines.pop_front();
            if let Some(waiting) = self.floods.remove(&flood)
                && waiting.from.is_none()
            {
                self.laggards += waiting.children.len() as u64;
                outcomes.push(waiting.outcome(flood, false));
            }
            self.trim();
        }
        outcomes
    }

    /// When [`Barrier::expired`] has something to do.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Drops the deadlines of floods that are over, up to the first that is not.
    fn trim(&mut self) {
        while let Some((deadline, flood)) = self.deadlines.front() {
            let waiting = self.floods.get(flood);
            if waiting.is_some_and(|waiting| waiting.deadline == *deadline) {
                break;
            }
            self.deadlines.pop_front();
        }
    }

    /// The floods remembered.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    fn finish(&mut self, flood: Flood) -> Option<Outcome> {
        let waiting = self.floods.remove(&flood)?;
        self.trim();
        Some(waiting.outcome(flood, true))
    }
}

impl Waiting {
    fn outcome(self, flood: Flood, is_acknowledged: bool) -> Outcome {
        match self.from {
            Some(from) => Outcome::Acknowledge(from, flood),
            None => Outcome::Ready {
                number: flood.1,
                joiners: self.joiners,
                is_acknowledged,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    #[test]
    fn a_flood_ends_when_all_children_have_it_or_are_gone() {
        let mut barrier = Barrier::default();
        let flood = (id(9), 1);
        let begun = barrier.begin(flood, Some(id(1)), [id(2), id(3)], Vec::new(), Mono(0));
        assert!(begun.is_none() && barrier.has_seen(flood));
        assert_eq!(barrier.acknowledged(flood, id(7)), None);
        assert_eq!(barrier.acknowledged(flood, id(2)), None);
        let outcome = Outcome::Acknowledge(id(1), flood);
        assert_eq!(barrier.link_down(id(3)), [outcome]);
        assert_eq!(barrier.acknowledged(flood, id(3)), None);
    }

    #[test]
    fn the_root_waits_no_longer_than_the_deadline() {
        let mut barrier = Barrier::default();
        barrier.begin((id(9), 1), None, [id(2)], vec![id(5)], Mono(0));
        barrier.begin((id(8), 1), Some(id(1)), [id(2)], Vec::new(), Mono(0));
        assert!(barrier.expired(Mono(1)).is_empty());
        let late = Mono(0).after(DEADLINE);
        assert_eq!(barrier.due(), Some(late));
        let ready = Outcome::Ready {
            number: 1,
            joiners: vec![id(5)],
            is_acknowledged: false,
        };
        assert_eq!(barrier.expired(late), [ready]);
        assert_eq!((barrier.laggards, barrier.due()), (1, None));
    }

    #[test]
    fn the_floods_remembered_are_bounded() {
        let mut barrier = Barrier::default();
        for number in 0..10_000 {
            barrier.begin((id(9), number), Some(id(1)), [id(2)], Vec::new(), Mono(0));
        }
        assert_eq!(
            (barrier.len(), barrier.floods.len()),
            (MAX_FLOODS, MAX_FLOODS)
        );
        assert!(!barrier.has_seen((id(9), 1)) && barrier.has_seen((id(9), 9_999)));
    }
}
