//! The queue between everything that sends to a peer and the task that writes to its connection.

pub(crate) mod at_once;
mod counts;
mod credit;
mod room;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::credit::Grants;
use muster_wire::envelope::{self, Control};
use muster_wire::mesh::codec::LinkFrame;
use muster_wire::peering::Protocol;
use muster_wire::{
    Class, ClassQueues, EndpointId, Message, Push, Queue, QueueLimits, Queued, Topic,
};
use tokio::sync::oneshot;

use super::config::EndpointConfig;
use super::outgoing::Outgoing;
use super::peer_options::Policies;
use super::status::PeerInfo;
use at_once::AtOnce;
pub(crate) use counts::{CompressedCounts, PeerCounts};

/// Why a peering ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// By this endpoint, gracefully or not.
    Removed(String),
    /// By the peer or the network.
    Lost(String),
}

impl EndReason {
    /// The end of a graceful removal.
    pub(crate) fn removed() -> Self {
        Self::Removed("removed connection to remote peer".to_owned())
    }
}

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
    control: VecDeque<Bytes>,
    /// The bytes of the control frames.
    control_bytes: usize,
    /// Where among the control frames a filter waits: the next one takes its place.
    filter_at: Option<usize>,
    data: ClassQueues<Outgoing>,
    /// Whether publishers that wait do so for this peer, in the order of [`Class`].
    is_waited_for: [bool; 4],
    /// The answer to the goodbye of a peer of version 2: the last that it is sent.
    farewell: Option<Bytes>,
    /// What the peer was granted.
    grants: Grants,
    /// Whether the peer has granted anything.
    knows_credit: bool,
    /// Queued data is still written, then BYE; nothing new is taken.
    closing: bool,
    /// The peer has said goodbye: it may close as soon as it has its answer.
    peer_closing: bool,
    ended: Option<EndReason>,
    waker: Option<Waker>,
    writer: Writer,
    waiting_for_room: usize,
    /// Tasks that wait for room, as many as there are publishers.
    room_wakers: Vec<Waker>,
    refused: DropLedger,
    next_ping: u64,
    /// The pings that wait for their pong.
    pings: Vec<(u64, oneshot::Sender<()>)>,
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

/// The most pings that wait for their pong.
const MAX_PINGS: usize = 64;

/// A peer's queue. Publishers, the reader and the owner put in, the writer takes all at once.
#[derive(Debug)]
pub(crate) struct PeerQueue {
    pub(crate) me: EndpointId,
    pub(crate) info: PeerInfo,
    control_limit: usize,
    control_bytes_limit: usize,
    frame_limit: usize,
    /// Whether the peer reads compressed frames.
    reads_zstd: bool,
    /// Whether the link is slow: then they are worth their time.
    is_slow: AtomicBool,
    /// The bounds of each class, for those that put messages together.
    limits: [Limits; 4],
    state: Mutex<State>,
    room: Condvar,
    /// Whether the peering was told of: with version 2 when the mesh has made it known.
    announced: AtomicBool,
    /// Whether the reader waits for the owner, and reads nothing meanwhile.
    waits: AtomicBool,
    at_once: OnceLock<Weak<dyn AtOnce>>,
    pub(crate) counts: PeerCounts,
}

/// The most frames of the mesh, and the most messages of its control class, that wait for a peer: a large
/// mesh that starts sends many small ones.
const MESH_FRAMES: usize = 65_536;

/// What is taken from the queues at once, about: as much as one write takes.
pub(crate) const TAKEN: usize = 256 << 10;

/// Why a mesh's goodbye is said.
const SHUTTING_DOWN: u8 = 1;

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

impl PeerQueue {
    pub(crate) fn new(me: EndpointId, info: PeerInfo, config: &EndpointConfig) -> Self {
        // Frames of the mesh, and the hellos of all its nodes that pass by here.
        let control_limit = match info.protocol {
            Protocol::V1 => config.control_queue,
            Protocol::V2 => MESH_FRAMES.max(config.control_queue),
        };
        let all = Policies::of_all(config);
        let state = State {
            control: VecDeque::new(),
            control_bytes: 0,
            filter_at: None,
            data: ClassQueues::new(all.classes, control_limit),
            is_waited_for: all.is_waited_for,
            farewell: None,
            grants: Grants::default(),
            knows_credit: false,
            closing: false,
            peer_closing: false,
            ended: None,
            waker: None,
            writer: Writer::Works,
            waiting_for_room: 0,
            room_wakers: Vec::new(),
            refused: DropLedger::default(),
            next_ping: 0,
            pings: Vec::new(),
        };
        Self {
            me,
            control_limit,
            announced: AtomicBool::new(info.protocol == Protocol::V1),
            waits: AtomicBool::new(false),
            info,
            control_bytes_limit: config.data_queue.bytes,
            frame_limit: config.frame_limit,
            reads_zstd: false,
            is_slow: AtomicBool::new(all.is_slow),
            limits: all.classes.map(|policy| Limits::new(policy.limits)),
            state: Mutex::new(state),
            room: Condvar::new(),
            at_once: OnceLock::new(),
            counts: PeerCounts::default(),
        }
    }

