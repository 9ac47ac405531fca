//! Subscribers: bounded queues of received messages and of changes of peerings.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{EndpointId, Message, Overflow, Queue, QueueLimits, Queued, Topic};

use super::counts::QueueDepth;
use super::in_order::{InOrder, Place};
use super::owner::{Command, OwnerHandle};
use super::status::Status;

/// The most changes of peerings that wait for a subscriber; one that falls behind further is closed.
const MAX_STATUSES: usize = 65_536;

/// Messages that arrived with one read from one peer's connection, sharing one buffer.
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) number: u64,
    pub(crate) from: EndpointId,
    pub(crate) buffer: Bytes,
    pub(crate) topics: Vec<Topic>,
    pub(crate) entries: Vec<BatchEntry>,
    /// The size of the allocation that `buffer` keeps alive.
    pub(crate) retained: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchEntry {
    pub(crate) topic: u32,
    pub(crate) start: u32,
    pub(crate) length: u32,
}

/// A received message whose payload is one validated value.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Its topic.
    pub topic: &'a Topic,
    /// The encoded value, already validated.
    pub payload: &'a [u8],
    /// The peer that it came from; for one of this endpoint's own messages, [`Publisher::id`].
    ///
    /// [`Publisher::id`]: crate::Publisher::id
    pub from: EndpointId,
}

impl Batch {
    /// A message of this endpoint's own.
    pub(crate) fn of_one(from: EndpointId, message: &Message) -> Self {
        let length = u32::try_from(message.payload.len()).unwrap_or(u32::MAX);
        Self {
            number: 0,
            from,
            buffer: message.payload.clone(),
            topics: vec![message.topic.clone()],
            entries: vec![BatchEntry {
                topic: 0,
                start: 0,
                length,
            }],
            retained: message.payload.len(),
        }
    }

    /// Keeps the messages that come behind none that is later; `late` is told of the topics of others.
    fn keep(&mut self, places: &[Place], order: &mut InOrder, mut late: impl FnMut(&Topic)) {
        let mut places = places.iter();
        let topics = &self.topics;
        self.entries.retain(|entry| {
            let follows = places.next().is_none_or(|place| order.follows(*place));
            if !follows {
                late(&topics[entry.topic as usize]);
            }
            follows
        });
    }

    /// The messages in the order received.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Received<'_>> {
        self.entries.iter().map(|entry| Received {
            topic: &self.topics[entry.topic as usize],
            payload: &self.buffer[entry.start as usize..(entry.start + entry.length) as usize],
            from: self.from,
        })
    }

    /// The peer that the messages came from.
    pub fn from(&self) -> EndpointId {
        self.from
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Queued for Batch {
    fn messages(&self) -> usize {
        self.entries.len()
    }

    fn bytes(&self) -> usize {
        let topics: usize = self
            .topics
            .iter()
            .map(|topic| topic.as_bytes().len() + size_of::<Topic>())
            .sum();
        self.retained + topics + self.entries.len() * size_of::<BatchEntry>() + size_of::<Self>()
    }

    fn count_dropped(&self, cause: DropCause, ledger: &mut DropLedger) {
        for message in self.iter() {
            ledger.count(cause, &message.topic.normalized(), 1);
        }
    }
}

/// What a subscriber gets.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// Messages.
    Batch(Batch),
    /// A change of peerings; stands before a peer's first message and behind its last.
    Status(Status),
}

#[derive(Debug)]
struct State {
    batches: Queue<Batch>,
    order: InOrder,
    next_number: u64,
    /// Each with the number of the batch that it stands before.
    statuses: VecDeque<(u64, Status)>,
    closed: bool,
    /// What is dropped from now on counts with the former subscribers too.
    retired: bool,
    waker: Option<Waker>,
    /// Stays after a wake, unlike a task's waker.
    standing_waker: Option<Waker>,
    /// Readers that hold back credit until there is room.
    room_wakers: Vec<Waker>,
}

impl State {
    fn parts(&mut self) -> (&mut Queue<Batch>, &mut InOrder) {
        (&mut self.batches, &mut self.order)
    }
}

