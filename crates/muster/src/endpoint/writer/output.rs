//! What is on its way from a peer's queue to its connection: encoded, and not yet written.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use muster_wire::envelope;
use muster_wire::mesh::HOPS;
use muster_wire::mesh::codec::Run;
use muster_wire::mesh::codec::{Encoder, Head, OpenBatch};
use muster_wire::peering::Protocol;
use muster_wire::{Class, EndpointId, Kind, Message, Topic};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::compression::Compression;
use super::fragmenter::{Next, Part, Piece};
use super::pieces::{Gathered, InPlace};
use crate::endpoint::end_reason::{EndReason, LossReason};
use crate::endpoint::outgoing::{Outgoing, Relayed, RelayedRuns};
use crate::endpoint::peer_session::{PeerCounts, PeerSession};
use crate::endpoint::post::Post;
use crate::endpoint::send_queue::inline::{Inline, Written};
use crate::endpoint::spare::Spare;
use crate::endpoint::tls::ConnectionError;

/// How much is put together for one write.
pub(super) const WRITE_BUFFER: usize = 256 << 10;

/// Payloads from this size on are written from where they are instead of being copied.
pub(super) const IN_PLACE: usize = 4 << 10;

/// A batch of version 2 gets no more messages from this size on: a reader waits for the end of a
/// frame, and copies the part of it that has come.
const BATCH: usize = 16 << 10;

/// A payload from this size on does not follow others in their batch.
const LARGE: usize = 1 << 20;

/// The same where batches are compressed: each for itself, so larger ones become smaller.
const SLOW_BATCH: usize = 64 << 10;

/// The encoder of a connection and its buffers.
pub(super) struct Output<W> {
    pub(super) stream: W,
    session: Arc<PeerSession>,
    /// Headers and small payloads, one behind the other.
    buffer: Vec<u8>,
    /// Large payloads and runs, each with the position in the buffer that it stands at.
    in_place: Vec<(usize, InPlace)>,
    /// The bytes of all that.
    in_place_bytes: usize,
    /// The topics of the messages in the buffer that no write has begun with.
    pub(super) messages: Vec<Topic>,
    /// The runs of others in the buffer that no write has begun with.
    relayed_runs: Vec<Outgoing>,
    /// The messages in runs that no write has begun with.
    in_runs: usize,
    /// The buffers of the runs that are written.
    pub(super) written: Vec<Vec<u8>>,
    /// Whether the last write had more than one message.
    pub(super) is_busy: bool,
    encoder: Encoder,
    spare: Spare,
    /// The batch at the end of the buffer that more messages may follow in.
    batch: Option<OpenBatch>,
    compression: Compression,
    /// The bytes of the buffer that are counted as sent: a write has begun with them.
    begun: usize,
    /// Whether the stream may hold what was written.
    is_unflushed: bool,
    /// When the last write ended.
    wrote: Option<Instant>,
}

impl<W> Output<W> {
    pub(super) fn new(stream: W, session: Arc<PeerSession>) -> Self {
        Self {
            stream,
            session,
            buffer: Vec::new(),
            in_place: Vec::new(),
            in_place_bytes: 0,
            messages: Vec::new(),
            relayed_runs: Vec::new(),
            in_runs: 0,
            written: Vec::new(),
            is_busy: false,
            encoder: Encoder::default(),
            spare: Spare::default(),
            batch: None,
            compression: Compression::default(),
            begun: 0,
            is_unflushed: false,
            wrote: None,
        }
    }

    /// Whether there is something that the system does not have.
    pub(super) fn has_rest(&self) -> bool {
        let is_empty = self.buffer.is_empty() && self.in_place.is_empty();
        !is_empty || self.is_unflushed
    }

    /// Whether nothing is left to write, and the last write had one message at most and is at least so long ago.
    pub(super) fn has_rested(&self, pause: Duration) -> bool {
        !self.has_rest() && !self.is_busy && self.wrote.is_none_or(|wrote| wrote.elapsed() >= pause)
    }

