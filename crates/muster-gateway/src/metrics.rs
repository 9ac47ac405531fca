//! What a node counts as metrics for Prometheus, in its text format and in that of OpenMetrics.

mod families;

use muster::NodeReport;
use muster_wire::counters::{Counter, Descriptor};

pub use self::families::Metrics;

use crate::client::BridgeCounts;
use crate::clients::GatewayCounts;

mod descriptors {
    muster_wire::counters! {
        /// Always 1; the labels say which node it is, and its version.
        pub(super) INFO = gauge("muster_node_info").labels(&["node", "role", "version"]);
    }
}

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

/// The form of metrics as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MetricsFormat {
    /// Prometheus's text format, version 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// Returns the form for a client that sends this header `Accept`: OpenMetrics if the client takes it at least as
    /// gladly as plain text, otherwise the text format.
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            match kind.as_str() {
                "application/openmetrics-text" => open = f64::max(open, weight),
                "text/plain" => text = f64::max(text, weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// Returns the content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl NodeMetrics {
    /// Returns what describes the metrics of every node, besides what frameworks count
    /// ([`Registry::counters`](muster::cluster::node::Registry::counters)).
    pub fn descriptors() -> Vec<&'static Descriptor> {
        let mut all = NodeReport::descriptors();
        all.extend(descriptors::ALL);
        all.extend(GatewayCounts::DESCRIPTORS);
        all.extend(BridgeCounts::DESCRIPTORS);
        all
    }

    /// Returns all that the node counts.
    pub fn counters(&self) -> Vec<Counter> {
        let info = [
            ("node", self.node.clone()),
            ("role", self.role.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let mut all = vec![descriptors::INFO.of_each(info, 1)];
        all.extend(self.report.counters());
        all.extend(self.gateway.iter().flat_map(GatewayCounts::counters));
        all.extend(self.bridge.iter().flat_map(BridgeCounts::counters));
        all
    }

    /// Returns all that the node counts, by metric.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.add(self.counters());
        metrics
    }

    /// Returns the metrics as text. All names begin with `muster_`; the labels' values are bounded.
    pub fn text(&self, format: MetricsFormat) -> String {
        self.metrics().text(format)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use muster_wire::counters::{Kind, Scale, Unit};

    use super::*;

    /// The rules of <https://prometheus.io/docs/practices/naming/>, as far as a program can check them.
    #[test]
    fn names_follow_prometheuss_conventions() {
        for descriptor in NodeMetrics::descriptors() {
            let name = &descriptor.name;
            assert!(name.starts_with("muster_"), "{name}");
            let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(is_letter), "{name}");
            let is_counter = descriptor.kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            // A time stamp says so, and a unit is the last word.
            let is_time = descriptor.unit() == Some(Unit::Seconds);
            assert_eq!(descriptor.scale == Scale::Nano, is_time, "{name}");
            let words: Vec<&str> = descriptor.family().split('_').collect();
            let (_, before) = words.split_last().unwrap();
            assert!(
                !before.contains(&"bytes") && !before.contains(&"seconds"),
                "{name}"
            );
            assert!(descriptor.help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn counters_of_one_metric_differ_in_their_fixed_labels_alone() {
        let mut families: BTreeMap<&str, Vec<&Descriptor>> = BTreeMap::new();
        for descriptor in NodeMetrics::descriptors() {
            families
                .entry(&descriptor.name)
                .or_default()
                .push(descriptor);
        }
        for (name, family) in families {
            let names = |of: &Descriptor| {
                let fixed = of.fixed.iter().map(|(name, _)| *name);
                (fixed.collect::<Vec<_>>(), of.labels, of.help, of.kind)
            };
            assert!(
                family.iter().all(|of| names(of) == names(family[0])),
                "{name}"
            );
            let values: BTreeSet<_> = family.iter().map(|of| of.fixed).collect();
            assert_eq!(values.len(), family.len(), "{name}");
        }
    }

    #[test]
    fn every_key_of_the_status_is_used_once() {
        let mut keys = BTreeSet::new();
        for descriptor in NodeMetrics::descriptors() {
            let key = descriptor.key;
            assert!(key.is_empty() || keys.insert(key), "{key}");
        }
    }

    #[test]
    fn clients_get_the_form_that_they_ask_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        for (accept, expected) in [
            ("", MetricsFormat::Text),
            ("*/*", MetricsFormat::Text),
            ("text/plain", MetricsFormat::Text),
            ("application/openmetrics-text", MetricsFormat::OpenMetrics),
            (
                "Application/OpenMetrics-Text; version=1.0.0",
                MetricsFormat::OpenMetrics,
            ),
            (prometheus, MetricsFormat::OpenMetrics),
            (
                "application/openmetrics-text;q=0.1, text/plain",
                MetricsFormat::Text,
            ),
            ("application/openmetrics-text;q=0", MetricsFormat::Text),
            ("application/openmetrics-text;q=many", MetricsFormat::Text),
        ] {
            assert_eq!(MetricsFormat::accepted(accept), expected, "{accept}");
        }
    }
}
