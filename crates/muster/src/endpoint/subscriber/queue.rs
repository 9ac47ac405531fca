//! The queue between an endpoint's readers and one subscriber.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::{Overflow, Queue, QueueLimits, Queued};

use super::batch::Batch;
use crate::endpoint::counts::QueueDepth;
use crate::endpoint::in_order::{InOrder, Place};
use crate::endpoint::status::Status;
use crate::endpoint::too_large::TooLarge;

/// The most changes of peerings that wait for a subscriber; one that falls behind further is closed.
const MAX_STATUSES: usize = 65_536;

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
    /// The bounds of what waits.
    limits: QueueLimits,
    too_large: TooLarge,
    state: Mutex<State>,
}

/// What became of a batch that was given to a subscriber.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pushed {
    /// Whether the subscriber is behind now, so that more should wait.
    pub(crate) is_behind: bool,
    /// Whether its queue can never take the batch.
    pub(crate) is_too_large: bool,
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
            limits,
            too_large: TooLarge::default(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the bounds of what waits.
    pub(crate) fn limits(&self) -> QueueLimits {
        self.limits
    }

    /// Queues a batch.
    pub(crate) fn push(&self, batch: Batch) -> Pushed {
        self.push_in_order(batch, &[])
    }

    /// Queues a batch like [`SubscriberQueue::push`], for a subscriber that asks for order. `places` are those of the
    /// batch's messages; it is empty for other subscribers, and for messages that have no places.
    pub(crate) fn push_in_order(&self, mut batch: Batch, places: &[Place]) -> Pushed {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            self.count_closed([&batch]);
            return Pushed::default();
        }
        if !places.is_empty() {
            // Under the lock, as readers of several links may bring messages of one origin.
            let (batches, order) = state.parts();
            batch.keep(places, order, |late| {
                batches.count_dropped(DropCause::Reordered, &late.normalized(), 1);
            });
            if batch.is_empty() {
                return Pushed {
                    is_behind: state.batches.is_half_full() && self.may_take(),
                    is_too_large: false,
                };
            }
        }
        batch.number = state.next_number;
        state.next_number += 1;
        let was_idle = state.batches.is_empty();
        let is_too_large = batch.bytes() > self.limits.bytes;
        if is_too_large && let Some(largest) = batch.iter().max_by_key(|it| it.payload.len()) {
            let bytes = largest.topic.as_bytes().len() + largest.payload.len();
            let queue = "the queue of a subscriber here";
            let limit = self.limits.bytes;
            self.too_large.tell(queue, largest.topic, bytes, limit);
        }
        state.batches.push(batch);
        let is_behind = state.batches.is_half_full() && self.may_take();
        if was_idle {
            wake(state);
        }
        Pushed {
            is_behind,
            is_too_large,
        }
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
    pub(super) fn abandon(&self, taken: &VecDeque<Batch>) {
        let mut state = self.lock();
        state.closed = true;
        let mut queued = VecDeque::new();
        state.batches.take_all(&mut queued);
        let readers = std::mem::take(&mut state.room_wakers);
        wake(state);
        wake_all(readers);
        self.count_closed(taken.iter().chain(&queued));
    }

    /// Moves everything that waits into `batches`, and into `statuses`, which is empty. Returns `true` if the queue is
    /// closed.
    pub(super) fn take_all(
        &self,
        batches: &mut VecDeque<Batch>,
        statuses: &mut VecDeque<(u64, Status)>,
    ) -> bool {
        let mut state = self.lock();
        state.batches.take_all(batches);
        std::mem::swap(&mut state.statuses, statuses);
        let closed = state.closed;
        let readers = std::mem::take(&mut state.room_wakers);
        drop(state);
        wake_all(readers);
        closed
    }

    /// The subscriber uses one batch of those that it has moved out.
    pub(super) fn count_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the task when something waits, at once if it does already, or when the queue is closed.
    pub(super) fn wake_at_next(&self, cx: &mut Context<'_>) {
        let mut state = self.lock();
        if !state.batches.is_empty() || !state.statuses.is_empty() || state.closed {
            drop(state);
            cx.waker().wake_by_ref();
        } else {
            state.waker = Some(cx.waker().clone());
        }
    }

    pub(super) fn set_standing_waker(&self, waker: Waker) {
        self.lock().standing_waker = Some(waker);
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