    /// Gives away what no write has begun with: messages by their topics, and runs.
    pub(super) fn take_unwritten(&mut self) -> (Vec<Topic>, VecDeque<Outgoing>) {
        let mut runs: VecDeque<Outgoing> = self.relayed_runs.drain(..).collect();
        if self.in_runs > 0 {
            let pieces = self.in_place.drain(..);
            runs.extend(pieces.filter_map(|(_, piece)| piece.into_run()));
        }
        self.in_runs = 0;
        (std::mem::take(&mut self.messages), runs)
    }
}

impl<W: AsyncWrite + Unpin> Output<W> {
    /// Adds a control frame.
    pub(super) fn add_control(&mut self, frame: Bytes) {
        if frame.len() < IN_PLACE {
            return self.add_frame(&frame);
        }
        self.close_batch();
        self.put_in_place(InPlace::Shared(frame));
    }

    /// Adds what is written from where it is.
    fn put_in_place(&mut self, piece: InPlace) {
        self.in_place_bytes += piece.len();
        self.in_place.push((self.buffer.len(), piece));
    }

    /// Adds what was queued.
    pub(super) fn add_item(&mut self, item: Outgoing) {
        match item {
            Outgoing::Frame(frame) => self.add_frame(&frame),
            Outgoing::Message(message) => self.add(message),
            Outgoing::Addressed(message) => self.add_addressed(message),
            Outgoing::Relayed(relayed) if self.session.info.protocol == Protocol::V1 => {
                self.add_relayed_v1(&relayed);
            }
            Outgoing::Relayed(relayed) => self.add_relayed(&relayed),
            Outgoing::Run(run) => self.add_run(run),
            Outgoing::Envelopes(run) => {
                self.in_runs += run.messages();
                self.put_in_place(InPlace::Envelopes(run));
            }
            Outgoing::RelayedRuns(runs) => self.add_relayed_runs(runs),
        }
    }

    /// Adds a small message of the bulk class, or a part of a large one; whether it was a part.
    pub(super) fn add_part(&mut self, next: Next) -> bool {
        match next {
            Next::Small(piece) => {
                self.add_piece(piece);
                false
            }
            Next::Part(part) => {
                self.add_large_part(part);
                true
            }
        }
    }

    fn add_large_part(&mut self, mut part: Part) {
        self.close_batch();
        self.messages.extend(part.topic.take());
        let counts = &self.session.counts.compressed_out;
        if self.session.queue.compresses() && self.compression.part(&part, &mut self.buffer, counts)
        {
            return;
        }
        part.put_head(&mut self.buffer);
        self.put_in_place(InPlace::Shared(part.payload));
        self.buffer.extend_from_slice(&part.tail);
    }

    fn add_piece(&mut self, piece: Piece) {
        let head = piece.head();
        self.add_head(Class::Bulk, &head, piece.payload.len());
        self.buffer.extend_from_slice(&piece.payload);
        head.put_tail(&mut self.buffer);
        self.messages.push(piece.topic);
    }

    /// The messages that no write has begun with.
    pub(super) fn count(&self) -> usize {
        self.messages.len() + self.in_runs
    }

    /// Whether one message alone is to be written, and the last write had no more and is at least so long ago.
    pub(super) fn is_lone(&self, pause: Duration) -> bool {
        let has_paused = || self.wrote.is_none_or(|wrote| wrote.elapsed() >= pause);
        self.count() == 1 && !self.is_busy && has_paused()
    }

    pub(super) fn size(&self) -> usize {
        self.buffer.len() + self.in_place_bytes
    }

    fn add_frame(&mut self, frame: &[u8]) {
        self.close_batch();
        self.buffer.extend_from_slice(frame);
    }

    fn close_batch(&mut self) {
        let Some(batch) = self.batch.take() else {
            return;
        };
        let (class, start) = (batch.class(), batch.start());
        batch.close(&mut self.buffer);
        if self.session.queue.compresses() {
            let (buffer, in_place) = (&mut self.buffer, &mut self.in_place);
            let counts = &self.session.counts.compressed_out;
            let gone = self
                .compression
                .batch(class, start, buffer, in_place, counts);
            self.in_place_bytes -= gone;
        }
    }

