//! A peer that is gone may have said something before: a write that fails is told after what there is to read.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

/// How long the reader has for what the peer has said last. It ends the peering then; the failure itself only does if
/// the peer has closed one direction and not the other.
const GRACE: Duration = Duration::from_secs(1);

/// A connection's writing side, which waits for a moment before it says that the other side is gone. A write to a Unix
/// socket fails as soon as the peer has closed it, however much of the peer's is still to be read: its goodbye, or the
/// reason why it closed.
#[derive(Debug)]
pub(crate) struct LastWords<W> {
    stream: W,
    /// A failure, and when it is told.
    failed: Option<(ErrorKind, Pin<Box<Sleep>>)>,
}

/// Whether a write failed as there is nobody any more.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

impl<W> LastWords<W> {
    pub(crate) fn new(stream: W) -> Self {
        Self {
            stream,
            failed: None,
        }
    }

    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut W, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.failed.is_none() {
            match write(&mut self.stream, cx) {
                Poll::Ready(Err(error)) if is_gone(&error) => {
                    if Handle::try_current().is_err() {
                        // A publisher's own thread: the writer comes and sees for itself.
                        return Poll::Pending;
                    }
                    self.failed = Some((error.kind(), Box::pin(sleep(GRACE))));
                }
                written => return written,
            }
        }
        match &mut self.failed {
            Some((kind, grace)) => grace.as_mut().poll(cx).map(|()| Err((*kind).into())),
            None => Poll::Pending,
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for LastWords<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll(cx, |stream, cx| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll(cx, |stream, cx| {
            Pin::new(stream).poll_write_vectored(cx, pieces)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll(cx, |stream, cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_in_the_end() {
        let (near, far) = tokio::io::duplex(10);
        drop(far);
        let begin = tokio::time::Instant::now();
        let mut near = LastWords::new(near);
        for _ in 0..2 {
            let error = near.write_all(b"anybody?").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            // Only the first has to wait.
            assert!(begin.elapsed() >= GRACE && begin.elapsed() < 2 * GRACE);
        }
    }
}
