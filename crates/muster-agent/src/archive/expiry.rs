//! Which files of the archive are removed: decides, without a disk or a clock.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) path: PathBuf,
    /// When the last record was written to it.
    pub(super) written: SystemTime,
    pub(super) bytes: u64,
    pub(super) held: Held,
}

/// What keeps a file from being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    No,
    /// It has not been shipped: only a full disk is a reason, when nothing else is left to remove.
    Unshipped,
    /// It is kept for ever.
    Forever,
}

/// The file system of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) available: u64,
    pub(super) size: u64,
}

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// No file that is older.
    pub(super) keep: Option<Duration>,
    /// No more bytes.
    pub(super) bytes: Option<u64>,
    /// This part of the disk stays free; but if something else fills it, half of what that leaves.
    pub(super) min_free: f64,
}

/// Why a file is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    TooOld,
    TooMuch,
    DiskFull,
}

impl Why {
    pub(super) const ALL: [Self; 3] = [Self::TooOld, Self::TooMuch, Self::DiskFull];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::TooOld => "older than archive.keep",
            Self::TooMuch => "more than archive.keep_bytes",
            Self::DiskFull => "the disk has less than archive.min_free",
        }
    }
}

/// A file that is removed, by its place among those that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expired {
    pub(super) file: usize,
    pub(super) why: Why,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The files to remove, in this order.
    pub(super) gone: Vec<Expired>,
    /// What is exceeded all the same, as the rest is kept for ever.
    pub(super) exceeded: Option<Why>,
}

/// Which files are to be removed, the oldest first: as many as it takes, and no more.
pub(super) fn expired(files: &[Kept], now: SystemTime, disk: Disk, limits: &Limits) -> Verdict {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|at| (files[*at].written, &files[*at].path));
    let mut left: u64 = files.iter().map(|file| file.bytes).sum();
    let mut available = disk.available;
    let free = free(disk, left, limits.min_free);
    let mut gone = Vec::new();
    let held = |held: Held| order.iter().filter(move |file| files[**file].held == held);
    for &file in held(Held::No) {
        let of = &files[file];
        // What was written in the future is new.
        let age = now.duration_since(of.written).unwrap_or_default();
        let why = if limits.keep.is_some_and(|keep| age > keep) {
            Why::TooOld
        } else if limits.bytes.is_some_and(|most| left > most) {
            Why::TooMuch
        } else if available < free {
            Why::DiskFull
        } else {
            break;
        };
        left -= of.bytes;
        available = available.saturating_add(of.bytes);
        gone.push(Expired { file, why });
    }
    for &file in held(Held::Unshipped) {
        if available >= free {
            break;
        }
        available = available.saturating_add(files[file].bytes);
        let why = Why::DiskFull;
        gone.push(Expired { file, why });
    }
    let forever: u64 = held(Held::Forever).map(|file| files[*file].bytes).sum();
    let exceeded = if available < free {
        Some(Why::DiskFull)
    } else {
        let is_more = limits.bytes.is_some_and(|most| forever > most);
        is_more.then_some(Why::TooMuch)
    };
    Verdict { gone, exceeded }
}

