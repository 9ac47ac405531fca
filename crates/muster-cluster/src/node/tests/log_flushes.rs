//! Flushes of log records, as a framework makes them.

use super::*;
use crate::delivery::{FlushEnd, Flushed};

/// Logs and flushes as it is told, and says what it hears.
struct Flusher {
    acts: u64,
}

impl Framework for Flusher {
    const NAME: &'static str = "actor";

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self { acts: 0 })
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::act);
        declarations.stream::<Row>("rows");
    }

    fn done(&mut self, cx: &mut Context<'_>) {
        cx.log("rows", &row(99)).unwrap();
        self.flush("done", None, cx);
    }
}

impl Flusher {
    fn act(&mut self, act: Act, cx: &mut Context<'_>) {
        let (verb, rest) = act.what.split_once(' ').unwrap_or((&act.what, ""));
        match verb {
            "log" => (0..rest.parse().unwrap()).for_each(|n| cx.log("rows", &row(n)).unwrap()),
            "flush" => self.flush("flush", None, cx),
            "within" => {
                let limit = Duration::from_secs(rest.parse().unwrap());
                self.flush("within", Some(limit), cx);
            }
            "many" => (0..300).for_each(|_| {
                cx.flush_logs().then(|_: &mut Self, cx, flushed| {
                    if flushed.end == FlushEnd::TooMany {
                        cx.count("too_many", 1);
                    }
                });
            }),
            "for_ever" => for_ever(cx),
            _ => panic!("{verb}"),
        }
        self.acts += 1;
        say(cx, &format!("returned {}", self.acts));
    }

    fn flush(&mut self, what: &'static str, within: Option<Duration>, cx: &mut Context<'_>) {
        let at = cx.event_time();
        let flush = cx.flush_logs();
        let flush = match within {
            Some(limit) => flush.within(limit),
            None => flush,
        };
        flush.then(move |_: &mut Self, cx, flushed| {
            assert_eq!(cx.event_time(), at);
            let text = format!("{what}: {}", words(&flushed));
            say(cx, &text);
        });
    }
}

/// Flushes again whenever it hears of a flush.
fn for_ever(cx: &mut Context<'_>) {
    cx.flush_logs().then(|_: &mut Flusher, cx, _| for_ever(cx));
}

fn words(flushed: &Flushed) -> String {
    let lost = flushed.lost;
    let counts = [
        ("acknowledged", flushed.acknowledged),
        ("spooled", flushed.spooled),
        ("unacknowledged", flushed.unacknowledged),
        ("without a logger", lost.no_logger),
        ("invalid", lost.invalid),
        ("unsettled", lost.unsettled),
        ("of the spool", lost.spool),
        ("open", flushed.open),
    ];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let counts = counts.map(|(what, count)| format!("{count} {what}"));
    let is_safe = if flushed.is_safe() {
        "safe"
    } else {
        "not safe"
    };
    let words = std::iter::once(format!("{:?}, {is_safe}", flushed.end));
    words.chain(counts).collect::<Vec<_>>().join(", ")
}

fn rig() -> Rig {
    let mut rig = Rig::with("worker-1", &Registry::new().with::<Flusher>()).unwrap();
    rig.said();
    rig
}

impl Rig {
    /// What the framework has said since the last time.
    fn heard(&mut self) -> Vec<String> {
        let said = self.said().into_iter();
        let said = said.filter(|text| !text.contains("node "));
        said.map(|text| text.replace(" (further ones are only counted)", ""))
            .collect()
    }

    fn acknowledge(&mut self, from: u8, batches: &[u64]) {
        let ack = LogAck {
            producer: id(0).to_string(),
            batches: batches.to_vec(),
        };
        self.receive(from, &ack);
    }
}

