//! The rules, one by one.

use std::fmt;

use super::*;
use crate::model::ModelFiles;
use crate::{JournalName, Start};

fn config() -> JournalConfig {
    JournalConfig {
        segment_size: 200,
        longest_record: 100,
        ..JournalConfig::new(JournalName::new("spool").unwrap())
    }
}

fn open(files: &ModelFiles, config: JournalConfig) -> (Journal<ModelFiles>, Vec<Vec<u8>>) {
    let mut records = Vec::new();
    let visit = |it: Found<'_>| records.push(it.bytes.to_vec());
    let (journal, _) = Journal::open(files.clone(), config, visit).unwrap();
    (journal, records)
}

/// A journal with a segment, and its files.
fn begun() -> (Journal<ModelFiles>, ModelFiles) {
    let files = ModelFiles::default();
    let (mut journal, _) = open(&files, config());
    journal.begin_segment(0, b"header").unwrap();
    (journal, files)
}

fn sync(journal: &mut Journal<ModelFiles>) -> u64 {
    let unsynced = journal.take_unsynced().unwrap();
    journal.synced(unsynced.sync().unwrap()).unwrap()
}

fn kind<T: fmt::Debug>(result: Result<T, JournalError>) -> JournalErrorKind {
    result.unwrap_err().kind()
}

/// What a process finds that comes after this one, without a loss of power.
fn found(files: &ModelFiles) -> Vec<Vec<u8>> {
    let mut config = config();
    config.start = Start::AtOldest;
    open(&files.restart(), config).1
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let (mut journal, files) = begun();
    let mut last = None;
    while !journal.needs_segment() {
        last = Some(journal.append(1, &[7; 50]).unwrap());
    }
    assert_eq!(kind(journal.append(1, b"")), JournalErrorKind::NeedsSegment);
    assert_eq!(journal.begin_segment(0, b"next").unwrap().segment, 2);
    assert!(Some(journal.append(1, b"").unwrap()) > last);
    assert_eq!((journal.oldest(), journal.present()), (Some(1), Some(2)));
    let length = |name| files.content(name).unwrap().len() as u64;
    let sum = length("spool-0000000001.seg") + length("spool-0000000002.seg");
    assert_eq!(journal.bytes(), sum);
}

#[test]
fn a_full_last_segment_is_not_gone_on_with() {
    let (mut journal, files) = begun();
    while !journal.needs_segment() {
        journal.append(1, &[7; 50]).unwrap();
    }
    let (mut journal, _) = open(&files.restart(), config());
    assert!(journal.needs_segment());
    assert_eq!(journal.begin_segment(0, b"next").unwrap().segment, 2);
}

#[test]
fn records_have_a_longest() {
    let (mut journal, files) = begun();
    let before = journal.bytes();
    assert_eq!(
        kind(journal.append(1, &[0; 101])),
        JournalErrorKind::TooLong
    );
    assert_eq!(
        kind(journal.begin_segment(1, &[0; 101])),
        JournalErrorKind::TooLong
    );
    assert_eq!(journal.bytes(), before);
    journal.append(1, &[0; 100]).unwrap();
    assert_eq!(found(&files).len(), 2);
}

/// At the limit, a new segment lets the older ones go.
#[test]
fn a_full_journal_can_be_emptied() {
    let files = ModelFiles::default();
    let mut config = config();
    config.limit = 300;
    let (mut journal, _) = open(&files, config.clone());
    journal.begin_segment(0, b"header").unwrap();
    loop {
        if journal.needs_segment() {
            journal.begin_segment(0, b"header").unwrap();
        }
        let result = journal.append(1, &[1; 40]);
        assert!(journal.bytes() <= config.limit);
        if let Err(error) = result {
            assert_eq!(error.kind(), JournalErrorKind::Full);
            break;
        }
    }
    let next = journal.begin_segment(0, b"nothing is needed").unwrap();
    journal.release(next.segment);
    assert!(sync(&mut journal) > 0);
    journal.append(1, &[1; 40]).unwrap();
}

