//! The read side of a peering of version 2: what the mesh's messages are for, and where they go on.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use muster_data::Limits;
use muster_wire::counters::DropCause;
use muster_wire::credit;
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::mesh::codec::{
    self, Batch, Decoder, FragmentRef, Frame, FrameError, LinkFrame, MeshFrame, MessageRef,
};
use muster_wire::mesh::data::{self, DeadEnd, Guests, Passage};
use muster_wire::{Class, EndpointId, Kind};
use tokio::io::AsyncRead;

use super::pending::{Brought, Lying, Source};
use super::refusals::Refusals;
use super::relays::{Onward, Way};
use super::{PeerCounts, Reader, Shared, Table};
use crate::endpoint::end_reason::{EndReason, LossReason};
use crate::endpoint::owner::Command;
use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::shared::count;
use crate::endpoint::subscriber::SubscriberQueue;

/// The most frames that the owner is given at once.
const AT_ONCE: usize = 64;

/// What ends the processing of frames before their end.
enum Stop {
    /// The owner has to deal with these frames before what follows them.
    Owner(Vec<MeshFrame>),
    /// A batch that came in parts is whole.
    Whole(Bytes),
    /// A batch was compressed: its payload as it was before.
    Expanded(Bytes),
    /// The peer is about to go, or has done with this endpoint: nothing more may be routed to it. With the reason.
    Goodbye(u8),
    End(EndReason),
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Deals with all complete frames; says how many bytes the next one needs.
    pub(super) async fn process_mesh(&mut self) -> Result<usize, EndReason> {
        loop {
            let table = self.shared.table.load_full();
            // Both are used while the rest of the reader is.
            let mut buffer = std::mem::take(&mut self.buffer);
            let mut decoder = std::mem::take(&mut self.decoder);
            let (end, outcome) = self.frames(&table, &buffer, &mut decoder);
            self.decoder = decoder;
            std::mem::swap(&mut self.buffer, &mut buffer);
            if end > 0 {
                PeerCounts::add(&self.session.counts.bytes_in, end as u64);
                self.hand_over(&table, end);
            }
            match outcome {
                Ok(needed) => return Ok(needed),
                Err(Stop::End(reason)) => return Err(reason),
                Err(Stop::Whole(body)) => self.whole(&table, &body)?,
                Err(Stop::Expanded(payload)) => self.expanded(&table, &payload)?,
                Err(Stop::Goodbye(reason)) => {
                    let peer = self.session.info.id;
                    let leaving = |done| Command::PeerLeaving(peer, done);
                    self.owner.call(leaving).await;
                    if reason == LinkFrame::FENCED {
                        count(&self.shared.mesh.fenced_by_peers);
                        // Not to be answered: the other side has ended it.
                        return Err(LossReason::FencedByPeer.into());
                    }
                    if self.session.queue.goodbye_came() {
                        return Err(EndReason::removed());
                    }
                }
                Err(Stop::Owner(frames)) => {
                    let peer = self.session.info.id;
                    self.session.set_reader_waits(true);
                    self.owner.mesh_frames(peer, frames).await;
                    self.session.set_reader_waits(false);
                }
            }
        }
    }

