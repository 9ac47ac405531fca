//! Answers of many lines, a JSON object each, from all boxes: what there is in the order of time, and what comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::unfold;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc};

use super::Refusal;
use crate::boxes::Boxes;
use crate::client::{Client, ClientError};
use crate::journal::{Event, EventKind, now};
use crate::place::Places;
use crate::process_logs::{LogLine, ProcessLogs};
use crate::records::{self, MOST_RECORDS, RecordLine};

/// How often files are looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long another box may take for what there is.
const ANSWER: Duration = Duration::from_secs(30);

/// Lines that wait for whoever follows.
const WAITING: usize = 256;

/// How long lines wait for earlier ones of other boxes.
const MOMENT: Duration = Duration::from_millis(200);

/// The most lines that are put in order at once.
const MOST_AT_ONCE: usize = 4096;

/// The pause before a box that was lost is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The most lines that are taken of one box.
const MOST_OF_BOX: usize = MOST_RECORDS + 100;

/// A line of an answer.
pub(super) trait Line: Serialize + DeserializeOwned + Send + 'static {
    fn time(&self) -> f64;
    /// A line that says what is wrong with a box.
    fn of_silence(name: &str, reason: &str) -> Self;
}

impl Line for Event {
    fn time(&self) -> f64 {
        self.time
    }

    fn of_silence(name: &str, reason: &str) -> Self {
        Self {
            time: now(),
            kind: EventKind::Missed,
            box_name: Some(name.to_owned()),
            node: None,
            text: format!("box {name} does not answer: {reason}"),
        }
    }
}

impl Line for LogLine {
    fn time(&self) -> f64 {
        self.time
    }

    fn of_silence(name: &str, reason: &str) -> Self {
        Self {
            node: "-".to_owned(),
            time: now(),
            level: "WARN".to_owned(),
            text: format!("box {name} does not answer: {reason}"),
        }
    }
}

impl Line for RecordLine {
    fn time(&self) -> f64 {
        self.time
    }

    fn of_silence(name: &str, reason: &str) -> Self {
        remark(format!("box {name} does not answer: {reason}"))
    }
}

fn remark(text: String) -> RecordLine {
    RecordLine {
        remark: Some(text),
        ..RecordLine::default()
    }
}

/// Where this box's own lines come from.
pub(super) trait Source: Send + 'static {
    type Line: Line;
    /// What there is.
    fn take(&mut self) -> Vec<Self::Line>;
    /// Waits for what comes. `None` if nothing comes any more.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Self::Line>>> + Send;
}

/// The events of this box.
pub(super) struct Events {
    before: Vec<Event>,
    live: broadcast::Receiver<Event>,
    own: Option<String>,
}

impl Events {
    pub(super) fn new(
        before: Vec<Event>,
        live: broadcast::Receiver<Event>,
        own: Option<String>,
    ) -> Self {
        Self { before, live, own }
    }

    fn named(&self, event: Event) -> Event {
        Event {
            box_name: self.own.clone(),
            ..event
        }
    }
}

impl Source for Events {
    type Line = Event;

    fn take(&mut self) -> Vec<Event> {
        let before = std::mem::take(&mut self.before);
        before.into_iter().map(|event| self.named(event)).collect()
    }

    async fn next(&mut self) -> Option<Vec<Event>> {
        let event = match self.live.recv().await {
            Ok(event) => event,
            Err(broadcast::error::RecvError::Lagged(missed)) => Event {
                time: now(),
                kind: EventKind::Missed,
                box_name: None,
                node: None,
                text: format!("{missed} events are missing here"),
            },
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some(vec![self.named(event)])
    }
}

/// The process logs of this box.
pub(super) struct Logs {
    before: Vec<LogLine>,
    logs: Option<ProcessLogs>,
}

impl Logs {
    pub(super) async fn new(logs: ProcessLogs) -> Result<Self, Refusal> {
        let (before, logs) = read(logs)
            .await
            .ok_or_else(|| Refusal::conflict("the logs cannot be read"))?;
        Ok(Self {
            before,
            logs: Some(logs),
        })
    }
}

async fn read(mut logs: ProcessLogs) -> Option<(Vec<LogLine>, ProcessLogs)> {
    let read = tokio::task::spawn_blocking(move || (logs.read(), logs));
    read.await.ok()
}

impl Source for Logs {
    type Line = LogLine;

    fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.before)
    }

    async fn next(&mut self) -> Option<Vec<LogLine>> {
        tokio::time::sleep(LOOK_EVERY).await;
        let (lines, logs) = read(self.logs.take()?).await?;
        self.logs = Some(logs);
        Some(lines)
    }
}

/// The records of a stream on this box.
pub(super) struct Records(Vec<RecordLine>);

impl Records {
    pub(super) async fn read(
        places: Arc<Places>,
        stream: String,
        since: f64,
        most: usize,
        of_box: Option<String>,
    ) -> Result<Self, Refusal> {
        let read = move || records::read(&places.logs, &places.archive, &stream, since, most);
        let found = tokio::task::spawn_blocking(read).await;
        let found = found.map_err(|error| Refusal::conflict(error.to_string()))?;
        let mut found = found.map_err(|error| Refusal::conflict(error.to_string()))?;
        let place = of_box.map_or_else(String::new, |name| format!("box {name}: "));
        let mut remarks: Vec<RecordLine> = found
            .problems
            .iter()
            .map(|problem| remark(format!("{place}{problem}")))
            .collect();
        if found.left_out > 0 {
            let text = format!("{place}{} older records are left out", found.left_out);
            remarks.push(remark(text));
        }
        if found.unread > 0 {
            let text = format!(
                "{place}{} older files of the archive are left out",
                found.unread
            );
            remarks.push(remark(text));
        }
        remarks.append(&mut found.records);
        Ok(Self(remarks))
    }
}

