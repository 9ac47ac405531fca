//! Log records: in batches, to loggers, into files.

use super::*;
use crate::delivery::messages::DeliveryNote;

const TO_ONE: &str = "Muster::log_batch to zeek/cluster/node/logger-1/";
const TO_TWO: &str = "Muster::log_batch to zeek/cluster/node/logger-2/";

/// What a logger of the number `from` says of batches of this node.
fn ack(rig: &mut Rig, from: u8, batches: &[u64]) {
    let ack = LogAck {
        producer: id(0).to_string(),
        batches: batches.to_vec(),
    };
    rig.receive(from, &ack);
}

#[test]
fn log_records_go_in_batches_to_the_loggers_in_turn() {
    let mut rig = Rig::new("worker-1");
    rig.logger_up("logger-1", 1);
    rig.logger_up("logger-2", 2);
    rig.published();
    rig.act("log 2");
    assert_eq!((rig.published(), rig.node.waiting_records()), (vec![], 2));
    rig.act("log 5");
    assert_eq!(rig.published(), [TO_ONE, TO_TWO]);
    assert_eq!(rig.node.waiting_records(), 7, "none is acknowledged");
    rig.pass(Duration::from_millis(999));
    assert_eq!(rig.published(), NOTHING);
    rig.pass(Duration::from_millis(1));
    let asked_again = rig.published();
    assert!(
        asked_again.contains(&TO_ONE.to_owned()),
        "what waits long enough is sent as it is"
    );
    ack(&mut rig, 1, &[0, 0, 2, 2]);
    ack(&mut rig, 2, &[1, 1]);
    let counts = rig.node.counts();
    assert_eq!((counts.records_logged, counts.records_acknowledged), (7, 7));
    assert_eq!(rig.node.waiting_records(), 0);
    rig.published();
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    rig.act("log 6");
    assert_eq!(rig.published(), [TO_ONE, TO_ONE]);
}

/// A batch was lost with the connection that it was on.
#[test]
fn the_same_logger_is_asked_again_until_it_is_out() {
    let mut rig = Rig::new("worker-1");
    rig.logger_up("logger-1", 1);
    rig.act("log 3");
    rig.logger_up("logger-2", 2);
    rig.published();
    rig.pass(Duration::from_secs(10));
    assert_eq!(
        rig.published(),
        [TO_ONE; 3],
        "after 1 s, 2 s more, 4 s more"
    );
    assert_eq!(rig.node.counts().batches_repeated, 3);
    // It is out: the other one is asked. Whoever of the two answers first has it.
    rig.step(Input::Reach(id(1), Reach::PeerDown(Version::V1)));
    assert_eq!(rig.published(), [TO_TWO]);
    ack(&mut rig, 2, &[0, 0]);
    assert_eq!(rig.node.counts().records_acknowledged, 3);
    rig.logger_up("logger-1", 3);
    rig.published.clear();
    ack(&mut rig, 3, &[0, 0]);
    assert_eq!(rig.node.counts().records_acknowledged, 3, "once");
    rig.pass(Duration::from_millis(200));
    assert_eq!(
        verdicts(&mut rig),
        [
            "logger-2 keeps [0, 0] with others",
            "logger-1 strikes [0, 0]"
        ]
    );
}

fn verdicts(rig: &mut Rig) -> Vec<String> {
    let published = std::mem::take(&mut rig.published);
    let mut verdicts: Vec<String> = published
        .iter()
        .filter_map(|(topic, payload)| {
            let event = EventRef::read(DataRef::from_validated(payload)).ok()?;
            let verdict = event.arguments().to::<LogVerdict>().ok()?;
            let logger = topic.trim_end_matches('/').rsplit('/').next()?;
            let LogVerdict {
                keep,
                keep_shared,
                strike,
                ..
            } = verdict;
            let said = [
                (keep, "keeps", ""),
                (keep_shared, "keeps", " with others"),
                (strike, "strikes", ""),
            ];
            let said = said.into_iter().filter(|(numbers, ..)| !numbers.is_empty());
            Some(
                said.map(|(numbers, does, more)| format!("{logger} {does} {numbers:?}{more}"))
                    .collect::<Vec<_>>(),
            )
        })
        .flatten()
        .collect();
    verdicts.sort_by(|a, b| b.cmp(a));
    verdicts
}

