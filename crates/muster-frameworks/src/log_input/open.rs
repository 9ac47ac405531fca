//! How the files of an input are opened: as files, which end, or as what is written while it is read.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::zeek_log::PassOver;

/// Pieces of a pipe that wait to be read.
const PIECES: usize = 4;

/// Bytes that are read from a pipe at once.
const PIECE: usize = 64 << 10;

/// Which file a file is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Whether something is written by another while it is read: a pipe or a device.
pub(super) fn is_stream(metadata: &std::fs::Metadata) -> bool {
    !metadata.is_file() && !metadata.is_dir()
}

/// Bytes before the place that a growing file was read to, by which it is noticed that they are others by now.
pub(super) const TAIL: usize = 256;

/// A file that may still grow: at its end there is nothing at the moment, until it is said to be the end.
///
/// Every read looks again at the bytes before it: a file that was made shorter and has grown beyond the old place since
/// is not the one that was read.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    shared: Arc<Growth>,
}

/// What is known of a growing file outside its reader.
#[derive(Debug, Default)]
pub(super) struct Growth {
    seen: Mutex<Seen>,
    is_whole: AtomicBool,
}

/// What was read of a file.
#[derive(Debug, Default)]
struct Seen {
    /// Bytes that were read, as they are in the file.
    read: u64,
    /// The last of them.
    tail: Vec<u8>,
    continuity: Continuity,
}

/// Whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Continuity {
    #[default]
    Unbroken,
    /// Something else stands before the place that was read to, or nothing: the file has begun anew, and nothing more is
    /// read of it here.
    BegunAnew,
    /// Only zeros stand there: it was made empty, and its writer goes on where it was. Nothing is read before
    /// [`Growth::go_on`].
    Emptied,
}

impl Growth {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> u64 {
        self.seen().read
    }

    /// Where it was read to, and the bytes before.
    pub(super) fn tail(&self) -> (u64, Vec<u8>) {
        let seen = self.seen();
        (seen.read, seen.tail.clone())
    }

    pub(super) fn continuity(&self) -> Continuity {
        self.seen().continuity
    }

    /// Goes on behind the zeros of a file that was emptied.
    pub(super) fn go_on(&self) {
        let mut seen = self.seen();
        if seen.continuity == Continuity::Emptied {
            seen.continuity = Continuity::Unbroken;
            seen.tail.fill(0);
        }
    }

    /// Nobody will write any more: the end is the end.
    pub(super) fn end(&self) {
        self.is_whole.store(true, Ordering::Relaxed);
    }
}

impl Growing {
    pub(super) fn new(file: File) -> (Self, Arc<Growth>) {
        let shared = Arc::<Growth>::default();
        let growing = Self {
            file,
            shared: Arc::clone(&shared),
        };
        (growing, shared)
    }
}

impl Seen {
    /// Reads what comes next, together with what stands before it.
    fn read_on(&mut self, mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let mut before = [0; TAIL];
        let before = &mut before[..self.tail.len()];
        file.seek(SeekFrom::Start(self.read - before.len() as u64))?;
        let mut parts = [IoSliceMut::new(before), IoSliceMut::new(buffer)];
        let read = file.read_vectored(&mut parts)?;
        let Some(new) = read.checked_sub(before.len()) else {
            self.continuity = Continuity::BegunAnew;
            return Ok(0);
        };
        if *before != self.tail[..] {
            let is_empty = before.iter().all(|byte| *byte == 0);
            self.continuity = if is_empty {
                Continuity::Emptied
            } else {
                Continuity::BegunAnew
            };
            return Ok(0);
        }
        self.take(&buffer[..new]);
        Ok(new)
    }

    fn take(&mut self, new: &[u8]) {
        self.read += new.len() as u64;
        let new = &new[new.len().saturating_sub(TAIL)..];
        let kept = TAIL - new.len();
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        self.tail.extend_from_slice(new);
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_whole = self.shared.is_whole.load(Ordering::Relaxed);
        let mut seen = self.shared.seen();
        let read = match seen.continuity {
            Continuity::Unbroken => seen.read_on(&self.file, buffer)?,
            Continuity::BegunAnew | Continuity::Emptied => 0,
        };
        if read == 0 && !is_whole && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
    }
}

impl PassOver for Growing {
    fn pass_over(&mut self, bytes: u64) -> io::Result<u64> {
        let mut seen = self.shared.seen();
        let to = seen.read.saturating_add(bytes);
        if seen.continuity != Continuity::Unbroken || to > self.file.metadata()?.len() {
            return Ok(0);
        }
        let length = usize::try_from(to).map_or(TAIL, |to| to.min(TAIL));
        let mut tail = vec![0; length];
        self.file.read_exact_at(&mut tail, to - length as u64)?;
        (seen.read, seen.tail) = (to, tail);
        Ok(bytes)
    }
}

/// What comes through a pipe, as it comes: a thread waits for it, so that nobody else does.
#[derive(Debug)]
pub(super) struct Stream {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    /// Bytes of the piece that were read.
    used: usize,
}

impl Stream {
    /// Opens a pipe. If it `goes_on`, it is opened again when its writers have gone.
    pub(super) fn open(path: &Path, goes_on: bool) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(PIECES);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("pipe".to_owned())
            .spawn(move || pump(&path, goes_on, &sender))?;
        Ok(Self {
            pieces,
            piece: Vec::new(),
            used: 0,
        })
    }
}

/// Hands on what comes, until there is an end, or nobody takes it.
fn pump(path: &Path, goes_on: bool, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) => {
                let _ = pieces.send(Err(error));
                return;
            }
        };
        let mut is_inside_a_line = false;
        loop {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    piece.truncate(read);
                    piece.shrink_to_fit();
                    is_inside_a_line = piece.last() != Some(&b'\n');
                    if pieces.send(Ok(piece)).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = pieces.send(Err(error));
                    return;
                }
            }
        }
        let is_fifo = file
            .metadata()
            .is_ok_and(|metadata| metadata.file_type().is_fifo());
        if !goes_on || !is_fifo {
            return;
        }
        // The next writer does not go on with the last one's line.
        if is_inside_a_line && pieces.send(Ok(b"\n".to_vec())).is_err() {
            return;
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            match self.pieces.try_recv() {
                Ok(piece) => (self.piece, self.used) = (piece?, 0),
                Err(TryRecvError::Empty) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryRecvError::Disconnected) => return Ok(0),
            }
        }
        let rest = &self.piece[self.used..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.used += read;
        Ok(read)
    }
}
