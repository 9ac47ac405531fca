//! How the files of an input are opened: as files, which end, or as what is written while it is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

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

/// A file that may still grow: at its end there is nothing at the moment, until it is said to be the end.
#[derive(Debug)]
pub(super) struct Growing {
    file: File,
    shared: Arc<Growth>,
}

/// What is known of a growing file outside its reader.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Bytes that were read, as they are in the file.
    read: AtomicU64,
    is_whole: AtomicBool,
}

impl Growth {
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
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

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_whole = self.shared.is_whole.load(Ordering::Relaxed);
        let read = self.file.read(buffer)?;
        self.shared.read.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 && !is_whole && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(read)
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
