//! Metrics of one or of many, as families of samples: what Prometheus reads, and what a node tells its agent.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use muster_wire::counters::{Counter, Descriptor, Kind, Scale, Unit};
use serde::{Deserialize, Serialize};

use super::MetricsFormat;

/// Labels with their values, in order.
type Labels = Vec<(String, String)>;

/// Metrics by their names, each with its samples. As JSON it is a list of families.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Vec<FamilyPage>", try_from = "Vec<FamilyPage>")]
pub struct Metrics {
    families: BTreeMap<String, Family>,
}

/// A metric with its samples by labels.
#[derive(Debug, Clone, PartialEq)]
struct Family {
    kind: Kind,
    scale: Scale,
    help: String,
    samples: BTreeMap<Labels, u64>,
}

/// A metric as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FamilyPage {
    name: String,
    kind: KindPage,
    #[serde(default)]
    in_nanoseconds: bool,
    help: String,
    samples: Vec<(Labels, u64)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindPage {
    Counter,
    Gauge,
}

/// A metric or a label whose name Prometheus does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a metric or label")]
struct NameError(String);

impl Metrics {
    /// Adds values. Those of the same metric with the same labels are summed up.
    pub fn add(&mut self, counters: impl IntoIterator<Item = Counter>) {
        for counter in counters {
            let labels = counter.all_labels();
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let labels = labels.collect();
            self.add_one(&counter.descriptor, labels, counter.value);
        }
    }

    fn add_one(&mut self, descriptor: &Descriptor, labels: Labels, value: u64) {
        let family = self.families.entry(descriptor.name.to_string());
        let family = family.or_insert_with(|| Family {
            kind: descriptor.kind,
            scale: descriptor.scale,
            help: descriptor.help.to_owned(),
            samples: BTreeMap::new(),
        });
        family.add(labels, value);
    }

    /// Adds the metrics of somebody else, with labels that say whose they are; a label that a sample has already stays as
    /// it is. Where both have a metric, the description that was there first counts; a metric that is of another kind here
    /// is left out, as programs of different versions may have it.
    pub fn merge(&mut self, other: Self, whose: &[(&str, &str)]) {
        for (name, theirs) in other.families {
            let ours = self.families.entry(name).or_insert_with(|| Family {
                kind: theirs.kind,
                scale: theirs.scale,
                help: theirs.help,
                samples: BTreeMap::new(),
            });
            if (ours.kind, ours.scale) != (theirs.kind, theirs.scale) {
                continue;
            }
            for (own, value) in theirs.samples {
                let has = |name: &str| own.iter().any(|(known, _)| known == name);
                let labels = whose.iter().filter(|(name, _)| !has(name));
                let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                let labels = labels.collect::<Labels>();
                ours.add(labels.into_iter().chain(own).collect(), value);
            }
        }
    }

    /// Returns the number of samples: what Prometheus has a time series for, each.
    pub fn series(&self) -> usize {
        let families = self.families.values();
        families.map(|family| family.samples.len()).sum()
    }

    /// Returns the metrics as text.
    pub fn text(&self, format: MetricsFormat) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            // A string takes everything.
            let _ = family.write(name, format, &mut text);
        }
        if format == MetricsFormat::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

impl Metrics {
    /// Returns the answer to a request with these headers: text, in the form that they ask for.
    pub fn answer(&self, headers: &HeaderMap) -> Response {
        let accept = headers.get_all(header::ACCEPT).iter();
        let accept: Vec<&str> = accept.filter_map(|value| value.to_str().ok()).collect();
        let format = MetricsFormat::accepted(&accept.join(","));
        let headers = [
            (header::CONTENT_TYPE, format.content_type()),
            (header::VARY, "Accept"),
        ];
        (headers, self.text(format)).into_response()
    }
}

impl Family {
    fn add(&mut self, labels: Labels, value: u64) {
        let sample = self.samples.entry(labels).or_default();
        *sample = value.saturating_add(*sample);
    }

    fn write(&self, name: &str, format: MetricsFormat, out: &mut String) -> fmt::Result {
        let is_open = format == MetricsFormat::OpenMetrics;
        let stem = match self.kind {
            Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
            Kind::Gauge => name,
        };
        let family = if is_open { stem } else { name };
        write!(out, "# HELP {family} ")?;
        escape(&self.help, is_open, out)?;
        writeln!(out, "\n# TYPE {family} {}", self.kind.name())?;
        if let (true, Some(unit)) = (is_open, Unit::of(stem)) {
            writeln!(out, "# UNIT {family} {}", unit.name())?;
        }
        for (labels, value) in &self.samples {
            out.write_str(family)?;
            if is_open && self.kind == Kind::Counter {
                out.write_str("_total")?;
            }
            let mut before = '{';
            for (name, value) in labels {
                write!(out, "{before}{name}=\"")?;
                escape(value, true, out)?;
                out.write_char('"')?;
                before = ',';
            }
            if !labels.is_empty() {
                out.write_char('}')?;
            }
            match self.scale {
                Scale::One => writeln!(out, " {value}")?,
                Scale::Nano => {
                    let (whole, rest) = (value / 1_000_000_000, value % 1_000_000_000);
                    writeln!(out, " {whole}.{rest:09}")?;
                }
            }
        }
        Ok(())
    }
}

