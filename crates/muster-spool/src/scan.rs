//! Reading a segment, whatever is in it.

use std::io;
use std::ops::AddAssign;

use crate::files::SegmentFile;
use crate::format::{FILE_HEADER, Header, RECORD_HEAD, RecordHead, Seal};
use crate::{Found, Position};

/// So many bytes are read at once, or as many as a record has.
const BLOCK: u64 = 64 << 10;

/// The search for whole records in a damaged segment looks at so many times its bytes. Random bytes
/// have a plausible length so rarely, and numbers have such small ones, that it ends far earlier.
const SEARCH: u64 = 64;

/// And at no more than these, however long a file is.
const LONGEST_SEARCH: u64 = 1 << 30;

/// Records that are not whole, by what is wrong with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BadRecords {
    /// The length may be right, and the checksum is not. Such a record costs itself.
    pub checksum: u64,
    /// The length cannot be right: this counts the places, each of which may have been several
    /// records. What follows was found by search.
    pub length: u64,
    /// No whole record follows, to the end of the segment.
    pub cut: u64,
}

impl BadRecords {
    /// Returns the number of all.
    pub fn total(self) -> u64 {
        self.checksum + self.length + self.cut
    }
}

impl AddAssign for BadRecords {
    fn add_assign(&mut self, other: Self) {
        let Self {
            checksum,
            length,
            cut,
        } = other;
        self.checksum += checksum;
        self.length += length;
        self.cut += cut;
    }
}

/// What a segment was found to be.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) header: Header,
    /// Whether the header record is whole.
    pub(crate) first: bool,
    pub(crate) records: u64,
    pub(crate) bad: BadRecords,
    pub(crate) skipped: u64,
    /// The offset behind the last whole record.
    pub(crate) end: u64,
    /// The length of the file.
    pub(crate) length: u64,
    /// Whether all of it was looked at, so that there is nothing behind the end.
    pub(crate) complete: bool,
    /// What has ended the reading early.
    pub(crate) error: Option<io::ErrorKind>,
}

impl Scan {
    /// Returns whether this is a segment of the journal.
    pub(crate) fn is_ours(&self) -> bool {
        match self.header {
            Header::Whole => true,
            Header::Foreign => false,
            Header::Unwritten => self.error.is_none() || self.records > 0,
            Header::Damaged => self.records > 0,
        }
    }
}

/// What is at an offset.
enum Place {
    /// A whole record, which ends here.
    Whole { kind: u8, end: u64 },
    /// A record with a wrong checksum, which would end here.
    Checksum { end: u64 },
    /// No record.
    Nothing,
}

/// Reads a segment and tells of its records.
pub(crate) fn scan<F: SegmentFile>(
    file: &F,
    seal: &Seal,
    segment: u64,
    longest: u32,
    visit: &mut impl FnMut(Found<'_>),
) -> Scan {
    let mut scan = Scan {
        header: Header::Damaged,
        first: false,
        records: 0,
        bad: BadRecords::default(),
        skipped: 0,
        end: 0,
        length: 0,
        complete: false,
        error: None,
    };
    if let Err(error) = scan.run(file, seal, segment, longest, visit) {
        scan.error = Some(error.kind());
    }
    scan
}

/// Reads the record at an offset of a segment: its kind and its bytes. Returns `None` if there is no whole record.
pub(crate) fn record<F: SegmentFile>(
    file: &F,
    seal: &Seal,
    offset: u64,
    longest: u32,
) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut segment = Segment::open(file, seal, longest)?;
    let Place::Whole { kind, end } = segment.look(offset)? else {
        return Ok(None);
    };
    let bytes = segment.bytes(offset + RECORD_HEAD, end - offset - RECORD_HEAD)?;
    Ok(Some((kind, bytes.to_vec())))
}

/// What the beginning of a segment tells.
pub(crate) struct Beginning {
    /// Whether this is a segment of the journal.
    pub(crate) is_ours: bool,
    /// Whether the header record is whole.
    pub(crate) first: bool,
    /// The length of the file.
    pub(crate) length: u64,
}

