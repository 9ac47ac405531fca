//! What loggers have in their files, beside what they say that they have written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Extension, State};
use axum::response::Response;
use futures_util::future::join_all;

use super::asker::Asker;
use super::slots::Reads;
use super::{Agent, Refusal, Role, lines, stream};
use crate::journal::now;
use crate::records::{self, LoggerFiles};

/// How long a logger is waited for to report after its files were counted. It reports once a second.
const REPORT: Duration = Duration::from_secs(5);

/// How old its report may be when counting begins: what it writes between the two hides as much that is missing.
const FRESH: Duration = Duration::from_millis(300);

/// How often it is looked whether it has reported.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn written(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
) -> Result<Response, Refusal> {
    asker.need(Role::Operator)?;
    let slot = agent.slots.take(Reads::Much)?;
    let own = count(&agent).await?;
    let others = lines::of_others(&agent, &asker);
    let body = stream::merged(own, others, "records", false).await;
    Ok(lines::lines(asker, slot.hold(body)))
}

/// Counts the files of this box's loggers.
async fn count(agent: &Agent) -> Result<Vec<LoggerFiles>, Refusal> {
    let status = agent.status().await?;
    let here = status.nodes.iter();
    let here = here.filter(|node| node.process != muster_gateway::status::ELSEWHERE);
    let counted = join_all(here.map(|node| of_node(agent, &node.node))).await;
    counted.into_iter().filter_map(Result::transpose).collect()
}

/// Counts the files of a node, if it is a logger.
async fn of_node(agent: &Agent, name: &str) -> Result<Option<LoggerFiles>, Refusal> {
    let Some(begun) = begin(agent, name).await? else {
        return Ok(None);
    };
    let mut logger = of_logger(agent, begun).await?;
    let of_box = agent.boxes.as_ref().map(|boxes| boxes.own().to_owned());
    logger.box_name = of_box;
    let archive = agent.archive.as_deref();
    logger.removed_files = archive.map_or(0, crate::archive::ArchiveCounts::removed);
    Ok(Some(logger))
}

/// Begins to count when a node has just reported, if it is a logger.
async fn begin(agent: &Agent, name: &str) -> Result<Option<LoggerFiles>, Refusal> {
    let started = Instant::now();
    loop {
        let status = agent.status().await?;
        let node = status.nodes.iter().find(|node| node.node == name);
        let begun = node.and_then(|node| Some((LoggerFiles::begin(node, now())?, node)));
        match begun {
            Some((_, node))
                if !LoggerFiles::is_fresh(node, FRESH) && started.elapsed() < REPORT => {}
            begun => return Ok(begun.map(|(logger, _)| logger)),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn of_logger(agent: &Agent, mut logger: LoggerFiles) -> Result<LoggerFiles, Refusal> {
    if logger.unknown.is_some() {
        return Ok(logger);
    }
    let places = Arc::clone(&agent.places);
    let (node, since) = (logger.node.clone(), logger.since);
    let counting = tokio::task::spawn_blocking(move || records::count(&places, &node, since));
    let counted = counting.await;
    logger.take(counted.map_err(|error| Refusal::conflict(error.to_string()))?);
    logger.time = now();
    let ended = Instant::now();
    loop {
        let status = agent.status().await?;
        let node = status.nodes.iter().find(|node| node.node == logger.node);
        if logger.end(node, ended.elapsed()) {
            return Ok(logger);
        }
        if ended.elapsed() >= REPORT {
            let silent = "it has not reported since its files were counted".to_owned();
            logger.unknown.get_or_insert(silent);
            return Ok(logger);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
