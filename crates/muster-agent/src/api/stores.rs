//! Stores: who keeps them as coordinators have decided, and what an operator wants of one.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use muster::store::StoreName;
use muster_cluster::NodeName;
use muster_gateway::status::{StoresStatus, VERSION};
use serde::{Deserialize, Serialize};

use super::asker::Asker;
use super::join::read;
use super::{Agent, Done, Refusal, Role};
use crate::coordination::{StoreAction, StoreOrder};

/// Has a store's primary move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveStoreRequest {
    /// The store.
    pub(crate) store: String,
    /// The node that is to have its primary.
    pub(crate) node: String,
}

/// Has a store that waits for its last copies begin with what a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct AdoptStoreRequest {
    /// The store.
    pub(crate) store: String,
    /// The node that is to have its primary.
    pub(crate) node: String,
    /// `true`: whoever asks knows that what only other nodes have is lost.
    pub(crate) lose_what_others_have: bool,
}

/// What all boxes know, for a person; for another box what this one knows.
pub(super) async fn show(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<StoresStatus>, Refusal> {
    asker.need(Role::Viewer)?;
    Ok(Json(match &agent.boxes {
        Some(boxes) if asker.is_box() => boxes.own_stores().await,
        Some(boxes) => boxes.stores().await,
        None => StoresStatus {
            version: VERSION,
            ..StoresStatus::default()
        },
    }))
}

impl Agent {
    /// Has the coordinator that leads carry out an order, and writes down who asked.
    async fn order_store(&self, order: StoreOrder, asker: &Asker) -> Result<Json<Done>, Refusal> {
        let (verb, needed) = match order.action {
            StoreAction::Move => ("stores move", Role::Operator),
            StoreAction::Adopt => ("stores adopt", Role::Admin),
        };
        // What is no name is not written down either.
        StoreName::new(&order.store).map_err(|error| Refusal::malformed(error.to_string()))?;
        NodeName::new(&order.node).map_err(|error| Refusal::malformed(error.to_string()))?;
        let (verb, node) = (format!("{verb} {}", order.store), order.node.clone());
        let ordered = self.try_order_store(order, asker, needed).await;
        self.audit(asker, &verb, Some(&node), ordered.as_ref().err());
        ordered.map(|()| Json(Done::default()))
    }

    async fn try_order_store(
        &self,
        order: StoreOrder,
        asker: &Asker,
        needed: Role,
    ) -> Result<(), Refusal> {
        // A box passes on what it has let a person do.
        if asker.is_box() {
            asker.need(Role::Operator)?;
            return self.boxes()?.order_store(order).await;
        }
        asker.need(needed)?;
        let boxes = self.boxes()?;
        boxes.order_store_of_leader(&order, asker.who()).await
    }
}

pub(super) async fn move_to(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<MoveStoreRequest>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let MoveStoreRequest { store, node } = read(body)?;
    let order = StoreOrder {
        action: StoreAction::Move,
        store,
        node,
    };
    agent.order_store(order, &asker).await
}

pub(super) async fn adopt(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<AdoptStoreRequest>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let AdoptStoreRequest {
        store,
        node,
        lose_what_others_have,
    } = read(body)?;
    if !lose_what_others_have {
        return Err(Refusal::malformed(
            "what only other nodes have is lost: `lose_what_others_have` has to be true",
        ));
    }
    let order = StoreOrder {
        action: StoreAction::Adopt,
        store,
        node,
    };
    agent.order_store(order, &asker).await
}
