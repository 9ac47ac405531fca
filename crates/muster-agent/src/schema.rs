//! The description of the agent's API, as OpenAPI 3.1: made from the types that are answered, so that it says what they are.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::api::{AdoptStoreRequest, Done, MoveStoreRequest, RecoverRequest, Refusal, TargetGroup};
use crate::desk::{
    AuthorityAnswer, JoinRequest, Joined, KnownOperator, OperatorAnswer, OperatorRequest,
    SignRequest, Signed, TokenAnswer, TokenRequest,
};
use crate::journal::Event;
use crate::process_logs::LogLine;
use crate::records::{LoggerFiles, RecordLine};
use crate::roster::{LaterRoster, SignedRoster};
use muster_gateway::status::{ClusterStatus, CoordinatorsStatus, StoresStatus};

/// What stands before everything.
const ABOUT: &str = "\
What the agent of a box answers over HTTP: on the Unix sockets `agent.sock` and `view.sock` in `/run/muster`, and over TLS 1.3 at port \
17700. What whoever asks may do, the socket, the certificate or the token of an operator says: a viewer looks, an operator also restarts nodes and reads logs, an \
admin does everything. What is refused is answered with a `Refusal` and a status of 400 or above. Fields may be added within version 1.";

/// How an answer is written.
enum Answer {
    /// One JSON value of this schema.
    Json(Value),
    /// A JSON object of this schema on each line; there may be none.
    Lines(Value),
    Text(&'static str),
}

struct Operation {
    method: &'static str,
    path: &'static str,
    role: &'static str,
    summary: &'static str,
    /// Names and meanings.
    query: &'static [(&'static str, &'static str)],
    body: Option<Value>,
    answer: Answer,
}

/// The parameters of what is answered in lines.
const SINCE: (&str, &str) = ("since", "Only what is as new, in seconds since 1970.");

/// See [`SINCE`].
const FOLLOW: (&str, &str) = (
    "follow",
    "`true`: go on with what comes, until the connection ends.",
);

fn operations(schemas: &mut SchemaGenerator) -> Vec<Operation> {
    fn get(
        path: &'static str,
        role: &'static str,
        summary: &'static str,
        answer: Answer,
    ) -> Operation {
        Operation {
            method: "get",
            path,
            role,
            summary,
            query: &[],
            body: None,
            answer,
        }
    }
    let mut of = Schemas(schemas);
    let done = of.schema::<Done>();
    let post = |path, role, summary| Operation {
        method: "post",
        answer: Answer::Json(done.clone()),
        ..get(path, role, summary, Answer::Text(""))
    };
    vec![
        get(
            "/livez",
            "viewer",
            "Says that the agent's loop turns.",
            Answer::Text("A line in words."),
        ),
        get(
            "/readyz",
            "viewer",
            "Says whether every node is ready; if not, with the status 503.",
            Answer::Text("A line in words."),
        ),
        get(
            "/metrics",
            "viewer, or the token for metrics",
            "Returns the metrics of the box and of its nodes.",
            Answer::Text(
                "Prometheus's text format, or OpenMetrics if the header `Accept` prefers it.",
            ),
        ),
        get(
            "/v1/prometheus/targets",
            "viewer, or the token for metrics",
            "Returns the agents of the cluster, for `http_sd_configs` of Prometheus.",
            Answer::Json(of.schema::<Vec<TargetGroup>>()),
        ),
        get(
            "/v1/openapi.json",
            "anybody",
            "Returns this description.",
            Answer::Json(json!({"type": "object"})),
        ),
        get(
            "/v1/status",
            "viewer",
            "Returns the state of the cluster; to another box that of this box alone.",
            Answer::Json(of.schema::<ClusterStatus>()),
        ),
        Operation {
            query: &[SINCE, FOLLOW],
            ..get(
                "/v1/events",
                "viewer",
                "Returns what happened, in the order of time.",
                Answer::Lines(of.schema::<Event>()),
            )
        },
        Operation {
            query: &[
                ("node", "Only of this node. May be given more than once."),
                SINCE,
                FOLLOW,
            ],
            ..get(
                "/v1/logs",
                "operator",
                "Returns what the nodes' processes say of themselves, in the order of time.",
                Answer::Lines(of.schema::<LogLine>()),
            )
        },
        get(
            "/v1/records",
            "operator",
            "Counts the log records in the files of each logger's present life, beside what it says that it has written. It may take minutes.",
            Answer::Lines(of.schema::<LoggerFiles>()),
        ),
        Operation {
            query: &[
                SINCE,
                ("last", "At most so many of each box, the newest."),
                (
                    "where",
                    "Only what fulfils this condition: `FIELD==VALUE` or `FIELD!=VALUE`. May be given more than once.",
                ),
                FOLLOW,
            ],
            ..get(
                "/v1/records/{stream}",
                "operator",
                "Returns the log records of a stream, of all loggers, in the order of time.",
                Answer::Lines(of.schema::<RecordLine>()),
            )
        },
        post(
            "/v1/nodes/{node}/{verb}",
            "operator",
            "Has a node restarted, stopped or started: the verb is `restart`, `stop` or `start`.",
        ),
        post(
            "/v1/{verb}",
            "admin",
            "Has the agent stop its nodes and itself (`stop`), open files anew (`reopen`), or go on with the program on disk (`reload`).",
        ),
        Operation {
            body: Some(of.schema::<TokenRequest>()),
            answer: Answer::Json(of.schema::<TokenAnswer>()),
            ..post(
                "/v1/tokens",
                "admin",
                "Makes a token with which a box may join once.",
            )
        },
        post(
            "/v1/boxes/{name}/forget",
            "admin",
            "Lets another machine join with the name of a box; the certificate of the one before is taken no more.",
        ),
        get(
            "/v1/operators",
            "admin",
            "Returns the operators: people who ask from other machines.",
            Answer::Json(of.schema::<Vec<KnownOperator>>()),
        ),
        Operation {
            body: Some(of.schema::<OperatorRequest>()),
            answer: Answer::Json(of.schema::<OperatorAnswer>()),
            ..post(
                "/v1/operators",
                "admin",
                "Adds an operator: with a request for a certificate that certificate is answered, without one a token.",
            )
        },
        post(
            "/v1/operators/{name}/remove",
            "admin",
            "Removes an operator: their certificate or token is of no use any more.",
        ),
        get(
            "/v1/coordinators",
            "viewer",
            "Returns what the boxes know of the coordinators: what the one says that leads; to another box what this one knows.",
            Answer::Json(of.schema::<CoordinatorsStatus>()),
        ),
        Operation {
            body: Some(of.schema::<RecoverRequest>()),
            ..post(
                "/v1/coordinators/recover",
                "admin",
                "Has the coordinator of this box go on alone, as most others are lost for good. It is refused while they decide, and while the box answers that is said to be lost.",
            )
        },
        get(
            "/v1/stores",
            "viewer",
            "Returns who keeps the stores, as coordinators have decided it: what the box says that leads; to another box what this one knows.",
            Answer::Json(of.schema::<StoresStatus>()),
        ),
        Operation {
            body: Some(of.schema::<MoveStoreRequest>()),
            ..post(
                "/v1/stores/move",
                "operator",
                "Has a store's primary move to a node, which gets a copy first if it has none. It is ordered when this is answered, and done when `/v1/stores` says so.",
            )
        },
        Operation {
            body: Some(of.schema::<AdoptStoreRequest>()),
            ..post(
                "/v1/stores/adopt",
                "admin",
                "Has a store that waits for its last copies begin with what a node has. What only other nodes have is lost. It is ordered when this is answered, and done when `/v1/stores` says so.",
            )
        },
        get(
            "/v1/roster/{version}",
            "a box of the cluster",
            "Returns the roster of operators and forgotten boxes, if it is later than a version.",
            Answer::Json(of.schema::<LaterRoster>()),
        ),
        Operation {
            body: Some(of.schema::<SignedRoster>()),
            ..post(
                "/v1/roster",
                "a box of the cluster",
                "Tells a roster, which is taken if the authority has signed it and it is later.",
            )
        },
        get(
            "/v1/ca",
            "anybody",
            "Returns the certificate of the cluster's authority. Who has a token compares its hash.",
            Answer::Json(of.schema::<AuthorityAnswer>()),
        ),
        Operation {
            body: Some(of.schema::<JoinRequest>()),
            answer: Answer::Json(of.schema::<Joined>()),
            ..post(
                "/v1/join",
                "who has a token",
                "Lets a box join the cluster.",
            )
        },
        Operation {
            body: Some(of.schema::<SignRequest>()),
            answer: Answer::Json(of.schema::<Signed>()),
            ..post(
                "/v1/sign",
                "a box of the cluster",
                "Makes a certificate for a box, or for one of its nodes.",
            )
        },
    ]
}

struct Schemas<'a>(&'a mut SchemaGenerator);

