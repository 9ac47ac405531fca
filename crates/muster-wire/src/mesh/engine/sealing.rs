//! Our own records and their seals (protocol version 2, section 5.2).

use std::sync::Arc;

use super::Mesh;
use crate::mesh::hold_down::Change;
use crate::mesh::record::{NodeRecord, Record};
use crate::mesh::seal::{self, NodeSeal, Seals};
use crate::time::{Mono, Wall};

impl Mesh {
    /// Sets the time at which the certificates of records that come from now on must be valid. Without seals it is not
    /// asked for.
    pub fn set_wall(&mut self, wall: Wall) {
        self.database.set_wall(wall);
    }

    /// Seals from now on with another key, as after a certificate was renewed: both records of ours are announced anew,
    /// whole, since a change says nothing to whoever has only heard of the new certificate.
    pub fn renew_seals(&mut self, seals: Arc<dyn Seals>, now: Mono) {
        self.database.set_seals(Arc::clone(&seals));
        self.config.seals = Some(seals);
        self.announce_anew = true;
        self.hold_down.changed(Change::News, now);
    }

    /// The seal of a node record of ours.
    pub(super) fn seal_of(&self, node: &NodeRecord) -> Option<Arc<NodeSeal>> {
        let seals = self.config.seals.as_ref()?;
        Some(Arc::new(NodeSeal {
            credentials: Arc::clone(seals.credentials()),
            signature: seals.sign(&seal::node_bytes(node, &[]))?,
            unknown: Vec::new(),
        }))
    }

    /// Seals our link record as it is announced now.
    pub(super) fn seal_links(&mut self) {
        if let Some(seals) = &self.config.seals {
            let links = self.own_links();
            self.links_seal = links.and_then(|links| seals.sign(&seal::link_bytes(&links)));
        }
    }

    /// Seals both records as they would be told now to whoever asks: their numbers have changed.
    pub(super) fn seal_anew(&mut self) {
        if self.config.seals.is_none() {
            return;
        }
        if let Some(node) = self.database.node(self.database.me()) {
            let node = Arc::clone(node);
            let seal = self.seal_of(&node);
            self.database.set_own_node(&node, seal);
        }
        self.seal_links();
    }

    /// Our link record with its seal, as it was announced last.
    pub(super) fn sealed_links(&self) -> Option<Record> {
        let links = self.own_links()?;
        Some(Record::Links(links, self.links_seal.clone()))
    }
}
