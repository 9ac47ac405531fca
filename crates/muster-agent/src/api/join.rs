//! Boxes that join, and their certificates.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};
use muster_gateway::http::Caller;

use super::asker::Asker;
use super::{Agent, Done, Refusal, Role};
use crate::boxes::Boxes;
use crate::desk::{
    AuthorityAnswer, JoinRequest, Joined, SignRequest, Signed, TokenAnswer, TokenRequest,
};

impl Agent {
    pub(super) fn boxes(&self) -> Result<&Boxes, Refusal> {
        let alone = "this box is alone: `muster init` founds a cluster";
        self.boxes
            .as_deref()
            .ok_or_else(|| Refusal::conflict(alone))
    }
}

pub(super) fn read<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => Err(Refusal::malformed(rejection.body_text())),
    }
}

pub(super) async fn authority(
    State(agent): State<Agent>,
) -> Result<Json<AuthorityAnswer>, Refusal> {
    let config = agent.boxes()?.config();
    let path = config.identity.authorities();
    let certificate = std::fs::read_to_string(&path)
        .map_err(|error| Refusal::conflict(format!("cannot read {}: {error}", path.display())))?;
    Ok(Json(AuthorityAnswer {
        cluster: config.file.cluster.clone(),
        certificate,
    }))
}

pub(super) async fn join(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<JoinRequest>, JsonRejection>,
) -> Result<Json<Joined>, Refusal> {
    let request = read(body)?;
    let boxes = agent.boxes()?;
    let Some(Caller::Address(from)) = asker.caller() else {
        return Err(Refusal::conflict("boxes join over TLS"));
    };
    let joined = boxes.desk().and_then(|desk| {
        desk.join(
            &request,
            from.ip(),
            boxes.config(),
            &boxes.roster().roster(),
        )
    });
    agent.audit(&asker, "join", Some(&request.name), joined.as_ref().err());
    joined.map(Json)
}

pub(super) async fn sign(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<SignRequest>, JsonRejection>,
) -> Result<Json<Signed>, Refusal> {
    let request = read(body)?;
    let boxes = agent.boxes()?;
    let signed = asker.need_box().and_then(|principal| {
        let roster = boxes.roster().roster();
        boxes
            .desk()?
            .renew(&request, principal, boxes.config(), &roster)
    });
    let of_box = asker.of_box().map(|principal| principal.name.as_str());
    let object = request.node.as_deref().or(of_box);
    agent.audit(&asker, "sign", object, signed.as_ref().err());
    signed.map(Json)
}

pub(super) async fn token(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<Json<TokenAnswer>, Refusal> {
    let request = read(body)?;
    let for_box = request.for_box.clone();
    let create = || {
        asker.need(Role::Admin)?;
        let boxes = agent.boxes()?;
        boxes.desk()?.token(request, boxes.config())
    };
    let created = create();
    agent.audit(
        &asker,
        "token create",
        for_box.as_deref(),
        created.as_ref().err(),
    );
    created.map(Json)
}

pub(super) async fn forget(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Refusal> {
    let forget = || {
        asker.need(Role::Admin)?;
        let boxes = agent.boxes()?;
        boxes.desk()?.forget(&name, boxes.roster())
    };
    let forgotten = forget();
    agent.audit(&asker, "box forget", Some(&name), forgotten.as_ref().err());
    forgotten?;
    let note = agent.spread().await;
    Ok(Json(Done { note }))
}
