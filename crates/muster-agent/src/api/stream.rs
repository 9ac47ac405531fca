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
use crate::records::{self, Asked, Followed, Found, LoggerFiles, MOST_RECORDS, RecordLine};

/// How often files are looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long another box may take for what there is, and to count records: less than whoever asks waits for the beginning.
const ANSWER: Duration = Duration::from_secs(30);
const COUNTING: Duration = Duration::from_secs(110);

/// Lines that wait for whoever follows.
const WAITING: usize = 256;

/// How long lines wait for earlier ones of other boxes.
const MOMENT: Duration = Duration::from_millis(200);

/// The most lines that are put in order at once.
const MOST_AT_ONCE: usize = 4096;

/// And the most bytes.
const MOST_BYTES_AT_ONCE: usize = 4 << 20;

/// The pause before a box that was lost is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The most lines that are taken of one box.
const MOST_OF_BOX: usize = MOST_RECORDS + 100;

/// A line of an answer.
pub(super) trait Line: Serialize + DeserializeOwned + Send + 'static {
    /// Whether a box tells its lines in the order of their time, so that one that was lost can go on where it was.
    const IS_ORDERED: bool = true;
    /// How long a box may take for what there is.
    const WITHIN: Duration = ANSWER;
    fn time(&self) -> f64;
    /// About how many bytes it has.
    fn bytes(&self) -> usize;
    /// A line that says what is wrong with a box.
    fn of_silence(name: &str, reason: &str) -> Self;
    /// A line that says that a box which was lost is there again, if that has to be said.
    fn of_return(_name: &str) -> Option<Self> {
        None
    }
}

impl Line for Event {
    fn time(&self) -> f64 {
        self.time
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.text.len()
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

    fn bytes(&self) -> usize {
        size_of_val(self) + self.text.len()
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
    // Of a connection the time of its beginning is told at its end.
    const IS_ORDERED: bool = false;

    fn time(&self) -> f64 {
        self.time
    }

    fn bytes(&self) -> usize {
        records::size_of(self)
    }

    fn of_silence(name: &str, reason: &str) -> Self {
        let reason = format!("box {name} does not answer: {reason}");
        Self::of_remark(reason)
    }

    fn of_return(name: &str) -> Option<Self> {
        let text =
            format!("box {name} answers again: what was written there meanwhile is not shown");
        Some(Self::of_remark(text))
    }
}

impl Line for LoggerFiles {
    const WITHIN: Duration = COUNTING;

    fn time(&self) -> f64 {
        self.time
    }

    fn bytes(&self) -> usize {
        size_of_val(self)
    }

    fn of_silence(name: &str, reason: &str) -> Self {
        Self::of_silence(now(), name, reason)
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
pub(super) struct Records {
    before: Vec<RecordLine>,
    /// What comes, if it is followed.
    followed: Option<Followed>,
    /// What remarks begin with.
    place: String,
}

impl Records {
    pub(super) async fn start(
        places: Arc<Places>,
        asked: Asked,
        follows: bool,
        of_box: Option<String>,
    ) -> Result<Self, Refusal> {
        let start = move || {
            let (logs, archive) = (&places.logs, &places.archive);
            if follows {
                let (found, followed) = Followed::start(logs, archive, asked)?;
                Ok((found, Some(followed)))
            } else {
                Ok((records::read(logs, archive, asked)?, None))
            }
        };
        let started = tokio::task::spawn_blocking(start).await;
        let started = started.map_err(|error| Refusal::conflict(error.to_string()))?;
        let (found, followed) =
            started.map_err(|error: std::io::Error| Refusal::conflict(error.to_string()))?;
        let place = of_box.map_or_else(String::new, |name| format!("box {name}: "));
        Ok(Self {
            before: told(found, &place, follows),
            followed,
            place,
        })
    }
}

/// What was found, with what is to be said of it before it. Of a tail nobody needs to be told that there is more before it.
fn told(found: Found, place: &str, is_tail: bool) -> Vec<RecordLine> {
    let mut remarks = found.problems;
    if found.left_out > 0 && !is_tail {
        remarks.push(format!("{} older records are left out", found.left_out));
    }
    if found.unread > 0 && !is_tail {
        let unread = found.unread;
        remarks.push(format!("{unread} older files of the archive are left out"));
    }
    let remarks = remarks.into_iter();
    let remarks = remarks.map(|text| RecordLine::of_remark(format!("{place}{text}")));
    remarks.chain(found.records).collect()
}

impl Source for Records {
    type Line = RecordLine;

    fn take(&mut self) -> Vec<RecordLine> {
        std::mem::take(&mut self.before)
    }

    async fn next(&mut self) -> Option<Vec<RecordLine>> {
        let mut followed = self.followed.take()?;
        if !followed.has_more() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let look = tokio::task::spawn_blocking(move || (followed.look(), followed));
        let (mut lines, followed) = look.await.ok()?;
        self.followed = Some(followed);
        for remark in lines.iter_mut().filter_map(|line| line.remark.as_mut()) {
            remark.insert_str(0, &self.place);
        }
        Some(lines)
    }
}

/// What was counted on this box.
impl Source for Vec<LoggerFiles> {
    type Line = LoggerFiles;

    fn take(&mut self) -> Vec<LoggerFiles> {
        std::mem::take(self)
    }

    async fn next(&mut self) -> Option<Vec<LoggerFiles>> {
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
    let found = tokio::time::timeout(T::WITHIN, asked).await;
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
    let first = unsorted.recv().await?;
    let mut bytes = first.bytes();
    let mut lines = vec![first];
    let end = tokio::time::Instant::now() + MOMENT;
    while lines.len() < MOST_AT_ONCE && bytes < MOST_BYTES_AT_ONCE {
        match tokio::time::timeout_at(end, unsorted.recv()).await {
            Ok(Some(line)) => {
                bytes += line.bytes();
                lines.push(line);
            }
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
        let (mut is_lost, mut was_there) = (false, false);
        loop {
            let told = last;
            let following = async {
                let mut answer = self.client.lines(&query).await?;
                let back = (is_lost && was_there).then(|| T::of_return(&self.name));
                was_there = true;
                if let Some(line) = back.flatten() {
                    is_lost = false;
                    if lines.send(line).await.is_err() {
                        return Ok(());
                    }
                }
                while let Some(line) = answer.next::<T>().await? {
                    // After a loss what was told already comes again.
                    if T::IS_ORDERED && line.time() <= told {
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
            if !T::IS_ORDERED && was_there {
                query = with(&self.what, "last", 0.0);
            } else if last.is_finite() {
                query = with(&self.what, "since", last);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// A query with another number in it.
fn with(what: &str, key: &str, value: f64) -> String {
    let (path, query) = what.split_once('?').unwrap_or((what, ""));
    let is_other = |part: &&str| part.split('=').next() != Some(key);
    let kept: Vec<&str> = query.split('&').filter(is_other).collect();
    format!("{path}?{}&{key}={value}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_begins_where_it_was_left() {
        assert_eq!(
            with("logs?since=3&node=a&follow=true", "since", 7.5),
            "logs?node=a&follow=true&since=7.5"
        );
        assert_eq!(
            with("records/conn?last=10&follow=true", "last", 0.0),
            "records/conn?follow=true&last=0"
        );
    }
}
