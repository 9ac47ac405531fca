//! Journals on a file system that fails, fills up and crashes at random, from a seed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use muster_spool::model::ModelFiles;
use muster_spool::{
    Journal, JournalConfig, JournalErrorKind, JournalName, Position, Start, Unsynced,
};
use muster_test_support::{Random, seeds};

const HEADER: u8 = 0;
const RECORD: u8 = 1;

/// What a record has.
type Record = (u8, Vec<u8>);

fn config(start: Start) -> JournalConfig {
    JournalConfig {
        segment_size: 300,
        longest_record: 100,
        start,
        ..JournalConfig::new(JournalName::new("spool").unwrap())
    }
}

/// What is known of the journal.
#[derive(Default)]
struct Oracle {
    /// What anybody has tried to append at a place.
    tried: BTreeMap<Position, Vec<Record>>,
    /// What must be there.
    durable: BTreeMap<Position, Record>,
    /// What was appended, and will be durable with the next sync.
    appended: BTreeMap<Position, Record>,
    /// What the sync that is on its way covers.
    in_flight: BTreeMap<Position, Record>,
    released: u64,
}

impl Oracle {
    /// Opens the journal, and compares what is told with what is known.
    fn open(&mut self, files: &ModelFiles, start: Start) -> Option<Journal<ModelFiles>> {
        let mut found = BTreeMap::new();
        let mut last = None;
        let opened = Journal::open(files.clone(), config(start), |it| {
            assert!(last < Some(it.position), "out of order: {}", it.position);
            last = Some(it.position);
            found.insert(it.position, (it.kind, it.bytes.to_vec()));
        });
        let Ok((journal, opened)) = opened else {
            return None;
        };
        for (position, record) in &found {
            let tried = self.tried.get(position);
            let tried = tried.is_some_and(|tried| tried.contains(record));
            assert!(tried, "never appended: {record:?} at {position}");
        }
        if !opened.unreadable.is_empty() {
            return None;
        }
        assert!(opened.foreign.is_empty());
        let first = match start {
            Start::AtOldest => self.released,
            Start::AtNewestHeader => {
                let first = found.keys().next().map_or(0, |it| it.segment);
                // It has the newest header that is known to be there, or a newer one.
                let headers = self.durable.iter().filter(|(_, it)| it.0 == HEADER);
                let newest = headers.map(|(at, _)| at.segment).max().unwrap_or(0);
                assert!(first >= newest, "begins at {first} instead of {newest}");
                first
            }
        };
        for (position, record) in self.durable.iter().filter(|(at, _)| at.segment >= first) {
            assert_eq!(found.get(position), Some(record), "lost at {position}");
        }
        // What was found is known to be there with the next sync.
        self.in_flight.clear();
        self.appended.clear();
        if start == Start::AtOldest {
            self.durable.retain(|at, _| found.contains_key(at));
        }
        self.appended = found;
        Some(journal)
    }

    fn take(&mut self, journal: &mut Journal<ModelFiles>) -> Option<Unsynced<ModelFiles>> {
        let unsynced = journal.take_unsynced()?;
        self.in_flight = std::mem::take(&mut self.appended);
        Some(unsynced)
    }

    fn tries(&mut self, position: Position, record: &Record) {
        self.tried.entry(position).or_default().push(record.clone());
    }
}

fn record(random: &mut Random, kind: u8) -> Record {
    let bytes = (0..random.below(60)).map(|_| random.bytes()[0]).collect();
    (kind, bytes)
}

/// One journal until its end. Returns the files as they are then.
fn life(files: &ModelFiles, oracle: &mut Oracle, random: &mut Random, counts: &mut Counts) {
    let start = if random.chance(50) {
        Start::AtOldest
    } else {
        Start::AtNewestHeader
    };
    let Some(mut journal) = oracle.open(files, start) else {
        return;
    };
    counts.opened += 1;
    let mut unsynced = None;
    for _ in 0..random.below(80) {
        match random.below(12) {
            0 if random.chance(20) => files.fail(random.number(12), 1 + random.number(3)),
            1 if random.chance(10) => {
                let room = random.number(200);
                files.set_room(random.chance(50).then_some(room));
            }
            2..8 => {
                let header = journal.needs_segment() || random.chance(3);
                let record = record(random, if header { HEADER } else { RECORD });
                let result = if header {
                    journal.begin_segment(HEADER, &record.1)
                } else {
                    journal.append(RECORD, &record.1)
                };
                // Where it would have been: a failed write may have left all of it.
                match result {
                    Ok(position) => {
                        oracle.tries(position, &record);
                        oracle.appended.insert(position, record);
                        counts.appended += 1;
                    }
                    Err(error) => {
                        assert!(
                            matches!(
                                error.kind(),
                                JournalErrorKind::Io | JournalErrorKind::NoSpace
                            ),
                            "{error}"
                        );
                        counts.failed += 1;
                    }
                }
            }
            8 | 9 if unsynced.is_none() => unsynced = oracle.take(&mut journal),
            10 => {
                if let Some(taken) = unsynced.take() {
                    sync(taken, &mut journal, oracle, counts);
                }
            }
            11 if random.chance(30) => {
                if let Some(present) = journal.present() {
                    let before = present + 1 - random.number(3).min(present);
                    journal.release(before);
                    // From now on it may go.
                    oracle.released = oracle.released.max(before);
                    let released = oracle.released;
                    oracle.durable.retain(|at, _| at.segment >= released);
                }
            }
            _ => {}
        }
    }
    assert_eq!(files.violations(), Vec::<String>::new());
}

