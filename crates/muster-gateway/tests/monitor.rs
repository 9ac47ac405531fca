//! Metrics and status over HTTP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::field_reassign_with_default,
    reason = "a report has private fields"
)]

use std::sync::Arc;
use std::time::Duration;

use muster::cluster::node::{CounterSpec, FrameworkCount};
use muster::store::{CloneOptions, PrimaryOptions, StoreName};
use muster::wire::counters::DropCause;
use muster::{Endpoint, EndpointConfig, NodeReport};
use muster_gateway::status::{NodePage, VERSION};
use muster_gateway::{
    BridgeCounts, GatewayCounts, MetricsFormat, Monitor, MonitorAddress, MonitorError,
    MonitorProtection, Monitored, NodeMetrics, Plaintext,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Page;

fn metrics() -> NodeMetrics {
    let mut report = NodeReport::default();
    report.waiting_records = 7;
    report.counts.events_in = 5;
    let notices = FrameworkCount {
        spec: CounterSpec::new("notices", "Notices of scans."),
        value: 3,
    };
    report
        .counts
        .frameworks
        .insert(("scan", "notices"), notices);
    report.inbox_dropped.count(DropCause::Oldest, "/t", 1);
    report.input_low = Some(1_500_000_000_250_000_000);
    report.unrouted.count(DropCause::NoSubscriber, "a\"b\n/", 2);
    let mut gateway = GatewayCounts {
        events_out: 9,
        ..GatewayCounts::default()
    };
    gateway.dropped.count(DropCause::Oldest, "/t", 4);
    NodeMetrics {
        node: "worker-1".to_owned(),
        role: "worker".to_owned(),
        report,
        gateway: Some(gateway),
        bridge: Some(BridgeCounts::default()),
    }
}

impl Monitored for Page {
    fn metrics(&self) -> NodeMetrics {
        metrics()
    }

    fn status(&self) -> NodePage {
        NodePage {
            version: VERSION,
            node: "worker-1".to_owned(),
            ..NodePage::default()
        }
    }
}

async fn get(monitor: &Monitor, path: &str) -> String {
    get_as(monitor, path, "*/*").await
}

async fn get_as(monitor: &Monitor, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(monitor.address()).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "{line} in\n{text}"
        );
    }
}

#[test]
fn metrics_as_text() {
    let text = metrics().text(MetricsFormat::Text);
    let lines = [
        "muster_node_info{node=\"worker-1\",role=\"worker\",version=\"0.1.0\"} 1",
        "# TYPE muster_events_total counter",
        "muster_events_total{direction=\"in\"} 5",
        "# HELP muster_scan_notices_total Notices of scans.",
        "muster_scan_notices_total 3",
        "muster_dropped_messages_total{cause=\"no_subscriber\",queue=\"none\",peer=\"\",topic=\"a\\\"b\\n/\"} 2",
        "muster_subscriber_dropped_messages_total{cause=\"drop_oldest\",subscriber=\"node\",topic=\"/t\"} 1",
        "muster_log_records_waiting 7",
        "muster_node_state{state=\"starting\"} 1",
        "muster_node_state{state=\"ready\"} 0",
        "muster_input_low_timestamp_seconds 1500000000.250000000",
        "muster_gateway_events_total{direction=\"out\"} 9",
        "muster_dropped_messages_total{cause=\"drop_oldest\",queue=\"websocket\",peer=\"\",topic=\"/t\"} 4",
        "muster_bridge_connected 0",
    ];
    assert_lines(&text, &lines);
    assert!(
        !text.contains("# EOF") && !text.contains("# UNIT"),
        "{text}"
    );
}

#[test]
fn metrics_as_open_metrics() {
    let text = metrics().text(MetricsFormat::OpenMetrics);
    let lines = [
        "# TYPE muster_events counter",
        "muster_events_total{direction=\"in\"} 5",
        "# TYPE muster_input_low_timestamp_seconds gauge",
        "# UNIT muster_input_low_timestamp_seconds seconds",
        "muster_scan_notices_total 3",
    ];
    assert_lines(&text, &lines);
    assert!(text.ends_with("\n# EOF\n"), "{text}");
}

#[test]
fn every_sample_is_described() {
    let mut metrics = metrics();
    metrics.report.counts.frameworks.clear();
    let known = NodeMetrics::descriptors();
    for counter in metrics.counters() {
        assert!(known.contains(&&counter.descriptor), "{counter:?}");
    }
}

