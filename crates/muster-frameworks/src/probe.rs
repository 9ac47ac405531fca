//! A trial load: numbered records, with which it can be seen whether log records arrive.

use std::time::Duration;

use muster_cluster::SettingSpec;
use muster_cluster::node::{Context, Declarations, Framework, Severity, Site};
use muster_data::{Record, Timestamp};

/// How often records are written.
const EVERY: Duration = Duration::from_millis(50);

/// The most records that a node writes in a second.
const MOST: usize = 1_000_000;

/// A record of the stream `probe`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::probe")]
pub struct Probed {
    /// When it was written.
    pub ts: Timestamp,
    /// By which node.
    pub node: String,
    /// By which of its lives: its endpoint id.
    pub life: String,
    /// Its number in that life, from 0.
    pub number: u64,
}

/// Writes records to the stream `probe` on every node with the setting `probe.rate`. Each has a number that no other of
/// its life has, so whoever counts them sees what is missing and what is there twice. Without the setting it does not run.
#[derive(Debug)]
pub struct Probe {
    node: String,
    rate: usize,
    life: String,
    next: u64,
    /// Parts of records that are left over.
    rest: usize,
}

impl Framework for Probe {
    const NAME: &'static str = "probe";

    const SETTINGS: &'static [SettingSpec] = &[SettingSpec::count(
        "probe.rate",
        0,
        "numbered records a second that a node writes to the stream `probe`, for trials; 0 for none",
    )];

    fn create(site: &Site<'_>) -> Option<Self> {
        let rate = site.node.settings.size("probe.rate").min(MOST);
        (rate > 0).then(|| Self {
            node: site.node.name.to_string(),
            rate,
            life: String::new(),
            next: 0,
            rest: 0,
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.stream::<Probed>("probe");
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        self.life = cx.id().to_string();
        cx.schedule_mono(EVERY, 0);
    }

    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        let parts = self.rate * usize::try_from(EVERY.as_millis()).unwrap_or(0) + self.rest;
        self.rest = parts % 1000;
        for _ in 0..parts / 1000 {
            let record = Probed {
                ts: cx.wall(),
                node: self.node.clone(),
                life: self.life.clone(),
                number: self.next,
            };
            self.next += 1;
            if let Err(error) = cx.log("probe", &record) {
                cx.report(Severity::Error, &error.to_string());
            }
        }
        cx.schedule_mono(EVERY, 0);
    }
}

#[cfg(test)]
mod tests {
    use muster_cluster::node::Registry;
    use muster_testkit::Cluster;

    use super::*;

    #[test]
    fn it_writes_numbered_records_where_it_is_asked_to() {
        let layout = r#"
            node = [
                { name = "manager", role = "manager" },
                { name = "worker-1", role = "worker", options = { "probe.rate" = 30 } },
                { name = "worker-2", role = "worker" },
            ]
        "#;
        let mut cluster = Cluster::of(layout, Registry::new().with::<Probe>());
        cluster.start();
        cluster.run_for(Duration::from_secs(12));
        let records = cluster.log_of::<Probed>("probe");
        assert!((300..=360).contains(&records.len()), "{}", records.len());
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
        assert!(records.iter().all(|record| record.node == "worker-1"));
    }
}