fn sync(
    unsynced: Unsynced<ModelFiles>,
    journal: &mut Journal<ModelFiles>,
    oracle: &mut Oracle,
    counts: &mut Counts,
) {
    if let Ok(synced) = unsynced.sync() {
        let mut in_flight = std::mem::take(&mut oracle.in_flight);
        in_flight.retain(|at, _| at.segment >= oracle.released);
        oracle.durable.append(&mut in_flight);
        counts.removed += journal.synced(synced).unwrap_or(0);
    } else {
        // It may have been found, and may be lost.
        let lost: BTreeSet<u64> = oracle.in_flight.keys().map(|at| at.segment).collect();
        oracle.appended.retain(|at, _| !lost.contains(&at.segment));
        oracle.in_flight.clear();
        journal.sync_failed();
        counts.failed_syncs += 1;
    }
}

#[derive(Debug, Default)]
struct Counts {
    opened: u64,
    appended: u64,
    failed: u64,
    failed_syncs: u64,
    removed: u64,
}

/// What was synced is there, in order. What was never appended is not.
#[test]
fn nothing_that_was_synced_is_lost() {
    let mut counts = Counts::default();
    for seed in seeds(600) {
        let mut random = Random::new(seed);
        let mut files = ModelFiles::default();
        let mut oracle = Oracle::default();
        for _ in 0..6 {
            life(&files, &mut oracle, &mut random, &mut counts);
            files.mend();
            files.set_room(None);
            files = if random.chance(30) {
                files.restart()
            } else {
                files.crash(&mut |below| random.number(below))
            };
        }
        oracle.open(&files, Start::AtOldest).unwrap();
    }
    // All that can happen has happened.
    let Counts {
        opened,
        appended,
        failed,
        failed_syncs,
        removed,
    } = counts;
    assert!(opened > 2000 && appended > 20_000, "{counts:?}");
    assert!(
        failed > 200 && failed_syncs > 50 && removed > 500,
        "{counts:?}"
    );
}

/// Begins segments, and releases what was before. A crash at any call leaves the old segment or
/// the header of the new one.
#[test]
fn a_segment_goes_when_the_next_header_is_durable() {
    /// Returns the number of the segment whose header was synced last.
    fn run(files: &ModelFiles) -> u64 {
        let mut durable = 0;
        let Ok((mut journal, _)) = Journal::open(files.clone(), config(Start::AtOldest), |_| {})
        else {
            return 0;
        };
        for number in 1_u8..5 {
            if journal.begin_segment(HEADER, &[number; 40]).is_err() {
                return durable;
            }
            journal.release(u64::from(number));
            for _ in 0..3 {
                if journal.append(RECORD, &[number; 30]).is_err() {
                    return durable;
                }
            }
            while let Some(unsynced) = journal.take_unsynced() {
                let Ok(synced) = unsynced.sync() else {
                    return durable;
                };
                durable = u64::from(number);
                if journal.synced(synced).is_err() {
                    return durable;
                }
            }
            assert_eq!(journal.oldest(), journal.present());
        }
        durable
    }

    let whole = ModelFiles::default();
    assert_eq!(run(&whole), 4);
    for call in 0..whole.calls() {
        for seed in 0..20 {
            let files = ModelFiles::default();
            files.fail(call, u64::MAX);
            let durable = run(&files);
            let mut random = Random::new(seed);
            let files = files.crash(&mut |below| if seed == 0 { 0 } else { random.number(below) });
            let mut headers = Vec::new();
            let (journal, opened) = Journal::open(files, config(Start::AtNewestHeader), |it| {
                if it.kind == HEADER {
                    headers.push(it.bytes[0]);
                }
            })
            .unwrap();
            let newest = headers.first().copied().map_or(0, u64::from);
            assert!(
                newest >= durable,
                "call {call}, seed {seed}: {newest} instead of {durable}"
            );
            assert!(opened.foreign.is_empty());
            drop(journal);
        }
    }
}
