//! A trial load: numbered records and events, with which it can be seen whether they arrive.

mod duty;
mod events;

use std::time::Duration;

use muster_cluster::node::{Context, Declarations, Framework, KeyedError, Severity, Site};
use muster_cluster::{PoolName, Role, SettingSpec};
use muster_data::{Record, Timestamp};

use self::duty::{DUTY, Duty};
pub use self::duty::{ProbeDuty, ProbeTick};
pub use self::events::{ProbeAcknowledged, ProbeEvent, ProbeHandled};

/// How often records are written and events published.
const EVERY: Duration = Duration::from_millis(50);

/// The most records that a node writes in a second, and the most events that it publishes.
const MOST: usize = 1_000_000;

const KEYED_RATE: &str = "probe.keyed_rate";

const DUTY_RATE: &str = "probe.duty_rate";

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

/// How many things are done at each of [`EVERY`], of so many a second.
#[derive(Debug)]
struct Pace {
    rate: usize,
    /// Parts of one that are left over.
    rest: usize,
}

impl Pace {
    /// Returns how many a setting asks for.
    fn of(site: &Site<'_>, setting: &str) -> Self {
        let rate = site.node.settings.size(setting).min(MOST);
        Self { rate, rest: 0 }
    }

    fn take(&mut self) -> usize {
        let parts = self.rate * usize::try_from(EVERY.as_millis()).unwrap_or(0) + self.rest;
        self.rest = parts % 1000;
        parts / 1000
    }
}

/// Writes records to the stream `probe` on every node with the setting `probe.rate`. Each has a number that no other of
/// its life has, so whoever counts them sees what is missing and what is there twice.
///
/// A node with the setting `probe.keyed_rate` also publishes events for the owners of keys. Their numbers are in the stream
/// `probe_acknowledged` when they are acknowledged, and in `probe_handled` when they are handled. So what is acknowledged must be
/// handled, and nothing handled twice. The rows of a life that is over stay: it is for trials.
///
/// Managers with the setting `probe.duty_rate` have a duty: the one that has it acts so many times a second, and each time is counted in
/// `probe_duty`. No two are to act at the same time, and no number is to be missing there, or twice.
///
/// Without the settings it does not run.
#[derive(Debug)]
pub struct Probe {
    node: String,
    life: String,
    records: Pace,
    next_record: u64,
    events: Pace,
    next_event: u64,
    owns_keys: bool,
    duty: Option<Duty>,
}

impl Framework for Probe {
    const NAME: &'static str = "probe";

