//! How far a node has read its logs, in a file that outlives it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::open::FileId;
use super::ended::Ended;
use super::fingerprint::{Head, Origin, Tail};
use crate::zeek_log::Place;

/// The most files whose positions are kept.
pub(in super::super) const MOST_POSITIONS: usize = 4096;

/// The largest file of positions that is read.
const LARGEST: u64 = 16 << 20;

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
    /// What stood before the last byte that was read.
    pub(super) tail: Tail,
    /// Which log it has, if that is known.
    pub(super) origin: Option<Origin>,
}

impl Position {
    /// Whether a file is the one that was read.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        self.head.is_of(path) && self.tail.is_of(path)
    }
}

/// What a node has left.
#[derive(Debug, Default)]
pub(super) struct Positions {
    pub(super) files: HashMap<FileId, Position>,
    pub(super) ended: Ended,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    files: Vec<WrittenPosition>,
    /// Logs of which no file is read any more.
    #[serde(default)]
    ended: Vec<WrittenEnd>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPosition {
    path: PathBuf,
    device: u64,
    inode: u64,
    #[serde(flatten)]
    place: WrittenPlace,
    size: u64,
    head: Head,
    #[serde(default)]
    tail: Tail,
    #[serde(default)]
    origin: Option<Origin>,
}

#[derive(Serialize, Deserialize)]
struct WrittenEnd {
    origin: Origin,
    #[serde(flatten)]
    place: WrittenPlace,
}

#[derive(Serialize, Deserialize)]
struct WrittenPlace {
    header: (u64, u64),
    offset: u64,
    line: u64,
}

impl From<WrittenPlace> for Place {
    fn from(written: WrittenPlace) -> Self {
        Self {
            header: written.header.0..written.header.1,
            offset: written.offset,
            line: written.line,
        }
    }
}

impl From<&Place> for WrittenPlace {
    fn from(place: &Place) -> Self {
        Self {
            header: (place.header.start, place.header.end),
            offset: place.offset,
            line: place.line,
        }
    }
}

/// Reads the positions that another life has left; none if there is no such file.
pub(super) fn load(path: &Path) -> io::Result<Positions> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LARGEST).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Positions::default()),
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
        let position = Position {
            path: written.path,
            place: written.place.into(),
            size: written.size,
            head: written.head,
            tail: written.tail,
            origin: written.origin,
        };
        (id, position)
    };
    let mut ended = Ended::default();
    for end in written.ended {
        ended.put(end.origin, end.place.into());
    }
    let files = written.files.into_iter().take(MOST_POSITIONS);
    Ok(Positions {
        files: files.map(position).collect(),
        ended,
    })
}

/// How far logs were read, to be written to the file of positions. It may be written when all that came of what was read is safe.
#[derive(Debug)]
pub struct ReadSoFar {
    path: PathBuf,
    bytes: Vec<u8>,
    outcome: Outcome,
}

/// What became of the last positions that somebody has written.
pub(super) type Outcome = Arc<Mutex<Option<io::Result<()>>>>;

impl ReadSoFar {
    /// Writes the positions, all or nothing, and syncs them. If that fails, the input says so.
    pub fn write(self) {
        let Self {
            path,
            bytes,
            outcome,
        } = self;
        let written = write(&path, &bytes);
        *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}

/// Returns positions as they are to be written.
pub(super) fn to_write<'a>(
    path: &Path,
    outcome: &Outcome,
    positions: impl Iterator<Item = (FileId, &'a Position)>,
    ended: impl Iterator<Item = (Origin, &'a Place)>,
) -> io::Result<ReadSoFar> {
    let files = positions
        .take(MOST_POSITIONS)
        .map(|(id, position)| WrittenPosition {
            path: position.path.clone(),
            device: id.device,
            inode: id.inode,
            place: (&position.place).into(),
            size: position.size,
            head: position.head,
            tail: position.tail,
            origin: position.origin,
        });
    let ended = ended.map(|(origin, place)| WrittenEnd {
        origin,
        place: place.into(),
    });
    let written = Written {
        version: VERSION,
        files: files.collect(),
        ended: ended.collect(),
    };
    Ok(ReadSoFar {
        path: path.to_owned(),
        bytes: serde_json::to_vec(&written)?,
        outcome: Arc::clone(outcome),
    })
}
