//! The stores of an endpoint, as its readers find them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use muster_store::broker::BrokerCommand;
use muster_store::protocol::StoreMessage;
use muster_store::{StoreName, StoreReport};
use muster_wire::EndpointId;
use muster_wire::counters::DropCause;

use super::host::Host;
use crate::endpoint::{Status, Table};

/// By name. A store belongs to its handles; this only finds it.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    by_name: RwLock<HashMap<String, Weak<Host>>>,
    instances: AtomicU64,
}

impl Stores {
    /// A number that no other store instance of this endpoint has.
    pub(super) fn next_instance(&self) -> u64 {
        self.instances.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes a store known; whether its name was free.
    pub(super) fn add(&self, name: &StoreName, host: &Arc<Host>) -> bool {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        by_name.retain(|_, host| host.strong_count() > 0);
        if by_name.contains_key(name.as_str()) {
            return false;
        }
        by_name.insert(name.as_str().to_owned(), Arc::downgrade(host));
        true
    }

    /// Makes a store unknown, if it is the one that is known.
    pub(super) fn remove(&self, name: &StoreName, host: &Host) {
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let known = by_name.get(name.as_str());
        if known.is_some_and(|known| std::ptr::eq(known.as_ptr(), host)) {
            by_name.remove(name.as_str());
        }
    }

    fn find(&self, name: &str) -> Option<Arc<Host>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.get(name)?.upgrade()
    }

    /// An endpoint's message for a store. It is dealt with at once, on the reader's task: a hop to another
    /// costs more than the work.
    pub(crate) fn receive(
        &self,
        from: EndpointId,
        topic: &[u8],
        payload: &[u8],
    ) -> Result<(), (DropCause, &'static str)> {
        const MALFORMED: (DropCause, &str) = (DropCause::Malformed, "malformed store message");
        const NO_STORE: (DropCause, &str) =
            (DropCause::NoStore, "a command for a store that is not here");
        const FORGED: (DropCause, &str) = (
            DropCause::Forged,
            "a store command in another endpoint's name",
        );
        if let Some((name, for_primary)) = StoreName::of_broker_topic(topic) {
            let host = self.find(name).ok_or(NO_STORE)?;
            if !host.hears(for_primary) {
                return Ok(());
            }
            let command = BrokerCommand::decode(payload).map_err(|_| MALFORMED)?;
            if command.sender.endpoint != from {
                return Err(FORGED);
            }
            host.receive_broker(command);
            return Ok(());
        }
        let (name, for_primary) = StoreMessage::addressee(payload).ok_or(MALFORMED)?;
        let Some(host) = self.find(name) else {
            // Answers may come behind the end of whoever asked.
            return if for_primary { Err(NO_STORE) } else { Ok(()) };
        };
        if !host.hears(for_primary) {
            return Ok(()); // a clone hears what others ask their common primary
        }
        let message = StoreMessage::decode(payload).map_err(|_| MALFORMED)?;
        host.receive(from, message);
        Ok(())
    }

    /// Who is in reach has changed: a clone looks for its primary, or hears that it is gone.
    pub(crate) fn status(&self, status: &Status, table: &Table) {
        let is_in_mesh = |id| {
            let routes = table.mesh();
            routes.is_some_and(|routes| routes.slot(id).is_some_and(|slot| routes.reaches(slot)))
        };
        let lost = match status {
            Status::EndpointUnreachable(id) => *id,
            Status::PeerLost { peer, .. } | Status::PeerRemoved { peer, .. }
                if !is_in_mesh(peer.id) =>
            {
                peer.id
            }
            Status::EndpointDiscovered(_) | Status::PeerAdded(_) => {
                return self.all().iter().for_each(|host| host.discovered());
            }
            _ => return,
        };
        for host in self.all() {
            host.lost(lost);
        }
    }

    /// What all of them tell, by name.
    pub(crate) fn reports(&self) -> Vec<StoreReport> {
        let mut reports: Vec<_> = self.all().iter().filter_map(|host| host.report()).collect();
        reports.sort_by(|one, other| one.name.cmp(&other.name));
        reports
    }

    fn all(&self) -> Vec<Arc<Host>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        by_name.values().filter_map(Weak::upgrade).collect()
    }
}
