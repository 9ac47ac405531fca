//! What is answered in many lines: events, the nodes' own words, and the records of a stream.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path as UrlPath, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::asker::Asker;
use super::slots::Reads;
use super::{Agent, Refusal, Role, stream};
use crate::boxes::Boxes;
use crate::process_logs::{ProcessLogs, Wanted};
use crate::records::{Asked, Condition, MOST_CONDITIONS, MOST_RECORDS};

/// The most records of each box that whoever follows is told first.
const MOST_BEFORE: usize = 1000;

/// The longest query in bytes.
const LONGEST_QUERY: usize = 4096;

/// What a query asks for.
#[derive(Debug, Default, PartialEq)]
struct Query {
    wanted: Wanted,
    follows: bool,
    /// How many at most, of each box.
    last: Option<usize>,
    /// What records have to have.
    conditions: Vec<Condition>,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let malformed = |text: String| Refusal::malformed(text);
        let query = query.unwrap_or_default();
        if query.len() > LONGEST_QUERY {
            return Err(malformed("the query is too long".to_owned()));
        }
        let mut parsed = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                // Names of nodes have no characters that are written in another way.
                "node" => parsed.wanted.nodes.push(value.to_owned()),
                "since" => {
                    let since = value.parse().ok().filter(|since: &f64| since.is_finite());
                    parsed.wanted.since = since.ok_or_else(|| {
                        malformed(format!("since={value}: seconds since 1970 are expected"))
                    })?;
                }
                "follow" => {
                    parsed.follows = match value {
                        "true" | "" => true,
                        "false" => false,
                        _ => return Err(malformed(format!("follow={value}: true or false"))),
                    }
                }
                "last" => {
                    let last = value
                        .parse()
                        .ok()
                        .filter(|last| (0..=MOST_RECORDS).contains(last));
                    parsed.last = Some(last.ok_or_else(|| {
                        malformed(format!("last={value}: a number up to {MOST_RECORDS}"))
                    })?);
                }
                "where" => {
                    let text = decoded(value).ok_or_else(|| malformed(format!("where={value}")))?;
                    let condition = Condition::parse(&text).map_err(malformed)?;
                    parsed.conditions.push(condition);
                    if parsed.conditions.len() > MOST_CONDITIONS {
                        return Err(malformed(format!("{MOST_CONDITIONS} conditions at most")));
                    }
                }
                _ => return Err(malformed(format!("unknown parameter {key}"))),
            }
        }
        Ok(parsed)
    }
}

/// Lines, for whoever asks as long as they may. If that ends, the last line is a refusal.
pub(super) fn lines(asker: Asker, body: Body) -> Response {
    let told = body
        .into_data_stream()
        .take_until(Box::pin(asker.revoked()));
    let told = futures_util::stream::unfold(Some(told), async |told| {
        let mut told = told?;
        if let Some(data) = told.next().await {
            return Some((data, Some(told)));
        }
        told.take_result()?;
        let refusal = Refusal::forbidden("you may not be told that any more");
        let mut last = serde_json::to_vec(&refusal).unwrap_or_default();
        last.push(b'\n');
        Some((Ok(last.into()), None))
    });
    let body = Body::from_stream(told);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// The query for the other boxes, if they are to be asked.
pub(super) fn of_others<'a>(agent: &'a Agent, asker: &Asker) -> Option<&'a Boxes> {
    agent.boxes.as_deref().filter(|_| !asker.is_box())
}

pub(super) async fn events(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    asker.need(Role::Viewer)?;
    let parsed = Query::parse(query.as_deref())?;
    let (before, live) = agent.journal.follow(parsed.wanted.since);
    let own = agent.boxes.as_ref().map(|boxes| boxes.own().to_owned());
    let source = stream::Events::new(before, live, own);
    let slot = agent.slots.take(Reads::Little)?;
    let what = format!("events?{}", query.unwrap_or_default());
    let others = of_others(&agent, &asker);
    let body = stream::merged(source, others, &what, parsed.follows).await;
    Ok(lines(asker, slot.hold(body)))
}

pub(super) async fn logs(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    asker.need(Role::Operator)?;
    let parsed = Query::parse(query.as_deref())?;
    let slot = agent.slots.take(Reads::Little)?;
    let logs = ProcessLogs::new(&agent.places.process_logs, parsed.wanted);
    let what = format!("logs?{}", query.unwrap_or_default());
    let others = of_others(&agent, &asker);
    let source = stream::Logs::new(logs).await?;
    let body = stream::merged(source, others, &what, parsed.follows).await;
    Ok(lines(asker, slot.hold(body)))
}

pub(super) async fn records(
    State(agent): State<Agent>,
    Extension(asker): Extension<Asker>,
    UrlPath(stream): UrlPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    asker.need(Role::Operator)?;
    let parsed = Query::parse(query.as_deref())?;
    let is_stream = stream
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_stream || stream.is_empty() {
        let text = "records are asked of a stream, as conn";
        return Err(Refusal::malformed(text));
    }
    let what = format!("records/{stream}?{}", query.unwrap_or_default());
    let (reads, most) = if parsed.follows {
        (Reads::Little, MOST_BEFORE)
    } else {
        (Reads::Much, MOST_RECORDS)
    };
    let slot = agent.slots.take(reads)?;
    let asked = Asked {
        stream,
        since: parsed.wanted.since,
        most: parsed.last.unwrap_or(most).min(most),
        conditions: parsed.conditions,
    };
    let name = agent.boxes.as_ref().map(|boxes| boxes.own().to_owned());
    let places = Arc::clone(&agent.places);
    let source = stream::Records::start(places, asked, parsed.follows, name).await?;
    let others = of_others(&agent, &asker);
    let body = stream::merged(source, others, &what, parsed.follows).await;
    Ok(lines(asker, slot.hold(body)))
}

/// A value of a query without its escapes (RFC 3986, section 2.1).
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::super::RefusalKind;
    use super::*;

    #[test]
    fn queries_are_read_or_named() {
        assert_eq!(Query::parse(None).unwrap(), Query::default());
        let query = Query::parse(Some("node=a&node=b&since=3.5&follow=true")).unwrap();
        assert_eq!(query.wanted.nodes, ["a", "b"]);
        assert!(query.follows && query.wanted.since > 3.4);
        let query = Query::parse(Some("last=0&where=a%20b%21=1")).unwrap_err();
        assert!(query.to_string().contains("no condition"), "{query}");
        let query = Query::parse(Some("where=note%3D%3da%26b%C3%A9&where=p!=5")).unwrap();
        let conditions = ["note==a&b\u{e9}", "p!=5"].map(|text| Condition::parse(text).unwrap());
        assert_eq!(query.conditions, conditions);
        for wrong in ["where=a%3", "where=a%zz", "where=%ff==1", "last=-1"] {
            assert!(Query::parse(Some(wrong)).is_err(), "{wrong}");
        }
        for wrong in ["since=NaN", "since=", "follow=perhaps", "colour=red"] {
            let refusal = Query::parse(Some(wrong)).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Malformed, "{wrong}");
        }
        assert!(Query::parse(Some(&"a".repeat(LONGEST_QUERY + 1))).is_err());
    }
}