/// The bytes that are to be free. What is free and what the archive has are shared: the archive keeps half of it at least,
/// or else it would be empty as soon as something else has filled the disk.
fn free(disk: Disk, archive: u64, min_free: f64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a disk, not a number of bytes"
    )]
    let wanted = (disk.size as f64 * min_free) as u64;
    wanted.min(disk.available.saturating_add(archive) / 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_000;

    fn files(made: &[(u64, u64)]) -> Vec<Kept> {
        let made = made.iter().enumerate();
        made.map(|(number, (written, bytes))| Kept {
            path: PathBuf::from(format!("{number}")),
            written: at(*written),
            bytes: *bytes,
            held: Held::No,
        })
        .collect()
    }

    fn limits() -> impl Strategy<Value = Limits> {
        let keep = proptest::option::of(0..1_200_u64);
        let bytes = proptest::option::of(0..3_000_u64);
        (keep, bytes, 0..=90_u8).prop_map(|(keep, bytes, percent)| Limits {
            keep: keep.map(Duration::from_secs),
            bytes,
            min_free: f64::from(percent) / 100.0,
        })
    }

    /// Whether what is left may be left.
    fn is_good(files: &[Kept], gone: &[Expired], disk: Disk, limits: &Limits) -> bool {
        let is_gone = |file: usize| gone.iter().any(|expired| expired.file == file);
        let left = (0..files.len()).filter(|file| !is_gone(*file));
        let left: Vec<&Kept> = left.map(|file| &files[file]).collect();
        let freed: u64 = gone.iter().map(|expired| files[expired.file].bytes).sum();
        let young = |file: &&Kept| {
            let age = at(NOW).duration_since(file.written).unwrap_or_default();
            limits.keep.is_none_or(|keep| age <= keep)
        };
        let bytes: u64 = left.iter().map(|file| file.bytes).sum();
        left.iter().all(young)
            && limits.bytes.is_none_or(|most| bytes <= most)
            && disk.available + freed >= free(disk, bytes + freed, limits.min_free)
    }

    proptest! {
        #[test]
        fn the_oldest_go_as_many_as_it_takes_and_no_more(
            made in proptest::collection::vec((0..1_100_u64, 0..500_u64), 0..12),
            available in 0..5_000_u64,
            used in 0..5_000_u64,
            limits in limits(),
        ) {
            let files = files(&made);
            let disk = Disk { available, size: available + used };
            let gone = expired(&files, at(NOW), disk, &limits).gone;
            let written = |expired: &Expired| files[expired.file].written;
            prop_assert!(gone.is_sorted_by_key(written));
            let is_gone = |file: usize| gone.iter().any(|expired| expired.file == file);
            if let Some(newest) = gone.last() {
                // Nothing older is left.
                let left = (0..files.len()).filter(|file| !is_gone(*file));
                for file in left {
                    prop_assert!(files[file].written >= written(newest));
                }
                // One less would not have been enough.
                let less = &gone[..gone.len() - 1];
                prop_assert!(!is_good(&files, less, disk, &limits));
            }
            prop_assert!(gone.len() == files.len() || is_good(&files, &gone, disk, &limits));
        }
    }

    #[test]
    fn each_limit_is_a_reason_of_its_own() {
        let files = files(&[(300, 10), (100, 10), (200, 10), (900, 10)]);
        let roomy = Disk {
            available: 50,
            size: 100,
        };
        let none = Limits {
            keep: None,
            bytes: None,
            min_free: 0.0,
        };
        let gone = |disk, limits| -> Vec<(usize, Why)> {
            let gone = expired(&files, at(NOW), disk, &limits).gone;
            gone.iter().map(|gone| (gone.file, gone.why)).collect()
        };
        assert_eq!(gone(roomy, none), []);
        let keep = Some(Duration::from_secs(750));
        assert_eq!(
            gone(roomy, Limits { keep, ..none }),
            [(1, Why::TooOld), (2, Why::TooOld)]
        );
        let bytes = Some(30);
        assert_eq!(gone(roomy, Limits { bytes, ..none }), [(1, Why::TooMuch)]);
        let full = Disk {
            available: 5,
            size: 100,
        };
        let min_free = 0.2;
        assert_eq!(
            gone(full, Limits { min_free, ..none }),
            [(1, Why::DiskFull), (2, Why::DiskFull)]
        );
        // Somebody else has filled the disk: the archive keeps half of what is left.
        let min_free = 0.9;
        assert_eq!(
            gone(full, Limits { min_free, ..none }),
            [(1, Why::DiskFull), (2, Why::DiskFull)]
        );
    }
    proptest! {
        #[test]
        fn what_is_held_goes_last_or_never(
            made in proptest::collection::vec((0..1_100_u64, 0..500_u64, 0..3_usize), 0..12),
            available in 0..5_000_u64,
            used in 0..5_000_u64,
            limits in limits(),
        ) {
            let pairs: Vec<_> = made.iter().map(|(written, bytes, _)| (*written, *bytes)).collect();
            let mut files = files(&pairs);
            for (file, (.., held)) in files.iter_mut().zip(&made) {
                file.held = [Held::No, Held::Unshipped, Held::Forever][*held];
            }
            let disk = Disk { available, size: available + used };
            let verdict = expired(&files, at(NOW), disk, &limits);
            let held = |expired: &Expired| files[expired.file].held;
            prop_assert!(verdict.gone.iter().all(|gone| held(gone) != Held::Forever));
            let unshipped = verdict.gone.iter().filter(|gone| held(gone) == Held::Unshipped);
            prop_assert!(unshipped.clone().all(|gone| gone.why == Why::DiskFull));
            if unshipped.count() > 0 {
                // Everything else is gone by then.
                let free = files.iter().filter(|file| file.held == Held::No).count();
                prop_assert_eq!(verdict.gone.iter().filter(|gone| held(gone) == Held::No).count(), free);
            }
            if files.iter().all(|file| file.held != Held::Forever) {
                prop_assert_eq!(verdict.exceeded, None);
            }
        }
    }

    #[test]
    fn what_is_kept_for_ever_may_exceed_a_limit_and_that_is_told() {
        let mut files = files(&[(100, 40), (200, 10), (300, 10)]);
        files[0].held = Held::Forever;
        files[1].held = Held::Unshipped;
        let look = |bytes, available| {
            let limits = Limits {
                keep: Some(Duration::from_secs(1)),
                bytes,
                min_free: 0.2,
            };
            let disk = Disk {
                available,
                size: 500,
            };
            let verdict = expired(&files, at(NOW), disk, &limits);
            let gone = verdict.gone.iter().map(|gone| (gone.file, gone.why));
            (gone.collect::<Vec<_>>(), verdict.exceeded)
        };
        let (old, full) = ((2, Why::TooOld), (1, Why::DiskFull));
        assert_eq!(look(None, 200), (vec![old], None));
        assert_eq!(look(Some(30), 200), (vec![old], Some(Why::TooMuch)));
        // 30 of 60 bytes are to be free, and 20 are as many as may go.
        assert_eq!(look(None, 0), (vec![old, full], Some(Why::DiskFull)));
    }
}
