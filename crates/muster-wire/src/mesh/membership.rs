//! Who is up, as one endpoint sees it (protocol version 2, section 8).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::EndpointId;
use crate::time::Mono;

/// How long an endpoint that did not join before our eyes must be in reach before it is up: until it
/// surely knows of us as well. Announcements wait a second at most, and one may follow on another.
const SETTLING: Duration = Duration::from_secs(3);

/// An endpoint that is not ready so long after the flood that made it known has failed to join here.
const JOINING: Duration = Duration::from_secs(3);

/// A change of who is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Down(EndpointId),
    Up(EndpointId),
}

/// The endpoints that are up, and those that soon may be.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    up: BTreeSet<EndpointId>,
    /// The flood that makes them known has come by here: they are up when they are ready. With
    /// when that was, and whether they were in reach since.
    joining: BTreeMap<EndpointId, (Mono, bool)>,
    /// In reach, ready, and since when.
    settling: BTreeMap<EndpointId, Mono>,
    /// Neighbours that have shown to have what we have, ourselves included.
    proven: BTreeSet<EndpointId>,
    was_ready: bool,
    /// Those who took part in the flood that made us known.
    witnesses: BTreeSet<EndpointId>,
}

impl Membership {
    /// These have acknowledged the flood that makes us known, when it is acknowledged at all.
    pub(crate) fn witnessed_by(&mut self, all: BTreeSet<EndpointId>) {
        self.witnesses = all;
    }

    /// The flood that makes an endpoint known has come by.
    pub(crate) fn joins(&mut self, id: EndpointId, now: Mono) {
        self.joining.entry(id).or_insert((now, false)).0 = now;
    }

    /// A neighbour has what we have: it need not settle. Says whether that makes a difference.
    pub(crate) fn proves(&mut self, id: EndpointId) -> bool {
        !self.up.contains(&id) && self.proven.insert(id)
    }

    /// Forgets joining endpoints that are no longer known.
    pub(crate) fn keep_joining(&mut self, is_known: impl Fn(EndpointId) -> bool) {
        self.joining.retain(|id, _| is_known(*id));
    }

    /// Looks at all endpoints in reach, each with whether it is ready; `ready` says whether we are.
    pub(crate) fn update(
        &mut self,
        reachable: &BTreeMap<EndpointId, bool>,
        ready: bool,
        now: Mono,
    ) -> Vec<Change> {
        let gone = self.up.iter().filter(|id| !reachable.contains_key(id));
        let mut changes: Vec<Change> = gone.map(|id| Change::Down(*id)).collect();
        self.up.retain(|id| reachable.contains_key(id));
        self.joining.retain(|id, (since, was_in_reach)| {
            let is_in_reach = reachable.contains_key(id);
            let is_fresh = now.since(*since) < JOINING;
            let stays = is_fresh && (is_in_reach || !*was_in_reach);
            *was_in_reach |= is_in_reach;
            stays
        });
        self.settling.retain(|id, _| reachable.contains_key(id));
        self.proven.retain(|id| reachable.contains_key(id));
        // Whoever becomes ready has been through the barrier, and with it those who were in reach then.
        let has_joined = ready && !self.was_ready;
        self.was_ready = ready;
        let witnesses = if has_joined {
            std::mem::take(&mut self.witnesses)
        } else {
            BTreeSet::new()
        };
        for (id, is_ready) in reachable {
            if self.up.contains(id) {
                continue;
            }
            if !is_ready {
                continue;
            }
            let has_witnessed = has_joined && witnesses.contains(id);
            let is_known = self.joining.contains_key(id) || self.proven.contains(id);
            let has_settled = has_witnessed || is_known || {
                let since = *self.settling.entry(*id).or_insert(now);
                now.since(since) >= SETTLING
            };
            if ready && has_settled {
                self.joining.remove(id);
                self.settling.remove(id);
                self.proven.remove(id);
                self.up.insert(*id);
                changes.push(Change::Up(*id));
            }
        }
        changes
    }

    /// When somebody will have been in reach for long enough.
    pub(crate) fn due(&self) -> Option<Mono> {
        if !self.was_ready {
            return None;
        }
        self.settling
            .values()
            .map(|since| since.after(SETTLING))
            .min()
    }

    /// Those that are up.
    pub(crate) fn up(&self) -> &BTreeSet<EndpointId> {
        &self.up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    #[test]
    fn joiners_are_up_when_ready_and_others_when_they_have_settled() {
        let at = |millis: u64| Mono(millis * 1_000_000);
        let mut membership = Membership::default();
        let view = |entries: &[(u8, bool)]| entries.iter().map(|(n, r)| (id(*n), *r)).collect();
        assert_eq!(membership.update(&view(&[(2, true)]), false, at(0)), []);
        assert_eq!(membership.due(), None);
        membership.witnessed_by([id(2)].into());
        assert_eq!(
            membership.update(&view(&[(2, true)]), true, at(1)),
            [Change::Up(id(2))]
        );
        // A joiner.
        membership.joins(id(3), at(2));
        assert_eq!(
            membership.update(&view(&[(2, true), (3, false)]), true, at(2)),
            []
        );
        let both = view(&[(2, true), (3, true)]);
        assert_eq!(membership.update(&both, true, at(3)), [Change::Up(id(3))]);
        // One that is gone and back.
        assert_eq!(
            membership.update(&view(&[(3, true)]), true, at(4)),
            [Change::Down(id(2))]
        );
        assert_eq!(membership.update(&both, true, at(5)), []);
        assert_eq!(membership.due(), Some(at(3005)));
        assert_eq!(
            membership.update(&both, true, at(3005)),
            [Change::Up(id(2))]
        );
        // A neighbour that is gone and back, and has what we have.
        let gone = view(&[(3, true)]);
        assert_eq!(
            membership.update(&gone, true, at(4000)),
            [Change::Down(id(2))]
        );
        assert!(membership.proves(id(2)));
        assert!(!membership.proves(id(3)));
        assert_eq!(
            membership.update(&both, true, at(4001)),
            [Change::Up(id(2))]
        );
    }
}