impl Source for Records {
    type Line = RecordLine;

    fn take(&mut self) -> Vec<RecordLine> {
        std::mem::take(&mut self.0)
    }

    async fn next(&mut self) -> Option<Vec<RecordLine>> {
        None
    }
}

fn joined<T: Serialize>(entries: &[T]) -> Bytes {
    let mut text = Vec::new();
    for entry in entries {
        // Plain structs become JSON in any case.
        text.extend_from_slice(&serde_json::to_vec(entry).unwrap_or_default());
        text.push(b'\n');
    }
    text.into()
}

/// What one of the other boxes has.
async fn ask<T: Line>(name: &str, client: &Client, what: &str) -> Vec<T> {
    let asked = async {
        let mut lines = client.lines(what).await?;
        let mut found = Vec::new();
        while let Some(line) = lines.next().await? {
            if found.len() < MOST_OF_BOX {
                found.push(line);
            }
        }
        Ok::<_, ClientError>(found)
    };
    let found = tokio::time::timeout(ANSWER, asked).await;
    let found = found.unwrap_or(Err(ClientError::TimedOut));
    found.unwrap_or_else(|error| vec![T::of_silence(name, &error.to_string())])
}

/// The lines of this box and of the others.
pub(super) async fn merged<S: Source>(
    mut source: S,
    others: Option<&Boxes>,
    what: &str,
    follows: bool,
) -> Body {
    let others = others.into_iter().flat_map(Boxes::others);
    if !follows {
        let mut lines = source.take();
        let asked = others.map(|(name, client)| ask::<S::Line>(name, client, what));
        lines.extend(join_all(asked).await.into_iter().flatten());
        sort(&mut lines);
        return joined(&lines).into();
    }
    let (lines, unsorted) = mpsc::channel(WAITING);
    for (name, client) in others {
        let other = Other {
            name: name.to_owned(),
            client: client.clone(),
            what: what.to_owned(),
        };
        tokio::spawn(other.follow(lines.clone()));
    }
    tokio::spawn(follow_own(source, lines));
    let body = unfold(unsorted, |mut unsorted| async move {
        let bytes = next_sorted(&mut unsorted).await?;
        Some((Ok::<_, Infallible>(bytes), unsorted))
    });
    Body::from_stream(body)
}

fn sort<T: Line>(lines: &mut [T]) {
    // Stable: what one box says at one time stays in its order.
    lines.sort_by(|one, other| one.time().total_cmp(&other.time()));
}

/// Waits for lines, and a moment longer for those of other boxes that may have an earlier time.
async fn next_sorted<T: Line>(unsorted: &mut mpsc::Receiver<T>) -> Option<Bytes> {
    let mut lines = vec![unsorted.recv().await?];
    let end = tokio::time::Instant::now() + MOMENT;
    while lines.len() < MOST_AT_ONCE {
        match tokio::time::timeout_at(end, unsorted.recv()).await {
            Ok(Some(line)) => lines.push(line),
            Ok(None) | Err(_) => break,
        }
    }
    sort(&mut lines);
    Some(joined(&lines))
}

async fn follow_own<S: Source>(mut source: S, lines: mpsc::Sender<S::Line>) {
    let mut found = source.take();
    loop {
        for line in found {
            if lines.send(line).await.is_err() {
                return;
            }
        }
        let next = tokio::select! {
            next = source.next() => next,
            () = lines.closed() => return,
        };
        match next {
            Some(next) => found = next,
            None => return,
        }
    }
}

/// Another box that is followed.
struct Other {
    name: String,
    client: Client,
    what: String,
}

impl Other {
    /// Follows it until nobody listens any more, and says when it is lost.
    async fn follow<T: Line>(self, lines: mpsc::Sender<T>) {
        let mut query = self.what.clone();
        let mut last = f64::NEG_INFINITY;
        let mut is_lost = false;
        loop {
            let told = last;
            let following = async {
                let mut answer = self.client.lines(&query).await?;
                while let Some(line) = answer.next::<T>().await? {
                    // After a loss what was told already comes again.
                    if line.time() <= told {
                        continue;
                    }
                    last = last.max(line.time());
                    is_lost = false;
                    if lines.send(line).await.is_err() {
                        return Ok(());
                    }
                }
                Err(ClientError::Lost("its agent has ended".to_owned()))
            };
            let ended = tokio::select! {
                ended = following => ended,
                () = lines.closed() => return,
            };
            let Err(error) = ended else { return };
            if !is_lost {
                is_lost = true;
                let line = T::of_silence(&self.name, &error.to_string());
                if lines.send(line).await.is_err() {
                    return;
                }
            }
            if last.is_finite() {
                query = since(&self.what, last);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// A query with another beginning.
fn since(what: &str, time: f64) -> String {
    let (path, query) = what.split_once('?').unwrap_or((what, ""));
    let parts = query.split('&');
    let kept: Vec<&str> = parts.filter(|part| !part.starts_with("since=")).collect();
    format!("{path}?{}&since={time}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_begins_where_it_was_left() {
        assert_eq!(
            since("logs?since=3&node=a&follow=true", 7.5),
            "logs?node=a&follow=true&since=7.5"
        );
    }
}
