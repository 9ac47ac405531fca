//! The read side of a peering: validates, routes and hands over what one socket read brought, with
//! no task between the socket and the subscribers' queues.

mod credit;
mod fragments;
mod home;
mod latest;
mod mesh;
mod pending;
mod refusals;
mod relays;
mod runs;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use muster_data::Limits;
use muster_wire::counters::DropCause;
use muster_wire::envelope::{self, Control, Envelope};
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::mesh::HOPS;
use muster_wire::mesh::codec::Decoder;
use muster_wire::mesh::data::{Dropped, GuestPassage, GuestRole, Ingress};
use muster_wire::peering::Protocol;
use muster_wire::{Class, EndpointId, Kind};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::end_reason::{EndReason, LossReason};
use super::intake::{FREE, Intake};
use super::owner::{Command, OwnerHandle};
use super::peer_session::{PeerCounts, PeerSession};
use super::recycling;
use super::shared::{Shared, Table, count};
use super::spare::Spare;
use super::tls::ConnectionError;
use credit::{Classes, CreditIntake, Waited};
use fragments::Assembly;
use pending::{Brought, Lying, Source};
use refusals::Refusals;
use relays::{Onward, Way};
use runs::Stretch;

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
    session: Arc<PeerSession>,
    /// What it knows of the messages that come by this link.
    ingress: Ingress,
    decoder: Decoder,
    limits: Limits,
    brought: Brought,
    /// Messages of a run that go on together.
    stretch: Stretch,
    refusals: Refusals,
    credit: CreditIntake,
    assembly: Assembly,
    /// What it holds of unfinished frames, among all readers.
    intake: Intake,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(
        stream: R,
        buffer: BytesMut,
        shared: Arc<Shared>,
        owner: OwnerHandle,
        session: Arc<PeerSession>,
    ) -> Self {
        let ending = Arc::clone(&session);
        let give_up = move |reason| ending.queue.end(LossReason::from(reason).into());
        Self {
            intake: Intake::new(Arc::clone(&shared.intake), give_up),
            stream,
            allocation: buffer.capacity(),
            buffer,
            read_size: SMALL_READ,
            large: 0,
            spare: Spare::default(),
            give_back: false,
            shared,
            owner,
            refusals: Refusals::new(Arc::clone(&session)),
            session,
            ingress: Ingress::default(),
            decoder: Decoder::default(),
            limits: Limits::default(),
            brought: Brought::default(),
            stretch: Stretch::default(),
            credit: CreditIntake::default(),
            assembly: Assembly::default(),
        }
    }

    /// Reads until the peering ends; says why it did.
    pub(crate) async fn run(&mut self) -> EndReason {
        self.wait_for_home().await;
        loop {
            let processed = match self.session.info.protocol {
                Protocol::V1 => self.process().await,
                Protocol::V2 => self.process_mesh().await,
            };
            let needed = match processed {
                Ok(needed) => needed,
                Err(reason) => return reason,
            };
            if let Err(reason) = self.make_room(needed) {
                return reason.into();
            }
            let room = self.buffer.capacity() - self.buffer.len();
            match self.read().await {
                Ok(0) | Err(_) if self.session.queue.both_closing() => return EndReason::removed(),
                Ok(0) => return LossReason::Closed.into(),
                Ok(read) => {
                    PeerCounts::add(&self.session.counts.reads, 1);
                    if read >= room && self.read_size < LARGE_READ {
                        self.read_size *= 2;
                    }
                    let size = self.read_size.max(self.allocation);
                    if let Some(size) = self.spare.shrinks_to(read, size) {
                        self.read_size = size.next_power_of_two().clamp(SMALL_READ, LARGE_READ);
                        self.give_back = true;
                    }
                }
                Err(error) => return ConnectionError::from(error).into(),
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
        self.credit.settle(self.shared.now(), &self.session, window);
    }

    /// Grows the buffer for a frame of `needed` bytes, no faster than its bytes arrive, unless as large a
    /// frame has arrived before: then it has its room at once, and is not copied each time that the buffer
    /// doubles (at 1 MiB, a third of a subscriber's CPU).
    fn make_room(&mut self, needed: usize) -> Result<(), LossReason> {
        if std::mem::take(&mut self.give_back) && self.allocation > self.read_size {
            self.shrink();
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
            self.grow(wanted.max(self.read_size));
        }
        let parts = self.assembly.size();
        if needed.max(parts) > FREE {
            self.intake.unfinished(self.allocation + parts)?;
        } else if !self.intake.at_rest(self.allocation) {
            // Others need the room more than this one does.
            self.read_size = self.read_size.min(FREE / 2);
            self.large = 0;
            self.shrink();
            self.intake.at_rest(self.allocation);
        }
        Ok(())
    }

    /// Makes room for so many more bytes: in its own buffer if nobody else has a part of it, otherwise in one that is used
    /// again, or in a new one.
    fn grow(&mut self, more: usize) {
        if self.buffer.len() + more < recycling::LARGE {
            self.buffer.reserve(more);
        } else if !self.buffer.try_reclaim(more) {
            let full = std::mem::take(&mut self.buffer);
            let recycling = &self.shared.recycling;
            self.buffer = recycling.read_on(full, self.allocation, more);
        }
        self.allocation = self.buffer.capacity();
    }

    /// Has a buffer of the size of a read.
    fn shrink(&mut self) {
        let rest = std::mem::take(&mut self.buffer);
        self.buffer = BytesMut::with_capacity(rest.len().max(self.read_size));
        self.buffer.extend_from_slice(&rest);
        self.allocation = self.buffer.capacity();
    }

    /// Frames have come, the largest of so many bytes: the next may be as large.
    fn frames_came(&mut self, largest: usize) {
        self.large = if largest > LARGE_READ { largest } else { 0 };
        if self.assembly.size() == 0 {
            self.intake.finished();
        }
    }

    /// Deals with all complete frames; says how many bytes the next one needs.
    async fn process(&mut self) -> Result<usize, EndReason> {
        let mut at = 0;
        let mut largest = 0;
        let mut messages = 0;
        let mut filter = None;
        let mut end = None;
        let table = self.shared.table.load_full();
        let peer = self.session.info.id;
        let is_left = self.ingress.role(&table, peer) == GuestRole::Bystander;
        let is_homeless = home::is_homeless(&self.shared, &table, &self.session);
        let mut forwards = false;
        let needed = {
            let shared = Arc::clone(&self.shared);
            loop {
                let length = match frame::next(&self.buffer[at..], shared.config.frame_limit) {
                    Ok(Next::Complete(length)) => length,
                    Ok(Next::Needs(needed)) => break needed,
                    Err(error) => {
                        end = Some(error.into());
                        break 0;
                    }
                };
                let start = at + HEADER;
                at = start + length;
                largest = largest.max(HEADER + length);
                if length == 0 {
                    continue;
                }
                match envelope::read(&self.buffer[start..at], peer, shared.me) {
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
                            Kind::Command => match shared.stores.receive(peer, topic, payload) {
                                Ok(()) => continue,
                                Err(refusal) => Some(refusal),
                            },
                            Kind::Data if muster_data::validate(payload, &self.limits).is_err() => {
                                Some((DropCause::Malformed, "malformed value"))
                            }
                            Kind::Data => None,
                        };
                        if let Some((cause, what)) = refusal {
                            self.refusals.refuse(cause, what, topic);
                            continue;
                        }
                        let here = shared.here(&table);
                        let place = (at - payload.len(), payload.len());
                        match self.ingress.receive_from_guest(&here, peer, topic) {
                            Ok(passage) => {
                                if is_homeless {
                                    count(&shared.mesh.without_home);
                                }
                                let brought = &mut self.brought;
                                take_from_guest(brought, &shared, &table, peer, passage, place);
                            }
                            Err(Dropped::LeftToHome) => count(&shared.mesh.left_to_home),
                            Err(_) => {
                                let what = "a topic that is not allowed";
                                self.refusals.refuse(DropCause::Malformed, what, topic);
                            }
                        }
                    }
                    Ok(Envelope::Through(is_for_us)) => forwards |= is_for_us,
                    Ok(Envelope::RoutingUpdate(update)) => filter = Some(update),
                    Ok(Envelope::Ping(content)) => {
                        self.session.push_control(&Control::Pong(content.to_vec()));
                    }
                    Ok(Envelope::Pong(content)) if self.session.ends_with(content) => {
                        end = Some(EndReason::removed());
                        break 0;
                    }
                    Ok(Envelope::Pong(content)) => self.session.pong_came(content),
                    Err(error) if error.ends_peering() => {
                        end = Some(error.into());
                        break 0;
                    }
                    Err(error) => self.refusals.refuse(error.cause(), error.name(), b""),
                }
            }
        };
        if at > 0 {
            self.frames_came(largest);
            PeerCounts::add(&self.session.counts.messages_in, messages);
            PeerCounts::add(&self.session.counts.bytes_in, at as u64);
            self.hand_over(&table, at);
        }
        if let Some(end) = end {
            return Err(end);
        }
        if forwards && !is_left {
            self.owner.call(|done| Command::Forwards(peer, done)).await;
        }
        if let Some(filter) = filter {
            self.owner
                .call(|done| Command::RoutingUpdate(peer, filter, done))
                .await;
        }
        Ok(needed)
    }

    /// Cuts the complete frames off the buffer and gives each subscriber and each peer its batch.
    fn hand_over(&mut self, table: &Table, end: usize) {
        let chunk = self.buffer.split_to(end);
        if !self.brought.is_empty() {
            self.distribute(table, &chunk.freeze(), self.allocation);
        }
        if self.session.info.protocol == Protocol::V2 {
            self.settle(table.peers().len());
        }
    }

    /// Gives each subscriber and each peer its part of a buffer that keeps so many bytes alive.
    fn distribute(&mut self, table: &Table, chunk: &Bytes, allocation: usize) {
        let config = &self.shared.config;
        let mut passed_on = Classes::default();
        for relay in self.brought.relays.drain() {
            if let Some(peer) = table.peer(relay.way.peer) {
                let class = relay.way.class;
                let limits = peer.handle.limits(relay.way.class);
                let most = limits.bytes.min(config.frame_limit);
                let relayed = relay.into_outgoing(chunk, allocation, most);
                peer.handle.queue.relay(relayed);
                if peer.handle.queue.is_behind(class) {
                    let mut classes = Classes::default();
                    classes.add(class);
                    let who = || Waited::Peer(Arc::clone(&peer.handle), class);
                    self.credit.is_behind(classes, self.shared.now(), who);
                } else {
                    passed_on.add(class);
                }
            }
        }
        for mut pending in self.brought.drain() {
            if let Some(subscriber) = table.subscriber(pending.subscriber) {
                let classes = pending.classes;
                let places = std::mem::take(&mut pending.places);
                let batch = pending.into_batch(chunk, allocation);
                if subscriber.push_in_order(batch, &places).is_behind {
                    let now = self.shared.now();
                    let who = || Waited::Subscriber(Arc::clone(subscriber));
                    self.credit.is_behind(classes, now, who);
                } else {
                    self.credit.passed_on(classes);
                }
            }
        }
        self.credit.passed_on(passed_on);
    }
}

/// Takes a valid message of a peer of version 1, which lies at a place of the read buffer: for the subscribers here
/// and, if this endpoint is the peer's home, for the mesh.
fn take_from_guest(
    brought: &mut Brought,
    shared: &Shared,
    table: &Table,
    guest: EndpointId,
    passage: GuestPassage<'_, Arc<PeerSession>>,
    (start, length): (usize, usize),
) {
    let source = Source {
        from: guest,
        class: Class::Event,
        id: None,
    };
    let topic = passage.topic;
    let lying = Lying {
        topic,
        start,
        length,
    };
    brought.deliver(table, source, lying, passage.subscribers);
    let mut next_hops = passage.next_hops.peekable();
    if next_hops.peek().is_none() {
        return;
    }
    let classes = &shared.config.classes;
    let class = classes.class_of(topic.as_bytes(), Class::Event);
    let onward = Onward {
        id: shared.next_id(class),
        hops: HOPS,
        kind: Kind::Data,
    };
    count(&shared.mesh.from_version_1);
    for (position, peer) in next_hops {
        let way = Way {
            peer: position,
            class,
            guest: Some(guest),
        };
        let limits = peer.handle.limits(class);
        brought.relays.message(way, lying, onward, limits);
    }
}
