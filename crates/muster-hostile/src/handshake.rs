//! The state machine of handshakes, driven by a small program in the input: connections come and
//! go, and send well-formed messages at the wrong time, or anything at all.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::frame::{self, HANDSHAKE_LIMIT, HEADER, Next};
use muster_wire::peering::{Action, ConnectionId, HandshakeError, Offer, Peering};
use muster_wire::{EndpointId, Filter, Mono};

const MAGIC: [u8; 4] = *b"ZEEK";
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of words, ours or the peer's, that one answer carries.
const WORDS: usize = 1200;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Peered(EndpointId),
    Gone,
}

struct Driver {
    peering: Peering,
    me: EndpointId,
    own_filter: usize,
    connections: BTreeMap<ConnectionId, Stage>,
    now: Mono,
}

/// Checks handshakes: every connection ends once, no endpoint is a peer twice, and answers are
/// small.
pub fn handshake(bytes: &[u8]) {
    let (first, mut program) = bytes.split_first().map_or((0, bytes), |(a, b)| (*a, b));
    let me = EndpointId::from_random([if first & 1 == 0 { 0x40 } else { 0xc0 }; 16]);
    let offer = match first & 6 {
        0 => Offer::V2 { relays: true },
        2 => Offer::V2 { relays: false },
        4 => Offer::Apart,
        _ => Offer::V1,
    };
    let mut driver = Driver {
        peering: Peering::new(me, TIMEOUT).with_offer(offer),
        me,
        own_filter: 0,
        connections: BTreeMap::new(),
        now: Mono(0),
    };
    driver.set_filter(first);
    let mut shut_down = false;
    while let [operation, operand, rest @ ..] = program {
        program = rest;
        let connection = driver.pick(operand >> 4);
        let id = driver.id(*operand);
        let mut payload = Vec::new();
        match operation % 12 {
            0 | 1 => {
                driver.open(operation % 12 == 0);
                continue;
            }
            2 => payload = phase_one(6, Some(id), &[1, 1]),
            3 => payload = phase_one(7, None, &[]),
            4 if operand & 4 == 0 => payload = phase_one(8, Some(id), &[128]),
            4 => payload = phase_one(8, Some(id), &[1]),
            5 => {
                let code = if operand & 8 == 0 { 39 } else { *operand };
                payload = phase_one(9, Some(id), &[code, 2, b'n', b'o']);
                if operand & 0x80 != 0 {
                    // A long story that is not even text.
                    payload = phase_one(9, Some(id), &[code, 0xc0, 0x84, 0x3d]);
                    payload.resize(payload.len() + 1_000_000, 0xff);
                }
            }
            6 | 7 => {
                payload.push(operation % 12 + 4);
                filter(*operand).encode(&mut payload);
            }
            8 => payload.push(12),
            9 => {
                let length = rest.first().map_or(0, |length| usize::from(*length));
                let end = rest.len().min(1 + length);
                payload = rest.get(1..end).unwrap_or_default().to_vec();
                program = &rest[end..];
            }
            10 => {
                if let Some(connection) = connection {
                    driver.peering.closed(connection);
                    driver.connections.insert(connection, Stage::Gone);
                }
            }
            _ => match operand & 7 {
                0 => driver.pass(TIMEOUT / 2),
                1 => driver.set_filter(*operand),
                2 => {
                    if let Some(oldest) = driver.peering.oldest() {
                        driver.peering.abandon(oldest);
                    }
                }
                3 if *operand > 240 => {
                    shut_down = true;
                    driver.peering.shut_down();
                }
                _ => {}
            },
        }
        if let (Some(connection), 2..=9) = (connection, operation % 12) {
            driver.peering.frame(connection, &payload);
        }
        driver.carry_out(payload.len());
    }
    driver.finish(shut_down);
}

fn phase_one(tag: u8, sender: Option<EndpointId>, rest: &[u8]) -> Vec<u8> {
    let mut payload = vec![tag];
    payload.extend_from_slice(&MAGIC);
    if let Some(sender) = sender {
        payload.extend_from_slice(sender.as_bytes());
    }
    payload.extend_from_slice(rest);
    payload
}

