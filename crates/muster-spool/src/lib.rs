//! A journal of records in the segment files of one directory. Nothing else is kept beside them.
//!
//! A record is a kind, which is a number of the caller's, and bytes. [`Journal::open`] tells of all
//! whole records, and says what else it found: damage is counted, and costs the records that it
//! hit. [`Journal::append`] writes a record at the end. It is durable when a sync has covered it,
//! which any thread can make:
//!
//! ```
//! use muster_spool::{DiskFiles, Journal, JournalConfig, JournalName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let config = JournalConfig::new(JournalName::new("spool")?);
//! let files = DiskFiles::open(directory)?;
//! let (mut journal, _) = Journal::open(files, config.clone(), |_| {})?;
//! if journal.needs_segment() {
//!     journal.begin_segment(0, b"nothing has been sent")?;
//! }
//! journal.append(1, b"a batch")?;
//! let unsynced = journal.take_unsynced().expect("a record was appended");
//! match std::thread::spawn(|| unsynced.sync()).join().expect("no panic") {
//!     Ok(synced) => drop(journal.synced(synced)?),
//!     Err(_) => journal.sync_failed(),
//! }
//! drop(journal);
//!
//! // A tool that shows what a process has left.
//! let mut seen = Vec::new();
//! let opened = muster_spool::read(directory, &config, |found| {
//!     seen.push((found.kind, found.bytes.to_vec()));
//! })?;
//! assert_eq!(seen, [(0, b"nothing has been sent".to_vec()), (1, b"a batch".to_vec())]);
//! assert_eq!(opened.bad.total(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Segments
//!
//! Every segment begins with a *header record* of the caller, which holds all that older segments
//! would be needed for. So older segments can go: [`Journal::release`] says which ones, and they are
//! removed after a sync that covers the header of the present segment, never before. And so opening
//! can begin at the newest segment whose header record is whole ([`Start::AtNewestHeader`]).
//!
//! Only the last segment is appended to, and only if there is nothing wrong with it but its end,
//! which is cut off first. A segment is given up when a sync has failed, because a second sync may
//! succeed without having written anything, and when what is left of a failed write cannot be cut
//! off. What comes next needs a new segment then ([`Journal::needs_segment`]).
//!
//! # Format
//!
//! The file of segment 7 of journal `spool` is `spool-0000000007.seg`. Integers are big-endian. The
//! checksum is CRC-32 as in zlib; it begins with the journal's name as text, and with what else the
//! tables say. A file begins with
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `MUSTRSPL` |
//! | 8 | 4 | version: 1 |
//! | 12 | 8 | number of the segment |
//! | 20 | 4 | checksum of the name, and of these 20 bytes |
//!
//! Records follow without gaps, each of which is
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | length of its bytes |
//! | 4 | 4 | checksum of the name; the number of the segment and the record's offset in the file, 8 bytes each; the length; the kind; its bytes |
//! | 8 | 1 | kind |
//! | 9 | length | its bytes |
//!
//! The checksum fits at one place of one file, so that neither a record that was copied elsewhere
//! nor what an older file has left on the disk is taken for one that was appended.
//!
//! # Damage
//!
//! Where a record is not whole, reading goes on behind it if its length is plausible and leads to
//! another record; several in a row may have wrong checksums. Where that leads nowhere, every offset
//! is tried until a whole record is found. The work of that is bounded by the size of the file
//! ([`BadRecords`] tells what was found). A file header that is damaged does not matter if there is
//! a whole record. A file without one is a segment only if its header is whole or if it was left
//! behind by a crash while it was created; everything else is [foreign](Opened::foreign).

mod config;
mod disk;
mod error;
mod files;
mod format;
mod journal;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod name;
mod opening;
mod scan;
mod sync;

pub use config::{JournalConfig, Position, Start};
pub use disk::{DiskFile, DiskFiles, read};
pub use error::{JournalError, JournalErrorKind};
pub use files::{Access, Files, SegmentFile};
pub use journal::Journal;
pub use name::JournalName;
pub use opening::{Found, Opened, Unreadable};
pub use scan::BadRecords;
pub use sync::{Synced, Unsynced};