/// What a subscriber receives besides its peers' messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    /// Nothing.
    Peers,
    /// Nothing, and of the peers' messages none that comes behind a later one of its origin and class.
    PeersInOrder,
    /// The changes of peerings.
    PeersAndStatuses,
    /// The messages of all publishers of the endpoint.
    PeersAndLocal,
}

/// The queue between the readers of an endpoint and one subscriber.
#[derive(Debug)]
pub(crate) struct SubscriberQueue {
    pub(crate) with_statuses: bool,
    /// Whether messages of the endpoint's own publishers are received too.
    pub(crate) hears_local: bool,
    /// Whether messages that come behind later ones are dropped.
    pub(crate) is_in_order: bool,
    /// What all former subscribers of the endpoint dropped. Locked before the state.
    former: Arc<Mutex<DropLedger>>,
    /// The batches that the subscriber has taken.
    taken: AtomicU64,
    /// What it had taken when it was given up as one that takes nothing: nobody waits for it until it does.
    given_up_at: AtomicU64,
    state: Mutex<State>,
}

impl SubscriberQueue {
    pub(crate) fn new(
        limits: QueueLimits,
        overflow: Overflow,
        hearing: Hearing,
        former: Arc<Mutex<DropLedger>>,
    ) -> Self {
        let state = State {
            batches: Queue::new(limits, overflow),
            order: InOrder::default(),
            next_number: 0,
            statuses: VecDeque::new(),
            closed: false,
            retired: false,
            waker: None,
            standing_waker: None,
            room_wakers: Vec::new(),
        };
        Self {
            with_statuses: hearing == Hearing::PeersAndStatuses,
            hears_local: hearing == Hearing::PeersAndLocal,
            is_in_order: hearing == Hearing::PeersInOrder,
            former,
            taken: AtomicU64::new(0),
            given_up_at: AtomicU64::new(u64::MAX),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a batch; whether the subscriber is behind now, so that more should wait.
    pub(crate) fn push(&self, batch: Batch) -> bool {
        self.push_in_order(batch, &[])
    }

    /// The same for a subscriber that asks for order, with the places of the batch's messages; for one that
    /// does not, and for messages that have none, there are no places.
    pub(crate) fn push_in_order(&self, mut batch: Batch, places: &[Place]) -> bool {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            self.count_closed([&batch]);
            return false;
        }
        if !places.is_empty() {
            // Under the lock, as readers of several links may bring messages of one origin.
            let (batches, order) = state.parts();
            batch.keep(places, order, |late| {
                batches.count_dropped(DropCause::Reordered, &late.normalized(), 1);
            });
            if batch.is_empty() {
                return state.batches.is_half_full() && self.may_take();
            }
        }
        batch.number = state.next_number;
        state.next_number += 1;
        let was_idle = state.batches.is_empty();
        state.batches.push(batch);
        let is_behind = state.batches.is_half_full() && self.may_take();
        if was_idle {
            wake(state);
        }
        is_behind
    }

    /// Whether the subscriber has taken something since it was given up.
    fn may_take(&self) -> bool {
        self.taken() != self.given_up_at.load(Ordering::Relaxed)
    }

    /// How many batches the subscriber has taken: a sign of life.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The subscriber has had `taken` batches for too long: until it takes another nobody waits for it.
    pub(crate) fn give_up_at(&self, taken: u64) {
        self.given_up_at.store(taken, Ordering::Relaxed);
    }

    /// Whether whoever fills the queue should wait.
    pub(crate) fn is_behind(&self) -> bool {
        let state = self.lock();
        state.batches.is_half_full() && !state.closed && self.may_take()
    }

    /// Waits until the subscriber is not behind any more, or is told to look again.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.batches.is_half_full() || state.closed {
            return Poll::Ready(());
        }
        let mut known = state.room_wakers.iter();
        if !known.any(|waker| waker.will_wake(cx.waker())) {
            state.room_wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn push_status(&self, status: Status) {
        if !self.with_statuses {
            return;
        }
        let mut state = self.lock();
        if state.statuses.len() >= MAX_STATUSES {
            state.closed = true;
        } else {
            let number = state.next_number;
            state.statuses.push_back((number, status));
        }
        wake(state);
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let readers = std::mem::take(&mut state.room_wakers);
        wake(state);
        wake_all(readers);
    }

    /// Counts batches that a closed queue has not handed to its subscriber.
    fn count_closed<'a>(&self, batches: impl IntoIterator<Item = &'a Batch>) {
        let mut former = lock_ledger(&self.former);
        let mut state = self.lock();
        let retired = state.retired;
        for batch in batches {
            state.batches.refuse(batch, DropCause::Closed);
            if retired {
                batch.count_dropped(DropCause::Closed, &mut former);
            }
        }
    }

