//! The archive of a box's log files: what its loggers have rotated away is compressed, kept for a while, and removed.
//!
//! A file is compressed under a name that nobody reads, reaches the disk, gets its own name, and only then the original is
//! removed. Whoever dies in between leaves an original that is archived again, or one whose archived file says that it is its
//! own: then it is removed. One file is archived at a time.

mod expiry;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use muster_cluster::{Origin, Settings};
use muster_wire::counters::Counter;
use tokio::sync::watch;

use self::expiry::{Expired, Kept, Limits, expired};
use self::store::{Archived, Store};
pub(crate) use self::store::{files_of, original, original_of};
use crate::journal::{EventKind, Journal};
use crate::place::Places;

pub use self::settings::{ArchiveSettingsError, SETTINGS};

/// How often it is looked for files that were rotated.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long nobody may have written to a file before it is archived: its logger ends it after it has renamed it.
const SETTLED: Duration = Duration::from_secs(5);

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
    }
}

mod settings {
    use std::time::Duration;

    use muster_cluster::SettingSpec;

    /// The settings that [`ArchiveConfig::from_settings`](super::ArchiveConfig::from_settings) reads, for
    /// [`Layout::parse`](muster_cluster::Layout::parse).
    pub const SETTINGS: &[SettingSpec] = &[
        SettingSpec::boolean(
            "logging.archive",
            true,
            "whether agents compress rotated log files into an archive and remove old ones; `muster run` does so only if this is set",
        ),
        SettingSpec::duration(
            "logging.keep",
            Duration::from_secs(30 * 86_400),
            "age after which files of the archive are removed; 0 keeps them for ever",
        ),
        SettingSpec::count(
            "logging.keep_bytes",
            0,
            "size of the archive in bytes beyond which its oldest files are removed; 0 for any size",
        ),
        SettingSpec::text(
            "logging.min_free",
            "10%",
            "part of the archive's file system that is kept free by removing the oldest files; 0% removes none for that",
        ),
    ];

    /// A setting of the archive that is none.
    #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
    #[error("logging.min_free = \"{0}\": a percentage from 0% to 90% is expected, such as 10%")]
    pub struct ArchiveSettingsError(pub(super) String);
}

/// What is archived, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveConfig {
    /// The age after which files are removed.
    pub keep: Option<Duration>,
    /// The size of the archive in bytes beyond which its oldest files are removed.
    pub keep_bytes: Option<u64>,
    /// The part of the file system that is kept free, from 0 to 1.
    pub min_free: f64,
}

impl ArchiveConfig {
    /// Returns what a layout's settings say. `None` if nothing is archived; `by_default` says whether something is
    /// if the layout does not.
    ///
    /// # Errors
    ///
    /// Fails if a setting is none.
    ///
    /// # Panics
    ///
    /// Panics if the layout was parsed without [`SETTINGS`].
    pub fn from_settings(
        settings: &Settings,
        by_default: ArchivesByDefault,
    ) -> Result<Option<Self>, ArchiveSettingsError> {
        let text = settings.text("logging.min_free");
        let percent = text.strip_suffix('%').map(str::trim).unwrap_or_default();
        let percent: Option<u8> = percent.parse().ok().filter(|percent| *percent <= 90);
        let percent = percent.ok_or_else(|| ArchiveSettingsError(text.to_owned()))?;
        let is_set = settings.origin("logging.archive") != Origin::Default;
        if !settings.boolean("logging.archive") || (!is_set && by_default == ArchivesByDefault::No)
        {
            return Ok(None);
        }
        let (keep, bytes) = (
            settings.duration("logging.keep"),
            settings.count("logging.keep_bytes"),
        );
        Ok(Some(Self {
            keep: (!keep.is_zero()).then_some(keep),
            keep_bytes: (bytes > 0).then_some(bytes),
            min_free: f64::from(percent) / 100.0,
        }))
    }
}

/// Whether log files are archived if nobody says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchivesByDefault {
    /// They are, as with the standard directories.
    Yes,
    /// They stay where they are.
    No,
}

/// What the archive counts.
#[derive(Debug, Default)]
pub(crate) struct ArchiveCounts {
    archived: AtomicU64,
    archived_bytes: AtomicU64,
    expired: AtomicU64,
    expired_bytes: AtomicU64,
    failures: AtomicU64,
    waiting: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
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
        ]
    }
}

fn add(number: &AtomicU64, value: u64) {
    number.fetch_add(value, Ordering::Relaxed);
}

