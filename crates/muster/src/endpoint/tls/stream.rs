//! A connection by TLS: whole records in few calls of the system, whatever the pieces that are written.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslRef};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use super::buffered::{self, Buffered, SIZE};

/// The most that a record carries.
const RECORD: usize = 16 << 10;

/// A connection by TLS. What is written may wait until it is flushed.
pub(crate) struct TlsStream<S> {
    tls: SslStream<Buffered<S>>,
    /// What has ended reading, behind what was read before.
    read_failure: Option<io::Error>,
    /// The same of writing.
    write_failure: Option<io::Error>,
}

/// Which side of a handshake this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Acceptor,
    Dialler,
}

/// Why a handshake failed.
pub(super) enum HandshakeFailure {
    Tls(openssl::ssl::Error),
    /// What OpenSSL had to say could not be written.
    Unwritten(io::Error),
}

impl<S> TlsStream<S> {
    pub(super) fn ssl(&self) -> &SslRef {
        self.tls.ssl()
    }

    #[cfg(test)]
    pub(super) fn buffered(&self) -> &Buffered<S> {
        self.tls.get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(super) fn new(ssl: Ssl, stream: S) -> Result<Self, ErrorStack> {
        Ok(Self {
            tls: SslStream::new(ssl, Buffered::new(stream))?,
            read_failure: None,
            write_failure: None,
        })
    }

    pub(super) async fn shake_hands(&mut self, side: Side) -> Result<(), HandshakeFailure> {
        let result = poll_fn(|cx| self.poll_handshake(side, cx)).await;
        // The last that is said may be why not.
        let drained = poll_fn(|cx| self.tls.get_mut().poll_drain(cx)).await;
        result?;
        drained.map_err(HandshakeFailure::Unwritten)
    }

    fn poll_handshake(
        &mut self,
        side: Side,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), HandshakeFailure>> {
        let mut unwritten = None;
        loop {
            let tls = Pin::new(&mut self.tls);
            let step = match side {
                Side::Acceptor => tls.poll_accept(cx),
                Side::Dialler => tls.poll_connect(cx),
            };
            if let Poll::Ready(result) = step {
                return Poll::Ready(result.map_err(HandshakeFailure::Tls));
            }
            if let Some(error) = unwritten {
                return Poll::Ready(Err(HandshakeFailure::Unwritten(error)));
            }
            match self.tls.get_mut().poll_drain(cx) {
                Poll::Ready(Err(error)) => {
                    // The other side may have said why it reads no more.
                    self.tls.get_mut().forget_outgoing();
                    unwritten = Some(error);
                }
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads the records that have come, as many as there is room for.
    fn read_records(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begin = buffer.filled().len();
        loop {
            let before = buffer.filled().len();
            match Pin::new(&mut self.tls).poll_read(cx, buffer) {
                Poll::Pending if before == begin => return Poll::Pending,
                Poll::Ready(Err(error)) if before == begin => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.read_failure = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    let is_end = buffer.filled().len() == before;
                    let has_more = self.tls.get_ref().has_record();
                    if is_end || !has_more || buffer.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Writes what lies in pieces as full records, as far as the buffers take it.
    fn write_records(
        &mut self,
        cx: &mut Context<'_>,
        mut pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(failure) = self.write_failure.take() {
            return Poll::Ready(Err(failure));
        }
        let mut joined = Vec::new();
        let (mut written, mut start) = (0, 0);
        let result = loop {
            while let [first, rest @ ..] = pieces
                && start >= first.len()
            {
                start -= first.len();
                pieces = rest;
            }
            let chunk = next_record(pieces, start, &mut joined);
            if chunk.is_empty() || written >= SIZE {
                break Poll::Ready(Ok(written));
            }
            match Pin::new(&mut self.tls).poll_write(cx, chunk) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Ok(written)),
                Poll::Ready(Ok(count)) => {
                    written += count;
                    start += count;
                }
                Poll::Pending if written == 0 => break Poll::Pending,
                Poll::Ready(Err(error)) if written == 0 => break Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.write_failure = Some(error);
                    break Poll::Ready(Ok(written));
                }
                // Asked again, OpenSSL is offered the same, and no less.
                Poll::Pending => break Poll::Ready(Ok(written)),
            }
        };
        buffered::give_back(joined);
        result
    }
}

/// The next bytes of some pieces, from `start` of the first on, for one record: from where they are if the piece has
/// enough or is the last, otherwise joined.
fn next_record<'a>(pieces: &'a [IoSlice<'_>], start: usize, joined: &'a mut Vec<u8>) -> &'a [u8] {
    let [first, rest @ ..] = pieces else {
        return &[];
    };
    let first = &first[start..];
    if first.len() >= RECORD || rest.is_empty() {
        return &first[..first.len().min(RECORD)];
    }
    if joined.capacity() == 0 {
        *joined = buffered::take_spare();
    }
    joined.clear();
    joined.extend_from_slice(first);
    for piece in rest {
        let count = piece.len().min(RECORD - joined.len());
        joined.extend_from_slice(&piece[..count]);
        if joined.len() == RECORD {
            break;
        }
    }
    joined
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(failure) = this.read_failure.take() {
            return Poll::Ready(Err(failure));
        }
        let had_outgoing = this.tls.get_ref().has_outgoing();
        this.tls.get_mut().is_reading = true;
        let read = this.read_records(cx, buffer);
        this.tls.get_mut().is_reading = false;
        // What OpenSSL has answered of itself. What the system does not take now goes with the next write.
        if !had_outgoing && this.tls.get_ref().has_outgoing() {
            // If it fails, so do reading and writing.
            let _ = this.tls.get_mut().drain_now();
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write_records(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write_records(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(failure) = this.write_failure.take() {
            return Poll::Ready(Err(failure));
        }
        this.tls.get_mut().poll_drain(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.tls.get_ref().is_closing {
            return Pin::new(&mut this.tls).poll_shutdown(cx);
        }
        // Asked once more, OpenSSL would wait for the end that the other side says.
        Pin::new(this.tls.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
