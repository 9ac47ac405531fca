//! Log files as the log sink of a node.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use muster_cluster::node::{LogBatch, LogDelivery, LogNotes, LogSink, ProducerRecord, Written};
use muster_cluster::{Layout, Node, SettingSpec};
use muster_data::Timestamp;

use super::diary::Diary;
use super::files::{Extent, FileEvent};
use super::ledger::{Entry, Place};
use super::names::base_name;
use super::{LogFiles, LogFilesConfig, LogFilesError, LogFilesErrorKind, LogFormat, settling};

/// Where files wait for their final names.
pub(super) const UNSETTLED: &str = "unsettled";

/// Where loggers keep their diaries.
const DIARY: &str = "diary";

/// How long records that nobody waits for may be in memory only.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// How many bytes are written to see whether any can be.
const TRIED: usize = 64 << 10;

/// The settings that [`LogFilesConfig::from_settings`] reads, for
/// [`Layout::parse`](muster_cluster::Layout::parse).
pub const SETTINGS: &[SettingSpec] = &[
    SettingSpec::choice::<LogFormat>("logging.format", "tsv", "the format of log files"),
    SettingSpec::duration(
        "logging.rotation",
        Duration::from_secs(3600),
        "time after which a log file is rotated; 0 never rotates",
    ),
];

impl LogFilesConfig {
    /// Returns the configuration of a node's log files, from its settings `logging.format` and `logging.rotation`. If
    /// the layout has several loggers, which may share a directory, the files carry the node's name.
    ///
    /// # Panics
    ///
    /// Panics if the layout was parsed without [`SETTINGS`].
    pub fn from_settings(layout: &Layout, node: &Node, directory: PathBuf) -> Self {
        let nodes = layout.nodes().iter();
        let loggers = nodes.filter(|other| layout.takes_logs(other)).count();
        let rotation = node.settings.duration("logging.rotation");
        Self {
            directory,
            format: node.settings.choice("logging.format"),
            rotation: (!rotation.is_zero()).then_some(rotation),
            // One logger needs no name in its files.
            writer_name: (loggers > 1).then(|| node.name.to_string()),
        }
    }
}

/// A node's [`LogSink`] that writes [`LogFiles`].
///
/// # Example
///
/// The sink of a logger, for the field `log_sink` of `muster::NodeConfig`:
///
/// ```
/// use muster_cluster::Layout;
/// use muster_cluster::node::LogSink;
/// use muster_frameworks::log_files::{FileSink, LogFilesConfig, SETTINGS};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = r#"
///     layout = 1
///     node = [{ name = "manager", role = "manager" }, { name = "logger", role = "logger" }]
///     [logging]
///     format = "json"
/// "#;
/// let layout = Layout::parse(text, "muster.toml", SETTINGS)?;
/// let node = layout.find("logger").ok_or("no such node")?;
/// # let scratch = tempfile::tempdir()?;
/// # let directory = scratch.path().join("logs");
/// let config = LogFilesConfig::from_settings(&layout, node, directory);
/// let log_sink: Box<dyn LogSink> = Box::new(FileSink::new(config)?);
/// # drop(log_sink);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileSink {
    files: LogFiles,
    config: LogFilesConfig,
    reopen: Reopener,
    /// Rows that were found to be gone since the last batch.
    gone: u64,
    /// What keeps track of batches that are acknowledged, once it was [recovered](LogSink::recover).
    diary: Option<Diary>,
    /// What has happened to files and is not in the diary yet.
    entries: VecDeque<Entry>,
    /// Files that have rows which are not safe.
    touched: BTreeSet<u64>,
    /// When it was synced last.
    synced_at: Timestamp,
    /// Files were created or renamed since the directories were synced.
    has_moved: bool,
    /// What the operator has to know of earlier steps.
    remark: Option<String>,
    #[cfg(feature = "simulation")]
    broken: Option<BrokenRule>,
    #[cfg(feature = "simulation")]
    syncs: u64,
}

/// A rule that is broken on purpose. A test that checks the rule must fail.
#[cfg(feature = "simulation")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenRule {
    /// A file gets its final name when it is closed, whatever is in it.
    FinalAtOnce,
}