#[tokio::test]
async fn stores_as_metrics() {
    let endpoint = Endpoint::start(EndpointConfig::default()).unwrap();
    let [one, other] = ["a/b", "c"].map(|name| StoreName::new(name).unwrap());
    let master = endpoint.open_primary(&one, PrimaryOptions::default());
    let master = master.await.unwrap().typed::<u64, String>();
    let clone = endpoint.open_clone(&other, CloneOptions::default());
    let _clone = clone.await.unwrap();
    master.put(&1, "x").await.unwrap();
    let mut metrics = metrics();
    metrics.report.stores = endpoint.store_reports();
    let text = metrics.text(MetricsFormat::Text);
    let lines = [
        "muster_store_info{store=\"a/b\",part=\"primary\",backend=\"memory\"} 1",
        "muster_store_info{store=\"c\",part=\"clone\",backend=\"memory\"} 1",
        "muster_store_entries{store=\"a/b\"} 1",
        "muster_store_entries{store=\"c\"} 0",
        "muster_store_writers{store=\"a/b\"} 0",
        "# TYPE muster_store_backend_failures_total counter",
        "muster_store_backend_failures_total{store=\"a/b\"} 0",
        "muster_store_backend_failing{store=\"a/b\"} 0",
        "muster_store_attached{store=\"c\"} 0",
        "muster_store_stale{store=\"c\"} 0",
    ];
    assert_lines(&text, &lines);
}

#[tokio::test]
async fn over_http() {
    let address = "127.0.0.1:0".parse().unwrap();
    let monitor = Monitor::start(address, MonitorProtection::default(), Arc::new(Page))
        .await
        .unwrap();
    let answer = get(&monitor, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    assert!(!answer.ends_with("# EOF\n"), "{answer}");
    let answer = get_as(&monitor, "/metrics", "application/openmetrics-text").await;
    let content = MetricsFormat::OpenMetrics.content_type();
    assert!(answer.contains(content), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    let answer = get(&monitor, "/status").await;
    assert!(answer.contains("application/json"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let page: NodePage = serde_json::from_str(body).unwrap();
    assert_eq!(page, Page.status());
    assert!(get(&monitor, "/").await.contains("/metrics"));
    assert!(get(&monitor, "/else").await.starts_with("HTTP/1.1 404"));
    let error = Monitor::start(
        monitor.address(),
        MonitorProtection::default(),
        Arc::new(Page),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("monitoring"), "{error}");
}

#[test]
fn addresses() {
    let parse = |text: &str| text.parse::<MonitorAddress>();
    assert_eq!(
        parse("auto").unwrap().for_port(27760),
        Some("127.0.0.1:28760".parse().unwrap())
    );
    assert_eq!(parse("auto").unwrap().for_port(65000), None);
    assert_eq!(parse("off").unwrap().for_port(1), None);
    assert_eq!(
        parse("[::1]:5").unwrap().for_port(1),
        Some("[::1]:5".parse().unwrap())
    );
    assert!(parse("28760").unwrap_err().to_string().contains("28760"));
}

#[tokio::test]
async fn a_connection_ends_with_its_monitor() {
    let address = "127.0.0.1:0".parse().unwrap();
    let monitor = Monitor::start(address, MonitorProtection::default(), Arc::new(Page))
        .await
        .unwrap();
    let mut stream = TcpStream::connect(monitor.address()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(monitor);
    // Less than an idle connection lives by itself.
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "it still stands");
}

/// Whoever reaches it could read everything: off loopback a token and TLS are needed.
#[tokio::test]
async fn off_loopback_a_monitor_needs_a_token_and_tls() {
    let anywhere = "0.0.0.0:0".parse().unwrap();
    let start = async |protection| Monitor::start(anywhere, protection, Arc::new(Page)).await;
    let open = start(MonitorProtection::default()).await.unwrap_err();
    assert!(matches!(open, MonitorError::NoToken(_)), "{open}");
    let protection = MonitorProtection {
        token: Some("0123456789abcdef".to_owned()),
        ..MonitorProtection::default()
    };
    let plain = start(protection.clone()).await.unwrap_err();
    assert!(matches!(plain, MonitorError::NoTls(_)), "{plain}");
    let allowed = MonitorProtection {
        plaintext: Plaintext::Anywhere,
        ..protection
    };
    assert!(start(allowed).await.is_ok());
}

#[tokio::test]
async fn a_monitor_with_a_token_shows_nothing_without_it() {
    let protection = MonitorProtection {
        token: Some("0123456789abcdef".to_owned()),
        ..MonitorProtection::default()
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let monitor = Monitor::start(address, protection, Arc::new(Page))
        .await
        .unwrap();
    let ask = async |header: &str| {
        let mut stream = TcpStream::connect(monitor.address()).await.unwrap();
        let request =
            format!("GET /status HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for wrong in [
        "",
        "Authorization: Bearer 0123456789abcdeF\r\n",
        "Authorization: Basic x\r\n",
    ] {
        let answer = ask(wrong).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(!answer.contains("worker-1"), "{answer}");
    }
    let answer = ask("Authorization: Bearer 0123456789abcdef\r\n").await;
    assert!(answer.contains("worker-1"), "{answer}");
}
