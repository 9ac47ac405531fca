//! A logger's diary on disk: a journal of [`Entry`]s beside the log files.

use std::path::{Path, PathBuf};

use muster_data::{DataRef, DecodeOwned, Encode, Limits};
use muster_spool::{
    DiskFiles, Found, Journal, JournalConfig, JournalError, JournalErrorKind, JournalName, Opened,
};

use super::ledger::Opened as FileOpened;
use super::ledger::{Closed, Decided, Entry, Gone, Ledger, Snapshot, Written};

/// The kinds of records. Those of later releases are passed over, and count as such that cannot be read.
mod kind {
    pub(super) const SNAPSHOT: u8 = 1;
    pub(super) const OPENED: u8 = 2;
    pub(super) const CLOSED: u8 = 3;
    pub(super) const GONE: u8 = 4;
    pub(super) const WRITTEN: u8 = 5;
    pub(super) const DECIDED: u8 = 6;
    pub(super) const MARK: u8 = 7;
}

/// The longest record: a snapshot of as many undecided batches as a logger ever has.
const LONGEST: u32 = 256 << 20;

/// What a snapshot may hold when it is read.
const LIMITS: Limits = Limits {
    depth: 16,
    elements: 64 << 20,
    bytes: LONGEST as usize,
};

/// The diary of one logger.
#[derive(Debug)]
pub(super) struct Diary {
    directory: PathBuf,
    config: JournalConfig,
    journal: Journal<DiskFiles>,
    pub(super) ledger: Ledger,
    scratch: Vec<u8>,
}

/// What was found when a diary was opened.
#[derive(Debug, Default)]
pub(super) struct FoundDiary {
    /// There was none: whatever files there are nobody has kept a diary of.
    pub(super) is_new: bool,
    /// Records that could not be read.
    pub(super) bad: u64,
}

fn decode<T: DecodeOwned>(bytes: &[u8]) -> Option<T> {
    DataRef::parse(bytes, &LIMITS).ok()?.to::<T>().ok()
}

impl Entry {
    fn kind(&self) -> u8 {
        match self {
            Self::Opened(_) => kind::OPENED,
            Self::Closed(_) => kind::CLOSED,
            Self::Gone(_) => kind::GONE,
            Self::Written(_) => kind::WRITTEN,
            Self::Decided(_) => kind::DECIDED,
            Self::Mark => kind::MARK,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Opened(it) => it.encode(out),
            Self::Closed(it) => it.encode(out),
            Self::Gone(it) => it.encode(out),
            Self::Written(it) => it.encode(out),
            Self::Decided(it) => it.encode(out),
            Self::Mark => {}
        }
    }

    fn decode(kind: u8, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            kind::OPENED => Self::Opened(decode::<FileOpened>(bytes)?),
            kind::CLOSED => Self::Closed(decode::<Closed>(bytes)?),
            kind::GONE => Self::Gone(decode::<Gone>(bytes)?),
            kind::WRITTEN => Self::Written(decode::<Written>(bytes)?),
            kind::DECIDED => Self::Decided(decode::<Decided>(bytes)?),
            kind::MARK => Self::Mark,
            _ => return None,
        })
    }
}

impl Diary {
    /// Opens the diary in a directory of its own, and reads it.
    pub(super) fn open(directory: &Path) -> Result<(Self, FoundDiary), JournalError> {
        let config = JournalConfig {
            longest_record: LONGEST,
            ..JournalConfig::new(JournalName::new("diary")?)
        };
        let files = DiskFiles::open(directory)?;
        let mut ledger = Ledger::default();
        let mut unread = 0;
        let (journal, opened) = Journal::open(files, config.clone(), |found| {
            if read(&mut ledger, &found).is_none() {
                unread += 1;
            }
        })?;
        let Opened {
            records,
            bad,
            segments,
            unreadable,
            ..
        } = opened;
        // A torn end was never safe: nothing that was said depends on it.
        let damaged = bad.checksum + bad.length + unreadable.len() as u64;
        let found = FoundDiary {
            is_new: records == 0 && segments == 0 && unreadable.is_empty(),
            bad: damaged + unread,
        };
        let diary = Self {
            directory: directory.to_owned(),
            config,
            journal,
            ledger,
            scratch: Vec::new(),
        };
        Ok((diary, found))
    }

    /// Writes an entry, and takes it.
    pub(super) fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        if self.journal.needs_segment() {
            self.begin_segment()?;
        }
        self.scratch.clear();
        entry.encode(&mut self.scratch);
        match self.journal.append(entry.kind(), &self.scratch) {
            Ok(_) => {}
            Err(error) if error.kind() == JournalErrorKind::NeedsSegment => {
                self.begin_segment()?;
                self.journal.append(entry.kind(), &self.scratch)?;
            }
            Err(error) => return Err(error),
        }
        self.ledger.take(entry);
        Ok(())
    }

    /// Begins a segment with all that the diary says, so that older ones are not needed.
    pub(super) fn begin_segment(&mut self) -> Result<(), JournalError> {
        let mut snapshot = Vec::new();
        self.ledger.snapshot().encode(&mut snapshot);
        let position = self.journal.begin_segment(kind::SNAPSHOT, &snapshot)?;
        self.journal.release(position.segment);
        Ok(())
    }

    /// Makes safe what was written.
    pub(super) fn sync(&mut self) -> Result<(), String> {
        let Some(unsynced) = self.journal.take_unsynced() else {
            return Ok(());
        };
        match unsynced.sync() {
            Ok(synced) => {
                // What cannot be removed is tried again.
                let _ = self.journal.synced(synced);
                Ok(())
            }
            Err(error) => {
                self.journal.sync_failed();
                Err(format!(
                    "cannot sync the diary in {}: {error}",
                    self.directory.display()
                ))
            }
        }
    }

    /// Begins anew where the directory was removed: what is known is written again.
    pub(super) fn revive(&mut self) -> Result<(), JournalError> {
        // In the directory that it was opened in, the journal goes on. Another one may be in its place.
        let gone_on = self.begin_segment();
        if gone_on.is_ok() {
            return gone_on;
        }
        let Ok(files) = DiskFiles::open(&self.directory) else {
            return gone_on;
        };
        let (journal, _) = Journal::open(files, self.config.clone(), |_| {})?;
        self.journal = journal;
        self.begin_segment()
    }
}

/// Takes a record of the journal.
fn read(ledger: &mut Ledger, found: &Found<'_>) -> Option<()> {
    if found.kind == kind::SNAPSHOT {
        *ledger = Ledger::of_snapshot(&decode::<Snapshot>(found.bytes)?)?;
        return Some(());
    }
    if found.kind == kind::MARK {
        return ledger.take(&Entry::Mark);
    }
    ledger.take(&Entry::decode(found.kind, found.bytes)?)
}