/// Has a [`FileSink`] open its files anew, from any thread: after somebody else has moved them away, as logrotate does.
#[derive(Debug, Clone, Default)]
pub struct Reopener(Arc<AtomicBool>);

impl Reopener {
    /// Asks for it. The next batch, or the next tick of a second, carries it out.
    pub fn reopen(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl FileSink {
    /// Returns a sink that writes files as configured. Nothing is written before the first batch.
    ///
    /// # Errors
    ///
    /// Like [`LogFiles::new`].
    pub fn new(config: LogFilesConfig) -> Result<Self, LogFilesError> {
        Ok(Self {
            files: LogFiles::new(config.clone())?,
            config,
            reopen: Reopener::default(),
            gone: 0,
            diary: None,
            entries: VecDeque::new(),
            touched: BTreeSet::new(),
            synced_at: Timestamp::EPOCH,
            has_moved: false,
            remark: None,
            #[cfg(feature = "simulation")]
            broken: None,
            #[cfg(feature = "simulation")]
            syncs: 0,
        })
    }

    /// Returns how often everything was made safe.
    #[cfg(feature = "simulation")]
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Breaks a rule on purpose.
    #[cfg(feature = "simulation")]
    pub fn break_rule(&mut self, rule: BrokenRule) {
        self.broken = Some(rule);
    }

    #[cfg(feature = "simulation")]
    fn waits_for_all(&self) -> bool {
        self.broken != Some(BrokenRule::FinalAtOnce)
    }

    #[cfg(not(feature = "simulation"))]
    #[allow(clippy::unused_self, reason = "simulations break the rule")]
    fn waits_for_all(&self) -> bool {
        true
    }

    /// Returns what has the files opened anew.
    pub fn reopener(&self) -> Reopener {
        self.reopen.clone()
    }

    fn reopen_if_asked(&mut self, wall: Timestamp) -> Result<(), LogFilesError> {
        if self.reopen.take() {
            return self.files.reopen(wall);
        }
        Ok(())
    }

    fn writer(&self) -> Option<&str> {
        self.config.writer_name.as_deref()
    }

    fn unsettled(&self) -> PathBuf {
        self.config.directory.join(UNSETTLED)
    }

    /// Writes in the diary what has happened to files. What cannot be written is written later.
    fn note_files(&mut self) -> Result<(), String> {
        for event in self.files.take_events() {
            self.has_moved = true;
            if let FileEvent::Strange { path } = &event {
                self.remark = Some(format!(
                    "`{}` was in the way; it is in no diary, so nobody knows whether its records are elsewhere as well",
                    path.display()
                ));
            }
            self.entries
                .extend(Entry::of_file(&self.config.directory, &event));
        }
        let Some(diary) = &mut self.diary else {
            self.entries.clear();
            return Ok(());
        };
        while let Some(entry) = self.entries.front() {
            diary.write(entry).map_err(|error| error.to_string())?;
            self.entries.pop_front();
        }
        Ok(())
    }

    /// Takes up a diary that earlier lives have left.
    fn open_diary(&mut self, wall: Timestamp) -> Result<Vec<ProducerRecord>, String> {
        let name = self.writer().unwrap_or("logger").to_owned();
        let (mut diary, found) = Diary::open(&self.config.directory.join(DIARY).join(name))
            .map_err(|error| error.to_string())?;
        let unsettled = self.unsettled();
        std::fs::create_dir_all(&unsettled)
            .map_err(|error| format!("cannot create `{}`: {error}", unsettled.display()))?;
        if found.bad > 0 {
            self.remark = Some(format!(
                "{} entries of the diary cannot be read: what they were about is in `{}/*.strange`, if it is not in the log files",
                found.bad,
                unsettled.display()
            ));
            for file in diary.ledger.files.values_mut() {
                file.is_doubtful = true;
            }
        }
        let numbers: Vec<u64> = diary.ledger.files.keys().copied().collect();
        for number in numbers {
            if let Err(error) = self.take_up(&mut diary, number, wall) {
                return Err(error.to_string());
            }
        }
        check_bytes(&mut diary, &self.config.directory)?;
        diary.begin_segment().map_err(|error| error.to_string())?;
        // What is there without a diary was written by former releases.
        if found.is_new {
            self.files
                .rotate_leftovers(wall)
                .map_err(|error| error.to_string())?;
        }
        self.files.settle_in(unsettled, diary.ledger.next_file);
        let records = diary.ledger.records();
        self.diary = Some(diary);
        self.has_moved = true;
        self.sync(wall)?;
        Ok(records)
    }

    /// Finds a file of an earlier life, and closes it.
    fn take_up(&self, diary: &mut Diary, number: u64, wall: Timestamp) -> std::io::Result<()> {
        let Some(file) = diary.ledger.files.get(&number) else {
            return Ok(());
        };
        let base = base_name(&file.stream, self.writer());
        let name = Path::new(UNSETTLED).join(format!("{base}.{number}.log"));
        let (path, waits) = (
            self.config.directory.join(&file.path),
            self.config.directory.join(&name),
        );
        let is_in_place = path != waits && path.exists() && !waits.exists();
        if is_in_place {
            std::fs::rename(&path, &waits)?;
        }
        let metadata = match std::fs::metadata(&waits) {
            Ok(metadata) => metadata,
            // It has its final name, or somebody has removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let gone = Entry::Gone(super::ledger::Gone { file: number });
                return diary.write(&gone).map_err(std::io::Error::other);
            }
            Err(error) => return Err(error),
        };
        let changed = metadata.modified().map_or(wall, Timestamp::from);
        let closed = Entry::Closed(super::ledger::Closed {
            file: number,
            path: name.to_string_lossy().into_owned(),
            end: file.end.unwrap_or_else(|| changed.max(file.opened)),
            footer: Vec::new(),
        });
        diary.write(&closed).map_err(std::io::Error::other)
    }

    /// Gives files their final names in which everything is decided. What is decided has to be safe.
    fn settle(&mut self) {
        let (writer, waits) = (self.config.writer_name.clone(), self.waits_for_all());
        let Some(diary) = &mut self.diary else {
            return;
        };
        let ready = diary.ledger.files.iter().filter(|(_, file)| {
            file.end.is_some()
                && (file.undecided == 0 || !waits)
                && file.path.starts_with(UNSETTLED)
        });
        let ready: Vec<u64> = ready.map(|(number, _)| *number).collect();
        for number in ready {
            let Some(file) = diary.ledger.files.get(&number) else {
                continue;
            };
            let settled = settling::settle(&self.config.directory, file, writer.as_deref());
            match settled {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let path = self.config.directory.join(&file.path);
                    self.remark = Some(format!(
                        "`{}` cannot be given its final name: {error}",
                        path.display()
                    ));
                    continue;
                }
            }
            self.has_moved = true;
            let gone = Entry::Gone(super::ledger::Gone { file: number });
            if let Err(error) = diary.write(&gone) {
                self.remark = Some(error.to_string());
                diary.ledger.forget(number);
            }
        }
    }

