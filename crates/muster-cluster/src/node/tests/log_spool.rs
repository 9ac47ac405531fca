//! The spool of a node, and what a former life has left in it.

use std::collections::BTreeMap;

use super::*;
use crate::delivery::messages::DeliveryNote;

/// Reads the events of a name that were published, each with its topic.
fn said<E: Event>(rig: &mut Rig) -> Vec<(String, E)> {
    let published = std::mem::take(&mut rig.published);
    let said = published.into_iter().filter_map(|(topic, payload)| {
        let event = EventRef::read(DataRef::from_validated(&payload)).ok()?;
        let arguments = event.arguments().to::<E>().ok();
        Some((topic, arguments.filter(|_| event.name() == E::NAME)?))
    });
    said.collect()
}

/// The notes of batches that were published, each with its topic.
fn batches(rig: &mut Rig) -> Vec<(String, DeliveryNote)> {
    let published = std::mem::take(&mut rig.published);
    let notes = published.into_iter().filter_map(|(topic, payload)| {
        let event = EventRef::read(DataRef::from_validated(&payload)).ok()?;
        let arguments = Some(event.arguments()).filter(|_| event.name() == logs::BATCH)?;
        let (_, note) = LogBatch::read(arguments).unwrap();
        Some((topic, note.unwrap()))
    });
    notes.collect()
}

fn batch(records: u64) -> Batch {
    crate::delivery::batch_of("rows", records)
}

/// What life 9 of worker-1 has left: so many batches.
fn left(count: u64) -> Leftover {
    let place = |number| SpoolPlace {
        segment: 1,
        offset: number,
    };
    let batches = (3..3 + count).map(|number| {
        let left = LeftBatch {
            place: place(number),
            stream: "rows".to_owned(),
            records: 2,
            bytes: batch(2).bytes(),
        };
        (number, left)
    });
    Leftover {
        life: id(9),
        node: "worker-1".to_owned(),
        next: 3 + count,
        batches: batches.collect::<BTreeMap<_, _>>(),
        forgotten: numbers(0..=2),
        bad: 0,
    }
}

fn worker() -> Rig {
    let mut rig = Rig::new("worker-1");
    rig.node.use_spool();
    rig
}

impl Rig {
    fn spool(&mut self, life: u8, outcome: &SpoolOutcome) {
        let life = id(life);
        self.step(Input::Spool { life, outcome });
    }

