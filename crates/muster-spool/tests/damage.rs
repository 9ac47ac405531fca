//! Journals whose files were cut, changed, or put there by somebody else.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io;

use muster_spool::model::ModelFiles;
use muster_spool::{
    BadRecords, Journal, JournalConfig, JournalErrorKind, JournalName, Opened, Position, Start,
};
use muster_test_support::{Random, seeds};

/// The length of a file header, and of what stands before the bytes of a record.
const FILE_HEADER: usize = 24;
const HEAD: usize = 9;

type Record = (u8, Vec<u8>);

fn config() -> JournalConfig {
    JournalConfig {
        longest_record: 1000,
        start: Start::AtOldest,
        ..JournalConfig::new(JournalName::new("spool").unwrap())
    }
}

fn open(files: &ModelFiles) -> (Journal<ModelFiles>, Opened, Vec<Record>) {
    let (journal, opened, records) = open_as(files, config());
    let records = records.into_iter().map(|(_, record)| record).collect();
    (journal, opened, records)
}

fn open_as(
    files: &ModelFiles,
    config: JournalConfig,
) -> (Journal<ModelFiles>, Opened, Vec<(Position, Record)>) {
    let mut records = Vec::new();
    let (journal, opened) = Journal::open(files.clone(), config, |it| {
        records.push((it.position, (it.kind, it.bytes.to_vec())));
    })
    .unwrap();
    assert_eq!(opened.records, records.len() as u64);
    (journal, opened, records)
}

/// Returns records, the file that has them, and where each of them begins.
fn written(lengths: &[usize]) -> (Vec<Record>, Vec<u8>, Vec<usize>) {
    let mut random = Random::new(1);
    let files = ModelFiles::default();
    let (mut journal, ..) = open(&files);
    let (mut records, mut offsets) = (Vec::new(), Vec::new());
    for (number, length) in (0_u8..).zip(lengths) {
        let bytes: Vec<u8> = (0..*length).map(|_| random.bytes()[0]).collect();
        let position = if number == 0 {
            journal.begin_segment(number, &bytes)
        } else {
            journal.append(number, &bytes)
        };
        offsets.push(usize::try_from(position.unwrap().offset).unwrap());
        records.push((number, bytes));
    }
    let content = files.content("spool-0000000001.seg").unwrap();
    assert_eq!(journal.bytes(), content.len() as u64);
    (records, content, offsets)
}

fn with_file(bytes: &[u8]) -> ModelFiles {
    let files = ModelFiles::default();
    files.put("spool-0000000001.seg", bytes);
    files
}

/// Appends a record, opens the journal again, and finds it behind all others.
fn goes_on(files: &ModelFiles, mut journal: Journal<ModelFiles>, mut expected: Vec<Record>) {
    let new = (77, b"appended later".to_vec());
    if journal.needs_segment() {
        journal.begin_segment(new.0, &new.1).unwrap();
    } else {
        journal.append(new.0, &new.1).unwrap();
    }
    expected.push(new);
    let (_, _, records) = open(files);
    assert_eq!(records, expected);
}

const LENGTHS: &[usize] = &[5, 0, 17, 1, 40, 33, 8];

#[test]
fn a_cut_anywhere_costs_what_is_behind_it() {
    let (records, content, offsets) = written(LENGTHS);
    let all = content.len();
    for length in 0..=all {
        let files = with_file(&content[..length]);
        let (journal, opened, found) = open(&files);
        let ends = offsets.iter().skip(1).chain([&all]);
        let whole = ends.filter(|end| **end <= length).count();
        assert_eq!(found, records[..whole], "cut at {length}");
        let end = offsets.get(whole).copied().unwrap_or(content.len());
        let torn = length.saturating_sub(end);
        assert_eq!(opened.skipped, torn as u64);
        assert_eq!(opened.bad.total(), u64::from(torn > 0));
        assert_eq!(opened.bad.cut, u64::from(torn > 0));
        // The torn end is gone, unless nothing can be appended there.
        let now = files.content("spool-0000000001.seg").unwrap().len();
        assert_eq!(now, if whole > 0 { end } else { length });
        assert_eq!(journal.needs_segment(), whole == 0);
        assert_eq!(journal.bytes(), now as u64);
        goes_on(&files, journal, found);
    }
}

#[test]
fn a_changed_byte_costs_one_record() {
    let (records, content, offsets) = written(LENGTHS);
    for at in 0..content.len() {
        for bits in [1, 0x10, 0x80, 0xff] {
            let mut changed = content.clone();
            changed[at] ^= bits;
            let files = with_file(&changed);
            let (journal, opened, found) = open(&files);
            let mut expected = records.clone();
            let hit = offsets.iter().rposition(|offset| *offset <= at);
            let bad = BadRecords {
                checksum: u64::from(hit.is_some()),
                ..BadRecords::default()
            };
            if let Some(hit) = hit {
                expected.remove(hit);
            }
            let in_length = hit.is_some_and(|hit| at < offsets[hit] + 4);
            if in_length {
                // What is between it and the next one may be lost as well.
                let mut all = records.iter();
                for record in &found {
                    assert!(all.any(|it| it == record), "{record:?} was never appended");
                }
                let bad = opened.bad;
                assert_eq!(bad.total(), 1, "byte {at}: {bad:?}");
                assert!(found.len() + 2 >= records.len(), "byte {at}: {bad:?}");
            } else {
                assert_eq!(found, expected, "byte {at}");
                assert_eq!(opened.bad, bad, "byte {at}");
            }
            goes_on(&files, journal, found);
        }
    }
}