    fn sync_files(&mut self, wall: Timestamp) -> Result<(), String> {
        let mut failed = self.files.take_not_synced();
        let touched = std::mem::take(&mut self.touched);
        let files = self.files.open_files();
        let files = files.filter(|(number, _)| touched.contains(number));
        let mut given_up = Vec::new();
        for (number, file) in files {
            if let Err(error) = file.sync() {
                failed = Some(format!("cannot sync `{}`: {error}", file.path().display()));
                given_up.push(number);
            }
        }
        for number in given_up {
            self.files.give_up(number, wall);
        }
        let noted = self.note_files();
        let synced = failed.map_or(noted, Err);
        if synced.is_err() {
            // Nothing is marked as safe that was not synced since.
            self.touched.extend(touched);
        }
        synced
    }

    /// Whether the last sync was a while ago. A clock that was set does not stop it.
    fn is_late(&self, wall: Timestamp) -> bool {
        let since = wall.as_nanos().abs_diff(self.synced_at.as_nanos());
        u128::from(since) >= SYNC_EVERY.as_nanos()
    }

    fn sync_directories(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.has_moved) {
            return Ok(());
        }
        for directory in [self.config.directory.clone(), self.unsettled()] {
            if let Err(error) = settling::sync_directory(&directory) {
                self.has_moved = true;
                return Err(format!("cannot sync `{}`: {error}", directory.display()));
            }
        }
        Ok(())
    }

    /// Tries whether files can be written.
    fn try_to_write(&mut self) -> Result<(), String> {
        let directory = self.unsettled();
        let path = directory.join(".try");
        let tried = std::fs::create_dir_all(&directory).and_then(|()| {
            let file = std::fs::File::create(&path)?;
            std::io::Write::write_all(&mut &file, &vec![0; TRIED])?;
            file.sync_all()
        });
        let removed = std::fs::remove_file(&path);
        tried
            .and(removed)
            .map_err(|error| format!("cannot write in `{}`: {error}", directory.display()))?;
        let Some(diary) = &mut self.diary else {
            return Ok(());
        };
        diary.revive().map_err(|error| error.to_string())
    }

    fn written(
        &mut self,
        batch: &LogBatch,
        delivery: Option<&LogDelivery>,
        wall: Timestamp,
    ) -> Written {
        let extent = if delivery.is_some() {
            Extent::Whole
        } else {
            Extent::Rows
        };
        let (placed, problem) = self.files.place_batch(batch, extent, wall);
        let mut written = Written {
            records: placed.map_or(0, |placed| placed.rows),
            gone: problem.as_ref().map_or(0, LogFilesError::gone),
            is_invalid: problem.as_ref().is_some_and(is_of_the_batch),
            problem: problem.map(|error| error.to_string()),
        };
        let noted = self.note_files();
        let is_whole = placed.is_some_and(|placed| placed.rows == batch.len() as u64);
        let placed = placed.filter(|_| is_whole || delivery.is_none());
        let Some((placed, diary)) = placed.zip(self.diary.as_mut()) else {
            if self.diary.is_some() {
                written.records = 0;
            }
            return written;
        };
        self.touched.insert(placed.number);
        let entry = Entry::of_batch(&placed, delivery);
        let noted = noted.and_then(|()| diary.write(&entry).map_err(|error| error.to_string()));
        if let Err(problem) = noted {
            self.files.take_back(&placed);
            written.records = 0;
            written.problem = Some(problem);
        } else if let Some(delivery) = delivery {
            diary.ledger.has_records(delivery.id, placed.rows);
        }
        written
    }
}

