//! What waits to be sent to a peer: publishers, readers and the owner put in, the writer takes.

pub(crate) mod control;
mod credit;
mod goodbye;
pub(crate) mod inline;
mod pings;
mod posting;
pub(crate) mod room;
mod runs;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use muster_wire::counters::DropCause;
use muster_wire::peering::Protocol;
use muster_wire::{
    Class, ClassQueues, MESSAGE_OVERHEAD, Message, Push, Queue, QueueLimits, Queued, Topic, frame,
};

use tokio::sync::Notify;

use super::config::EndpointConfig;
use super::counts::QueueDepth;
use super::end_reason::{EndReason, LossReason};
use super::outgoing::Outgoing;
use super::peer_options::Policies;
use super::too_large::TooLarge;
use control::ControlFrames;
use inline::InlineWriter;
use pings::Pings;
use room::Waiting;
use runs::Runs;

/// What the writer's task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Works,
    /// It waits for something to write; everything before it is written.
    Rests,
    /// Somebody else has begun a write that it has to go on with.
    HasRest,
}

#[derive(Debug)]
struct State {
    control: ControlFrames,
    data: ClassQueues<Outgoing>,
    /// Whether publishers that wait do so for this peer, in the order of [`Class`].
    is_waited_for: [bool; 4],
    /// The answer to the goodbye of a peer of version 2: the last that it is sent.
    farewell: Option<Bytes>,
    /// Whether the peer has granted anything.
    knows_credit: bool,
    /// Queued data is still written, then BYE; nothing new is taken.
    closing: bool,
    /// The peer has said goodbye: it may close as soon as it has its answer.
    peer_closing: bool,
    ended: Option<EndReason>,
    waker: Option<Waker>,
    writer: Writer,
    waiting: Waiting,
    pings: Pings,
    runs: Runs,
}

/// Bounds that many read for each message, and that hardly ever change.
#[derive(Debug)]
struct Limits {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Limits {
    fn new(limits: QueueLimits) -> Self {
        Self {
            messages: AtomicUsize::new(limits.messages),
            bytes: AtomicUsize::new(limits.bytes),
        }
    }

    fn set(&self, limits: QueueLimits) {
        self.messages.store(limits.messages, Ordering::Relaxed);
        self.bytes.store(limits.bytes, Ordering::Relaxed);
    }

