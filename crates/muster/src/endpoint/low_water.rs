//! How many bytes may wait in the system unsent: about what a link carries in a millisecond. With fewer a fast link waits
//! for its writer, with more what is urgent waits on a slow one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::socket;

/// The lowest mark, which is that of a new connection.
pub(super) const LOWEST: u32 = 128 << 10;

/// The highest mark.
const HIGHEST: u32 = 4 << 20;

/// A mark is what a link carries in this time.
const DELAY: Duration = Duration::from_millis(1);

/// The bytes between two looks at the clock.
const STEP: usize = 64 << 10;

/// A rate is that of so many marks, of which all but one have left the system's buffer, ...
const MARKS: usize = 16;

/// ... or of what is written in this time, so that a link that has become slow is noticed.
const LONGEST: Duration = Duration::from_millis(20);

/// Decides on the mark of a connection by what is written.
#[derive(Debug)]
pub(super) struct LowWater {
    mark: u32,
    /// The bytes since the last look at the clock.
    unseen: usize,
    /// When the rate began to be measured, and the bytes since then.
    since: Option<(Instant, usize)>,
}

impl LowWater {
    pub(super) fn new() -> Self {
        Self {
            mark: LOWEST,
            unseen: 0,
            since: None,
        }
    }

    /// Notes that the system has taken bytes. Returns the mark if it is to be another from now on.
    pub(super) fn wrote(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<u32> {
        self.unseen += bytes;
        if self.unseen < STEP {
            return None;
        }
        let (now, unseen) = (now(), std::mem::take(&mut self.unseen));
        let Some((begin, bytes)) = &mut self.since else {
            self.since = Some((now, 0));
            return None;
        };
        *bytes += unseen;
        let elapsed = now.saturating_duration_since(*begin);
        let is_measured = *bytes >= MARKS * self.mark as usize && elapsed >= DELAY;
        if !is_measured && elapsed < LONGEST {
            return None;
        }
        let mark = carried(*bytes, elapsed).clamp(LOWEST, HIGHEST);
        self.since = Some((now, 0));
        // Each change is a call of the system.
        if mark < self.mark.saturating_mul(2) && mark > self.mark / 2 {
            return None;
        }
        self.mark = mark;
        Some(mark)
    }
}

/// What a link carries in [`DELAY`] that has carried so many bytes in a time that is not zero.
fn carried(bytes: usize, elapsed: Duration) -> u32 {
    let carried = bytes as u128 * DELAY.as_nanos() / elapsed.as_nanos().max(1);
    u32::try_from(carried).unwrap_or(u32::MAX)
}

/// What has a mark in the system.
pub(crate) trait HasMark {
    fn set_mark(&self, bytes: u32) -> io::Result<()>;
}

impl HasMark for TcpStream {
    fn set_mark(&self, bytes: u32) -> io::Result<()> {
        socket::set_unsent(self, bytes)
    }
}

impl HasMark for OwnedWriteHalf {
    fn set_mark(&self, bytes: u32) -> io::Result<()> {
        socket::set_unsent(self.as_ref(), bytes)
    }
}

/// A connection, or its write side, whose mark follows its rate.
#[derive(Debug)]
pub(crate) struct Marked<S> {
    stream: S,
    low_water: LowWater,
}

impl<S: HasMark> Marked<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            low_water: LowWater::new(),
        }
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some(mark) = self.low_water.wrote(bytes, Instant::now) {
            // Where it cannot be set, the link is as it was.
            let _ = self.stream.set_mark(mark);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Marked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + HasMark + Unpin> AsyncWrite for Marked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, pieces))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