/// Reads the beginning of a segment alone: the file header, and the header record if that is asked
/// for or if the file header does not tell enough.
pub(crate) fn beginning<F: SegmentFile>(
    file: &F,
    seal: &Seal,
    longest: u32,
    wants_record: bool,
) -> io::Result<Beginning> {
    let mut segment = Segment::open(file, seal, longest)?;
    let header = segment.header()?;
    let length = segment.length;
    let looks = match header {
        Header::Whole => wants_record,
        Header::Foreign => false,
        Header::Unwritten | Header::Damaged => true,
    };
    let first = looks && matches!(segment.look(FILE_HEADER)?, Place::Whole { .. });
    Ok(Beginning {
        is_ours: first || matches!(header, Header::Whole | Header::Unwritten),
        first,
        length,
    })
}

impl Scan {
    fn run<F: SegmentFile>(
        &mut self,
        file: &F,
        seal: &Seal,
        number: u64,
        longest: u32,
        visit: &mut impl FnMut(Found<'_>),
    ) -> io::Result<()> {
        let mut segment = Segment::open(file, seal, longest)?;
        let length = segment.length;
        self.length = length;
        self.header = segment.header()?;
        if self.header == Header::Foreign {
            return Ok(());
        }
        self.end = FILE_HEADER.min(length);
        let mut budget = length.saturating_mul(SEARCH).min(LONGEST_SEARCH);
        let mut offset = FILE_HEADER;
        while offset < length {
            let Place::Whole { kind, end } = segment.look(offset)? else {
                match self.pass(&mut segment, offset, &mut budget)? {
                    Some(next) => offset = next,
                    None => break,
                }
                continue;
            };
            let bytes = segment.bytes(offset + RECORD_HEAD, end - offset - RECORD_HEAD)?;
            visit(Found {
                position: Position {
                    segment: number,
                    offset,
                },
                kind,
                bytes,
            });
            self.first |= offset == FILE_HEADER;
            self.records += 1;
            self.end = end;
            offset = end;
        }
        self.complete = budget > 0;
        Ok(())
    }

    /// Passes over a place without a whole record. Returns where the next one begins, if there is
    /// any. It has looked in vain for it everywhere unless the budget is used up.
    fn pass<F: SegmentFile>(
        &mut self,
        segment: &mut Segment<'_, F>,
        from: u64,
        budget: &mut u64,
    ) -> io::Result<Option<u64>> {
        // From one length to the next, as long as they are plausible: damage has mostly left them
        // alone. What is inside of records is not looked at.
        let (mut at, mut passed) = (from, 0);
        while *budget > 0 {
            match segment.look(at)? {
                Place::Whole { .. } => {
                    self.bad.checksum += passed;
                    self.skipped += at - from;
                    return Ok(Some(at));
                }
                Place::Checksum { end } => {
                    *budget = budget.saturating_sub(end - at);
                    passed += 1;
                    at = end;
                }
                Place::Nothing => break,
            }
        }
        let reaches_the_end = at == segment.length;
        // A length was wrong.
        for at in from + 1..segment.length {
            if *budget == 0 {
                break;
            }
            match segment.look(at)? {
                Place::Whole { .. } => {
                    self.bad.length += 1;
                    self.skipped += at - from;
                    return Ok(Some(at));
                }
                Place::Checksum { end } => *budget = budget.saturating_sub(end - at),
                Place::Nothing => *budget -= 1,
            }
        }
        match (*budget, reaches_the_end) {
            (0, _) => self.bad.length += 1,
            (_, true) => self.bad.checksum += passed,
            (_, false) => self.bad.cut += 1,
        }
        self.skipped += segment.length - from;
        Ok(None)
    }
}

/// A segment that is being read, a part of it in memory.
struct Segment<'a, F> {
    file: &'a F,
    seal: &'a Seal,
    longest: u32,
    length: u64,
    /// The offset of the part that is in memory.
    start: u64,
    part: Vec<u8>,
}

