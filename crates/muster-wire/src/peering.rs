//! The handshakes of an endpoint: every connection that is not yet a peering, and who is a peer.
//!
//! The endpoint with the smaller id is the *originator*, whoever dialled. Two connections between
//! the same two endpoints are *redundant*: the originator keeps the one it handles first and
//! answers the other with `drop_conn`, after the first is complete (protocol sections 2.3 to 2.6).

mod extension;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use extension::{Extension, VERSION_2};
use message::{HandshakeMessage, Refusal, VERSION};

use crate::{EndpointId, ErrorCode, Filter, Mono};

/// How long a handshake may take from the connection to its end, unless configured otherwise.
/// Broker has no limit; nobody can notice one.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, numbered by the shell; a number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What two peers speak with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Broker's protocol: the two exchange their own messages.
    #[default]
    V1,
    /// Muster's protocol: both are endpoints of one mesh.
    V2,
}

/// Which protocols an endpoint, or one connection of it, offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offer {
    /// Version 1 alone.
    #[default]
    V1,
    /// Version 2 where the other side offers it as well. Two that do not relay speak version 1: between
    /// them a mesh has no links.
    V2 {
        /// Whether the endpoint relays messages of others.
        relays: bool,
    },
    /// Version 1 alone, by an endpoint of a mesh: a peering apart from it, over which nothing is relayed.
    Apart,
}

impl Offer {
    fn extension(self) -> Option<Extension> {
        match self {
            Self::V1 => None,
            Self::V2 { relays } => Some(Extension::new(relays)),
            Self::Apart => Some(Extension::APART),
        }
    }

    /// What to select, as originator, with an endpoint that has sent `theirs`.
    fn select(self, theirs: Option<Extension>) -> Protocol {
        match (self, theirs) {
            (Self::V2 { relays }, Some(theirs))
                if theirs.has_version_2() && (relays || theirs.relays) =>
            {
                Protocol::V2
            }
            _ => Protocol::V1,
        }
    }
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Self::V1 => VERSION,
            Self::V2 => VERSION_2,
        }
    }
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this frame.
    Send(ConnectionId, Vec<u8>),
    /// The connection is a peering now. Frames behind the handshake's last are envelopes, or frames of
    /// protocol version 2.
    Established {
        /// The connection.
        connection: ConnectionId,
        /// The peer.
        peer: EndpointId,
        /// What is spoken from now on.
        protocol: Protocol,
        /// Whether the peer is of version 1 and in no mesh, while this endpoint is in one: it may have a
        /// home here. A peering that either side wants apart from the mesh is none of that kind.
        is_guest: bool,
        /// Whether the peer has said that it reads compressed frames; with version 2 alone.
        reads_zstd: bool,
        /// What the peer subscribes to; empty with version 2, which has other means.
        filter: Filter,
        /// Our filter has changed since it was sent in the handshake: announce it, with version 1.
        announce: bool,
    },
    /// The handshake is over without a peering: write what was sent, then close.
    Close {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: HandshakeError,
    },
}

/// Why a handshake did not lead to a peering.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// We have, or are about to have, a peering with this endpoint by another connection.
    #[error("already peered with {peer}")]
    Redundant {
        /// The endpoint.
        peer: EndpointId,
    },
    /// The other side refused, with Broker's code and its words.
    #[error("peer refused: {code}: {text}")]
    Refused {
        /// Broker's error code.
        code: ErrorCode,
        /// The peer's words.
        text: String,
    },
    /// We refused what the other side sent.
    #[error("refused the peer: {code}: {text}")]
    Refusing {
        /// Broker's error code, as sent.
        code: ErrorCode,
        /// Our words, as sent.
        text: String,
    },
    /// A message that has no place in the present state.
    #[error("unexpected {message} while waiting for {expected}")]
    Unexpected {
        /// What came.
        message: &'static str,
        /// What should have come.
        expected: &'static str,
    },
    /// The other side has the nil id.
    #[error("peer has the nil endpoint id")]
    NilId,
    /// The other side has our own id: we are connected to ourselves, or two ids collided.
    #[error("peer has our own endpoint id")]
    OwnId,
    /// The time for the handshake is over.
    #[error("handshake took longer than {0:?}")]
    Timeout(Duration),
    /// Too many handshakes are under way, and this one was the oldest.
    #[error("too many handshakes under way")]
    TooMany,
    /// The endpoint is shutting down.
    #[error("shutting down")]
    ShuttingDown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    WaitHello,
    WaitHelloOrSelect,
    WaitSelect,
    /// Originator: another connection of the peer is in its handshake; wait for its end.
    Paused,
    WaitSyn,
    WaitSynAck,
    WaitAck,
}

