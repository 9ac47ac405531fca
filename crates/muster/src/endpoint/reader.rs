//! The read side of a peering: validates, routes and hands over what one socket read brought, with
//! no task between the socket and the subscribers' queues.

mod credit;
mod fragments;
mod guests;
mod mesh;
mod pending;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use muster_data::Limits;
use muster_wire::counters::DropCause;
use muster_wire::envelope::{self, Control, Envelope};
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::peering::Protocol;
use muster_wire::routing::RouteCache;
use muster_wire::{Class, Kind, Topic};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::owner::{Command, OwnerHandle};
use super::peer_queue::{EndReason, PeerCounts, PeerQueue};
use super::shared::{Shared, Table};
use super::spare::Spare;
use super::tls::describe_io;
use credit::{Classes, CreditIntake};
use fragments::Assembly;
use mesh::{MeshIntake, count};
use pending::{Pending, Relay, Source};

/// The first read buffer of a connection, in bytes; it doubles while reads fill it.
const SMALL_READ: usize = 8 << 10;

/// The largest read buffer, in bytes.
const LARGE_READ: usize = 256 << 10;

/// The largest buffer that is made before it is known how large the next frame is.
const LARGE_AHEAD: usize = 4 << 20;

pub(crate) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    read_size: usize,
    /// The size of the largest frame that came last, if it was larger than a read, otherwise 0.
    large: usize,
    /// The size of the allocation behind `buffer`.
    allocation: usize,
    spare: Spare,
    /// The buffer has not been needed for a while.
    give_back: bool,
    shared: Arc<Shared>,
    owner: OwnerHandle,
    queue: Arc<PeerQueue>,
    routes: RouteCache,
    limits: Limits,
    pending: Vec<Pending>,
    relays: Vec<Relay>,
    mesh: MeshIntake,
    credit: CreditIntake,
    assembly: Assembly,
    warned: bool,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(
        stream: R,
        buffer: BytesMut,
        shared: Arc<Shared>,
        owner: OwnerHandle,
        queue: Arc<PeerQueue>,
    ) -> Self {
        Self {
            stream,
            allocation: buffer.capacity(),
            buffer,
            read_size: SMALL_READ,
            large: 0,
            spare: Spare::default(),
            give_back: false,
            shared,
            owner,
            queue,
            routes: RouteCache::default(),
            limits: Limits::default(),
            pending: Vec::new(),
            relays: Vec::new(),
            mesh: MeshIntake::default(),
            credit: CreditIntake::default(),
            assembly: Assembly::default(),
            warned: false,
        }
    }

    /// Reads until the peering ends; says why it did.
    pub(crate) async fn run(&mut self) -> EndReason {
        loop {
            let processed = match self.queue.info.protocol {
                Protocol::V1 => self.process().await,
                Protocol::V2 => self.process_mesh().await,
            };
            let needed = match processed {
                Ok(needed) => needed,
                Err(reason) => return reason,
            };
            self.make_room(needed);
            let room = self.buffer.capacity() - self.buffer.len();
            match self.read().await {
                Ok(0) | Err(_) if self.queue.both_closing() => return EndReason::removed(),
                Ok(0) => return EndReason::Lost("connection closed by the peer".to_owned()),
                Ok(read) => {
                    PeerCounts::add(&self.queue.counts.reads, 1);
                    if read >= room && self.read_size < LARGE_READ {
                        self.read_size *= 2;
                    }
                    let size = self.read_size.max(self.allocation);
                    if let Some(size) = self.spare.shrinks_to(read, size) {
                        self.read_size = size.next_power_of_two().clamp(SMALL_READ, LARGE_READ);
                        self.give_back = true;
                    }
                }
                Err(error) => return EndReason::Lost(describe_io(&error)),
            }
        }
    }

    /// Reads once, and gives back the credit that was held in the meantime.
    async fn read(&mut self) -> std::io::Result<usize> {
        while self.credit.is_holding() {
            tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.buffer) => return read,
                () = self.credit.released() => {}
            }
            let links = self.shared.table.load().peers().len();
            self.settle(links);
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Gives back the credit of what has come, unless somebody is behind.
    fn settle(&mut self, links: usize) {
        let window = self.shared.config.credit.window(links);
        self.credit.settle(self.shared.now(), &self.queue, window);
    }

    /// Grows the buffer for a frame of `needed` bytes, no faster than its bytes arrive, unless as large a
    /// frame has arrived before: then it has its room at once, and is not copied each time that the buffer
    /// doubles (at 1 MiB, a third of a subscriber's CPU).
    fn make_room(&mut self, needed: usize) {
        if std::mem::take(&mut self.give_back) && self.allocation > self.read_size {
            let rest = std::mem::take(&mut self.buffer);
            self.buffer = BytesMut::with_capacity(rest.len().max(self.read_size));
            self.buffer.extend_from_slice(&rest);
            self.allocation = self.buffer.capacity();
        }
        let missing = needed.saturating_sub(self.buffer.len());
        let doubled = self.read_size.max(self.buffer.len());
        let wanted = if needed <= HEADER {
            self.large.clamp(SMALL_READ / 2, LARGE_AHEAD)
        } else if needed <= self.large {
            missing
        } else {
            missing.clamp(SMALL_READ / 2, doubled)
        };
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(wanted.max(self.read_size));
            self.allocation = self.buffer.capacity();
        }
    }

    /// Frames have come, the largest of so many bytes: the next may be as large.
    fn frames_came(&mut self, largest: usize) {
        self.large = if largest > LARGE_READ { largest } else { 0 };
    }

    /// Deals with all complete frames; says how many bytes the next one needs.
    async fn process(&mut self) -> Result<usize, EndReason> {
        let mut at = 0;
        let mut largest = 0;
        let mut messages = 0;
        let mut filter = None;
        let mut end = None;
        let table = self.shared.table.load_full();
        let is_left = table.leaves_to_others(self.queue.info.id);
        let mut forwards = false;
        let needed = {
            let shared = Arc::clone(&self.shared);
            loop {
                let length = match frame::next(&self.buffer[at..], shared.config.frame_limit) {
                    Ok(Next::Complete(length)) => length,
                    Ok(Next::Needs(needed)) => break needed,
                    Err(error) => {
                        end = Some(EndReason::Lost(error.to_string()));
                        break 0;
                    }
                };
                let start = at + HEADER;
                at = start + length;
                largest = largest.max(HEADER + length);
                if length == 0 {
                    continue;
                }
                match envelope::read(&self.buffer[start..at], self.queue.info.id, shared.me) {
                    Ok(Envelope::Message {
                        kind,
                        topic,
                        payload,
                    }) => {
                        messages += 1;
                        if is_left {
                            count(&shared.mesh.left_to_home);
                            continue;
                        }
                        let refusal = match kind {
                            Kind::Command => {
                                let from = self.queue.info.id;
                                match shared.stores.receive(from, topic, payload) {
                                    Ok(()) => continue,
                                    Err(refusal) => Some(refusal),
                                }
                            }
                            Kind::Data if muster_data::validate(payload, &self.limits).is_err() => {
                                Some((DropCause::Malformed, "malformed value"))
                            }
                            Kind::Data => None,
                        };
                        if let Some((cause, what)) = refusal {
                            let label = Topic::new(topic).map(|topic| topic.normalized());
                            self.refuse(cause, what, &label.unwrap_or_default());
                        } else {
                            let offset = at - payload.len();
                            let length = payload.len();
                            let topic =
                                start + envelope::FIXED..start + envelope::FIXED + topic.len();
                            let found = self.routes.find(&table, &self.buffer[topic]);
                            if let Some(position) = found {
                                let source = Source {
                                    from: self.queue.info.id,
                                    class: Class::Event,
                                    id: None,
                                };
                                self.deliver(&table, source, position, offset, length);
                                self.relay_for_guest(&table, position, offset, length);
                            }
                        }
                    }
                    Ok(Envelope::Through(is_for_us)) => forwards |= is_for_us,
                    Ok(Envelope::RoutingUpdate(update)) => filter = Some(update),
                    Ok(Envelope::Ping(content)) => {
                        self.queue.push_control(&Control::Pong(content.to_vec()));
                    }
                    Ok(Envelope::Pong(content)) if self.queue.ends_with(content) => {
                        end = Some(EndReason::removed());
                        break 0;
                    }
                    Ok(Envelope::Pong(content)) => self.queue.answered(content),
                    Err(error) if error.ends_peering() => {
                        end = Some(EndReason::Lost(error.to_string()));
                        break 0;
                    }
                    Err(error) => self.refuse(error.cause(), error.name(), ""),
                }
            }
        };
        if at > 0 {
            self.frames_came(largest);
            PeerCounts::add(&self.queue.counts.messages_in, messages);
            PeerCounts::add(&self.queue.counts.bytes_in, at as u64);
            self.hand_over(&table, at);
        }
        if let Some(end) = end {
            return Err(end);
        }
        if forwards && !is_left {
            let peer = self.queue.info.id;
            self.owner.call(|done| Command::Forwards(peer, done)).await;
        }
        if let Some(filter) = filter {
            let peer = self.queue.info.id;
            self.owner
                .call(|done| Command::RoutingUpdate(peer, filter, done))
                .await;
        }
        Ok(needed)
    }

    /// Notes a message for the subscribers of its topic, which is at a position of the routes.
    fn deliver(
        &mut self,
        table: &Table,
        source: Source,
        position: usize,
        offset: usize,
        length: usize,
    ) {
        let Some((topic, route)) = self.routes.get(position) else {
            return;
        };
        for subscriber in &route.subscribers {
            let known = self.pending.iter().rposition(|pending| {
                pending.subscriber == *subscriber && pending.from == source.from
            });
            let at = known.unwrap_or_else(|| {
                let handle = table.subscriber(*subscriber);
                let is_in_order = handle.is_some_and(|subscriber| subscriber.is_in_order);
                self.pending
                    .push(Pending::new(*subscriber, source.from, is_in_order));
                self.pending.len() - 1
            });
            self.pending[at].add(source, topic, offset, length);
        }
    }

    /// Cuts the complete frames off the buffer and gives each subscriber and each peer its batch.
    fn hand_over(&mut self, table: &Table, end: usize) {
        let chunk = self.buffer.split_to(end);
        if !(self.pending.is_empty() && self.relays.is_empty()) {
            self.distribute(table, &chunk.freeze(), self.allocation);
        }
        if self.queue.info.protocol == Protocol::V2 {
            self.settle(table.peers().len());
        }
    }

    /// Gives each subscriber and each peer its part of a buffer that keeps so many bytes alive.
    fn distribute(&mut self, table: &Table, chunk: &Bytes, allocation: usize) {
        let config = &self.shared.config;
        let mut passed_on = Classes::default();
        for relay in self.relays.drain(..) {
            if let Some(peer) = table.peer(relay.way.peer) {
                passed_on.add(relay.way.class);
                let limits = peer.handle.limits(relay.way.class);
                let most = limits.bytes.min(config.frame_limit);
                let relayed = relay.into_relayed(chunk, allocation, most);
                peer.handle.relay(relayed);
            }
        }
        for mut pending in self.pending.drain(..) {
            if let Some(subscriber) = table.subscriber(pending.subscriber) {
                let classes = pending.classes;
                let places = std::mem::take(&mut pending.places);
                let batch = pending.into_batch(chunk, allocation);
                if subscriber.push_in_order(batch, &places) {
                    let now = self.shared.now();
                    self.credit.is_behind(classes, subscriber, now);
                } else {
                    self.credit.passed_on(classes);
                }
            }
        }
        self.credit.passed_on(passed_on);
    }

    fn refuse(&mut self, cause: DropCause, what: &str, label: &str) {
        self.queue.count_refused(cause, label);
        if !self.warned {
            self.warned = true;
            let peer = &self.queue.info;
            tracing::warn!(peer = %peer.id, address = %peer.address, "refused a message: {what}; further ones are only counted");
        }
    }
}
