//! The task that writes a peer's queue to its connection.

mod cuts;
mod shrinking;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use muster_wire::envelope;
use muster_wire::mesh::HOPS;
use muster_wire::mesh::codec::{Encoder, Head, OpenBatch};
use muster_wire::peering::Protocol;
use muster_wire::{Class, EndpointId, Kind, Message, Queued, Topic};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::outgoing::{Outgoing, Relayed};
use super::peer_queue::{EndReason, PeerCounts, PeerQueue, TAKEN, Taken};
use super::spare::Spare;
use super::tls::describe_io;
use cuts::{Cuts, Next, PART, Part, Piece};
use shrinking::Shrinking;

/// How much is put together for one write.
const WRITE_BUFFER: usize = 256 << 10;

/// Payloads from this size on are written from where they are instead of being copied.
const IN_PLACE: usize = 4 << 10;

/// A batch of version 2 gets no more messages from this size on: a reader waits for the end of a
/// frame, and copies the part of it that has come.
const BATCH: usize = 16 << 10;

/// The same where batches are compressed: each for itself, so larger ones become smaller.
const SLOW_BATCH: usize = 64 << 10;

/// Below this, one more look at the queue may save a write.
const SMALL_WRITE: usize = 4 << 10;

/// A queue of control frames that has had room for more is given back.
const FRAMES_KEPT: usize = 64;

/// Writes until the peering ends; ends it when a write fails or the queue is drained.
pub(crate) async fn run<W: AsyncWrite + Unpin>(
    stream: W,
    queue: Arc<PeerQueue>,
    bye_timeout: Duration,
) {
    let mut writer = Writer {
        stream,
        queue,
        buffer: Vec::new(),
        in_place: Vec::new(),
        in_place_bytes: 0,
        messages: Vec::new(),
        data: VecDeque::new(),
        is_busy: false,
        encoder: Encoder::default(),
        spare: Spare::default(),
        batch: None,
        cuts: Cuts::default(),
        shrinking: Shrinking::default(),
    };
    if let Err(reason) = writer.run(bye_timeout).await {
        writer.queue.end(reason);
    }
    let _ = tokio::time::timeout(Duration::from_millis(100), writer.stream.shutdown()).await;
}

struct Writer<W> {
    stream: W,
    queue: Arc<PeerQueue>,
    /// Headers and small payloads, one behind the other.
    buffer: Vec<u8>,
    /// Large payloads, each with the position in the buffer that it stands at.
    in_place: Vec<(usize, Bytes)>,
    /// The bytes of the large payloads.
    in_place_bytes: usize,
    /// The topics of the messages in the buffer that no write has begun with.
    messages: Vec<Topic>,
    /// What was taken from the queue and is not yet in the buffer.
    data: VecDeque<Outgoing>,
    /// Whether the last write had more than one message.
    is_busy: bool,
    encoder: Encoder,
    spare: Spare,
    /// The batch at the end of the buffer that more messages may follow in.
    batch: Option<OpenBatch>,
    /// Large messages of the bulk class; while there are some, no others of it are taken from the queue.
    cuts: Cuts,
    shrinking: Shrinking,
}

