//! The file system as a journal needs it.

use std::io;

/// What an existing file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    Write,
}

/// A directory of files. Clones are handles of the same directory.
pub trait Files: Clone + Send + 'static {
    /// A file that is open.
    type File: SegmentFile;

    /// Returns the names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates a file. It is an error if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that exists.
    fn open(&self, name: &str, access: Access) -> io::Result<Self::File>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Waits until the names that were created and removed so far are on the medium.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A file that is open. Different threads may write and sync it at the same time.
pub trait SegmentFile: Send + Sync + 'static {
    /// Returns the file's length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads at an offset, into a part of the buffer at least. Returns the number of bytes, and 0
    /// only at the end of the file or for an empty buffer.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes at an offset. When it fails, any part of them may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to a length.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Waits until what was written so far, and the length, are on the medium. It is an error if
    /// the file has no name any more.
    fn sync(&self) -> io::Result<()>;
}
