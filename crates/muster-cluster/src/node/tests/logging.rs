//! Log records: in batches, to loggers, into files.

use super::*;

#[test]
fn log_records_go_in_batches_to_the_loggers_in_turn() {
    let mut rig = Rig::new("worker-1");
    rig.up("logger-1", 1);
    rig.up("logger-2", 2);
    rig.published();
    rig.act("log 2");
    assert_eq!((rig.published(), rig.node.waiting_records()), (vec![], 2));
    rig.act("log 5");
    let (one, two) = (
        "Muster::log_batch to zeek/cluster/node/logger-1/",
        "Muster::log_batch to zeek/cluster/node/logger-2/",
    );
    assert_eq!(rig.published(), [one, two]);
    assert_eq!(rig.node.waiting_records(), 1);
    rig.pass(Duration::from_millis(999));
    assert_eq!(rig.published(), NOTHING);
    rig.pass(Duration::from_millis(1));
    assert_eq!(
        rig.published(),
        [one],
        "what waits long enough is sent as it is"
    );
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    rig.act("log 6");
    assert_eq!(rig.published(), [one, one]);
    let counts = rig.node.counts();
    assert_eq!((counts.records_logged, counts.records_sent), (13, 13));
}

#[test]
fn log_records_wait_for_a_logger() {
    let mut rig = Rig::new("worker-1");
    rig.act("log 7");
    rig.pass(Duration::from_secs(60));
    assert_eq!((rig.published(), rig.node.waiting_records()), (vec![], 7));
    rig.up("logger-2", 2);
    rig.published();
    rig.pass(Duration::from_secs(1));
    let batch = "Muster::log_batch to zeek/cluster/node/logger-2/";
    assert_eq!(
        rig.published(),
        [batch; 3],
        "never more than a batch at once"
    );
    assert_eq!(rig.node.waiting_records(), 0);
    // 100 batches wait at most.
    rig.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    rig.act("log 400");
    let counts = rig.node.counts();
    assert_eq!(
        (rig.node.waiting_records(), counts.records_dropped.total()),
        (300, 100)
    );
}

#[test]
fn a_logger_writes_what_it_gets() {
    let mut worker = Rig::new("worker-1");
    worker.up("logger-1", 1);
    worker.published();
    worker.act("log 3");
    let (_, batch) = worker.published.pop().unwrap();
    let mut logger = Rig::new("logger-1");
    let input = Input::Message {
        from: id(7),
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
    logger.step(Input::Written {
        stream: "sample",
        records: 3,
        failed: 0,
        gone: 0,
        problem: None,
    });
    let counts = logger.node.counts();
    assert_eq!((counts.records_received, counts.records_written), (3, 3));
    // Its own records take the same way, without the network.
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

/// What a logger took with it when it died was in no count.
#[test]
fn records_that_a_dead_logger_has_not_confirmed_are_counted() {
    let mut worker = Rig::new("worker-1");
    worker.up("logger-1", 1);
    worker.act("log 9");
    assert_eq!(worker.node.counts().records_sent, 9);
    worker.receive(1, &RecordsTaken { records: 5 });
    worker.step(Input::Reach(id(1), Reach::PeerDown(Version::V1)));
    assert_eq!(worker.node.counts().records_unconfirmed, 4);
    // One that confirmed all took nothing with it.
    worker.up("logger-2", 2);
    worker.act("log 3");
    worker.receive(2, &RecordsTaken { records: 3 });
    worker.step(Input::Reach(id(2), Reach::PeerDown(Version::V1)));
    assert_eq!(worker.node.counts().records_unconfirmed, 4);
}

/// A logger confirms what it has within a second, and at its end at once.
#[test]
fn a_logger_confirms_what_it_has() {
    let mut worker = Rig::new("worker-1");
    worker.up("logger-1", 1);
    worker.published.clear();
    worker.act("log 3");
    let (_, batch) = worker.published.pop().unwrap();
    let mut logger = Rig::new("logger-1");
    let confirmed = |logger: &mut Rig| {
        let published = std::mem::take(&mut logger.published);
        let events = published.iter().filter_map(|(topic, payload)| {
            let event = EventRef::read(DataRef::from_validated(payload)).ok()?;
            let taken = event.arguments().to::<RecordsTaken>().ok()?;
            (event.name() == RecordsTaken::NAME).then(|| (topic.clone(), taken.records))
        });
        events.collect::<Vec<_>>()
    };
    let receive = |logger: &mut Rig| {
        logger.step(Input::Message {
            from: id(2),
            payload: &batch,
        });
    };
    // The first may come before the node's hello.
    receive(&mut logger);
    logger.up("worker-1", 2);
    receive(&mut logger);
    assert_eq!(confirmed(&mut logger), []);
    logger.pass(Duration::from_secs(1));
    let topic = format!("zeek/cluster/nodeid/{}/", id(2));
    assert_eq!(confirmed(&mut logger), [(topic.clone(), 6)]);
    receive(&mut logger);
    logger.step(Input::Stop);
    assert_eq!(confirmed(&mut logger), [(topic, 3)]);
}