    /// Writes what stands before a payload of the mesh.
    fn add_head(&mut self, class: Class, head: &Head<'_>, length: usize) -> &mut OpenBatch {
        let most = if self.session.queue.compresses() {
            SLOW_BATCH
        } else {
            BATCH
        };
        let open = self.batch.take_if(|batch| {
            // A large message is alone: its frame may be of just the size that peers accept.
            let has_room = batch.size(&self.buffer) < most && length < LARGE && !batch.is_full();
            batch.class() == class && has_room
        });
        self.close_batch();
        let open = open.unwrap_or_else(|| Encoder::begin_batch(class, &mut self.buffer));
        let batch = self.batch.insert(open);
        self.encoder.put_head(batch, head, length, &mut self.buffer);
        batch
    }

    /// Small messages of this endpoint, which are a frame already.
    fn add_run(&mut self, mut run: Run) {
        self.close_batch();
        run.close();
        self.in_runs += run.messages();
        self.put_in_place(InPlace::Run(run));
    }

    /// Runs of others: what is new is what stands before them.
    fn add_relayed_runs(&mut self, runs: RelayedRuns) {
        self.close_batch();
        for part in &runs.parts {
            part.put_front(&mut self.buffer);
            let place = part.place();
            if place.len() < IN_PLACE {
                self.buffer.extend_from_slice(&runs.buffer[place]);
            } else {
                self.put_in_place(InPlace::Shared(runs.buffer.slice(place)));
            }
        }
        self.in_runs += runs.messages;
        self.relayed_runs.push(Outgoing::RelayedRuns(runs));
    }

    /// Messages of others; a large payload is written from where it is.
    fn add_relayed(&mut self, relayed: &Relayed) {
        for entry in &relayed.entries {
            let (topic, payload) = relayed.borrowed(entry);
            let head = Head {
                id: entry.id,
                hops: entry.hops,
                kind: entry.kind,
                topic: topic.as_bytes(),
                guest: relayed.guest,
            };
            let length = payload.len();
            let batch = self.add_head(relayed.class, &head, length);
            if length >= IN_PLACE {
                batch.note_elsewhere(length);
                let (_, payload) = relayed.parts(entry);
                self.put_in_place(InPlace::Shared(payload));
            } else {
                self.buffer.extend_from_slice(payload);
            }
            head.put_tail(&mut self.buffer);
            self.messages.push(topic.clone());
        }
    }

    /// Messages of others to a peer of version 1: this endpoint is the sender, as with Broker, where it is
    /// the last hop.
    fn add_relayed_v1(&mut self, relayed: &Relayed) {
        for entry in &relayed.entries {
            let (topic, payload) = relayed.parts(entry);
            self.add_v1(EndpointId::NIL, topic.clone(), payload, entry.kind);
        }
    }

    /// A message of this endpoint to another of its mesh.
    fn add_own(&mut self, message: Message) {
        let Some(id) = message.id else {
            return; // without an identity it cannot travel; own messages have one
        };
        let head = Head {
            id,
            hops: HOPS,
            kind: message.kind,
            topic: message.topic.as_bytes(),
            guest: None,
        };
        let payload = message.payload;
        let length = payload.len();
        let batch = self.add_head(message.class, &head, length);
        if length >= IN_PLACE {
            batch.note_elsewhere(length);
            self.put_in_place(InPlace::Shared(payload));
        } else {
            self.buffer.extend_from_slice(&payload);
        }
        self.messages.push(message.topic);
    }

    /// A small message of this endpoint that lies in its publisher's buffer.
    fn add_post(&mut self, post: &Post<'_>) {
        let payload = post.payload();
        let length = payload.len();
        if self.session.info.protocol == Protocol::V2 {
            let head = Head {
                id: post.id,
                hops: HOPS,
                kind: post.kind,
                topic: post.topic.as_bytes(),
                guest: None,
            };
            self.add_head(post.class, &head, length);
        } else {
            let (me, topic) = (self.session.me, post.topic.as_bytes());
            let all = EndpointId::NIL;
            envelope::put_message_header_to(&mut self.buffer, me, all, post.kind, topic, length);
        }
        self.buffer.extend_from_slice(payload);
        self.messages.push(post.topic.clone());
    }