    fn get(&self) -> QueueLimits {
        QueueLimits {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// What waits to be sent to one peer, in the order in which it is: control frames before all data, and the classes of
/// that by their weights. The writer takes as much at once as one write has.
#[derive(Debug)]
pub(crate) struct SendQueue {
    protocol: Protocol,
    /// Who it is for, in messages for people.
    peer: String,
    /// The largest message, in bytes of topic and payload.
    largest: usize,
    too_large: TooLarge,
    /// Whether the peer reads compressed frames.
    reads_zstd: bool,
    /// Whether the peer reads runs of messages.
    reads_runs: bool,
    /// Whether the link is slow: then compressed frames are worth their time.
    is_slow: AtomicBool,
    /// The bounds of each class, for those that put messages together.
    limits: [Limits; 4],
    state: Mutex<State>,
    room: Condvar,
    /// How often the writer has taken something.
    taken: AtomicU64,
    /// Classes of which more than half is in use, and for which nobody lets others wait any more.
    given_up: [AtomicBool; 4],
    inline_writer: OnceLock<Weak<dyn InlineWriter>>,
    /// Told when the peering has ended.
    over: Notify,
}

/// The most frames of the mesh, and the most messages of its control class, that wait for a peer: a large
/// mesh that starts sends many small ones.
const MESH_FRAMES: usize = 65_536;

/// What is taken from the queues at once, about: as much as one write takes.
pub(crate) const TAKEN: usize = 256 << 10;

/// A peer whose frames must be smaller is sent no runs: whatever is written of them, or passed on, is smaller than this.
const LARGE_ENOUGH: usize = 256 << 10;

/// What the writer took.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Work,
    /// Everything was taken and written: say goodbye.
    Drained,
    /// The rest waits for credit, and nothing more comes.
    Blocked,
    Ended,
}

impl SendQueue {
    pub(crate) fn new(protocol: Protocol, config: &EndpointConfig) -> Self {
        // Frames of the mesh, and the hellos of all its nodes that pass by here.
        let control_limit = match protocol {
            Protocol::V1 => config.control_queue,
            Protocol::V2 => MESH_FRAMES.max(config.control_queue),
        };
        let all = Policies::of_all(config);
        let state = State {
            control: ControlFrames::new(control_limit, config.data_queue.bytes),
            data: ClassQueues::new(all.classes, control_limit),
            is_waited_for: all.is_waited_for,
            farewell: None,
            knows_credit: false,
            closing: false,
            peer_closing: false,
            ended: None,
            waker: None,
            writer: Writer::Works,
            waiting: Waiting::default(),
            pings: Pings::default(),
            runs: Runs::default(),
        };
        Self {
            protocol,
            peer: String::new(),
            largest: config.largest_message(),
            too_large: TooLarge::default(),
            reads_zstd: false,
            reads_runs: false,
            is_slow: AtomicBool::new(all.is_slow),
            limits: all.classes.map(|policy| Limits::new(policy.limits)),
            state: Mutex::new(state),
            room: Condvar::new(),
            taken: AtomicU64::new(0),
            given_up: [const { AtomicBool::new(false) }; 4],
            inline_writer: OnceLock::new(),
            over: Notify::new(),
        }
    }

    /// The queue for a peer that reads frames with payloads of so many bytes, if it has said so.
    pub(crate) fn with_largest_frame(mut self, bytes: Option<usize>) -> Self {
        let largest = bytes.map(|bytes| bytes.saturating_sub(frame::MESSAGE_ROOM));
        self.largest = self.largest.min(largest.unwrap_or(usize::MAX));
        self
    }

    /// The queue for a peer that reads compressed frames, or does not.
    pub(crate) fn with_zstd(mut self, reads_zstd: bool) -> Self {
        self.reads_zstd = reads_zstd;
        self
    }

    /// The queue for a peer that reads runs of messages, or does not.
    pub(crate) fn with_runs(mut self, reads_runs: bool) -> Self {
        self.reads_runs = reads_runs && self.largest >= LARGE_ENOUGH;
        self
    }

    /// Returns `true` if the peer is sent runs. Over a slow link batches are, which are compressed.
    pub(crate) fn takes_runs(&self) -> bool {
        self.reads_runs && !self.compresses()
    }

    /// The queue for a peer that is called this in messages for people.
    pub(crate) fn towards(mut self, peer: String) -> Self {
        self.peer = peer;
        self
    }

    /// Returns `true` if what is sent is compressed where that pays.
    pub(crate) fn compresses(&self) -> bool {
        self.reads_zstd && self.is_slow.load(Ordering::Relaxed)
    }

    /// Has other bounds and rules from now on.
    pub(crate) fn set_policies(&self, policies: &Policies) {
        let mut state = self.lock();
        state.data.set_policies(policies.classes);
        state.is_waited_for = policies.is_waited_for;
        self.is_slow.store(policies.is_slow, Ordering::Relaxed);
        for (limits, policy) in self.limits.iter().zip(&policies.classes) {
            limits.set(policy.limits);
        }
        // Those that wait may have room now, or nobody to wait for.
        self.tell_all(&mut state);
    }

    /// The bounds of a class's queue.
    pub(crate) fn limits(&self, class: Class) -> QueueLimits {
        self.limits[class as usize].get()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock; what it guards is consistent in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a message by itself, under the queue's policy.
    pub(crate) fn push(&self, message: Message) -> Push {
        self.offer(Outgoing::Message(message))
    }

    /// Offers a message that is addressed to this peer of version 1, under the queue's policy.
    pub(crate) fn push_addressed(&self, message: Message) -> Push {
        self.offer(Outgoing::Addressed(message))
    }

    fn offer(&self, item: Outgoing) -> Push {
        let mut state = self.lock();
        if let Some(cause) = self.cannot_take(&state, &item) {
            return self.refuse(&mut state, &item, cause);
        }
        self.push_locked(state, item)
    }

    fn tell_too_large(&self, topic: &Topic, bytes: usize, class: Class) {
        let queue = format!("the queue towards {}", self.peer);
        let limit = self.limits(class).bytes.saturating_sub(MESSAGE_OVERHEAD);
        self.too_large
            .tell(&queue, topic, bytes, limit.min(self.largest));
    }

    /// Counts an item that is not taken.
    fn refuse(&self, state: &mut State, item: &Outgoing, cause: DropCause) -> Push {
        if let (DropCause::TooLarge, Some((topic, bytes))) = (cause, item.largest()) {
            self.tell_too_large(topic, bytes, self.queue_of(item));
        }
        self.class_of(state, item).refuse(item, cause)
    }

    /// The queue of an item.
    fn class_of<'s>(&self, state: &'s mut State, item: &Outgoing) -> &'s mut Queue<Outgoing> {
        state.data.class_mut(self.queue_of(item))
    }

    /// The class whose queue an item is for: a peer of version 1 has one for all classes.
    fn queue_of(&self, item: &Outgoing) -> Class {
        self.queue_of_class(item.class())
    }

    fn queue_of_class(&self, class: Class) -> Class {
        match self.protocol {
            Protocol::V1 => Class::Event,
            Protocol::V2 => class,
        }
    }

    fn push_locked(&self, mut state: MutexGuard<'_, State>, item: Outgoing) -> Push {
        let push = self.class_of(&mut state, &item).push(item);
        self.pushed(state, push)
    }

    /// Deals with what became of what was pushed.
    fn pushed(&self, mut state: MutexGuard<'_, State>, push: Push) -> Push {
        if push == Push::Dropped(DropCause::Disconnect) {
            self.end_locked(&mut state, LossReason::SendQueueFull.into());
        } else if matches!(
            push,
            Push::Queued {
                was_empty: true,
                ..
            }
        ) {
            wake(state);
        }
        push
    }

    fn cannot_take(&self, state: &State, item: &Outgoing) -> Option<DropCause> {
        if state.closing || state.ended.is_some() {
            return Some(DropCause::PeerGone);
        }
        let is_over = item.bytes() > self.limits(self.queue_of(item)).bytes
            || item
                .largest()
                .is_some_and(|(_, bytes)| bytes > self.largest);
        is_over.then_some(DropCause::TooLarge)
    }

    /// Ends the peering at once. The first reason stays.
    pub(crate) fn end(&self, reason: EndReason) {
        let mut state = self.lock();
        self.end_locked(&mut state, reason);
        wake(state);
    }

    fn end_locked(&self, state: &mut State, reason: EndReason) {
        if state.ended.is_none() {
            state.ended = Some(reason);
            state.data.clear(DropCause::PeerGone);
            state.control.clear();
            state.farewell = None;
            state.pings.clear();
            self.tell_all(state);
            self.over.notify_one();
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// Waits for the end of the peering, for the connection: its writer may be stuck in a write, and sees no end.
    pub(crate) async fn until_ended(&self) {
        self.over.notified().await;
    }

    /// Why the peering ended, if it did.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.lock().ended.clone()
    }

    /// Counts messages that were taken and not written: by topic, and as they were taken.
    pub(crate) fn count_unwritten(&self, topics: &[Topic], items: &VecDeque<Outgoing>) {
        if topics.is_empty() && items.is_empty() {
            return;
        }
        let mut state = self.lock();
        let queue = state.data.class_mut(Class::Event);
        for topic in topics {
            let label = topic.normalized();
            queue.count_dropped(DropCause::PeerGone, &label, 1);
        }
        for item in items {
            queue.refuse(item, DropCause::PeerGone);
        }
    }

    /// Waits until there is something to write or to end.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let idle = state.has_nothing();
        if idle && !state.closing && state.ended.is_none() {
            state.writer = Writer::Rests;
            state.runs.rest();
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Waits until there is something to write or the peering has ended, also while it is closing.
    pub(crate) fn poll_work(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.has_nothing() || state.ended.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until the peering has ended.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.ended.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes control frames, which go first, and about as much data as one write takes, with what of it the
    /// peer has granted. A class that is held stays. The buffers of runs that are written are used again.
    pub(crate) fn take(
        &self,
        control: &mut VecDeque<Bytes>,
        data: &mut VecDeque<Outgoing>,
        holds_bulk: bool,
        written: &mut Vec<Vec<u8>>,
    ) -> Taken {
        let mut state = self.lock();
        state.runs.give_back(written);
        state.writer = Writer::Works;
        state.data.hold(Class::Bulk, holds_bulk);
        if state.ended.is_some() {
            return Taken::Ended;
        }
        state.control.take(control);
        state.data.take(TAKEN, data);
        state.data.hold(Class::Bulk, false);
        if !data.is_empty() {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        if state.data.is_empty() {
            data.extend(state.farewell.take().map(Outgoing::Frame));
        }
        self.tell_room(&mut state);
        if control.is_empty() && data.is_empty() && state.closing {
            let is_drained = state.data.is_empty();
            return if is_drained {
                Taken::Drained
            } else {
                Taken::Blocked
            };
        }
        Taken::Work
    }

    /// How full it is.
    pub(crate) fn depth(&self) -> QueueDepth {
        let state = self.lock();
        QueueDepth {
            messages: state.data.len(),
            bytes: state.data.bytes(),
            dropped: state.data.dropped(),
        }
    }

    /// Messages queued.
    pub(crate) fn len(&self) -> usize {
        self.lock().data.len()
    }
}

impl State {
    /// Whether there is nothing to write.
    fn has_nothing(&self) -> bool {
        let has_none = self.control.is_empty() && self.farewell.is_none();
        has_none && self.writer != Writer::HasRest && !self.data.is_ready()
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
pub(crate) mod tests;
