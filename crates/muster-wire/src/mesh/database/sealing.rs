//! Whether a record is its origin's (protocol version 2, section 5.2).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Database, Refusal};
use crate::EndpointId;
use crate::mesh::record::{LinkChanges, LinkRecord, NodeRecord, Record};
use crate::mesh::seal::{self, NodeSeal, Owner, Seals, Signature};
use crate::time::Wall;

/// A seal that is to be kept, and whose it is; neither where nobody asks.
type Checked = (Option<Arc<dyn Owner>>, Option<Arc<NodeSeal>>);

impl Database {
    /// Takes from now on only records of others with a seal that these find good.
    pub fn set_seals(&mut self, seals: Arc<dyn Seals>) {
        self.seals = Some(seals);
    }

    /// Sets the time at which the certificates of records that come must be valid.
    pub fn set_wall(&mut self, wall: Wall) {
        self.wall = wall;
    }

    /// Returns the seal of the node record in a slot.
    pub fn seal(&self, slot: u32) -> Option<&Arc<NodeSeal>> {
        self.entry(slot)?.seal.as_ref()
    }

    /// Returns the seal of the link record in a slot, which is none if the endpoint is this one.
    pub fn links_seal(&self, slot: u32) -> Option<&Signature> {
        self.entry(slot)?.links_seal.as_ref()
    }

    fn required(&self) -> Option<&Arc<dyn Seals>> {
        #[cfg(feature = "simulation")]
        if self.believes_seals {
            return None;
        }
        self.seals.as_ref()
    }

    /// Finds out whether a node record is its origin's. Certificates that are held already are not looked at again: who
    /// is known stays known when its certificate expires, as its connections do.
    pub(super) fn check_node(
        &self,
        node: &NodeRecord,
        seal: Option<&Arc<NodeSeal>>,
    ) -> Result<Checked, Refusal> {
        let Some(seals) = self.required() else {
            return Ok((None, seal.cloned()));
        };
        let seal = seal.ok_or(Refusal::Unsealed)?;
        let entry = self.slot(node.id).and_then(|slot| self.entry(slot));
        let held = entry.and_then(|entry| Some((entry.owner.as_ref()?, entry.seal.as_ref()?)));
        let held = held.filter(|(_, held)| held.credentials == seal.credentials);
        let owner = match held {
            Some((owner, _)) => Arc::clone(owner),
            None => seals.owner(node.id, &seal.credentials, self.wall)?,
        };
        if !owner.has_signed(&seal::node_bytes(node, &seal.unknown), &seal.signature) {
            return Err(Refusal::Seal);
        }
        if !owner.may_be_called(&node.name) {
            return Err(Refusal::Identity);
        }
        // The certificates of one endpoint are kept once.
        let seal = held.map_or_else(
            || Arc::clone(seal),
            |(_, held)| {
                let mut seal = NodeSeal::clone(seal);
                seal.credentials = Arc::clone(&held.credentials);
                Arc::new(seal)
            },
        );
        Ok((Some(owner), Some(seal)))
    }

    /// Finds out whether a record of this endpoint that somebody else has is its own: another process may have its
    /// certificate and its id. A change says too little for that.
    pub(in crate::mesh) fn check_own(&self, record: &Record) -> Result<(), Refusal> {
        let Some(seals) = self.required() else {
            return Ok(());
        };
        match record {
            Record::Node(node, seal) => self.check_node(node, seal.as_ref()).map(|_| ()),
            Record::Links(links, seal) => {
                let seal = seal.as_ref().ok_or(Refusal::Unsealed)?;
                let owner = seals.owner(links.id, seals.credentials(), self.wall)?;
                let is_ours = owner.has_signed(&seal::link_bytes(links), seal);
                is_ours.then_some(()).ok_or(Refusal::Seal)
            }
            Record::Changes(_, None) => Err(Refusal::Unsealed),
            Record::Changes(_, Some(_)) => Err(Refusal::Seal),
        }
    }

    /// Finds out whether a link record is that of the endpoint in a slot.
    pub(super) fn check_links(
        &self,
        slot: u32,
        links: &LinkRecord,
        seal: Option<&Signature>,
    ) -> Result<(), Refusal> {
        if self.required().is_none() {
            return Ok(());
        }
        let seal = seal.ok_or(Refusal::Unsealed)?;
        let owner = self.entry(slot).and_then(|entry| entry.owner.as_ref());
        // No link leads from an endpoint to itself, and none is kept: the record could not be passed on.
        let is_sound = !links.neighbours.contains(&links.id);
        match owner {
            Some(owner) if is_sound && owner.has_signed(&seal::link_bytes(links), seal) => Ok(()),
            _ => Err(Refusal::Seal),
        }
    }

    /// Finds out whether what changes result in is the link record of the endpoint in a slot.
    pub(super) fn check_changes(
        &self,
        slot: u32,
        changes: &LinkChanges,
        seal: Option<&Signature>,
    ) -> Result<(), Refusal> {
        if self.required().is_none() {
            return Ok(());
        }
        let held = self.links(slot).map(|held| held.neighbours);
        let mut after: BTreeSet<EndpointId> = held.unwrap_or_default().into_iter().collect();
        for neighbour in &changes.removed {
            after.remove(neighbour);
        }
        after.extend(changes.added.iter().copied());
        let links = LinkRecord {
            id: changes.id,
            incarnation: changes.incarnation,
            version: changes.after,
            neighbours: after.into_iter().collect(),
        };
        self.check_links(slot, &links, seal)
    }
}

#[cfg(test)]
mod tests;
