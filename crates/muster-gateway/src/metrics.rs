//! What a node counts as metrics for Prometheus, in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::fmt;

use muster::store::{CloneReport, Freshness, PrimaryReport, StorePart, StoreReport};
use muster::{NodeReport, NodeState};
use muster_wire::counters::DropLedger;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::client::BridgeCounts;
use crate::clients::GatewayCounts;

/// Peers that are no nodes, and former ones: together under one name, so that whoever connects cannot
/// make labels.
const OTHER_PEERS: &str = "other";

/// What there is to tell of a node.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    /// The node's name.
    pub node: String,
    /// Its role.
    pub role: String,
    /// What it counts and sees.
    pub report: NodeReport,
    /// Its gateway, if it has one.
    pub gateway: Option<GatewayCounts>,
    /// Its bridge, if it has one.
    pub bridge: Option<BridgeCounts>,
}

type Labels = Vec<(String, String)>;

/// A metric with its samples by labels.
#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricType,
    samples: BTreeMap<Labels, f64>,
}

/// The metrics by name, without prefix and `_total`.
#[derive(Debug, Default)]
struct Families(BTreeMap<String, Family>);

impl Families {
    fn add(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let family = self.0.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            samples: BTreeMap::new(),
        });
        let labels = labels.iter();
        let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        *family.samples.entry(labels.collect()).or_default() += value;
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "metrics are doubles; counts below 2^53 are exact"
    )]
    fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.add(MetricType::Counter, name, help, labels, value as f64);
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a queue has fewer than 2^53 messages"
    )]
    fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: usize) {
        self.add(MetricType::Gauge, name, help, labels, value as f64);
    }

    /// What was dropped, by cause and topic.
    fn dropped(&mut self, name: &str, help: &str, ledger: &DropLedger) {
        for (cause, topic, messages) in ledger.entries() {
            let labels = [("cause", cause.name()), ("topic", topic)];
            self.counter(name, help, &labels, messages);
        }
    }

    fn node(&mut self, report: &NodeReport) {
        for state in [
            NodeState::Starting,
            NodeState::Ready,
            NodeState::Degraded,
            NodeState::Stopping,
        ] {
            let labels = [("state", state.name())];
            let value = usize::from(report.state == state);
            self.gauge(
                "node_state",
                "1 for the state that the node is in",
                &labels,
                value,
            );
        }
        let help = "seconds since the node's loop reported last";
        let age = report.age.as_secs_f64();
        self.add(MetricType::Gauge, "node_report_age_seconds", help, &[], age);
        for counter in report.counts.counters() {
            let labels = counter.labels.iter();
            let labels: Vec<(&str, &str)> = labels
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let (prefix, help) = match labels.first() {
                None => ("node", "counted by the node's loop"),
                Some(("framework", _)) => ("framework", "counted by a framework"),
                Some(_) => ("named", "counted by a name from the network"),
            };
            let name = format!("{prefix}_{}", counter.name);
            self.counter(&name, help, &labels, counter.value);
        }
        for counter in &report.mesh {
            let labels = counter.labels.iter();
            let labels: Vec<(&str, &str)> = labels
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let help = "counted by the endpoint of its mesh";
            self.counter(counter.name, help, &labels, counter.value);
        }
        let help = "log records that wait for their batch";
        self.gauge("waiting_records", help, &[], report.waiting_records);
        let help = "messages that wait for the node's loop";
        self.gauge("inbox_messages", help, &[], report.inbox);
        let help = "messages dropped because the node's loop did not keep up";
        self.dropped("inbox_dropped_messages", help, &report.inbox_dropped);
        let help = "connections refused before they became peerings";
        self.counter("connections_refused", help, &[], report.connections_refused);
        let help = "messages dropped for subscribers of the endpoint, the node's loop among them";
        self.dropped(
            "subscribers_dropped_messages",
            help,
            &report.subscribers_dropped,
        );
        let help = "messages that nobody subscribed to";
        self.dropped("unrouted_messages", help, &report.unrouted);
        if let Some(nanos) = report.input_low {
            let help = "event time up to which the inputs have been read";
            let low = muster_data::Timestamp::from_nanos(nanos).as_secs_f64();
            self.add(MetricType::Gauge, "input_low_seconds", help, &[], low);
        }
        for store in &report.stores {
            self.store(store);
        }
        for peer in &report.peers {
            self.peer(peer.node.as_deref().unwrap_or(OTHER_PEERS), &peer.report);
        }
    }

    fn peer(&mut self, name: &str, report: &muster::PeerReport) {
        let labels = [("peer", name)];
        let connected = usize::from(report.connected);
        self.gauge("peer_connected", "peerings that stand", &labels, connected);
        let counts = [
            ("peer_messages_in", "messages received", report.messages_in),
            ("peer_messages_out", "messages sent", report.messages_out),
            ("peer_bytes_in", "bytes received", report.bytes_in),
            ("peer_bytes_out", "bytes sent", report.bytes_out),
            (
                "peer_refused_messages",
                "messages refused",
                report.refused.total(),
            ),
        ];
        for (name, help, value) in counts {
            self.counter(name, help, &labels, value);
        }
        self.gauge(
            "peer_queue_messages",
            "messages queued",
            &labels,
            report.queued,
        );
        self.gauge(
            "peer_queue_bytes",
            "bytes queued",
            &labels,
            report.queued_bytes,
        );
        for (cause, topic, messages) in report.dropped.entries() {
            let labels = [("cause", cause.name()), ("peer", name), ("topic", topic)];
            let help = "messages for a peer that were dropped";
            self.counter("peer_dropped_messages", help, &labels, messages);
        }
    }

    fn store(&mut self, report: &StoreReport) {
        let store = ("store", report.name.as_str());
        let (role, backend) = match &report.part {
            StorePart::Primary(master) => ("master", master.backend),
            _ => ("clone", "memory"),
        };
        let labels = [store, ("role", role), ("backend", backend)];
        self.gauge("store_info", "a store of the node", &labels, 1);
        let labels = [store];
        let gauges = [
            ("store_entries", "entries that are here", report.entries),
            (
                "store_bytes",
                "memory that the entries take, roughly",
                report.bytes,
            ),
        ];
        for (name, help, value) in gauges {
            self.gauge(name, help, &labels, value);
        }
        match &report.part {
            StorePart::Primary(master) => self.master(&labels, master),
            StorePart::Clone(clone) => self.clone(&labels, clone),
            _ => {}
        }
    }

    fn master(&mut self, labels: &[(&str, &str)], master: &PrimaryReport) {
        let gauges = [
            (
                "store_writers",
                "writers on other nodes that the master remembers",
                master.writers,
            ),
            (
                "store_broker_clones",
                "clones of Broker's protocol",
                master.broker_clones,
            ),
            (
                "store_unkept_changes",
                "changes that wait for the backend",
                master.pending_commits,
            ),
            (
                "store_backend_failing",
                "1 if the backend failed the last time",
                usize::from(master.is_failing),
            ),
            (
                "store_has_rival",
                "1 if another endpoint has a master of the same store",
                usize::from(master.rival.is_some()),
            ),
        ];
        for (name, help, value) in gauges {
            self.gauge(name, help, labels, value);
        }
        let help = "failures of the backend";
        self.counter("store_backend_failures", help, labels, master.failures);
    }

    fn clone(&mut self, labels: &[(&str, &str)], clone: &CloneReport) {
        let gauges = [
            (
                "store_attached",
                "1 if the clone has a copy of the master's state",
                usize::from(clone.freshness != Freshness::Unattached),
            ),
            (
                "store_stale",
                "1 if the clone has not heard its master for too long",
                usize::from(clone.freshness == Freshness::Stale),
            ),
            (
                "store_missing_changes",
                "changes that the clone knows of and lacks",
                usize::try_from(clone.missing).unwrap_or(usize::MAX),
            ),
            (
                "store_unsettled_writes",
                "writes of the node that wait for their master",
                clone.unsettled,
            ),
        ];
        for (name, help, value) in gauges {
            self.gauge(name, help, labels, value);
        }
    }

    fn gateway(&mut self, counts: &GatewayCounts) {
        let help = "WebSocket clients that are connected";
        self.gauge("gateway_clients", help, &[], counts.clients.len());
        let queued = counts.clients.iter().map(|client| client.queued.0).sum();
        let help = "messages that wait for WebSocket clients";
        self.gauge("gateway_queue_messages", help, &[], queued);
        let values = [
            (
                "gateway_accepted_clients",
                "WebSocket clients so far",
                counts.accepted,
            ),
            (
                "gateway_turned_away_clients",
                "connections turned away",
                counts.turned_away,
            ),
            (
                "gateway_events_in",
                "events that clients published",
                counts.events_in,
            ),
            (
                "gateway_events_out",
                "events given to clients",
                counts.events_out,
            ),
            (
                "gateway_refused_messages",
                "clients' messages answered with an error",
                counts.refused,
            ),
            (
                "gateway_not_events",
                "messages that matched but are no events",
                counts.not_events,
            ),
        ];
        for (name, help, value) in values {
            self.counter(name, help, &[], value);
        }
        let help = "messages dropped because a WebSocket client did not keep up";
        self.dropped("gateway_dropped_messages", help, &counts.dropped);
        let help = "messages dropped because the gateway did not keep up";
        self.dropped(
            "gateway_inbox_dropped_messages",
            help,
            &counts.inbox_dropped,
        );
    }

    fn bridge(&mut self, counts: &BridgeCounts) {
        let connected = usize::from(counts.connected);
        self.gauge(
            "bridge_connected",
            "1 if the bridge is connected",
            &[],
            connected,
        );
        let values = [
            (
                "bridge_connections",
                "connections to the server",
                counts.connections,
            ),
            ("bridge_events_in", "events that came in", counts.events_in),
            (
                "bridge_events_out",
                "events that went out",
                counts.events_out,
            ),
            (
                "bridge_errors",
                "errors that the server answered with",
                counts.errors,
            ),
            (
                "bridge_not_events",
                "messages that matched but are no events",
                counts.not_events,
            ),
        ];
        for (name, help, value) in values {
            self.counter(name, help, &[], value);
        }
        let help = "messages dropped because the server was away or did not keep up";
        self.dropped("bridge_dropped_messages", help, &counts.dropped);
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, family) in &self.0 {
            let mut metric = encoder.encode_descriptor(name, &family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    sample(&mut metric, family.kind, *value)?;
                } else {
                    sample(&mut metric.encode_family(labels)?, family.kind, *value)?;
                }
            }
        }
        Ok(())
    }
}

fn sample(metric: &mut MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}

impl NodeMetrics {
    /// The content type of [`NodeMetrics::text`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// The metrics as text. All names begin with `muster_`; the labels' values are bounded.
    pub fn text(&self) -> String {
        let mut families = Families::default();
        let labels = [
            ("node", self.node.as_str()),
            ("role", &self.role),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        families.gauge("node_info", "the node and its version", &labels, 1);
        families.node(&self.report);
        if let Some(counts) = &self.gateway {
            families.gateway(counts);
        }
        if let Some(counts) = &self.bridge {
            families.bridge(counts);
        }
        let mut registry = Registry::with_prefix("muster");
        registry.register_collector(Box::new(families));
        let mut text = String::new();
        // A string takes everything.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }
}
