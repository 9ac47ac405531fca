//! Files of the archive on their way elsewhere: a program of the operator's takes each of them.
//!
//! What has not been shipped is known by an empty file of its own, a *marker*, in the directory `unshipped` of the archive. It is
//! there before the file has its name, and is removed when the program has taken the file. Whoever dies in between ships a
//! file again, and forgets none.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use muster_wire::Mono;
use tokio::sync::{Notify, watch};

use super::backlog::{Backlog, Next};
use super::command::{self, ShipError};
use super::counts::{ArchiveCounts, add};
use super::settings::ShipCommand;
use super::store::is_name_in_archive;
use crate::journal::{EventKind, Journal};

/// The directory of the markers, in that of the archive.
const UNSHIPPED: &str = "unshipped";

/// What a marker has between the day and the name.
const BETWEEN: char = '_';

/// The files that wait to be shipped.
#[derive(Debug)]
pub(super) struct Shipping {
    archive: PathBuf,
    markers: PathBuf,
    backlog: Mutex<Backlog>,
    changed: Notify,
}

impl Shipping {
    pub(super) fn new(archive: &Path) -> Self {
        Self {
            archive: archive.to_owned(),
            markers: archive.join(UNSHIPPED),
            backlog: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marker(&self, name: &str) -> PathBuf {
        self.markers
            .join(name.replacen('/', &BETWEEN.to_string(), 1))
    }

    /// Finds what an earlier life has not shipped.
    pub(super) fn load(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.markers) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().map(|name| name.replacen(BETWEEN, "/", 1)) else {
                continue;
            };
            if !is_name_in_archive(&name) {
                continue;
            }
            if self.archive.join(&name).try_exists()? {
                self.backlog().add(name);
            } else {
                // It died before the file had its name, or somebody has removed the file.
                fs::remove_file(entry.path())?;
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Notes that a file of this name is to be shipped, before it is there.
    pub(super) fn announce(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(&self.markers)?;
        File::create(self.marker(name))?;
        File::open(&self.markers)?.sync_all()
    }

    /// A file is in the archive.
    pub(super) fn archived(&self, name: String) {
        // One that an earlier life has shipped already has none.
        if self.marker(&name).exists() {
            self.backlog().add(name);
            self.changed.notify_one();
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.backlog().has(name)
    }

    pub(super) fn len(&self) -> usize {
        self.backlog().len()
    }

    /// A file was removed before it was shipped.
    pub(super) fn give_up(&self, name: &str) {
        self.backlog().remove(name);
        let _ = fs::remove_file(self.marker(name));
    }

    /// A file was shipped. If its marker stays it is shipped again in the next life.
    fn shipped(&self, name: &str) -> io::Result<()> {
        self.backlog().succeeded(name);
        fs::remove_file(self.marker(name))
    }
}

/// Ships one file after another.
pub(super) struct Shipper {
    pub(super) shipping: Arc<Shipping>,
    pub(super) command: ShipCommand,
    pub(super) counts: Arc<ArchiveCounts>,
    pub(super) journal: Arc<Journal>,
}

impl Shipper {
    /// Ships what there is and what comes, until `stopped` says that it is enough; then the program is ended.
    pub(super) async fn run(self, mut stopped: watch::Receiver<()>) {
        let start = Instant::now();
        let now = || Mono::default().after(start.elapsed());
        let shipping = async {
            loop {
                let next = self.shipping.backlog().next(now());
                self.set_backlog();
                match next {
                    Next::Ship(name) => self.ship(&name, now).await,
                    Next::Wait(until) => {
                        let pause = tokio::time::sleep(until.since(now()));
                        tokio::select! {
                            () = pause => {}
                            () = self.shipping.changed.notified() => {}
                        }
                    }
                    Next::Nothing => self.shipping.changed.notified().await,
                }
            }
        };
        tokio::select! {
            () = shipping => {}
            _ = stopped.changed() => {}
        }
    }

    async fn ship(&self, name: &str, now: impl Fn() -> Mono) {
        let file = self.shipping.archive.join(name);
        match file.try_exists() {
            Ok(true) => {}
            // Somebody has removed it.
            Ok(false) => return self.shipping.give_up(name),
            Err(error) => {
                self.failed(name, &error.to_string(), now());
                return;
            }
        }
        match command::run(&self.command, &file, name).await {
            Ok(()) => {
                add(&self.counts.shipped, 1);
                if let Err(error) = self.shipping.shipped(name) {
                    tracing::warn!("{name} was shipped, and may be again: {error}");
                }
                if self.counts.set_ship_failure(None).is_some() {
                    self.note("archive.command ships files again".to_owned());
                }
            }
            Err(error) => self.failed(name, &ShipError::to_string(&error), now()),
        }
        self.set_backlog();
    }

    fn failed(&self, name: &str, reason: &str, now: Mono) {
        add(&self.counts.ship_failures, 1);
        self.shipping.backlog().failed(name, now);
        let before = self.counts.set_ship_failure(Some(reason.to_owned()));
        // What fails again for the same reason is told once.
        if before.as_deref() != Some(reason) {
            let text = format!("archive.command has not shipped {name}: {reason}");
            tracing::error!("{text}");
            self.note(text);
        }
    }

    fn note(&self, text: String) {
        self.journal.note(EventKind::Note, None, text);
    }

    fn set_backlog(&self) {
        self.counts.set_unshipped(self.shipping.len() as u64);
    }
}