impl Schemas<'_> {
    fn schema<T: schemars::JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }
}

/// Returns the description.
#[must_use]
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = SchemaGenerator::new(settings);
    let refusal = Schemas(&mut schemas).schema::<Refusal>();
    let mut paths = Map::new();
    for operation in operations(&mut schemas) {
        let at = paths.entry(operation.path).or_insert_with(|| json!({}));
        at[operation.method] = operation.describe(&refusal);
    }
    let mut description = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The agent of a box",
            "version": "1",
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.take_definitions(true)},
    });
    without_links(&mut description);
    description
}

impl Operation {
    fn describe(&self, refusal: &Value) -> Value {
        let in_path = self.path.split('{').skip(1);
        let in_path = in_path.filter_map(|part| part.split('}').next());
        let in_path = in_path.map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        });
        let in_query = self.query.iter().map(|(name, meaning)| {
            json!({"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}})
        });
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        let (description, content) = match &self.answer {
            Answer::Json(schema) => ("Done.", json!({"application/json": {"schema": schema}})),
            Answer::Lines(schema) => (
                "A JSON object on each line.",
                json!({"application/x-ndjson": {"schema": schema}}),
            ),
            Answer::Text(description) => (
                *description,
                json!({"text/plain": {"schema": {"type": "string"}}}),
            ),
        };
        let mut described = json!({
            "summary": self.summary,
            "description": format!("Role: {}.", self.role),
            "parameters": parameters,
            "responses": {
                "200": {"description": description, "content": content},
                "default": {
                    "description": "Why not.",
                    "content": {"application/json": {"schema": refusal}},
                },
            },
        });
        if let Some(body) = &self.body {
            let content = json!({"application/json": {"schema": body}});
            described["requestBody"] = json!({"required": true, "content": content});
        }
        described
    }
}

/// Descriptions are those of the code, which has links to other items: `[name](path)` becomes `name`.
fn without_links(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (key, entry) in entries.iter_mut() {
                match entry {
                    Value::String(text) if key == "description" => *text = plain(text),
                    other => without_links(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_links),
        _ => {}
    }
}

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        plain.push_str(before);
        let Some((name, after)) = after.split_once("`]") else {
            plain.push_str("[`");
            rest = after;
            continue;
        };
        plain.push('`');
        plain.push_str(name);
        plain.push('`');
        rest = match after
            .strip_prefix('(')
            .and_then(|link| link.split_once(')'))
        {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain.push_str(rest);
    plain.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_code_become_names() {
        assert_eq!(
            plain("See [`A::b`](c::A::b) and [`D`]."),
            "See `A::b` and `D`."
        );
        assert_eq!(plain("[x] [`open"), "[x] [`open");
    }
}