#[test]
fn a_full_disk_costs_one_record() {
    let (mut journal, files) = begun();
    journal.append(1, b"before").unwrap();
    let bytes = journal.bytes();
    files.set_room(Some(10));
    assert_eq!(
        kind(journal.append(1, b"does not fit")),
        JournalErrorKind::NoSpace
    );
    assert_eq!((journal.bytes(), journal.needs_segment()), (bytes, false));
    files.set_room(Some(20));
    assert_eq!(
        kind(journal.begin_segment(0, b"header")),
        JournalErrorKind::NoSpace
    );
    assert_eq!((journal.bytes(), journal.present()), (bytes, Some(1)));
    files.set_room(None);
    journal.append(1, b"after").unwrap();
    assert_eq!(found(&files), [&b"header"[..], b"before", b"after"]);
    // Nothing is left of the segment that could not be begun, and its number is not used again.
    assert_eq!(files.content("spool-0000000002.seg"), None);
    assert_eq!(journal.begin_segment(0, b"").unwrap().segment, 3);
}

#[test]
fn what_cannot_be_cut_off_ends_the_segment() {
    let (mut journal, files) = begun();
    journal.append(1, b"before").unwrap();
    files.fail(0, 2);
    assert_eq!(kind(journal.append(1, b"half of it")), JournalErrorKind::Io);
    assert!(journal.needs_segment());
    let length = files.content("spool-0000000001.seg").unwrap().len() as u64;
    assert_eq!(journal.bytes(), length);
    journal.begin_segment(0, b"next").unwrap();
    // What was appended before is synced with it.
    sync(&mut journal);
    let files = files.crash(&mut |_| 0);
    assert_eq!(found(&files), [&b"header"[..], b"before", b"next"]);
}

#[test]
fn a_segment_that_cannot_be_begun_is_removed_later() {
    let (mut journal, files) = begun();
    // The write, and the removal.
    files.fail(1, 2);
    assert_eq!(
        kind(journal.begin_segment(0, b"header")),
        JournalErrorKind::Io
    );
    assert!(files.content("spool-0000000002.seg").is_some());
    journal.append(1, b"still here").unwrap();
    journal.begin_segment(0, b"next").unwrap();
    assert_eq!(journal.present(), Some(3));
    journal.release(3);
    assert_eq!(sync(&mut journal), 2);
    assert_eq!(files.content("spool-0000000002.seg"), None);
}

/// After a failed sync the kernel may take for written what is not: the same file again would
/// succeed.
#[test]
fn a_failed_sync_ends_the_segment() {
    let (mut journal, files) = begun();
    let unsynced = journal.take_unsynced().unwrap();
    journal.append(1, b"after it was taken").unwrap();
    files.fail(0, 1);
    unsynced.sync().unwrap_err();
    journal.sync_failed();
    assert!(journal.needs_segment());
    assert_eq!(kind(journal.append(1, b"")), JournalErrorKind::NeedsSegment);
    assert!(journal.take_unsynced().is_none());
    journal.begin_segment(0, b"next").unwrap();
    let synced = journal.take_unsynced().unwrap().sync().unwrap();
    assert_eq!(synced.through().unwrap().segment, 2);
    journal.synced(synced).unwrap();
    assert_eq!(files.violations(), Vec::<String>::new());
    assert_eq!(found(&files.crash(&mut |_| 0)), [b"next"]);
}

#[test]
fn a_failed_sync_spares_the_segment_that_came_after() {
    let (mut journal, files) = begun();
    let unsynced = journal.take_unsynced().unwrap();
    journal.append(1, b"lost").unwrap();
    journal.begin_segment(0, b"next").unwrap();
    files.fail(0, 1);
    unsynced.sync().unwrap_err();
    journal.sync_failed();
    journal.append(1, b"kept").unwrap();
    sync(&mut journal);
    assert_eq!(files.violations(), Vec::<String>::new());
    assert_eq!(found(&files.crash(&mut |_| 0)), [&b"next"[..], b"kept"]);
}

