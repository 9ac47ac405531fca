//! How far a node has read its logs, in a file that outlives it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::open::FileId;
use crate::zeek_log::Place;

/// The most files whose positions are kept.
pub(in super::super) const MOST_POSITIONS: usize = 4096;

/// The largest file of positions that is read.
const LARGEST: u64 = 16 << 20;

/// The bytes by which a file is recognised: a system gives the number of a removed file to another.
const HEAD: usize = 256;

/// The version of the file's format.
const VERSION: u32 = 1;

/// How far a file was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// Its name when it was last looked at.
    pub(super) path: PathBuf,
    pub(super) place: Place,
    /// The file had at least so many bytes.
    pub(super) size: u64,
    pub(super) head: Head,
}

/// The first bytes of a file, by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Head {
    length: usize,
    hash: u64,
}

impl Head {
    /// The head of a file, or as much as there is of it.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Self::read(path, HEAD)
    }

    fn read(path: &Path, most: usize) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(most);
        File::open(path)?
            .take(most as u64)
            .read_to_end(&mut bytes)?;
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Ok(Self {
            length: bytes.len(),
            hash: bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix),
        })
    }

    /// Whether more of the file may tell it better.
    pub(super) fn is_short(self) -> bool {
        self.length < HEAD
    }

    /// Whether a file begins so.
    pub(super) fn is_of(self, path: &Path) -> bool {
        self.length <= HEAD && Self::read(path, self.length).is_ok_and(|head| head == self)
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    files: Vec<WrittenPosition>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPosition {
    path: PathBuf,
    device: u64,
    inode: u64,
    header: (u64, u64),
    offset: u64,
    line: u64,
    size: u64,
    head: Head,
}

/// Reads the positions that another life has left; none if there is no such file.
pub(super) fn load(path: &Path) -> io::Result<HashMap<FileId, Position>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LARGEST).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(error),
    };
    let written: Written = serde_json::from_slice(&bytes)?;
    if written.version != VERSION {
        let problem = format!("version {} is not known", written.version);
        return Err(io::Error::other(problem));
    }
    let position = |written: WrittenPosition| {
        let id = FileId {
            device: written.device,
            inode: written.inode,
        };
        let place = Place {
            header: written.header.0..written.header.1,
            offset: written.offset,
            line: written.line,
        };
        let position = Position {
            path: written.path,
            place,
            size: written.size,
            head: written.head,
        };
        (id, position)
    };
    Ok(written
        .files
        .into_iter()
        .take(MOST_POSITIONS)
        .map(position)
        .collect())
}

/// Writes positions, all or nothing.
pub(super) fn store<'a>(
    path: &Path,
    positions: impl Iterator<Item = (FileId, &'a Position)>,
) -> io::Result<()> {
    let files = positions
        .take(MOST_POSITIONS)
        .map(|(id, position)| WrittenPosition {
            path: position.path.clone(),
            device: id.device,
            inode: id.inode,
            header: (position.place.header.start, position.place.header.end),
            offset: position.place.offset,
            line: position.place.line,
            size: position.size,
            head: position.head,
        });
    let written = Written {
        version: VERSION,
        files: files.collect(),
    };
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&written)?)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}
