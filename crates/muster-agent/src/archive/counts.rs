//! What the archive counts, and what is wrong with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use muster_gateway::status::ArchiveStatus;
use muster_wire::counters::Counter;

mod descriptors {
    muster_wire::counters! {
        /// Log files that the agent has compressed and put into the archive.
        pub(super) ARCHIVED = counter("muster_archive_files_archived_total");
        /// Bytes of the log files that were archived, before they were compressed.
        pub(super) ARCHIVED_BYTES = counter("muster_archive_archived_original_bytes_total");
        /// Files of the archive that were removed because they were too old, the archive too large or the disk too full.
        pub(super) EXPIRED = counter("muster_archive_files_expired_total");
        /// Bytes of the files that were removed from the archive.
        pub(super) EXPIRED_BYTES = counter("muster_archive_expired_bytes_total");
        /// Attempts to archive or to remove a file that failed. Growth means that the disk is full or that the agent may not
        /// write there: `muster events` has the reason. Nothing is lost, the files stay where their loggers left them.
        pub(super) FAILURES = counter("muster_archive_failures_total");
        /// Rotated log files that wait to be archived. Growth without end means that archiving fails.
        pub(super) WAITING = gauge("muster_archive_waiting_files");
        /// The files in the archive.
        pub(super) FILES = gauge("muster_archive_files");
        /// The size of the files in the archive.
        pub(super) BYTES = gauge("muster_archive_bytes");
        /// Files of the archive that `archive.command` has taken.
        pub(super) SHIPPED = counter("muster_archive_files_shipped_total");
        /// Runs of `archive.command` that failed or took too long. Growth means that the other side is away or refuses:
        /// `muster status` has the reason. Nothing is lost before the disk is full.
        pub(super) SHIP_FAILURES = counter("muster_archive_ship_failures_total");
        /// Files of the archive that wait for `archive.command`. Growth without end means that it fails or is too slow.
        pub(super) UNSHIPPED = gauge("muster_archive_unshipped_files");
        /// Files that were removed before `archive.command` had taken them, as the disk was full: `muster events` names them.
        pub(super) UNSHIPPED_EXPIRED = counter("muster_archive_unshipped_files_expired_total");
    }
}

/// What the archive counts.
#[derive(Debug, Default)]
pub(crate) struct ArchiveCounts {
    pub(super) archived: AtomicU64,
    pub(super) archived_bytes: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) expired_bytes: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) shipped: AtomicU64,
    pub(super) ship_failures: AtomicU64,
    pub(super) unshipped: AtomicU64,
    pub(super) unshipped_expired: AtomicU64,
    words: Mutex<Words>,
}

/// What is wrong with the archive.
#[derive(Debug, Default)]
struct Words {
    problem: Option<String>,
    ship_failure: Option<String>,
}

impl ArchiveCounts {
    /// What describes them.
    pub(crate) const DESCRIPTORS: &'static [muster_wire::counters::Descriptor] = descriptors::ALL;

    /// Returns all of them.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        vec![
            descriptors::ARCHIVED.of(of(&self.archived)),
            descriptors::ARCHIVED_BYTES.of(of(&self.archived_bytes)),
            descriptors::EXPIRED.of(of(&self.expired)),
            descriptors::EXPIRED_BYTES.of(of(&self.expired_bytes)),
            descriptors::FAILURES.of(of(&self.failures)),
            descriptors::WAITING.of(of(&self.waiting)),
            descriptors::FILES.of(of(&self.files)),
            descriptors::BYTES.of(of(&self.bytes)),
            descriptors::SHIPPED.of(of(&self.shipped)),
            descriptors::SHIP_FAILURES.of(of(&self.ship_failures)),
            descriptors::UNSHIPPED.of(of(&self.unshipped)),
            descriptors::UNSHIPPED_EXPIRED.of(of(&self.unshipped_expired)),
        ]
    }

    /// Returns what whoever asks for the status is told.
    pub(crate) fn status(&self) -> ArchiveStatus {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        ArchiveStatus {
            waiting_files: of(&self.waiting),
            files: of(&self.files),
            bytes: of(&self.bytes),
            unshipped_files: of(&self.unshipped),
            ship_failure: words.ship_failure.clone(),
            problem: words.problem.clone(),
        }
    }

    /// Returns how many files were removed since the agent began.
    pub(crate) fn removed(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(super) fn set_unshipped(&self, files: u64) {
        self.unshipped.store(files, Ordering::Relaxed);
    }

    /// Sets why files are not shipped. Returns what was set before.
    pub(super) fn set_ship_failure(&self, reason: Option<String>) -> Option<String> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut words.ship_failure, reason)
    }

    /// Sets what is wrong. Returns what was before.
    pub(super) fn set_problem(&self, problem: Option<String>) -> Option<String> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut words.problem, problem)
    }
}

/// Adds to a number.
pub(super) fn add(number: &AtomicU64, value: u64) {
    number.fetch_add(value, Ordering::Relaxed);
}
