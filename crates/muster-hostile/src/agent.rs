//! What an agent is asked over HTTP, and what nodes report to it.

/// Requests, each as a fuzz target reads it.
const REQUESTS: [&str; 23] = [
    "GET /v1/status\naccept: */*\n\n",
    "GET /v1/events?since=1700000000.5\n\n",
    "GET /v1/logs?node=manager&node=data-1&since=0\n\n",
    "GET /v1/records/conn?since=1&last=10\nx-muster-for: user 1000\n\n",
    "GET /metrics\nauthorization: Bearer 0123456789abcdef\naccept: application/openmetrics-text\n\n",
    "GET /v1/prometheus/targets\n\n",
    "GET /readyz\n\n",
    "GET /v1/ca\n\n",
    "POST /v1/nodes/data-1/restart\n\n",
    "POST /v1/nodes/data-1/stop\nx-muster-for: alice\n\n",
    "POST /v1/stop\n\n",
    "POST /v1/tokens\ncontent-type: application/json\n\n{\"ttl_seconds\":3600,\"box\":\"b\"}",
    "POST /v1/boxes/b/forget\n\n",
    "POST /v1/join\ncontent-type: application/json\n\n{\"token\":\"muster1.00.00\",\"box\":\"b\",\"address\":\"127.0.0.2\",\"version\":\"0.1.0\",\"time\":1.7e9,\"request\":\"\"}",
    "POST /v1/sign\ncontent-type: application/json\n\n{\"node\":\"n\",\"request\":\"-----BEGIN CERTIFICATE REQUEST-----\"}",
    "GET /v1/operators\n\n",
    "POST /v1/operators\ncontent-type: application/json\n\n{\"name\":\"dora\",\"role\":\"admin\",\"ttl_seconds\":3600,\"replace\":true}",
    "POST /v1/operators/dora/remove\n\n",
    "GET /v1/coordinators\n\n",
    "POST /v1/coordinators/recover\ncontent-type: application/json\n\n{\"lost\":\"b\"}",
    "GET /v1/roster/0\nauthorization: Bearer musterop1.00.00.00\n\n",
    "POST /v1/roster\ncontent-type: application/json\n\n{\"roster\":\"{}\",\"signature\":\"00\"}",
    "{\"id\":\"1\",\"state\":\"ready\",\"counts\":{\"events_in\":1},\"peers\":[]}",
];

/// Asks an agent's API what the bytes say, as everybody who may and who may not, and reads them as a node's report.
pub fn agent(bytes: &[u8]) {
    muster_agent::hostile::ask(bytes);
    muster_agent::hostile::report(bytes);
}

pub(crate) fn requests() -> impl Iterator<Item = Vec<u8>> {
    REQUESTS.iter().map(|request| request.as_bytes().to_vec())
}
