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
