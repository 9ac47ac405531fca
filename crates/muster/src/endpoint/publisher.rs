//! Publishers: the path from an author's value to the peers' queues.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use muster_data::Encode;
use muster_wire::counters::DropCause;
use muster_wire::peering::Protocol;
use muster_wire::routing::{PeerEntry, Route, RouteCache};
use muster_wire::{Class, EndpointId, Kind, Push, Topic};

use super::peer_session::PeerSession;
use super::post::Post;
use super::recycling;
use super::send_queue::room::WAITS_FROM;
use super::shared::{Shared, Table};
use super::subscriber::Batch;

/// What became of a published message. A queued message may still be lost: the queue may drop it, which is counted
/// with the peer, or the connection may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Outcome {
    /// The number of peers whose queue has it.
    pub queued_to: usize,
    /// The number of peers for which it was dropped; the cause is counted with the peer.
    pub dropped: usize,
    /// The number of older messages that were dropped to make room for it.
    pub displaced: usize,
    /// The number of receivers that can never take it, because it is too large for them: peers, which are among
    /// [`Outcome::dropped`], and this endpoint's subscribers.
    /// [`EndpointConfig::largest_message`](crate::EndpointConfig::largest_message) is what all can take by default.
    pub too_large: usize,
    /// The number of this endpoint's subscribers that received it.
    pub local: usize,
    /// Whether it is held, within the bounds of a peer's queue, until the endpoint has joined its mesh. Before that
    /// its receivers are not known.
    pub held: bool,
}

impl Outcome {
    /// Returns `true` if nobody subscribes to the topic, as far as this endpoint knows.
    pub fn no_subscriber(&self) -> bool {
        let none = self.queued_to == 0 && self.dropped == 0 && self.local == 0;
        none && self.too_large == 0 && !self.held
    }
}

/// Publishes values. The messages of one publisher in one class arrive in the order in which they were published;
/// there is no order between two publishers. Cheap to create; each thread or task has its own.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    /// The routing table that was there last.
    table: Cache<CurrentTable, Arc<Table>>,
    /// What all subscribers of this endpoint see as the sender, if they hear this publisher.
    local: Option<EndpointId>,
    routes: RouteCache,
    scratch: Vec<u8>,
}

/// Where the routing table is.
#[derive(Debug, Clone)]
struct CurrentTable(Arc<Shared>);

impl Deref for CurrentTable {
    type Target = ArcSwap<Table>;

    fn deref(&self) -> &ArcSwap<Table> {
        &self.0.table
    }
}

/// Values from this size on are not copied out of the buffer that they are encoded into.
const LARGE: usize = 4 << 10;

/// The largest buffer that is kept ready for the next value.
const SCRATCH_KEPT: usize = 8 << 20;

/// To more peers than this a message is written by their writers' tasks: whoever publishes does not wait, not even
/// for a hundred calls of the system.
const INLINE: usize = 4;

/// The part of a large value by which the buffer for the next one is larger, as a divisor: values of about
/// one size must not grow it again, and none may waste [`WASTED`].
const SLACK: usize = 32;