    /// The same with a peer that reads compressed frames, or does not.
    pub(crate) fn with_zstd(mut self, reads_zstd: bool) -> Self {
        self.reads_zstd = reads_zstd;
        self
    }

    /// Whether what is sent is compressed where that pays.
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
        self.tell_room(&mut state);
    }

    /// The bounds of a class's queue.
    pub(crate) fn limits(&self, class: Class) -> QueueLimits {
        self.limits[class as usize].get()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock; what it guards is consistent in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peering was told of.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }

    /// Notes that the peering is told of; says whether it was not before.
    pub(crate) fn announce(&self) -> bool {
        !self.announced.swap(true, Ordering::Relaxed)
    }

    /// Notes whether the reader waits for the owner.
    pub(crate) fn waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Whether the reader waits for the owner: what the peer sends meanwhile is not seen.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Offers a message, under the queue's policy.
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
            return self.class_of(&mut state, &item).refuse(&item, cause);
        }
        self.push_locked(state, item)
    }

    /// The queue of an item.
    fn class_of<'s>(&self, state: &'s mut State, item: &Outgoing) -> &'s mut Queue<Outgoing> {
        state.data.class_mut(self.queue_of(item))
    }

    /// The class whose queue an item is for: a peer of version 1 has one for all classes.
    fn queue_of(&self, item: &Outgoing) -> Class {
        match self.info.protocol {
            Protocol::V1 => Class::Event,
            Protocol::V2 => item.class(),
        }
    }

    fn push_locked(&self, mut state: MutexGuard<'_, State>, item: Outgoing) -> Push {
        let push = self.class_of(&mut state, &item).push(item);
        if push == Push::Dropped(DropCause::Disconnect) {
            self.end_locked(&mut state, EndReason::Lost("send queue is full".to_owned()));
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
        // The topic and header are at most 64 KiB more; the peer's limit is its own affair.
        (item.bytes() > self.frame_limit).then_some(DropCause::TooLarge)
    }

    /// Whether a pong's content confirms the goodbye that was said.
    pub(crate) fn ends_with(&self, content: &[u8]) -> bool {
        envelope::is_bye(content) && self.lock().closing
    }

    /// Whether both sides have said goodbye: then the connection's end is what both want.
    pub(crate) fn both_closing(&self) -> bool {
        let state = self.lock();
        state.closing && state.peer_closing
    }

    /// Sends a ping; what is returned is told of its pong. `None` if too many wait for theirs.
    pub(crate) fn ping(&self) -> Option<oneshot::Receiver<()>> {
        let (sender, pong) = oneshot::channel();
        let mut state = self.lock();
        state.pings.retain(|(_, waiting)| !waiting.is_closed());
        if state.ended.is_some() || state.pings.len() >= MAX_PINGS {
            return None;
        }
        state.next_ping += 1;
        let number = state.next_ping;
        state.pings.push((number, sender));
        drop(state);
        match self.info.protocol {
            Protocol::V1 => self.push_control(&Control::Ping(number.to_be_bytes().to_vec())),
            Protocol::V2 => self.push_link(&LinkFrame::Echo {
                is_answer: false,
                token: number,
            }),
        }
        Some(pong)
    }

    /// A pong has come.
    pub(crate) fn answered(&self, content: &[u8]) {
        if let Ok(number) = <[u8; 8]>::try_from(content) {
            self.echoed(u64::from_be_bytes(number));
        }
    }

    /// The answer to a ping has come.
    pub(crate) fn echoed(&self, number: u64) {
        let mut state = self.lock();
        if let Some(at) = state
            .pings
            .iter()
            .position(|(waiting, _)| *waiting == number)
        {
            let (_, waiting) = state.pings.swap_remove(at);
            let _ = waiting.send(());
        }
    }

    /// Queues a frame for the other end, before all data; too many of them, or too many bytes, end the peering.
    pub(crate) fn push_link(&self, frame: &LinkFrame) {
        self.push_mesh_encoded(encoded(|out| frame.write(out)));
    }

    /// Queues an encoded frame of the mesh, as [`PeerQueue::push_link`] does.
    pub(crate) fn push_mesh_encoded(&self, frame: Bytes) {
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        if !self.push_frame(&mut state, frame, false) {
            let full = EndReason::Lost("control queue is full".to_owned());
            self.end_locked(&mut state, full);
        }
        wake(state);
    }

    /// Says goodbye; the answer ends the peering.
    pub(crate) fn say_goodbye(&self) {
        match self.info.protocol {
            Protocol::V1 => self.push_control(&Control::Ping(envelope::bye(1))),
            Protocol::V2 => self.push_link(&goodbye()),
        }
    }

    /// The peer of version 2 has said goodbye; whether that ends the peering, as the answer to ours.
    /// Otherwise it is answered behind the data that it is to have.
    pub(crate) fn goodbye_came(&self) -> bool {
        let mut state = self.lock();
        if state.closing {
            return true;
        }
        if !state.peer_closing {
            state.peer_closing = true;
            state.farewell = Some(encoded(|out| goodbye().write(out)));
            // It waits for what is queued, and then grants nothing more.
            state.data.credits_mut().lift();
            wake(state);
        }
        false
    }

    /// Queues a control frame; too many of them, or too many bytes, end the peering, as none may be
    /// lost. A peer decides how long the answers to its pings are. One frame of any size has room.
    ///
    /// A filter takes the place of one that waits: only the last one counts, and how often it changes
    /// must not cost a peer that is only slow.
    pub(crate) fn push_control(&self, control: &Control) {
        let frame = control.frame(self.me, self.info.id);
        let mut state = self.lock();
        if state.ended.is_some() {
            return;
        }
        let behind_data = matches!(control, Control::Pong(content) if envelope::is_bye(content));
        state.peer_closing |= behind_data;
        let full = if behind_data {
            let queue = state.data.class_mut(Class::Event);
            let push = queue.push(Outgoing::Frame(frame.into()));
            matches!(push, Push::Dropped(_))
        } else {
            !self.push_frame(
                &mut state,
                frame.into(),
                matches!(control, Control::RoutingUpdate(_)),
            )
        };
        if full {
            self.end_locked(
                &mut state,
                EndReason::Lost("control queue is full".to_owned()),
            );
        }
        wake(state);
    }

    /// Whether there was room for a control frame.
    fn push_frame(&self, state: &mut State, frame: Bytes, is_filter: bool) -> bool {
        let replaced = state.filter_at.filter(|_| is_filter);
        let replaced_bytes = replaced.map_or(0, |at| state.control[at].len());
        let others = state.control.len() - usize::from(replaced.is_some());
        let bytes = state.control_bytes - replaced_bytes + frame.len();
        let has_room =
            others == 0 || (others < self.control_limit && bytes <= self.control_bytes_limit);
        if !has_room {
            return false;
        }
        state.control_bytes = bytes;
        if let Some(at) = replaced {
            state.control[at] = frame;
        } else {
            if is_filter {
                state.filter_at = Some(state.control.len());
            }
            state.control.push_back(frame);
        }
        true
    }

    /// Takes no more messages; the writer says goodbye when what is queued is written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.tell_room(&mut state);
        wake(state);
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
            state.control_bytes = 0;
            state.filter_at = None;
            state.farewell = None;
            state.pings.clear();
            self.tell_room(state);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
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
    /// peer has granted. A class that is held stays.
    pub(crate) fn take(
        &self,
        control: &mut VecDeque<Bytes>,
        data: &mut VecDeque<Outgoing>,
        holds_bulk: bool,
    ) -> Taken {
        let mut state = self.lock();
        state.writer = Writer::Works;
        state.data.hold(Class::Bulk, holds_bulk);
        if state.ended.is_some() {
            return Taken::Ended;
        }
        std::mem::swap(&mut state.control, control);
        state.control_bytes = 0;
        state.filter_at = None;
        state.data.take(TAKEN, data);
        state.data.hold(Class::Bulk, false);
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

    /// Counts a received message that is not taken.
    pub(crate) fn count_refused(&self, cause: DropCause, label: &str) {
        self.lock().refused.count(cause, label, 1);
    }

    /// What was received and refused.
    pub(crate) fn refused(&self) -> DropLedger {
        self.lock().refused.clone()
    }

    /// Messages and bytes queued, and what was dropped.
    pub(crate) fn depth(&self) -> (usize, usize, DropLedger) {
        let state = self.lock();
        (state.data.len(), state.data.bytes(), state.data.dropped())
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

/// A frame as bytes.
pub(crate) fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes.into()
}

fn goodbye() -> LinkFrame {
    LinkFrame::Goodbye {
        reason: SHUTTING_DOWN,
        text: "shutting down".to_owned(),
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