/// Whether every logger would fail at the batch.
fn is_of_the_batch(error: &LogFilesError) -> bool {
    matches!(
        error.kind(),
        LogFilesErrorKind::StreamName
            | LogFilesErrorKind::Columns
            | LogFilesErrorKind::TooManyStreams
            | LogFilesErrorKind::TooManyChanges
    )
}

/// Looks whether what was written last is there: a power failure may have lost it. A file that cannot be read is an error: it is
/// not known then.
fn check_bytes(diary: &mut Diary, directory: &Path) -> Result<(), String> {
    let batches = diary.ledger.batches.values().filter(|place| !place.is_safe);
    let mut places: Vec<Place> = batches
        .chain(&diary.ledger.unsafe_places)
        .copied()
        .collect();
    places.sort_by_key(|place| (place.file, place.offset));
    let mut open: Option<(u64, std::fs::File)> = None;
    for place in places {
        let Some(file) = diary.ledger.files.get(&place.file) else {
            continue;
        };
        let path = directory.join(&file.path);
        let failed = |error| format!("cannot read `{}`: {error}", path.display());
        if open
            .as_ref()
            .is_none_or(|(number, _)| *number != place.file)
        {
            let opened = std::fs::File::open(&path).map_err(failed)?;
            open = Some((place.file, opened));
        }
        let Some((_, file)) = &mut open else {
            continue;
        };
        let (offset, end) = (place.offset, place.end);
        let is_there = settling::has_checksum(file, offset, end, place.checksum);
        if !is_there.map_err(failed)? {
            diary.ledger.lost(&place);
        }
    }
    Ok(())
}

