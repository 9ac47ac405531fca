//! The archive of a box's log files: what its loggers have rotated away is compressed, kept for a while, and removed.
//!
//! A file is compressed under a name that nobody reads, reaches the disk, gets its own name, and only then the original is
//! removed. Whoever dies in between leaves an original that is archived again, or one whose archived file says that it is its
//! own: then it is removed. One file is archived at a time.

mod backlog;
mod command;
mod counts;
mod expiry;
mod origin;
mod settings;
mod shipping;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use muster_cluster::SettingSpec;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::counts::ArchiveCounts;
use self::counts::add;
use self::expiry::{Expired, Held, Kept, Limits, Verdict, Why, expired};
pub(crate) use self::origin::{is_of_any, original, original_in};
use self::shipping::{Shipper, Shipping};
use self::store::{Archived, Store};
pub(crate) use self::store::{all_files, files_of};
use crate::journal::{EventKind, Journal};
use crate::place::Places;

pub use self::settings::{ArchiveConfig, ArchiveSettingsError, ArchivesByDefault, ShipCommand};
pub use self::store::Compression;

/// The settings that [`ArchiveConfig::from_settings`] reads, for [`Layout::parse`](muster_cluster::Layout::parse).
pub const SETTINGS: &[SettingSpec] = settings::SETTINGS;

/// How often it is looked for files that were rotated.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long nobody may have written to a file before it is archived: its logger ends it after it has renamed it.
const SETTLED: Duration = Duration::from_secs(5);

/// An archive at work. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeping {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Keeping {
    /// Begins to keep an archive.
    pub(crate) fn start(
        places: Places,
        config: ArchiveConfig,
        counts: Arc<ArchiveCounts>,
        journal: Arc<Journal>,
    ) -> Self {
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(keep(places, config, counts, journal, stopped));
        Self { stop, task }
    }

    /// Archives and ships nothing more; a program that ships a file is ended.
    pub(crate) async fn end(self) {
        drop(self.stop);
        // It has ended in any case.
        let _ = self.task.await;
    }
}

