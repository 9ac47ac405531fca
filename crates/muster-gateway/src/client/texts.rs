//! What a WebSocket server sends, with its texts as binary messages.
//!
//! A text must be UTF-8, and a connection ends over one that is not. Zeek writes the bytes of a string
//! into its texts as they are: one event about something that is no text would end the connection, and
//! the next one too. The reader of JSON deals with such bytes, a reader of WebSocket does not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// The end of the HTTP response, and how a response starts behind which frames follow.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const UPGRADED: &[u8] = b"HTTP/1.1 101";

/// A client's stream that turns the texts that it reads into binary messages.
#[derive(Debug)]
pub(super) struct TextsAsBinary<S> {
    inner: S,
    place: Place,
}

/// Where in the server's bytes the reader is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In the response: how many bytes there were, whether they begin as they should, and how many of
    /// those just read are the beginning of its end.
    Head {
        at: usize,
        upgraded: bool,
        end: usize,
    },
    /// In the header of a frame.
    Header { bytes: [u8; 10], at: usize },
    /// In something of which so many bytes are left.
    Payload(u64),
    /// In something that is not WebSocket.
    Other,
}

const HEADER: Place = Place::Header {
    bytes: [0; 10],
    at: 0,
};

impl Place {
    fn next(&mut self, byte: &mut u8) {
        match self {
            Self::Head { at, upgraded, end } => {
                *upgraded &= UPGRADED.get(*at).is_none_or(|expected| expected == byte);
                *at += 1;
                *end = match END_OF_HEAD.get(*end) {
                    Some(expected) if expected == byte => *end + 1,
                    _ => usize::from(*byte == b'\r'),
                };
                if *end == END_OF_HEAD.len() {
                    *self = if *upgraded { HEADER } else { Self::Other };
                }
            }
            Self::Header { bytes, at } => {
                if *at == 0 && *byte & 0x0f == TEXT {
                    *byte ^= TEXT ^ BINARY;
                }
                bytes[*at] = *byte;
                *at += 1;
                let [_, short, length @ ..] = *bytes;
                let (size, left) = match short & 0x7f {
                    126 => (4, u64::from(u16::from_be_bytes([length[0], length[1]]))),
                    127 => (10, u64::from_be_bytes(length)),
                    short => (2, u64::from(short)),
                };
                if *at == size {
                    // A server masks nothing; one that does is refused by whoever reads this.
                    *self = if left == 0 {
                        HEADER
                    } else {
                        Self::Payload(left)
                    };
                }
            }
            Self::Payload(_) | Self::Other => {}
        }
    }

    fn pass(&mut self, mut bytes: &mut [u8]) {
        while let [byte, rest @ ..] = bytes {
            if let Self::Payload(left) = self {
                let length = rest.len() + 1;
                let skipped = usize::try_from(*left).map_or(length, |left| left.min(length));
                *left -= skipped as u64;
                if *left == 0 {
                    *self = HEADER;
                }
                bytes = rest.get_mut(skipped - 1..).unwrap_or_default();
            } else {
                self.next(byte);
                bytes = rest;
            }
        }
    }
}

impl<S> TextsAsBinary<S> {
    /// Wraps a stream before anything was read from it.
    pub(super) fn new(inner: S) -> Self {
        let place = Place::Head {
            at: 0,
            upgraded: true,
            end: 0,
        };
        Self { inner, place }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TextsAsBinary<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.place.pass(&mut buffer.filled_mut()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TextsAsBinary<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes bytes in pieces of a size.
    fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut stream = TextsAsBinary::new(());
        let mut bytes = bytes.to_vec();
        for piece in bytes.chunks_mut(size) {
            stream.place.pass(piece);
        }
        bytes
    }

    #[test]
    fn texts_become_binary_and_nothing_else_changes() {
        let head = b"HTTP/1.1 101 Switching\r\nA: \r\r\n\r\n";
        let long = [0x81; 300];
        let frames = |text: u8| {
            let parts: [&[u8]; 10] = [
                &[0x80 | text, 2, 0x81, 0x81],
                &[0x80 | text, 0],
                &[text, 126, 1, 44],
                &long,
                &[0x80, 1, 0x81],
                &[0x89, 1, 0x81],
                &[0x80 | text, 127, 0, 0, 0, 0, 0, 0, 1, 44],
                &long,
                &[0x82, 1, 1],
                &[0x88, 0],
            ];
            parts.concat()
        };
        for size in [1, 2, 3, 7, 1000] {
            let bytes = [head, &frames(TEXT)[..]].concat();
            assert_eq!(passed(&bytes, size), [head, &frames(BINARY)[..]].concat());
            // What is not WebSocket is left alone.
            let bytes = [b"HTTP/1.1 401 No\r\n\r\n", &frames(TEXT)[..]].concat();
            assert_eq!(passed(&bytes, size), bytes);
        }
    }
}
