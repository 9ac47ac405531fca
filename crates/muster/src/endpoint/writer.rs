//! The task that writes a peer's queue to its connection.

mod cuts;
mod output;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::mesh::HOPS;
use muster_wire::peering::Protocol;
use muster_wire::{Class, Queued};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::outgoing::Outgoing;
use super::peer_queue::{EndReason, PeerQueue, TAKEN, Taken};
use cuts::{Cuts, PART, Piece};
use output::{Output, WRITE_BUFFER};

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
        output: Output::new(stream, &queue),
        queue,
        data: VecDeque::new(),
        cuts: Cuts::default(),
    };
    if let Err(reason) = writer.run(bye_timeout).await {
        writer.queue.end(reason);
    }
    let stream = &mut writer.output.stream;
    let _ = tokio::time::timeout(Duration::from_millis(100), stream.shutdown()).await;
}

struct Writer<W> {
    output: Output<W>,
    queue: Arc<PeerQueue>,
    /// What was taken from the queue and is not yet in the output.
    data: VecDeque<Outgoing>,
    /// Large messages of the bulk class; while there are some, no others of it are taken from the queue.
    cuts: Cuts,
}

impl<W> Drop for Writer<W> {
    /// However it ends, what it has not begun to write is counted.
    fn drop(&mut self) {
        let mut topics = std::mem::take(&mut self.output.messages);
        topics.extend(self.cuts.topics().cloned());
        self.queue.count_unwritten(&topics, &self.data);
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
            let has_rest = holds_bulk || self.output.size() > 0;
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
            self.output.add_control(frame);
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
            self.output.add_item(item);
            if self.output.size() >= WRITE_BUFFER {
                self.output.flush(&self.queue).await?;
            }
        }
        if !self.cuts.is_empty() {
            let parts = self.cuts.parts_after(others, others < TAKEN);
            self.add_parts(parts);
            return self.output.flush(&self.queue).await;
        }
        let is_lone = self.output.messages.len() == 1 && !self.output.is_busy;
        if self.output.size() < SMALL_WRITE && !is_lone {
            // A publisher that goes on publishing gets its next messages into the same write: it has by the
            // second one, as a write takes longer than it. A lone message goes at once: the other look
            // costs a round trip two calls of the system, a tenth of its CPU.
            tokio::task::yield_now().await;
        }
        if self.output.size() < WRITE_BUFFER && self.queue.has_more() {
            return Ok(());
        }
        self.output.flush(&self.queue).await
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
            let Some(next) = self.cuts.next() else {
                return;
            };
            if self.output.add_part(next) {
                parts -= 1;
            } else if self.output.size() >= WRITE_BUFFER {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use muster_wire::counters::DropCause;

    use super::super::peer_queue::PeerCounts;
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
}
