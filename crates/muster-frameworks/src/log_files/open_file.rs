//! The current file of a stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use muster_data::Timestamp;

use super::names::parse_time_text;

/// How much of a leftover is searched for the time at which it was opened.
const HEADER_BYTES: u64 = 4096;

/// A file that only grows, by whole lines.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    path: PathBuf,
    /// The bytes of whole lines.
    length: u64,
    /// Behind them is a piece of a line that could not be cut off.
    is_torn: bool,
}

/// Where an open file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// At its path.
    InPlace,
    /// Somewhere else, with all that is in it.
    Moved,
    /// Nowhere: with the last process that has it open it is gone.
    Removed,
}

impl OpenFile {
    /// Makes a file that does not exist yet, and writes its first lines.
    pub(super) fn create(path: PathBuf, header: &[u8]) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)?;
        let mut open = Self {
            file,
            path,
            length: 0,
            is_torn: false,
        };
        if let Err((_, error)) = open.append(header, &[header.len()]) {
            // Without a whole header it is of no use. If it stays, it is rotated away.
            let _ = std::fs::remove_file(&open.path);
            return Err(error);
        }
        Ok(open)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of whole lines.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Cuts off what is behind a place. Returns `false` if that is not possible.
    pub(super) fn cut(&mut self, length: u64) -> bool {
        let is_cut = self.file.set_len(length).is_ok();
        if is_cut {
            (self.length, self.is_torn) = (length, false);
        }
        is_cut
    }

    /// Makes safe what was written: behind it a power failure loses nothing of it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Looks where the file is. Where the system does not say, it is in place.
    pub(super) fn whereabouts(&self) -> Whereabouts {
        let Ok(own) = self.file.metadata() else {
            return Whereabouts::InPlace;
        };
        match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (own.dev(), own.ino()) => {
                return Whereabouts::InPlace;
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Whereabouts::InPlace,
            _ => {}
        }
        if own.nlink() == 0 {
            Whereabouts::Removed
        } else {
            Whereabouts::Moved
        }
    }

    /// Appends lines in one write, as far as the system goes along; `ends` tells where each line
    /// ends. An error comes with the number of lines that are in the file; no piece of another is.
    pub(super) fn append(
        &mut self,
        lines: &[u8],
        ends: &[usize],
    ) -> Result<(), (usize, io::Error)> {
        if self.is_torn {
            self.file.write_all(b"\n").map_err(|error| (0, error))?;
            self.is_torn = false;
            self.length = self.file.metadata().map_err(|error| (0, error))?.len();
        }
        let mut done = 0;
        while done < lines.len() {
            let error = match self.file.write(&lines[done..]) {
                Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
                Ok(count) => {
                    done += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let whole = ends.partition_point(|end| *end <= done);
            let kept = whole.checked_sub(1).map_or(0, |last| ends[last]);
            self.length += kept as u64;
            self.is_torn = done > kept && self.file.set_len(self.length).is_err();
            return Err((whole, error));
        }
        self.length += lines.len() as u64;
        Ok(())
    }
}

/// What an earlier life has left, ready to be moved away.
#[derive(Debug)]
pub(super) struct Leftover {
    /// When it was opened, by its header, or else when it was changed last.
    pub(super) opened: Timestamp,
    /// When it was changed last.
    pub(super) changed: Timestamp,
}

impl Leftover {
    /// Looks at a file that may be there, and ends its last line if that is torn.
    pub(super) fn find(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match OpenOptions::new().read(true).append(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let changed = Timestamp::from(file.metadata()?.modified()?);
        let mut header = Vec::new();
        (&file).take(HEADER_BYTES).read_to_end(&mut header)?;
        let opened = opened(&header).unwrap_or(changed);
        if !header.is_empty() {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Some(Self {
            opened: opened.min(changed),
            changed,
        }))
    }
}

/// The time in a TSV header.
fn opened(header: &[u8]) -> Option<Timestamp> {
    let line = header
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"#open\t"))?;
    parse_time_text(std::str::from_utf8(line).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> OpenFile {
        OpenFile {
            file: OpenOptions::new().append(true).open(path).unwrap(),
            path: path.to_owned(),
            length: std::fs::metadata(path).unwrap().len(),
            is_torn: false,
        }
    }

    #[test]
    fn lines_go_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.log");
        let mut file = OpenFile::create(path.clone(), b"#h\n").unwrap();
        file.append(b"a\nbc\n", &[2, 5]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"#h\na\nbc\n");
        assert_eq!(file.length, 8);
        let error = OpenFile::create(path, b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_piece_that_could_not_be_cut_off_gets_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.log");
        std::fs::write(&path, "a\nb").unwrap();
        let mut file = open(&path);
        file.is_torn = true;
        file.append(b"c\n", &[2]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a\nb\nc\n");
        assert_eq!((file.length, file.is_torn), (6, false));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_nothing_is_written() {
        let mut file = open(Path::new("/dev/full"));
        let (written, error) = file.append(b"a\nb\n", &[2, 4]).unwrap_err();
        assert_eq!((written, error.kind()), (0, io::ErrorKind::StorageFull));
        assert_eq!((file.length, file.is_torn), (0, false));
    }
}