fn escape(text: &str, quotes: bool, out: &mut String) -> fmt::Result {
    for character in text.chars() {
        match character {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '"' if quotes => out.write_str("\\\"")?,
            other => out.write_char(other)?,
        }
    }
    Ok(())
}

impl From<Metrics> for Vec<FamilyPage> {
    fn from(metrics: Metrics) -> Self {
        let families = metrics.families.into_iter();
        let page = |(name, family): (String, Family)| FamilyPage {
            name,
            kind: match family.kind {
                Kind::Counter => KindPage::Counter,
                Kind::Gauge => KindPage::Gauge,
            },
            in_nanoseconds: family.scale == Scale::Nano,
            help: family.help,
            samples: family.samples.into_iter().collect(),
        };
        families.map(page).collect()
    }
}

impl TryFrom<Vec<FamilyPage>> for Metrics {
    type Error = NameError;

    fn try_from(pages: Vec<FamilyPage>) -> Result<Self, NameError> {
        let mut metrics = Self::default();
        for page in pages {
            check(&page.name)?;
            let mut family = Family {
                kind: match page.kind {
                    KindPage::Counter => Kind::Counter,
                    KindPage::Gauge => Kind::Gauge,
                },
                scale: if page.in_nanoseconds {
                    Scale::Nano
                } else {
                    Scale::One
                },
                help: page.help,
                samples: BTreeMap::new(),
            };
            for (labels, value) in page.samples {
                for (name, _) in &labels {
                    check(name)?;
                }
                family.add(labels, value);
            }
            metrics.families.insert(page.name, family);
        }
        Ok(metrics)
    }
}

/// Refuses a name that would make the text another one.
fn check(name: &str) -> Result<(), NameError> {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    let is_name = bytes.next().is_some_and(is_letter)
        && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit());
    if is_name {
        Ok(())
    } else {
        Err(NameError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod tea {
        muster_wire::counters! {
            /// Cups that were filled.
            pub(super) CUPS = counter("tea_cups_total").labels(&["sort"]);
            /// Age of the tea.
            pub(super) AGE = gauge("tea_age_seconds").in_nanoseconds();
        }
    }

    fn metrics(sort: &str, cups: u64) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.add([
            tea::CUPS.of_each([("sort", sort.to_owned())], cups),
            tea::AGE.of(1_500_000_000),
        ]);
        metrics
    }

    #[test]
    fn the_metrics_of_many_are_one_family_each_and_say_whose_they_are() {
        let mut all = Metrics::default();
        all.merge(metrics("green", 1), &[("box", "a"), ("node", "x")]);
        all.merge(metrics("bl\"ack", 2), &[("box", "a"), ("node", "y")]);
        let text = all.text(MetricsFormat::Text);
        let expected = "\
# HELP tea_age_seconds Age of the tea.
# TYPE tea_age_seconds gauge
tea_age_seconds{box=\"a\",node=\"x\"} 1.500000000
tea_age_seconds{box=\"a\",node=\"y\"} 1.500000000
# HELP tea_cups_total Cups that were filled.
# TYPE tea_cups_total counter
tea_cups_total{box=\"a\",node=\"x\",sort=\"green\"} 1
tea_cups_total{box=\"a\",node=\"y\",sort=\"bl\\\"ack\"} 2
";
        assert_eq!(text, expected);
        assert_eq!(all.series(), 4);
        let open = all.text(MetricsFormat::OpenMetrics);
        assert!(open.contains("# TYPE tea_cups counter\n"), "{open}");
        assert!(
            open.contains("# UNIT tea_age_seconds seconds\n") && open.ends_with("# EOF\n"),
            "{open}"
        );
    }

    #[test]
    fn a_label_that_a_sample_has_is_its_own() {
        let mut all = Metrics::default();
        all.merge(metrics("green", 1), &[("sort", "black")]);
        assert!(
            all.text(MetricsFormat::Text)
                .contains("tea_cups_total{sort=\"green\"} 1")
        );
    }

    #[test]
    fn a_metric_of_another_kind_does_not_mix_with_the_first() {
        let mut all = metrics("green", 1);
        let other = serde_json::json!([
            {"name": "tea_cups_total", "kind": "gauge", "help": "", "samples": [[[], 7]]}
        ]);
        all.merge(serde_json::from_value(other).unwrap(), &[]);
        assert_eq!(all, metrics("green", 1));
    }

    #[test]
    fn json_has_it_all_and_no_names_that_prometheus_would_not_read() {
        let all = metrics("green", 3);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), all);
        for (from, to) in [
            ("tea_cups_total", "tea cups"),
            ("tea_cups_total", "9_total"),
            ("sort", "so\\nrt"),
            ("sort", ""),
        ] {
            let wrong = text.replace(&format!("\"{from}\""), &format!("\"{to}\""));
            assert_ne!(wrong, text);
            let error = serde_json::from_str::<Metrics>(&wrong).unwrap_err();
            assert!(error.to_string().contains("is no name"), "{error}");
        }
    }
}