fn filter(choice: u8) -> Filter {
    match choice & 3 {
        0 => Filter::default(),
        1 => Filter::from_prefixes(["/test"]),
        2 => Filter::from_prefixes([""]),
        _ => Filter::from_prefixes(["/a", "/b", "<$>/local/x"]),
    }
}

impl Driver {
    /// The id of some endpoint, the nil id and our own among them.
    fn id(&self, choice: u8) -> EndpointId {
        match choice & 7 {
            0 | 4 => EndpointId::from_random([0x20; 16]),
            1 | 5 => EndpointId::from_random([0xe0; 16]),
            2 => EndpointId::NIL,
            3 => self.me,
            _ => EndpointId::from_random([choice; 16]),
        }
    }

    /// One of the last connections, those that are gone among them.
    fn pick(&self, choice: u8) -> Option<ConnectionId> {
        let mut connections = self.connections.keys().rev().copied();
        connections.nth(usize::from(choice) % self.connections.len().max(1))
    }

    fn open(&mut self, accepted: bool) {
        let connection = ConnectionId(self.connections.len() as u64 + 1);
        self.connections.insert(connection, Stage::Handshake);
        if accepted {
            self.peering.accepted(connection, self.now);
        } else {
            self.peering.dialled(connection, self.now);
        }
        self.carry_out(0);
    }

    fn set_filter(&mut self, choice: u8) {
        let filter = filter(choice);
        let mut encoded = Vec::new();
        filter.encode(&mut encoded);
        self.own_filter = self.own_filter.max(encoded.len());
        self.peering.set_filter(filter);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.peering.handle_timeout(self.now);
        let next = self.peering.next_timeout();
        assert!(next.is_none_or(|next| next > self.now));
    }

    /// Carries out what came of an input with a frame of so many bytes.
    fn carry_out(&mut self, input: usize) {
        while let Some(action) = self.peering.poll() {
            match action {
                Action::Send(connection, frame) => {
                    assert_eq!(self.connections[&connection], Stage::Handshake);
                    let length = frame.len() - HEADER;
                    assert_eq!(
                        frame::next(&frame, HANDSHAKE_LIMIT),
                        Ok(Next::Complete(length))
                    );
                    assert!(
                        length <= WORDS + self.own_filter,
                        "{length} bytes for {input}"
                    );
                }
                Action::Established {
                    connection, peer, ..
                } => {
                    assert_eq!(self.connections[&connection], Stage::Handshake);
                    assert!(!peer.is_nil() && peer != self.me);
                    let peered = Stage::Peered(peer);
                    assert!(self.connections.values().all(|stage| *stage != peered));
                    self.connections.insert(connection, peered);
                }
                Action::Close { connection, reason } => {
                    assert_eq!(self.connections[&connection], Stage::Handshake);
                    assert!(reason.to_string().len() <= 2 * WORDS);
                    if let HandshakeError::Redundant { peer } = reason {
                        assert!(!peer.is_nil() && peer != self.me);
                    }
                    self.connections.insert(connection, Stage::Gone);
                }
            }
        }
        let open = self.connections.values();
        let open = open.filter(|stage| **stage == Stage::Handshake).count();
        assert_eq!(self.peering.pending(), open);
    }

    /// Whatever happened, time ends all handshakes, and a peer that has gone can come again.
    fn finish(mut self, shut_down: bool) {
        self.pass(2 * TIMEOUT);
        self.carry_out(0);
        assert_eq!(self.peering.pending(), 0);
        assert_eq!(self.peering.next_timeout(), None);
        let last: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in last {
            self.peering.closed(connection);
            self.connections.insert(connection, Stage::Gone);
        }
        if shut_down {
            return;
        }
        for id in [0x20, 0xe0].map(|byte| EndpointId::from_random([byte; 16])) {
            self.open(true);
            let connection = self.pick(0).expect("one was opened");
            let mut frames = vec![phase_one(6, Some(id), &[1, 1])];
            if id < self.me {
                frames.push(phase_one(8, Some(id), &[1]));
                frames.extend([vec![10, 0], vec![12]]);
            } else {
                frames.push(vec![11, 0]);
            }
            for payload in frames {
                self.peering.frame(connection, &payload);
                self.carry_out(payload.len());
            }
            assert_eq!(self.connections[&connection], Stage::Peered(id));
        }
    }
}
