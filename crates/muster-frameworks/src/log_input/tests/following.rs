//! Logs that begin anew, are copied and compressed while they are followed.

use std::io::{Seek, SeekFrom, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::log_input::ReadSoFar;

type Step<'a> = Box<dyn FnOnce() + 'a>;

fn compress(from: &Path, to: &Path) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&std::fs::read(from).unwrap()).unwrap();
    std::fs::write(to, gzip.finish().unwrap()).unwrap();
}

/// Rows of these numbers, each with its number as its time and uid.
fn rows(numbers: std::ops::Range<i64>) -> String {
    numbers.map(|n| line(n, &n.to_string())).collect()
}

fn uids_of(numbers: std::ops::Range<i64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

fn sorted(mut uids: Vec<String>) -> Vec<String> {
    uids.sort_by_key(|uid| uid.parse::<i64>().unwrap());
    uids
}

fn is_told(summary: &InputSummary, text: &str) -> bool {
    let mut warnings = summary.warnings.iter();
    warnings.any(|warning| warning.contains(text))
}

#[test]
fn a_log_that_begins_anew_and_outgrows_its_place_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("conn.log");
    let positions = directory.path().join("positions");
    append(&log, &format!("{HEADER}{}", rows(1..4)));
    let steps: Vec<Step<'_>> = vec![
        // The same file, the same length and more, all between two looks.
        Box::new(|| std::fs::write(&log, format!("{HEADER}{}", rows(4..20))).unwrap()),
        Box::new(|| append(&log, &rows(20..22))),
    ];
    let (uids, summary, _) = follow(log.clone(), &positions, steps);
    assert_eq!(uids, uids_of(1..22));
    assert_eq!(summary.begun_anew, 1);
    assert!(is_told(&summary, "has begun anew"), "{summary:?}");
    // While nobody looked, too, and whatever a life in between had to read.
    assert!(follow(log.clone(), &positions, vec![]).0.is_empty());
    std::fs::write(&log, format!("{HEADER}{}", rows(22..60))).unwrap();
    let (uids, summary, _) = follow(log.clone(), &positions, vec![]);
    assert_eq!(uids, uids_of(22..60));
    assert!(is_told(&summary, "is gone"), "{summary:?}");
}

#[test]
fn a_log_that_is_emptied_under_its_writer_goes_on_behind_the_hole() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("conn.log");
    let positions = directory.path().join("positions");
    append(&log, &format!("{HEADER}{}", rows(1..400)));
    // The writer writes on where it was, as Zeek does.
    let steps: Vec<Step<'_>> = vec![Box::new(|| {
        let mut file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
        let end = file.seek(SeekFrom::End(0)).unwrap();
        file.set_len(0).unwrap();
        file.seek(SeekFrom::Start(end + 5000)).unwrap();
        file.write_all(rows(400..402).as_bytes()).unwrap();
    })];
    let (uids, summary, _) = follow(log.clone(), &positions, steps);
    assert_eq!(uids, uids_of(1..402));
    assert_eq!((summary.begun_anew, summary.bad_rows), (1, 0));
    assert!(is_told(&summary, "was emptied"), "{summary:?}");
}

#[test]
fn a_copy_that_is_among_the_files_brings_what_was_not_read_and_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (log, positions) = (path("conn.log"), path("positions"));
    append(&log, &format!("{HEADER}{}", rows(1..4)));
    let steps: Vec<Step<'_>> = vec![
        // As `copytruncate` does it, with rows that nobody has seen before.
        Box::new(|| {
            append(&log, &rows(4..6));
            std::fs::copy(&log, path("conn.1.log")).unwrap();
            std::fs::write(&log, format!("{HEADER}{}", rows(6..30))).unwrap();
        }),
        Box::new(|| {
            append(&log, &rows(30..32));
            compress(&path("conn.1.log"), &path("conn.1.log.gz"));
        }),
        Box::new(|| std::fs::remove_file(path("conn.1.log")).unwrap()),
        Box::new(|| append(&log, &rows(32..34))),
    ];
    let (uids, summary, _) = follow(path("conn*log*"), &positions, steps);
    assert_eq!(sorted(uids), uids_of(1..34), "{summary:?}");
    assert_eq!((summary.bad_rows, summary.failed_files), (0, 0));
    // The archive was read, and so it is for later lives.
    std::fs::rename(path("conn.1.log.gz"), path("conn.old.log.gz")).unwrap();
    std::fs::copy(path("conn.old.log.gz"), path("conn.2.log.gz")).unwrap();
    let (uids, ..) = follow(path("conn*log*"), &positions, vec![]);
    assert_eq!(uids, [""; 0]);
}

