//! The read side of a peering: validates, routes and hands over what one socket read brought, with
//! no task between the socket and the subscribers' queues.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use muster_data::Limits;
use muster_wire::counters::DropCause;
use muster_wire::envelope::{self, Control, Envelope};
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::routing::RouteCache;
use muster_wire::{Kind, Topic};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::owner::{Command, OwnerHandle};
use super::peer_queue::{EndReason, PeerCounts, PeerQueue};
use super::shared::{Shared, Table};
use super::subscriber::{Batch, BatchEntry};
use super::tls::describe_io;

/// The first read buffer of a connection, in bytes; it doubles while reads fill it.
const SMALL_READ: usize = 8 << 10;

/// The largest read buffer, in bytes.
const LARGE_READ: usize = 256 << 10;

/// A batch that is under this part of its read buffer is copied out of it, so that a few queued
/// messages do not keep a large buffer alive.
const SHARED_PART: usize = 4;

/// How many of a batch's last topics are compared before one is noted again.
const RECENT_TOPICS: usize = 8;

pub(crate) struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    read_size: usize,
    /// The size of the allocation behind `buffer`.
    allocation: usize,
    shared: Arc<Shared>,
    owner: OwnerHandle,
    queue: Arc<PeerQueue>,
    routes: RouteCache,
    limits: Limits,
    pending: Vec<Pending>,
    warned: bool,
}

/// What one read brought for one subscriber.
#[derive(Default)]
struct Pending {
    subscriber: u32,
    topics: Vec<Topic>,
    entries: Vec<BatchEntry>,
    bytes: usize,
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
            shared,
            owner,
            queue,
            routes: RouteCache::default(),
            limits: Limits::default(),
            pending: Vec::new(),
            warned: false,
        }
    }

    /// Reads until the peering ends; says why it did.
    pub(crate) async fn run(&mut self) -> EndReason {
        loop {
            let needed = match self.process().await {
                Ok(needed) => needed,
                Err(reason) => return reason,
            };
            self.make_room(needed);
            let room = self.buffer.capacity() - self.buffer.len();
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) if self.queue.both_closing() => return EndReason::removed(),
                Ok(0) => return EndReason::Lost("connection closed by the peer".to_owned()),
                Ok(read) => {
                    PeerCounts::add(&self.queue.counts.reads, 1);
                    if read >= room && self.read_size < LARGE_READ {
                        self.read_size *= 2;
                    }
                }
                Err(error) => return EndReason::Lost(describe_io(&error)),
            }
        }
    }

    /// Grows the buffer for a frame of `needed` bytes, no faster than its bytes arrive.
    fn make_room(&mut self, needed: usize) {
        let missing = needed.saturating_sub(self.buffer.len());
        let wanted = missing.clamp(SMALL_READ / 2, self.read_size.max(self.buffer.len()));
        if self.buffer.capacity() - self.buffer.len() < wanted {
            self.buffer.reserve(wanted.max(self.read_size));
            self.allocation = self.buffer.capacity();
        }
    }

    /// Deals with all complete frames; says how many bytes the next one needs.
    async fn process(&mut self) -> Result<usize, EndReason> {
        let mut at = 0;
        let mut messages = 0;
        let mut filter = None;
        let mut end = None;
        let table = self.shared.table.load_full();
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
                        let refusal = match kind {
                            Kind::Command => Some((DropCause::NoStore, "a command for a store")),
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
                            self.routes_of(&table, start, topic.len(), offset, length);
                        }
                    }
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
            PeerCounts::add(&self.queue.counts.messages_in, messages);
            PeerCounts::add(&self.queue.counts.bytes_in, at as u64);
            self.hand_over(&table, at);
        }
        if let Some(end) = end {
            return Err(end);
        }
        if let Some(filter) = filter {
            let peer = self.queue.info.id;
            self.owner
                .call(|done| Command::RoutingUpdate(peer, filter, done))
                .await;
        }
        Ok(needed)
    }

    /// Notes a message for the subscribers of its topic.
    fn routes_of(
        &mut self,
        table: &Table,
        frame: usize,
        topic: usize,
        offset: usize,
        length: usize,
    ) {
        let topic_start = frame + envelope::FIXED;
        let bytes = &self.buffer[topic_start..topic_start + topic];
        let Some((topic, route)) = self.routes.lookup(table, bytes) else {
            return;
        };
        for subscriber in &route.subscribers {
            let known = self
                .pending
                .iter()
                .position(|pending| pending.subscriber == *subscriber);
            let at = known.unwrap_or_else(|| {
                self.pending.push(Pending {
                    subscriber: *subscriber,
                    ..Pending::default()
                });
                self.pending.len() - 1
            });
            self.pending[at].add(topic, offset, length);
        }
    }

    /// Cuts the complete frames off the buffer and gives each subscriber its batch.
    fn hand_over(&mut self, table: &Table, end: usize) {
        let chunk = self.buffer.split_to(end);
        if self.pending.is_empty() {
            return;
        }
        let chunk = chunk.freeze();
        for pending in self.pending.drain(..) {
            let Some(subscriber) = table.subscriber(pending.subscriber) else {
                continue;
            };
            let from = self.queue.info.id;
            subscriber.push(pending.into_batch(&chunk, self.allocation, from));
        }
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

impl Pending {
    fn add(&mut self, topic: &Topic, offset: usize, length: usize) {
        let recent = self.topics.iter().enumerate().rev().take(RECENT_TOPICS);
        let known = recent
            .into_iter()
            .find(|(_, known)| *known == topic)
            .map(|(at, _)| at);
        let topic = known.unwrap_or_else(|| {
            self.topics.push(topic.clone());
            self.topics.len() - 1
        });
        self.bytes += length;
        // Frames are limited far below 32 bits, and a buffer holds at most one unfinished frame.
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        self.entries.push(BatchEntry {
            topic: narrow(topic),
            start: narrow(offset),
            length: narrow(length),
        });
    }

    fn into_batch(
        mut self,
        chunk: &Bytes,
        allocation: usize,
        from: muster_wire::EndpointId,
    ) -> Batch {
        let shared = self.bytes >= allocation / SHARED_PART;
        let (buffer, retained) = if shared {
            (chunk.clone(), allocation)
        } else {
            let mut copy = Vec::with_capacity(self.bytes);
            for entry in &mut self.entries {
                let start = entry.start as usize;
                entry.start = u32::try_from(copy.len()).unwrap_or(u32::MAX);
                copy.extend_from_slice(&chunk[start..start + entry.length as usize]);
            }
            (Bytes::from(copy), self.bytes)
        };
        Batch {
            number: 0,
            from,
            buffer,
            topics: self.topics,
            entries: self.entries,
            retained,
        }
    }
}
