//! Reading without being woken: a reader asks the system again and again for a while before it waits.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;

/// What is read at once, at most, by whoever does not wait.
const PIECE: usize = 64 << 10;

/// Asks for what comes next until a span is over. Between two questions other tasks have their turn.
#[derive(Debug)]
pub(super) struct Spin {
    span: Duration,
    /// When this stretch of asking ends. There is none while what was read last was there at once.
    until: Option<Instant>,
    piece: Box<[u8]>,
}

impl Spin {
    /// Asks for so long, or is nothing at all.
    pub(super) fn new(span: Duration) -> Option<Self> {
        (!span.is_zero()).then(|| Self {
            span,
            until: None,
            piece: vec![0; PIECE].into(),
        })
    }

    /// Looks at a read. If nothing has come as far as the runtime knows, which wakes the task when something does, asks
    /// the system itself, and while the span is not over the task comes again by itself.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        read: Poll<io::Result<()>>,
        read_now: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Poll<io::Result<()>> {
        if read.is_ready() {
            self.until = None;
            return read;
        }
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.span);
        if now >= until {
            return Poll::Pending;
        }
        let most = buffer.remaining().min(self.piece.len());
        let read = read_now(&mut self.piece[..most]);
        match read {
            Ok(read) => {
                buffer.put_slice(&self.piece[..read]);
                self.until = None;
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        // Other threads may wait for this processor, as may whoever sends what is waited for.
        std::thread::yield_now();
        // The waker has what it needs when this was polled once.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }
}