#[test]
fn a_framework_hears_when_all_that_was_logged_is_acknowledged() {
    let mut rig = rig();
    rig.logger_up("logger-1", 1);
    rig.act("flush");
    // The handler has returned before.
    let nothing_to_wait_for = ["returned 1", "flush: Settled, safe"];
    assert_eq!(rig.heard(), nothing_to_wait_for);
    rig.published();
    rig.act("log 2");
    assert_eq!(rig.published(), NOTHING, "the batch is not full");
    rig.act("flush");
    let batch = "Muster::log_batch to zeek/cluster/node/logger-1/";
    assert_eq!(rig.published(), [batch], "nobody waits for it to be full");
    // What is logged later is not waited for.
    rig.act("log 3");
    assert_eq!(rig.heard(), ["returned 2", "returned 3", "returned 4"]);
    rig.acknowledge(1, &[0, 0]);
    assert_eq!(rig.heard(), ["flush: Settled, safe, 2 acknowledged"]);
    rig.act("flush");
    assert_eq!(rig.heard(), ["returned 5"]);
    rig.acknowledge(1, &[1, 1]);
    assert_eq!(rig.heard(), ["flush: Settled, safe, 3 acknowledged"]);
}

#[test]
fn a_flush_says_that_nobody_acknowledges() {
    let mut rig = rig();
    rig.up("logger-1", 1);
    rig.act("log 4");
    rig.act("flush");
    let heard = rig.heard();
    assert_eq!(heard[2], "flush: Settled, not safe, 4 unacknowledged");
}

#[test]
fn a_flush_ends_at_its_deadline_with_what_is_open() {
    let mut rig = rig();
    rig.logger_up("logger-1", 1);
    rig.act("log 2");
    rig.act("within 3");
    rig.pass(Duration::from_millis(2_999));
    assert_eq!(rig.heard(), ["returned 1", "returned 2"]);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.heard(), ["within: TimedOut, not safe, 2 open"]);
    // What becomes of it later is told by the next one.
    let refused = LogRefused {
        producer: id(0).to_string(),
        batches: vec![0, 0],
        cause: 2,
        text: "no such stream".to_owned(),
    };
    rig.receive(1, &refused);
    rig.said();
    rig.act("flush");
    let heard = rig.heard();
    assert_eq!(heard[1], "flush: Settled, not safe, 2 invalid");
    assert_eq!(rig.node.counts().records_invalid.get("rows"), 2);
}

#[test]
fn what_is_in_the_spool_is_safe() {
    let mut rig = Rig::of(
        &LAYOUT.replace("[logging]", "[logging]\nspool = \"always\""),
        "worker-1",
        &Registry::new().with::<Flusher>(),
    )
    .unwrap();
    rig.node.use_spool();
    rig.act("log 2");
    rig.act("flush");
    rig.said();
    let kept = vec![(
        0,
        SpoolPlace {
            segment: 1,
            offset: 0,
        },
    )];
    let outcome = SpoolOutcome::Synced {
        kept,
        forgotten: Numbers::default(),
    };
    let life = id(0);
    let outcome = &outcome;
    rig.step(Input::Spool { life, outcome });
    assert_eq!(rig.heard(), ["flush: Settled, safe, 2 spooled"]);
    // It is so from the beginning for whoever asks later.
    rig.act("flush");
    assert_eq!(rig.heard()[1], "flush: Settled, safe, 2 spooled");
}

/// A node that ends has a last word with the loggers, and then every flush ends.
#[test]
fn a_node_that_stops_ends_its_flushes() {
    let mut rig = rig();
    rig.logger_up("logger-1", 1);
    rig.act("log 3");
    rig.act("flush");
    rig.step(Input::Stop);
    rig.said();
    rig.acknowledge(1, &[0, 0]);
    assert_eq!(rig.heard(), ["flush: Settled, safe, 3 acknowledged"]);
    rig.step(Input::End);
    let heard = rig.heard();
    assert!(
        heard.contains(&"done: Settled, not safe, 3 acknowledged, 1 without a logger".to_owned()),
        "{heard:?}"
    );
    // Whoever asks now hears at once.
    rig.act("log 1");
    rig.act("flush");
    let heard = rig.heard();
    let last = heard.last().unwrap();
    assert!(
        last.starts_with("flush: Stopping, not safe, 1 open"),
        "{heard:?}"
    );
}

