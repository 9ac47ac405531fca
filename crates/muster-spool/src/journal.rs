//! A journal that is appended to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::files::{Access, Files, SegmentFile};
use crate::format::{FILE_HEADER, Header, RECORD_HEAD, Seal};
use crate::name::following;
use crate::sync::InFlight;
use crate::{
    Found, JournalConfig, JournalError, JournalErrorKind, Opened, Position, Synced, Unsynced,
    opening, scan,
};

/// A journal that is appended to. Nothing is durable before it was synced: see
/// [`take_unsynced`](Self::take_unsynced).
#[derive(Debug)]
pub struct Journal<F: Files> {
    files: F,
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
    fn go_on(&mut self, last: &scan::Scan) {
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

    /// Reads a record of this journal: its kind and its bytes.
    ///
    /// The error is of kind `Damaged` if there is no whole record at this place, or `Io`.
    pub fn get(&self, position: Position) -> Result<(u8, Vec<u8>), JournalError> {
        let Position { segment, offset } = position;
        let name = self.config.name.file(segment);
        let seal = Seal::new(&self.config.name, segment);
        let longest = self.config.longest_record;
        let present = self.present.as_ref();
        let record = match present.filter(|present| present.number == segment) {
            Some(present) => scan::record(&*present.file, &seal, offset, longest),
            None => self
                .files
                .open(&name, Access::Read)
                .and_then(|file| scan::record(&file, &seal, offset, longest)),
        };
        match record {
            Ok(Some(record)) => Ok(record),
            Ok(None) => {
                let what = format!("there is no whole record at {offset} of {name}");
                Err(JournalError::new(JournalErrorKind::Damaged, what))
            }
            Err(error) => Err(JournalError::io(format!("cannot read {name}"), error)),
        }
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
                    failure = Some(error);
                    // Later ones may say what of this one is not needed.
                    break;
                }
            }
            self.bytes -= self.segments.remove(&number).unwrap_or(0);
            removed += 1;
        }
        failure.map_or(Ok(removed), Err)
    }

    /// Takes note that a sync has failed, or that it will never be made. Segments that it was to
    /// cover are given up: nothing is appended to them any more, and they are never synced again,
    /// because a second sync may succeed without having written anything. What they hold that was
    /// not synced before, also what was appended to them since, may or may not be found later. It is
    /// to be appended again, in a new segment.
    pub fn sync_failed(&mut self) {
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let is_covered = |number: &u64| in_flight.segments.contains(number);
        let given_up = self.present.take_if(|present| is_covered(&present.number));
        if given_up.is_some() {
            self.end = None;
        }
        self.earlier.retain(|(number, _)| !is_covered(number));
    }

    /// Sets to how many bytes records may bring the journal from now on, as [`JournalConfig::limit`] does at first.
    pub fn set_limit(&mut self, limit: u64) {
        self.config.limit = limit;
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
mod tests;