#[test]
fn what_is_in_the_middle_is_left_alone() {
    let (records, content, offsets) = written(LENGTHS);
    let mut changed = content.clone();
    // A length that cannot be, and a checksum that is wrong.
    changed[offsets[2]] = 0xff;
    changed[offsets[4] + HEAD] ^= 1;
    let files = with_file(&changed);
    let (journal, opened, found) = open(&files);
    let expected: Vec<Record> = [0, 1, 3, 5, 6].map(|at| records[at].clone()).to_vec();
    assert_eq!(found, expected);
    let bad = BadRecords {
        checksum: 1,
        length: 1,
        cut: 0,
    };
    assert_eq!(opened.bad, bad);
    assert_eq!(opened.skipped, (HEAD + 17 + HEAD + 40) as u64);
    assert_eq!(files.content("spool-0000000001.seg").unwrap(), changed);
    goes_on(&files, journal, found);
}

/// A crash leaves zeros where blocks were not written. They are one bad place, and no records.
#[test]
fn a_hole_is_one_bad_place() {
    let (records, content, offsets) = written(&[5, 100, 300, 40, 60, 8]);
    let mut changed = content.clone();
    // From within one record to within another.
    changed[offsets[1] + 50..offsets[4] + 30].fill(0);
    let files = with_file(&changed);
    let (journal, opened, found) = open(&files);
    assert_eq!(found, [records[0].clone(), records[5].clone()]);
    assert_eq!((opened.bad.length, opened.bad.total()), (1, 1));
    assert_eq!(opened.skipped, (offsets[5] - offsets[1]) as u64);
    goes_on(&files, journal, found);

    // Of whole records, whose lengths are such that empty ones would lead from one to the next.
    let (records, mut changed, offsets) = written(&[5, 9, 18, 27, 60, 8]);
    changed[offsets[1]..offsets[4]].fill(0);
    let (_, opened, found) = open(&with_file(&changed));
    assert_eq!(found, [0, 4, 5].map(|at: usize| records[at].clone()));
    assert_eq!((opened.bad.length, opened.bad.total()), (1, 1));

    // To the end, it is torn.
    let (records, content, offsets) = written(&[5, 100, 300, 9]);
    let mut changed = content.clone();
    changed[offsets[2]..].fill(0);
    let files = with_file(&changed);
    let (journal, opened, found) = open(&files);
    assert_eq!(found, records[..2]);
    assert_eq!((opened.bad.cut, opened.bad.total()), (1, 1));
    let now = files.content("spool-0000000001.seg").unwrap();
    assert_eq!(now, content[..offsets[2]]);
    goes_on(&files, journal, found);
}

/// A record of another place or file is not one of this.
#[test]
fn what_was_copied_does_not_fit() {
    let (records, content, offsets) = written(&[5, 9, 9]);
    let mut changed = content.clone();
    changed.copy_within(offsets[2].., offsets[1]);
    let (_, opened, found) = open(&with_file(&changed));
    assert_eq!(found, [records[0].clone(), records[2].clone()]);
    assert_eq!(opened.bad.checksum, 1);

    // The same bytes as another segment, and as one of another journal: with the header of the
    // right one, there is still no record.
    for (file, name) in [
        ("spool-0000000002.seg", "spool"),
        ("diary-0000000001.seg", "diary"),
    ] {
        let files = ModelFiles::default();
        files.put(file, &content);
        let mut config = config();
        config.name = JournalName::new(name).unwrap();
        let (mut journal, opened, found) = open_as(&files, config.clone());
        assert!(found.is_empty());
        assert_eq!(opened.foreign.len(), 1);
        journal.begin_segment(0, b"").unwrap();
        assert_eq!(files.content(file).unwrap(), content);

        let number = opened.foreign[0];
        let header = header_of(&config, number);
        files.put(file, &[&header[..], &content[FILE_HEADER..]].concat());
        let (_, opened, found) = open_as(&files, config);
        assert_eq!((found.len(), opened.foreign.len()), (1, 0));
        assert!(found.iter().all(|(at, _)| at.segment > number));
    }
}

/// Returns the file header of a segment.
fn header_of(config: &JournalConfig, number: u64) -> Vec<u8> {
    let files = ModelFiles::default();
    let (mut journal, ..) = open_as(&files, config.clone());
    for _ in 0..number {
        journal.begin_segment(0, b"").unwrap();
    }
    let file = format!("{}-{number:010}.seg", config.name);
    files.content(&file).unwrap()[..FILE_HEADER].to_vec()
}

