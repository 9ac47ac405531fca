//! How the agents of all boxes come to have the same roster.

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::SignedRoster;
use crate::api::Done;
use crate::boxes::Boxes;
use crate::client::{Client, ClientError};
use crate::journal::{EventKind, Journal};

/// How long another box may take.
const ANSWER: Duration = Duration::from_millis(1500);

/// How often another box, one after another, is asked whether it has a later one.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What a box answers that is asked for a later roster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(crate) struct LaterRoster {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) later: Option<SignedRoster>,
}

/// Tells the roster to all other boxes. Returns the names of those that have not heard it; they ask for it when they are
/// back.
pub(crate) async fn spread(boxes: &Boxes) -> Vec<String> {
    let Some(signed) = boxes.roster().later_than(0) else {
        return Vec::new();
    };
    let roster = boxes.roster().roster();
    let is_forgotten = |name: &str| roster.forgotten.contains_key(name);
    let told = boxes.others().map(|(name, client)| {
        let signed = signed.clone();
        async move {
            let told = client.post::<_, Done>("roster", &*signed);
            match tokio::time::timeout(ANSWER, told).await {
                Ok(Ok(_)) => None,
                // It is not to hear anything until it has joined again.
                Ok(Err(ClientError::NotTrusted { .. })) if is_forgotten(name) => None,
                _ => Some(name.to_owned()),
            }
        }
    });
    join_all(told).await.into_iter().flatten().collect()
}

/// Takes a roster, and notes it.
pub(crate) fn take(boxes: &Boxes, journal: &Journal, signed: &SignedRoster, from: &str) {
    match boxes.roster().take(signed) {
        Ok(false) => {}
        Ok(true) => {
            let roster = boxes.roster().roster();
            let text = format!(
                "operators and forgotten boxes: version {} of the roster, from {from}",
                roster.version
            );
            journal.note(EventKind::Note, None, text);
        }
        Err(error) => tracing::warn!("what {from} has told: {error}"),
    }
}

async fn ask(boxes: &Boxes, journal: &Journal, name: &str, client: &Client) {
    let version = boxes.roster().roster().version;
    let what = format!("roster/{version}");
    let asked = tokio::time::timeout(ANSWER, client.get::<LaterRoster>(&what)).await;
    let asked = asked.unwrap_or(Err(ClientError::TimedOut));
    // Whoever does not answer is named by `muster status`.
    if let Ok(LaterRoster {
        later: Some(signed),
    }) = asked
    {
        take(boxes, journal, &signed, &format!("box {name}"));
    }
}

/// Asks the other boxes for a later roster, as long as the agent runs: all of them first, then one after another.
pub(crate) async fn keep_up(boxes: &Boxes, journal: &Journal) {
    let all = boxes.others();
    join_all(all.map(|(name, client)| ask(boxes, journal, name, client))).await;
    let others: Vec<_> = boxes.others().collect();
    for (name, client) in others.iter().cycle() {
        tokio::time::sleep(ASK_EVERY).await;
        ask(boxes, journal, name, client).await;
    }
}
