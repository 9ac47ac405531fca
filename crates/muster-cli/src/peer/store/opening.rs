//! Having the cluster open a store that nobody has open yet.

use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use muster::Endpoint;
use muster::store::{StoreFinder, StoreName, StoreNeed, StoreState};
use muster_wire::EndpointId;

use crate::arguments::ConnectionArguments;
use crate::output::Failure;

/// How soon it is asked again about a store that is open, and whose primary is not in sight yet.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How soon a node is asked again that was busy, or knew that the primary's node is not up.
const NOT_YET: Duration = Duration::from_millis(200);

/// How long no node may answer until the operation is tried all the same: there may be none that knows such questions, and the
/// primary may be in reach and not in sight, or still be reading what it has kept.
const SILENCE: Duration = Duration::from_secs(1);

/// How often it is looked whether the primary is in sight.
const LOOK: Duration = Duration::from_millis(5);

/// A store that is wanted.
pub(in crate::peer) struct Wanted<'a> {
    pub(in crate::peer) endpoint: &'a Endpoint,
    pub(in crate::peer) finder: StoreFinder,
    pub(in crate::peer) store: &'a StoreName,
    pub(in crate::peer) need: StoreNeed,
    /// How the connection to a further node is protected, if somebody has said it.
    pub(in crate::peer) connection: Option<&'a ConnectionArguments>,
    /// What to say if nobody has it, and nothing is kept of it.
    pub(in crate::peer) absent: fn(&StoreName) -> Failure,
}

impl Wanted<'_> {
    /// Waits until the primary is in sight, and asks for it if it is not; `node` is the one that was dialled. Returns what is left
    /// of `limit` if nobody knows better by then: the operation will tell.
    ///
    /// # Errors
    /// A [`Failure`] if the store cannot be had.
    pub(in crate::peer) async fn in_sight(
        mut self,
        node: EndpointId,
        limit: Duration,
    ) -> Result<Duration> {
        let end = Instant::now() + limit;
        let mut asked = node;
        let mut asked_elsewhere = false;
        let mut away = None;
        while !self.finder.sees(self.store) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return away.map_or(Ok(left), |node: String| Err(self.away(&node)));
            }
            let patience = SILENCE.min(left / 2);
            let answer = self.finder.ask(asked, self.store, self.need, patience);
            let answer = answer.await;
            if answer.is_some() {
                away = None;
            }
            let pause = match answer {
                Some(StoreState::Absent) => return Err((self.absent)(self.store).into()),
                Some(StoreState::Refused { reason }) => {
                    return Err(Failure::new(format!("store {}: {reason}", self.store)).into());
                }
                Some(StoreState::Busy) => NOT_YET,
                Some(StoreState::Away { node }) => {
                    away = Some(node);
                    NOT_YET
                }
                // A late answer of the node that was asked first says it again.
                Some(StoreState::Elsewhere { .. }) if asked_elsewhere => NOT_YET,
                Some(StoreState::Elsewhere { node, address }) => {
                    asked = self.dial(&node, &address).await?;
                    asked_elsewhere = true;
                    continue;
                }
                Some(StoreState::Open) => ASK_AGAIN,
                None if away.is_some() => NOT_YET,
                None => return Ok(left.saturating_sub(patience)),
            };
            let seen = async {
                while !self.finder.sees(self.store) {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let _ = tokio::time::timeout(pause.min(left), seen).await;
        }
        Ok(limit)
    }

    /// Dials the node that should have the primary: the one that was dialled passes nothing on.
    async fn dial(&self, node: &str, address: &str) -> Result<EndpointId> {
        let dialled = async {
            // What is safe towards this machine may not be so towards another.
            if let Some(connection) = self.connection {
                super::super::tls(address, connection)?;
            }
            super::super::dial(self.endpoint, address, false).await
        };
        let peer = dialled.await.map_err(|error| {
            let name = self.store;
            Failure::new(format!(
                "store {name} belongs on node {node}, and the node that was asked relays for nobody: {error}"
            ))
            .hint("give the address of that node, or of one that relays: a manager, logger, proxy or data node")
        })?;
        Ok(peer.id)
    }

    fn away(&self, node: &str) -> Error {
        let name = self.store;
        Failure::new(format!(
            "store {name}: node {node}, where it belongs, is not up"
        ))
        .hint(
            "`muster status` shows the nodes of its box, and `muster logs NODE` why one has ended",
        )
        .into()
    }
}