    /// Looks at frames until one is incomplete, or for somebody else; and how far that was.
    fn frames(
        &mut self,
        table: &Table,
        buffer: &BytesMut,
        decoder: &mut Decoder,
    ) -> (usize, Result<usize, Stop>) {
        // Once for all frames: counted up and down for each message it cost a twelfth of a reader's CPU.
        let shared = Arc::clone(&self.shared);
        let limit = shared.config.frame_limit;
        let (mut at, mut largest) = (0, 0);
        let mut messages = 0;
        // A large mesh that starts sends many: the owner is asked once for all that came together.
        let mut for_owner = Vec::new();
        let outcome = loop {
            let length = match frame::next(&buffer[at..], limit) {
                Ok(Next::Complete(length)) => length,
                // What stands before the end is dealt with first, whatever the end is.
                Ok(Next::Needs(_)) | Err(_) if !for_owner.is_empty() => {
                    break Err(Stop::Owner(for_owner));
                }
                Ok(Next::Needs(needed)) => break Ok(needed),
                Err(error) => break Err(Stop::End(error.into())),
            };
            let payload = &buffer[at + HEADER..at + HEADER + length];
            let is_next = !for_owner.is_empty() && comes_behind(payload);
            if is_next || for_owner.len() >= AT_ONCE {
                break Err(Stop::Owner(for_owner));
            }
            at += HEADER + length;
            largest = largest.max(HEADER + length);
            let expanded = match codec::expand(payload, limit) {
                Ok(expanded) => expanded,
                Err(error) => break Err(lost(error)),
            };
            if let Some(expanded) = &expanded {
                let counts = &self.session.counts.compressed_in;
                counts.add(HEADER + length, HEADER + expanded.len());
            }
            let payload = match expanded.as_deref() {
                // It lies elsewhere than what came before it.
                Some(batch) if codec::is_batch(batch) => {
                    break Err(Stop::Expanded(expanded.unwrap_or_default().into()));
                }
                Some(part) => part,
                None => payload,
            };
            match decoder.read(payload) {
                Ok(Frame::Batch(batch)) => {
                    let (came, malformed) = self.batch(&shared, table, batch, buffer);
                    messages += came;
                    if let Some(error) = malformed {
                        break Err(lost(error));
                    }
                }
                Ok(Frame::Run(run)) => {
                    let here = shared.here(table);
                    let (came, malformed) = self.received_run(&shared, &here, run, buffer);
                    messages += came;
                    if let Some(error) = malformed {
                        break Err(lost(error));
                    }
                }
                Ok(Frame::Fragment(part)) => {
                    if let Some(body) = self.part(&part, limit) {
                        break Err(Stop::Whole(body));
                    }
                }
                Ok(Frame::Link(LinkFrame::Echo {
                    is_answer: true,
                    token,
                })) => self.session.queue.pong_came(token),
                Ok(Frame::Link(LinkFrame::Echo { token, .. })) => {
                    self.session.queue.push_link(&LinkFrame::Echo {
                        is_answer: true,
                        token,
                    });
                }
                Ok(Frame::Link(LinkFrame::Witness { is_answer, id })) => {
                    shared.witness(&self.session, is_answer, id);
                }
                Ok(Frame::Link(LinkFrame::Credit { class, bytes })) => {
                    self.session.queue.credit_came(class, bytes);
                }
                Ok(Frame::Link(LinkFrame::Goodbye { reason, .. })) => {
                    break Err(Stop::Goodbye(reason));
                }
                Ok(Frame::Mesh(frame)) => for_owner.push(frame),
                Ok(Frame::Unknown) => {}
                Err(_) if !for_owner.is_empty() => {
                    at -= HEADER + length;
                    break Err(Stop::Owner(for_owner));
                }
                Err(error) => break Err(lost(error)),
            }
        };
        if at > 0 {
            self.frames_came(largest);
        }
        PeerCounts::add(&self.session.counts.messages_in, messages);
        (at, outcome)
    }

    /// The messages of a batch that lies in a buffer: how many, and what is wrong with the next.
    fn batch(
        &mut self,
        shared: &Shared,
        table: &Table,
        batch: Batch<'_, '_>,
        buffer: &[u8],
    ) -> (u64, Option<FrameError>) {
        let class = batch.class;
        let (mut messages, mut cost) = (0, 0);
        let malformed = batch.into_iter().find_map(|message| match message {
            Ok(message) => {
                messages += 1;
                cost += credit::cost(message.topic, message.payload.len());
                // The payload lies in the buffer.
                let start = message.payload.as_ptr() as usize - buffer.as_ptr() as usize;
                self.message(shared, table, class, message, start);
                None
            }
            Err(error) => Some(error),
        });
        self.credit.came(class, cost);
        (messages, malformed)
    }

    /// A part of a batch has come; the whole if it is the last one.
    fn part(&mut self, part: &FragmentRef<'_>, limit: usize) -> Option<Bytes> {
        let whole = self.assembly.add(part, limit);
        whole.unwrap_or_else(|_| {
            count(&self.shared.mesh.fragments_lost);
            None
        })
    }

    /// A batch that came in parts is whole.
    fn whole(&mut self, table: &Table, body: &Bytes) -> Result<(), EndReason> {
        let mut decoder = Decoder::default();
        let batch = decoder.cut_batch(body)?;
        self.lying(table, body, batch)
    }