/// A logger whose disk is full says so, and the others have its share.
#[test]
fn what_a_logger_cannot_write_goes_to_another() {
    let mut rig = Rig::new("worker-1");
    rig.logger_up("logger-1", 1);
    rig.logger_up("logger-2", 2);
    rig.act("log 3");
    rig.published();
    let refused = |cause: u64, batches: &[u64]| LogRefused {
        producer: id(0).to_string(),
        batches: batches.to_vec(),
        cause,
        text: "no space left".to_owned(),
    };
    rig.receive(1, &refused(1, &[0, 0]));
    assert_eq!(rig.published(), [TO_TWO]);
    rig.act("log 6");
    assert_eq!(rig.published(), [TO_TWO, TO_TWO]);
    rig.receive(1, &LoggerState { problem: None });
    rig.act("log 6");
    let mut published = rig.published();
    published.sort();
    assert_eq!(published, [TO_ONE, TO_TWO]);
    // What no logger can write is dropped, and counted.
    rig.receive(2, &refused(2, &[0, 2]));
    assert_eq!(rig.node.counts().records_invalid.get("rows"), 9);
}

/// One whose hello does not say that it acknowledges is of a former release, or was told not to.
#[test]
fn nothing_is_kept_for_a_logger_that_does_not_acknowledge() {
    let mut rig = Rig::new("worker-1");
    rig.up("logger-1", 1);
    rig.published();
    rig.act("log 3");
    assert_eq!(
        (rig.published(), rig.node.waiting_records()),
        (vec![TO_ONE.to_owned()], 0)
    );
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.node.counts().batches_repeated, 0);
    assert_eq!(rig.node.counts().records_unacknowledged, 3);

    let layout = LAYOUT.replace("[logging]", "[logging]\nacknowledge = \"never\"");
    let registry = Registry::new().with::<Actor>();
    let mut logger = Rig::of(&layout, "logger-1", &registry).unwrap();
    logger.act("log 3");
    assert_eq!(
        (logger.batches.len(), logger.node.waiting_records()),
        (1, 0)
    );
}

#[test]
fn log_records_wait_for_a_logger() {
    let mut rig = Rig::new("worker-1");
    rig.act("log 7");
    rig.pass(Duration::from_secs(60));
    assert_eq!((rig.published(), rig.node.waiting_records()), (vec![], 7));
    rig.logger_up("logger-2", 2);
    let published = rig.published();
    let batches = published.iter().filter(|text| *text == TO_TWO).count();
    assert_eq!(batches, 3, "never more than a batch at once");
    ack(&mut rig, 2, &[0, 2]);
    assert_eq!(rig.node.waiting_records(), 0);
}

#[test]
fn a_logger_writes_what_it_gets() {
    let (mut worker, batch) = (Rig::new("worker-1"), a_batch());
    let mut logger = Rig::new("logger-1");
    logger.up("worker-1", 5);
    let input = Input::Message {
        from: id(5),
        payload: &batch,
    };
    logger.step(input);
    let batch_of_rows = &logger.batches[0];
    assert_eq!(
        (batch_of_rows.stream.as_str(), batch_of_rows.len()),
        ("rows", 3)
    );
    let columns: Vec<_> = batch_of_rows
        .columns
        .iter()
        .map(|column| format!("{} {}", column.name, column.zeek_type))
        .collect();
    assert_eq!(columns, ["number count", "text string"]);
    let rows: Vec<Row> = batch_of_rows.rows().map(|row| row.to().unwrap()).collect();
    assert_eq!(rows, [row(0), row(1), row(2)]);
    let counts = logger.node.counts();
    assert_eq!((counts.records_received, counts.records_written), (3, 3));
    // Its own records take the same way, without the network.
    logger.published.clear();
    logger.act("log 3");
    assert_eq!((logger.batches.len(), logger.published()), (2, vec![]));
    // Who is no logger has no files.
    worker.step(input);
    assert_eq!(
        (worker.batches.len(), worker.node.counts().events_refused),
        (0, 1)
    );
}

#[test]
fn the_manager_logs_where_there_is_no_logger() {
    let layout = "node = [{ name = \"manager\", role = \"manager\" }]";
    let mut rig = Rig::of(layout, "manager", &Registry::new().with::<Actor>()).unwrap();
    rig.act("log 1");
    rig.pass(Duration::from_secs(1));
    assert_eq!((rig.batches.len(), rig.published()), (1, vec![]));
    assert_eq!(rig.input_starts, 1, "a cluster of one waits for nobody");
}

#[test]
fn what_no_logger_takes_before_the_end_is_counted() {
    let mut rig = Rig::new("worker-1");
    rig.act("log 1");
    rig.step(Input::Stop);
    assert!(rig.node.has_shipped(), "nobody is there to be waited for");
    rig.step(Input::End);
    let counts = rig.node.counts();
    assert_eq!(
        (
            counts.records_logged,
            counts.records_dropped.total(),
            rig.node.waiting_records()
        ),
        (2, 2, 0)
    );
}