#[test]
fn archives_bring_what_another_life_has_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (log, positions) = (path("conn.log"), path("positions"));
    for (pattern, begin) in [("conn*log*", 0), ("conn.log", 1000)] {
        let of = |from: i64, to: i64| rows(begin + from..begin + to);
        append(&log, &format!("{HEADER}{}", of(1, 4)));
        let (uids, ..) = follow(path(pattern), &positions, vec![]);
        assert_eq!(uids, uids_of(begin + 1..begin + 4));
        // While the node is away the log goes on, is rotated and compressed, and another one begins.
        append(&log, &of(4, 400));
        let archive = format!("conn.{begin}.log.gz");
        compress(&log, &path(&archive));
        std::fs::remove_file(&log).unwrap();
        append(&log, &format!("{HEADER}{}", of(400, 402)));
        let (uids, summary, _) = follow(path(pattern), &positions, vec![]);
        assert_eq!(sorted(uids), uids_of(begin + 4..begin + 402), "{pattern}");
        assert!(summary.warnings.is_empty(), "{summary:?}");
        let (uids, ..) = follow(path(pattern), &positions, vec![]);
        assert_eq!(uids, [""; 0], "{pattern}");
        std::fs::remove_file(&log).unwrap();
    }
}

#[test]
fn of_two_files_of_a_log_the_longer_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    // The copy comes first, and stays as it is.
    append(&path("a.log"), &format!("{HEADER}{}", rows(1..3)));
    append(&path("b.log"), &format!("{HEADER}{}", rows(1..5)));
    // These have the same header, and are other logs.
    append(&path("c.log"), &format!("{HEADER}{}", rows(100..103)));
    append(&path("d.log"), &format!("{HEADER}{}", rows(200..201)));
    let steps: Vec<Step<'_>> = vec![
        Box::new(|| append(&path("b.log"), &rows(5..7))),
        Box::new(|| compress(&path("b.log"), &path("e.log.gz"))),
        Box::new(|| append(&path("b.log"), &rows(7..9))),
        Box::new(|| compress(&path("b.log"), &path("e.log.gz"))),
        Box::new(|| append(&path("b.log"), &rows(9..10))),
        Box::new(|| {}),
    ];
    let (uids, summary, _) = follow(path("*.log*"), &path("positions"), steps);
    let expected = [uids_of(1..10), uids_of(100..103), uids_of(200..201)].concat();
    assert_eq!(sorted(uids), expected, "{summary:?}");
}

#[test]
fn a_log_that_is_renamed_with_its_first_row_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let log = path("conn.log");
    let steps: Vec<Step<'_>> = vec![
        Box::new(|| append(&log, HEADER)),
        Box::new(|| {
            append(&log, &rows(1..3));
            std::fs::rename(&log, path("archive")).unwrap();
        }),
        // The last row of a log may have no end.
        Box::new(|| append(&log, HEADER)),
        Box::new(|| {
            append(&log, rows(3..4).trim_end());
            std::fs::rename(&log, path("archive")).unwrap();
        }),
        Box::new(|| {}),
        Box::new(|| {}),
    ];
    let (uids, ..) = follow(log.clone(), &path("positions"), steps);
    assert_eq!(uids, uids_of(1..4));
}

/// Rotates in every way that there is, in any order, through ends and crashes of the node, with archives among the files.
#[test]
fn whatever_rotates_a_log_each_row_comes_once() {
    let again: usize = (0..24).map(rotate_at_random).sum();
    // What was written behind the last positions.
    assert!(again <= 24 * 40, "{again}");
}

