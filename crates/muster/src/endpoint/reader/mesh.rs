//! The read side of a peering of version 2: what the mesh's messages are for, and where they go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::{Bytes, BytesMut};
use muster_wire::counters::DropCause;
use muster_wire::credit;
use muster_wire::frame::{self, HEADER, Next};
use muster_wire::mesh::codec::{self, Batch, Decoder, FragmentRef, Frame, FrameError, MessageRef};
use muster_wire::mesh::{Verdict, addressed};
use muster_wire::peering::Protocol;
use muster_wire::routing::HopCache;
use muster_wire::{Class, EndpointId, Kind, Topic};
use tokio::io::AsyncRead;

use super::pending::{Lying, Source, Way};
use super::{PeerCounts, Reader, Relay, Shared, Table};
use crate::endpoint::owner::Command;
use crate::endpoint::peer_queue::EndReason;
use crate::endpoint::shared::SharedWindows;

/// What a link's reader knows of the messages that come by it.
#[derive(Debug, Default)]
pub(super) struct MeshIntake {
    decoder: Decoder,
    /// By alias.
    origins: Vec<Option<Origin>>,
    pub(super) hops: HopCache,
}

/// An origin of messages.
#[derive(Debug, Clone)]
struct Origin {
    id: EndpointId,
    /// The table that the rest is of.
    version: u64,
    /// Its slot in the mesh, and its windows; nothing if the mesh does not know it.
    known: Option<(u32, SharedWindows)>,
}

/// The most frames that the owner is given at once.
const AT_ONCE: usize = 64;