fn written(failed: u64, problem: Option<&str>) -> Input<'_> {
    Input::Written {
        sequence: 0,
        refusal: None,
        stream: "rows",
        records: 1,
        failed,
        gone: 0,
        problem,
    }
}

/// Records were lost, and the state said `ready`.
#[test]
fn a_logger_that_cannot_write_is_not_ready() {
    let mut rig = Rig::of(ALONE, "manager", &Registry::new().with::<Actor>()).unwrap();
    rig.said();
    assert_eq!(rig.node.state(), NodeState::Ready);
    rig.step(written(5, Some("cannot write rows.log: disk full")));
    rig.step(written(2, Some("cannot write rows.log: disk full")));
    assert_eq!(rig.node.state(), NodeState::Degraded);
    assert_eq!(
        rig.said(),
        ["log rows: cannot write rows.log: disk full"],
        "once"
    );
    let troubles: Vec<_> = rig.node.troubles().cloned().collect();
    assert_eq!((troubles.len(), troubles[0].count), (1, 7));
    rig.step(written(0, None));
    assert_eq!(rig.node.state(), NodeState::Ready);
    assert_eq!(rig.said(), ["log rows: in order again, after 7 failures"]);
    assert_eq!(
        rig.node.counts().records_failed.total(),
        7,
        "the loss is still there"
    );
    // Nothing is lost any more when nothing comes.
    rig.step(written(1, None));
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.node.state(), NodeState::Ready);
}

const ALONE: &str = "[[node]]\nname = \"manager\"\nrole = \"manager\"\nport = 1\n";

/// What a logger has said of batches since the last time.
fn said_of_batches(rig: &mut Rig) -> Vec<String> {
    let published = std::mem::take(&mut rig.published);
    let said = published.iter().filter_map(|(_, payload)| {
        let event = EventRef::read(DataRef::from_validated(payload)).ok()?;
        let arguments = event.arguments();
        let ack = arguments
            .to::<LogAck>()
            .ok()
            .filter(|_| event.name() == LogAck::NAME);
        let refused = arguments
            .to::<LogRefused>()
            .ok()
            .filter(|_| event.name() == LogRefused::NAME);
        let ack = ack.map(|ack| format!("has {:?}", ack.batches));
        ack.or_else(|| refused.map(|it| format!("refuses {:?}: {}", it.batches, it.text)))
    });
    said.collect()
}

fn written_as(sequence: u64, refusal: Option<BatchRefusal>) -> Input<'static> {
    Input::Written {
        sequence,
        refusal,
        stream: "rows",
        records: if refusal.is_none() { 3 } else { 0 },
        failed: if refusal.is_none() { 0 } else { 3 },
        gone: 0,
        problem: refusal.map(|_| "disk full"),
    }
}

/// A batch of worker-1, which goes to logger-1.
fn a_batch() -> Bytes {
    let registry = Registry::new().with::<Actor>();
    let mut worker = Rig::in_life(5, LAYOUT, "worker-1", &registry).unwrap();
    worker.logger_up("logger-1", 1);
    worker.published.clear();
    worker.act_as(5, "log 3");
    worker.published.pop().unwrap().1
}

/// A logger whose files do what the test says, and which knows the worker.
fn a_logger() -> Rig {
    let mut logger = Rig::new("logger-1");
    logger.has_files = false;
    logger.up("worker-1", 5);
    logger.said();
    logger.published.clear();
    logger
}

#[test]
fn a_logger_acknowledges_what_is_safe() {
    let batch = a_batch();
    let mut logger = a_logger();
    let arrive = |logger: &mut Rig| {
        logger.published.clear();
        let (from, payload) = (id(5), &batch[..]);
        logger.step(Input::Message { from, payload });
    };
    arrive(&mut logger);
    assert_eq!(logger.batches.len(), 1);
    // It comes again while it is written: nothing is written or said twice.
    arrive(&mut logger);
    assert_eq!(
        (logger.batches.len(), said_of_batches(&mut logger)),
        (1, vec![])
    );
    let through = logger.handed;
    logger.step(written_as(through, None));
    assert_eq!(
        said_of_batches(&mut logger),
        NOTHING,
        "it is in memory only"
    );
    logger.step(Input::LogsSynced { through });
    assert_eq!(said_of_batches(&mut logger), ["has [0, 0]"]);
    arrive(&mut logger);
    assert_eq!(
        (logger.batches.len(), said_of_batches(&mut logger)),
        (1, vec!["has [0, 0]".to_owned()])
    );
    assert_eq!(logger.node.undecided_batches(), 1);
    let verdict = LogVerdict {
        producer: id(5).to_string(),
        floor: 1,
        keep: vec![0, 0],
        keep_shared: Vec::new(),
        strike: Vec::new(),
        settle: Vec::new(),
    };
    // Nobody else can say what counts.
    logger.receive(7, &verdict);
    assert_eq!(logger.node.undecided_batches(), 1);
    logger.receive(5, &verdict);
    assert_eq!(logger.node.undecided_batches(), 0);
}

