//! Waiting until the nodes that a program needs are mutually up.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use muster_cluster::{Quorum, ReadyError};
use tokio::sync::oneshot;

/// Waits that the loop has not taken up yet.
const PENDING: usize = 64;

/// How a wait ends.
pub(crate) type Outcome = Result<(), ReadyError>;

/// A wait that the loop is to take up.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) quorum: Quorum,
    pub(crate) limit: Duration,
    done: oneshot::Sender<Outcome>,
}

/// The handle's side: hands waits over.
#[derive(Debug, Clone)]
pub(crate) struct Waits(SyncSender<Wait>);

impl Waits {
    /// Both sides.
    pub(crate) fn channel() -> (Self, Waiting) {
        let (sender, new) = sync_channel(PENDING);
        let waiting = Waiting {
            new,
            next: 0,
            under_way: BTreeMap::new(),
        };
        (Self(sender), waiting)
    }

    /// Hands a wait over, and gives what will be told of its end.
    pub(crate) fn begin(
        &self,
        quorum: Quorum,
        limit: Duration,
    ) -> Result<oneshot::Receiver<Outcome>, ReadyError> {
        let (done, outcome) = oneshot::channel();
        let wait = Wait {
            quorum,
            limit,
            done,
        };
        match self.0.try_send(wait) {
            Ok(()) => Ok(outcome),
            Err(TrySendError::Full(_)) => Err(ReadyError::TooMany),
            Err(TrySendError::Disconnected(_)) => Err(ReadyError::Stopped),
        }
    }
}

/// The loop's side: the waits that are under way.
#[derive(Debug)]
pub(crate) struct Waiting {
    new: Receiver<Wait>,
    next: u64,
    under_way: BTreeMap<u64, oneshot::Sender<Outcome>>,
}

impl Waiting {
    /// Takes a new wait, and the token that its end is told by.
    pub(crate) fn take(&mut self) -> Option<(u64, Quorum, Duration)> {
        let Wait {
            quorum,
            limit,
            done,
        } = self.new.try_recv().ok()?;
        self.next += 1;
        self.under_way.insert(self.next, done);
        Some((self.next, quorum, limit))
    }

    /// A wait whose future was dropped.
    pub(crate) fn given_up(&mut self) -> Option<u64> {
        let mut under_way = self.under_way.iter();
        let (&token, _) = under_way.find(|(_, done)| done.is_closed())?;
        self.under_way.remove(&token);
        Some(token)
    }

    /// A wait has ended.
    pub(crate) fn end(&mut self, token: u64, outcome: Outcome) {
        if let Some(done) = self.under_way.remove(&token) {
            // Whoever does not wait any longer does not mind.
            let _ = done.send(outcome);
        }
    }
}
