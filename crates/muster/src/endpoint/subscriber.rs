//! Subscribers: bounded queues of received messages and of changes of peerings.

mod batch;
mod queue;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::counts::QueueDepth;
use super::owner::{Command, OwnerHandle};
use super::status::Status;
pub use batch::{Batch, Received};
pub(crate) use batch::{BatchEntry, bookkeeping, topic_cost};
pub(crate) use queue::{Hearing, SubscriberQueue, lock_ledger};

/// What a subscriber receives.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// Messages.
    Batch(Batch),
    /// A change of peerings. It comes before a peer's first message, or after its last.
    Status(Status),
}

fn owned<I>(prefixes: I) -> Vec<Box<[u8]>>
where
    I: IntoIterator,
    I::Item: AsRef<[u8]>,
{
    prefixes
        .into_iter()
        .map(|prefix| prefix.as_ref().into())
        .collect()
}

/// Receives the messages of its topic prefixes. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscriber {
    queue: Arc<SubscriberQueue>,
    /// `None` as long as the owner does not know it.
    number: Option<u64>,
    owner: OwnerHandle,
    taken: VecDeque<Batch>,
    statuses: VecDeque<(u64, Status)>,
}

/// Why there is nothing to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TryReceiveError {
    /// Nothing has arrived.
    #[error("nothing has arrived")]
    Empty,
    /// The endpoint has ended, or this subscriber fell too far behind in peering changes.
    #[error("the subscription has ended")]
    Closed,
}

impl Subscriber {
    pub(super) fn new(queue: Arc<SubscriberQueue>, owner: OwnerHandle) -> Self {
        Self {
            queue,
            number: None,
            owner,
            taken: VecDeque::new(),
            statuses: VecDeque::new(),
        }
    }

    /// The owner knows it by a number from now on. Returns where its messages go.
    pub(super) fn register(&mut self, number: u64) -> Arc<SubscriberQueue> {
        self.number = Some(number);
        Arc::clone(&self.queue)
    }

    /// Waits for the next batch or change of peerings. Returns `None` after the endpoint's end, once everything
    /// that was queued has been received. Nothing is lost if the future is dropped.
    pub async fn receive(&mut self) -> Option<Delivery> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Returns the next batch or change of peerings, without waiting.
    ///
    /// # Errors
    /// [`TryReceiveError::Empty`] if nothing has arrived, [`TryReceiveError::Closed`] if nothing will any more.
    pub fn try_receive(&mut self) -> Result<Delivery, TryReceiveError> {
        if let Some(next) = self.next_taken() {
            return Ok(next);
        }
        let closed = self.queue.take_all(&mut self.taken, &mut self.statuses);
        match self.next_taken() {
            Some(next) => Ok(next),
            None if closed => Err(TryReceiveError::Closed),
            None => Err(TryReceiveError::Empty),
        }
    }

    /// Sets a waker that is woken each time something arrives. For receivers that are not tasks.
    pub fn set_waker(&self, waker: Waker) {
        self.queue.set_standing_waker(waker);
    }

    /// Subscribes to one more topic prefix. The subscription is in force, and announced to the peers, when this
    /// returns.
    pub async fn subscribe(&self, prefix: impl AsRef<[u8]>) {
        self.subscribe_all([prefix]).await;
    }

    /// Subscribes to more topic prefixes with a single announcement. Every announcement holds all prefixes of the
    /// endpoint, so this costs less than one call for each prefix.
    pub async fn subscribe_all<I>(&self, prefixes: I)
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let prefixes = owned(prefixes);
        if let Some(number) = self.number {
            self.owner
                .call(|done| Command::Subscribe(number, prefixes, done))
                .await;
        }
    }

    /// Ends the subscription to one topic prefix. What is queued already is still received.
    pub async fn unsubscribe(&self, prefix: impl AsRef<[u8]>) {
        self.unsubscribe_all([prefix]).await;
    }

    /// Ends the subscriptions to topic prefixes with one announcement.
    pub async fn unsubscribe_all<I>(&self, prefixes: I)
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let prefixes = owned(prefixes);
        if let Some(number) = self.number {
            self.owner
                .call(|done| Command::Unsubscribe(number, prefixes, done))
                .await;
        }
    }

    /// Returns how full the queue is, and what was dropped: because the queue was full, or because the subscription
    /// had ended.
    pub fn depth(&self) -> QueueDepth {
        self.queue.depth()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        match self.try_receive() {
            Ok(delivery) => return Poll::Ready(Some(delivery)),
            Err(TryReceiveError::Closed) => return Poll::Ready(None),
            Err(TryReceiveError::Empty) => {}
        }
        self.queue.wake_at_next(cx);
        Poll::Pending
    }

    fn next_taken(&mut self) -> Option<Delivery> {
        let status_first = match (self.statuses.front(), self.taken.front()) {
            (Some((before, _)), Some(batch)) => *before <= batch.number,
            (status, _) => status.is_some(),
        };
        if status_first {
            return self
                .statuses
                .pop_front()
                .map(|(_, status)| Delivery::Status(status));
        }
        let batch = self.taken.pop_front()?;
        self.queue.count_taken();
        Some(Delivery::Batch(batch))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // If the owner is too busy to be told, it notices the closed queue by itself.
        self.queue.abandon(&self.taken);
        if let Some(number) = self.number {
            self.owner.tell(Command::DropSubscriber(number));
        }
    }
}