    /// The queue leaves the routing table: its counts go to the former subscribers' ones.
    pub(crate) fn retire(&self) {
        let mut former = lock_ledger(&self.former);
        let mut state = self.lock();
        if !state.retired {
            state.retired = true;
            former.merge(state.batches.dropped());
        }
    }

    /// The subscriber has ended, having taken but not used some batches.
    fn abandon(&self, taken: &VecDeque<Batch>) {
        let mut state = self.lock();
        state.closed = true;
        let mut queued = VecDeque::new();
        state.batches.take_all(&mut queued);
        let readers = std::mem::take(&mut state.room_wakers);
        wake(state);
        wake_all(readers);
        self.count_closed(taken.iter().chain(&queued));
    }

    /// Adds what was dropped, unless it is among the former subscribers' counts.
    pub(crate) fn add_dropped(&self, sum: &mut DropLedger) {
        let state = self.lock();
        if !state.retired {
            sum.merge(state.batches.dropped());
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn depth(&self) -> QueueDepth {
        let state = self.lock();
        QueueDepth {
            messages: state.batches.len(),
            bytes: state.batches.bytes(),
            dropped: state.batches.dropped().clone(),
        }
    }
}

pub(crate) fn lock_ledger(ledger: &Mutex<DropLedger>) -> MutexGuard<'_, DropLedger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    let standing = state.standing_waker.clone();
    drop(state);
    for waker in [waker, standing].into_iter().flatten() {
        waker.wake();
    }
}

fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
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

/// Nothing to receive: either for now, or for ever.
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

    /// The next batch or change of peerings, without waiting.
    ///
    /// # Errors
    /// [`TryReceiveError::Empty`] if nothing has arrived, [`TryReceiveError::Closed`] if nothing will any more.
    pub fn try_receive(&mut self) -> Result<Delivery, TryReceiveError> {
        if let Some(next) = self.next_taken() {
            return Ok(next);
        }
        let mut state = self.queue.lock();
        state.batches.take_all(&mut self.taken);
        std::mem::swap(&mut state.statuses, &mut self.statuses);
        let closed = state.closed;
        let readers = std::mem::take(&mut state.room_wakers);
        drop(state);
        wake_all(readers);
        match self.next_taken() {
            Some(next) => Ok(next),
            None if closed => Err(TryReceiveError::Closed),
            None => Err(TryReceiveError::Empty),
        }
    }

    /// Sets what is woken, each time, when something arrives: for receivers that are not tasks.
    pub fn set_waker(&self, waker: Waker) {
        self.queue.lock().standing_waker = Some(waker);
    }

    /// Subscribes to one more topic prefix; in force, and announced to the peers, when this returns.
    pub async fn subscribe(&self, prefix: impl AsRef<[u8]>) {
        self.subscribe_all([prefix]).await;
    }

    /// Subscribes to more topic prefixes with one announcement, which each time holds all there are.
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

    /// Returns how full the queue is, and what was dropped: because the queue was full, or, behind the
    /// endpoint's end, because the subscription has ended.
    pub fn depth(&self) -> QueueDepth {
        self.queue.depth()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        match self.try_receive() {
            Ok(delivery) => return Poll::Ready(Some(delivery)),
            Err(TryReceiveError::Closed) => return Poll::Ready(None),
            Err(TryReceiveError::Empty) => {}
        }
        let mut state = self.queue.lock();
        if !state.batches.is_empty() || !state.statuses.is_empty() || state.closed {
            drop(state);
            cx.waker().wake_by_ref();
        } else {
            state.waker = Some(cx.waker().clone());
        }
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
        self.queue.taken.fetch_add(1, Ordering::Relaxed);
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
