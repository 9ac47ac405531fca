//! Records that lie (protocol version 2, section 5.1): an endpoint that hears records of its own that it has not
//! announced goes past them.

use super::Mesh;
use crate::mesh::database::Applied;
use crate::mesh::hold_down::Change;
use crate::mesh::newness::{self, Order, order, order_of_versions};
use crate::mesh::record::{Record, Versions};
use crate::time::Mono;
use crate::{EndpointId, Incarnation};

impl Mesh {
    /// Returns `true` if a record is older than what is known here: if it is its endpoint's own, somebody else has told
    /// that, and it is to know.
    pub(super) fn is_behind(&self, record: &Record) -> bool {
        let slot = self.database.slot(record.id());
        let Some(held) = slot.and_then(|slot| self.database.versions(slot)) else {
            return false;
        };
        let there = match record {
            Record::Node(node, _) => Versions {
                incarnation: node.incarnation,
                node: node.version,
                ..held
            },
            Record::Links(links, _) => Versions {
                incarnation: links.incarnation,
                links: links.version,
                ..held
            },
            Record::Changes(changes, _) => Versions {
                incarnation: changes.incarnation,
                links: changes.after,
                ..held
            },
        };
        held.is_newer_than(&there)
    }

    /// Somebody has a record of ours. If it is not what we announced, and as good as ours for the others, we go past it.
    pub(super) fn heard_of_ourselves(&mut self, record: &Record, now: Mono) -> Applied {
        let (incarnation, node, links) = match record {
            Record::Node(node, _) => (node.incarnation, node.version, 0),
            Record::Links(links, _) => (links.incarnation, 0, links.version),
            Record::Changes(changes, _) => (changes.incarnation, 0, changes.after),
        };
        let life = order(incarnation.0, self.identity.incarnation.0);
        let orders = [(node, self.node_version), (links, self.links_version)]
            .map(|(there, here)| order_of_versions(there, here));
        let is_past = orders
            .iter()
            .any(|order| matches!(order, Order::Newer | Order::Absurd));
        let is_ours = match life {
            Order::Older => true,
            Order::Same => !is_past && !self.is_another(record),
            Order::Newer | Order::Absurd => false,
        };
        if is_ours {
            return Applied::Known;
        }
        if let Err(refusal) = self.database.check_own(record) {
            return Applied::Refused(refusal);
        }
        self.counts.contradicted += 1;
        #[cfg(feature = "simulation")]
        if self.sabotage == crate::mesh::Sabotage::MeekOrigins {
            return Applied::Known;
        }
        // One step for each announcement: whoever holds more says so again.
        if self.announce_anew {
            return Applied::Known;
        }
        if life == Order::Newer {
            let incarnation = newness::towards(incarnation.0, self.identity.incarnation.0);
            let incarnation = Incarnation(incarnation);
            self.identity.incarnation = incarnation;
            self.watch(now, |mesh| mesh.database.set_own_incarnation(incarnation));
        }
        // What others would not believe need not be gone past.
        if matches!(life, Order::Newer | Order::Same) {
            if orders[0] == Order::Newer {
                self.node_version = newness::towards(node, self.node_version);
            }
            // A leaf announces none: its node record says so.
            if orders[1] == Order::Newer && self.identity.transit {
                self.links_version = newness::towards(links, self.links_version);
            }
        }
        self.announce_anew = true;
        self.seal_anew();
        self.hold_down.changed(Change::Contradiction, now);
        Applied::Known
    }

    /// Returns `true` if a record has a version that we announced, and says something else.
    fn is_another(&self, record: &Record) -> bool {
        match record {
            // The seal is none of its contents: somebody else can make another of the same ones.
            Record::Node(node, _) => {
                let held = self.database.node(self.database.me());
                node.version == self.node_version && held.is_some_and(|held| **held != **node)
            }
            Record::Links(links, _) => {
                links.version == self.links_version && !links.neighbours.iter().eq(&self.announced)
            }
            Record::Changes(changes, _) => {
                let is_announced = |id: &EndpointId| self.announced.contains(id);
                let is_other = !changes.added.iter().all(is_announced)
                    || changes.removed.iter().any(is_announced);
                is_other && changes.after == self.links_version
            }
        }
    }
}
