//! What lies between OpenSSL and a connection: OpenSSL reads a record in two parts and writes each for itself; here
//! that is one call of the system for as many as there are.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The most that waits in either direction.
pub(super) const SIZE: usize = 64 << 10;

/// What OpenSSL may answer of itself while it reads, behind what waits to be written.
const ANSWERS: usize = 16 << 10;

/// The unused buffers that a thread keeps. A connection has none while nothing waits.
const SPARE: usize = 4;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer of [`SIZE`], of those that the thread keeps.
pub(super) fn take_spare() -> Vec<u8> {
    let kept = SPARES.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Vec::with_capacity(SIZE))
}

pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() >= 2 * SIZE {
        return;
    }
    buffer.clear();
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(buffer);
        }
    });
}

/// Bytes that wait, the first of them at `start`.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    start: usize,
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Makes place where there is no buffer.
    fn prepare(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = take_spare();
        }
    }

    fn advance(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.start = 0;
        give_back(std::mem::take(&mut self.bytes));
    }
}

/// A connection with buffers. Nothing that is written may stay in them: whoever writes calls
/// [`poll_drain`](Self::poll_drain) in the end.
pub(super) struct Buffered<S> {
    stream: S,
    incoming: Waiting,
    outgoing: Waiting,
    /// Whether OpenSSL reads just now. What it writes then must not wait for the connection: it would take the place of
    /// the writer who waits for it.
    pub(super) is_reading: bool,
    /// Whether OpenSSL has said its last.
    pub(super) is_closing: bool,
}

impl<S> Buffered<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            incoming: Waiting::default(),
            outgoing: Waiting::default(),
            is_reading: false,
            is_closing: false,
        }
    }

    /// Whether a whole record has come, so that reading it does not wait.
    pub(super) fn has_record(&self) -> bool {
        match self.incoming.rest() {
            [_, _, _, high, low, payload @ ..] => {
                payload.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        }
    }

    /// Whether something waits to be written.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// The memory that the buffers have.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.incoming.bytes.capacity() + self.outgoing.bytes.capacity()
    }

    #[cfg(test)]
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncWrite + Unpin> Buffered<S> {
    /// Writes what waits.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let rest = self.outgoing.rest();
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.outgoing.advance(count),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Writes what waits as far as the system takes it now, for nobody who waits.
    pub(super) fn drain_now(&mut self) -> io::Result<()> {
        let mut nobody = Context::from_waker(Waker::noop());
        match self.poll_drain(&mut nobody) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Forgets what cannot be written any more.
    pub(super) fn forget_outgoing(&mut self) {
        self.outgoing.give_back();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.incoming.is_empty() {
            this.incoming.prepare();
            let bytes = &mut this.incoming.bytes;
            let read = pin!(this.stream.read_buf(bytes)).poll(cx);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                this.incoming.give_back();
            }
            ready!(read)?;
        }
        let rest = this.incoming.rest();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        if count > 0 {
            this.incoming.advance(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_reading {
            if this.outgoing.bytes.len() + bytes.len() > SIZE + ANSWERS {
                let text = "the peer asks for too many answers and reads none";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            this.outgoing.prepare();
            this.outgoing.bytes.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.outgoing.bytes.len() >= SIZE {
            ready!(this.poll_drain(cx))?;
        }
        this.outgoing.prepare();
        let count = bytes.len().min(SIZE - this.outgoing.bytes.len());
        this.outgoing.bytes.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    /// Does nothing: OpenSSL cannot wait here. Whoever calls it drains.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_closing = true;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl<S> Drop for Buffered<S> {
    fn drop(&mut self) {
        self.incoming.give_back();
        self.outgoing.give_back();
    }
}
