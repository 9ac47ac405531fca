//! The coordinators of the cluster: what is known of them, and what is done when most of them are lost.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State};
use muster_gateway::status::{CoordinatorsStatus, NO_PART, VERSION};
use serde::{Deserialize, Serialize};

use super::asker::Asker;
use super::join::read;
use super::{Agent, Done, Refusal, Role};

/// Has the coordinator of the box that is asked go on alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct RecoverRequest {
    /// A box whose coordinator is lost.
    pub(crate) lost: String,
}

/// What all boxes know, for a person; for another box what this one knows.
pub(super) async fn show(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<CoordinatorsStatus>, Refusal> {
    asker.need(Role::Viewer)?;
    let Some(boxes) = &agent.boxes else {
        return Ok(Json(CoordinatorsStatus {
            version: VERSION,
            part: NO_PART.to_owned(),
            ..CoordinatorsStatus::default()
        }));
    };
    Ok(Json(if asker.is_box() {
        boxes.own_coordinators().await
    } else {
        boxes.coordinators().await
    }))
}

impl Agent {
    async fn recover(&self, lost: &str) -> Result<Done, Refusal> {
        let place = self.boxes()?.mesh();
        let place = place.ok_or_else(|| Refusal::conflict("the agent is not in the mesh"))?;
        let recovered = place.recover_soon(lost.to_owned()).await;
        let recovered = recovered.ok_or_else(|| {
            Refusal::busy("it takes long, and may still be done: `muster coordinators` says it")
        })?;
        let note = recovered.map_err(Refusal::conflict)?;
        Ok(Done { note: Some(note) })
    }
}

pub(super) async fn recover(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<RecoverRequest>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let request = read(body)?;
    let recovered = match asker.need(Role::Admin) {
        Ok(()) => agent.recover(&request.lost).await,
        Err(refusal) => Err(refusal),
    };
    agent.audit(
        &asker,
        "coordinators recover, lost",
        Some(&request.lost),
        recovered.as_ref().err(),
    );
    recovered.map(Json)
}
