//! What zstd keeps in memory to decompress a file: the window that the file's frames ask for. It is bounded for each
//! file, and for all files of an input together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::source::ZSTD_MAGIC;

/// The largest window of a file: what `zstd --long` takes, and what zstd reads without being told.
const LARGEST: u64 = 128 << 20;

/// What the files of an input may hold together.
const ALL: u64 = 1 << 30;

/// What decompressing takes beside the window.
const BESIDE: u64 = 256 << 10;

/// The most bytes of a frame's header.
pub(super) const LONGEST_HEADER: usize = 18;

/// The memory for windows that the files of an input share.
#[derive(Debug, Clone)]
pub(crate) struct Windows {
    held: Arc<AtomicU64>,
    most: u64,
}

impl Default for Windows {
    fn default() -> Self {
        Self::of(ALL)
    }
}

/// A part of that memory.
#[derive(Debug)]
pub(super) struct Held {
    held: Arc<AtomicU64>,
    bytes: u64,
}

impl Windows {
    /// Creates windows of so many bytes together.
    pub(crate) fn of(most: u64) -> Self {
        Self {
            held: Arc::default(),
            most,
        }
    }

    /// Takes what a window needs.
    pub(super) fn take(&self, window: u64) -> io::Result<Held> {
        let refused = |problem: String| io::Error::new(io::ErrorKind::OutOfMemory, problem);
        if window > LARGEST {
            return Err(refused(format!(
                "needs a window of {} to be decompressed, and a file may have {} (it was compressed with a higher `zstd --long`)",
                mebibytes(window),
                mebibytes(LARGEST)
            )));
        }
        let bytes = window + BESIDE;
        let room = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.most);
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        match taken {
            Ok(_) => Ok(Held {
                held: Arc::clone(&self.held),
                bytes,
            }),
            Err(held) => Err(refused(format!(
                "needs a window of {} to be decompressed, and the files that are open hold {} of the {} for all (compress without `zstd --long`, or read fewer files at once)",
                mebibytes(window),
                mebibytes(held),
                mebibytes(self.most)
            ))),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// What a frame's header says of its window, as RFC 8878 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// So many bytes tell.
    Needs(usize),
    Window(u64),
}

/// Reads the window that a frame asks for.
pub(super) fn window(header: &[u8]) -> Header {
    const DESCRIPTOR: usize = ZSTD_MAGIC.len();
    if header.len() >= DESCRIPTOR && !header.starts_with(&ZSTD_MAGIC) {
        // A frame that is passed over, or damage that zstd will name.
        return Header::Window(0);
    }
    let Some(descriptor) = header.get(DESCRIPTOR).copied() else {
        return Header::Needs(DESCRIPTOR + 1);
    };
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let Some(window) = header.get(DESCRIPTOR + 1).copied() else {
            return Header::Needs(DESCRIPTOR + 2);
        };
        let base = 1_u64 << (10 + (window >> 3));
        return Header::Window(base + (base >> 3) * u64::from(window & 7));
    }
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let begin = DESCRIPTOR + 1 + dictionary;
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let Some(size) = header.get(begin..begin + length) else {
        return Header::Needs(begin + length);
    };
    let size = size
        .iter()
        .rev()
        .fold(0, |size, byte| size << 8 | u64::from(*byte));
    Header::Window(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_tells_its_window() {
        for level in [1, 3, 19] {
            for size in [0, 10, 300, 70_000, 5_000_000] {
                let frame = zstd::bulk::compress(&vec![7; size], level).unwrap();
                let Header::Window(window) = window(&frame[..frame.len().min(LONGEST_HEADER)])
                else {
                    panic!("{level} {size}");
                };
                assert!(window <= size as u64, "{level} {size} {window}");
                let known = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
                assert_eq!(known, Some(size as u64));
            }
        }
        for log in [17, 20, 27] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            io::Write::write_all(&mut encoder, &[1; 1000]).unwrap();
            let frame = encoder.finish().unwrap();
            assert_eq!(window(&frame), Header::Window(1 << log));
            assert_eq!(window(&frame[..4]), Header::Needs(5));
            assert_eq!(window(&frame[..5]), Header::Needs(6));
        }
        assert_eq!(window(b"\x53\x2a\x4d\x18"), Header::Window(0));
        assert_eq!(window(b"\x28\xb5\x2f\xfd\xe3"), Header::Needs(17));
    }

    #[test]
    fn windows_are_bounded_for_one_and_for_all() {
        let windows = Windows::of(200 << 20);
        let first = windows.take(LARGEST).unwrap();
        let refused = windows.take(LARGEST).unwrap_err().to_string();
        assert!(refused.contains("hold 129 MiB of the 200 MiB"), "{refused}");
        assert!(windows.take(1 << 20).is_ok());
        drop(first);
        assert!(windows.take(LARGEST).is_ok());
        let refused = windows.take(LARGEST + 1).unwrap_err().to_string();
        assert!(refused.contains("zstd --long"), "{refused}");
        assert!(windows.take(u64::MAX).is_err());
    }
}
