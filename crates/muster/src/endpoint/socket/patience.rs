//! A peer that reads nothing is given up. For TCP the system sees to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep};

/// Gives up a write that gets no further for a while.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// Since when nothing could be written.
    since: Option<Instant>,
    /// Made beforehand: who writes need not be a task.
    alarm: Pin<Box<Sleep>>,
}

impl Patience {
    /// Within a runtime.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            alarm: Box::pin(sleep(limit)),
        }
    }

    /// Judges a write.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if write.is_ready() {
            self.since = None;
            return write;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if Handle::try_current().is_err() {
            // A publisher's own thread: what it leaves is the writer's, which comes here in a moment.
            return Poll::Pending;
        }
        // The alarm is for one write in very many, and is not set anew for each.
        while self.alarm.as_mut().poll(cx).is_ready() {
            let end = since + self.limit;
            if Instant::now() >= end {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_without_progress_is_given_up_and_a_slow_one_is_not() {
        let limit = Duration::from_secs(120);
        let mut patience = Patience::new(limit);
        let begin = Instant::now();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(100)).await;
            let waits = poll_fn(|cx| Poll::Ready(patience.poll_write(cx, Poll::Pending))).await;
            assert!(waits.is_pending());
            tokio::time::advance(Duration::from_secs(100)).await;
            let written = poll_fn(|cx| patience.poll_write(cx, Poll::Ready(Ok(1)))).await;
            assert_eq!(written.unwrap(), 1);
        }
        let rested = Instant::now();
        assert_eq!(rested - begin, Duration::from_secs(1000));
        let error = poll_fn(|cx| patience.poll_write(cx, Poll::Pending)).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(rested.elapsed() >= limit && rested.elapsed() < limit + Duration::from_secs(1));
    }
}
