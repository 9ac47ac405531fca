//! Since when something holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::EndpointId;
use crate::time::Mono;

/// Since when something holds for each of some endpoints. What is due next is known without looking at
/// all of them.
#[derive(Debug, Default)]
pub(crate) struct HeldSince {
    times: BTreeMap<EndpointId, Mono>,
    order: BTreeSet<(Mono, EndpointId)>,
}

impl HeldSince {
    /// It holds from now on, if it did not before.
    pub(crate) fn begin(&mut self, id: EndpointId, now: Mono) {
        if !self.times.contains_key(&id) {
            self.restart(id, now);
        }
    }

    /// It holds from now on, whatever was before.
    pub(crate) fn restart(&mut self, id: EndpointId, now: Mono) {
        if let Some(before) = self.times.insert(id, now) {
            self.order.remove(&(before, id));
        }
        self.order.insert((now, id));
    }

    /// It holds no longer.
    pub(crate) fn end(&mut self, id: EndpointId) {
        if let Some(before) = self.times.remove(&id) {
            self.order.remove(&(before, id));
        }
    }

    /// Since when it holds.
    pub(crate) fn get(&self, id: EndpointId) -> Option<Mono> {
        self.times.get(&id).copied()
    }

    /// Returns `true` if it holds.
    pub(crate) fn contains(&self, id: EndpointId) -> bool {
        self.times.contains_key(&id)
    }

    /// When it will have held for so long for the first of them.
    pub(crate) fn due(&self, span: Duration) -> Option<Mono> {
        let (since, _) = self.order.first()?;
        Some(since.after(span))
    }

    /// Those for which it has held for so long.
    pub(crate) fn for_so_long(&self, span: Duration, now: Mono) -> Vec<EndpointId> {
        let over = self.order.iter();
        let over = over.take_while(|(since, _)| now.since(*since) >= span);
        over.map(|(_, id)| *id).collect()
    }

    /// Those for which it does not hold for so long yet, the latest first.
    pub(crate) fn for_less(
        &self,
        span: Duration,
        now: Mono,
    ) -> impl Iterator<Item = EndpointId> + '_ {
        let recent = self.order.iter().rev();
        let recent = recent.take_while(move |(since, _)| now.since(*since) < span);
        recent.map(|(_, id)| *id)
    }

    /// All, in ascending order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.times.keys().copied()
    }

    /// The number of endpoints for which it holds.
    pub(crate) fn len(&self) -> usize {
        self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_due_first() {
        let id = |number: u8| EndpointId::from_random([number; 16]);
        let span = Duration::from_nanos(10);
        let mut since = HeldSince::default();
        since.begin(id(1), Mono(5));
        since.begin(id(2), Mono(3));
        since.begin(id(2), Mono(9));
        assert_eq!((since.len(), since.due(span)), (2, Some(Mono(13))));
        assert_eq!(since.for_so_long(span, Mono(14)), [id(2)]);
        assert!(since.for_less(span, Mono(14)).eq([id(1)]));
        since.restart(id(2), Mono(9));
        assert_eq!(since.for_so_long(span, Mono(19)), [id(1), id(2)]);
        since.end(id(1));
        assert!(!since.contains(id(1)) && since.ids().eq([id(2)]));
        assert_eq!(
            (since.get(id(2)), since.due(span)),
            (Some(Mono(9)), Some(Mono(19)))
        );
    }
}