/// Returns how many rows came again.
fn rotate_at_random(seed: u64) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (log, positions) = (path("conn.log"), path("positions"));
    let saved = path("saved");
    let state = RefCell::new((seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 1_i64, 0_u32));
    let random = |below: u64| {
        let mut state = state.borrow_mut();
        state.0 ^= state.0 << 13;
        state.0 ^= state.0 >> 7;
        state.0 ^= state.0 << 17;
        state.0 % below
    };
    let some_rows = || {
        let first = state.borrow().1;
        let behind = first + 1 + i64::try_from(random(40)).unwrap();
        state.borrow_mut().1 = behind;
        rows(first..behind)
    };
    let begin = || format!("{HEADER}{}", some_rows());
    let archive = || {
        state.borrow_mut().2 += 1;
        path(&format!("conn.{}.log", state.borrow().2))
    };
    let rotate = || match random(5) {
        0 => append(&log, &some_rows()),
        1 => {
            append(&log, &some_rows());
            std::fs::rename(&log, archive()).unwrap();
            append(&log, &begin());
        }
        2 => {
            append(&log, &some_rows());
            std::fs::copy(&log, archive()).unwrap();
            std::fs::write(&log, begin()).unwrap();
        }
        // What rotates a log compresses the one before.
        3 => {
            let last = path(&format!("conn.{}.log", state.borrow().2));
            if last.exists() {
                compress(&last, &last.with_extension("log.gz"));
                std::fs::remove_file(last).unwrap();
            }
        }
        _ => {
            let archive = archive().with_extension("log.gz");
            append(&log, &some_rows());
            compress(&log, &archive);
            std::fs::remove_file(&log).unwrap();
            append(&log, &begin());
        }
    };
    append(&log, &begin());
    let mut all = Vec::new();
    let mut came_again = 0;
    for life in 0..4 {
        // While the node is away, too.
        rotate();
        let crashes = life % 2 == 1;
        let mut steps: Vec<Step<'_>> = (0..random(4)).map(|_| Box::new(&rotate) as _).collect();
        steps.push(Box::new(|| {
            let _ = std::fs::copy(&positions, &saved);
            append(&log, &some_rows());
        }));
        let (uids, summary, _) = follow(path("conn*log*"), &positions, steps);
        let is_bad = (summary.bad_rows, summary.failed_files) != (0, 0);
        assert!(!is_bad, "{seed}: {summary:?}");
        if crashes {
            std::fs::copy(&saved, &positions).unwrap();
        }
        let of_this_life: std::collections::BTreeSet<_> = uids.iter().cloned().collect();
        assert_eq!(of_this_life.len(), uids.len(), "{seed}: twice in a life");
        let again = uids.iter().filter(|uid| all.contains(*uid)).count();
        let is_behind_a_crash = life == 2;
        assert!(again == 0 || is_behind_a_crash, "{seed}: {again} again");
        came_again += again;
        all.extend(uids);
    }
    let mut all = sorted(all);
    all.dedup();
    assert_eq!(all, uids_of(1..state.borrow().1), "{seed}");
    came_again
}

/// What comes of the rows may take a while to be safe: until then they are read again by the next life.
#[test]
fn positions_are_written_by_whoever_keeps_them() {
    let directory = tempfile::tempdir().unwrap();
    let (log, positions) = (
        directory.path().join("conn.log"),
        directory.path().join("positions"),
    );
    append(&log, &format!("{HEADER}{}", rows(0..5)));
    let read = |write: fn(Vec<ReadSoFar>)| {
        let stop = AtomicBool::new(false);
        let clock = Scripted::new(&stop, Vec::new());
        let config = LogInputConfig {
            follow: Some(positions.clone()),
            ..config(vec![log.clone()], Share::WHOLE, 0.0)
        };
        let (mut count, mut kept) = (0, Vec::new());
        let sink = |batch: InputBatch| {
            count += connections(&batch).len();
            ControlFlow::Continue(())
        };
        let input = LogInput::new(&config).unwrap();
        input.run_keeping(&clock, &stop, sink, |read| kept.push(read));
        write(kept);
        count
    };
    assert_eq!(read(drop), 5);
    assert!(!positions.exists());
    assert_eq!(
        read(|kept| kept.into_iter().next_back().unwrap().write()),
        5
    );
    assert_eq!(read(drop), 0);
}
