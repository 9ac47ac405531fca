//! What a directory holds of a journal.

use std::collections::BTreeMap;
use std::io;

use crate::files::{Access, Files, SegmentFile};
use crate::format::Seal;
use crate::scan::{self, Scan};
use crate::{BadRecords, JournalConfig, JournalError, Position, Start};

/// A record that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where it is.
    pub position: Position,
    /// The kind that it was appended with.
    pub kind: u8,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What was found of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// The number of whole records that the visitor was told of.
    pub records: u64,
    /// Records that are not whole.
    pub bad: BadRecords,
    /// The bytes that no whole record has. A torn end is among them, file headers are not.
    pub skipped: u64,
    /// The number of segments, those that were passed over included.
    pub segments: u64,
    /// The number of older segments that were passed over, see [`Start::AtNewestHeader`].
    pub passed_over: u64,
    /// Files with a name of this journal that are not its segments, by number: of another version,
    /// renamed, or something else. They are never touched.
    pub foreign: Vec<u64>,
    /// Segments that cannot be read, or not to the end.
    pub unreadable: Vec<Unreadable>,
}

/// A segment that cannot be read, or not to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// Its number.
    pub segment: u64,
    /// Why.
    pub error: io::ErrorKind,
}

/// What a directory holds of a journal, and how it can go on.
pub(crate) struct Directory {
    pub(crate) opened: Opened,
    /// The journal's segments and their lengths.
    pub(crate) segments: BTreeMap<u64, u64>,
    /// Those that were read.
    pub(crate) read: Vec<u64>,
    /// The highest number that a file has, or 0.
    pub(crate) highest: u64,
    /// The segment with the highest number, if it was read.
    pub(crate) last: Option<Scan>,
}

/// Reads a journal. Changes nothing.
pub(crate) fn read<F: Files>(
    files: &F,
    config: &JournalConfig,
    visit: &mut impl FnMut(Found<'_>),
) -> Result<Directory, JournalError> {
    let name = &config.name;
    let names = files.list().map_err(|error| {
        JournalError::io(format!("cannot list the segments of journal {name}"), error)
    })?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|file| name.segment(file)).collect();
    numbers.sort_unstable();
    let mut directory = Directory {
        opened: Opened::default(),
        segments: BTreeMap::new(),
        read: Vec::new(),
        highest: numbers.last().copied().unwrap_or(0),
        last: None,
    };
    let start = match config.start {
        Start::AtOldest => 0,
        Start::AtNewestHeader => newest_header(files, config, &numbers),
    };
    for number in numbers {
        let seal = Seal::new(name, number);
        let opened = files.open(&name.file(number), Access::Read);
        let opened = opened.and_then(|file| {
            if number < start {
                directory.pass_over(number, &file, &seal, config)
            } else {
                directory.scan(number, &file, &seal, config, visit);
                Ok(())
            }
        });
        match opened {
            // Its process has removed it meanwhile, as it may while another one reads.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => directory.unreadable(number, error.kind()),
            Ok(()) => {}
        }
    }
    Ok(directory)
}

/// Returns the newest segment whose header record is whole. Without one, everything is of interest.
fn newest_header<F: Files>(files: &F, config: &JournalConfig, numbers: &[u64]) -> u64 {
    let is_whole = |number: u64| {
        let file = files.open(&config.name.file(number), Access::Read)?;
        let seal = Seal::new(&config.name, number);
        scan::beginning(&file, &seal, config.longest_record, true)
    };
    let newest = numbers.iter().rev().find(|number| {
        // What cannot be read is told of later.
        is_whole(**number).is_ok_and(|beginning| beginning.first)
    });
    newest.copied().unwrap_or(0)
}

impl Directory {
    fn pass_over<F: SegmentFile>(
        &mut self,
        number: u64,
        file: &F,
        seal: &Seal,
        config: &JournalConfig,
    ) -> io::Result<()> {
        let longest = config.longest_record;
        let beginning = scan::beginning(file, seal, longest, false)?;
        // Where the beginning is damaged, any record tells.
        let is_ours =
            || beginning.is_ours || scan::scan(file, seal, number, longest, &mut |_| {}).is_ours();
        if is_ours() {
            self.segments.insert(number, beginning.length);
            self.opened.segments += 1;
            self.opened.passed_over += 1;
        } else {
            self.opened.foreign.push(number);
        }
        Ok(())
    }

    fn scan<F: SegmentFile>(
        &mut self,
        number: u64,
        file: &F,
        seal: &Seal,
        config: &JournalConfig,
        visit: &mut impl FnMut(Found<'_>),
    ) {
        let scan = scan::scan(file, seal, number, config.longest_record, visit);
        if scan.is_ours() {
            self.opened.records += scan.records;
            self.opened.bad += scan.bad;
            self.opened.skipped += scan.skipped;
            self.opened.segments += 1;
            self.segments.insert(number, scan.length);
            self.read.push(number);
        } else if scan.error.is_none() {
            self.opened.foreign.push(number);
        }
        if let Some(error) = scan.error {
            self.unreadable(number, error);
        }
        if number == self.highest {
            self.last = Some(scan);
        }
    }

    fn unreadable(&mut self, segment: u64, error: io::ErrorKind) {
        self.opened.unreadable.push(Unreadable { segment, error });
    }
}
