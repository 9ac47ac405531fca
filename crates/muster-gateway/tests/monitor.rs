//! Metrics and status over HTTP.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(
    clippy::field_reassign_with_default,
    reason = "a report has private fields"
)]

use std::sync::Arc;
use std::time::Duration;

use muster::store::{CloneOptions, PrimaryOptions, StoreName};
use muster::wire::counters::DropCause;
use muster::{Endpoint, EndpointConfig, NodeReport};
use muster_gateway::{
    BridgeCounts, GatewayCounts, Monitor, MonitorAddress, Monitored, NodeMetrics,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Page;

fn metrics() -> NodeMetrics {
    let mut report = NodeReport::default();
    report.waiting_records = 7;
    report.counts.events_in = 5;
    report.counts.frameworks.insert(("scan", "notices"), 3);
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

    fn status(&self) -> String {
        "{\"version\": 1}\n".to_owned()
    }
}

async fn get(monitor: &Monitor, path: &str) -> String {
    let mut stream = TcpStream::connect(monitor.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn metrics_as_text() {
    let text = metrics().text();
    for line in [
        "muster_node_info{node=\"worker-1\",role=\"worker\",version=\"0.1.0\"} 1.0",
        "# TYPE muster_node_events_in counter",
        "muster_node_events_in_total 5.0",
        "muster_framework_notices_total{framework=\"scan\"} 3.0",
        "muster_unrouted_messages_total{cause=\"no_subscriber\",topic=\"a\\\"b\\n/\"} 2.0",
        "muster_waiting_records 7.0",
        "muster_node_state{state=\"starting\"} 1.0",
        "muster_node_state{state=\"ready\"} 0.0",
        "muster_gateway_events_out_total 9.0",
        "muster_gateway_dropped_messages_total{cause=\"drop_oldest\",topic=\"/t\"} 4.0",
        "muster_bridge_connected 0.0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
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
    let text = metrics.text();
    for line in [
        "muster_store_info{store=\"a/b\",role=\"master\",backend=\"memory\"} 1.0",
        "muster_store_info{store=\"c\",role=\"clone\",backend=\"memory\"} 1.0",
        "muster_store_entries{store=\"a/b\"} 1.0",
        "muster_store_entries{store=\"c\"} 0.0",
        "muster_store_writers{store=\"a/b\"} 0.0",
        "# TYPE muster_store_backend_failures counter",
        "muster_store_backend_failures_total{store=\"a/b\"} 0.0",
        "muster_store_backend_failing{store=\"a/b\"} 0.0",
        "muster_store_attached{store=\"c\"} 0.0",
        "muster_store_stale{store=\"c\"} 0.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn over_http() {
    let address = "127.0.0.1:0".parse().unwrap();
    let monitor = Monitor::start(address, Arc::new(Page)).await.unwrap();
    let answer = get(&monitor, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(NodeMetrics::CONTENT_TYPE), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    let answer = get(&monitor, "/status").await;
    assert!(answer.contains("application/json"), "{answer}");
    assert!(answer.ends_with("{\"version\": 1}\n"), "{answer}");
    assert!(get(&monitor, "/").await.contains("/metrics"));
    assert!(get(&monitor, "/else").await.starts_with("HTTP/1.1 404"));
    let error = Monitor::start(monitor.address(), Arc::new(Page))
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
    let monitor = Monitor::start(address, Arc::new(Page)).await.unwrap();
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
