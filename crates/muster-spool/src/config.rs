//! How a journal is to be, and places in it.

use std::fmt;

use crate::JournalName;

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
