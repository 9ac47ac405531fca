//! What a client says and hears, without I/O: the protocol of Zeek's WebSocket server.

use std::sync::Arc;

use bytes::Bytes;
use muster::cluster::node::PEERS_REQUEST;
use muster_data::{DataRef, Limits, encode_to_vec, json};
use muster_wire::Topic;
use muster_wire::zeek::EventRef;
use serde::Serialize;

use crate::access::Grant;

/// The only path that there is.
pub const PATH: &str = "/v1/messages/json";

/// The most topic prefixes of a client, and the most bytes of them together.
const MOST_SUBSCRIPTIONS: usize = 1024;
const MOST_SUBSCRIBED_BYTES: usize = 64 << 10;

/// The most levels of a client's value; those of Zeek's events are few.
const LIMITS: Limits = Limits {
    depth: 64,
    elements: 1 << 20,
    // The connection limits the size of a message.
    bytes: usize::MAX,
};

/// What is to be done for a message of a client.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Subscribe, then say [`Session::acknowledgement`].
    Subscribe(Vec<String>),
    /// Publish an event, encoded.
    Publish {
        /// Where to.
        topic: Topic,
        /// The event.
        payload: Bytes,
    },
    /// Answer.
    Reply(String),
    /// Answer, then end the connection with code 1008.
    Refuse(Refusal),
}

/// Why a connection ends before it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not [`PATH`].
    Path,
    /// An application name with characters that it cannot have.
    ApplicationName,
    /// A subscription that the token does not permit.
    Subscription,
    /// No room for more subscriptions.
    Full,
}

impl Refusal {
    /// The reason that goes with the code.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Path => "Invalid URI - use /v1/messages/json",
            Self::ApplicationName => "Invalid X-Application-Name",
            Self::Subscription => "subscription not permitted",
            Self::Full => "too many subscriptions of all clients together",
        }
    }

    /// The message that explains.
    pub(crate) fn text(self) -> String {
        let code = match self {
            Self::Path => "invalid_uri",
            Self::ApplicationName => "invalid_application_name",
            Self::Subscription => "permission_denied",
            Self::Full => "too_many_subscriptions",
        };
        error(code, self.reason(), None)
    }
}

/// One client's side of the protocol.
#[derive(Debug)]
pub(crate) struct Session {
    grant: Arc<Grant>,
    /// What the acknowledgement calls the client.
    name: String,
    subscribed: bool,
}

impl Session {
    /// A new client, as its request shows it.
    pub(crate) fn new(
        path: &str,
        application: Option<&[u8]>,
        grant: Arc<Grant>,
        name: String,
    ) -> Result<Self, Refusal> {
        if path != PATH {
            return Err(Refusal::Path);
        }
        if application.is_some_and(|name| !is_application_name(name)) {
            return Err(Refusal::ApplicationName);
        }
        Ok(Self {
            grant,
            name,
            subscribed: false,
        })
    }

    /// Deals with a message of the client, text or binary.
    pub(crate) fn message(&mut self, text: &[u8]) -> Action {
        if self.subscribed {
            self.event(text)
        } else {
            self.subscriptions(text)
        }
    }

    fn subscriptions(&mut self, text: &[u8]) -> Action {
        let Ok(serde_json::Value::Array(elements)) = serde_json::from_slice(text) else {
            return Action::Reply(malformed("subscriptions not an array", None));
        };
        let mut prefixes = Vec::with_capacity(elements.len().min(MOST_SUBSCRIPTIONS));
        let mut bytes = 0;
        for element in elements {
            let serde_json::Value::String(prefix) = element else {
                return Action::Reply(malformed("individual subscription not a string", None));
            };
            if let Err(problem) = Topic::new(&prefix) {
                let detail = Some(problem.to_string());
                return Action::Reply(malformed("invalid subscription", detail));
            }
            bytes += prefix.len();
            if prefixes.len() == MOST_SUBSCRIPTIONS || bytes > MOST_SUBSCRIBED_BYTES {
                let detail = format!(
                    "at most {MOST_SUBSCRIPTIONS}, of {MOST_SUBSCRIBED_BYTES} bytes together"
                );
                let detail = Some(detail);
                return Action::Reply(malformed("too many subscriptions", detail));
            }
            if !self.grant.may_subscribe(&prefix) {
                return Action::Refuse(Refusal::Subscription);
            }
            prefixes.push(prefix);
        }
        self.subscribed = true;
        Action::Subscribe(prefixes)
    }

    /// What a client hears when its subscriptions are in force.
    pub(crate) fn acknowledgement(&self) -> String {
        written(&Acknowledgement {
            r#type: "ack",
            endpoint: &self.name,
            version: concat!("muster-", env!("CARGO_PKG_VERSION")),
        })
    }

    fn event(&self, text: &[u8]) -> Action {
        let message = match json::read_message(text, &LIMITS) {
            Ok(message) => message,
            Err(error) => {
                let context = "failed to decode JSON object";
                return Action::Reply(malformed(context, Some(error.to_string())));
            }
        };
        let Some(topic) = message.topic else {
            return Action::Reply(malformed("no topic in top-level JSON object", None));
        };
        let payload = encode_to_vec(&message.data);
        let not_an_event =
            |detail: String| Action::Reply(malformed("failed to create Zeek event", Some(detail)));
        match EventRef::read(DataRef::from_validated(&payload)) {
            Ok(event) if is_control(event.name()) => {
                let detail = format!("{} is for nodes to say", event.name());
                let context = "control events come from nodes only";
                return Action::Reply(error("permission_denied", context, Some(detail)));
            }
            Ok(_) => {}
            Err(problem) => return not_an_event(problem.to_string()),
        }
        if !self.grant.may_publish(&topic) {
            let detail = Some(format!("publishing to {topic} is not permitted"));
            return Action::Reply(error(
                "permission_denied",
                "publishing not permitted",
                detail,
            ));
        }
        match Topic::new(&topic) {
            Ok(topic) => Action::Publish {
                topic,
                payload: payload.into(),
            },
            Err(problem) => not_an_event(problem.to_string()),
        }
    }
}

/// Whether an event is one by which nodes deal with one another. What a client says is the client's: to the others it
/// would come from the gateway's node.
fn is_control(event: &str) -> bool {
    let is_reserved = event.starts_with("Muster::") || event.starts_with("Cluster::");
    // Anybody may ask.
    is_reserved && event != PEERS_REQUEST
}

/// Whether a name consists of letters, digits and `/ _ - . = : * @`, as Zeek has it.
fn is_application_name(name: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_-.=:*@".contains(byte);
    name.iter().all(fits)
}

fn malformed(context: &str, detail: Option<String>) -> String {
    error("deserialization_failed", context, detail)
}

/// What a client hears in place of an event that its queue can never take.
pub(crate) fn too_large(topic: &Topic, bytes: usize) -> String {
    let detail = format!("an event of {bytes} bytes on {topic}");
    let context = "event larger than the client's whole queue";
    error("event_too_large", context, Some(detail))
}

/// An error as Zeek writes it; the detail is ours.
fn error(code: &str, context: &str, detail: Option<String>) -> String {
    written(&Problem {
        r#type: "error",
        code,
        context,
        detail,
    })
}

/// In the order in which Zeek writes it.
#[derive(Serialize)]
struct Acknowledgement<'a> {
    r#type: &'static str,
    endpoint: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    code: &'a str,
    context: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

fn written(message: &impl Serialize) -> String {
    // A struct of texts can always be written.
    serde_json::to_string(message).unwrap_or_default()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