    fn add(&mut self, message: Message) {
        if self.session.info.protocol == Protocol::V2 {
            return self.add_own(message);
        }
        let Message {
            topic,
            payload,
            kind,
            ..
        } = message;
        self.add_v1(EndpointId::NIL, topic, payload, kind);
    }

    /// A message to this peer of version 1 alone.
    fn add_addressed(&mut self, message: Message) {
        let receiver = self.session.info.id;
        self.add_v1(receiver, message.topic, message.payload, message.kind);
    }

    fn add_v1(&mut self, receiver: EndpointId, topic: Topic, payload: Bytes, kind: Kind) {
        let (me, length) = (self.session.me, payload.len());
        let bytes = topic.as_bytes();
        envelope::put_message_header_to(&mut self.buffer, me, receiver, kind, bytes, length);
        self.messages.push(topic);
        if length >= IN_PLACE {
            self.put_in_place(InPlace::Shared(payload));
        } else {
            self.buffer.extend_from_slice(&payload);
        }
    }

    /// Writes something small as far as the system takes it at once.
    pub(super) fn write_inline(&mut self, what: Inline<'_>) -> Written {
        match what {
            Inline::Post(post) => self.add_post(post),
            Inline::Item(item) => self.add_item(item),
        }
        self.begin();
        // What is this small is in the buffer, but for the runs of a queue, which are not written in this way.
        debug_assert!(
            self.in_place.is_empty(),
            "a small message lies in the buffer"
        );
        // If the system takes nothing now, the writer's task asks again, and is told.
        let mut nobody = Context::from_waker(Waker::noop());
        let written = match Pin::new(&mut self.stream).poll_write(&mut nobody, &self.buffer) {
            Poll::Pending => 0,
            Poll::Ready(Ok(0)) => {
                let error = io::Error::from(io::ErrorKind::WriteZero);
                return Written::Failed(ConnectionError::from(error).into());
            }
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => {
                return Written::Failed(ConnectionError::from(error).into());
            }
        };
        self.buffer.drain(..written);
        self.begun = self.buffer.len();
        self.is_unflushed = match Pin::new(&mut self.stream).poll_flush(&mut nobody) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                return Written::Failed(ConnectionError::from(error).into());
            }
        };
        self.wrote = Some(Instant::now());
        if self.has_rest() {
            return Written::Part;
        }
        Written::All
    }

    /// Counts what is about to be written. Before the write: what a failing write has handed over is unknown, not
    /// unsent.
    fn begin(&mut self) {
        self.close_batch();
        let messages = self.count();
        PeerCounts::add(&self.session.counts.messages_out, messages as u64);
        self.is_busy = messages > 1;
        self.messages.clear();
        self.relayed_runs.clear();
        self.in_runs = 0;
        let bytes = self.size() - std::mem::take(&mut self.begun);
        PeerCounts::add(&self.session.counts.bytes_out, bytes as u64);
    }

    /// Writes everything, unless the peering ends first.
    pub(super) async fn flush(&mut self) -> Result<(), EndReason> {
        self.begin();
        let mut gathered = Gathered::new(&self.buffer, &self.in_place);
        self.is_unflushed = true;
        let write = async {
            self.stream.write_all_buf(&mut gathered).await?;
            self.stream.flush().await
        };
        let session = &self.session;
        tokio::select! {
            biased;
            written = write => written.map_err(ConnectionError::from)?,
            () = poll_fn(|cx| session.queue.poll_ended(cx)) => {
                return Err(LossReason::Unwritten.into());
            }
        }
        self.is_unflushed = false;
        self.wrote = Some(Instant::now());
        let pieces = self.in_place.drain(..);
        self.written
            .extend(pieces.filter_map(|(_, piece)| piece.into_buffer()));
        self.in_place_bytes = 0;
        let (used, capacity) = (self.buffer.len(), self.buffer.capacity());
        if capacity > 2 * WRITE_BUFFER {
            self.buffer = Vec::new();
        } else if let Some(size) = self.spare.shrinks_to(used, capacity) {
            self.buffer = Vec::with_capacity(size);
        }
        self.buffer.clear();
        Ok(())
    }
}
