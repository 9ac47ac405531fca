//! The task that writes a peer's queue to its connection.

mod compression;
mod fragmenter;
mod output;
mod pieces;
mod shared_output;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::mesh::HOPS;
use muster_wire::peering::Protocol;
use muster_wire::{Class, Queued};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::end_reason::EndReason;
use super::outgoing::Outgoing;
use super::peer_session::PeerSession;
use super::send_queue::inline::InlineWriter;
use super::send_queue::{TAKEN, Taken};
use fragmenter::{Fragmenter, PART, Piece};
use output::{Output, WRITE_BUFFER};
use shared_output::{PAUSE, SharedOutput};

/// Below this, one more look at the queue may save a write.
const SMALL_WRITE: usize = 4 << 10;

/// So much of control frames is put together for one write: a mesh that starts has much of them on all links at once.
const CONTROL_BUFFER: usize = 64 << 10;

/// A queue of control frames that has had room for more is given back.
const FRAMES_KEPT: usize = 64;

/// Writes until the peering ends; ends it when a write fails or the queue is drained.
pub(crate) async fn run<W: AsyncWrite + Unpin + Send + 'static>(
    stream: W,
    session: Arc<PeerSession>,
    bye_timeout: Duration,
) {
    let output = Arc::new(SharedOutput::new(Output::new(stream, Arc::clone(&session))));
    // Others must not keep the connection when the task is gone.
    let shared: Weak<dyn InlineWriter> = Arc::downgrade(&output) as _;
    session.queue.share_writer(shared);
    let mut writer = Writer {
        output: Arc::clone(&output),
        session,
        data: VecDeque::new(),
        fragmenter: Fragmenter::default(),
    };
    if let Err(reason) = writer.run(bye_timeout).await {
        writer.session.queue.end(reason);
    }
    let end = async {
        let mut output = output.lock().await;
        if let Some(word) = writer.session.queue.last_word() {
            output.add_control(word);
            // Whether or not it has gone out, the connection ends.
            let _ = output.flush().await;
        }
        output.stream.shutdown().await
    };
    let _ = tokio::time::timeout(Duration::from_millis(100), end).await;
}

struct Writer<W> {
    output: Arc<SharedOutput<W>>,
    session: Arc<PeerSession>,
    /// What was taken from the queue and is not yet in the output.
    data: VecDeque<Outgoing>,
    /// Large messages of the bulk class; while there are some, no others of it are taken from the queue.
    fragmenter: Fragmenter,
}

impl<W> Drop for Writer<W> {
    /// However it ends, what it has not begun to write is counted.
    fn drop(&mut self) {
        // Whoever has the output instead leaves nothing in it that no write has begun with.
        let output = self.output.try_lock();
        let unwritten = output.map(|mut output| output.take_unwritten());
        let (mut topics, runs) = unwritten.unwrap_or_default();
        topics.extend(self.fragmenter.topics().cloned());
        self.session.queue.count_unwritten(&topics, &runs);
        self.session.queue.count_unwritten(&[], &self.data);
    }
}

impl<W: AsyncWrite + Unpin + Send> Writer<W> {
    async fn run(&mut self, bye_timeout: Duration) -> Result<(), EndReason> {
        self.until(Taken::Drained, bye_timeout).await?;
        if self.session.queue.ended().is_some() {
            return Ok(());
        }
        self.session.say_goodbye();
        // The peer may be saying goodbye at the same time, and waits for the answer.
        match tokio::time::timeout(bye_timeout, self.until(Taken::Ended, bye_timeout)).await {
            Ok(Err(reason)) => Err(reason),
            Ok(Ok(())) | Err(_) => Err(EndReason::removed()),
        }
    }

