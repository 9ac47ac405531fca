//! Runs of a peer: what their messages are for here, and how they go on as they came.

use std::sync::Arc;

use muster_wire::mesh::codec::{
    First, FrameError, MessageRef, ReceivedRun, RunHead, RunMessage, RunPart,
};
use muster_wire::mesh::data::{Dropped, NextHops, RunOrigin};
use muster_wire::{Kind, MessageId, Topic};
use tokio::io::AsyncRead;

use super::mesh::{Here, Taking};
use super::pending::{Lying, Source, narrow};
use super::relays::{Onward, RELAYED, Relays, Way};
use super::{Reader, Shared, Table, count};
use crate::endpoint::peer_session::PeerSession;

/// A larger payload goes on by itself: runs that are written have none.
const SMALL: usize = 64 << 10;

/// What goes on as one frame has no more bytes than this.
const PART: usize = 128 << 10;

/// Messages that follow one another in a run and go on to the same peers.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// The positions that the routes gave for them, and those of the peers that they go to.
    positions: Vec<u32>,
    peers: Vec<u32>,
    messages: usize,
    base: u64,
    start: usize,
    end: usize,
    first: Option<First>,
    cost: usize,
}

/// A message of a run where it lies in its buffer.
struct Placed<'a> {
    message: RunMessage<'a>,
    /// The sequence before it.
    base: u64,
    has_topic: bool,
    start: usize,
    /// Where the length of its payload lies, and the payload.
    length: usize,
    payload: usize,
    end: usize,
}

impl Stretch {
    fn is_empty(&self) -> bool {
        self.messages == 0
    }

    fn continues(&self, positions: &[u32], next: &Placed<'_>) -> bool {
        self.messages > 0
            && self.messages < RELAYED
            && self.end == next.start
            && next.end - self.start <= PART
            && self.positions == positions
    }

    fn begin(&mut self, hops: NextHops<'_, Arc<PeerSession>>, next: &Placed<'_>, topic: &Topic) {
        self.positions.clear();
        self.positions.extend_from_slice(hops.positions());
        self.peers.clear();
        self.peers.extend(hops.map(|(position, _)| position));
        self.messages = 0;
        self.cost = 0;
        self.base = next.base;
        self.start = next.start;
        self.first = None;
        if !next.has_topic {
            self.start = next.length;
            self.first = Some(First {
                sequence: next.message.sequence,
                kind: next.message.kind,
                topic: topic.clone(),
            });
        }
    }

    fn add(&mut self, next: &Placed<'_>) {
        self.messages += 1;
        self.cost += next.message.cost();
        self.end = next.end;
    }

    /// Hands the messages over to what goes on.
    fn finish(
        &mut self,
        shared: &Shared,
        table: &Table,
        head: &RunHead,
        buffer: &[u8],
        relays: &mut Relays,
    ) {
        if self.messages == 0 {
            return;
        }
        let hops = head.hops.saturating_sub(1);
        let part = RunPart {
            head: RunHead {
                hops,
                base: self.base,
                ..*head
            },
            messages: self.messages,
            start: narrow(self.start),
            length: narrow(self.end - self.start),
            first: self.first.take(),
            cost: self.cost,
        };
        self.messages = 0;
        for position in &self.peers {
            let Some(peer) = table.peer(*position) else {
                continue;
            };
            shared.mesh.count_relayed(part.messages);
            let way = Way {
                peer: *position,
                class: head.class,
                guest: None,
            };
            let limits = peer.handle.limits(head.class);
            if peer.handle.queue.takes_runs() && relays.part(way, &part, limits) {
                continue;
            }
            // Each topic is made once, as many messages as there are of it.
            let mut last: Option<Topic> = None;
            part.for_each(buffer, |message| {
                let known = last.take().filter(|it| it.as_bytes() == message.topic);
                last = known.or_else(|| Topic::new(message.topic).ok());
                let Some(topic) = &last else {
                    return; // it was looked up before
                };
                let lying = Lying {
                    topic,
                    start: message.payload.as_ptr() as usize - buffer.as_ptr() as usize,
                    length: message.payload.len(),
                };
                relays.message(way, lying, onward(head, &message, hops), limits);
            });
        }
    }
}

