//! What an endpoint sees: the graph now and before, who is in reach, who is up.

use std::time::Duration;

use super::{Decision, Mesh, Settled, is_due};
use crate::EndpointId;
use crate::mesh::hold_down;
use crate::mesh::membership::{Change, Sight};
use crate::time::Mono;

/// A view that has stood this long is what everybody has.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The tree before a change is given up after this time, whatever happens.
const SETTLED_AT_MOST: Duration = Duration::from_secs(5);

/// Others may have heard of the last change so much earlier or later than we did: a view that has all but settled here is
/// what they have, and some of them may change it already.
const SKEW: Duration = Duration::from_millis(500);

/// Who is in reach is looked at once for all changes of this time.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// The records of what cannot be reached are kept for this time.
const KEPT: Duration = Duration::from_secs(60);

impl Mesh {
    /// Does something that may change the graph, and keeps the graph that stood before.
    pub(super) fn watch<R>(&mut self, now: Mono, change: impl FnOnce(&mut Self) -> R) -> R {
        let graph_version = self.database.graph_version();
        let nodes_version = self.database.nodes_version();
        // While an older graph is kept that others may still have, no copy is needed of this one.
        let until = self.settled_until();
        let before = until
            .is_none_or(|until| until <= now.after(SKEW))
            .then(|| (self.database.graph().clone(), self.database.resting()));
        let result = change(self);
        let is_graph_change = graph_version != self.database.graph_version();
        if is_graph_change {
            self.database.refresh();
            self.hold_down.share_with(self.database.graph().relays());
            self.fetch_aside(now);
            self.last_change = now;
            #[cfg(feature = "simulation")]
            let before = before.filter(|_| self.sabotage != crate::mesh::Sabotage::OneTree);
            if let Some((graph, resting)) = before {
                // What was given up before is in neither of the two graphs that are in use now.
                self.database.recycle(resting);
                self.settled = Some(Settled { graph, since: now });
                self.settlements += 1;
                let latest = now.after(SETTLED_AT_MOST);
                self.links_may_wait.get_or_insert(latest);
            }
        }
        if is_graph_change || nodes_version != self.database.nodes_version() {
            self.last_news = now;
            self.hash_changed(now);
            self.look.get_or_insert(now.after(LOOK_AFTER));
        }
        result
    }

    /// Returns `true` if no older graph is kept beside the present one.
    #[cfg(feature = "simulation")]
    pub fn is_settled(&self) -> bool {
        self.settled.is_none()
    }

    /// Returns the hashes that all endpoints were found to share since the last call.
    #[cfg(feature = "simulation")]
    pub fn take_agreed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.agreed)
    }

    /// Breaks a rule from now on, to see whether a simulation notices.
    #[cfg(feature = "simulation")]
    pub fn sabotage(&mut self, sabotage: crate::mesh::Sabotage) {
        self.sabotage = sabotage;
        if sabotage == crate::mesh::Sabotage::NoTwoWayCheck {
            self.database.ignore_two_way_check();
        }
        if sabotage == crate::mesh::Sabotage::BelievedNumbers {
            self.database.believe_numbers();
        }
        if sabotage == crate::mesh::Sabotage::BelievedSeals {
            self.database.believe_seals();
        }
    }

    pub(super) fn settled_until(&self) -> Option<Mono> {
        let settled = self.settled.as_ref()?;
        let latest = settled.since.after(SETTLED_AT_MOST);
        Some(self.last_change.after(SETTLED_AFTER).min(latest))
    }

    /// Gives up the tree that stood before, and announces links that have waited for that, or for too long.
    pub(super) fn settle(&mut self, now: Mono) {
        if is_due(self.settled_until(), now) {
            self.settled = None;
            self.settlements += 1;
            self.database.recycle(self.database.resting());
            self.links_may_wait = Some(now);
        }
        if is_due(self.links_may_wait, now) {
            if self.identity.transit && self.neighbours.len() > self.announced.len() {
                self.flush(now);
            }
            let is_settled = self.settled.is_none();
            self.links_may_wait = (!is_settled).then(|| now.after(SETTLED_AT_MOST));
        }
    }

    /// How we see another endpoint; ourselves we do not see.
    fn sight(&self, id: EndpointId) -> Sight {
        let database = &self.database;
        let slot = database.slot(id).filter(|slot| *slot != database.me());
        let Some(slot) = slot else {
            return Sight::Unknown;
        };
        if database.reach().contains(slot) {
            Sight::InReach(database.is_ready(slot))
        } else {
            Sight::OutOfReach
        }
    }

    /// Looks at those of whom something has changed, and says who is up or down because of that.
    pub(super) fn look_around(&mut self, now: Mono) {
        self.look = None;
        let changed = self.database.take_changed();
        let is_all = changed.is_none() || self.membership.looks_at_all(self.ready);
        let mut changed = changed.unwrap_or_default();
        if is_all {
            let known = self.database.ids().chain(self.unreachable.ids());
            changed.extend(known.chain(self.membership.all()));
        }
        for id in &changed {
            if self.sight(*id) == Sight::OutOfReach {
                self.unreachable.begin(*id, now);
                self.needs_link(*id, now);
            } else {
                self.unreachable.end(*id);
            }
        }
        let mut membership = std::mem::take(&mut self.membership);
        let changes = membership.update(changed, |id| self.sight(id), self.ready, now);
        self.membership = membership;
        for change in changes {
            let decision = match change {
                Change::Down(id) => Some(Decision::NodeDown(id)),
                Change::Up(id) => {
                    let slot = self.database.slot(id);
                    let node = slot.and_then(|slot| self.database.node(slot));
                    node.cloned().map(Decision::NodeUp)
                }
            };
            self.decisions.extend(decision);
        }
        self.look_at_guests(now);
        if self.ready && self.membership.has_settling() {
            self.look_for_agreement(now);
        }
    }

    /// Somebody who was up is out of reach: a link with it that has only made paths better, and waits to be announced, is needed now.
    fn needs_link(&mut self, id: EndpointId, now: Mono) {
        let waits = self.neighbours.contains_key(&id) && !self.announced.contains(&id);
        if self.identity.transit && waits && self.membership.up().contains(&id) {
            self.hold_down.changed(hold_down::Change::Loss, now);
        }
    }

    pub(super) fn kept_until(&self) -> Option<Mono> {
        self.unreachable.due(KEPT)
    }

    /// Forgets those that could not be reached for too long.
    pub(super) fn give_up_unreachable(&mut self, now: Mono) {
        let over = self.unreachable.for_so_long(KEPT, now);
        self.watch(now, |mesh| {
            for id in over {
                mesh.unreachable.end(id);
                mesh.database.remove(id);
            }
        });
    }
}
