//! Whatever becomes of a file's bytes: it holds what it held, or is refused. It never holds anything else.

use super::*;

/// The length of SQLite's pages.
const PAGE: usize = 4096;

/// A file with all that a voter may keep: its bytes, and what it holds.
fn example(path: &Path) -> Kept {
    let (mut file, mut kept) = founded(path);
    let numbers = |range: std::ops::Range<u64>| range.map(|index| entry(index, 1, 700));
    for batch in [
        promise(2, 77, 1),
        entries(numbers(2..12).collect()),
        state(6, 9000),
        entries(vec![entry(10, 2, 0), entry(11, 2, 1), entry(12, 2, 9000)]),
        promise(2, 77, 9),
    ] {
        file.write(&batch).unwrap();
        kept.write(&batch);
    }
    kept
}

/// Puts bytes in the place of a file. Whether it could be opened; if so it holds one of these, and goes on.
fn try_bytes(bytes: &[u8], journal: Option<&[u8]>, allowed: &[&Kept]) -> bool {
    let (_directory, path) = place();
    std::fs::write(&path, bytes).unwrap();
    if let Some(journal) = journal {
        std::fs::write(with_suffix(&path, "-journal"), journal).unwrap();
    }
    let Ok((mut file, _, read)) = VoterFile::open(&path) else {
        return false;
    };
    let mut kept = read.expect("a file that has begun does not look like a new one");
    assert!(allowed.contains(&&kept), "{kept:?}");
    let next = kept.last() + 1;
    let batch = entries(
        (next..next + 8)
            .map(|index| entry(index, 2, 5000))
            .collect(),
    );
    if file.write(&batch).is_ok() {
        kept.write(&batch);
    }
    drop(file);
    // What was opened and written is still sound, or found out now.
    if let Ok((_, _, read)) = VoterFile::open(&path) {
        assert_eq!(read, Some(kept));
    }
    true
}

#[test]
fn a_file_that_was_cut_off() {
    let (_directory, path) = place();
    let kept = example(&path);
    let bytes = std::fs::read(&path).unwrap();
    assert!(try_bytes(&bytes, None, &[&kept]));
    let ends = (0..bytes.len()).step_by(PAGE);
    let ends = ends.flat_map(|end| [end, end + 1, end + 100, end + PAGE - 1]);
    for end in ends.filter(|end| *end < bytes.len()) {
        try_bytes(&bytes[..end], None, &[&kept]);
    }
    // Nothing that was cut off by more than what SQLite does not use is taken for whole.
    assert!(!try_bytes(&bytes[..bytes.len() - PAGE], None, &[&kept]));
    // Nor is a page of zeros, as a file system leaves them that has lost what was written.
    for page in 0..bytes.len() / PAGE {
        let mut holed = bytes.clone();
        holed[page * PAGE..(page + 1) * PAGE].fill(0);
        try_bytes(&holed, None, &[&kept]);
    }
}

#[test]
fn a_file_with_flipped_bits() {
    let (_directory, path) = place();
    let kept = example(&path);
    let bytes = std::fs::read(&path).unwrap();
    let mut random = Random::new(1);
    let mut refused = 0;
    // All of SQLite's header, and places all over the file.
    let header = 0..100;
    let places = header.chain((0..300).map(|_| random.below(bytes.len())));
    let places: Vec<usize> = places.collect();
    for place in places {
        let mut flipped = bytes.clone();
        for _ in 0..=random.below(2) {
            flipped[place] ^= 1 << random.below(8);
        }
        refused += usize::from(!try_bytes(&flipped, None, &[&kept]));
    }
    assert!(refused > 100, "{refused}");
}

/// Pages of two times in one file: each is sound, and together they are no state that ever was.
#[test]
fn a_file_with_pages_of_two_times() {
    let (_directory, path) = place();
    let before = example(&path);
    let old = std::fs::read(&path).unwrap();
    let mut after = before.clone();
    let (mut file, _) = open(&path);
    for batch in [
        promise(3, 78, 9),
        entries(vec![entry(12, 3, 8000), entry(13, 3, 700)]),
    ] {
        file.write(&batch).unwrap();
        after.write(&batch);
    }
    drop(file);
    let new = std::fs::read(&path).unwrap();
    let mut random = Random::new(2);
    for _ in 0..300 {
        let mut mixed = new.clone();
        let pages = mixed.chunks_mut(PAGE).zip(old.chunks(PAGE));
        for (page, old) in pages {
            if random.one_in(2) {
                page[..old.len()].copy_from_slice(old);
            }
        }
        try_bytes(&mixed, None, &[&before, &after]);
    }
}

/// A commit that was not finished is rolled back, whatever of it is in the file. A journal that is damaged is found out.
#[test]
fn a_crash_in_the_middle_of_a_commit() {
    let (_directory, path) = place();
    let before = example(&path);
    let old = std::fs::read(&path).unwrap();
    let mut after = before.clone();
    let batch = Batch {
        promise: promise(4, 79, 12).promise,
        ..state(12, 200_000)
    };
    after.write(&batch);

    let mut connection = tables::open(&path).unwrap();
    let (mut contents, _) = tables::read(&connection).unwrap();
    let rows = Rows::of(&batch).unwrap();
    contents.take(&rows).unwrap();
    let files = || {
        let journal = std::fs::read(with_suffix(&path, "-journal"));
        (std::fs::read(&path).unwrap(), journal.unwrap())
    };
    // With little room in memory SQLite writes to the file before the end.
    connection.pragma_update(None, "cache_size", 5).unwrap();
    let transaction = connection.transaction().unwrap();
    tables::write_all(&transaction, &[rows], &contents).unwrap();
    let (torn, early) = files();
    transaction.cache_flush().unwrap();
    let (whole, journal) = files();
    transaction.commit().unwrap();
    drop(connection);
    let (new, _) = files();
    assert!(torn[..old.len()] != old && torn != whole);

    // As long as there is the journal, what is in the file already is taken back.
    assert!(try_bytes(&torn, Some(&early), &[&before]));
    for bytes in [&old, &torn, &whole] {
        assert!(try_bytes(bytes, Some(&journal), &[&before]));
    }
    assert!(try_bytes(&new, None, &[&after]));
    let both = [&before, &after];
    assert!(!try_bytes(&torn, None, &both));
    let mut random = Random::new(3);
    for _ in 0..25 {
        let end = random.below(journal.len());
        let mut flipped = journal.clone();
        flipped[random.below(journal.len())] ^= 1 << random.below(8);
        for bytes in [&torn, &whole] {
            try_bytes(bytes, Some(&journal[..end]), &both);
            try_bytes(bytes, Some(&flipped), &both);
        }
    }
}
