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

impl NodeStores {
    /// An endpoint that is no node needs a store whose primary the layout puts here. It is told what comes of it.
    pub(crate) fn needed(&self, name: StoreName, need: StoreNeed, asker: EndpointId) {
        let this = self.clone();
        self.0.runtime.spawn(async move {
            let state = this.open_needed(&name, need, asker).await;
            let state = state.unwrap_or_else(|error| StoreState::Refused {
                reason: super::without_name(&name, &error),
            });
            // Who hears nothing asks again.
            let _ = this.0.endpoint.publisher().publish_encoded(
                &StoreState::topic(asker),
                state.event(&name),
                Class::Interactive,
            );
        });
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
            is_elsewhere: is_elsewhere(&self.0.endpoint, name),
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
                self.open(name, persistent).await?;
                if !facts.is_named {
                    self.for_others(|stores| stores.insert(name.clone()));
                }
                tracing::info!("store {name}: opened for endpoint {asker}, which is no node");
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
        let path = self.path(&plan);
        let looked = tokio::task::spawn_blocking(move || path.is_file()).await;
        Ok(looked.unwrap_or(false))
    }

    fn for_others<R>(&self, act: impl FnOnce(&mut HashSet<StoreName>) -> R) -> R {
        let stores = self.0.for_others.lock();
        act(&mut stores.unwrap_or_else(PoisonError::into_inner))
    }
}
