//! The task that writes a peer's queue to its connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use muster_wire::Message;
use muster_wire::envelope::{self, Control};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::peer_queue::{EndReason, Outgoing, PeerCounts, PeerQueue, Taken};

/// How much is put together for one write.
const WRITE_BUFFER: usize = 256 << 10;

/// Payloads from this size on are written from where they are instead of being copied.
const VECTORED: usize = 32 << 10;

/// Below this, one more look at the queue may save a write.
const SMALL_WRITE: usize = 4 << 10;

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
        messages: 0,
    };
    if let Err(reason) = writer.run(bye_timeout).await {
        writer.queue.end(reason);
    }
    let _ = tokio::time::timeout(Duration::from_millis(100), writer.stream.shutdown()).await;
}

struct Writer<W> {
    stream: W,
    queue: Arc<PeerQueue>,
    buffer: Vec<u8>,
    /// Messages in the buffer.
    messages: u64,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(&mut self, bye_timeout: Duration) -> Result<(), EndReason> {
        let mut control = VecDeque::new();
        let mut data = VecDeque::new();
        let mut said_bye = false;
        loop {
            poll_fn(|cx| self.queue.poll_ready(cx)).await;
            match self.queue.take(&mut control, &mut data) {
                Taken::Ended => return Ok(()),
                Taken::Drained if said_bye => {
                    let ended = poll_fn(|cx| self.queue.poll_ended(cx));
                    let _ = tokio::time::timeout(bye_timeout, ended).await;
                    let reason = "removed connection to remote peer".to_owned();
                    return Err(EndReason::Removed(reason));
                }
                Taken::Drained => {
                    said_bye = true;
                    self.queue.push_control(&Control::Ping(envelope::bye(1)));
                }
                Taken::Work => {
                    let written = self.write_all(&mut control, &mut data).await;
                    if let Err(reason) = written {
                        self.queue.count_unwritten(data.drain(..));
                        return Err(reason);
                    }
                }
            }
        }
    }

    async fn write_all(
        &mut self,
        control: &mut VecDeque<Vec<u8>>,
        data: &mut VecDeque<Outgoing>,
    ) -> Result<(), EndReason> {
        for frame in control.drain(..) {
            self.buffer.extend_from_slice(&frame);
        }
        while let Some(item) = data.pop_front() {
            match item {
                Outgoing::Frame(frame) => self.buffer.extend_from_slice(&frame),
                Outgoing::Message(message) => self.message(message).await?,
            }
            if self.buffer.len() >= WRITE_BUFFER {
                self.flush(&[]).await?;
            }
        }
        if self.buffer.len() < SMALL_WRITE {
            // A publisher that goes on publishing gets its next messages into the same write.
            tokio::task::yield_now().await;
            if self.queue.len() > 0 {
                return Ok(());
            }
        }
        self.flush(&[]).await
    }

    async fn message(&mut self, message: Message) -> Result<(), EndReason> {
        let (topic, payload) = (message.topic.as_bytes(), &message.payload);
        let me = self.queue.me;
        envelope::put_message_header(&mut self.buffer, me, message.kind, topic, payload.len());
        self.messages += 1;
        if payload.len() >= VECTORED {
            return self.flush(payload).await;
        }
        self.buffer.extend_from_slice(payload);
        Ok(())
    }

    /// Writes the buffer and then `payload`, unless the peering ends first.
    async fn flush(&mut self, payload: &[u8]) -> Result<(), EndReason> {
        let mut chain = Buf::chain(&self.buffer[..], payload);
        // Counted before the write: what a failing write has handed over is unknown, not unsent.
        PeerCounts::add(
            &self.queue.counts.messages_out,
            std::mem::take(&mut self.messages),
        );
        PeerCounts::add(&self.queue.counts.bytes_out, chain.remaining() as u64);
        let write = self.stream.write_all_buf(&mut chain);
        let queue = &self.queue;
        tokio::select! {
            biased;
            written = write => written.map_err(|error| EndReason::Lost(error.to_string()))?,
            () = poll_fn(|cx| queue.poll_ended(cx)) => {
                return Err(EndReason::Lost("ended while writing".to_owned()));
            }
        }
        self.buffer.clear();
        if self.buffer.capacity() > 2 * WRITE_BUFFER {
            self.buffer = Vec::new();
        }
        Ok(())
    }
}