/// Looks for files again and again, until `stopped` says that it is enough.
pub(crate) async fn keep(
    places: Places,
    config: ArchiveConfig,
    counts: Arc<ArchiveCounts>,
    journal: Arc<Journal>,
    mut stopped: watch::Receiver<()>,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut keeper = Keeper {
        store: Store::new(&places.archive, Arc::clone(&is_over)),
        logs: places.logs,
        config,
        counts,
        journal,
        told: None,
    };
    let rounds = async {
        loop {
            let round = tokio::task::spawn_blocking(move || {
                keeper.round(SystemTime::now(), SETTLED);
                keeper
            });
            let Ok(back) = round.await else { return };
            keeper = back;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = stopped.changed() => {}
    }
    // A file that is being compressed is given up.
    is_over.store(true, Ordering::Relaxed);
}

struct Keeper {
    store: Store,
    logs: PathBuf,
    config: ArchiveConfig,
    counts: Arc<ArchiveCounts>,
    journal: Arc<Journal>,
    /// The problem that was told last.
    told: Option<String>,
}

impl Keeper {
    /// Makes room, archives all files that have settled, and makes room again.
    fn round(&mut self, now: SystemTime, settled: Duration) {
        let mut problem = self.expire(now).err();
        match store::rotated(&self.logs, now, settled) {
            Ok(rotated) => {
                self.counts
                    .waiting
                    .store(rotated.len() as u64, Ordering::Relaxed);
                problem = self.archive(rotated).or(problem);
                problem = self.expire(now).err().or(problem);
            }
            Err(error) => problem = Some(format!("cannot read {}: {error}", self.logs.display())),
        }
        if let Some(problem) = &problem {
            add(&self.counts.failures, 1);
            if self.told.as_ref() != Some(problem) {
                tracing::error!("{problem}");
                self.note(problem.clone());
            }
        }
        self.told = problem;
    }

    fn note(&self, text: String) {
        self.journal.note(EventKind::Note, None, text);
    }

    /// Archives files. Returns the first problem.
    fn archive(&mut self, rotated: Vec<store::Rotated>) -> Option<String> {
        let (mut files, mut before, mut after, mut problem) = (0_u64, 0, 0, None);
        for file in rotated {
            match self.store.archive(&file) {
                Ok(None) => {}
                Ok(Some(Archived { original, bytes })) => {
                    add(&self.counts.archived, 1);
                    add(&self.counts.archived_bytes, original);
                    self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                    files += 1;
                    before += original;
                    after += bytes;
                }
                Err(error) => {
                    let text = || format!("cannot archive {}: {error}", file.path.display());
                    problem.get_or_insert_with(text);
                }
            }
        }
        if files > 0 {
            self.note(format!(
                "archived {files} log files of {} as {}",
                size(before),
                size(after)
            ));
        }
        problem
    }

    /// Removes what is too old, or too much.
    fn expire(&mut self, now: SystemTime) -> Result<(), String> {
        let archive = self.store.directory().to_owned();
        let failed = |error| format!("cannot read {}: {error}", archive.display());
        let kept = store::kept(&archive).map_err(failed)?;
        let disk = store::disk(&archive).map_err(failed)?;
        let limits = Limits {
            keep: self.config.keep,
            bytes: self.config.keep_bytes,
            min_free: self.config.min_free,
        };
        let gone = expired(&kept, now, disk, &limits);
        self.set_size(&kept, &gone);
        if gone.is_empty() {
            return Ok(());
        }
        let (mut files, mut bytes, mut problem) = (0, 0, Ok(()));
        for expired in &gone {
            let file = &kept[expired.file];
            match std::fs::remove_file(&file.path) {
                Ok(()) => {
                    add(&self.counts.expired, 1);
                    add(&self.counts.expired_bytes, file.bytes);
                    files += 1;
                    bytes += file.bytes;
                }
                Err(error) => {
                    problem = Err(format!("cannot remove {}: {error}", file.path.display()));
                }
            }
        }
        store::remove_empty_days(&archive);
        if files > 0 {
            let mut reasons: Vec<&str> = gone.iter().map(|expired| expired.why.text()).collect();
            reasons.dedup();
            self.note(format!(
                "removed {files} files of {} from the archive: {}",
                size(bytes),
                reasons.join(", ")
            ));
        }
        problem
    }

    fn set_size(&self, kept: &[Kept], gone: &[Expired]) {
        let bytes: u64 = kept.iter().map(|file| file.bytes).sum();
        let less: u64 = gone.iter().map(|expired| kept[expired.file].bytes).sum();
        let files = (kept.len() - gone.len()) as u64;
        self.counts.files.store(files, Ordering::Relaxed);
        self.counts.bytes.store(bytes - less, Ordering::Relaxed);
    }
}

/// A size in words.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests;