impl State {
    fn expected(self) -> &'static str {
        match self {
            Self::WaitHello => "hello",
            Self::WaitHelloOrSelect => "hello or version_select",
            Self::WaitSelect => "version_select",
            Self::Paused => "nothing",
            Self::WaitSyn => "originator_syn",
            Self::WaitSynAck => "responder_syn_ack",
            Self::WaitAck => "originator_ack",
        }
    }

    fn is_phase_one(self) -> bool {
        matches!(
            self,
            Self::WaitHello | Self::WaitHelloOrSelect | Self::WaitSelect
        )
    }
}

#[derive(Debug)]
struct Handshake {
    state: State,
    deadline: Mono,
    peer: Option<EndpointId>,
    peer_filter: Filter,
    /// What we offer on this connection, and what the peer has offered.
    offer: Offer,
    peer_extension: Option<Extension>,
    protocol: Protocol,
    /// The version of our own filter that the peer was sent.
    announced: u64,
}

/// What we know of a remote endpoint; absent means that we have nothing to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Connecting(ConnectionId),
    Peered(ConnectionId),
}

enum Claim {
    Granted,
    Pending,
    Peered,
}

/// The handshakes of one endpoint. The shell reports connections, frames and time, and carries out
/// the [`Action`]s that [`Peering::poll`] hands out, in order.
#[derive(Debug)]
pub struct Peering {
    me: EndpointId,
    timeout: Duration,
    filter: Filter,
    filter_version: u64,
    offer: Offer,
    statuses: HashMap<EndpointId, Status>,
    handshakes: BTreeMap<ConnectionId, Handshake>,
    actions: VecDeque<Action>,
    closed: bool,
}

impl Peering {
    /// No connections yet. `me` is this endpoint's id, `timeout` the limit for one handshake.
    pub fn new(me: EndpointId, timeout: Duration) -> Self {
        Self {
            me,
            timeout,
            filter: Filter::default(),
            filter_version: 1,
            offer: Offer::V1,
            statuses: HashMap::new(),
            handshakes: BTreeMap::new(),
            actions: VecDeque::new(),
            closed: false,
        }
    }

    /// Offers what `offer` says on all connections, unless they are dialled with less.
    #[must_use]
    pub fn with_offer(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// Sets the filter that handshakes announce from now on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.filter_version += 1;
    }

    /// The number of handshakes under way.
    pub fn pending(&self) -> usize {
        self.handshakes.len()
    }

    /// The handshake to give up when there are too many: the oldest whose other side has not said
    /// who it is, or else the oldest.
    pub fn oldest(&self) -> Option<ConnectionId> {
        let silent = self
            .handshakes
            .iter()
            .find(|(_, handshake)| handshake.peer.is_none());
        silent
            .or_else(|| self.handshakes.iter().next())
            .map(|(connection, _)| *connection)
    }

    /// Gives up a handshake; the connection is to be closed.
    pub fn abandon(&mut self, connection: ConnectionId) {
        self.close(connection, HandshakeError::TooMany);
    }

    /// A connection was accepted.
    pub fn accepted(&mut self, connection: ConnectionId, now: Mono) {
        self.start(connection, State::WaitHello, self.offer, now);
        self.send(connection, &HandshakeMessage::Probe);
    }

    /// A connection was dialled, on which the endpoint offers what it offers everywhere.
    pub fn dialled(&mut self, connection: ConnectionId, now: Mono) {
        self.dialled_with(connection, self.offer, now);
    }

