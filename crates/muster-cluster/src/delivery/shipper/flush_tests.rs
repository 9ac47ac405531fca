//! Flushes of a producer's batches, beside a model that knows the fate of each record.

use muster_test_support::{Random, seeds};

use super::*;
use crate::delivery::batch::tests::batch;
use crate::delivery::flushes::{FlushEnd, Flushed, LostRecords};
use crate::delivery::spool::{SpoolOutcome, SpoolPlace};
use crate::settings::SpoolWhen;

/// What has become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Open,
    Spooled,
    Acknowledged,
    Unacknowledged,
    Lost(Lost),
}

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// A flush covers what is added to its batches later.
    CoversLater,
    /// A batch counts as safe when the spool is asked to keep it.
    SafeWhenAsked,
    /// What had no room is not told.
    ForgetsRefused,
}

/// A flush with what was there when it was opened.
struct Asked {
    token: u64,
    asker: usize,
    records: usize,
    was_open: Vec<usize>,
    deadline: Option<Mono>,
}

struct Model {
    random: Random,
    shipper: Shipper,
    now: Mono,
    /// The fate of each record that was ever logged.
    records: Vec<Known>,
    /// The records of each batch.
    batches: BTreeMap<u64, Vec<usize>>,
    /// The records that are not safe, and of which an asker was told.
    told: BTreeMap<usize, BTreeSet<usize>>,
    asked: Vec<Asked>,
    /// The batches that the spool was asked to keep.
    orders: BTreeSet<u64>,
    ended: usize,
    safe: usize,
}

const STREAMS: [&str; 3] = ["conn", "dns", "ssl"];

fn logger(number: usize) -> NodeName {
    NodeName::new(&format!("logger-{number}")).unwrap()
}