/// What ends the processing of frames before their end.
enum Stop {
    /// The owner has to deal with these frames before what follows them.
    Owner(Vec<Frame>),
    /// A batch that came in parts is whole.
    Whole(Bytes),
    /// A batch was compressed: its payload as it was before.
    Expanded(Bytes),
    /// The peer is about to go: nothing more may be routed to it.
    Goodbye,
    End(EndReason),
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Deals with all complete frames; says how many bytes the next one needs.
    pub(super) async fn process_mesh(&mut self) -> Result<usize, EndReason> {
        loop {
            let table = self.shared.table.load_full();
            // Both are used while the rest of the reader is.
            let mut buffer = std::mem::take(&mut self.buffer);
            let mut decoder = std::mem::take(&mut self.mesh.decoder);
            let (end, outcome) = self.frames(&table, &buffer, &mut decoder);
            self.mesh.decoder = decoder;
            std::mem::swap(&mut self.buffer, &mut buffer);
            if end > 0 {
                PeerCounts::add(&self.queue.counts.bytes_in, end as u64);
                self.hand_over(&table, end);
            }
            match outcome {
                Ok(needed) => return Ok(needed),
                Err(Stop::End(reason)) => return Err(reason),
                Err(Stop::Whole(body)) => self.whole(&table, &body)?,
                Err(Stop::Expanded(payload)) => self.expanded(&table, &payload)?,
                Err(Stop::Goodbye) => {
                    let peer = self.queue.info.id;
                    let leaving = |done| Command::PeerLeaving(peer, done);
                    self.owner.call(leaving).await;
                    if self.queue.goodbye_came() {
                        return Err(EndReason::removed());
                    }
                }
                Err(Stop::Owner(frames)) => {
                    let peer = self.queue.info.id;
                    self.queue.waits(true);
                    self.owner.mesh_frames(peer, frames).await;
                    self.queue.waits(false);
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
                Err(error) => break Err(lost(&error)),
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
                Err(error) => break Err(lost(&error)),
            };
            if let Some(expanded) = &expanded {
                let counts = &self.queue.counts.compressed_in;
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
            let batch = match decoder.batch(payload) {
                Ok(batch) => batch,
                Err(error) => break Err(lost(&error)),
            };
            if let Some(batch) = batch {
                let (came, malformed) = self.batch(&shared, table, batch, buffer);
                messages += came;
                if let Some(error) = malformed {
                    break Err(lost(&error));
                }
                continue;
            }
            match Decoder::fragment(payload).map(|part| part.map(|part| self.part(&part, limit))) {
                Ok(None) => {}
                Ok(Some(None)) => continue,
                Ok(Some(Some(body))) => break Err(Stop::Whole(body)),
                Err(error) => break Err(lost(&error)),
            }
            let frame = match decoder.read(&Bytes::copy_from_slice(payload)) {
                Ok(Some(frame)) => frame,
                Ok(None) => continue,
                Err(_) if !for_owner.is_empty() => {
                    at -= HEADER + length;
                    break Err(Stop::Owner(for_owner));
                }
                Err(error) => break Err(lost(&error)),
            };
            match frame {
                Frame::Echo {
                    is_answer: true,
                    token,
                } => self.queue.echoed(token),
                Frame::Echo { token, .. } => self.queue.push_mesh(&Frame::Echo {
                    is_answer: true,
                    token,
                }),
                Frame::Credit { class, bytes } => self.queue.credit_came(class, bytes),
                Frame::Goodbye { .. } => break Err(Stop::Goodbye),
                frame => for_owner.push(frame),
            }
        };
        if at > 0 {
            self.frames_came(largest);
        }
        PeerCounts::add(&self.queue.counts.messages_in, messages);
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
        let batch = decoder.cut_batch(body).map(Some);
        self.lying(table, body, batch)
    }

    /// A batch was compressed.
    fn expanded(&mut self, table: &Table, payload: &Bytes) -> Result<(), EndReason> {
        let mut decoder = std::mem::take(&mut self.mesh.decoder);
        let outcome = self.lying(table, payload, decoder.batch(payload));
        self.mesh.decoder = decoder;
        outcome
    }

    /// The messages of a batch that lies in bytes of its own.
    fn lying(
        &mut self,
        table: &Table,
        bytes: &Bytes,
        batch: Result<Option<Batch<'_, '_>>, FrameError>,
    ) -> Result<(), EndReason> {
        let shared = Arc::clone(&self.shared);
        let lost = |error: FrameError| EndReason::Lost(error.to_string());
        let Some(batch) = batch.map_err(lost)? else {
            return Ok(());
        };
        let (messages, malformed) = self.batch(&shared, table, batch, bytes);
        PeerCounts::add(&self.queue.counts.messages_in, messages);
        self.distribute(table, bytes, bytes.len());
        self.settle(table.peers().len());
        malformed.map_or(Ok(()), |error| Err(lost(error)))
    }

    /// A message has come: for subscribers here, for others, or not at all.
    fn message(
        &mut self,
        shared: &Shared,
        table: &Table,
        class: Class,
        message: MessageRef<'_>,
        start: usize,
    ) {
        if message.id.origin == shared.me {
            return count(&shared.mesh.returned);
        }
        let Some(slot) = self.is_new(shared, table, class, &message) else {
            return;
        };
        let Some(position) = self.routes.find(table, message.topic) else {
            return self.refuse(DropCause::Malformed, "a topic that may not be", "");
        };
        let length = message.payload.len();
        self.take(table, (slot, class), position, &message, start);
        if !table.mesh().is_some_and(|routes| routes.relays()) {
            return;
        }
        let guest = message.guest;
        let hops = self
            .mesh
            .hops
            .find(table, &self.routes, slot, position, guest);
        let Some((topic, _)) = self.routes.get(position).filter(|_| !hops.is_empty()) else {
            return;
        };
        for hop in hops.iter() {
            let Some(peer) = table.peer(*hop) else {
                continue;
            };
            if peer.id == self.queue.info.id || peer.id == message.id.origin {
                continue;
            }
            if message.hops <= 1 {
                return count(&shared.mesh.hops_exhausted);
            }
            count(&shared.mesh.relayed);
            let way = Way {
                peer: *hop,
                class,
                guest,
            };
            let lying = Lying {
                topic,
                start,
                length,
                id: message.id,
                hops: message.hops - 1,
                kind: message.kind,
            };
            Relay::note(&mut self.relays, way, lying, peer.handle.limits(class));
        }
    }

    /// Takes a message for whoever is here: subscribers, and peers of version 1 at home.
    fn take(
        &mut self,
        table: &Table,
        (origin, class): (u32, Class),
        position: usize,
        message: &MessageRef<'_>,
        start: usize,
    ) {
        if let Some(id) = addressed(message.topic) {
            match message.kind {
                _ if id != self.shared.me => {}
                Kind::Command => self.command(message.id.origin, message),
                Kind::Data => self.shared.addressed(message.id.origin, message.payload),
            }
            return;
        }
        let Some((_, route)) = self.routes.get(position) else {
            return;
        };
        // What a peer of ours has published has come from itself, and nobody speaks for an endpoint.
        let is_heard = message.guest.is_some_and(|guest| {
            let routes = table.mesh();
            is_direct(table, guest) || routes.is_some_and(|routes| routes.slot(guest).is_some())
        });
        let is_here = !route.subscribers.is_empty() && !is_heard;
        let is_for_guests = !route.guests.is_empty() && message.guest.is_none();
        if !(is_here || is_for_guests) || !self.is_valid(message) {
            return;
        }
        if is_here {
            let from = message.guest.unwrap_or(message.id.origin);
            match message.kind {
                Kind::Command => self.command(from, message),
                Kind::Data => {
                    let id = Some(message.id);
                    let source = Source { from, class, id };
                    self.deliver(table, source, position, start, message.payload.len());
                }
            }
        }
        if is_for_guests {
            self.pass_to_guests(table, origin, position, message, start);
        }
    }

    /// The origin's slot, if the message has not been here before.
    fn is_new(
        &mut self,
        shared: &Shared,
        table: &Table,
        class: Class,
        message: &MessageRef<'_>,
    ) -> Option<u32> {
        let origins = &mut self.mesh.origins;
        if message.alias >= origins.len() {
            origins.resize(message.alias + 1, None);
        }
        let id = message.id.origin;
        let origin = &mut origins[message.alias];
        // The last place is shared by all that have no alias.
        let is_known = |origin: &Origin| origin.id == id && origin.version == table.version();
        if !origin.as_ref().is_some_and(is_known) {
            *origin = None;
        }
        let origin = origin.get_or_insert_with(|| Origin {
            id,
            version: table.version(),
            known: table
                .mesh()
                .and_then(|routes| routes.slot(id))
                .map(|slot| (slot, shared.windows(id))),
        });
        let Some((slot, windows)) = &origin.known else {
            count(&shared.mesh.unknown_origin);
            return None;
        };
        let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
        match windows.check(class, message.id.sequence) {
            Verdict::New => {}
            Verdict::Late => count(&shared.mesh.reordered),
            Verdict::Duplicate => {
                count(&shared.mesh.duplicate);
                return None;
            }
            Verdict::TooOld => {
                count(&shared.mesh.too_old);
                return None;
            }
        }
        Some(*slot)
    }

    /// Whether a message may be given to somebody.
    fn is_valid(&mut self, message: &MessageRef<'_>) -> bool {
        let is_valid = message.kind == Kind::Command
            || muster_data::validate(message.payload, &self.limits).is_ok();
        if !is_valid {
            let label = Topic::new(message.topic).map(|topic| topic.normalized());
            let label = label.unwrap_or_default();
            self.refuse(DropCause::Malformed, "malformed value", &label);
        }
        is_valid
    }

    /// A command has come for a store that is here.
    fn command(&mut self, from: EndpointId, message: &MessageRef<'_>) {
        let stores = &self.shared.stores;
        if let Err((cause, what)) = stores.receive(from, message.topic, message.payload) {
            let label = Topic::new(message.topic).map(|topic| topic.normalized());
            self.refuse(cause, what, &label.unwrap_or_default());
        }
    }
}

/// Whether a frame must not be looked at before the owner has dealt with those before it: messages need
/// the records that explain them, and a goodbye is the last.
fn comes_behind(payload: &[u8]) -> bool {
    codec::is_batch(payload) || codec::is_fragment(payload) || codec::is_goodbye(payload)
}

fn lost(error: &impl ToString) -> Stop {
    Stop::End(EndReason::Lost(error.to_string()))
}

/// Whether an endpoint is a peer of version 1 that messages are exchanged with.
fn is_direct(table: &Table, id: EndpointId) -> bool {
    let entry = table.entry(id);
    entry.is_some_and(|peer| peer.protocol == Protocol::V1) && !table.leaves_to_others(id)
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
