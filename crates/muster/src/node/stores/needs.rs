//! Stores that endpoints need which are no nodes: a command line, a program.

use std::collections::HashSet;
use std::sync::PoisonError;

use muster_cluster::StoreBackend;
use muster_cluster::node::{StoreFacts, StoreNeed, StoreState, StoreVerdict};
use muster_store::StoreName;
use muster_wire::{Class, EndpointId};

use super::{NodeStoreError, NodeStores};
use crate::store::is_elsewhere;

/// The stores that are open on a node for endpoints that are no nodes, besides those that the layout names. What nodes need
/// has room beside them.
const MOST: usize = 1024;

/// The requests that may wait for a disk. Beyond them the node is busy: a disk may hang for as long as it likes.
pub(super) const WAITING: usize = 64;

impl NodeStores {
    /// An endpoint that is no node needs a store whose primary the layout puts here. It is told what comes of it.
    pub(crate) fn needed(&self, name: StoreName, need: StoreNeed, asker: EndpointId) {
        let this = self.clone();
        self.0.runtime.spawn(async move {
            let state = this.state_of(&name, need, asker).await;
            // Who hears nothing asks again.
            let _ = this.0.endpoint.publisher().publish_encoded(
                &StoreState::topic(asker),
                state.event(&name),
                Class::Interactive,
            );
        });
    }

    async fn state_of(&self, name: &StoreName, need: StoreNeed, asker: EndpointId) -> StoreState {
        let Ok(_waits) = self.0.needed.try_acquire() else {
            return StoreState::Busy;
        };
        let state = self.open_needed(name, need, asker).await;
        state.unwrap_or_else(|error| StoreState::Refused {
            reason: super::without_name(name, &error),
        })
    }

    async fn open_needed(
        &self,
        name: &StoreName,
        need: StoreNeed,
        asker: EndpointId,
    ) -> Result<StoreState, NodeStoreError> {
        if self.find(name).is_some() {
            // Or about to be.
            self.open(name, need == StoreNeed::Persistent).await?;
            return Ok(StoreState::Open);
        }
        let facts = StoreFacts {
            is_elsewhere: is_elsewhere(&self.0.endpoint, name)
                || self.0.groups().contains_key(name),
            is_named: self.0.layout.names_store(name),
            has_file: self.has_file(name).await?,
            has_room: self.for_others(|stores| stores.contains(name) || stores.len() < MOST),
        };
        match need.verdict(facts) {
            StoreVerdict::LeftElsewhere => Ok(StoreState::Open),
            StoreVerdict::Absent => Ok(StoreState::Absent),
            StoreVerdict::NoRoom => Ok(StoreState::Refused {
                reason: format!("{MOST} stores are open for others than nodes already"),
            }),
            StoreVerdict::Opened { persistent } => {
                let is_first = self.find(name).is_none();
                self.open(name, persistent).await?;
                if !facts.is_named {
                    self.for_others(|stores| stores.insert(name.clone()));
                }
                // Others may have asked while it was opened.
                if is_first {
                    tracing::info!("store {name}: opened for endpoint {asker}, which is no node");
                }
                Ok(StoreState::Open)
            }
        }
    }

    /// Whether something is kept of a store that was persistent.
    async fn has_file(&self, name: &StoreName) -> Result<bool, NodeStoreError> {
        let plan = self.plan(name, true)?;
        if plan.backend != StoreBackend::Sqlite {
            return Ok(false);
        }
        let files = self.files(&plan);
        let looked =
            tokio::task::spawn_blocking(move || files.iter().any(|file| file.is_file())).await;
        Ok(looked.unwrap_or(false))
    }

    fn for_others<R>(&self, act: impl FnOnce(&mut HashSet<StoreName>) -> R) -> R {
        let stores = self.0.for_others.lock();
        act(&mut stores.unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use muster_cluster::Layout;

    use super::*;
    use crate::{Endpoint, EndpointConfig};

    /// Each request that came while a disk hung left a task behind, which waited for it.
    #[tokio::test]
    async fn requests_beyond_those_that_wait_for_a_disk_hear_that_the_node_is_busy() {
        let layout = "[[node]]\nname = \"manager\"\nrole = \"manager\"\n";
        let layout = Arc::new(Layout::parse(layout, "test", &[]).unwrap());
        let node = layout.node(&layout.nodes()[0].name).unwrap().clone();
        let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
        let asker = endpoint.id();
        let stores = NodeStores::new(endpoint, layout, node, PathBuf::new());
        let name = StoreName::new("a").unwrap();
        let all = u32::try_from(WAITING).unwrap();
        let others = stores.0.needed.acquire_many(all).await.unwrap();
        let state = stores.state_of(&name, StoreNeed::Any, asker).await;
        assert_eq!(state, StoreState::Busy);
        drop(others);
        let state = stores.state_of(&name, StoreNeed::Any, asker).await;
        assert_eq!(state, StoreState::Open);
    }
}
