//! Having the cluster open a store that nobody has open yet.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Error;
use muster::Endpoint;
use muster::store::{Store, StoreFinder, StoreNeed, StoreState};
use muster_wire::EndpointId;

use crate::arguments::ConnectionArguments;
use crate::output::Failure;

/// How often it is asked about a store whose primary is not heard yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How soon a node that was busy is asked again.
const BUSY: Duration = Duration::from_millis(100);

/// What is known of the node that should have the primary, for whoever waited in vain.
pub(super) type Away = Arc<OnceLock<String>>;

/// A store that is wanted.
pub(super) struct Wanted {
    pub(super) endpoint: Endpoint,
    pub(super) finder: StoreFinder,
    pub(super) store: Store,
    pub(super) need: StoreNeed,
    /// How the connection to a further node is protected.
    pub(super) connection: ConnectionArguments,
    pub(super) limit: Duration,
    pub(super) away: Away,
}

impl Wanted {
    /// Asks a node until the primary is heard. Returns why, if the store cannot be had.
    pub(super) async fn ask(mut self, node: EndpointId) -> Option<Error> {
        let mut asked = node;
        let mut asked_elsewhere = None;
        while self.store.primary().is_none() {
            let name = self.store.name().clone();
            let answer = self.finder.ask(asked, &name, self.need, self.limit);
            let pause = match answer.await {
                Some(StoreState::Absent) => return Some(absent(&self.store)),
                Some(StoreState::Refused { reason }) => {
                    return Some(Failure::new(format!("store {name}: {reason}")).into());
                }
                Some(StoreState::Busy) => BUSY,
                Some(StoreState::Away { node }) => {
                    // The first word of it is as good as a later one.
                    let _ = self.away.set(node);
                    ASK_AGAIN
                }
                // A late answer of the node that was asked first says it again.
                Some(StoreState::Elsewhere { .. }) if asked_elsewhere.is_some() => ASK_AGAIN,
                Some(StoreState::Elsewhere { node, address }) => {
                    match self.dial(&node, &address).await {
                        Ok(id) => asked = id,
                        Err(error) => return Some(error),
                    }
                    asked_elsewhere = Some(node);
                    continue;
                }
                // Nobody says anything, or all is well: the primary will be heard.
                Some(StoreState::Open) | None => ASK_AGAIN,
            };
            tokio::time::sleep(pause).await;
        }
        None
    }

    /// Dials the node that should have the primary: the one that was dialled passes nothing on.
    async fn dial(&self, node: &str, address: &str) -> Result<EndpointId, Error> {
        let dialled = async {
            // What is safe towards this machine may not be so towards another.
            super::super::tls(address, &self.connection)?;
            super::super::dial(&self.endpoint, address, false).await
        };
        let peer = dialled.await.map_err(|error| {
            let name = self.store.name();
            Failure::new(format!(
                "store {name} belongs on node {node}, and the node that was asked relays for nobody: {error}"
            ))
            .hint("give the address of that node, or of one that relays: a manager, logger, proxy or data node")
        })?;
        Ok(peer.id)
    }
}

/// Nobody has it, and nothing is kept of it.
fn absent(store: &Store) -> Error {
    let name = store.name();
    Failure::new(format!("nobody has opened store {name}"))
        .hint(format!(
            "`put`, `increment` and `load` open it, and so does a node that uses it, or the layout if it names it: \
             `[store.\"{name}\"]`"
        ))
        .into()
}