impl<W> Drop for Writer<W> {
    /// However it ends, what it has not begun to write is counted.
    fn drop(&mut self) {
        self.messages.extend(self.cuts.topics().cloned());
        self.queue.count_unwritten(&self.messages, &self.data);
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(&mut self, bye_timeout: Duration) -> Result<(), EndReason> {
        self.until(Taken::Drained, bye_timeout).await?;
        if self.queue.ended().is_some() {
            return Ok(());
        }
        self.queue.say_goodbye();
        // The peer may be saying goodbye at the same time, and waits for the answer.
        match tokio::time::timeout(bye_timeout, self.until(Taken::Ended, bye_timeout)).await {
            Ok(Err(reason)) => Err(reason),
            Ok(Ok(())) | Err(_) => Err(EndReason::removed()),
        }
    }

    /// Writes what is queued until the peering ends, or until the queue is in the state `last`.
    async fn until(&mut self, last: Taken, bye_timeout: Duration) -> Result<(), EndReason> {
        let mut control = VecDeque::new();
        loop {
            if !self.cuts.is_empty() {
                // There is something to write.
            } else if last == Taken::Ended {
                poll_fn(|cx| self.queue.poll_work(cx)).await;
            } else {
                poll_fn(|cx| self.queue.poll_ready(cx)).await;
            }
            let holds_bulk = !self.cuts.is_empty();
            let has_rest = holds_bulk || self.size() > 0;
            match self.queue.take(&mut control, &mut self.data, holds_bulk) {
                Taken::Ended => return Ok(()),
                Taken::Drained if last == Taken::Drained && !has_rest => return Ok(()),
                Taken::Blocked if !has_rest => self.wait_for_credit(bye_timeout).await,
                // What was put off for a fuller write goes out with nothing more.
                Taken::Drained | Taken::Blocked | Taken::Work => {
                    self.write_all(&mut control).await?;
                }
            }
        }
    }

    /// The peering is about to end, and what is left has no credit: a peer that gives none for so long gets it
    /// all the same.
    async fn wait_for_credit(&mut self, limit: Duration) {
        let queue = &self.queue;
        let credit = poll_fn(|cx| queue.poll_credit(cx));
        if tokio::time::timeout(limit, credit).await.is_err() {
            queue.lift_credit();
        }
    }

    async fn write_all(&mut self, control: &mut VecDeque<Bytes>) -> Result<(), EndReason> {
        for frame in control.drain(..) {
            if frame.len() < IN_PLACE {
                self.add_frame(&frame);
            } else {
                self.close_batch();
                self.in_place_bytes += frame.len();
                self.in_place.push((self.buffer.len(), frame));
            }
        }
        if control.capacity() > FRAMES_KEPT {
            // A burst is over, and the link may be one of hundreds.
            *control = VecDeque::new();
        }
        let mut others = 0;
        while let Some(item) = self.data.pop_front() {
            let Some(item) = self.put_off(item) else {
                continue;
            };
            others += item.bytes();
            match item {
                Outgoing::Frame(frame) => self.add_frame(&frame),
                Outgoing::Message(message) => self.add(message),
                Outgoing::Addressed(message) => self.add_addressed(message),
                Outgoing::Relayed(relayed) if self.queue.info.protocol == Protocol::V1 => {
                    self.add_relayed_v1(&relayed);
                }
                Outgoing::Relayed(relayed) => self.add_relayed(&relayed),
            }
            if self.size() >= WRITE_BUFFER {
                self.flush().await?;
            }
        }
        if !self.cuts.is_empty() {
            let parts = self.cuts.parts_after(others, others < TAKEN);
            self.add_parts(parts);
            return self.flush().await;
        }
        let is_lone = self.messages.len() == 1 && !self.is_busy;
        if self.size() < SMALL_WRITE && !is_lone {
            // A publisher that goes on publishing gets its next messages into the same write: it has by the
            // second one, as a write takes longer than it. A lone message goes at once: the other look
            // costs a round trip two calls of the system, a tenth of its CPU.
            tokio::task::yield_now().await;
        }
        if self.size() < WRITE_BUFFER && self.queue.has_more() {
            return Ok(());
        }
        self.flush().await
    }

    /// Puts a message of the bulk class behind the large ones that are sent in parts, if it is large itself or
    /// there are some; gives back all else.
    fn put_off(&mut self, item: Outgoing) -> Option<Outgoing> {
        let largest = match &item {
            Outgoing::Message(message) => message.payload.len(),
            Outgoing::Relayed(relayed) => {
                let lengths = relayed.entries.iter().map(|entry| entry.length as usize);
                lengths.max().unwrap_or(0)
            }
            // What is addressed goes to peers of version 1 alone.
            Outgoing::Frame(_) | Outgoing::Addressed(_) => return Some(item),
        };
        let is_bulk = item.class() == Class::Bulk && self.queue.info.protocol == Protocol::V2;
        let is_large = largest > PART || !self.cuts.is_empty();
        if !is_bulk || !is_large || !self.queue.knows_credit() {
            return Some(item);
        }
        match item {
            Outgoing::Message(message) => {
                let id = message.id?; // without an identity it cannot travel
                self.cuts.push(Piece {
                    topic: message.topic,
                    payload: message.payload,
                    id,
                    hops: HOPS,
                    kind: message.kind,
                    guest: None,
                });
            }
            Outgoing::Relayed(relayed) => {
                for entry in &relayed.entries {
                    let (topic, payload) = relayed.parts(entry);
                    self.cuts.push(Piece {
                        topic: topic.clone(),
                        payload,
                        id: entry.id,
                        hops: entry.hops,
                        kind: entry.kind,
                        guest: relayed.guest,
                    });
                }
            }
            Outgoing::Frame(_) | Outgoing::Addressed(_) => {}
        }
        None
    }

    /// Adds parts of large messages; small ones between them count for nothing.
    fn add_parts(&mut self, mut parts: usize) {
        while parts > 0 {
            match self.cuts.next() {
                None => return,
                Some(Next::Small(piece)) => {
                    let head = piece.head();
                    self.add_head(Class::Bulk, &head, piece.payload.len());
                    self.buffer.extend_from_slice(&piece.payload);
                    head.put_tail(&mut self.buffer);
                    self.messages.push(piece.topic);
                    if self.buffer.len() >= WRITE_BUFFER {
                        return;
                    }
                }
                Some(Next::Part(part)) => {
                    self.add_part(part);
                    parts -= 1;
                }
            }
        }
    }

    fn add_part(&mut self, mut part: Part) {
        self.close_batch();
        self.messages.extend(part.topic.take());
        let counts = &self.queue.counts.compressed_out;
        if self.queue.compresses() && self.shrinking.part(&part, &mut self.buffer, counts) {
            return;
        }
        part.put_head(&mut self.buffer);
        self.in_place_bytes += part.payload.len();
        self.in_place.push((self.buffer.len(), part.payload));
        self.buffer.extend_from_slice(&part.tail);
    }

    fn size(&self) -> usize {
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
        if self.queue.compresses() {
            let (buffer, in_place) = (&mut self.buffer, &mut self.in_place);
            let counts = &self.queue.counts.compressed_out;
            let gone = self.shrinking.batch(class, start, buffer, in_place, counts);
            self.in_place_bytes -= gone;
        }
    }

    /// Writes what stands before a payload of the mesh.
    fn add_head(&mut self, class: Class, head: &Head<'_>, length: usize) -> &mut OpenBatch {
        let most = if self.queue.compresses() {
            SLOW_BATCH
        } else {
            BATCH
        };
        let open = self.batch.take_if(|batch| {
            let has_room = batch.size(&self.buffer) < most && !batch.is_full();
            batch.class() == class && has_room
        });
        self.close_batch();
        let open = open.unwrap_or_else(|| Encoder::begin_batch(class, &mut self.buffer));
        let batch = self.batch.insert(open);
        self.encoder.put_head(batch, head, length, &mut self.buffer);
        batch
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
                batch.is_elsewhere(length);
                let (_, payload) = relayed.parts(entry);
                self.in_place.push((self.buffer.len(), payload));
                self.in_place_bytes += length;
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
        let Message {
            topic,
            payload,
            kind,
            class,
            id,
        } = message;
        let Some(id) = id else {
            return; // without an identity it cannot travel; own messages have one
        };
        let head = Head {
            id,
            hops: HOPS,
            kind,
            topic: topic.as_bytes(),
            guest: None,
        };
        let length = payload.len();
        let batch = self.add_head(class, &head, length);
        if length >= IN_PLACE {
            batch.is_elsewhere(length);
            self.in_place.push((self.buffer.len(), payload));
            self.in_place_bytes += length;
        } else {
            self.buffer.extend_from_slice(&payload);
        }
        self.messages.push(topic);
    }

    fn add(&mut self, message: Message) {
        if self.queue.info.protocol == Protocol::V2 {
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
        let receiver = self.queue.info.id;
        self.add_v1(receiver, message.topic, message.payload, message.kind);
    }

    fn add_v1(&mut self, receiver: EndpointId, topic: Topic, payload: Bytes, kind: Kind) {
        let (me, length) = (self.queue.me, payload.len());
        let bytes = topic.as_bytes();
        envelope::put_message_header_to(&mut self.buffer, me, receiver, kind, bytes, length);
        self.messages.push(topic);
        if length >= IN_PLACE {
            self.in_place.push((self.buffer.len(), payload));
            self.in_place_bytes += length;
        } else {
            self.buffer.extend_from_slice(&payload);
        }
    }

    /// Writes everything, unless the peering ends first.
    async fn flush(&mut self) -> Result<(), EndReason> {
        self.close_batch();
        // Counted before the write: what a failing write has handed over is unknown, not unsent.
        PeerCounts::add(&self.queue.counts.messages_out, self.messages.len() as u64);
        self.is_busy = self.messages.len() > 1;
        self.messages.clear();
        PeerCounts::add(&self.queue.counts.bytes_out, self.size() as u64);
        let mut gathered = Gathered::new(&self.buffer, &self.in_place);
        let write = self.stream.write_all_buf(&mut gathered);
        let queue = &self.queue;
        tokio::select! {
            biased;
            written = write => written.map_err(|error| EndReason::Lost(describe_io(&error)))?,
            () = poll_fn(|cx| queue.poll_ended(cx)) => {
                return Err(EndReason::Lost("ended while writing".to_owned()));
            }
        }
        self.in_place.clear();
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

/// Pieces of memory that are written as one.
struct Gathered<'a> {
    pieces: Vec<&'a [u8]>,
    /// The first piece that is not yet written to its end; what is written of it is cut off.
    next: usize,
    remaining: usize,
}

impl<'a> Gathered<'a> {
    fn new(buffer: &'a [u8], in_place: &'a [(usize, Bytes)]) -> Self {
        let mut pieces = Vec::with_capacity(2 * in_place.len() + 1);
        let mut start = 0;
        for (position, payload) in in_place {
            pieces.push(&buffer[start..*position]);
            pieces.push(payload);
            start = *position;
        }
        pieces.push(&buffer[start..]);
        pieces.retain(|piece| !piece.is_empty());
        let remaining = pieces.iter().map(|piece| piece.len()).sum();
        Self {
            pieces,
            next: 0,
            remaining,
        }
    }
}

impl Buf for Gathered<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.get(self.next).copied().unwrap_or_default()
    }

    fn chunks_vectored<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        let pieces = self.pieces.get(self.next..).unwrap_or_default();
        let filled = pieces
            .iter()
            .zip(slices)
            .map(|(piece, slice)| *slice = IoSlice::new(piece));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        self.remaining = self.remaining.saturating_sub(count);
        while let Some(piece) = self.pieces.get_mut(self.next) {
            if count < piece.len() {
                *piece = &piece[count..];
                return;
            }
            count -= piece.len();
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use muster_wire::counters::DropCause;

    use super::super::peer_queue::tests::{message, queue};
    use super::*;
    use crate::endpoint::EndpointConfig;
    use muster_wire::Class;

    /// A small write that is put off for a fuller one is lost with its writer, and counted.
    #[tokio::test]
    async fn what_no_write_has_begun_with_is_counted_as_lost() {
        let queue = Arc::new(queue(&EndpointConfig::default()));
        let (stream, mut other) = tokio::io::duplex(1 << 16);
        {
            let mut writer = pin!(run(stream, Arc::clone(&queue), Duration::ZERO));
            queue.push(message("/a", Class::Event));
            queue.push(message("/b", Class::Event));
            let polled = poll_fn(|cx| Poll::Ready(writer.as_mut().poll(cx))).await;
            assert!(polled.is_pending() && queue.len() == 0);
            queue.push(message("/a", Class::Event));
        }
        queue.end(EndReason::removed());
        let (_, _, dropped) = queue.depth();
        let lost: Vec<_> = dropped.entries().collect();
        assert_eq!(
            lost,
            [
                (DropCause::PeerGone, "/a", 2),
                (DropCause::PeerGone, "/b", 1)
            ]
        );
        assert_eq!(PeerCounts::get(&queue.counts.messages_out), 0);
        let mut written = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut other, &mut written)
            .await
            .unwrap();
        assert!(written.is_empty());
    }

    #[test]
    fn pieces_are_written_in_their_order_whatever_is_taken_at_once() {
        let in_place = [
            (2, Bytes::from("XYZ")),
            (2, Bytes::from("W")),
            (5, Bytes::from("V")),
        ];
        for step in 1..12 {
            let mut gathered = Gathered::new(b"abcde", &in_place);
            let mut written = Vec::new();
            while gathered.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = gathered.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..filled]
                    .iter()
                    .flat_map(|slice| slice.to_vec())
                    .collect();
                let taken = step.min(all.len());
                written.extend_from_slice(&all[..taken]);
                gathered.advance(taken);
            }
            assert_eq!(written, b"abXYZWcdeV");
        }
    }
}