    /// Writes what is queued until the peering ends, or until the queue is in the state `last`.
    async fn until(&mut self, last: Taken, bye_timeout: Duration) -> Result<(), EndReason> {
        let shared = Arc::clone(&self.output);
        let mut control = VecDeque::new();
        loop {
            if !self.fragmenter.is_empty() {
                // There is something to write.
            } else if last == Taken::Ended {
                poll_fn(|cx| self.session.queue.poll_work(cx)).await;
            } else {
                poll_fn(|cx| self.session.queue.poll_ready(cx)).await;
            }
            let mut output = shared.lock().await;
            let holds_bulk = !self.fragmenter.is_empty();
            let has_rest = holds_bulk || output.has_rest();
            let queue = &self.session.queue;
            match queue.take(
                &mut control,
                &mut self.data,
                holds_bulk,
                &mut output.written,
            ) {
                Taken::Ended => return Ok(()),
                Taken::Drained if last == Taken::Drained && !has_rest => return Ok(()),
                Taken::Blocked if !has_rest => self.wait_for_credit(bye_timeout).await,
                // What was put off for a fuller write goes out with nothing more.
                Taken::Drained | Taken::Blocked | Taken::Work => {
                    self.write_all(&mut output, &mut control).await?;
                }
            }
        }
    }

    /// The peering is about to end, and what is left has no credit: a peer that gives none for so long gets it
    /// all the same.
    async fn wait_for_credit(&mut self, limit: Duration) {
        let session = &self.session;
        let credit = poll_fn(|cx| session.queue.poll_credit(cx));
        if tokio::time::timeout(limit, credit).await.is_err() {
            session.queue.lift_credit();
        }
    }

