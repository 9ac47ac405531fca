//! A register and a live setting in a framework of one's own: alerts that are limited, by a limit that changes while the cluster
//! runs and that one node pauses for all.
//!
//! `cargo run -p muster-frameworks --example live_register` shows it on a simulated cluster whose nodes are all killed.

#![allow(clippy::unused_self, reason = "not every handler needs the state")]

use std::time::Duration;

use muster_cluster::SettingSpec;
use muster_cluster::node::{
    Context, Declarations, Framework, RegisterChange, Registry, SettingChange, Severity, Site,
};
use muster_cluster::register::Register;
use muster_data::Record;
use muster_testkit::Cluster;

/// Who has paused all alerts: nobody, or the name of a node. The whole cluster sees it alike.
const PAUSED_BY: Register<String> = Register::new(
    "alerts.paused_by",
    String::new,
    "the node that has paused alerts",
);

/// Somebody at a node wants alerts to pause.
#[derive(Clone, Copy, Record)]
#[record(name = "Example::pause")]
struct Pause {}

/// The state: what the settings and the register said last.
struct Alerts {
    most_per_minute: u64,
    is_paused: bool,
}

impl Framework for Alerts {
    const NAME: &'static str = "alerts";

    // `muster config set alerts.most_per_minute 25` changes it on all nodes.
    const SETTINGS: &'static [SettingSpec] = &[SettingSpec::count(
        "alerts.most_per_minute",
        100,
        "alerts of one source in a minute",
    )
    .within(1, 10_000)
    .live()];

    fn create(site: &Site<'_>) -> Option<Self> {
        Some(Self {
            most_per_minute: site.node.settings.count("alerts.most_per_minute"),
            is_paused: false,
        })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.register(&PAUSED_BY);
        declarations.on(Self::pause);
    }

    fn setting_changed(&mut self, _: &SettingChange<'_>, cx: &mut Context<'_>) {
        self.most_per_minute = cx.settings().count("alerts.most_per_minute");
    }

    /// It is called at the start as well: a node that starts anew goes on as the others do.
    fn register_changed(&mut self, change: &RegisterChange<'_>, cx: &mut Context<'_>) {
        if let Some((_, by)) = change.of(&PAUSED_BY) {
            self.is_paused = !by.is_empty();
            let most = self.most_per_minute;
            let text = format!("paused by `{by}`; at most {most} a minute otherwise");
            cx.report(Severity::Info, &text);
        }
    }
}

impl Alerts {
    /// Of all who want to pause alerts one does.
    fn pause(&mut self, _: Pause, cx: &mut Context<'_>) {
        if self.is_paused {
            return;
        }
        let me = cx.name().to_string();
        cx.register(&PAUSED_BY)
            .swap(&String::new(), &me)
            .then(|_: &mut Self, cx, outcome| match outcome {
                Ok(true) => cx.report(Severity::Info, "has paused alerts"),
                Ok(false) => cx.report(Severity::Info, "was not the first"),
                Err(error) => cx.report(Severity::Warning, &error.to_string()),
            });
    }
}

const LAYOUT: &str = r#"
    alerts = { most_per_minute = 50 }
    node = [
        { name = "manager", role = "manager" },
        { name = "data", role = "data", count = 2 },
        { name = "worker", role = "worker" },
    ]
"#;

const NODES: [&str; 4] = ["manager", "data-1", "data-2", "worker"];

/// Two nodes want to pause alerts at once. Then all nodes are killed, and start anew.
fn simulate() -> Cluster {
    let mut cluster = Cluster::of(LAYOUT, Registry::new().with::<Alerts>());
    cluster.start();
    cluster.run_for(Duration::from_secs(5));
    for node in ["data-1", "data-2"] {
        cluster.raise(node, &Pause {});
    }
    cluster.run_for(Duration::from_secs(5));
    for node in NODES {
        cluster.kill(node);
    }
    cluster.run_for(Duration::from_secs(60));
    for node in NODES {
        cluster.restart(node);
    }
    cluster.run_for(Duration::from_secs(30));
    cluster
}

#[test]
fn one_node_has_paused_alerts_and_all_know_it_even_after_they_were_killed() {
    let cluster = simulate();
    let told = cluster.transcript();
    let count = |text: &str| told.matches(text).count();
    assert_eq!(count("has paused alerts"), 1, "{told}");
    assert_eq!(count("was not the first"), 1, "{told}");
    let by = ["data-1", "data-2"].map(|node| count(&format!("paused by `{node}`")));
    assert!(by == [8, 0] || by == [0, 8], "{told}");
}

#[allow(clippy::print_stdout, reason = "this is what the example is run for")]
fn main() {
    println!("{}", simulate().transcript());
}