    /// A connection was dialled on which the endpoint offers something else.
    pub fn dialled_with(&mut self, connection: ConnectionId, offer: Offer, now: Mono) {
        self.start(connection, State::WaitHelloOrSelect, offer, now);
        self.send_hello(connection);
    }

    /// A frame's payload arrived. Frames of connections whose handshake is over are ignored.
    pub fn frame(&mut self, connection: ConnectionId, payload: &[u8]) {
        let Some(handshake) = self.handshakes.get(&connection) else {
            return;
        };
        let state = handshake.state;
        let message = match HandshakeMessage::read(payload) {
            Ok(message) => message,
            // In phase 2, and for an empty frame, Broker closes without a word.
            Err(refusal) if state.is_phase_one() && !payload.is_empty() => {
                return self.refuse(connection, refusal);
            }
            Err(_) => return self.unexpected(connection, "malformed message", state),
        };
        self.message(connection, state, message);
    }

    /// A connection ended, by either side, with its handshake or peering.
    pub fn closed(&mut self, connection: ConnectionId) {
        self.forget(connection);
        if let Some((peer, _)) = self
            .statuses
            .iter()
            .find(|(_, s)| **s == Status::Peered(connection))
        {
            let peer = *peer;
            self.statuses.remove(&peer);
        }
    }

    /// Refuses all further handshakes and ends those under way.
    pub fn shut_down(&mut self) {
        self.closed = true;
        let pending: Vec<_> = self.handshakes.keys().copied().collect();
        for connection in pending {
            self.close(connection, HandshakeError::ShuttingDown);
        }
    }

