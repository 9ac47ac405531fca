//! Who is up, as one endpoint sees it (protocol version 2, section 8).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::EndpointId;
use crate::mesh::held_since::HeldSince;
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

/// How one endpoint sees another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It has no record of it.
    Unknown,
    /// It cannot reach it.
    OutOfReach,
    /// It can; with whether the other is ready.
    InReach(bool),
}

/// The endpoints that are up, and those that soon may be.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    up: BTreeSet<EndpointId>,
    /// The flood that makes them known has come by here: they are up when they are ready. With
    /// when that was.
    joining: HeldSince,
    /// Those of them that were in reach since.
    seen: BTreeSet<EndpointId>,
    /// Those to look at next time, because the flood has come by.
    noted: BTreeSet<EndpointId>,
    /// In reach, ready, and since when.
    settling: HeldSince,
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
        self.joining.restart(id, now);
        self.noted.insert(id);
    }

    /// Returns `true` if the flood that makes an endpoint known has come by, and it is not up yet.
    pub(crate) fn awaits(&self, id: EndpointId) -> bool {
        self.joining.contains(id)
    }

    /// A neighbour has what we have: it need not settle. Says whether that makes a difference.
    pub(crate) fn proves(&mut self, id: EndpointId) -> bool {
        let is_new = !self.up.contains(&id) && self.proven.insert(id);
        if is_new {
            self.noted.insert(id);
        }
        is_new
    }

    /// All that are in reach have what we have: none of them need settle. Says whether that makes a
    /// difference.
    pub(crate) fn proves_all(&mut self) -> bool {
        let settling: Vec<EndpointId> = self.settling.ids().collect();
        let mut is_any = false;
        for id in settling {
            is_any |= self.proves(id);
        }
        is_any
    }

    /// Returns `true` if somebody is in reach and ready, and may not know us yet.
    pub(crate) fn has_settling(&self) -> bool {
        self.settling.len() > 0
    }

    /// Returns `true` if the next look is to be at all endpoints: we have just become ready.
    pub(crate) fn looks_at_all(&self, ready: bool) -> bool {
        ready && !self.was_ready
    }

    /// All that are up or may be.
    pub(crate) fn all(&self) -> impl Iterator<Item = EndpointId> + '_ {
        let up = self.up.iter().copied();
        up.chain(self.joining.ids()).chain(self.settling.ids())
    }

    /// Looks at those of whom something has changed; `ready` says whether we are.
    pub(crate) fn update(
        &mut self,
        mut changed: BTreeSet<EndpointId>,
        sight: impl Fn(EndpointId) -> Sight,
        ready: bool,
        now: Mono,
    ) -> Vec<Change> {
        changed.append(&mut self.noted);
        changed.extend(self.settling.for_so_long(SETTLING, now));
        for id in self.joining.for_so_long(JOINING, now) {
            self.end_joining(id);
            changed.insert(id);
        }
        let mut changes = Vec::new();
        for id in &changed {
            match sight(*id) {
                Sight::InReach(ready) => {
                    if self.joining.contains(*id) {
                        self.seen.insert(*id);
                    }
                    if !ready {
                        // No honest endpoint takes it back: one that does must not be looked at for ever.
                        self.settling.end(*id);
                    }
                }
                gone => {
                    if self.up.remove(id) {
                        changes.push(Change::Down(*id));
                    }
                    self.settling.end(*id);
                    self.proven.remove(id);
                    if gone == Sight::Unknown || self.seen.contains(id) {
                        self.end_joining(*id);
                    }
                }
            }
        }
        // Whoever becomes ready has been through the barrier, and with it those who were in reach then.
        let has_joined = self.looks_at_all(ready);
        self.was_ready = ready;
        let witnesses = if has_joined {
            std::mem::take(&mut self.witnesses)
        } else {
            BTreeSet::new()
        };
        for id in changed {
            if sight(id) != Sight::InReach(true) || self.up.contains(&id) {
                continue;
            }
            let is_known = self.joining.contains(id) || self.proven.contains(&id);
            let has_settled = witnesses.contains(&id) || is_known || {
                self.settling.begin(id, now);
                let since = self.settling.get(id).unwrap_or(now);
                now.since(since) >= SETTLING
            };
            if ready && has_settled {
                self.end_joining(id);
                self.settling.end(id);
                self.proven.remove(&id);
                self.up.insert(id);
                changes.push(Change::Up(id));
            }
        }
        changes
    }

    fn end_joining(&mut self, id: EndpointId) {
        self.joining.end(id);
        self.seen.remove(&id);
    }

    /// When somebody will have been in reach for long enough.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.settling.due(SETTLING).filter(|_| self.was_ready)
    }

    /// Those that are up.
    pub(crate) fn up(&self) -> &BTreeSet<EndpointId> {
        &self.up
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> EndpointId {
        EndpointId::from_random([number; 16])
    }

    /// The same in the plainest way: everybody is looked at every time.
    #[derive(Default)]
    struct Plain {
        up: BTreeSet<EndpointId>,
        joining: BTreeMap<EndpointId, (Mono, bool)>,
        settling: BTreeMap<EndpointId, Mono>,
        was_ready: bool,
        witnesses: BTreeSet<EndpointId>,
    }

    impl Plain {
        fn update(
            &mut self,
            sights: &BTreeMap<EndpointId, Sight>,
            ready: bool,
            now: Mono,
        ) -> Vec<Change> {
            let reachable: BTreeMap<EndpointId, bool> = sights
                .iter()
                .filter_map(|(id, sight)| match sight {
                    Sight::InReach(ready) => Some((*id, *ready)),
                    _ => None,
                })
                .collect();
            self.joining
                .retain(|id, _| sights.get(id).is_some_and(|s| *s != Sight::Unknown));
            let gone = self.up.iter().filter(|id| !reachable.contains_key(id));
            let mut changes: Vec<Change> = gone.map(|id| Change::Down(*id)).collect();
            self.up.retain(|id| reachable.contains_key(id));
            self.joining.retain(|id, (since, was_in_reach)| {
                let is_in_reach = reachable.contains_key(id);
                let stays = now.since(*since) < JOINING && (is_in_reach || !*was_in_reach);
                *was_in_reach |= is_in_reach;
                stays
            });
            self.settling
                .retain(|id, _| reachable.get(id).copied().unwrap_or(false));
            let has_joined = ready && !self.was_ready;
            self.was_ready = ready;
            for (id, _) in reachable.iter().filter(|(_, is_ready)| **is_ready) {
                if self.up.contains(id) {
                    continue;
                }
                let has_witnessed = has_joined && self.witnesses.contains(id);
                let has_settled = has_witnessed || self.joining.contains_key(id) || {
                    let since = *self.settling.entry(*id).or_insert(now);
                    now.since(since) >= SETTLING
                };
                if ready && has_settled {
                    self.joining.remove(id);
                    self.settling.remove(id);
                    self.up.insert(*id);
                    changes.push(Change::Up(*id));
                }
            }
            changes
        }

        fn due(&self) -> Option<Mono> {
            let settled = self.settling.values().map(|since| since.after(SETTLING));
            settled.min().filter(|_| self.was_ready)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        See(u8, u8),
        Join(u8),
        Ready,
        Pass(u64),
        Look,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6u8, 0..4u8).prop_map(|(number, sight)| Step::See(number, sight)),
            2 => (0..6u8).prop_map(Step::Join),
            1 => Just(Step::Ready),
            2 => (1..4000u64).prop_map(Step::Pass),
            4 => Just(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn looking_at_what_changed_is_enough(steps in prop::collection::vec(step(), 0..60)) {
            let mut membership = Membership::default();
            let mut plain = Plain::default();
            let witnesses: BTreeSet<EndpointId> = [id(1), id(2)].into();
            plain.witnesses = witnesses.clone();
            membership.witnessed_by(witnesses);
            let mut sights = BTreeMap::new();
            let mut changed = BTreeSet::new();
            let (mut ready, mut now) = (false, Mono(0));
            for step in steps {
                match step {
                    Step::See(number, sight) => {
                        let sight = [
                            Sight::Unknown,
                            Sight::OutOfReach,
                            Sight::InReach(false),
                            Sight::InReach(true),
                        ][sight as usize];
                        sights.insert(id(number), sight);
                        changed.insert(id(number));
                    }
                    Step::Join(number) => {
                        membership.joins(id(number), now);
                        plain.joining.entry(id(number)).or_insert((now, false)).0 = now;
                    }
                    Step::Ready => ready = true,
                    Step::Pass(millis) => now = now.after(Duration::from_millis(millis)),
                    Step::Look => {
                        let mut looked = std::mem::take(&mut changed);
                        if membership.looks_at_all(ready) {
                            looked.extend(sights.keys());
                            looked.extend(membership.all().collect::<Vec<_>>());
                        }
                        let sight = |id| sights.get(&id).copied().unwrap_or(Sight::Unknown);
                        let changes = membership.update(looked, sight, ready, now);
                        prop_assert_eq!(changes, plain.update(&sights, ready, now));
                        prop_assert_eq!(membership.up(), &plain.up);
                        prop_assert_eq!(membership.due(), plain.due());
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_is_due_of_one_that_is_not_ready_any_more() {
        let mut membership = Membership::default();
        let mut look = |is_ready| {
            let sight = |_| Sight::InReach(is_ready);
            let changes = membership.update([id(2)].into(), sight, true, Mono(0));
            (changes, membership.due())
        };
        assert_eq!(look(true), (vec![], Some(Mono(0).after(SETTLING))));
        assert_eq!(look(false), (vec![], None));
    }

    #[test]
    fn joiners_are_up_when_ready_and_others_when_they_have_settled() {
        let at = |millis: u64| Mono(millis * 1_000_000);
        let mut membership = Membership::default();
        let mut look = |entries: &[(u8, bool)], ready, now| {
            let view: BTreeMap<EndpointId, bool> =
                entries.iter().map(|(n, r)| (id(*n), *r)).collect();
            let sight = |id| {
                view.get(&id)
                    .map_or(Sight::OutOfReach, |ready| Sight::InReach(*ready))
            };
            let changes = membership.update([id(2), id(3)].into(), sight, ready, now);
            // What is to come before the next look.
            if changes.is_empty() && !ready {
                membership.witnessed_by([id(2)].into());
            }
            if changes == [Change::Up(id(2))] {
                membership.joins(id(3), at(2));
            }
            (changes, membership.due())
        };
        assert_eq!(look(&[(2, true)], false, at(0)), (vec![], None));
        assert_eq!(look(&[(2, true)], true, at(1)).0, [Change::Up(id(2))]);
        // A joiner.
        assert_eq!(look(&[(2, true), (3, false)], true, at(2)).0, []);
        let both = [(2, true), (3, true)];
        assert_eq!(look(&both, true, at(3)).0, [Change::Up(id(3))]);
        // One that is gone and back.
        assert_eq!(look(&[(3, true)], true, at(4)).0, [Change::Down(id(2))]);
        assert_eq!(look(&both, true, at(5)), (vec![], Some(at(3005))));
        assert_eq!(look(&both, true, at(3005)).0, [Change::Up(id(2))]);
    }
}