/// The process ends before its disk has what was handed to it.
#[test]
fn what_is_on_its_way_to_the_spool_at_the_end_is_open() {
    let mut rig = rig();
    rig.node.use_spool();
    rig.act("log 3");
    rig.act("flush");
    rig.step(Input::Stop);
    rig.step(Input::End);
    let heard = rig.heard();
    for line in [
        "flush: Stopping, not safe, 3 open",
        "done: Stopping, not safe, 4 open",
    ] {
        assert!(heard.contains(&line.to_owned()), "{heard:?}");
    }
}

#[test]
fn a_node_that_writes_its_logs_itself_acknowledges_them() {
    let layout = "[[node]]\nname = \"manager\"\nrole = \"manager\"\n";
    let registry = Registry::new().with::<Flusher>();
    let mut rig = Rig::of(layout, "manager", &registry).unwrap();
    rig.has_files = false;
    rig.act("log 2");
    rig.act("flush");
    assert_eq!(rig.batches.len(), 1);
    assert_eq!(rig.heard(), ["returned 1", "returned 2"]);
    let sequence = rig.handed;
    rig.step(Input::Written {
        sequence,
        refusal: None,
        stream: "rows",
        records: 2,
        failed: 0,
        gone: 0,
        problem: None,
    });
    assert_eq!(rig.heard(), NOTHING, "written is not synced");
    rig.step(Input::LogsSynced { through: sequence });
    assert_eq!(rig.heard(), ["flush: Settled, safe, 2 acknowledged"]);
}

/// Who keeps how far an input was read asks the node until its very end.
#[test]
fn a_mark_is_settled_when_everything_before_it_is_safe_or_lost() {
    let mut rig = rig();
    rig.node.use_spool();
    let nothing = rig.node.mark_logs();
    assert!(rig.node.has_settled(nothing));
    rig.logger_up("logger-1", 1);
    rig.act("log 1");
    let first = rig.node.mark_logs();
    rig.step(Input::Tick);
    rig.act("log 3");
    let second = rig.node.mark_logs();
    assert!(first < second && rig.node.has_settled(nothing));
    rig.acknowledge(1, &[1, 1]);
    assert!(!rig.node.has_settled(first) && !rig.node.has_settled(second));
    rig.acknowledge(1, &[0, 0]);
    assert!(rig.node.has_settled(first) && rig.node.has_settled(second));
    // The rest goes to the spool when the node ends.
    rig.act("log 3");
    let third = rig.node.mark_logs();
    rig.step(Input::Stop);
    rig.step(Input::End);
    assert!(!rig.node.has_settled(third), "it was handed over");
    let place = |offset| SpoolPlace { segment: 1, offset };
    let outcome = SpoolOutcome::Synced {
        kept: vec![(2, place(0)), (3, place(9))],
        forgotten: Numbers::default(),
    };
    let life = id(0);
    let outcome = &outcome;
    rig.step(Input::Spool { life, outcome });
    assert!(rig.node.has_settled(third));
}

#[test]
fn a_node_bears_any_number_of_flushes() {
    let mut rig = rig();
    rig.act("log 1");
    rig.act("many");
    let counts = &rig.node.counts().frameworks;
    let too_many = counts.values().find(|count| count.spec.name == "too_many");
    assert_eq!(too_many.unwrap().value, 44);
    rig.logger_up("logger-1", 1);
    rig.acknowledge(1, &[0, 0]);
    // One that flushes again whenever it hears does not keep the node busy.
    rig.act("for_ever");
    assert_eq!(rig.node.next_deadline(), Some(rig.now.mono));
    rig.step(Input::Tick);
}
