//! Notices: which are logged, and which are suppressed.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]
#![allow(clippy::unused_self, reason = "a handler is a method")]

use std::time::Duration;

use muster_cluster::Role;
use muster_cluster::node::{Context, Declarations, Framework, Site};
use muster_data::{Encode, Record, Timespan, Timestamp};
use muster_frameworks::{Notice, NoticeRecord, standard};
use muster_testkit::Cluster;
use muster_wire::zeek::{Metadata, put_event};

const LAYOUT: &str = r#"
    node = [
        { name = "manager", role = "manager" },
        { name = "worker", role = "worker", count = 2, input = ["feed"] },
    ]
"#;

/// A notice to be raised.
#[derive(Clone, Record)]
#[record(name = "Test::occasion")]
struct Occasion {
    ts: Timestamp,
    identifier: Option<String>,
    suppress_for: Option<Timespan>,
}

struct Alarmist;

impl Framework for Alarmist {
    const NAME: &'static str = "alarmist";

    fn create(site: &Site<'_>) -> Option<Self> {
        site.is(Role::Worker).then_some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::occasion);
    }
}

impl Alarmist {
    fn occasion(&mut self, occasion: Occasion, cx: &mut Context<'_>) {
        let notice = Notice {
            identifier: occasion.identifier,
            suppress_for: occasion.suppress_for,
            ..Notice::new(occasion.ts, "Test::Alarm", "something happened")
        };
        notice.raise(cx);
    }
}

/// The minutes of what is logged.
fn logged(settings: &str, occasions: &[(i64, Option<&str>, Option<i64>)]) -> Vec<i64> {
    let events = occasions
        .iter()
        .map(|(minute, identifier, suppress_for)| Occasion {
            ts: Timestamp::from_secs(minute * 60),
            identifier: identifier.map(str::to_owned),
            suppress_for: suppress_for.map(|minutes| Timespan::from_secs(minutes * 60)),
        });
    let layout = format!("{settings}\n{LAYOUT}");
    let mut cluster = Cluster::of(&layout, standard().with::<Alarmist>()).feed("worker-1", events);
    cluster.start();
    cluster.run_until_idle();
    let records = cluster.log_of::<NoticeRecord>("notice");
    assert_eq!(cluster.count("notices"), records.len() as u64);
    assert_eq!(cluster.count("notices_raised"), occasions.len() as u64);
    assert_eq!(
        cluster.count("suppressed") + cluster.count("notices"),
        occasions.len() as u64
    );
    records
        .iter()
        .map(|record| record.ts.as_nanos() / 60_000_000_000)
        .collect()
}

#[test]
fn a_notice_is_not_repeated_for_an_hour() {
    let a = Some("a");
    assert_eq!(
        logged(
            "",
            &[(0, a, None), (59, a, None), (60, a, None), (100, a, None)]
        ),
        [0, 60]
    );
    // What comes late is suppressed as well, and others are not.
    assert_eq!(
        logged(
            "",
            &[
                (100, a, None),
                (41, a, None),
                (40, a, None),
                (41, Some("b"), None)
            ]
        ),
        [100, 40, 41]
    );
}

#[test]
fn the_span_is_the_notices_or_a_setting() {
    let a = Some("a");
    assert_eq!(
        logged(
            "",
            &[(0, a, Some(15)), (14, a, Some(15)), (15, a, Some(15))]
        ),
        [0, 15]
    );
    assert_eq!(
        logged(
            "notice = { suppress = \"10m\" }",
            &[(0, a, None), (9, a, None), (10, a, None)]
        ),
        [0, 10]
    );
    assert_eq!(logged("", &[(0, a, Some(0)), (0, a, Some(0))]), [0, 0]);
}

#[test]
fn without_an_identifier_all_are_logged() {
    assert_eq!(logged("", &[(0, None, None), (0, None, None)]), [0, 0]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let settings = "notice = { max_remembered = 1 }";
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(
        logged(
            settings,
            &[(0, a, None), (1, a, None), (2, b, None), (3, a, None)]
        ),
        [0, 2, 3]
    );
}

/// Of two managers one hears what a Zeek process publishes, and the manager that has a notice's kind and identifier logs it. Each of them
/// dies once.
#[test]
fn several_managers_log_each_notice_once() {
    let layout = r#"
        node = [
            { name = "manager", role = "manager", count = 2 },
            { name = "logger", role = "logger" },
            { name = "worker", role = "worker", count = 2 },
        ]
    "#;
    let mut cluster = Cluster::of(layout, standard()).zeek("worker-2");
    cluster.start();
    cluster.run_for(Duration::from_secs(12));
    let raise = |cluster: &mut Cluster, round: i64| {
        for number in 0..20 {
            let notice = Notice {
                identifier: Some(format!("{number}")),
                ..Notice::new(Timestamp::from_secs(round), "Test::Alarm", "something")
            };
            let mut payload = Vec::new();
            put_event(&mut payload, Notice::NAME, Metadata::default(), |out| {
                notice.encode(out);
            });
            cluster.zeek_publishes("worker-2", "zeek/cluster/manager", &payload);
        }
        cluster.run_for(Duration::from_secs(3));
        cluster.log_of::<NoticeRecord>("notice").len()
    };
    assert_eq!(raise(&mut cluster, 0), 20);
    for (round, dies) in (1..).zip(["manager-1", "manager-2"]) {
        cluster.kill(dies);
        cluster.run_for(Duration::from_secs(3));
        // Less than an hour later all of them are suppressed, as the other manager knows.
        assert_eq!(raise(&mut cluster, round), 20);
        cluster.restart(dies);
        cluster.run_for(Duration::from_secs(5));
    }
    assert_eq!(raise(&mut cluster, 3_600 * 2), 40);
}
