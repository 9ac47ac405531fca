//! What goes to the spool, and what comes back.

use muster_spool::model::ModelFiles;

use super::*;
use crate::delivery::batch::Batch;
use crate::delivery::spool::Leftover;
use crate::delivery::{Dropped, Lost, SpoolHealth, StreamHead};

const MIB: usize = 1 << 20;

fn life(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

fn name() -> NodeName {
    logger_name(0)
}

fn logger() -> Vec<Candidate> {
    vec![Candidate {
        position: 0,
        name: name(),
        acknowledges: true,
    }]
}

/// A producer with its spool, and a time that stands still.
struct Rig {
    shipper: Shipper,
    home: ModelHome,
    spool: Spool<ModelHome>,
    now: Mono,
    dropped: Vec<Dropped>,
    health: Vec<SpoolHealth>,
}

impl Rig {
    fn new(when: SpoolWhen, limit: u64) -> Self {
        let mut shipper = Shipper::default();
        shipper.spool_when(when);
        let home = ModelHome::default();
        Self {
            shipper,
            spool: Spool::new(home.clone(), "worker", life(1), limit),
            home,
            now: Mono(1),
            dropped: Vec::new(),
            health: Vec::new(),
        }
    }

    fn add(&mut self, bytes: usize) -> bool {
        self.shipper.add(large(bytes), 1)
    }

    /// The spool does what it was asked for.
    fn work(&mut self, can_send: bool) {
        for _ in 0..3 {
            let orders = self.shipper.take_orders(can_send, self.now).into_iter();
            let outcomes = orders.filter_map(|order| self.spool.carry_out(life(1), order));
            let mut outcomes: Vec<SpoolOutcome> = outcomes.collect();
            outcomes.extend(self.spool.sync().into_iter().map(|(_, outcome)| outcome));
            for outcome in outcomes {
                let heard = self.shipper.spool_says(&outcome, self.now);
                self.dropped.extend(heard.dropped);
                self.health.extend(heard.health);
            }
        }
    }

    /// A logger takes and acknowledges what it is given. Returns the numbers.
    fn send(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(Dispatched::Given(it)) = self.shipper.dispatch(&logger(), 1, self.now) {
            assert!(self.shipper.get(it.number).unwrap().batch().is_some());
            sent.push(it.number);
        }
        let numbers: Numbers = sent.iter().copied().collect();
        self.shipper.acknowledged(&name(), &numbers, self.now);
        sent
    }

    /// What the next life finds.
    fn next_life(&self) -> (Option<Leftover>, Vec<String>, ModelHome) {
        let home = self.home.restart();
        let (left, problems) = Spool::new(home.clone(), "worker", life(2), u64::MAX).adopt();
        (left, problems, home)
    }
}

/// A batch with one record of so many bytes.
fn large(bytes: usize) -> Batch {
    let mut row = Vec::new();
    muster_data::encode::vector_header(&mut row, 1);
    muster_data::encode::string(&mut row, &vec![b'x'; bytes]);
    let columns = muster_data::Data::Vector([muster_data::Data::from("text")].into());
    Batch::new(
        std::sync::Arc::new(StreamHead::new("big", &columns)),
        row,
        1,
    )
}

#[test]
fn small_batches_that_wait_are_put_together() {
    let mut shipper = Shipper::default();
    for _ in 0..25 {
        assert!(shipper.add(batch("conn", 3), 30));
        assert!(shipper.add(batch("dns", 1), 30));
    }
    let mut records = Vec::new();
    let now = Mono(1);
    while let Some(Dispatched::Given(sending)) = shipper.dispatch(&logger(), 1, now) {
        let shipment = shipper.get(sending.number).unwrap();
        assert_eq!(shipment.batch().unwrap().records, shipment.records);
        records.push((shipment.head.name().to_owned(), shipment.records));
    }
    let conn = |records| ("conn".to_owned(), records);
    let expected = [conn(30), ("dns".to_owned(), 25), conn(30), conn(15)];
    assert_eq!(records, expected);
    // What somebody has seen is not changed.
    assert!(shipper.add(batch("conn", 1), 30));
    assert_eq!(shipper.get(3).unwrap().records, 15);
}

#[test]
fn what_has_no_room_in_memory_goes_to_the_spool_and_comes_back_in_order() {
    let mut rig = Rig::new(SpoolWhen::Overflow, u64::MAX);
    for number in 0..120 {
        assert!(rig.add(MIB), "batch {number}");
        rig.work(false);
        assert!(rig.shipper.memory() < 50 * MIB);
    }
    assert!(rig.spool.batches() > 60, "{}", rig.spool.batches());
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.extend(rig.send());
        rig.work(true);
        assert!(rig.shipper.memory() < 50 * MIB);
    }
    assert_eq!(sent, (0..120).collect::<Vec<u64>>());
    assert!(rig.shipper.is_empty() && rig.shipper.is_spool_done());
    assert_eq!((rig.shipper.memory(), rig.spool.batches()), (0, 0));
    assert_eq!(rig.spool.close(), None);
    assert!(rig.home.files(life(1)).is_none());
}