/// A buffer of which more than this part, as a divisor, is unused is cut to size.
const WASTED: usize = 8;

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>, local: Option<EndpointId>) -> Self {
        Self {
            table: Cache::new(CurrentTable(Arc::clone(&shared))),
            shared,
            local,
            routes: RouteCache::default(),
            scratch: Vec::new(),
        }
    }

    /// Returns the sender that this endpoint's subscribers see: an id of its own for a [local
    /// publisher](crate::Endpoint::local_publisher), otherwise the endpoint's.
    pub fn id(&self) -> EndpointId {
        self.local.unwrap_or(self.shared.me)
    }

    /// Publishes a value as an ordinary event. Never waits: a peer's full queue drops by its policy, as the outcome
    /// says. The value is encoded once, on this thread, whatever the number of peers; a lone small message may be
    /// written to the connection here as well.
    pub fn publish(&mut self, topic: &Topic, value: &(impl Encode + ?Sized)) -> Outcome {
        self.publish_as(Class::Event, topic, value)
    }

    /// Publishes a value in a class of traffic. Never waits. Two classes have no order between them.
    pub fn publish_as(
        &mut self,
        class: Class,
        topic: &Topic,
        value: &(impl Encode + ?Sized),
    ) -> Outcome {
        let payload = self.encode(value);
        self.parts()
            .send(topic, payload.as_ref(), Kind::Data, class)
    }

    /// Publishes an encoded value in a class of traffic. Never waits. The bytes must be one valid value, which is not
    /// checked: receivers drop what is not one.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a large payload is kept by the queues as it is"
    )]
    pub fn publish_encoded(&mut self, topic: &Topic, payload: Bytes, class: Class) -> Outcome {
        self.parts().send(topic, Some(&payload), Kind::Data, class)
    }

    /// Publishes a command of a store; never waits.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a large payload is kept by the queues as it is"
    )]
    pub(crate) fn publish_command(
        &mut self,
        topic: &Topic,
        payload: Bytes,
        class: Class,
    ) -> Outcome {
        self.parts()
            .send(topic, Some(&payload), Kind::Command, class)
    }

    /// Sends a command of a store to one direct peer of version 1, addressed to it; never waits. Whether there
    /// is such a peer.
    pub(crate) fn command_to(&mut self, to: EndpointId, topic: &Topic, payload: Bytes) -> bool {
        let table = self.shared.table.load();
        let peer = table
            .entry(to)
            .filter(|peer| peer.protocol == Protocol::V1 && !table.leaves_to_others(to));
        let Some(peer) = peer else {
            return false;
        };
        let message = self
            .shared
            .message_of(Kind::Command, topic, payload, Class::Event);
        peer.handle.queue.push_addressed(message);
        true
    }

    /// Publishes a value and waits, at most `limit` in all, while a matching queue holds a mebibyte or is full. For peers
    /// whose queue is still full then, the message is dropped. While the endpoint is joining its mesh, it waits for room among the
    /// messages that are held.
    ///
    /// Blocks the thread: not for use inside a task.
    pub fn publish_blocking(
        &mut self,
        topic: &Topic,
        value: &(impl Encode + ?Sized),
        limit: Duration,
    ) -> Outcome {
        let payload = self.encode(value);
        self.parts().send_blocking(topic, payload.as_ref(), limit)
    }

    /// Publishes a value as [`Publisher::publish_blocking`] does, for use inside a task. If the future is dropped, the
    /// peers that had room have the message, and the others do not get it.
    pub async fn publish_waiting(
        &mut self,
        topic: &Topic,
        value: &(impl Encode + ?Sized),
        limit: Duration,
    ) -> Outcome {
        let payload = self.encode(value);
        self.parts()
            .send_waiting(topic, payload.as_ref(), limit)
            .await
    }

    /// Publishes an encoded value as [`Publisher::publish_waiting`] does.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a large payload is kept by the queues as it is"
    )]
    pub async fn publish_encoded_waiting(
        &mut self,
        topic: &Topic,
        payload: Bytes,
        limit: Duration,
    ) -> Outcome {
        self.parts()
            .send_waiting(topic, Some(&payload), limit)
            .await
    }

    fn parts(&mut self) -> Parts<'_> {
        Parts {
            shared: &self.shared,
            table: self.table.load(),
            local: self.local,
            routes: &mut self.routes,
            scratch: &self.scratch,
        }
    }

    /// Encodes a value into the buffer for small ones, where it stays; a large one is given away with its buffer.
    fn encode(&mut self, value: &(impl Encode + ?Sized)) -> Option<Bytes> {
        self.scratch.clear();
        value.encode(&mut self.scratch);
        let length = self.scratch.len();
        if length < LARGE {
            return None;
        }
        // A large value is given away with the buffer it was encoded into; the next is likely as large. A
        // buffer that is a byte too small is doubled, filled and cut to size: at 1 MiB, two thirds of the
        // publisher's CPU.
        let next = (length + length / SLACK).min(SCRATCH_KEPT);
        let buffer = if next < recycling::LARGE {
            Vec::with_capacity(next)
        } else {
            self.shared.recycling.for_payload(next)
        };
        let mut encoded = std::mem::replace(&mut self.scratch, buffer);
        if encoded.capacity() - length > length / WASTED {
            encoded.shrink_to_fit();
        }
        Some(self.shared.recycling.payload(encoded))
    }
}