    fn orders(&mut self) -> Vec<(EndpointId, SpoolOrder)> {
        std::mem::take(&mut self.orders)
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Numbers {
    range.collect()
}

#[test]
fn what_a_former_life_has_left_is_sent_under_its_name() {
    let mut rig = worker();
    rig.logger_up("logger-1", 1);
    rig.logger_up("logger-2", 2);
    rig.step(Input::SpoolFound(&left(2)));
    assert_eq!(
        (rig.node.waiting_records(), rig.node.counts().records_found),
        (4, 4)
    );
    let orders = rig.orders();
    let reads: Vec<u64> = orders
        .iter()
        .map(|(life, order)| match order {
            SpoolOrder::Read { number, .. } if *life == id(9) => *number,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reads, [3, 4]);
    rig.published.clear();
    for number in reads {
        let batch = batch(2);
        rig.spool(9, &SpoolOutcome::Read { number, batch });
    }
    let sent = batches(&mut rig);
    assert_eq!(sent.len(), 2);
    for (_, note) in &sent {
        assert_eq!(note.producer, id(9).to_string());
        assert_eq!((note.node.as_str(), note.floor), ("worker-1", 3));
    }
    let ack = |batches: Vec<u64>| LogAck {
        producer: id(9).to_string(),
        batches,
    };
    rig.receive(1, &ack(vec![3, 3]));
    rig.receive(2, &ack(vec![4, 4]));
    assert_eq!(rig.node.counts().records_acknowledged, 4);
    // Nobody is told before the spool has forgotten it: the next life would decide anew.
    rig.pass(Duration::from_secs(1));
    assert_eq!(said::<LogVerdict>(&mut rig), []);
    let forgotten: Vec<SpoolOrder> = rig.orders().into_iter().map(|(_, order)| order).collect();
    assert_eq!(forgotten, [SpoolOrder::Forget(numbers(3..=3))]);
    let synced = |forgotten| SpoolOutcome::Synced {
        kept: Vec::new(),
        forgotten,
    };
    rig.spool(9, &synced(numbers(3..=3)));
    let forgotten: Vec<SpoolOrder> = rig.orders().into_iter().map(|(_, order)| order).collect();
    assert_eq!(forgotten, [SpoolOrder::Forget(numbers(4..=4))]);
    rig.spool(9, &synced(numbers(4..=4)));
    rig.pass(Duration::from_millis(200));
    let verdicts = said::<LogVerdict>(&mut rig);
    let one: Vec<&LogVerdict> = verdicts
        .iter()
        .filter(|(topic, _)| topic.contains("logger-1"))
        .map(|(_, verdict)| verdict)
        .collect();
    assert!(
        one.iter()
            .all(|verdict| verdict.producer == id(9).to_string())
    );
    assert!(one.iter().any(|verdict| verdict.keep_shared == [3, 3]));
    assert!(one.iter().any(|verdict| verdict.strike == [4, 4]));
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.orders(), [(id(9), SpoolOrder::End)]);
    assert_eq!(rig.node.waiting_records(), 0);
}

#[test]
fn who_has_nothing_of_a_life_lets_the_loggers_decide() {
    let mut rig = worker();
    rig.logger_up("logger-1", 1);
    rig.published.clear();
    rig.receive(
        1,
        &LogAck {
            producer: id(9).to_string(),
            batches: vec![7, 9],
        },
    );
    let [(topic, verdict)] = &said::<LogVerdict>(&mut rig)[..] else {
        panic!("no verdict");
    };
    assert!(topic.contains("logger-1"));
    assert_eq!((verdict.settle.as_slice(), verdict.floor), (&[7, 9][..], 0));
    assert!(verdict.keep.is_empty() && verdict.strike.is_empty());
}

/// A batch of life 9, as life 5 of worker-1 sends it.
fn of_former_life(rig: &mut Rig, producer: u8, number: u64) {
    let note = DeliveryNote {
        node: "worker-1".to_owned(),
        producer: id(producer).to_string(),
        number,
        floor: 3,
    };
    let mut payload = Vec::new();
    zeek::put_event(&mut payload, logs::BATCH, Metadata::default(), |out| {
        logs::put_batch(out, &batch(2), Some(&note));
    });
    rig.step(Input::Message {
        from: id(5),
        payload: &payload,
    });
}

#[test]
fn a_logger_hears_whoever_has_what_a_life_has_left() {
    let mut rig = Rig::new("logger-1");
    rig.up("worker-1", 5);
    rig.up("worker-2", 6);
    rig.published.clear();
    of_former_life(&mut rig, 9, 3);
    let [(topic, ack)] = &said::<LogAck>(&mut rig)[..] else {
        panic!("nothing was acknowledged");
    };
    assert!(topic.contains(&id(5).to_string()));
    assert_eq!(ack.producer, id(9).to_string());
    // Nobody else may say what counts.
    let verdict = LogVerdict {
        producer: id(9).to_string(),
        floor: 4,
        keep: Vec::new(),
        keep_shared: vec![3, 3],
        strike: Vec::new(),
        settle: Vec::new(),
    };
    rig.receive(6, &verdict);
    assert_eq!(rig.node.undecided_batches(), 1);
    assert_eq!(rig.node.counts().control_events_refused, 1);
    rig.receive(5, &verdict);
    assert_eq!(rig.node.undecided_batches(), 0);
    // It was below the first number that its producer had open: that one had accounted for it.
    rig.published.clear();
    of_former_life(&mut rig, 9, 3);
    let [(topic, refused)] = &said::<LogRefused>(&mut rig)[..] else {
        panic!("it was not refused");
    };
    assert!(topic.contains(&id(5).to_string()));
    assert_eq!(refused.batches, [3, 3]);
    assert_eq!(BatchRefusal::of(refused.cause), BatchRefusal::Decided);
    // Nor may anybody speak for a node that lives.
    let refused = rig.node.counts().events_refused;
    of_former_life(&mut rig, 6, 3);
    assert_eq!(rig.node.counts().events_refused, refused + 1);
    assert_eq!(said::<LogAck>(&mut rig), []);
}

#[test]
fn what_is_left_at_the_end_is_counted() {
    let mut rig = worker();
    rig.act("log 6");
    assert_eq!(rig.orders(), []);
    rig.step(Input::Stop);
    rig.step(Input::End);
    let kept: Vec<u64> = rig
        .orders()
        .iter()
        .map(|(_, order)| match order {
            SpoolOrder::Keep { number, .. } => *number,
            other => panic!("{other:?}"),
        })
        .collect();
    let logged = rig.node.counts().records_logged;
    assert_eq!(
        kept,
        [0, 1, 2],
        "two batches, and what is logged at the end"
    );
    assert!(logged > 6 && !rig.node.has_spooled());
    assert_eq!(rig.node.counts().records_left, logged);
    let place = SpoolPlace {
        segment: 1,
        offset: 24,
    };
    let kept = SpoolOutcome::Synced {
        kept: vec![(0, place), (2, place)],
        forgotten: Numbers::default(),
    };
    rig.spool(0, &kept);
    let problem = "no space left on device".to_owned();
    rig.spool(
        0,
        &SpoolOutcome::NotKept {
            number: 1,
            may_be_there: false,
            problem,
        },
    );
    assert!(rig.node.has_spooled());
    let counts = rig.node.counts();
    assert_eq!(counts.records_left + counts.records_dropped.total(), logged);
    assert!(counts.records_dropped.total() > 0);
    assert_eq!(counts.records_spooled, counts.records_left);
    let troubles: Vec<String> = rig.node.troubles().map(|it| it.cause.to_string()).collect();
    assert_eq!(troubles, ["spool"]);
}

#[test]
fn what_the_spool_has_lost_is_counted() {
    let mut rig = worker();
    rig.logger_up("logger-1", 1);
    rig.step(Input::SpoolFound(&left(1)));
    rig.spool(9, &SpoolOutcome::Damaged { number: 3 });
    assert_eq!(rig.node.counts().records_spoilt.total(), 2);
    assert_eq!(rig.node.waiting_records(), 0);
}

/// The former life had accounted for it, and crashed before its journal had forgotten it.
#[test]
fn what_is_open_no_more_is_forgotten_without_a_word() {
    let mut rig = worker();
    rig.logger_up("logger-1", 1);
    rig.step(Input::SpoolFound(&left(1)));
    let batch = batch(2);
    rig.spool(9, &SpoolOutcome::Read { number: 3, batch });
    rig.orders();
    let refused = LogRefused {
        producer: id(9).to_string(),
        batches: vec![3, 3],
        cause: BatchRefusal::Decided.number(),
        text: String::new(),
    };
    rig.receive(1, &refused);
    let counts = rig.node.counts();
    assert_eq!(
        (counts.records_acknowledged, rig.node.waiting_records()),
        (0, 0)
    );
    let orders = rig.orders();
    assert_eq!(orders, [(id(9), SpoolOrder::Forget(numbers(3..=3)))]);
}