#[test]
fn a_logger_that_cannot_write_refuses_until_it_can() {
    let batch = a_batch();
    let mut logger = a_logger();
    logger.up("worker-2", 2);
    logger.published.clear();
    let arrive = |logger: &mut Rig| {
        let (from, payload) = (id(5), &batch[..]);
        logger.step(Input::Message { from, payload });
    };
    arrive(&mut logger);
    logger.step(written_as(logger.handed, Some(BatchRefusal::CannotWrite)));
    assert_eq!(said_of_batches(&mut logger), ["refuses [0, 0]: disk full"]);
    assert_eq!(logger.node.troubles().count(), 2, "the log and its files");
    arrive(&mut logger);
    assert_eq!(logger.batches.len(), 1, "it does not try with each batch");
    assert_eq!(said_of_batches(&mut logger), ["refuses [0, 0]: disk full"]);
    logger.said();
    logger.pass(Duration::from_secs(1));
    assert_eq!(logger.said(), ["try to write"]);
    let through = logger.handed;
    logger.step(Input::LogsNotSynced {
        problem: "still full",
    });
    logger.pass(Duration::from_secs(1));
    assert_eq!(logger.said(), NOTHING, "less and less often");
    logger.pass(Duration::from_secs(1));
    assert_eq!(logger.said(), ["try to write"]);
    assert!(logger.handed > through);
    logger.published.clear();
    logger.step(Input::LogsSynced {
        through: logger.handed,
    });
    assert_eq!(
        logger.said(),
        ["log files: in order again, after 2 failures"]
    );
    let told = |number| format!("Muster::logger to zeek/cluster/nodeid/{}/", id(number));
    let mut published = logger.published();
    published.sort();
    assert_eq!(published, [told(2), told(5)]);
    arrive(&mut logger);
    assert_eq!(logger.batches.len(), 2);
}

#[test]
fn a_logger_whose_disk_hangs_says_so() {
    let batch = a_batch();
    let mut logger = a_logger();
    logger.step(Input::Message {
        from: id(5),
        payload: &batch,
    });
    let through = logger.handed;
    logger.step(written_as(through, None));
    logger.said();
    logger.pass(Duration::from_millis(4_900));
    assert_eq!(logger.said(), NOTHING);
    logger.pass(Duration::from_millis(200));
    assert_eq!(
        logger.said(),
        ["log files: the disk of its files has not answered for 5 s"]
    );
    logger.pass(Duration::from_secs(60));
    assert_eq!(logger.said(), NOTHING);
    logger.published.clear();
    logger.step(Input::LogsSynced { through });
    assert_eq!(
        logger.said(),
        ["log files: in order again, after 1 failures"]
    );
    assert_eq!(
        said_of_batches(&mut logger),
        ["has [0, 0]"],
        "it is there all the same"
    );
}

/// A producer skips numbers, or says that batches are open which it has not made.
#[test]
fn numbers_that_cannot_be_are_refused() {
    let rows = [0_u64, 0];
    let mut logger = a_logger();
    for (number, floor, taken) in [
        (7, 3, 1),
        (3, 7, 1),
        (70_000, 3, 1),
        (u64::MAX, 3, 1),
        (8, 3, 2),
    ] {
        let note = DeliveryNote {
            node: "worker-1".to_owned(),
            producer: id(5).to_string(),
            number,
            floor,
        };
        let mut payload = Vec::new();
        zeek::put_event(&mut payload, logs::BATCH, Metadata::default(), |out| {
            muster_data::encode::vector_header(out, 4);
            "rows".encode(out);
            Vec::<Column>::new().encode(out);
            rows[..0].encode(out);
            note.encode(out);
        });
        logger.step(Input::Message {
            from: id(5),
            payload: &payload,
        });
        assert_eq!(
            logger.node.undecided_batches(),
            taken,
            "{number} from {floor}"
        );
    }
    assert_eq!(logger.node.counts().events_refused, 3);
}