/// What a message is sent with.
struct Parts<'p> {
    shared: &'p Shared,
    table: &'p Table,
    local: Option<EndpointId>,
    routes: &'p mut RouteCache,
    /// The last value, if it is small.
    scratch: &'p [u8],
}

impl Parts<'_> {
    /// Sends a payload, or the last value. Never waits.
    fn send(self, topic: &Topic, payload: Option<&Bytes>, kind: Kind, class: Class) -> Outcome {
        let Self { shared, table, .. } = self;
        let mut outcome = Outcome::default();
        let mut post = shared.post(topic, (payload, self.scratch), kind, class);
        if shared.join_buffer.is_open() {
            note_held(&mut outcome, shared.join_buffer.hold(&post.message()));
        }
        let Some(route) = self.routes.route(table, topic) else {
            return outcome;
        };
        if kind == Kind::Data {
            deliver_locally(&mut outcome, shared, self.local, table, route, &post);
        }
        post.set_peers(route.peers.len());
        let may_be_inline = route.peers.len() <= INLINE;
        for peer in peers_now(outcome, table, route) {
            let queue = &peer.handle.queue;
            if let Some(dropped) = queue.adds_to_run(&post, usize::MAX) {
                outcome.queued_to += 1;
                outcome.displaced += dropped;
            } else if may_be_inline {
                note_pushed(&mut outcome, queue.post_inline(&post));
            } else {
                note_pushed(&mut outcome, queue.post(&post));
            }
        }
        outcome
    }

    /// Sends a payload, or the last value, and blocks the thread while there is no room.
    fn send_blocking(self, topic: &Topic, payload: Option<&Bytes>, limit: Duration) -> Outcome {
        let Self { shared, table, .. } = self;
        let mut outcome = Outcome::default();
        let mut post = shared.post(topic, (payload, self.scratch), Kind::Data, Class::Event);
        // The clock is read when there is something to wait for.
        let mut deadline = None;
        let mut deadline = || *deadline.get_or_insert_with(|| Instant::now() + limit);
        if shared.join_buffer.is_open() {
            let buffer = &shared.join_buffer;
            let held = buffer.hold_blocking(&post.message(), deadline());
            note_held(&mut outcome, held);
        }
        let Some(route) = self.routes.route(table, topic) else {
            return outcome;
        };
        deliver_locally(&mut outcome, shared, self.local, table, route, &post);
        post.set_peers(route.peers.len());
        for peer in post_where_room(&mut outcome, table, route, &post) {
            let pushed = peer.handle.queue.post_blocking(&post, deadline());
            note_pushed(&mut outcome, pushed);
        }
        outcome
    }

    /// Sends a payload, or the last value, and waits while there is no room.
    async fn send_waiting(
        self,
        topic: &Topic,
        payload: Option<&Bytes>,
        limit: Duration,
    ) -> Outcome {
        let Self { shared, table, .. } = self;
        let mut outcome = Outcome::default();
        let mut post = shared.post(topic, (payload, self.scratch), Kind::Data, Class::Event);
        // The clock is read when there is something to wait for.
        let mut deadline = None;
        let mut deadline = || *deadline.get_or_insert_with(|| tokio::time::Instant::now() + limit);
        if shared.join_buffer.is_open() {
            let (buffer, message) = (&shared.join_buffer, post.message());
            let held = poll_fn(|cx| buffer.poll_hold(&message, cx));
            let held = tokio::time::timeout_at(deadline(), held).await;
            let held = held.unwrap_or_else(|_| Some(buffer.refuse_late(&message)));
            note_held(&mut outcome, held);
        }
        let Some(route) = self.routes.route(table, topic) else {
            return outcome;
        };
        post.set_peers(route.peers.len());
        for peer in post_where_room(&mut outcome, table, route, &post) {
            // Whoever is woken takes the room or waits on: many may wait for the same little room.
            let queue = &peer.handle.queue;
            let room = poll_fn(|cx| queue.poll_post(&post, cx));
            let pushed = if limit.is_zero() {
                None
            } else {
                tokio::time::timeout_at(deadline(), room).await.ok()
            };
            let pushed = pushed.unwrap_or_else(|| queue.post_late(&post));
            note_pushed(&mut outcome, pushed);
        }
        deliver_locally(&mut outcome, shared, self.local, table, route, &post);
        outcome
    }
}

