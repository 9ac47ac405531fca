//! `openapi.json` describes the agent's API: it is made from the code, names every path, and answers are as it says.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::agent_box::AgentBox;
use support::until;

/// With this variable in the environment the description is written anew.
const RENEW: &str = "RENEW_DOCUMENTS";

fn agent_crate() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../muster-agent")
}

#[test]
fn the_description_is_what_the_code_makes() {
    let path = agent_crate().join("openapi.json");
    let expected = serde_json::to_string_pretty(&muster_agent::openapi()).unwrap() + "\n";
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == expected,
        "openapi.json is not what the code makes; {RENEW}=1 in the environment of this test writes it anew"
    );
}

#[test]
fn every_path_is_described_and_every_description_has_a_path() {
    let code = std::fs::read_to_string(agent_crate().join("src/api.rs")).unwrap();
    let routes = code.split(".route(\"").skip(1);
    let routes: BTreeSet<&str> = routes.map(|rest| rest.split('"').next().unwrap()).collect();
    let description = muster_agent::openapi();
    let described = description["paths"].as_object().unwrap().keys();
    let described: BTreeSet<&str> = described.map(String::as_str).collect();
    assert!(routes.len() > 10);
    assert_eq!(routes, described);
}

/// What an agent answers: the status and the body.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Finds what is wrong with an answer.
struct Checker(Value);

impl Checker {
    fn schema(&self, path: &str, method: &str, response: &str) -> (&str, Value) {
        let content = &self.0["paths"][path][method]["responses"][response]["content"];
        let (kind, content) = content.as_object().unwrap().iter().next().unwrap();
        let mut schema = content["schema"].clone();
        schema["components"] = self.0["components"].clone();
        (kind, schema)
    }

    /// Checks an answer to `path`, which is described as `pattern`.
    fn check(&self, pattern: &str, method: &str, (status, body): &(u16, String)) -> usize {
        let response = if *status == 200 { "200" } else { "default" };
        let (kind, schema) = self.schema(pattern, method, response);
        if kind == "text/plain" {
            assert!(!body.is_empty(), "{pattern}");
            return 1;
        }
        let validator = jsonschema::validator_for(&schema).unwrap();
        let values: Vec<&str> = match kind {
            "application/x-ndjson" => body.lines().collect(),
            _ => vec![body],
        };
        for text in &values {
            let value: Value = serde_json::from_str(text).unwrap();
            if let Err(error) = validator.validate(&value) {
                panic!(
                    "{method} {pattern}: {error} at {}: {value}",
                    error.instance_path()
                );
            }
        }
        values.len()
    }
}

#[test]
fn answers_are_as_described() {
    let here = AgentBox::new();
    let _agent = here.start();
    let socket = here.root().join("run/muster/agent.sock");
    let ask = |method: &str, path: &str, body: &str| ask(&socket, method, path, body);
    let (status, text) = ask("GET", "/v1/openapi.json", "");
    assert_eq!(status, 200);
    let checker = Checker(serde_json::from_str(&text).unwrap());
    assert!(checker.0 == muster_agent::openapi(), "another description");

    // The worker's connections make records.
    let records = "/v1/records/known_hosts";
    until("records", || {
        ask("GET", records, "").1.contains("fields").then_some(())
    });
    for (pattern, path) in [
        ("/livez", "/livez"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/v1/prometheus/targets", "/v1/prometheus/targets"),
        ("/v1/status", "/v1/status"),
        ("/v1/coordinators", "/v1/coordinators"),
        ("/v1/stores", "/v1/stores"),
        ("/v1/events", "/v1/events?since=0"),
        ("/v1/logs", "/v1/logs?node=manager"),
        ("/v1/records/{stream}", records),
    ] {
        let answer = ask("GET", path, "");
        assert_eq!(answer.0, 200, "{path}: {}", answer.1);
        assert!(checker.check(pattern, "get", &answer) > 0, "{path}");
    }
    let node = "/v1/nodes/{node}/{verb}";
    let of_x = "{\"store\":\"x\",\"node\":\"data-1\"}";
    let adopt =
        |word| format!("{{\"store\":\"x\",\"node\":\"data-1\",\"lose_what_others_have\":{word}}}");
    let (adopted, not_confirmed) = (adopt("true"), adopt("false"));
    for (pattern, method, path, body, expected) in [
        (node, "post", "/v1/nodes/data-1/restart", "", 200),
        (node, "post", "/v1/nodes/data-1/stop", "", 200),
        (node, "post", "/v1/nodes/data-1/start", "", 200),
        (node, "post", "/v1/nodes/data-9/stop", "", 404),
        (node, "post", "/v1/nodes/data-1/sing", "", 404),
        ("/v1/{verb}", "post", "/v1/reopen", "", 200),
        ("/v1/{verb}", "post", "/v1/dance", "", 404),
        ("/v1/events", "get", "/v1/events?since=soon", "", 400),
        ("/v1/records/{stream}", "get", "/v1/records/a%2Fb", "", 400),
        ("/v1/ca", "get", "/v1/ca", "", 409),
        (
            "/v1/coordinators/recover",
            "post",
            "/v1/coordinators/recover",
            "{\"lost\":\"b\"}",
            409,
        ),
        (
            "/v1/coordinators/recover",
            "post",
            "/v1/coordinators/recover",
            "{}",
            400,
        ),
        ("/v1/stores/move", "post", "/v1/stores/move", of_x, 409),
        ("/v1/stores/move", "post", "/v1/stores/move", "{}", 400),
        (
            "/v1/stores/adopt",
            "post",
            "/v1/stores/adopt",
            &adopted,
            409,
        ),
        (
            "/v1/stores/adopt",
            "post",
            "/v1/stores/adopt",
            &not_confirmed,
            400,
        ),
        ("/v1/stores/adopt", "post", "/v1/stores/adopt", of_x, 400),
        ("/v1/tokens", "post", "/v1/tokens", "{", 400),
        (
            "/v1/tokens",
            "post",
            "/v1/tokens",
            "{\"ttl_seconds\":1}",
            409,
        ),
        ("/v1/join", "post", "/v1/join", "[]", 400),
        ("/v1/sign", "post", "/v1/sign", "{\"request\":\"\"}", 409),
        ("/v1/operators", "get", "/v1/operators", "", 409),
        ("/v1/operators", "post", "/v1/operators", "{}", 400),
        (
            "/v1/operators/{name}/remove",
            "post",
            "/v1/operators/alice/remove",
            "",
            409,
        ),
        ("/v1/roster", "post", "/v1/roster", "{}", 403),
        ("/v1/roster/{version}", "get", "/v1/roster/0", "", 403),
        (
            "/v1/boxes/{name}/forget",
            "post",
            "/v1/boxes/b/forget",
            "",
            409,
        ),
    ] {
        let answer = ask(&method.to_uppercase(), path, body);
        assert_eq!(answer.0, expected, "{path}: {}", answer.1);
        checker.check(pattern, method, &answer);
    }
    // The checker notices what is not so.
    let wrong = (200, json!({"version": "1"}).to_string());
    let checked = std::panic::catch_unwind(|| checker.check("/v1/status", "get", &wrong));
    assert!(checked.is_err());
}
