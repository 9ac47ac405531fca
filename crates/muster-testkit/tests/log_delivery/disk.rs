//! A logger's real files on a disk that can lose what was not synced.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use muster_cluster::node::{LogBatch, LogDelivery, LogNotes, LogSink, ProducerRecord, Written};
use muster_data::Timestamp;
use muster_frameworks::log_files::{FileSink, LogFilesConfig, RotatedName};
use muster_test_support::Random;

use super::Broken;

/// What a disk has of each file for certain, in bytes. A file is known by its inode, whatever its name is.
type Synced = BTreeMap<u64, u64>;

/// The disks of all loggers.
#[derive(Clone, Default)]
pub(crate) struct Disks(Arc<Mutex<BTreeMap<PathBuf, Synced>>>);

/// A sink whose disk is watched.
pub(crate) struct Watched {
    sink: FileSink,
    directory: PathBuf,
    disks: Disks,
    broken: Option<Broken>,
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn files(directory: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    files_below(directory, &mut found);
    let files = found.into_iter();
    files
        .filter_map(|path| Some((path.clone(), fs::metadata(path).ok()?)))
        .collect()
}

impl Disks {
    /// The power of a logger's disk fails: of what was not synced since, any part is there.
    pub(crate) fn power_fails(&self, directory: &Path, random: &mut Random) {
        let disks = self.0.lock().unwrap();
        let synced = disks.get(directory).cloned().unwrap_or_default();
        for (path, metadata) in files(directory) {
            // Names are safe, and so is what has a final one: only what is in other files is lost.
            let name = path.file_name().and_then(|name| name.to_str());
            if name.and_then(RotatedName::parse).is_some() {
                continue;
            }
            let length = metadata.len();
            let safe = synced
                .get(&metadata.ino())
                .copied()
                .unwrap_or(0)
                .min(length);
            let kept = safe + random.number(length - safe + 1);
            if kept < length {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(kept).unwrap();
            }
        }
    }
}

impl Watched {
    pub(crate) fn new(config: LogFilesConfig, disks: &Disks, broken: Option<Broken>) -> Self {
        let directory = config.directory.clone();
        let mut sink = FileSink::new(config).unwrap();
        if broken == Some(Broken::FinalAtOnce) {
            sink.break_rule(muster_frameworks::log_files::BrokenRule::FinalAtOnce);
        }
        Self {
            sink,
            directory,
            disks: disks.clone(),
            broken,
        }
    }

    fn is_synced(&self) {
        let lengths = files(&self.directory).into_iter();
        let lengths = lengths.map(|(_, metadata)| (metadata.ino(), metadata.len()));
        let lengths = lengths.collect();
        let mut disks = self.disks.0.lock().unwrap();
        disks.insert(self.directory.clone(), lengths);
    }
}

impl LogSink for Watched {
    fn recover(&mut self, wall: Timestamp) -> Result<Vec<ProducerRecord>, String> {
        let recovered = self.sink.recover(wall);
        self.is_synced();
        recovered
    }

    fn write(
        &mut self,
        batch: &LogBatch,
        delivery: Option<&LogDelivery>,
        wall: Timestamp,
    ) -> Written {
        self.sink.write(batch, delivery, wall)
    }

    fn note(&mut self, notes: Option<&LogNotes>, wall: Timestamp) -> Result<(), String> {
        self.sink.note(notes, wall)
    }

    fn sync(&mut self, wall: Timestamp) -> Result<(), String> {
        if self.broken == Some(Broken::SyncsNothing) {
            return Ok(());
        }
        self.sink.sync(wall)?;
        self.is_synced();
        Ok(())
    }

    fn tick(&mut self, wall: Timestamp) -> Result<(), String> {
        let before = self.sink.syncs();
        let ticked = self.sink.tick(wall);
        if self.sink.syncs() != before {
            self.is_synced();
        }
        ticked
    }

    fn close(&mut self, wall: Timestamp) -> Result<(), String> {
        self.sink.close(wall)?;
        self.is_synced();
        Ok(())
    }
}