#[test]
fn foreign_files_are_never_touched() {
    let (_, content, _) = written(&[5, 9]);
    let mut other_version = content[..FILE_HEADER].to_vec();
    other_version[11] = 2;
    // Version 2 of `spool`, segment 1, as whoever writes it would.
    let checksum = {
        let mut hasher = Crc(!0);
        hasher.update(b"spool");
        hasher.update(&other_version[..20]);
        !hasher.0
    };
    other_version[20..].copy_from_slice(&checksum.to_be_bytes());
    other_version.extend_from_slice(&content[FILE_HEADER..]);
    for bytes in [&other_version[..], b"a letter, say", &[0xff; 5000]] {
        let files = with_file(bytes);
        let (mut journal, opened, found) = open(&files);
        assert!(found.is_empty());
        assert_eq!(opened.foreign, [1]);
        assert_eq!((opened.segments, journal.bytes()), (0, 0));
        let position = journal.begin_segment(0, b"").unwrap();
        assert_eq!(position.segment, 2);
        journal.release(10);
        let unsynced = journal.take_unsynced().unwrap();
        assert_eq!(journal.synced(unsynced.sync().unwrap()).unwrap(), 0);
        assert_eq!(files.content("spool-0000000001.seg").unwrap(), bytes);
    }
}

/// CRC-32 bit by bit, so that the format does not depend on a library.
struct Crc(u32);

impl Crc {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u32::from(*byte);
            for _ in 0..8 {
                let low = self.0 & 1;
                self.0 = (self.0 >> 1) ^ (0xedb8_8320 * low);
            }
        }
    }
}

/// Several damages at once: what is found was appended, in order, and the journal goes on.
#[test]
fn any_damage_leaves_a_journal() {
    let lengths: Vec<usize> = (0..30).map(|at| at * 7 % 50).collect();
    let (records, content, _) = written(&lengths);
    let mut kept = 0;
    for seed in seeds(2000) {
        let mut random = Random::new(seed);
        let mut changed = content.clone();
        for _ in 0..=random.below(4) {
            let from = random.below(changed.len());
            let to = (from + random.below(40)).min(changed.len());
            match random.below(5) {
                0 => changed[from..to].fill(0),
                1 => changed[from..to].fill_with(|| random.bytes()[0]),
                2 => changed.truncate(to),
                3 => drop(changed.drain(from..to)),
                _ => changed.extend((0..to - from).map(|_| 0)),
            }
            if changed.is_empty() {
                changed.push(0);
            }
        }
        let files = with_file(&changed);
        let (journal, opened, found) = open(&files);
        let mut all = records.iter();
        for record in &found {
            assert!(
                all.any(|it| it == record),
                "seed {seed}: {record:?} was never appended"
            );
        }
        assert!(opened.skipped <= changed.len() as u64);
        kept += found.len();
        goes_on(&files, journal, found);
    }
    // Most of them are there, most of the time.
    assert!(kept > 2000 * records.len() / 4, "{kept}");
}

/// Plausible lengths everywhere would make the search as long as the square of the file.
#[test]
fn a_search_ends() {
    let (_, content, _) = written(&[5, 9]);
    let mut hostile = content.clone();
    // At every fourth offset begins a record of 49,920 bytes.
    for at in content.len()..content.len() + 100_000 {
        hostile.push(if at % 4 == 2 { 0xc3 } else { 0 });
    }
    let files = with_file(&hostile);
    let mut config = config();
    config.longest_record = u32::MAX;
    let (mut journal, opened, found) = open_as(&files, config);
    assert_eq!(found.len(), 2);
    assert_eq!((opened.bad.length, opened.bad.total()), (1, 1));
    // It was not looked at everywhere, so nothing of it is cut off.
    assert!(journal.needs_segment());
    assert_eq!(files.content("spool-0000000001.seg").unwrap(), hostile);
    journal.begin_segment(0, b"").unwrap();
}

#[test]
fn what_cannot_be_read_is_told_of() {
    let files = ModelFiles::default();
    let (mut journal, ..) = open(&files);
    for number in 1..4 {
        journal.begin_segment(number, b"header").unwrap();
        journal.append(number, b"record").unwrap();
    }
    let whole = files.restart();
    open(&whole);
    for call in 1..whole.calls() {
        let files = files.restart();
        files.fail(call, 1);
        let (journal, opened, found) = open(&files);
        // Writing may fail as well; then there is another segment.
        let lost = 6 - found.len();
        assert!(lost == 0 || opened.unreadable.len() == 1, "call {call}");
        assert!(lost <= 2, "call {call}");
        for unreadable in &opened.unreadable {
            assert_eq!(unreadable.error, io::ErrorKind::Other);
        }
        let mut expected: Vec<Record> = Vec::new();
        for number in 1..4 {
            expected.push((number, b"header".to_vec()));
            expected.push((number, b"record".to_vec()));
        }
        goes_on(&files, journal, expected);
    }
    files.fail(0, 1);
    let error = Journal::open(files, config(), |_| {}).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Io);
}