    const SETTINGS: &'static [SettingSpec] = &[
        SettingSpec::count(
            "probe.rate",
            0,
            "numbered records a second that a node writes to the stream `probe`, for trials; 0 for none",
        ),
        SettingSpec::count(
            KEYED_RATE,
            0,
            "numbered events a second that a node publishes for the owners of keys, for trials; 0 for none",
        ),
        SettingSpec::count(
            DUTY_RATE,
            0,
            "how many times a second a manager acts while it has a duty, for trials; 0 for never",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        let records = Pace::of(site, "probe.rate");
        let events = Pace::of(site, KEYED_RATE);
        let is_set = |setting| {
            let mut nodes = site.layout.nodes().iter();
            nodes.any(|node| node.settings.size(setting) > 0)
        };
        let owns_keys = site.owns_keys() && is_set(KEYED_RATE);
        let has_duty = site.is(Role::Manager) && is_set(DUTY_RATE);
        (records.rate > 0 || events.rate > 0 || owns_keys || has_duty).then(|| Self {
            node: site.node.name.to_string(),
            life: String::new(),
            records,
            next_record: 0,
            events,
            next_event: 0,
            owns_keys,
            duty: has_duty.then(|| Duty::new(Pace::of(site, DUTY_RATE))),
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.stream::<Probed>("probe");
        declarations.stream::<ProbeAcknowledged>("probe_acknowledged");
        declarations.stream::<ProbeHandled>("probe_handled");
        if self.owns_keys {
            let key = |event: &ProbeEvent| event.key;
            declarations.keyed(PoolName::proxy(), key, Self::handled);
        }
        if self.duty.is_some() {
            declarations.stream::<ProbeDuty>("probe_duty");
            declarations.duty(DUTY, Self::ticked);
        }
    }

    fn init(&mut self, cx: &mut Context<'_>) {
        self.life = cx.id().to_string();
        if self.records.rate > 0 || self.events.rate > 0 || self.duty.is_some() {
            cx.schedule_mono(EVERY, 0);
        }
    }

    fn timer(&mut self, _: u64, cx: &mut Context<'_>) {
        for _ in 0..self.records.take() {
            let record = Probed {
                ts: cx.wall(),
                node: self.node.clone(),
                life: self.life.clone(),
                number: self.next_record,
            };
            self.next_record += 1;
            if let Err(error) = cx.log("probe", &record) {
                cx.report(Severity::Error, &error.to_string());
            }
        }
        for _ in 0..self.events.take() {
            match self.publish(cx) {
                Ok(()) => {}
                // The node counts it, and the number is not used.
                Err(KeyedError::Full(_)) => break,
                Err(error) => cx.report(Severity::Error, &error.to_string()),
            }
        }
        self.act(cx);
        cx.schedule_mono(EVERY, 0);
    }
}

impl Probe {
    fn publish(&mut self, cx: &mut Context<'_>) -> Result<(), KeyedError> {
        let number = self.next_event;
        let event = ProbeEvent::numbered(&self.life, number);
        let published = cx.publish_keyed(&PoolName::proxy(), event.key, &event)?;
        published.then(move |this: &mut Self, cx| this.acknowledged(number, cx));
        self.next_event += 1;
        Ok(())
    }

    fn acknowledged(&mut self, number: u64, cx: &mut Context<'_>) {
        let record = ProbeAcknowledged {
            ts: cx.wall(),
            life: self.life.clone(),
            number,
        };
        if let Err(error) = cx.log("probe_acknowledged", &record) {
            cx.report(Severity::Error, &error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    #[test]
    fn what_is_acknowledged_was_handled_once_and_in_order_also_when_an_owner_dies() {
        let layout = r#"
            node = [
                { name = "manager", role = "manager" },
                { name = "logger", role = "logger" },
                { name = "data-1", role = "data" },
                { name = "data-2", role = "data" },
                { name = "worker-1", role = "worker", options = { "probe.keyed_rate" = 300 } },
                { name = "worker-2", role = "worker" },
            ]
        "#;
        let mut cluster = Cluster::of(layout, Registry::new().with::<Probe>());
        cluster.start();
        cluster.run_for(Duration::from_secs(12));
        cluster.kill("data-1");
        cluster.run_for(Duration::from_secs(12));
        let of_stream = cluster.log_of::<ProbeAcknowledged>("probe_acknowledged");
        let acknowledged: BTreeSet<u64> = of_stream.iter().map(|of| of.number).collect();
        assert!(acknowledged.len() > 4000, "{}", acknowledged.len());
        let of_stream = cluster.log_of::<ProbeHandled>("probe_handled");
        let handled: BTreeSet<u64> = of_stream.iter().map(|of| of.number).collect();
        assert_eq!(of_stream.len(), handled.len());
        assert_eq!(acknowledged.difference(&handled).count(), 0);
        assert!(of_stream.iter().all(|of| of.place == of.expected));
        for node in ["data-1", "data-2"] {
            assert!(of_stream.iter().any(|of| of.node == node), "{node}");
        }
    }

    #[test]
    fn one_manager_acts_at_a_time_and_each_time_is_counted() {
        let layout = r#"
            node = [
                { name = "manager-1", role = "manager", options = { "probe.duty_rate" = 100 } },
                { name = "manager-2", role = "manager", options = { "probe.duty_rate" = 100 } },
                { name = "logger", role = "logger" },
            ]
        "#;
        let mut cluster = Cluster::of(layout, Registry::new().with::<Probe>());
        cluster.start();
        cluster.run_for(Duration::from_secs(12));
        let of = |cluster: &Cluster| cluster.log_of::<ProbeDuty>("probe_duty");
        let first = of(&cluster)[0].life.clone();
        assert!(of(&cluster).iter().all(|counted| counted.life == first));
        let managers = ["manager-1", "manager-2"];
        let mut managers = managers.iter();
        let acting = managers.find(|it| cluster.node(it).id().to_string() == first);
        cluster.kill(acting.unwrap());
        cluster.run_for(Duration::from_secs(12));
        let mut counted = of(&cluster);
        assert!(counted.len() > 1_800, "{}", counted.len());
        assert!(counted.iter().any(|counted| counted.life != first));
        counted.sort_by_key(|counted| counted.number);
        let numbers = counted.iter().map(|counted| counted.number);
        assert!(numbers.eq(1..=counted.len() as u64));
    }
}
