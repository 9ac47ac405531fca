//! The bytes of a log: what gzip or zstd has compressed is decompressed.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;

use super::windows::{Header, Held, LONGEST_HEADER, Windows, window};

/// Bytes that are read at a time, compressed and not.
const BUFFER: usize = 64 << 10;

/// The first bytes of what gzip has compressed.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The first bytes of what zstd has compressed.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The last bytes of the magic number of a frame that zstd passes over; the first is `0x5?`.
const ZSTD_SKIPPED: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A source that may be able to pass over bytes without reading them.
pub(crate) trait PassOver: Read {
    /// Passes over so many bytes. Returns how many they were: all, or none if it cannot.
    ///
    /// # Errors
    /// The source's.
    fn pass_over(&mut self, bytes: u64) -> io::Result<u64>;
}

/// A source that has to be read.
pub(crate) struct ReadOnly<R>(pub(crate) R);

impl<R: Read> Read for ReadOnly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> PassOver for ReadOnly<R> {
    fn pass_over(&mut self, _bytes: u64) -> io::Result<u64> {
        Ok(0)
    }
}

type Any = Box<dyn PassOver + Send>;

/// What was read to recognise the compression, and the rest.
type Raw = io::Chain<Cursor<Vec<u8>>, Any>;

/// A log's bytes, with a buffer.
pub(super) type Source = BufReader<Decompressed>;

/// What was read to recognise a frame, and the rest.
type Frame = io::Chain<Cursor<Vec<u8>>, BufReader<Raw>>;

/// Creates the source of a log's bytes. What decompresses them takes its memory from `windows`.
pub(super) fn source(raw: impl PassOver + Send + 'static, windows: &Windows) -> Source {
    let decompressed = Decompressed {
        state: State::Unknown(Vec::new(), Box::new(raw)),
        windows: windows.clone(),
    };
    BufReader::with_capacity(BUFFER, decompressed)
}

/// Reads what may be compressed. The first bytes decide, as soon as they are there.
///
/// If the reader below has nothing at the moment ([`WouldBlock`](io::ErrorKind::WouldBlock)), so has this; nothing is
/// lost by that.
pub(super) struct Decompressed {
    state: State,
    windows: Windows,
}

enum State {
    /// The first bytes, too few to tell.
    Unknown(Vec<u8>, Any),
    Plain(Raw),
    Gzip(Box<GzDecoder<BufReader<Raw>>>),
    /// Behind a member of gzip.
    BehindGzip(BufReader<Raw>),
    /// The first bytes of a frame of zstd, too few to tell its window.
    BeforeZstd(Vec<u8>, BufReader<Raw>),
    Zstd {
        decoder: Box<zstd::Decoder<'static, Frame>>,
        _held: Held,
    },
    Ended,
}

impl Decompressed {
    /// Reads the first bytes, if they are there, and recognises the compression.
    pub(super) fn recognise(&mut self) -> io::Result<()> {
        while let State::Unknown(head, raw) = &mut self.state {
            let is_whole = read_head(head, raw)?;
            if is_whole || !may_be_compressed(head) {
                self.state = recognised(self.take());
            }
        }
        Ok(())
    }

    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Ended)
    }

    /// Whether the bytes are as they are in the source, as far as that is known.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.state, State::Plain(_))
    }

    /// Passes over bytes without reading them, if they are not compressed and the source can. Returns how many.
    pub(super) fn pass_over(&mut self, bytes: u64) -> io::Result<u64> {
        self.recognise()?;
        let State::Plain(raw) = &mut self.state else {
            return Ok(0);
        };
        let (head, rest) = raw.get_mut();
        let unread = (head.get_ref().len() as u64).saturating_sub(head.position());
        let Some(behind) = bytes.checked_sub(unread) else {
            return Ok(0);
        };
        if rest.pass_over(behind)? < behind {
            return Ok(0);
        }
        head.set_position(head.position() + unread);
        Ok(bytes)
    }
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.state {
                State::Unknown(..) => self.recognise()?,
                State::Plain(raw) => return raw.read(buffer),
                State::Gzip(decoder) => {
                    let read = decoder.read(buffer)?;
                    if read > 0 {
                        return Ok(read);
                    }
                    if let State::Gzip(decoder) = self.take() {
                        self.state = State::BehindGzip(decoder.into_inner());
                    }
                }
                State::BehindGzip(raw) => {
                    // A device writes whole blocks: zeros may follow.
                    let rest = raw.fill_buf()?;
                    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
                    let (is_end, is_other) = (rest.is_empty(), zeros < rest.len());
                    raw.consume(zeros);
                    if !is_end && !is_other {
                        continue;
                    }
                    let State::BehindGzip(raw) = self.take() else {
                        continue;
                    };
                    if is_other {
                        self.state = State::Gzip(Box::new(GzDecoder::new(raw)));
                    }
                }
                State::BeforeZstd(head, raw) => {
                    if !read_header(head, raw)? {
                        continue;
                    }
                    if head.is_empty() {
                        self.state = State::Ended;
                        continue;
                    }
                    let held = match window(head) {
                        Header::Window(window) => self.windows.take(window)?,
                        Header::Needs(_) => self.windows.take(0)?,
                    };
                    if let State::BeforeZstd(head, raw) = self.take() {
                        let frame = Cursor::new(head).chain(raw);
                        let decoder = zstd::Decoder::with_buffer(frame)?.single_frame();
                        self.state = State::Zstd {
                            decoder: Box::new(decoder),
                            _held: held,
                        };
                    }
                }
                State::Zstd { decoder, .. } => {
                    let read = decoder.read(buffer)?;
                    if read > 0 {
                        return Ok(read);
                    }
                    // Between frames nothing is held.
                    if let State::Zstd { decoder, .. } = self.take() {
                        let (head, raw) = decoder.finish().into_inner();
                        let used = usize::try_from(head.position()).unwrap_or(usize::MAX);
                        let rest = head.get_ref().get(used..).unwrap_or_default().to_vec();
                        self.state = State::BeforeZstd(rest, raw);
                    }
                }
                State::Ended => return Ok(0),
            }
        }
    }
}