    /// A batch was compressed.
    fn expanded(&mut self, table: &Table, payload: &Bytes) -> Result<(), EndReason> {
        let mut decoder = std::mem::take(&mut self.decoder);
        let outcome = match decoder.read(payload) {
            Ok(Frame::Batch(batch)) => self.lying(table, payload, batch),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.decoder = decoder;
        outcome
    }

    /// The messages of a batch that lies in bytes of its own.
    fn lying(
        &mut self,
        table: &Table,
        bytes: &Bytes,
        batch: Batch<'_, '_>,
    ) -> Result<(), EndReason> {
        let shared = Arc::clone(&self.shared);
        let (messages, malformed) = self.batch(&shared, table, batch, bytes);
        PeerCounts::add(&self.session.counts.messages_in, messages);
        self.distribute(table, bytes, bytes.len());
        self.settle(table.peers().len());
        malformed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// A message has come: for whoever is here, for others, or not at all.
    fn message(
        &mut self,
        shared: &Shared,
        table: &Table,
        class: Class,
        message: MessageRef<'_>,
        start: usize,
    ) {
        let here = shared.here(table);
        let neighbour = self.session.info.id;
        let passage = match self.ingress.receive(&here, neighbour, class, &message) {
            Ok(passage) => passage,
            Err(dropped) => {
                self.refusals.dropped(&shared.mesh, dropped, message.topic);
                return;
            }
        };
        let lying = Lying {
            topic: passage.topic,
            start,
            length: message.payload.len(),
        };
        let mut taking = Taking {
            brought: &mut self.brought,
            refusals: &mut self.refusals,
            limits: &self.limits,
        };
        if passage.is_late {
            count(&shared.mesh.reordered);
        }
        taking.take(shared, table, class, &message, lying, &passage);
        let onward = Onward {
            id: message.id,
            hops: message.hops.saturating_sub(1),
            kind: message.kind,
        };
        for (position, peer) in passage.next_hops {
            shared.mesh.count_relayed(1);
            let way = Way {
                peer: position,
                class,
                guest: message.guest,
            };
            let limits = peer.handle.limits(class);
            self.brought.relays.message(way, lying, onward, limits);
        }
    }
}

/// This endpoint as its readers see it.
pub(super) type Here<'t> = data::Here<'t, Arc<PeerSession>, Arc<SubscriberQueue>>;

/// What a reader takes messages with.
pub(super) struct Taking<'r> {
    pub(super) brought: &'r mut Brought,
    pub(super) refusals: &'r mut Refusals,
    pub(super) limits: &'r Limits,
}

impl Taking<'_> {
    /// Takes a message for whoever it is for here. Returns `true` if it goes to all subscribers that its topic leads to,
    /// and to nobody else here.
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        table: &Table,
        class: Class,
        message: &MessageRef<'_>,
        lying: Lying<'_>,
        passage: &Passage<'_, Arc<PeerSession>>,
    ) -> bool {
        let mut is_delivered = false;
        let is_here = passage.is_addressed || !passage.subscribers.is_empty();
        if is_here || !passage.guests.is_empty() {
            let (brought, refusals) = (&mut *self.brought, &mut *self.refusals);
            if passage.is_addressed {
                take_addressed(shared, refusals, message);
            } else if is_valid(self.limits, message) {
                let from = message.guest.unwrap_or(message.id.origin);
                match message.kind {
                    Kind::Command if is_here => take_command(shared, refusals, from, message),
                    Kind::Command => {}
                    Kind::Data => {
                        let id = Some(message.id);
                        let source = Source { from, class, id };
                        brought.deliver(table, source, lying, passage.subscribers);
                        is_delivered = passage.guests.is_empty();
                    }
                }
                if !passage.guests.is_empty() {
                    pass_to_guests(brought, shared, message, lying, passage.guests.clone());
                }
            } else {
                let (cause, what) = (DropCause::Malformed, "malformed value");
                refusals.refuse(cause, what, message.topic);
            }
        }
        match passage.dead_end {
            Some(DeadEnd::Exhausted) => {
                count(&shared.mesh.hops_exhausted);
                is_delivered = false;
            }
            Some(DeadEnd::Stranded) => shared.mesh.count_stranded(message.topic),
            None => {}
        }
        is_delivered
    }
}

/// A message has come that is addressed to this endpoint.
fn take_addressed(shared: &Shared, refusals: &mut Refusals, message: &MessageRef<'_>) {
    match message.kind {
        Kind::Command => take_command(shared, refusals, message.id.origin, message),
        Kind::Data => shared.addressed(message.id.origin, message.payload),
    }
}

/// A command has come for a store that is here.
fn take_command(
    shared: &Shared,
    refusals: &mut Refusals,
    from: EndpointId,
    message: &MessageRef<'_>,
) {
    let stores = &shared.stores;
    if let Err((cause, what)) = stores.receive(from, message.topic, message.payload) {
        refusals.refuse(cause, what, message.topic);
    }
}

/// Hands a message to the peers of version 1 that have their home here and want it.
fn pass_to_guests(
    brought: &mut Brought,
    shared: &Shared,
    message: &MessageRef<'_>,
    lying: Lying<'_>,
    guests: Guests<'_, Arc<PeerSession>>,
) {
    // They have one queue for all classes.
    let class = Class::Event;
    let onward = Onward {
        id: message.id,
        hops: message.hops,
        kind: message.kind,
    };
    for (position, peer) in guests {
        count(&shared.mesh.to_version_1);
        let way = Way {
            peer: position,
            class,
            guest: None,
        };
        let limits = peer.handle.limits(class);
        brought.relays.message(way, lying, onward, limits);
    }
}

/// Whether a message may be given to somebody.
fn is_valid(limits: &Limits, message: &MessageRef<'_>) -> bool {
    message.kind == Kind::Command || muster_data::validate(message.payload, limits).is_ok()
}

/// Whether a frame must not be looked at before the owner has dealt with those before it: messages need
/// the records that explain them, and a goodbye is the last.
fn comes_behind(payload: &[u8]) -> bool {
    codec::is_batch(payload)
        || codec::is_run(payload)
        || codec::is_fragment(payload)
        || codec::is_goodbye(payload)
}

fn lost(error: FrameError) -> Stop {
    Stop::End(error.into())
}