#[test]
fn a_full_spool_is_told_and_what_has_no_room_at_all_is_refused() {
    let mut rig = Rig::new(SpoolWhen::Overflow, 10 << 20);
    let mut taken = 0;
    while rig.add(MIB) {
        rig.work(false);
        // A spool that has failed is asked again later.
        rig.now = rig.now.after(Duration::from_secs(6));
        taken += 1;
    }
    assert!((70..80).contains(&taken), "{taken}");
    assert!(
        matches!(rig.health.last(), Some(SpoolHealth::Fails(text)) if text.contains("reached"))
    );
    assert_eq!(rig.dropped, []);
    // With a logger everything gets through, and there is room again.
    let mut sent = 0;
    for _ in 0..100 {
        sent += rig.send().len();
        rig.work(true);
        rig.now = rig.now.after(Duration::from_secs(6));
    }
    assert_eq!(sent, taken);
    assert!(rig.add(MIB));
}

#[test]
fn what_is_open_at_the_end_is_left_to_the_next_life() {
    let mut rig = Rig::new(SpoolWhen::Overflow, u64::MAX);
    for _ in 0..5 {
        assert!(rig.add(1000));
    }
    // One is acknowledged, one is with a logger.
    let Some(Dispatched::Given(first)) = rig.shipper.dispatch(&logger(), 1, rig.now) else {
        panic!("nothing was given");
    };
    let numbers: Numbers = [first.number].into_iter().collect();
    rig.shipper.acknowledged(&name(), &numbers, rig.now);
    assert!(rig.shipper.dispatch(&logger(), 1, rig.now).is_some());
    rig.shipper.spool_all();
    assert_eq!(rig.shipper.give_up(), []);
    rig.work(false);
    assert_eq!((rig.dropped.len(), rig.shipper.records()), (0, 4));
    let (left, problems, _) = rig.next_life();
    let left = left.unwrap();
    assert_eq!((problems, left.bad), (Vec::new(), 0));
    assert_eq!((left.life, left.node.as_str()), (life(1), "worker"));
    assert_eq!(left.next, 5);
    assert_eq!(
        left.batches.keys().copied().collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(
        left.batches
            .values()
            .all(|it| it.records == 1 && it.stream == "big")
    );
}

#[test]
fn what_cannot_be_left_at_the_end_is_counted() {
    let mut rig = Rig::new(SpoolWhen::Overflow, 1000);
    for _ in 0..5 {
        assert!(rig.add(400));
    }
    rig.shipper.spool_all();
    assert_eq!(rig.shipper.give_up(), []);
    rig.work(false);
    let left = rig.next_life().0.unwrap();
    assert!(!rig.dropped.is_empty());
    assert!(rig.dropped.iter().all(|it| it.lost == Lost::NoLogger));
    assert_eq!(left.batches.len() + rig.dropped.len(), 5);
    // And without a spool, everything.
    let mut shipper = Shipper::default();
    assert!(shipper.add(large(400), 1));
    shipper.spool_all();
    assert_eq!(shipper.give_up().len(), 1);
}

#[test]
fn a_disk_that_fails_costs_nothing_as_long_as_there_is_memory() {
    let mut rig = Rig::new(SpoolWhen::Always, u64::MAX);
    assert!(rig.add(1000));
    rig.work(false);
    let files = rig.home.files(life(1)).unwrap();
    for _ in 0..20 {
        files.fail(0, 7);
        assert!(rig.add(1000));
        rig.work(false);
        files.mend();
        rig.now = rig.now.after(Duration::from_secs(6));
        rig.work(false);
    }
    assert!(matches!(rig.health.first(), Some(SpoolHealth::Fails(_))));
    assert_eq!(rig.health.last(), Some(&SpoolHealth::Works));
    assert_eq!(files.violations(), Vec::<String>::new());
    let kept = rig.next_life().0.unwrap().batches.len();
    assert_eq!((kept, rig.dropped.len()), (21, 0));
    assert_eq!(rig.send().len(), 21);
    rig.work(true);
    assert!(rig.shipper.is_spool_done());
    assert_eq!(rig.next_life().0, None);
}

#[test]
fn damage_costs_the_records_that_it_hit_and_is_told() {
    let mut rig = Rig::new(SpoolWhen::Always, u64::MAX);
    for _ in 0..10 {
        assert!(rig.add(1000));
    }
    rig.work(false);
    let files = rig.home.files(life(1)).unwrap();
    let mut bytes = files.content("batches-0000000001.seg").unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    files.put("batches-0000000001.seg", &bytes);
    let (left, problems, home) = rig.next_life();
    let left = left.unwrap();
    assert_eq!((left.batches.len(), left.bad, problems.len()), (9, 1, 1));
    // Damage that comes later is found when the batch is read.
    let mut shipper = Shipper::adopted(&left, &[name()]);
    let files = home.files(life(1)).unwrap();
    let mut bytes = files.content("batches-0000000001.seg").unwrap();
    bytes[2000] ^= 1;
    files.put("batches-0000000001.seg", &bytes);
    let mut spool = Spool::new(home.clone(), "worker", life(2), u64::MAX);
    spool.adopt();
    let mut dropped = Vec::new();
    for order in shipper.take_orders(true, rig.now) {
        let outcome = spool.carry_out(life(1), order).unwrap();
        dropped.extend(shipper.spool_says(&outcome, rig.now).dropped);
    }
    assert_eq!(dropped.len(), 1);
    assert_eq!(
        (dropped[0].lost, dropped[0].head.name()),
        (Lost::Spool, "big")
    );
    assert_eq!(shipper.records(), 8);
}

#[test]
fn what_others_have_left_counts_for_the_limit() {
    let rig = Rig::new(SpoolWhen::Always, u64::MAX);
    let mut home = rig.home.clone();
    home.others = 900;
    let mut spool = Spool::new(home, "worker", life(1), 1000);
    let order = |number| SpoolOrder::Keep {
        number,
        batch: large(200),
    };
    let outcome = spool.carry_out(life(1), order(0));
    assert!(matches!(
        outcome,
        Some(SpoolOutcome::NotKept { number: 0, .. })
    ));
}

/// Whatever a record of the journal says, it is understood or counted, and takes no more memory than it has bytes.
#[test]
fn records_of_a_journal_may_be_anything() {
    let mut random = Random::new(11);
    let mut kept = Vec::new();
    batch("conn", 3).put_numbered(7, &mut kept);
    let life_record = |node: &str, of: u8, forgotten: Vec<u64>| {
        let record = muster_data::Data::vector([
            muster_data::Data::from(node),
            muster_data::Data::from(life(of).to_string()),
            muster_data::Data::vector(forgotten.into_iter().map(muster_data::Data::from)),
        ]);
        muster_data::encode_to_vec(&record)
    };
    let good = [
        (1, life_record("worker", 1, vec![0, u64::MAX])),
        (2, kept),
        (3, muster_data::encode_to_vec(&[0, 6, 9, u64::MAX][..])),
    ];
    let found = |kind: u8, bytes: &[u8]| {
        let files = ModelFiles::default();
        let config = muster_spool::JournalConfig {
            start: muster_spool::Start::AtOldest,
            ..muster_spool::JournalConfig::new(muster_spool::JournalName::new("batches").unwrap())
        };
        let (mut journal, _) = muster_spool::Journal::open(files.clone(), config, |_| {}).unwrap();
        journal.begin_segment(kind, bytes).unwrap();
        let home = ModelHome::default();
        home.put(life(1), files);
        let (left, problems) = Spool::new(home, "worker", life(2), u64::MAX).adopt();
        (left.map_or(0, |left| left.batches.len()), problems.len())
    };
    let understood: Vec<_> = good
        .iter()
        .map(|(kind, bytes)| found(*kind, bytes))
        .collect();
    assert_eq!(understood, [(0, 0), (1, 0), (0, 0)]);
    // Of another life, or of no node.
    assert_eq!(found(1, &life_record("worker", 3, Vec::new())), (0, 1));
    assert_eq!(found(1, &life_record("", 1, Vec::new())), (0, 1));
    let mut refused = 0;
    for _ in 0..3_000 {
        let (kind, bytes) = &good[usize::try_from(random.number(3)).unwrap()];
        let mut bytes = bytes.clone();
        for _ in 0..=random.number(3) {
            let at = usize::try_from(random.number(bytes.len() as u64)).unwrap();
            let byte = u8::try_from(random.number(256)).unwrap();
            match random.number(3) {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, byte),
            }
        }
        let (batches, problems) = found(*kind, &bytes);
        assert!(batches <= 1);
        refused += problems;
    }
    assert!(refused > 1_000, "{refused}");
}

/// A logger that is out has it, and will keep it when it is back; another one has promised not to take it.
#[test]
fn what_is_on_disk_waits_longer_for_the_logger_that_may_have_it() {
    let mut rig = Rig::new(SpoolWhen::Always, u64::MAX);
    assert!(rig.add(1000));
    rig.work(true);
    let mut in_memory = Shipper::default();
    assert!(in_memory.add(large(1000), 1));
    let dropped_after = |shipper: &mut Shipper| {
        assert!(shipper.dispatch(&logger(), 1, rig.now).is_some());
        let numbers: Numbers = [0].into_iter().collect();
        let refused = shipper.refused(&name(), &numbers, BatchRefusal::GoBack, rig.now);
        assert_eq!(refused, []);
        let minutes = (1..100).find(|minutes| {
            let later = rig.now.after(Duration::from_secs(60 * minutes));
            let (_, dropped) = shipper.tick(later, |_| false);
            dropped.iter().any(|it| it.lost == Lost::Unsettled)
        });
        minutes.unwrap()
    };
    assert_eq!(dropped_after(&mut in_memory), 1);
    let mut kept = std::mem::take(&mut rig.shipper);
    assert_eq!(dropped_after(&mut kept), 60);
}