/// Reads until the first bytes tell the compression; `true` if there are enough, or no more.
fn read_head(head: &mut Vec<u8>, raw: &mut Any) -> io::Result<bool> {
    let mut byte = [0; ZSTD_MAGIC.len()];
    let missing = ZSTD_MAGIC.len() - head.len();
    let read = raw.read(&mut byte[..missing])?;
    head.extend_from_slice(&byte[..read]);
    Ok(read == 0 || head.len() == ZSTD_MAGIC.len())
}

/// Reads until the first bytes of a frame tell its window; `true` if they do, or if there are no more.
fn read_header(head: &mut Vec<u8>, raw: &mut BufReader<Raw>) -> io::Result<bool> {
    let Header::Needs(needed) = window(head) else {
        return Ok(true);
    };
    let mut bytes = [0; LONGEST_HEADER];
    let missing = needed.min(LONGEST_HEADER).saturating_sub(head.len());
    let read = raw.read(&mut bytes[..missing])?;
    head.extend_from_slice(&bytes[..read]);
    Ok(read == 0)
}

fn may_be_compressed(head: &[u8]) -> bool {
    let begins = |magic: &[u8]| magic.starts_with(&head[..head.len().min(magic.len())]);
    let is_skipped = head.first().is_some_and(|first| first & 0xf0 == 0x50)
        && ZSTD_SKIPPED.starts_with(&head[1..head.len().min(4)]);
    begins(&GZIP_MAGIC) || begins(&ZSTD_MAGIC) || is_skipped
}

fn recognised(unknown: State) -> State {
    let State::Unknown(head, raw) = unknown else {
        return unknown;
    };
    let is_gzip = head.starts_with(&GZIP_MAGIC);
    let is_zstd = head.len() == ZSTD_MAGIC.len() && !is_gzip && may_be_compressed(&head);
    let raw = Cursor::new(head).chain(raw);
    if is_gzip {
        let raw = BufReader::with_capacity(BUFFER, raw);
        State::Gzip(Box::new(GzDecoder::new(raw)))
    } else if is_zstd {
        State::BeforeZstd(Vec::new(), BufReader::with_capacity(BUFFER, raw))
    } else {
        State::Plain(raw)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 1).unwrap()
    }

    /// Comes piece by piece, with nothing in between.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.front_mut() else {
                return Ok(0);
            };
            if piece.is_empty() {
                self.0.pop_front();
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let read = piece.len().min(buffer.len());
            buffer[..read].copy_from_slice(&piece[..read]);
            piece.drain(..read);
            Ok(read)
        }
    }

    /// All bytes, however often there is nothing at the moment.
    fn read_all(bytes: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let pieces = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
        let mut source = source(ReadOnly(Pieces(pieces)), &Windows::default());
        let mut all = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(all),
                Ok(read) => all.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn every_compression_is_recognised_however_the_bytes_come() {
        let text = b"#separator \\x09\n".repeat(2000);
        let halves = text.split_at(text.len() / 2);
        let zeros = vec![0; 100_000];
        let forms = [
            text.clone(),
            gzip(&text),
            [gzip(halves.0), gzip(halves.1)].concat(),
            [gzip(&text), zeros.clone()].concat(),
            [gzip(halves.0), zeros, gzip(halves.1)].concat(),
            zstd(&text),
            [zstd(halves.0), zstd(halves.1)].concat(),
            [&b"\x53\x2a\x4d\x18\x02\0\0\0ab"[..], &zstd(&text)].concat(),
        ];
        for (number, form) in forms.iter().enumerate() {
            for piece in [1, 3, 4096, 1 << 20] {
                let read = read_all(form, piece).unwrap();
                assert!(read == text, "form {number} in pieces of {piece}");
            }
        }
        for short in [&b""[..], b"\x1f", b"\x28\xb5", b"{}", b"(\n", b"Pa"] {
            assert_eq!(read_all(short, 1).unwrap(), short, "{short:?}");
        }
    }

    #[test]
    fn between_frames_nothing_is_held() {
        let windows = Windows::of(1 << 20);
        let text = b"some text ".repeat(1000);
        let frames = [zstd(&text), zstd(&text), zstd(&text)].concat();
        let mut all = Vec::new();
        let mut several: Vec<_> = (0..3)
            .map(|_| source(ReadOnly(Cursor::new(frames.clone())), &windows))
            .collect();
        for source in &mut several {
            source.read_to_end(&mut all).unwrap();
        }
        assert_eq!(all.len(), 9 * text.len());
        // Inside of frames the memory is one for all.
        let mut several: Vec<_> = (0..2)
            .map(|_| source(ReadOnly(Cursor::new(frames.clone())), &windows))
            .collect();
        let mut byte = [0];
        several[0].read_exact(&mut byte).unwrap();
        let error = several[1].read_exact(&mut byte).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        several.remove(0);
        several[0].read_exact(&mut byte).unwrap();
    }

    #[test]
    fn damage_is_no_end() {
        let text = b"some text ".repeat(100);
        for whole in [gzip(&text), zstd(&text)] {
            let cut = read_all(&whole[..whole.len() - 3], 64).unwrap_err();
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
            let garbage = [&whole[..], b"\0\0garbage"].concat();
            assert!(read_all(&garbage, 64).is_err());
        }
    }
}