/// Whoever is no node writes records without a number, if at all, and what is said of batches is heard from nodes alone.
#[test]
fn a_stranger_takes_no_part() {
    let batch = a_batch();
    let mut logger = Rig::new("logger-1");
    logger.step(Input::Message {
        from: id(9),
        payload: &batch,
    });
    assert_eq!(
        (logger.batches.len(), logger.node.undecided_batches()),
        (0, 0)
    );
    // A node that speaks for another one, which lives.
    logger.up("worker-1", 5);
    logger.up("data-1", 2);
    logger.step(Input::Message {
        from: id(2),
        payload: &batch,
    });
    assert_eq!(logger.batches.len(), 0);
    let refused = logger.node.counts().control_events_refused;
    let state = LoggerState {
        problem: Some("me".to_owned()),
    };
    logger.receive(2, &state);
    logger.receive(9, &state);
    assert_eq!(logger.node.counts().control_events_refused, refused + 2);
}

/// What loggers and producers say may be anything: it costs no panic, and no more memory than what is said has.
#[test]
fn what_is_said_of_batches_may_be_anything() {
    let mut random = muster_test_support::Random::new(7);
    let mut rig = Rig::new("logger-1");
    rig.logger_up("logger-2", 1);
    rig.up("worker-1", 2);
    rig.act("log 30");
    for _ in 0..20_000 {
        let any = |random: &mut muster_test_support::Random| match random.below(5) {
            0 => u64::MAX,
            1 => u64::MAX - random.number(3),
            2 => random.number(70_000),
            _ => random.number(12),
        };
        let pairs = |random: &mut muster_test_support::Random| -> Vec<u64> {
            let mut pairs: Vec<u64> = (0..random.below(6)).map(|_| any(random)).collect();
            if random.chance(80) {
                pairs.sort_unstable();
            }
            pairs
        };
        let from = u8::try_from(random.below(4)).unwrap();
        let of = id(u8::try_from(random.below(4)).unwrap());
        let producer = if random.chance(90) {
            of.to_string()
        } else {
            "nobody".to_owned()
        };
        let batches = pairs(&mut random);
        match random.below(5) {
            0 => rig.receive(from, &LogAck { producer, batches }),
            1 => rig.receive(
                from,
                &LogRefused {
                    producer,
                    batches,
                    cause: any(&mut random),
                    text: "no".to_owned(),
                },
            ),
            2 => rig.receive(
                from,
                &LogVerdict {
                    producer,
                    floor: any(&mut random),
                    keep: batches,
                    keep_shared: pairs(&mut random),
                    strike: pairs(&mut random),
                    settle: pairs(&mut random),
                },
            ),
            3 => rig.receive(
                from,
                &LogSettle {
                    producer,
                    node: "worker-1".to_owned(),
                    batches,
                },
            ),
            _ => rig.receive(
                from,
                &LogSettled {
                    producer,
                    asked: batches.clone(),
                    kept: pairs(&mut random),
                    held: batches,
                },
            ),
        }
        rig.now.mono = rig.now.mono.after(Duration::from_millis(random.number(50)));
        rig.published.clear();
        rig.said.clear();
    }
    assert!(rig.node.undecided_batches() < 100);
}

/// Each of the batches that were on their way had doubled the time until the logger tried again.
#[test]
fn batches_that_fail_together_are_one_failure() {
    let mut logger = a_logger();
    for sequence in 0..20 {
        logger.step(written_as(sequence, Some(BatchRefusal::CannotWrite)));
    }
    logger.said();
    logger.pass(Duration::from_secs(1));
    assert_eq!(logger.said(), ["try to write"]);
}

/// What was decided was never in the diary where the files had no room for the note: a file waited for its name for ever.
#[test]
fn a_note_that_was_not_taken_is_made_again() {
    let batch = a_batch();
    let mut logger = a_logger();
    logger.step(Input::Message {
        from: id(5),
        payload: &batch,
    });
    let through = logger.handed;
    logger.step(written_as(through, None));
    logger.step(Input::LogsSynced { through });
    let keep = LogVerdict {
        producer: id(5).to_string(),
        floor: 1,
        keep: vec![0, 0],
        keep_shared: Vec::new(),
        strike: Vec::new(),
        settle: Vec::new(),
    };
    logger.receive(5, &keep);
    let note = logger.handed;
    assert_eq!((note, logger.node.undecided_batches()), (through + 1, 0));
    // Nothing else has to be looked at any more.
    logger.pass(Duration::from_secs(2));
    logger.step(Input::NotTaken { sequence: note });
    logger.pass(Duration::from_secs(1));
    assert_eq!(logger.handed, note + 1);
}
