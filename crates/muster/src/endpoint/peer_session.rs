//! A peering: who the peer is, what waits to be sent to it, what crossed it, its pings and its goodbye.

mod counts;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use muster_wire::counters::{DropCause, DropLedger};
use muster_wire::credit::{Grants, SHARING};
use muster_wire::envelope::{self, Control};
use muster_wire::mesh::codec::LinkFrame;
use muster_wire::peering::Protocol;
use muster_wire::{Class, EndpointId, QueueLimits};
use tokio::sync::oneshot;

use super::send_queue::SendQueue;
use super::send_queue::control::ControlKind;
use super::status::PeerInfo;
pub(crate) use counts::{CompressedCounts, PeerCounts};

/// The most questions of one peer that wait for others' signs of life.
const MAX_QUESTIONS: usize = 8;

/// One peering, from its handshake to its end. The routing table leads to it.
#[derive(Debug)]
pub(crate) struct PeerSession {
    pub(crate) me: EndpointId,
    pub(crate) info: PeerInfo,
    /// What waits to be sent.
    pub(crate) queue: SendQueue,
    pub(crate) counts: PeerCounts,
    /// What the peer was granted.
    grants: Mutex<Grants>,
    refused: Mutex<DropLedger>,
    /// Whether the peering was told of: with version 2 when the mesh has made it known.
    announced: AtomicBool,
    /// Whether the reader waits for the owner, and reads nothing meanwhile.
    reader_waits: AtomicBool,
    /// Whether a neighbour has said that it hears the peer, since that was asked.
    heard_elsewhere: AtomicBool,
    /// The questions of the peer that wait for others' signs of life.
    questions: AtomicUsize,
    /// Whether it may have its home here: it is of version 1, and in no mesh.
    pub(crate) is_guest: bool,
}

impl PeerSession {
    pub(crate) fn new(me: EndpointId, info: PeerInfo, queue: SendQueue) -> Self {
        Self {
            me,
            queue,
            counts: PeerCounts::default(),
            grants: Mutex::default(),
            refused: Mutex::default(),
            announced: AtomicBool::new(info.protocol == Protocol::V1),
            reader_waits: AtomicBool::new(false),
            heard_elsewhere: AtomicBool::new(false),
            questions: AtomicUsize::new(0),
            is_guest: false,
            info,
        }
    }

    /// The session of a peer that may have its home here, or may not.
    pub(crate) fn of_guest(mut self, is_guest: bool) -> Self {
        self.is_guest = is_guest;
        self
    }

    /// The bounds of a class's queue.
    pub(crate) fn limits(&self, class: Class) -> QueueLimits {
        self.queue.limits(class)
    }

    /// Returns `true` if the peering was told of.
    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }

    /// Notes that the peering is announced. Returns `true` if it was not before.
    pub(crate) fn announce(&self) -> bool {
        !self.announced.swap(true, Ordering::Relaxed)
    }

    /// Notes that the peer has asked for others. Returns `false` if too many of its questions wait.
    pub(crate) fn question_begins(&self) -> bool {
        let waiting = self.questions.fetch_add(1, Ordering::Relaxed);
        if waiting >= MAX_QUESTIONS {
            self.question_ends();
        }
        waiting < MAX_QUESTIONS
    }

    /// Notes that a question of the peer waits no longer.
    pub(crate) fn question_ends(&self) {
        self.questions.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a neighbour hears the peer.
    pub(crate) fn is_heard_elsewhere(&self) {
        self.heard_elsewhere.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if a neighbour has said that it hears the peer since this was asked last.
    pub(crate) fn was_heard_elsewhere(&self) -> bool {
        self.heard_elsewhere.swap(false, Ordering::Relaxed)
    }

    /// Notes whether the reader waits for the owner.
    pub(crate) fn set_reader_waits(&self, waits: bool) {
        self.reader_waits.store(waits, Ordering::Relaxed);
    }

    /// Returns `true` if the reader waits for the owner: what the peer sends meanwhile is not seen.
    pub(crate) fn reader_waits(&self) -> bool {
        self.reader_waits.load(Ordering::Relaxed)
    }

    /// Queues a control frame of version 1. The answer to a goodbye comes behind the data queued before it.
    pub(crate) fn push_control(&self, control: &Control) {
        let frame = control.frame(self.me, self.info.id).into();
        match control {
            Control::Pong(content) if envelope::is_bye(content) => {
                self.queue.push_last_answer(frame);
            }
            Control::RoutingUpdate(_) => self.queue.push_control(frame, ControlKind::Filter),
            _ => self.queue.push_control(frame, ControlKind::Other),
        }
    }

    /// Sends a ping. Returns a receiver of its pong, which is closed with the peering. `None` if that has ended, or if
    /// too many wait for their pong.
    pub(crate) fn ping(&self) -> Option<oneshot::Receiver<()>> {
        let ping = self.queue.begin_ping()?;
        match self.info.protocol {
            Protocol::V1 => self.push_control(&Control::Ping(ping.number.to_be_bytes().to_vec())),
            Protocol::V2 => self.queue.push_link(&LinkFrame::Echo {
                is_answer: false,
                token: ping.number,
            }),
        }
        Some(ping.pong)
    }

    /// A pong of version 1 has come.
    pub(crate) fn pong_came(&self, content: &[u8]) {
        if let Ok(number) = <[u8; 8]>::try_from(content) {
            self.queue.pong_came(u64::from_be_bytes(number));
        }
    }

    /// Says goodbye; the answer ends the peering.
    pub(crate) fn say_goodbye(&self) {
        match self.info.protocol {
            Protocol::V1 => self.push_control(&Control::Ping(envelope::bye(1))),
            Protocol::V2 => self.queue.push_goodbye(),
        }
    }

    /// Returns `true` if a pong's content confirms the goodbye that was said.
    pub(crate) fn ends_with(&self, content: &[u8]) -> bool {
        envelope::is_bye(content) && self.queue.is_closing()
    }

    /// Grants the first credit, which also says that this end knows of credit and of fragments. Whoever knows
    /// of neither skips it.
    pub(crate) fn grant_first(&self, window: u64) {
        for class in SHARING {
            self.grant(class, 0, window);
        }
    }

    /// What came of a class has left the reader: grants as much again, once a quarter of the window has accumulated.
    pub(crate) fn grant(&self, class: Class, cost: usize, window: u64) {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants.came(class, cost);
        if let Some(bytes) = grants.due(class, window) {
            // Under the lock: two of them must not change places. Their number is bounded by what the peer reads.
            self.queue.push_link(&LinkFrame::Credit { class, bytes });
        }
    }

    /// Counts a received message that is not taken.
    pub(crate) fn count_refused(&self, cause: DropCause, label: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.count(cause, label, 1);
    }

    /// What was received and refused.
    pub(crate) fn refused(&self) -> DropLedger {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone()
    }
}
