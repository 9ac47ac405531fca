//! The bytes of messages that have not come to their end, of all connections together.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{Budget, Share};

/// What any connection may have read of an unfinished message, however much the others have.
const FREE: usize = 64 << 10;

/// What a connection has read since its last whole message.
#[derive(Debug)]
pub(crate) struct Intake(Mutex<Share>);

impl Intake {
    pub(crate) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Share::new(budget))))
    }

    /// A message has come to its end.
    pub(crate) fn whole(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).set(0);
    }

    /// Takes bytes that were read. Returns whether there was room for them.
    fn take(&self, bytes: usize) -> bool {
        let mut share = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = share.held().saturating_add(bytes);
        share.set(held);
        held <= FREE || !share.is_exceeded()
    }
}

/// A stream whose reader is ended when all connections together have too much of unfinished messages.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    pub(crate) stream: S,
    pub(crate) intake: Arc<Intake>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(read, Poll::Ready(Ok(()))) && !self.intake.take(buffer.filled().len() - before)
        {
            let full = "too much is under way in unfinished messages of all clients together";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, full)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_messages_have_a_bound_over_all_connections() {
        let budget = Budget::new(3 * FREE);
        let (one, other) = (Intake::new(Arc::clone(&budget)), Intake::new(budget));
        assert!(one.take(2 * FREE));
        // What is small passes in any case.
        assert!(other.take(FREE));
        assert!(!other.take(1));
        one.whole();
        assert!(other.take(1));
    }
}
