//! A journal's segments, as a disk that has gone bad or somebody else may have left them.

use muster_spool::model::ModelFiles;
use muster_spool::{Journal, JournalConfig, JournalName, Opened, Start};

/// The file that is read.
const FILE: &str = "spool-0000000001.seg";

/// The length of a file header, and of what stands before the bytes of a record.
const FILE_HEADER: usize = 24;
const HEAD: usize = 9;

type Record = (u8, Vec<u8>);

fn config(longest_record: u32, start: Start) -> JournalConfig {
    JournalConfig {
        segment_size: 4096,
        longest_record,
        start,
        ..JournalConfig::new(JournalName::new("spool").expect("a name"))
    }
}

fn open(
    files: &ModelFiles,
    config: JournalConfig,
) -> (Journal<ModelFiles>, Opened, Vec<Record>, usize) {
    let (mut records, mut length) = (Vec::new(), 0);
    let (journal, opened) = Journal::open(files.clone(), config, |it| {
        length += HEAD + it.bytes.len();
        records.push((it.kind, it.bytes.to_vec()));
    })
    .expect("a directory that can be listed");
    (journal, opened, records, length)
}

/// Checks a journal whose segment has these bytes, with its own file header and with that of a
/// segment that is whole. What is found is part of the file. The journal goes on with another
/// record, and then has that as well. A foreign file stays as it is.
pub fn spool(bytes: &[u8]) {
    let header = &segment(&[])[..FILE_HEADER];
    for bytes in [bytes, &[header, bytes].concat()] {
        for longest in [64, u32::MAX] {
            read(bytes, longest, Start::AtOldest);
        }
        read(bytes, 1000, Start::AtNewestHeader);
    }
}

fn read(bytes: &[u8], longest: u32, start: Start) {
    let files = ModelFiles::default();
    files.put(FILE, bytes);
    let config = config(longest, start);
    let (mut journal, opened, mut expected, length) = open(&files, config.clone());
    let skipped = usize::try_from(opened.skipped).expect("a length");
    assert!(length + skipped <= bytes.len());
    assert_eq!(opened.records, expected.len() as u64);
    assert!(opened.unreadable.is_empty());
    assert_eq!(opened.segments, u64::from(opened.foreign.is_empty()));
    let now = files.content(FILE).expect("it is not removed");
    assert!(bytes.starts_with(&now));
    assert!(now == bytes || (!journal.needs_segment() && opened.bad.total() > 0));

    let new = (7, b"appended".to_vec());
    let begins = journal.needs_segment();
    let appended = if begins {
        journal.begin_segment(new.0, &new.1)
    } else {
        journal.append(new.0, &new.1)
    };
    appended.expect("a disk with room");
    if begins && start == Start::AtNewestHeader {
        expected.clear();
    }
    expected.push(new);
    let (mut again, _, found, _) = open(&files, config);
    assert_eq!(found, expected);

    // Everything of ours can be released.
    again.begin_segment(0, b"").expect("a disk with room");
    again.release(u64::MAX);
    let unsynced = again.take_unsynced().expect("a segment was begun");
    let synced = unsynced.sync().expect("a disk that works");
    again.synced(synced).expect("a disk that works");
    assert_eq!(again.oldest(), again.present());
    assert_eq!(files.content(FILE).is_some(), !opened.foreign.is_empty());
}

/// Returns a segment with these records.
fn segment(records: &[&[u8]]) -> Vec<u8> {
    let files = ModelFiles::default();
    let (mut journal, ..) = open(&files, config(1000, Start::AtOldest));
    journal.begin_segment(0, b"header").expect("it has room");
    for (kind, bytes) in (1..).zip(records) {
        journal.append(kind, bytes).expect("it has room");
    }
    files.content(FILE).expect("it was begun")
}

/// Segments to begin with.
pub(crate) fn segments() -> Vec<Vec<u8>> {
    let long = [b'x'; 300];
    vec![
        segment(&[]),
        segment(&[b"", b"one", &long, b"two"]),
        segment(&[&long, b"", b"", &[0; 40], &[0xff; 40]]),
        // What stands behind the header.
        segment(&[b"one", b"two"])[FILE_HEADER..].to_vec(),
    ]
}
