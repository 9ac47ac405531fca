//! What an endpoint sees: the graph now and before, who is in reach, who is up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Decision, Mesh, Settled};
use crate::EndpointId;
use crate::mesh::membership::Change;
use crate::mesh::tree::Tree;
use crate::time::Mono;

/// A view that stood so long is what everybody has.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The tree before a change is given up after this time, whatever happens.
const SETTLED_AT_MOST: Duration = Duration::from_secs(5);

/// Who is in reach is looked at once for all changes of this time.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// The records of what cannot be reached are kept for this time.
const KEPT: Duration = Duration::from_secs(60);

impl Mesh {
    /// Does something that may change the graph, and keeps the graph that stood before.
    pub(super) fn watch<R>(&mut self, now: Mono, change: impl FnOnce(&mut Self) -> R) -> R {
        let graph_version = self.database.graph_version();
        let nodes_version = self.database.nodes_version();
        // While an older graph is kept no copy is needed of this one.
        let before = self
            .settled
            .is_none()
            .then(|| self.database.graph().clone());
        let result = change(self);
        let is_graph_change = graph_version != self.database.graph_version();
        if is_graph_change {
            self.last_change = now;
            #[cfg(test)]
            let before =
                before.filter(|_| self.sabotage != crate::mesh::simulation::Sabotage::OneTree);
            if let Some(graph) = before {
                self.settled = Some(Settled { graph, since: now });
                self.settlements += 1;
            }
        }
        if is_graph_change || nodes_version != self.database.nodes_version() {
            self.note_news(now);
            self.look.get_or_insert(now.after(LOOK_AFTER));
        }
        result
    }

    pub(super) fn note_news(&mut self, now: Mono) {
        self.news += 1;
        self.last_news = now;
    }

    #[cfg(test)]
    pub(in crate::mesh) fn is_settled(&self) -> bool {
        self.settled.is_none()
    }

    #[cfg(test)]
    pub(in crate::mesh) fn sabotage(&mut self, sabotage: crate::mesh::simulation::Sabotage) {
        self.sabotage = sabotage;
        if sabotage == crate::mesh::simulation::Sabotage::NoTwoWayCheck {
            self.database.ignore_two_way_check();
        }
    }

    pub(super) fn settled_until(&self) -> Option<Mono> {
        let settled = self.settled.as_ref()?;
        let latest = settled.since.after(SETTLED_AT_MOST);
        Some(self.last_change.after(SETTLED_AFTER).min(latest))
    }

    /// The slots that can be reached from here.
    pub(in crate::mesh) fn reach(&mut self) -> Arc<[u32]> {
        let version = self.database.graph_version();
        if let Some((known, reach)) = &self.reach
            && *known == version
        {
            return reach.clone();
        }
        let tree = Tree::new(self.database.graph(), self.database.me());
        let reach: Arc<[u32]> = tree.reached().into();
        self.reach = Some((version, reach.clone()));
        reach
    }

    /// Looks who is in reach, and says who is up or down because of that.
    pub(super) fn look_around(&mut self, now: Mono) {
        self.look = None;
        let reach = self.reach();
        let me = self.database.me();
        let others = reach.iter().filter(|slot| **slot != me);
        let reachable: BTreeMap<EndpointId, bool> = others
            .filter_map(|slot| self.database.node(*slot))
            .map(|node| (node.id, node.ready))
            .collect();
        let graph = self.database.graph();
        let all = (0..graph.slots()).filter_map(|slot| graph.id(u32::try_from(slot).ok()?));
        let mut unreachable = BTreeMap::new();
        for id in all.filter(|id| *id != self.identity.id && !reachable.contains_key(id)) {
            let since = self.unreachable.get(&id).copied().unwrap_or(now);
            unreachable.insert(id, since);
        }
        self.unreachable = unreachable;
        let database = &self.database;
        self.membership
            .keep_joining(|id| database.slot(id).is_some());
        for change in self.membership.update(&reachable, self.ready, now) {
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
    }

    pub(super) fn kept_until(&self) -> Option<Mono> {
        let since = self.unreachable.values().min()?;
        Some(since.after(KEPT))
    }

    /// Forgets those that could not be reached for too long.
    pub(super) fn give_up_unreachable(&mut self, now: Mono) {
        let all = self.unreachable.iter();
        let over = all.filter(|(_, since)| now.since(**since) >= KEPT);
        let over: Vec<EndpointId> = over.map(|(id, _)| *id).collect();
        self.watch(now, |mesh| {
            for id in over {
                mesh.unreachable.remove(&id);
                mesh.database.remove(id);
            }
        });
    }
}