impl LogSink for FileSink {
    fn recover(&mut self, wall: Timestamp) -> Result<Vec<ProducerRecord>, String> {
        self.open_diary(wall)
    }

    fn write(
        &mut self,
        batch: &LogBatch,
        delivery: Option<&LogDelivery>,
        wall: Timestamp,
    ) -> Written {
        let reopened = self.reopen_if_asked(wall);
        let mut written = self.written(batch, delivery, wall);
        if let Err(error) = reopened {
            written.gone += error.gone();
            written.problem.get_or_insert_with(|| error.to_string());
        }
        if written.problem.is_none() {
            written.problem = self.remark.take();
        }
        written.gone += std::mem::take(&mut self.gone);
        written
    }

    fn note(&mut self, notes: Option<&LogNotes>, _: Timestamp) -> Result<(), String> {
        let Some(notes) = notes else {
            return self.try_to_write();
        };
        let Some(diary) = &mut self.diary else {
            return Ok(());
        };
        let entry = Entry::of_notes(notes);
        diary.write(&entry).map_err(|error| error.to_string())
    }

    fn take_struck(&mut self) -> u64 {
        let diary = self.diary.as_mut();
        diary.map_or(0, |diary| diary.ledger.take_struck())
    }

    fn sync(&mut self, wall: Timestamp) -> Result<(), String> {
        if self.diary.is_none() {
            return Ok(());
        }
        self.synced_at = wall;
        self.sync_files(wall)?;
        self.sync_directories()?;
        if let Some(diary) = &mut self.diary {
            diary.sync()?;
            #[cfg(feature = "simulation")]
            {
                self.syncs += 1;
            }
            // If it is lost, more is looked at when the next life begins.
            let _ = diary.write(&Entry::Mark);
        }
        self.settle();
        Ok(())
    }

    fn tick(&mut self, wall: Timestamp) -> Result<(), String> {
        let reopened = self.reopen_if_asked(wall);
        let ticked = self.files.tick(wall);
        for error in [&reopened, &ticked]
            .into_iter()
            .filter_map(|result| result.as_ref().err())
        {
            self.gone += error.gone();
        }
        let noted = self.note_files();
        // What nobody waits for is made safe as well, a little later.
        let is_late = !self.touched.is_empty() && self.is_late(wall);
        if self.has_moved || is_late {
            self.sync(wall)?;
        }
        noted?;
        reopened.and(ticked).map_err(|error| error.to_string())?;
        self.remark.take().map_or(Ok(()), Err)
    }

    fn close(&mut self, wall: Timestamp) -> Result<(), String> {
        let closed = self.files.close(wall).map_err(|error| error.to_string());
        let noted = self.note_files();
        let synced = self.sync(wall);
        closed.and(noted).and(synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = r#"
        layout = 1
        node = [
            { name = "manager", role = "manager" },
            { name = "logger", role = "logger", count = 2 },
        ]
    "#;

    fn config(text: &str, directory: PathBuf) -> LogFilesConfig {
        let layout = Layout::parse(text, "test.toml", SETTINGS).unwrap();
        LogFilesConfig::from_settings(&layout, layout.find("logger-1").unwrap(), directory)
    }

    #[test]
    fn the_settings_of_a_layout_say_how_its_loggers_write() {
        let by_default = config(NODES, PathBuf::from("logs"));
        assert_eq!(by_default.format, LogFormat::Tsv);
        assert_eq!(by_default.rotation, Some(Duration::from_secs(3600)));
        assert_eq!(by_default.writer_name.as_deref(), Some("logger-1"));

        let alone = r#"
            layout = 1
            node = [{ name = "manager", role = "manager" }, { name = "logger-1", role = "logger" }]
            logging = { format = "json", rotation = "0s" }
        "#;
        let alone = config(alone, PathBuf::from("logs"));
        assert_eq!(alone.format, LogFormat::Json);
        assert_eq!((alone.rotation, alone.writer_name), (None, None));
    }
}