/// It does not tell that what is in the segment that was given up is durable.
#[test]
fn a_sync_of_the_directory_alone_covers_no_records() {
    let (mut journal, files) = begun();
    journal.begin_segment(0, b"next").unwrap();
    journal.release(2);
    let synced = journal.take_unsynced().unwrap().sync().unwrap();
    journal.append(1, b"unsynced").unwrap();
    assert_eq!(journal.synced(synced).unwrap(), 1);
    let unsynced = journal.take_unsynced().unwrap();
    files.fail(0, 1);
    unsynced.sync().unwrap_err();
    journal.sync_failed();
    journal.directory_changed = true;
    let synced = journal.take_unsynced().unwrap().sync().unwrap();
    assert_eq!(synced.through(), None);
    journal.synced(synced).unwrap();
}

#[test]
fn there_is_one_sync_at_a_time() {
    let (mut journal, _files) = begun();
    let end = journal.end;
    let unsynced = journal.take_unsynced().unwrap();
    journal.append(1, b"more").unwrap();
    assert!(journal.take_unsynced().is_none());
    let synced = unsynced.sync().unwrap();
    assert_eq!(synced.through(), end);
    journal.synced(synced).unwrap();
    sync(&mut journal);
    assert!(journal.take_unsynced().is_none());
}

#[test]
fn only_a_sync_lets_released_segments_go() {
    let (mut journal, files) = begun();
    sync(&mut journal);
    journal.begin_segment(0, b"next").unwrap();
    // Was taken before: it does not count.
    let unsynced = journal.take_unsynced().unwrap();
    journal.release(2);
    assert_eq!(journal.synced(unsynced.sync().unwrap()).unwrap(), 0);
    assert_eq!(journal.oldest(), Some(1));
    // Nothing else is to be synced; this lets it go.
    assert_eq!(sync(&mut journal), 1);
    assert_eq!(files.content("spool-0000000001.seg"), None);
    assert_eq!(journal.oldest(), Some(2));
    // That the file is gone is synced too.
    sync(&mut journal);
    assert!(journal.take_unsynced().is_none());
    assert_eq!(
        files.crash(&mut |_| 0).content("spool-0000000001.seg"),
        None
    );
}

#[test]
fn the_present_segment_is_never_released() {
    let (mut journal, files) = begun();
    journal.release(u64::MAX);
    assert_eq!(sync(&mut journal), 0);
    assert_eq!(found(&files), [b"header"]);
    // The next one lets it go.
    journal.begin_segment(0, b"next").unwrap();
    assert_eq!(sync(&mut journal), 1);
    assert_eq!(found(&files), [b"next"]);
}

#[test]
fn a_failed_removal_is_tried_again_later() {
    let (mut journal, files) = begun();
    journal.begin_segment(0, b"next").unwrap();
    journal.release(2);
    let synced = journal.take_unsynced().unwrap().sync().unwrap();
    files.fail(0, 1);
    assert_eq!(kind(journal.synced(synced)), JournalErrorKind::Io);
    assert!(journal.take_unsynced().is_none());
    assert_eq!(journal.oldest(), Some(1));
    journal.begin_segment(0, b"next").unwrap();
    assert_eq!(sync(&mut journal), 1);
    assert_eq!(journal.oldest(), Some(2));
}

/// Its process may have ended before it could sync it.
#[test]
fn what_was_found_is_synced_as_well() {
    let (mut journal, files) = begun();
    journal.append(1, b"first").unwrap();
    journal.begin_segment(0, b"next").unwrap();
    let files = files.restart();
    let mut config = config();
    config.start = Start::AtOldest;
    let (mut journal, records) = open(&files, config);
    assert_eq!(records.len(), 3);
    sync(&mut journal);
    assert_eq!(found(&files.crash(&mut |_| 0)).len(), 3);
}

#[test]
fn opening_can_begin_at_the_newest_header() {
    let (mut journal, files) = begun();
    for header in [&b"second"[..], b"third"] {
        journal.append(1, b"record").unwrap();
        journal.begin_segment(0, header).unwrap();
    }
    // The header record of the third is damaged.
    let third = "spool-0000000003.seg";
    let mut bytes = files.content(third).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    files.put(third, &bytes);
    let mut records = Vec::new();
    let visit = |it: Found<'_>| records.push(it.bytes.to_vec());
    let (journal, opened) = Journal::open(files.clone(), config(), visit).unwrap();
    assert_eq!(records, [&b"second"[..], b"record"]);
    assert_eq!((opened.segments, opened.passed_over), (3, 1));
    assert_eq!((journal.oldest(), journal.present()), (Some(1), None));
    assert_eq!(found(&files).len(), 4);
}