/// Gives a message to those of an endpoint's subscribers that hear it. All of them hear a publisher with an id of its
/// own.
#[inline]
fn deliver_locally(
    outcome: &mut Outcome,
    shared: &Shared,
    local: Option<EndpointId>,
    table: &Table,
    route: &Route,
    post: &Post<'_>,
) {
    if route.subscribers.is_empty() {
        return;
    }
    deliver_to(outcome, shared, local, table, route, post);
}

/// The same, if there are any.
#[inline(never)]
fn deliver_to(
    outcome: &mut Outcome,
    shared: &Shared,
    local: Option<EndpointId>,
    table: &Table,
    route: &Route,
    post: &Post<'_>,
) {
    let subscribers = route.subscribers.iter();
    let hearing = subscribers
        .filter_map(|position| table.subscriber(*position))
        .filter(|subscriber| subscriber.hears_local || local.is_some());
    let from = local.unwrap_or(shared.me);
    let mut message = None;
    for subscriber in hearing {
        let message = message.get_or_insert_with(|| post.message());
        // Whoever publishes here does not wait: a full queue drops by its policy.
        if subscriber.push(Batch::of_one(from, message)).is_too_large {
            outcome.too_large += 1;
        } else {
            outcome.local += 1;
        }
    }
}

/// Notes what became of a message that was to be held for the mesh, if the endpoint is joining it.
fn note_held(outcome: &mut Outcome, pushed: Option<Push>) {
    match pushed {
        None => {}
        Some(Push::Queued { dropped, .. }) => {
            outcome.held = true;
            outcome.displaced += dropped;
        }
        Some(Push::Dropped(cause)) => {
            outcome.held = true;
            note_dropped(outcome, cause);
        }
    }
}

#[inline]
fn note_pushed(outcome: &mut Outcome, pushed: Push) {
    match pushed {
        Push::Queued { dropped, .. } => {
            outcome.queued_to += 1;
            outcome.displaced += dropped;
        }
        Push::Dropped(cause) => note_dropped(outcome, cause),
    }
}

fn note_dropped(outcome: &mut Outcome, cause: DropCause) {
    outcome.dropped += 1;
    outcome.too_large += usize::from(cause == DropCause::TooLarge);
}

/// The peers that a message goes to now: what is held goes to the mesh later.
#[inline]
fn peers_now<'t>(
    outcome: Outcome,
    table: &'t Table,
    route: &'t Route,
) -> impl DoubleEndedIterator<Item = &'t PeerEntry<Arc<PeerSession>>> + use<'t> {
    let peers = route.peers.iter().filter_map(|peer| table.peer(*peer));
    peers.filter(move |peer| !outcome.held || peer.protocol == Protocol::V1)
}

/// Gives a message to the peers that have room for it, and returns those whose queues are full. Nobody waits for
/// another's room: to a peer that has heard very many later ones meanwhile the message would be too old.
#[inline]
fn post_where_room<'t>(
    outcome: &mut Outcome,
    table: &'t Table,
    route: &'t Route,
    post: &Post<'_>,
) -> Vec<&'t PeerEntry<Arc<PeerSession>>> {
    let may_be_inline = route.peers.len() <= INLINE;
    let mut full = Vec::new();
    for peer in peers_now(*outcome, table, route) {
        let queue = &peer.handle.queue;
        if let Some(dropped) = queue.adds_to_run(post, WAITS_FROM) {
            outcome.queued_to += 1;
            outcome.displaced += dropped;
            continue;
        }
        match queue.post_if_room(post, may_be_inline) {
            Some(pushed) => note_pushed(outcome, pushed),
            None => full.push(peer),
        }
    }
    full
}
