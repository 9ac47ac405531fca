//! A journal that is appended to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::files::{Access, Files, SegmentFile};
use crate::format::{FILE_HEADER, Header, RECORD_HEAD, Seal};
use crate::name::following;
use crate::sync::InFlight;
use crate::{
    Found, JournalError, JournalErrorKind, JournalName, Opened, Synced, Unsynced, opening,
};

/// From where on a journal is read when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From the newest segment whose header record is whole; from the oldest if there is none.
    /// Opening takes a time that does not depend on the length of the journal, apart from a look at
    /// the beginning of each file.
    AtNewestHeader,
    /// From the oldest segment.
    AtOldest,
}

/// How a journal is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalConfig {
    /// What the names of its files begin with.
    pub name: JournalName,
    /// A segment of so many bytes or more is full. It is longer by a record at most.
    pub segment_size: u64,
    /// The largest number of bytes that a record may have. Longer ones are not found, so this must
    /// not become less than what there is.
    pub longest_record: u32,
    /// The largest number of bytes that records may bring the journal to. Headers may exceed it.
    pub limit: u64,
    /// From where on it is read.
    pub start: Start,
}

impl JournalConfig {
    /// Returns a configuration with segments of 16 MiB, records of up to 1 MiB, no limit, and a
    /// start at the newest header.
    pub fn new(name: JournalName) -> Self {
        Self {
            name,
            segment_size: 16 << 20,
            longest_record: 1 << 20,
            limit: u64::MAX,
            start: Start::AtNewestHeader,
        }
    }
}

/// A place in a journal. Places are in the order in which records were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the segment, from 1.
    pub segment: u64,
    /// The offset in its file, in bytes.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.segment, self.offset)
    }
}

/// A journal that is appended to. Nothing is durable before it was synced: see
/// [`take_unsynced`](Self::take_unsynced).
#[derive(Debug)]
pub struct Journal<F: Files> {
    pub(crate) files: F,
    config: JournalConfig,
    /// All segments and their lengths.
    segments: BTreeMap<u64, u64>,
    /// The sum of these lengths.
    bytes: u64,
    /// The segment that is appended to.
    present: Option<Present<F::File>>,
    /// The highest number that a file has had.
    highest: u64,
    /// Earlier segments with records that are not synced.
    earlier: Vec<(u64, Arc<F::File>)>,
    /// Segments that were found: whoever wrote them may have ended before it could sync them.
    found: Vec<u64>,
    /// Whether files were created or removed that a sync of the directory has to cover.
    directory_changed: bool,
    /// Segments before this are no longer needed.
    released: u64,
    /// A segment could not be removed. It is tried again with the next release or segment.
    removal_failed: bool,
    in_flight: Option<InFlight>,
    /// The place behind what was appended last.
    end: Option<Position>,
    scratch: Vec<u8>,
}

/// The segment that is appended to.
#[derive(Debug)]
struct Present<F> {
    number: u64,
    file: Arc<F>,
    seal: Seal,
    length: u64,
    /// How much of it is synced.
    synced: u64,
}