/// Where nothing but a record in the middle tells that it is a segment, that is enough, whether it
/// is read or passed over.
#[test]
fn a_segment_without_a_beginning_is_released_like_others() {
    let (mut journal, files) = begun();
    journal.append(1, b"record").unwrap();
    let first = "spool-0000000001.seg";
    let mut bytes = files.content(first).unwrap();
    bytes[..35].fill(0xaa);
    files.put(first, &bytes);
    for start in [Start::AtOldest, Start::AtNewestHeader] {
        let config = JournalConfig { start, ..config() };
        let (journal, opened) = Journal::open(files.clone(), config, |_| {}).unwrap();
        assert_eq!((opened.segments, opened.foreign.len()), (1, 0));
        assert_eq!(journal.bytes(), bytes.len() as u64);
    }
    let (mut journal, _) = open(&files, config());
    journal.begin_segment(0, b"next").unwrap();
    let (mut journal, records) = open(&files, config());
    assert_eq!(records, [b"next"]);
    journal.release(2);
    assert_eq!(sync(&mut journal), 1);
}

/// A crash may leave a file without its first bytes; it goes with the others.
#[test]
fn a_file_that_was_just_created_is_ours() {
    for left in [&b""[..], b"MUST", &[0; 100]] {
        let (_, files) = begun();
        files.put("spool-0000000002.seg", left);
        let (mut journal, records) = open(&files, config());
        assert_eq!(records, [b"header"]);
        assert!(journal.needs_segment());
        journal.begin_segment(0, b"next").unwrap();
        journal.release(3);
        assert_eq!(sync(&mut journal), 2);
    }
}

#[test]
fn numbers_can_be_used_up() {
    let files = ModelFiles::default();
    files.put("spool-9999999999.seg", b"a letter, say");
    let (mut journal, _) = open(&files, config());
    assert_eq!(
        kind(journal.begin_segment(0, b"")),
        JournalErrorKind::NoNumbers
    );
}

#[test]
fn a_file_that_appears_is_not_overwritten() {
    let (mut journal, files) = begun();
    files.put("spool-0000000002.seg", b"a letter, say");
    assert_eq!(kind(journal.begin_segment(0, b"")), JournalErrorKind::Io);
    assert_eq!(journal.begin_segment(0, b"").unwrap().segment, 3);
    assert_eq!(
        files.content("spool-0000000002.seg").unwrap(),
        b"a letter, say"
    );
}

#[test]
fn a_record_is_read_by_its_place_in_any_segment() {
    let (mut journal, files) = begun();
    let mut places = Vec::new();
    for number in 0..20u8 {
        if journal.needs_segment() {
            journal.begin_segment(0, b"next").unwrap();
        }
        let place = journal.append(number, &[number; 30]).unwrap();
        places.push((place, number));
    }
    assert!(journal.present() > Some(3));
    for (place, number) in &places {
        assert_eq!(journal.get(*place).unwrap(), (*number, vec![*number; 30]));
    }
    let (first, _) = places[0];
    let beside = Position {
        offset: first.offset + 1,
        ..first
    };
    assert_eq!(kind(journal.get(beside)), JournalErrorKind::Damaged);
    let far = Position {
        offset: 1 << 40,
        ..first
    };
    assert_eq!(kind(journal.get(far)), JournalErrorKind::Damaged);
    let nowhere = Position {
        segment: 99,
        offset: first.offset,
    };
    assert_eq!(kind(journal.get(nowhere)), JournalErrorKind::Io);
    // A flipped bit costs the record, and no other.
    let name = "spool-0000000001.seg";
    let mut bytes = files.content(name).unwrap();
    let at = usize::try_from(first.offset).unwrap() + 20;
    bytes[at] ^= 4;
    files.put(name, &bytes);
    assert_eq!(kind(journal.get(first)), JournalErrorKind::Damaged);
    assert_eq!(journal.get(places[1].0).unwrap(), (1, vec![1; 30]));
}