impl<'a, F: SegmentFile> Segment<'a, F> {
    fn open(file: &'a F, seal: &'a Seal, longest: u32) -> io::Result<Self> {
        Ok(Self {
            file,
            seal,
            longest,
            length: file.length()?,
            start: 0,
            part: Vec::new(),
        })
    }

    fn header(&mut self) -> io::Result<Header> {
        let seal = self.seal;
        let bytes = self.bytes(0, FILE_HEADER.min(self.length))?;
        Ok(seal.judge(bytes))
    }

    /// Looks for a record at an offset.
    fn look(&mut self, offset: u64) -> io::Result<Place> {
        let rest = self.length.saturating_sub(offset);
        if rest < RECORD_HEAD {
            return Ok(Place::Nothing);
        }
        let mut head = [0; 9];
        head.copy_from_slice(self.bytes(offset, RECORD_HEAD)?);
        let head = RecordHead::read(head);
        let length = u64::from(head.length);
        if head.length > self.longest || RECORD_HEAD + length > rest {
            return Ok(Place::Nothing);
        }
        let end = offset + RECORD_HEAD + length;
        let seal = self.seal;
        let bytes = self.bytes(offset + RECORD_HEAD, length)?;
        if seal.checksum(offset, head.length, head.kind, bytes) == head.checksum {
            return Ok(Place::Whole {
                kind: head.kind,
                end,
            });
        }
        if head.is_hole() {
            return Ok(Place::Nothing);
        }
        Ok(Place::Checksum { end })
    }

    /// Returns bytes of the file. They are within its length.
    fn bytes(&mut self, offset: u64, length: u64) -> io::Result<&[u8]> {
        let end = offset + length;
        if offset < self.start || end > self.start + self.part.len() as u64 {
            self.load(offset, end)?;
        }
        let from = memory(offset - self.start)?;
        self.part
            .get(from..from + memory(length)?)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Brings the bytes from an offset on into memory.
    fn load(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let known = self.start + self.part.len() as u64;
        if (self.start..known).contains(&offset) {
            self.part.drain(..memory(offset - self.start)?);
        } else {
            self.part.clear();
        }
        self.start = offset;
        let mut filled = self.part.len();
        let wanted = end.max(offset + filled as u64 + BLOCK).min(self.length);
        self.part.resize(memory(wanted - offset)?, 0);
        while filled < self.part.len() {
            let read = self
                .file
                .read_at(&mut self.part[filled..], offset + filled as u64);
            match read {
                // Somebody has cut the file.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.part.truncate(filled);
                    return Err(error);
                }
            }
        }
        self.part.truncate(filled);
        Ok(())
    }
}

fn memory(length: u64) -> io::Result<usize> {
    usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Access, Files};
    use crate::model::ModelFiles;
    use crate::{Journal, JournalConfig, JournalName};

    /// However long the segment is, and whatever it says.
    #[test]
    fn memory_is_bounded_by_a_record() {
        let name = JournalName::new("spool").unwrap();
        let longest = 200_000;
        let mut config = JournalConfig::new(name.clone());
        config.longest_record = longest;
        let files = ModelFiles::default();
        let (mut journal, _) = Journal::open(files.clone(), config, |_| {}).unwrap();
        journal.begin_segment(0, b"").unwrap();
        for length in [0, 1000, 200_000, 70_000].repeat(10) {
            journal.append(1, &vec![1; length]).unwrap();
        }
        let file = files.open(&name.file(1), Access::Read).unwrap();
        let seal = Seal::new(&name, 1);
        let mut segment = Segment::open(&file, &seal, longest).unwrap();
        assert!(segment.length > 2_000_000);
        let (mut records, mut offset) = (0, FILE_HEADER);
        while let Place::Whole { end, .. } = segment.look(offset).unwrap() {
            offset = end;
            records += 1;
            assert!(segment.part.len() as u64 <= u64::from(longest) + RECORD_HEAD + BLOCK);
        }
        assert_eq!((records, offset), (41, segment.length));
        // At every offset, as a search does.
        for offset in 0..100_000 {
            segment.look(offset).unwrap();
        }
        assert!(segment.part.len() as u64 <= u64::from(longest) + RECORD_HEAD + BLOCK);
    }
}
