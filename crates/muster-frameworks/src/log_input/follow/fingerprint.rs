//! By what a file is recognised: not by its name, and not by its number alone, which a system gives to another when the
//! file is gone.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::open::{Growth, TAIL};
use crate::zeek_log::{Beginning, beginning};

/// The most bytes of a head.
const HEAD: usize = 256;

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
        Ok(Self {
            length: bytes.len(),
            hash: hash(&bytes),
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

/// The bytes before a place in a file, by their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tail {
    end: u64,
    length: usize,
    hash: u64,
}

impl Tail {
    /// What stands before the place that a file was read to.
    pub(super) fn of(growth: &Growth) -> Self {
        let (end, bytes) = growth.tail();
        Self {
            end,
            length: bytes.len(),
            hash: hash(&bytes),
        }
    }

    /// Whether the same stands there in a file.
    pub(super) fn is_of(self, path: &Path) -> bool {
        let Some(start) = self.end.checked_sub(self.length as u64) else {
            return false;
        };
        if self.length == 0 || self.length > TAIL {
            return self.length == 0;
        }
        let mut bytes = vec![0; self.length];
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, start));
        read.is_ok() && hash(&bytes) == self.hash
    }
}

/// Which log a file has, wherever it was copied and however it is compressed: everything up to its first connection, by
/// its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Origin {
    length: u64,
    hash: u64,
}

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A log, as it is or compressed.
    Log { origin: Origin, is_plain: bool },
    /// No whole row yet.
    Unwritten,
    /// No connections, as far as can be seen.
    Other,
}

impl Content {
    /// What a file has.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let mut file = file.try_clone()?;
        file.rewind()?;
        Ok(match beginning(file)? {
            Beginning::Log { bytes, is_plain } => Self::Log {
                origin: Origin {
                    length: bytes.len() as u64,
                    hash: hash(&bytes),
                },
                is_plain,
            },
            Beginning::Unwritten => Self::Unwritten,
            Beginning::Other => Self::Other,
        })
    }
}

/// 64 bits of FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
