//! Answers of many lines, a JSON object each: all that there is, or what comes as well.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::journal::{Event, EventKind, now};
use crate::process_logs::{LogLine, ProcessLogs};

/// How often files are looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn line<T: Serialize>(entry: &T) -> Bytes {
    // Plain structs become JSON in any case.
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

fn joined<T: Serialize>(entries: &[T]) -> Bytes {
    let mut text = Vec::new();
    for entry in entries {
        text.extend_from_slice(&line(entry));
    }
    text.into()
}

/// Everything that there is.
pub(super) fn of<T: Serialize>(entries: &[T]) -> Body {
    joined(entries).into()
}

/// Events that there are, and those to come. Whoever is too slow is told that some are missing.
pub(super) fn events(before: Vec<Event>, live: broadcast::Receiver<Event>) -> Body {
    let state = (VecDeque::from(before), live);
    let events = unfold(state, |(mut before, mut live)| async move {
        if !before.is_empty() {
            let text = joined(before.make_contiguous());
            return Some((Ok::<_, Infallible>(text), (VecDeque::new(), live)));
        }
        let event = match live.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => Event {
                time: now(),
                kind: EventKind::Missed,
                node: None,
                text: format!("{missed} events are missing here"),
            },
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(line(&event)), (before, live)))
    });
    Body::from_stream(events)
}

/// Lines that there are, and those to come.
pub(super) fn logs(before: Vec<LogLine>, logs: ProcessLogs) -> Body {
    let lines = unfold((before, logs), |(before, mut logs)| async move {
        if !before.is_empty() {
            return Some((Ok::<_, Infallible>(joined(&before)), (Vec::new(), logs)));
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let read = tokio::task::spawn_blocking(move || (logs.read(), logs)).await;
            let (lines, back) = read.ok()?;
            logs = back;
            if !lines.is_empty() {
                return Some((Ok(joined(&lines)), (Vec::new(), logs)));
            }
        }
    });
    Body::from_stream(lines)
}
