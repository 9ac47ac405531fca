//! Operators, and the roster by which all agents know them.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State};

use super::asker::Asker;
use super::join::read;
use super::{Agent, Done, Refusal, Role};
use crate::desk::{self, KnownOperator, OperatorAnswer, OperatorRequest};
use crate::roster::{self, LaterRoster, SignedRoster};

impl Agent {
    /// Tells the roster to the other boxes. Returns what whoever has changed it should know.
    pub(super) async fn spread(&self) -> Option<String> {
        let missed = roster::spread(self.boxes.as_deref()?).await;
        let names = missed.join(", ");
        (!missed.is_empty())
            .then(|| format!("not heard by box {names}: it hears of it when it answers again"))
    }
}

pub(super) async fn list(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<Json<Vec<KnownOperator>>, Refusal> {
    asker.need(Role::Admin)?;
    let roster = agent.boxes()?.roster().roster();
    Ok(Json(desk::known(&roster)))
}

pub(super) async fn add(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<OperatorRequest>, JsonRejection>,
) -> Result<Json<OperatorAnswer>, Refusal> {
    let request = read(body)?;
    let add = || {
        asker.need(Role::Admin)?;
        let boxes = agent.boxes()?;
        boxes.desk()?.add_operator(&request, boxes.roster())
    };
    let added = add();
    let verb = format!("operator add, {}", request.role);
    agent.audit(&asker, &verb, Some(&request.name), added.as_ref().err());
    let answer = added?;
    let note = agent.spread().await;
    Ok(Json(OperatorAnswer { note, ..answer }))
}

pub(super) async fn remove(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Refusal> {
    let remove = || {
        asker.need(Role::Admin)?;
        let boxes = agent.boxes()?;
        boxes.desk()?.remove_operator(&name, boxes.roster())
    };
    let removed = remove();
    agent.audit(
        &asker,
        "operator remove",
        Some(&name),
        removed.as_ref().err(),
    );
    removed?;
    let note = agent.spread().await;
    Ok(Json(Done { note }))
}

/// Another box asks for a later roster than it has.
pub(super) async fn later(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    Path(version): Path<String>,
) -> Result<Json<LaterRoster>, Refusal> {
    asker.need_box()?;
    let version = version.parse();
    let version = version.map_err(|_| Refusal::malformed("versions are numbers"))?;
    let later = agent.boxes()?.roster().later_than(version);
    Ok(Json(LaterRoster {
        later: later.map(|signed| SignedRoster::clone(&signed)),
    }))
}

/// Another box tells its roster.
pub(super) async fn hear(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    body: Result<Json<SignedRoster>, JsonRejection>,
) -> Result<Json<Done>, Refusal> {
    let from = asker.need_box()?;
    let signed = read(body)?;
    let from = format!("box {}", from.name);
    roster::take(agent.boxes()?, &agent.journal, &signed, &from);
    Ok(Json(Done::default()))
}