    /// The time at which [`Peering::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Mono> {
        self.handshakes
            .values()
            .map(|handshake| handshake.deadline)
            .min()
    }

    /// Ends the handshakes whose time is over.
    pub fn handle_timeout(&mut self, now: Mono) {
        let late: Vec<_> = self
            .handshakes
            .iter()
            .filter(|(_, handshake)| handshake.deadline <= now)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in late {
            self.close(connection, HandshakeError::Timeout(self.timeout));
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn start(&mut self, connection: ConnectionId, state: State, offer: Offer, now: Mono) {
        let handshake = Handshake {
            state,
            deadline: now.after(self.timeout),
            peer: None,
            peer_filter: Filter::default(),
            offer,
            peer_extension: None,
            protocol: Protocol::V1,
            announced: 0,
        };
        self.handshakes.insert(connection, handshake);
    }

    fn message(&mut self, connection: ConnectionId, state: State, message: HandshakeMessage) {
        use HandshakeMessage as M;
        match (state, message) {
            (State::WaitHello | State::WaitHelloOrSelect | State::WaitSelect, M::Probe) => {}
            (_, M::DropConn { sender, code, text }) if state.is_phase_one() => {
                self.dropped(connection, sender, code, text);
            }
            (
                State::WaitHello | State::WaitHelloOrSelect,
                M::Hello {
                    sender, extension, ..
                },
            ) => {
                if let Some(handshake) = self.handshakes.get_mut(&connection) {
                    handshake.peer_extension = extension;
                }
                self.hello(connection, sender);
            }
            (
                State::WaitHelloOrSelect | State::WaitSelect,
                M::VersionSelect {
                    sender,
                    version,
                    extension,
                },
            ) => {
                if let Some(handshake) = self.handshakes.get_mut(&connection) {
                    handshake.peer_extension = handshake.peer_extension.or(extension);
                }
                self.selected(connection, sender, version);
            }
            (State::WaitSyn, M::OriginatorSyn(filter)) => {
                let answer = M::ResponderSynAck(self.filter_for(connection));
                self.send(connection, &answer);
                self.advance(connection, State::WaitAck, Some(filter));
            }
            (State::WaitSynAck, M::ResponderSynAck(filter)) => {
                self.send(connection, &M::OriginatorAck);
                self.advance(connection, State::WaitSynAck, Some(filter));
                self.establish(connection);
            }
            (State::WaitAck, M::OriginatorAck) => self.establish(connection),
            (_, other) => self.unexpected(connection, other.name(), state),
        }
    }

    fn hello(&mut self, connection: ConnectionId, sender: EndpointId) {
        if let Err(reason) = self.check_id(sender) {
            if reason == HandshakeError::OwnId {
                // As Broker does, so that the dialling side sees whom it has dialled.
                self.send_hello(connection);
            }
            return self.close(connection, reason);
        }
        if self.me > sender {
            self.send_hello(connection);
            return self.advance(connection, State::WaitSelect, None);
        }
        self.set_peer(connection, sender);
        self.originate(connection, sender);
    }

    /// The originator's step: take the connection, or put it behind another one.
    fn originate(&mut self, connection: ConnectionId, peer: EndpointId) {
        match self.claim(connection, peer) {
            Claim::Granted => {
                let Some(handshake) = self.handshakes.get_mut(&connection) else {
                    return;
                };
                let theirs = handshake.peer_extension;
                handshake.protocol = handshake.offer.select(theirs);
                let select = HandshakeMessage::VersionSelect {
                    sender: self.me,
                    version: handshake.protocol.number(),
                    // Only towards those that know it.
                    extension: theirs.and(handshake.offer.extension()),
                };
                self.send(connection, &select);
                let syn = HandshakeMessage::OriginatorSyn(self.filter_for(connection));
                self.send(connection, &syn);
                self.advance(connection, State::WaitSynAck, None);
            }
            Claim::Pending => self.advance(connection, State::Paused, None),
            Claim::Peered => self.redundant(connection, peer),
        }
    }

    fn selected(&mut self, connection: ConnectionId, sender: EndpointId, version: u8) {
        if let Err(reason) = self.check_id(sender) {
            return self.close(connection, reason);
        }
        if version == VERSION_2 {
            let Some(handshake) = self
                .handshakes
                .get_mut(&connection)
                .filter(|handshake| matches!(handshake.offer, Offer::V2 { .. }))
            else {
                return self.refuse(connection, Refusal::unsupported_selection());
            };
            handshake.protocol = Protocol::V2;
        }
        self.set_peer(connection, sender);
        match self.claim(connection, sender) {
            Claim::Granted => self.advance(connection, State::WaitSyn, None),
            Claim::Pending | Claim::Peered => {
                let text = "detected redundant connection at the responder";
                self.send_drop(connection, &Refusal::new(ErrorCode::LOGIC_ERROR, text));
                self.close(connection, HandshakeError::Redundant { peer: sender });
            }
        }
    }

    /// Our filter as this handshake announces it: with version 2 the mesh's records do.
    fn filter_for(&self, connection: ConnectionId) -> Filter {
        match self.handshakes.get(&connection).map(|known| known.protocol) {
            Some(Protocol::V1) => self.filter.clone(),
            Some(Protocol::V2) | None => Filter::default(),
        }
    }

    fn dropped(
        &mut self,
        connection: ConnectionId,
        sender: EndpointId,
        code: ErrorCode,
        text: String,
    ) {
        let known = self.statuses.contains_key(&sender);
        let reason = if code == ErrorCode::REDUNDANT_CONNECTION && known {
            HandshakeError::Redundant { peer: sender }
        } else {
            HandshakeError::Refused { code, text }
        };
        self.close(connection, reason);
    }

    fn check_id(&self, sender: EndpointId) -> Result<(), HandshakeError> {
        if sender.is_nil() {
            return Err(HandshakeError::NilId);
        }
        if sender == self.me {
            return Err(HandshakeError::OwnId);
        }
        Ok(())
    }

    fn claim(&mut self, connection: ConnectionId, peer: EndpointId) -> Claim {
        match self.statuses.get(&peer) {
            None => {
                self.statuses.insert(peer, Status::Connecting(connection));
                Claim::Granted
            }
            Some(Status::Connecting(_)) => Claim::Pending,
            Some(Status::Peered(_)) => Claim::Peered,
        }
    }

    fn establish(&mut self, connection: ConnectionId) {
        let Some(handshake) = self.handshakes.remove(&connection) else {
            return;
        };
        let Some(peer) = handshake.peer else {
            return;
        };
        self.statuses.insert(peer, Status::Peered(connection));
        self.actions.push_back(Action::Established {
            connection,
            peer,
            protocol: handshake.protocol,
            is_guest: matches!(handshake.offer, Offer::V2 { .. })
                && handshake.peer_extension.is_none(),
            reads_zstd: handshake.protocol == Protocol::V2
                && handshake
                    .peer_extension
                    .is_some_and(|theirs| theirs.reads_zstd),
            filter: handshake.peer_filter,
            announce: handshake.announced != self.filter_version,
        });
        for paused in self.paused(peer) {
            self.redundant(paused, peer);
        }
    }

    fn redundant(&mut self, connection: ConnectionId, peer: EndpointId) {
        let refusal = Refusal::new(ErrorCode::REDUNDANT_CONNECTION, "redundant connection");
        self.send_drop(connection, &refusal);
        self.close(connection, HandshakeError::Redundant { peer });
    }

    fn paused(&self, peer: EndpointId) -> Vec<ConnectionId> {
        self.handshakes
            .iter()
            .filter(|(_, other)| other.state == State::Paused && other.peer == Some(peer))
            .map(|(connection, _)| *connection)
            .collect()
    }

    fn set_peer(&mut self, connection: ConnectionId, peer: EndpointId) {
        if let Some(handshake) = self.handshakes.get_mut(&connection) {
            handshake.peer = Some(peer);
        }
    }

    fn advance(&mut self, connection: ConnectionId, state: State, filter: Option<Filter>) {
        if let Some(handshake) = self.handshakes.get_mut(&connection) {
            handshake.state = state;
            if let Some(filter) = filter {
                handshake.peer_filter = filter;
            }
            if matches!(state, State::WaitSynAck | State::WaitAck) && handshake.announced == 0 {
                handshake.announced = self.filter_version;
            }
        }
    }

    fn unexpected(&mut self, connection: ConnectionId, message: &'static str, state: State) {
        let expected = state.expected();
        self.close(connection, HandshakeError::Unexpected { message, expected });
    }

    fn refuse(&mut self, connection: ConnectionId, refusal: Refusal) {
        self.send_drop(connection, &refusal);
        let Refusal { code, text } = refusal;
        self.close(connection, HandshakeError::Refusing { code, text });
    }

    fn send_hello(&mut self, connection: ConnectionId) {
        if self.closed {
            self.send_drop(
                connection,
                &Refusal::new(ErrorCode::SHUTTING_DOWN, "shutting down"),
            );
            return self.close(connection, HandshakeError::ShuttingDown);
        }
        let hello = HandshakeMessage::Hello {
            sender: self.me,
            min: VERSION,
            max: VERSION,
            extension: self
                .handshakes
                .get(&connection)
                .and_then(|handshake| handshake.offer.extension()),
        };
        self.send(connection, &hello);
    }

    fn send_drop(&mut self, connection: ConnectionId, refusal: &Refusal) {
        let Refusal { code, text } = refusal.clone();
        self.send(
            connection,
            &HandshakeMessage::DropConn {
                sender: self.me,
                code,
                text,
            },
        );
    }

    fn send(&mut self, connection: ConnectionId, message: &HandshakeMessage) {
        self.actions
            .push_back(Action::Send(connection, message.frame()));
    }

    fn close(&mut self, connection: ConnectionId, reason: HandshakeError) {
        if self.handshakes.contains_key(&connection) {
            self.actions.push_back(Action::Close { connection, reason });
        }
        self.forget(connection);
    }

    /// Ends a handshake; a paused one of the same peer takes its place.
    fn forget(&mut self, connection: ConnectionId) {
        let Some(handshake) = self.handshakes.remove(&connection) else {
            return;
        };
        let Some(peer) = handshake.peer else {
            return;
        };
        if self.statuses.get(&peer) == Some(&Status::Connecting(connection)) {
            self.statuses.remove(&peer);
            for paused in self.paused(peer) {
                self.originate(paused, peer);
            }
        }
    }
}