impl<F: Files> Journal<F> {
    /// Opens a journal and tells of its records, in the order in which they were appended. There is
    /// one record in memory at a time. A torn end of the last segment is cut off; nothing else is
    /// changed. Damage, foreign files and segments that cannot be read are counted, and are no
    /// error: only a directory that cannot be listed is.
    pub fn open(
        files: F,
        config: JournalConfig,
        mut visit: impl FnMut(Found<'_>),
    ) -> Result<(Self, Opened), JournalError> {
        let directory = opening::read(&files, &config, &mut visit)?;
        let mut journal = Self {
            files,
            config,
            bytes: directory.segments.values().sum(),
            segments: directory.segments,
            present: None,
            highest: directory.highest,
            earlier: Vec::new(),
            found: directory.read,
            directory_changed: true,
            released: 0,
            removal_failed: false,
            in_flight: None,
            end: None,
            scratch: Vec::new(),
        };
        if let Some(last) = directory.last {
            journal.go_on(&last);
        }
        Ok((journal, directory.opened))
    }

    /// Goes on with the last segment, if there is nothing wrong with it but its end.
    fn go_on(&mut self, last: &crate::scan::Scan) {
        let is_sound = last.header == Header::Whole
            && last.first
            && last.complete
            && last.error.is_none()
            && last.end < self.config.segment_size;
        if !is_sound {
            return;
        }
        let name = self.config.name.file(self.highest);
        // If this fails, the next segment is another one.
        let Ok(file) = self.files.open(&name, Access::Write) else {
            return;
        };
        if last.end < last.length && file.set_length(last.end).is_err() {
            return;
        }
        self.set_length(self.highest, last.end);
        self.found.retain(|number| *number != self.highest);
        self.end = Some(Position {
            segment: self.highest,
            offset: last.end,
        });
        self.present = Some(Present {
            number: self.highest,
            file: Arc::new(file),
            seal: Seal::new(&self.config.name, self.highest),
            length: last.end,
            synced: 0,
        });
    }

    /// Returns whether a segment is to be begun before the next record: there is none, it is full,
    /// or it was given up.
    pub fn needs_segment(&self) -> bool {
        let present = self.present.as_ref();
        present.is_none_or(|present| present.length >= self.config.segment_size)
    }

    /// Begins a segment with its header record, which should hold all that older segments would be
    /// needed for. It is possible at any time and does not depend on the limit, so that older
    /// segments can always be released. If it fails, the journal is as before.
    ///
    /// The error is of kind `TooLong`, `NoSpace`, `NoNumbers` or `Io`.
    pub fn begin_segment(&mut self, kind: u8, header: &[u8]) -> Result<Position, JournalError> {
        self.check_length(header)?;
        let Some(number) = following(self.highest) else {
            let what = format!("journal {} has no numbers left", self.config.name);
            return Err(JournalError::new(JournalErrorKind::NoNumbers, what));
        };
        let name = self.config.name.file(number);
        let file = match self.files.create(&name) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() == std::io::ErrorKind::AlreadyExists {
                    // Somebody has put it there. The next attempt is with another number.
                    self.highest = number;
                }
                return Err(JournalError::io(format!("cannot create {name}"), error));
            }
        };
        // A number is used once, so that nothing of this file can come back in another.
        self.highest = number;
        self.directory_changed = true;
        self.removal_failed = false;
        let seal = Seal::new(&self.config.name, number);
        self.scratch.clear();
        seal.put_header(&mut self.scratch);
        seal.put_record(FILE_HEADER, kind, header, &mut self.scratch);
        let length = self.scratch.len() as u64;
        if let Err(error) = file.write_at(&self.scratch, 0) {
            if self.files.remove(&name).is_err() {
                // It goes with the next release.
                self.set_length(number, file.length().unwrap_or(length));
            }
            return Err(JournalError::io(format!("cannot begin {name}"), error));
        }
        self.leave_present();
        self.set_length(number, length);
        self.end = Some(Position {
            segment: number,
            offset: length,
        });
        self.present = Some(Present {
            number,
            file: Arc::new(file),
            seal,
            length,
            synced: 0,
        });
        Ok(Position {
            segment: number,
            offset: FILE_HEADER,
        })
    }

    /// Appends a record. If it fails, nothing that was appended before is lost; the record itself
    /// may be found later if not even what was written of it could be cut off, which
    /// [`needs_segment`](Self::needs_segment) tells.
    ///
    /// The error is of kind `TooLong`, `NeedsSegment`, `Full`, `NoSpace` or `Io`.
    pub fn append(&mut self, kind: u8, bytes: &[u8]) -> Result<Position, JournalError> {
        self.check_length(bytes)?;
        let name = &self.config.name;
        let present = self.present.as_mut();
        let present = present.filter(|present| present.length < self.config.segment_size);
        let Some(present) = present else {
            let what = format!("journal {name} needs a new segment");
            return Err(JournalError::new(JournalErrorKind::NeedsSegment, what));
        };
        let added = RECORD_HEAD + bytes.len() as u64;
        if self.bytes.saturating_add(added) > self.config.limit {
            let what = format!("journal {name} has reached {} bytes", self.config.limit);
            return Err(JournalError::new(JournalErrorKind::Full, what));
        }
        let (number, offset) = (present.number, present.length);
        self.scratch.clear();
        present
            .seal
            .put_record(offset, kind, bytes, &mut self.scratch);
        if let Err(error) = present.file.write_at(&self.scratch, offset) {
            let what = format!("cannot append to {}", name.file(number));
            if present.file.set_length(offset).is_err() {
                let length = present.file.length().unwrap_or(offset + added);
                self.set_length(number, length);
                self.leave_present();
            }
            return Err(JournalError::io(what, error));
        }
        present.length += added;
        self.set_length(number, offset + added);
        self.end = Some(Position {
            segment: number,
            offset: offset + added,
        });
        Ok(Position {
            segment: number,
            offset,
        })
    }

    /// Says that segments before the one of this number are no longer needed. They are removed by
    /// [`synced`](Self::synced), after a sync that was taken from now on and that covers the header
    /// of the present segment. The present segment itself stays.
    pub fn release(&mut self, before: u64) {
        self.released = self.released.max(before);
        self.removal_failed = false;
    }

    /// Returns what is to be synced, on any thread, if there is anything. There is one at a time:
    /// the next is to be had after [`synced`](Self::synced) or
    /// [`sync_failed`](Self::sync_failed).
    pub fn take_unsynced(&mut self) -> Option<Unsynced<F>> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut parts = std::mem::take(&mut self.earlier);
        if let Some(present) = &self.present
            && present.synced < present.length
        {
            parts.push((present.number, Arc::clone(&present.file)));
        }
        let release = self.due();
        let through = self.end;
        let directory = std::mem::take(&mut self.directory_changed);
        let found = std::mem::take(&mut self.found);
        if parts.is_empty() && found.is_empty() && !directory && release == 0 {
            return None;
        }
        self.in_flight = Some(InFlight {
            segments: parts.iter().map(|(number, _)| *number).collect(),
        });
        Some(Unsynced {
            files: self.files.clone(),
            directory,
            found: found.iter().map(|it| self.config.name.file(*it)).collect(),
            parts: parts.into_iter().map(|(_, file)| file).collect(),
            synced: Synced { through, release },
        })
    }

    /// Takes note of a sync, and removes segments that were released. Returns the number of these.
    /// The error, of kind `Io`, is that of a removal, which is tried again after the next
    /// release or in the next segment.
    #[expect(clippy::needless_pass_by_value, reason = "a sync is made once")]
    pub fn synced(&mut self, synced: Synced) -> Result<u64, JournalError> {
        self.in_flight = None;
        let Synced { through, release } = synced;
        if let (Some(present), Some(through)) = (&mut self.present, through)
            && present.number == through.segment
        {
            present.synced = through.offset;
        }
        let due: Vec<u64> = self.segments.range(..release).map(|(it, _)| *it).collect();
        let (mut removed, mut failure) = (0, None);
        for number in due {
            let name = self.config.name.file(number);
            match self.files.remove(&name) {
                Ok(()) => self.directory_changed = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    self.removal_failed = true;
                    let error = JournalError::io(format!("cannot remove {name}"), error);
                    failure.get_or_insert(error);
                    continue;
                }
            }
            self.bytes -= self.segments.remove(&number).unwrap_or(0);
            removed += 1;
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Takes note that a sync has failed, or that it will never be made. Segments that it was to
    /// cover are given up: what they hold may or may not be found later, nothing is appended to
    /// them any more, and they are never synced again, because a second sync may succeed without
    /// having written anything. What was not synced is to be appended again, in a new segment.
    pub fn sync_failed(&mut self) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let is_covered = |number: &u64| in_flight.segments.contains(number);
        self.present.take_if(|present| is_covered(&present.number));
        self.earlier.retain(|(number, _)| !is_covered(number));
    }

    /// Returns the number of bytes that the journal's segments have.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of the oldest segment, if there is any.
    pub fn oldest(&self) -> Option<u64> {
        self.segments.keys().next().copied()
    }

    /// Returns the number of the segment that is appended to, if there is one.
    pub fn present(&self) -> Option<u64> {
        self.present.as_ref().map(|present| present.number)
    }

    /// Returns before which segment all may be removed once the present one is synced; 0 if there
    /// is none to remove.
    fn due(&self) -> u64 {
        let Some(present) = self.present() else {
            return 0;
        };
        let before = self.released.min(present);
        let any = self.oldest().is_some_and(|oldest| oldest < before);
        if any && !self.removal_failed {
            before
        } else {
            0
        }
    }

    /// Appends no more to the present segment. What it holds is still to be synced.
    fn leave_present(&mut self) {
        if let Some(present) = self.present.take()
            && present.synced < present.length
        {
            self.earlier.push((present.number, present.file));
        }
    }

    fn set_length(&mut self, segment: u64, length: u64) {
        let old = self.segments.insert(segment, length).unwrap_or(0);
        self.bytes = self.bytes - old + length;
    }

    fn check_length(&self, bytes: &[u8]) -> Result<(), JournalError> {
        let longest = self.config.longest_record;
        if u32::try_from(bytes.len()).is_ok_and(|length| length <= longest) {
            return Ok(());
        }
        let what = format!(
            "a record of {} bytes for journal {}, which takes {longest}",
            bytes.len(),
            self.config.name
        );
        Err(JournalError::new(JournalErrorKind::TooLong, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelFiles;

    fn config() -> JournalConfig {
        JournalConfig {
            segment_size: 200,
            longest_record: 100,
            ..JournalConfig::new(JournalName::new("spool").unwrap())
        }
    }

    fn open(files: &ModelFiles, config: JournalConfig) -> (Journal<ModelFiles>, Vec<Vec<u8>>) {
        let mut records = Vec::new();
        let visit = |it: Found<'_>| records.push(it.bytes.to_vec());
        let (journal, _) = Journal::open(files.clone(), config, visit).unwrap();
        (journal, records)
    }

    /// A journal with a segment, and its files.
    fn begun() -> (Journal<ModelFiles>, ModelFiles) {
        let files = ModelFiles::default();
        let (mut journal, _) = open(&files, config());
        journal.begin_segment(0, b"header").unwrap();
        (journal, files)
    }

    fn sync(journal: &mut Journal<ModelFiles>) -> u64 {
        let unsynced = journal.take_unsynced().unwrap();
        journal.synced(unsynced.sync().unwrap()).unwrap()
    }

    fn kind<T: fmt::Debug>(result: Result<T, JournalError>) -> JournalErrorKind {
        result.unwrap_err().kind()
    }

    /// What a process finds that comes after this one, without a loss of power.
    fn found(files: &ModelFiles) -> Vec<Vec<u8>> {
        let mut config = config();
        config.start = Start::AtOldest;
        open(&files.restart(), config).1
    }

    #[test]
    fn a_full_segment_is_followed_by_another() {
        let (mut journal, files) = begun();
        let mut last = None;
        while !journal.needs_segment() {
            last = Some(journal.append(1, &[7; 50]).unwrap());
        }
        assert_eq!(kind(journal.append(1, b"")), JournalErrorKind::NeedsSegment);
        assert_eq!(journal.begin_segment(0, b"next").unwrap().segment, 2);
        assert!(Some(journal.append(1, b"").unwrap()) > last);
        assert_eq!((journal.oldest(), journal.present()), (Some(1), Some(2)));
        let length = |name| files.content(name).unwrap().len() as u64;
        let sum = length("spool-0000000001.seg") + length("spool-0000000002.seg");
        assert_eq!(journal.bytes(), sum);
    }

    #[test]
    fn a_full_last_segment_is_not_gone_on_with() {
        let (mut journal, files) = begun();
        while !journal.needs_segment() {
            journal.append(1, &[7; 50]).unwrap();
        }
        let (mut journal, _) = open(&files.restart(), config());
        assert!(journal.needs_segment());
        assert_eq!(journal.begin_segment(0, b"next").unwrap().segment, 2);
    }

    #[test]
    fn records_have_a_longest() {
        let (mut journal, files) = begun();
        let before = journal.bytes();
        assert_eq!(
            kind(journal.append(1, &[0; 101])),
            JournalErrorKind::TooLong
        );
        assert_eq!(
            kind(journal.begin_segment(1, &[0; 101])),
            JournalErrorKind::TooLong
        );
        assert_eq!(journal.bytes(), before);
        journal.append(1, &[0; 100]).unwrap();
        assert_eq!(found(&files).len(), 2);
    }

    /// At the limit, a new segment lets the older ones go.
    #[test]
    fn a_full_journal_can_be_emptied() {
        let files = ModelFiles::default();
        let mut config = config();
        config.limit = 300;
        let (mut journal, _) = open(&files, config.clone());
        journal.begin_segment(0, b"header").unwrap();
        loop {
            if journal.needs_segment() {
                journal.begin_segment(0, b"header").unwrap();
            }
            let result = journal.append(1, &[1; 40]);
            assert!(journal.bytes() <= config.limit);
            if let Err(error) = result {
                assert_eq!(error.kind(), JournalErrorKind::Full);
                break;
            }
        }
        let next = journal.begin_segment(0, b"nothing is needed").unwrap();
        journal.release(next.segment);
        assert!(sync(&mut journal) > 0);
        journal.append(1, &[1; 40]).unwrap();
    }

    #[test]
    fn a_full_disk_costs_one_record() {
        let (mut journal, files) = begun();
        journal.append(1, b"before").unwrap();
        let bytes = journal.bytes();
        files.set_room(Some(10));
        assert_eq!(
            kind(journal.append(1, b"does not fit")),
            JournalErrorKind::NoSpace
        );
        assert_eq!((journal.bytes(), journal.needs_segment()), (bytes, false));
        files.set_room(Some(20));
        assert_eq!(
            kind(journal.begin_segment(0, b"header")),
            JournalErrorKind::NoSpace
        );
        assert_eq!((journal.bytes(), journal.present()), (bytes, Some(1)));
        files.set_room(None);
        journal.append(1, b"after").unwrap();
        assert_eq!(found(&files), [&b"header"[..], b"before", b"after"]);
        // Nothing is left of the segment that could not be begun, and its number is not used again.
        assert_eq!(files.content("spool-0000000002.seg"), None);
        assert_eq!(journal.begin_segment(0, b"").unwrap().segment, 3);
    }

    #[test]
    fn what_cannot_be_cut_off_ends_the_segment() {
        let (mut journal, files) = begun();
        journal.append(1, b"before").unwrap();
        files.fail(0, 2);
        assert_eq!(kind(journal.append(1, b"half of it")), JournalErrorKind::Io);
        assert!(journal.needs_segment());
        let length = files.content("spool-0000000001.seg").unwrap().len() as u64;
        assert_eq!(journal.bytes(), length);
        journal.begin_segment(0, b"next").unwrap();
        // What was appended before is synced with it.
        sync(&mut journal);
        let files = files.crash(&mut |_| 0);
        assert_eq!(found(&files), [&b"header"[..], b"before", b"next"]);
    }

    #[test]
    fn a_segment_that_cannot_be_begun_is_removed_later() {
        let (mut journal, files) = begun();
        // The write, and the removal.
        files.fail(1, 2);
        assert_eq!(
            kind(journal.begin_segment(0, b"header")),
            JournalErrorKind::Io
        );
        assert!(files.content("spool-0000000002.seg").is_some());
        journal.append(1, b"still here").unwrap();
        journal.begin_segment(0, b"next").unwrap();
        assert_eq!(journal.present(), Some(3));
        journal.release(3);
        assert_eq!(sync(&mut journal), 2);
        assert_eq!(files.content("spool-0000000002.seg"), None);
    }

    /// After a failed sync the kernel may take for written what is not: the same file again would
    /// succeed.
    #[test]
    fn a_failed_sync_ends_the_segment() {
        let (mut journal, files) = begun();
        let unsynced = journal.take_unsynced().unwrap();
        journal.append(1, b"after it was taken").unwrap();
        files.fail(0, 1);
        unsynced.sync().unwrap_err();
        journal.sync_failed();
        assert!(journal.needs_segment());
        assert_eq!(kind(journal.append(1, b"")), JournalErrorKind::NeedsSegment);
        assert!(journal.take_unsynced().is_none());
        journal.begin_segment(0, b"next").unwrap();
        sync(&mut journal);
        assert_eq!(files.violations(), Vec::<String>::new());
        assert_eq!(found(&files.crash(&mut |_| 0)), [b"next"]);
    }

    #[test]
    fn a_failed_sync_spares_the_segment_that_came_after() {
        let (mut journal, files) = begun();
        let unsynced = journal.take_unsynced().unwrap();
        journal.append(1, b"lost").unwrap();
        journal.begin_segment(0, b"next").unwrap();
        files.fail(0, 1);
        unsynced.sync().unwrap_err();
        journal.sync_failed();
        journal.append(1, b"kept").unwrap();
        sync(&mut journal);
        assert_eq!(files.violations(), Vec::<String>::new());
        assert_eq!(found(&files.crash(&mut |_| 0)), [&b"next"[..], b"kept"]);
    }

    #[test]
    fn there_is_one_sync_at_a_time() {
        let (mut journal, _files) = begun();
        let end = journal.end;
        let unsynced = journal.take_unsynced().unwrap();
        journal.append(1, b"more").unwrap();
        assert!(journal.take_unsynced().is_none());
        let synced = unsynced.sync().unwrap();
        assert_eq!(synced.through(), end);
        journal.synced(synced).unwrap();
        sync(&mut journal);
        assert!(journal.take_unsynced().is_none());
    }

    #[test]
    fn only_a_sync_lets_released_segments_go() {
        let (mut journal, files) = begun();
        sync(&mut journal);
        journal.begin_segment(0, b"next").unwrap();
        // Was taken before: it does not count.
        let unsynced = journal.take_unsynced().unwrap();
        journal.release(2);
        assert_eq!(journal.synced(unsynced.sync().unwrap()).unwrap(), 0);
        assert_eq!(journal.oldest(), Some(1));
        // Nothing else is to be synced; this lets it go.
        assert_eq!(sync(&mut journal), 1);
        assert_eq!(files.content("spool-0000000001.seg"), None);
        assert_eq!(journal.oldest(), Some(2));
        // That the file is gone is synced too.
        sync(&mut journal);
        assert!(journal.take_unsynced().is_none());
        assert_eq!(
            files.crash(&mut |_| 0).content("spool-0000000001.seg"),
            None
        );
    }

    #[test]
    fn the_present_segment_is_never_released() {
        let (mut journal, files) = begun();
        journal.release(u64::MAX);
        assert_eq!(sync(&mut journal), 0);
        assert_eq!(found(&files), [b"header"]);
        // The next one lets it go.
        journal.begin_segment(0, b"next").unwrap();
        assert_eq!(sync(&mut journal), 1);
        assert_eq!(found(&files), [b"next"]);
    }

    #[test]
    fn a_failed_removal_is_tried_again_later() {
        let (mut journal, files) = begun();
        journal.begin_segment(0, b"next").unwrap();
        journal.release(2);
        let synced = journal.take_unsynced().unwrap().sync().unwrap();
        files.fail(0, 1);
        assert_eq!(kind(journal.synced(synced)), JournalErrorKind::Io);
        assert!(journal.take_unsynced().is_none());
        assert_eq!(journal.oldest(), Some(1));
        journal.begin_segment(0, b"next").unwrap();
        assert_eq!(sync(&mut journal), 1);
        assert_eq!(journal.oldest(), Some(2));
    }

    /// Its process may have ended before it could sync it.
    #[test]
    fn what_was_found_is_synced_as_well() {
        let (mut journal, files) = begun();
        journal.append(1, b"first").unwrap();
        journal.begin_segment(0, b"next").unwrap();
        let files = files.restart();
        let mut config = config();
        config.start = Start::AtOldest;
        let (mut journal, records) = open(&files, config);
        assert_eq!(records.len(), 3);
        sync(&mut journal);
        assert_eq!(found(&files.crash(&mut |_| 0)).len(), 3);
    }

    #[test]
    fn opening_can_begin_at_the_newest_header() {
        let (mut journal, files) = begun();
        for header in [&b"second"[..], b"third"] {
            journal.append(1, b"record").unwrap();
            journal.begin_segment(0, header).unwrap();
        }
        // The header record of the third is damaged.
        let third = "spool-0000000003.seg";
        let mut bytes = files.content(third).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        files.put(third, &bytes);
        let mut records = Vec::new();
        let visit = |it: Found<'_>| records.push(it.bytes.to_vec());
        let (journal, opened) = Journal::open(files.clone(), config(), visit).unwrap();
        assert_eq!(records, [&b"second"[..], b"record"]);
        assert_eq!((opened.segments, opened.passed_over), (3, 1));
        assert_eq!((journal.oldest(), journal.present()), (Some(1), None));
        assert_eq!(found(&files).len(), 4);
    }

    /// Where nothing but a record in the middle tells that it is a segment, that is enough, whether it
    /// is read or passed over.
    #[test]
    fn a_segment_without_a_beginning_is_released_like_others() {
        let (mut journal, files) = begun();
        journal.append(1, b"record").unwrap();
        let first = "spool-0000000001.seg";
        let mut bytes = files.content(first).unwrap();
        bytes[..35].fill(0xaa);
        files.put(first, &bytes);
        for start in [Start::AtOldest, Start::AtNewestHeader] {
            let config = JournalConfig { start, ..config() };
            let (journal, opened) = Journal::open(files.clone(), config, |_| {}).unwrap();
            assert_eq!((opened.segments, opened.foreign.len()), (1, 0));
            assert_eq!(journal.bytes(), bytes.len() as u64);
        }
        let (mut journal, _) = open(&files, config());
        journal.begin_segment(0, b"next").unwrap();
        let (mut journal, records) = open(&files, config());
        assert_eq!(records, [b"next"]);
        journal.release(2);
        assert_eq!(sync(&mut journal), 1);
    }

    /// A crash may leave a file without its first bytes; it goes with the others.
    #[test]
    fn a_file_that_was_just_created_is_ours() {
        for left in [&b""[..], b"MUST", &[0; 100]] {
            let (_, files) = begun();
            files.put("spool-0000000002.seg", left);
            let (mut journal, records) = open(&files, config());
            assert_eq!(records, [b"header"]);
            assert!(journal.needs_segment());
            journal.begin_segment(0, b"next").unwrap();
            journal.release(3);
            assert_eq!(sync(&mut journal), 2);
        }
    }

    #[test]
    fn numbers_can_be_used_up() {
        let files = ModelFiles::default();
        files.put("spool-9999999999.seg", b"a letter, say");
        let (mut journal, _) = open(&files, config());
        assert_eq!(
            kind(journal.begin_segment(0, b"")),
            JournalErrorKind::NoNumbers
        );
    }

    #[test]
    fn a_file_that_appears_is_not_overwritten() {
        let (mut journal, files) = begun();
        files.put("spool-0000000002.seg", b"a letter, say");
        assert_eq!(kind(journal.begin_segment(0, b"")), JournalErrorKind::Io);
        assert_eq!(journal.begin_segment(0, b"").unwrap().segment, 3);
        assert_eq!(
            files.content("spool-0000000002.seg").unwrap(),
            b"a letter, say"
        );
    }
}