/// Looks for files again and again, and has them shipped, until `stopped` says that it is enough.
async fn keep(
    places: Places,
    config: ArchiveConfig,
    counts: Arc<ArchiveCounts>,
    journal: Arc<Journal>,
    mut stopped: watch::Receiver<()>,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let command = config.command.clone();
    let mut keeper = Keeper::new(places, config, counts, journal, Arc::clone(&is_over));
    let shipper = keeper.shipping.as_ref().zip(command);
    let shipper = shipper.map(|(shipping, command)| Shipper {
        shipping: Arc::clone(shipping),
        command,
        counts: Arc::clone(&keeper.counts),
        journal: Arc::clone(&keeper.journal),
    });
    let until = stopped.clone();
    let shipping = async {
        match shipper {
            Some(shipper) => shipper.run(until).await,
            None => std::future::pending().await,
        }
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
        () = shipping => {}
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
    /// The files that wait to be shipped, if any are.
    shipping: Option<Arc<Shipping>>,
    /// Whether those of an earlier life are among them.
    has_loaded: bool,
    /// A limit that is exceeded all the same.
    exceeded: Option<Why>,
}

impl Keeper {
    fn new(
        places: Places,
        config: ArchiveConfig,
        counts: Arc<ArchiveCounts>,
        journal: Arc<Journal>,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        let shipping = || Arc::new(Shipping::new(&places.archive));
        Self {
            shipping: config.command.as_ref().map(|_| shipping()),
            store: Store::new(&places.archive, config.compression, is_over),
            logs: places.logs,
            config,
            counts,
            journal,
            has_loaded: false,
            exceeded: None,
        }
    }

    /// Makes room, archives all files that have settled, and makes room again.
    fn round(&mut self, now: SystemTime, settled: Duration) {
        let problem = match self.load() {
            Ok(()) => self.work(now, settled),
            Err(problem) => Some(problem),
        };
        if problem.is_some() {
            add(&self.counts.failures, 1);
        }
        let exceeded = |why: Why| {
            let why = why.text();
            format!(
                "{why}, and all that is left in the archive is kept for ever (archive.keep_forever)"
            )
        };
        self.tell(problem.or_else(|| self.exceeded.map(exceeded)));
    }

    /// Finds what an earlier life has not shipped: before that nothing may be removed.
    fn load(&mut self) -> Result<(), String> {
        if let Some(shipping) = self.shipping.as_ref().filter(|_| !self.has_loaded) {
            let failed = |error| format!("cannot read which files were not shipped: {error}");
            shipping.load().map_err(failed)?;
        }
        self.has_loaded = true;
        Ok(())
    }

    fn work(&mut self, now: SystemTime, settled: Duration) -> Option<String> {
        let before = self.expire(now).err();
        match store::rotated(&self.logs, now, settled) {
            Ok(rotated) => {
                self.counts
                    .waiting
                    .store(rotated.len() as u64, Ordering::Relaxed);
                let archiving = self.archive(rotated);
                let after = self.expire(now).err();
                archiving.or(after).or(before)
            }
            Err(error) => Some(format!("cannot read {}: {error}", self.logs.display())),
        }
    }

    /// Tells a problem, once for as long as it is the same.
    fn tell(&self, problem: Option<String>) {
        let before = self.counts.set_problem(problem.clone());
        if let Some(problem) = problem.filter(|problem| before.as_ref() != Some(problem)) {
            tracing::error!("{problem}");
            self.note(problem);
        }
    }

    fn note(&self, text: String) {
        self.journal.note(EventKind::Note, None, text);
    }

    /// Archives files. Returns the first problem.
    fn archive(&mut self, rotated: Vec<store::Rotated>) -> Option<String> {
        let (mut files, mut before, mut after, mut problem) = (0_u64, 0, 0, None);
        for file in rotated {
            let announce = |name: &str| match &self.shipping {
                Some(shipping) => shipping.announce(name),
                None => Ok(()),
            };
            match self.store.archive(&file, announce) {
                Ok(None) => {}
                Ok(Some(Archived {
                    name,
                    original,
                    bytes,
                })) => {
                    add(&self.counts.archived, 1);
                    add(&self.counts.archived_bytes, original);
                    self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                    files += 1;
                    before += original;
                    after += bytes;
                    if let Some(shipping) = &self.shipping {
                        shipping.archived(name);
                    }
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
        let mut kept = store::kept(&archive).map_err(failed)?;
        let disk = store::disk(&archive).map_err(failed)?;
        for file in &mut kept {
            file.held = self.held(file);
        }
        let limits = Limits {
            keep: self.config.keep,
            bytes: self.config.keep_bytes,
            min_free: self.config.min_free,
        };
        let Verdict { gone, exceeded } = expired(&kept, now, disk, &limits);
        self.set_size(&kept, &gone);
        self.exceeded = exceeded;
        if gone.is_empty() {
            return Ok(());
        }
        self.remove(&kept, &gone)
    }

    fn held(&self, file: &Kept) -> Held {
        if self.config.keeps_forever(store::stream_of(&file.path)) {
            return Held::Forever;
        }
        let is_unshipped = |shipping: &Arc<Shipping>| shipping.has(&self.name(file));
        if self.shipping.as_ref().is_some_and(is_unshipped) {
            Held::Unshipped
        } else {
            Held::No
        }
    }

    /// A file's name in the archive.
    fn name(&self, file: &Kept) -> String {
        let name = file.path.strip_prefix(self.store.directory());
        let name = name.unwrap_or(&file.path);
        name.to_string_lossy().into_owned()
    }

    fn remove(&self, kept: &[Kept], gone: &[Expired]) -> Result<(), String> {
        let (mut files, mut bytes, mut problem) = (0, 0, Ok(()));
        for expired in gone {
            let file = &kept[expired.file];
            if let Err(error) = std::fs::remove_file(&file.path) {
                problem = Err(format!("cannot remove {}: {error}", file.path.display()));
                continue;
            }
            add(&self.counts.expired, 1);
            add(&self.counts.expired_bytes, file.bytes);
            files += 1;
            bytes += file.bytes;
            if file.held == Held::Unshipped {
                self.removed_unshipped(&self.name(file));
            }
        }
        store::remove_empty_days(self.store.directory());
        if files > 0 {
            let reasons = |why: &Why| gone.iter().any(|expired| expired.why == *why);
            let reasons: Vec<&str> = Why::ALL
                .iter()
                .filter(|why| reasons(why))
                .map(|why| why.text())
                .collect();
            self.note(format!(
                "removed {files} files of {} from the archive: {}",
                size(bytes),
                reasons.join(", ")
            ));
        }
        problem
    }

    fn removed_unshipped(&self, name: &str) {
        add(&self.counts.unshipped_expired, 1);
        if let Some(shipping) = &self.shipping {
            shipping.give_up(name);
            self.counts.set_unshipped(shipping.len() as u64);
        }
        let text = format!(
            "{name} was removed before it was shipped: {}",
            Why::DiskFull.text()
        );
        tracing::error!("{text}");
        self.note(text);
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