fn onward(head: &RunHead, message: &RunMessage<'_>, hops: u8) -> Onward {
    let (origin, sequence) = (head.origin, message.sequence);
    Onward {
        id: MessageId { origin, sequence },
        hops,
        kind: message.kind,
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The messages of a run that lies in a buffer: how many, and what is wrong with the next.
    pub(super) fn received_run(
        &mut self,
        shared: &Shared,
        here: &Here<'_>,
        mut run: ReceivedRun<'_>,
        buffer: &[u8],
    ) -> (u64, Option<FrameError>) {
        let (table, head) = (here.table, run.head);
        let place = |bytes: &[u8]| bytes.as_ptr() as usize - buffer.as_ptr() as usize;
        let neighbour = self.session.info.id;
        let origin = self.ingress.begin_run(here, &head);
        let mut seen = origin.as_ref().map(RunOrigin::seen);
        let (mut messages, mut cost) = (0, 0);
        let mut base = head.base;
        let mut topic = &[][..];
        // Messages that were not here before and have the same topic have the same way.
        let mut passage = Err(Dropped::NoTopic);
        // Whether the message before went to the subscribers of its topic.
        let mut goes_on_as_before = false;
        let malformed = loop {
            let start = place(run.rest());
            let message = match run.next() {
                None => break None,
                Some(Err(error)) => break Some(error),
                Some(Ok(message)) => message,
            };
            messages += 1;
            cost += message.cost();
            let has_topic = topic.as_ptr() != message.topic.as_ptr();
            let placed = Placed {
                base,
                has_topic,
                start,
                length: place(run.payload()),
                payload: place(message.payload),
                end: place(run.rest()),
                message,
            };
            base = message.sequence;
            topic = message.topic;
            if has_topic && let Ok(origin) = &origin {
                passage = self.ingress.in_run(here, neighbour, &head, origin, topic);
            }
            let noted = match &mut seen {
                Ok(seen) => seen.note(here, head.class, message.sequence),
                Err(dropped) => Err(**dropped),
            };
            let way = noted.and_then(|is_late| Ok((is_late, passage.as_ref().map_err(|it| *it)?)));
            let (is_late, passage) = match way {
                Ok(way) => way,
                Err(dropped) => {
                    let relays = &mut self.brought.relays;
                    self.stretch.finish(shared, table, &head, buffer, relays);
                    self.refusals.dropped(&shared.mesh, dropped, topic);
                    continue;
                }
            };
            if is_late {
                count(&shared.mesh.reordered);
            }
            let id = MessageId {
                origin: head.origin,
                sequence: message.sequence,
            };
            let length = message.payload.len();
            let goes_again = goes_on_as_before && !has_topic && message.kind == Kind::Data;
            let is_taken =
                goes_again && muster_data::validate(message.payload, &self.limits).is_ok() && {
                    let (from, class) = (head.origin, head.class);
                    let id = Some(id);
                    let source = Source { from, class, id };
                    self.brought.deliver_again(source, placed.payload, length)
                };
            let lying = Lying {
                topic: passage.topic,
                start: placed.payload,
                length,
            };
            if !is_taken {
                let taken = MessageRef {
                    alias: 0,
                    id,
                    hops: head.hops,
                    kind: message.kind,
                    topic: message.topic,
                    payload: message.payload,
                    guest: None,
                };
                let mut taking = Taking {
                    brought: &mut self.brought,
                    refusals: &mut self.refusals,
                    limits: &self.limits,
                };
                goes_on_as_before = taking.take(shared, table, head.class, &taken, lying, passage);
            }
            let hops = &passage.next_hops;
            if hops.positions().is_empty() && self.stretch.is_empty() {
                continue;
            }
            let is_small = message.payload.len() <= SMALL;
            if is_small && self.stretch.continues(hops.positions(), &placed) {
                self.stretch.add(&placed);
                continue;
            }
            let relays = &mut self.brought.relays;
            self.stretch.finish(shared, table, &head, buffer, relays);
            if hops.positions().is_empty() {
                continue;
            }
            if is_small {
                self.stretch.begin(hops.clone(), &placed, lying.topic);
                self.stretch.add(&placed);
                continue;
            }
            for (position, peer) in hops.clone() {
                shared.mesh.count_relayed(1);
                let way = Way {
                    peer: position,
                    class: head.class,
                    guest: None,
                };
                let onward = onward(&head, &message, head.hops.saturating_sub(1));
                relays.message(way, lying, onward, peer.handle.limits(head.class));
            }
        };
        let relays = &mut self.brought.relays;
        self.stretch.finish(shared, table, &head, buffer, relays);
        self.credit.came(head.class, cost);
        (messages, malformed)
    }
}