fn candidates(acknowledges: bool) -> Vec<Candidate> {
    let of = |position| Candidate {
        position,
        name: logger(position),
        acknowledges,
    };
    (0..2).map(of).collect()
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut shipper = Shipper::default();
        shipper.spool_when(SpoolWhen::Always);
        Self {
            random: Random::new(seed),
            shipper,
            now: Mono::default(),
            records: Vec::new(),
            batches: BTreeMap::new(),
            told: BTreeMap::new(),
            asked: Vec::new(),
            orders: BTreeSet::new(),
            ended: 0,
            safe: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    fn add(&mut self, broken: Option<Broken>) {
        let stream = STREAMS[self.below(STREAMS.len())];
        let count = 1 + self.below(4);
        let first = self.records.len();
        let ids = first..first + count;
        let mut rows = batch(stream, count as u64);
        // One that no room is left for.
        let is_huge = self.below(12) == 0 && !self.shipper.is_empty();
        if is_huge {
            let bytes = vec![0; MEMORY_BYTES];
            rows = Batch::new(Arc::clone(&rows.head), bytes, count);
        }
        let next = self.shipper.next;
        let known = self.shipper.last.get(stream).copied();
        let is_taken = self.shipper.add(rows, 6);
        assert_eq!(is_taken, !is_huge);
        match broken {
            Some(Broken::CoversLater) => self.shipper.flushes.break_later(),
            Some(Broken::ForgetsRefused) if is_huge => self.shipper.flushes.break_refused(count),
            _ => {}
        }
        let fate = if is_huge {
            Known::Lost(Lost::NoLogger)
        } else {
            Known::Open
        };
        self.records.resize(first + count, fate);
        if is_taken {
            let number = if self.shipper.next > next {
                next
            } else {
                known.unwrap()
            };
            self.batches.entry(number).or_default().extend(ids);
        }
    }

    fn become_all(&mut self, number: u64, known: Known) {
        for record in &self.batches[&number] {
            self.records[*record] = known;
        }
    }

    fn is_open(&self, number: u64) -> bool {
        let known = self.records[self.batches[&number][0]];
        known == Known::Open || known == Known::Spooled
    }

    fn turn(&mut self, broken: Option<Broken>) {
        self.now = self.now.after(Duration::from_millis(self.below(50) as u64));
        match self.below(9) {
            0..=2 => self.add(broken),
            3 => self.flush(),
            4 => {
                let acknowledges = self.below(4) > 0;
                match self
                    .shipper
                    .dispatch(&candidates(acknowledges), 2, self.now)
                {
                    Some(Dispatched::LetGo(_, _)) => {
                        let open = self.batches.keys().copied();
                        let gone = open.filter(|it| self.shipper.get(*it).is_none());
                        let gone: Vec<u64> = gone.filter(|it| self.is_open(*it)).collect();
                        for number in gone {
                            self.become_all(number, Known::Unacknowledged);
                        }
                    }
                    Some(Dispatched::Given(_)) | None => {}
                }
            }
            5 => {
                let at = logger(self.below(2));
                let numbers: Numbers = self.some(|shipment| shipment.given.contains(&at));
                for number in numbers.iter() {
                    self.become_all(number, Known::Acknowledged);
                }
                let _ = self.shipper.acknowledged(&at, &numbers, self.now);
            }
            6 if self.below(3) == 0 => {
                let at = logger(self.below(2));
                let is_there = |shipment: &Shipment| matches!(&shipment.at, Place::InFlight(logger, _) if *logger == at);
                let numbers: Numbers = self.some(is_there);
                for number in numbers.iter() {
                    self.become_all(number, Known::Lost(Lost::Invalid));
                }
                let refusal = BatchRefusal::Invalid;
                let _ = self.shipper.refused(&at, &numbers, refusal, self.now);
            }
            6 | 7 => self.spool(broken),
            _ => {
                self.shipper.flushes.tick(self.now);
            }
        }
    }

    /// Some of the open batches of which something holds.
    fn some(&mut self, holds: impl Fn(&Shipment) -> bool) -> Numbers {
        let open = self.shipper.open.iter();
        let numbers: Vec<u64> = open.filter(|(_, it)| holds(it)).map(|(n, _)| *n).collect();
        let numbers = numbers.into_iter();
        numbers.filter(|_| self.random.below(2) == 0).collect()
    }

    fn spool(&mut self, broken: Option<Broken>) {
        for order in self.shipper.take_orders(false, self.now) {
            if let crate::delivery::SpoolOrder::Keep { number, .. } = order {
                self.orders.insert(number);
                if broken == Some(Broken::SafeWhenAsked)
                    && let Some(shipment) = self.shipper.open.get(&number)
                {
                    let records = shipment.records;
                    self.shipper.flushes.spooled(number, records);
                }
            }
        }
        if self.below(2) == 0 {
            return;
        }
        let outcome = if self.below(4) > 0 {
            let place = SpoolPlace {
                segment: 1,
                offset: 1,
            };
            let kept = std::mem::take(&mut self.orders);
            for number in &kept {
                if self.shipper.get(*number).is_some() {
                    self.become_all(*number, Known::Spooled);
                }
            }
            SpoolOutcome::Synced {
                kept: kept.into_iter().map(|number| (number, place)).collect(),
                forgotten: Numbers::default(),
            }
        } else if let Some(number) = self.orders.pop_first() {
            SpoolOutcome::NotKept {
                number,
                may_be_there: self.random.below(2) == 0,
                problem: "full".to_owned(),
            }
        } else {
            return;
        };
        let heard = self.shipper.spool_says(&outcome, self.now);
        assert_eq!(heard.dropped, []);
    }

    fn flush(&mut self) {
        let asker = self.below(2);
        let within = (self.below(2) == 0).then(|| Duration::from_millis(self.below(2_000) as u64));
        let deadline = within.map(|limit| self.now.after(limit));
        let records = 0..self.records.len();
        let is_open =
            |record: &usize| matches!(self.records[*record], Known::Open | Known::Spooled);
        let was_open = records.clone().filter(is_open).collect();
        let token = self.shipper.flush(asker, deadline);
        self.asked.push(Asked {
            token,
            asker,
            records: records.end,
            was_open,
            deadline,
        });
    }

    /// Compares what flushes have said with the fate of each record.
    fn look(&mut self) -> Result<(), String> {
        while let Some((token, flushed)) = self.shipper.flushes.take_ended() {
            let at = self.asked.iter().position(|asked| asked.token == token);
            let asked = self.asked.swap_remove(at.ok_or("a flush ends twice")?);
            self.ended += 1;
            self.safe += usize::from(flushed.is_safe());
            self.compare(&asked, &flushed)?;
        }
        // None is forgotten.
        for asked in &self.asked {
            let mut open = asked.was_open.iter();
            if !open.any(|record| self.records[*record] == Known::Open) {
                return Err("all is known, and the flush is open".to_owned());
            }
        }
        Ok(())
    }

    fn compare(&mut self, asked: &Asked, flushed: &Flushed) -> Result<(), String> {
        let count = |known: Known| {
            let records = asked.was_open.iter();
            records
                .filter(|record| self.records[**record] == known)
                .count() as u64
        };
        let open = count(Known::Open);
        let right_end = match flushed.end {
            FlushEnd::Settled => open == 0,
            FlushEnd::TimedOut => open > 0 && asked.deadline.is_some_and(|at| at <= self.now),
            FlushEnd::Stopping => open > 0,
            FlushEnd::TooMany => false,
        };
        let said = (flushed.open, flushed.spooled, flushed.acknowledged);
        let is = (open, count(Known::Spooled), count(Known::Acknowledged));
        if !right_end || said != is {
            return Err(format!("said {said:?} and {:?}, is {is:?}", flushed.end));
        }
        // What is not safe of all before, and was not told, is told.
        let told = self.told.entry(asked.asker).or_default();
        let mut fresh = (0, LostRecords::default());
        let mut all = (0, 0);
        for (record, known) in self.records[..asked.records].iter().enumerate() {
            let is_fresh = u64::from(!told.contains(&record));
            match known {
                Known::Unacknowledged => {
                    fresh.0 += is_fresh;
                    all.0 += 1;
                }
                Known::Lost(lost) => {
                    match lost {
                        Lost::NoLogger => fresh.1.no_logger += is_fresh,
                        _ => fresh.1.invalid += is_fresh,
                    }
                    all.1 += 1;
                }
                _ => continue,
            }
            told.insert(record);
        }
        let (said, lost) = (flushed.unacknowledged, flushed.lost);
        let is_told = said >= fresh.0
            && lost.no_logger >= fresh.1.no_logger
            && lost.invalid >= fresh.1.invalid;
        if !is_told || said > all.0 || lost.total() > all.1 {
            return Err(format!(
                "lost {said} and {lost:?}, of which untold are {fresh:?}"
            ));
        }
        Ok(())
    }

    fn run(seed: u64, broken: Option<Broken>) -> Result<(usize, usize), String> {
        let mut model = Self::new(seed);
        for _ in 0..400 {
            model.turn(broken);
            model.look()?;
        }
        model.shipper.flushes.stop();
        model.look()?;
        if model.asked.is_empty() {
            Ok((model.ended, model.safe))
        } else {
            Err("open at the end".to_owned())
        }
    }
}

#[test]
fn a_flush_says_the_fate_of_every_record_before_it() {
    let (mut ended, mut safe) = (0, 0);
    for seed in seeds(400) {
        let run = Model::run(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        (ended, safe) = (ended + run.0, safe + run.1);
    }
    assert!(safe > 0 && safe < ended, "{safe} of {ended} are safe");
}

#[test]
fn every_broken_rule_of_flushes_is_noticed() {
    for broken in [
        Broken::CoversLater,
        Broken::SafeWhenAsked,
        Broken::ForgetsRefused,
    ] {
        let found = (0..200).find_map(|seed| Some((seed, Model::run(seed, Some(broken)).err()?)));
        let (seed, error) = found.unwrap_or_else(|| panic!("nobody notices {broken:?}"));
        println!("{broken:?}: seed {seed}: {error}");
    }
}

/// Two flushes of one framework, one after the other, do not tell the same loss twice.
#[test]
fn a_loss_is_told_once() {
    let mut shipper = Shipper::default();
    assert!(shipper.add(batch("conn", 2), 1));
    let huge = Batch::new(Arc::clone(&batch("conn", 1).head), vec![0; MEMORY_BYTES], 3);
    assert!(!shipper.add(huge, 1));
    shipper.flush(0, Some(Mono::default()));
    shipper.flushes.tick(Mono::default());
    let lost = |shipper: &mut Shipper| {
        let (_, flushed) = shipper.flushes.take_ended().unwrap();
        (flushed.lost.total(), flushed.open, flushed.end)
    };
    assert_eq!(lost(&mut shipper), (3, 2, FlushEnd::TimedOut));
    shipper.flush(0, None);
    let _ = shipper.give_up();
    assert_eq!(lost(&mut shipper), (2, 0, FlushEnd::Settled));
    shipper.flush(0, None);
    assert_eq!(lost(&mut shipper), (0, 0, FlushEnd::Settled));
    // Another framework has heard of nothing.
    shipper.flush(1, None);
    assert_eq!(lost(&mut shipper), (5, 0, FlushEnd::Settled));
}

#[test]
fn there_is_a_bound_on_open_flushes() {
    let mut shipper = Shipper::default();
    assert!(shipper.add(batch("conn", 2), 1));
    for _ in 0..256 {
        shipper.flush(0, None);
    }
    assert!(!shipper.flushes.has_ended());
    shipper.flush(0, None);
    let (_, flushed) = shipper.flushes.take_ended().unwrap();
    assert_eq!((flushed.end, flushed.open), (FlushEnd::TooMany, 2));
    assert!(!flushed.is_safe());
}