    async fn write_all(
        &mut self,
        output: &mut Output<W>,
        control: &mut VecDeque<Bytes>,
    ) -> Result<(), EndReason> {
        while let Some(frame) = control.pop_front() {
            output.add_control(frame);
            if output.size() >= CONTROL_BUFFER {
                output.flush().await?;
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
            output.add_item(item);
            if output.size() >= WRITE_BUFFER {
                output.flush().await?;
            }
        }
        if !self.fragmenter.is_empty() {
            let parts = self.fragmenter.parts_after(others, others < TAKEN);
            self.add_parts(output, parts);
            return output.flush().await;
        }
        if output.size() < SMALL_WRITE && !output.is_lone(PAUSE) {
            // A publisher that goes on publishing gets its next messages into the same write: it has by the
            // second one, as a write takes longer than it. A lone message goes at once: the other look
            // costs a round trip two calls of the system, a tenth of its CPU. Lone messages of many others that follow one
            // another closely are relayed together: whoever else has read something by now adds it.
            tokio::task::yield_now().await;
        }
        if output.size() < WRITE_BUFFER && self.session.queue.has_more() {
            return Ok(());
        }
        output.flush().await
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
            // Runs have small messages only.
            Outgoing::Run(_) | Outgoing::RelayedRuns(_) => 0,
            // What is addressed goes to peers of version 1 alone.
            Outgoing::Frame(_) | Outgoing::Addressed(_) | Outgoing::Envelopes(_) => {
                return Some(item);
            }
        };
        let is_bulk = item.class() == Class::Bulk && self.session.info.protocol == Protocol::V2;
        let is_large = largest > PART || !self.fragmenter.is_empty();
        if !is_bulk || !is_large || !self.session.queue.knows_credit() {
            return Some(item);
        }
        match item {
            Outgoing::Message(message) => {
                let id = message.id?; // without an identity it cannot travel
                self.fragmenter.push(Piece {
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
                    self.fragmenter.push(Piece {
                        topic: topic.clone(),
                        payload,
                        id: entry.id,
                        hops: entry.hops,
                        kind: entry.kind,
                        guest: relayed.guest,
                    });
                }
            }
            Outgoing::Run(run) => {
                let head = *run.head();
                for message in run.each() {
                    let payload = Bytes::copy_from_slice(message.payload);
                    self.fragmenter.push_of_run(&head, &message, payload);
                }
            }
            Outgoing::RelayedRuns(runs) => runs.for_each(|part, message| {
                let payload = runs.payload(&message);
                self.fragmenter.push_of_run(&part.head, &message, payload);
            }),
            Outgoing::Frame(_) | Outgoing::Addressed(_) | Outgoing::Envelopes(_) => {}
        }
        None
    }

    /// Adds parts of large messages; small ones between them count for nothing.
    fn add_parts(&mut self, output: &mut Output<W>, mut parts: usize) {
        while parts > 0 {
            let Some(next) = self.fragmenter.next() else {
                return;
            };
            if output.add_part(next) {
                parts -= 1;
            } else if output.size() >= WRITE_BUFFER {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use muster_wire::counters::{DropCause, Dropped};

    use super::super::peer_session::PeerCounts;
    use super::super::post::Post;
    use super::super::send_queue::tests::{message, session};
    use super::*;
    use crate::endpoint::tls::{Side, TlsContext};
    use crate::endpoint::{EndpointConfig, Tls};
    use muster_wire::envelope;
    use muster_wire::{Class, EndpointId, Kind, Message};
    use tokio::io::{AsyncRead, AsyncReadExt};

    /// A small write that is put off for a fuller one is lost with its writer, and counted.
    #[tokio::test]
    async fn what_no_write_has_begun_with_is_counted_as_lost() {
        let session = Arc::new(session(&EndpointConfig::default()));
        let (stream, mut other) = tokio::io::duplex(1 << 16);
        {
            let mut writer = pin!(run(stream, Arc::clone(&session), Duration::ZERO));
            session.queue.push(message("/a", Class::Event));
            session.queue.push(message("/b", Class::Event));
            let polled = poll_fn(|cx| Poll::Ready(writer.as_mut().poll(cx))).await;
            assert!(polled.is_pending() && session.queue.len() == 0);
            session.queue.push(message("/a", Class::Event));
        }
        session.queue.end(EndReason::removed());
        let dropped = session.queue.depth().dropped;
        let lost: Vec<_> = dropped.entries().collect();
        let gone = |topic, messages| Dropped {
            cause: DropCause::PeerGone,
            topic,
            messages,
        };
        assert_eq!(lost, [gone("/a", 2), gone("/b", 1)]);
        assert_eq!(PeerCounts::get(&session.counts.messages_out), 0);
        let mut written = Vec::new();
        other.read_to_end(&mut written).await.unwrap();
        assert!(written.is_empty());
    }

    /// The last bytes of the next frames of version 1, which are the payloads of [`numbered`].
    async fn payloads(stream: &mut (impl AsyncRead + Unpin), frames: usize) -> Vec<u8> {
        let mut payloads = Vec::new();
        for _ in 0..frames {
            let mut header = [0; 4];
            stream.read_exact(&mut header).await.unwrap();
            let mut frame = vec![0; u32::from_be_bytes(header) as usize];
            stream.read_exact(&mut frame).await.unwrap();
            payloads.push(*frame.last().unwrap());
        }
        payloads
    }

    fn numbered(number: u8) -> Message {
        Message {
            payload: Bytes::copy_from_slice(&[number]),
            ..message("/a", Class::Event)
        }
    }

    /// While the writer rests, whoever publishes writes; what the system does not take is left to the writer.
    #[tokio::test]
    async fn a_lone_message_is_written_without_the_task() {
        for room in [1 << 16, 10, 1] {
            let session = Arc::new(session(&EndpointConfig::default()));
            let (stream, mut other) = tokio::io::duplex(room);
            let mut writer = pin!(run(stream, Arc::clone(&session), Duration::ZERO));
            let polled = poll_fn(|cx| Poll::Ready(writer.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            let _ = session.queue.post_inline(&Post::of(&numbered(7)));
            assert_eq!(session.queue.len(), 0);
            assert_eq!(PeerCounts::get(&session.counts.messages_out), 1);
            // Behind it, whether by this thread or by the task.
            let _ = session.queue.post_inline(&Post::of(&numbered(8)));
            let read = async {
                let payloads = payloads(&mut other, 2).await;
                session.queue.end(EndReason::removed());
                payloads
            };
            let (payloads, ()) = tokio::join!(read, writer);
            assert_eq!(payloads, [7, 8]);
            // However many writes it takes, each byte is counted once.
            let mut frame = Vec::new();
            let (me, length) = (session.me, 1);
            envelope::put_message_header_to(
                &mut frame,
                me,
                EndpointId::NIL,
                Kind::Data,
                b"/a",
                length,
            );
            let frames = 2 * (frame.len() + length) as u64;
            assert_eq!(PeerCounts::get(&session.counts.bytes_out), frames);
            assert_eq!(PeerCounts::get(&session.counts.messages_out), 2);
            assert_eq!(session.queue.depth().dropped.total(), 0);
        }
    }

    /// A relay with many origins is given one message by each, shortly behind one another.
    #[tokio::test]
    async fn who_follows_closely_is_not_alone() {
        let session = Arc::new(session(&EndpointConfig::default()));
        let (stream, _other) = tokio::io::duplex(1 << 16);
        let mut output = Output::new(stream, session);
        let add = |output: &mut Output<_>| output.add_item(Outgoing::Message(numbered(7)));
        add(&mut output);
        assert!(output.is_lone(Duration::MAX));
        output.flush().await.unwrap();
        add(&mut output);
        assert!(output.is_lone(Duration::ZERO) && !output.is_lone(Duration::MAX));
        add(&mut output);
        assert!(!output.is_lone(Duration::ZERO));
        output.flush().await.unwrap();
        add(&mut output);
        assert!(!output.is_lone(Duration::ZERO), "a burst may go on");
    }

    /// OpenSSL wants to be asked again for what it could not write, and the rest has other company by then. What its
    /// buffer has taken and the system has not is the task's to write, whether or not more comes.
    #[tokio::test]
    async fn what_tls_has_not_written_is_written_with_what_came_behind() {
        let context = TlsContext::load(&Tls::Anonymous).unwrap();
        for messages in [1, 20] {
            let (near, far) = tokio::io::duplex(40);
            let (near, far) = tokio::join!(
                context.secure(Side::Dialler, near),
                context.secure(Side::Acceptor, far)
            );
            let (near, mut far) = (near.unwrap(), far.unwrap());
            let session = Arc::new(session(&EndpointConfig::default()));
            let (_, near) = tokio::io::split(near);
            let mut writer = pin!(run(near, Arc::clone(&session), Duration::ZERO));
            let polled = poll_fn(|cx| Poll::Ready(writer.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            for number in 0..messages {
                let _ = session.queue.post_inline(&Post::of(&numbered(number)));
            }
            let read = async {
                let limit = Duration::from_secs(10);
                let read = payloads(&mut far, usize::from(messages));
                let read = tokio::time::timeout(limit, read).await;
                session.queue.end(EndReason::removed());
                let read = read.expect("all of it comes, and nothing stays");
                assert_eq!(read, (0..messages).collect::<Vec<u8>>());
                far.read_to_end(&mut Vec::new()).await.unwrap()
            };
            // Its end is told in TLS.
            let (more, ()) = tokio::join!(read, writer);
            assert_eq!(more, 0);
            let sent = PeerCounts::get(&session.counts.messages_out);
            assert_eq!(sent, u64::from(messages));
        }
    }

    /// What two ways lead to keeps its order, and nothing is lost between them.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_keep_their_order_whoever_writes_them() {
        const MESSAGES: usize = 20_000;
        let config = EndpointConfig::default();
        let session = Arc::new(session(&config));
        // Less than many writes have.
        let (stream, mut other) = tokio::io::duplex(300);
        let writer = tokio::spawn(run(stream, Arc::clone(&session), Duration::ZERO));
        let publishing = Arc::clone(&session);
        let publisher = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                let message = numbered(u8::try_from(number % 251).unwrap());
                while publishing
                    .queue
                    .post_if_room(&Post::of(&message), true)
                    .is_none()
                {
                    std::thread::yield_now();
                }
                if number % 7 == 0 {
                    let begin = std::time::Instant::now();
                    while begin.elapsed() < Duration::from_micros(30) {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let payloads = payloads(&mut other, MESSAGES).await;
        publisher.join().unwrap();
        session.queue.end(EndReason::removed());
        writer.await.unwrap();
        let mut expected = (0..251).cycle();
        assert!(
            payloads
                .iter()
                .all(|payload| expected.next() == Some(*payload))
        );
    }
}
