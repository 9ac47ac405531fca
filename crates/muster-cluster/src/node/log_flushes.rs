//! Flushes of a node's frameworks: a handler that has logged hears when everything up to there is safe.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use muster_data::Timestamp;

use super::NodeLoop;
use super::context::Context;
use super::dispatch::call;
use super::framework::Framework;
use super::node_core::NodeCore;
use super::stores::Continuation;
use crate::delivery::Flushed;

/// What is done with a flush's outcome.
pub(crate) type Then<F> = Box<dyn FnOnce(&mut F, &mut Context<'_>, Flushed) + Send>;

/// A flush of the node's log records; from [`Context::flush_logs`]. It is made when it is decided what follows: with
/// [`LogFlush::then`].
#[derive(Debug)]
#[must_use = "nothing is flushed until it is said what follows"]
pub struct LogFlush<'a, 'c> {
    cx: &'a mut Context<'c>,
    within: Option<Duration>,
}

/// What a node has of flushes whose framework does not know the outcome.
#[derive(Default)]
pub(super) struct LogFlushes {
    /// By token.
    waiting: HashMap<u64, Waiting>,
}

struct Waiting {
    framework: usize,
    then: Continuation,
    event_time: Option<Timestamp>,
}

impl fmt::Debug for LogFlushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogFlushes")
            .field("waiting", &self.waiting.len())
            .finish()
    }
}

/// A flush that has ended.
pub(super) struct EndedFlush {
    waiting: Waiting,
    flushed: Flushed,
}

impl<'c> Context<'c> {
    /// Asks to hear when everything that this life of the node has logged up to now is safe: acknowledged by a logger, or in the node's
    /// spool on disk. Records of other frameworks, and what the node gives on for Zeek's, are among it. The outcome comes as a call of
    /// [`then`](LogFlush::then).
    ///
    /// *[`Flushed::is_safe`] holds only if each record that was logged before is acknowledged or in the spool, but for those of
    /// which an earlier flush of this framework has said that they are not.* What a logger acknowledges is in one final file of one logger;
    /// what is in the spool can only be lost with the disk, and is counted then.
    ///
    /// What has no batch yet gets one at once, so flush now and then, and not after every record.
    pub fn flush_logs<'a>(&'a mut self) -> LogFlush<'a, 'c> {
        LogFlush {
            cx: self,
            within: None,
        }
    }
}

impl LogFlush<'_, '_> {
    /// Sets the deadline, from now on. Unless it is set the flush ends when the fate of every record is known, which may
    /// take as long as no logger is there.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = Some(limit);
        self
    }

    /// Makes the flush. When it has ended, `then` is called with the framework, like a handler of an event, and never before the
    /// present handler has returned. Every flush has an outcome, unless the process dies: a node that stops ends those that are
    /// open after its last word with the loggers. [`Context::event_time`] is what it is now. 256 flushes of a node can be open.
    pub fn then<F: Framework>(
        self,
        then: impl FnOnce(&mut F, &mut Context<'_>, Flushed) + Send + 'static,
    ) {
        let then: Then<F> = Box::new(then);
        let framework = self.cx.framework;
        self.cx
            .core
            .flush_for(framework, self.within, Box::new(then));
    }
}

impl NodeCore {
    /// Makes all that is gathered batches.
    pub(super) fn ship_gathered(&mut self) {
        for stream in self.logging.logs.due(None) {
            self.ship(stream);
        }
    }

    fn flush_for(&mut self, framework: usize, within: Option<Duration>, then: Continuation) {
        self.ship_gathered();
        let deadline = within.map(|limit| self.clock.now.mono.after(limit));
        let event_time = self.clock.event_time;
        let token = self.logging.shipping.shipper.flush(framework, deadline);
        let waiting = Waiting {
            framework,
            then,
            event_time,
        };
        self.logging.flushes.waiting.insert(token, waiting);
    }

    /// Returns the next flush that has ended.
    pub(super) fn take_ended_flush(&mut self) -> Option<EndedFlush> {
        let (token, flushed) = self.logging.shipping.shipper.flushes.take_ended()?;
        let waiting = self.logging.flushes.waiting.remove(&token)?;
        Some(EndedFlush { waiting, flushed })
    }
}

/// A point in what a node has logged; from [`NodeLoop::mark_logs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogMark(u64);

impl NodeLoop {
    /// Returns a mark behind everything that the node has logged so far. What has no batch yet gets one at once.
    pub fn mark_logs(&mut self) -> LogMark {
        self.core.ship_gathered();
        LogMark(self.core.logging.shipping.shipper.next_number())
    }

    /// Returns `true` if each record before a mark is acknowledged or in the spool, or was given to a logger that does not
    /// acknowledge, or is lost and counted. It is asked also after [`Input::End`](super::Input::End), as the spool may take what is left.
    pub fn has_settled(&self, mark: LogMark) -> bool {
        self.core.logging.shipping.shipper.has_settled(mark.0)
    }

    /// Tells a framework what became of its flush.
    pub(super) fn resume_flush(&mut self, ended: EndedFlush) {
        let EndedFlush { waiting, flushed } = ended;
        let Some(hosted) = self.frameworks.get_mut(waiting.framework) else {
            return;
        };
        let place = "a flush's outcome";
        self.core.clock.event_time = waiting.event_time;
        call(
            &mut self.core,
            waiting.framework,
            &mut **hosted,
            place,
            |hosted, cx| hosted.resume_flush(waiting.then, flushed, cx),
        );
        self.core.clock.event_time = None;
    }
}
