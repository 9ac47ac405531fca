//! The handshakes of an endpoint: all connections that are not yet peerings, and which endpoints
//! are peers.
//!
//! The endpoint with the smaller id is the *originator*, whoever dialled. Two connections between
//! the same two endpoints are *redundant*: the originator keeps the one it handles first and
//! answers the other with `drop_conn`, after the first is complete (protocol sections 2.3 to 2.6).

mod action;
mod cluster;
mod extension;
mod message;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

pub use action::{Action, HandshakeError};
pub use cluster::{ClusterName, ClusterNameError};
use extension::{Extension, VERSION_2};
use message::{HandshakeMessage, Refusal, VERSION};

use crate::{EndpointId, ErrorCode, Filter, Mono, frame};

/// The time limit of a handshake, counted from the connection, unless configured otherwise. Broker
/// has no limit; its peers cannot tell the difference.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, by a number that the shell gives. A number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The protocol that two peers speak with one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// Broker's protocol: the two exchange their own messages.
    #[default]
    V1,
    /// Muster's protocol: both are endpoints of one mesh.
    V2,
}

/// The protocols that an endpoint offers, on all connections or on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offer {
    /// Version 1 only.
    #[default]
    V1,
    /// Version 2, if the other side offers it as well. Two endpoints that do not relay speak
    /// version 1, because a mesh has no links between such endpoints.
    V2 {
        /// Whether the endpoint relays messages of others.
        relays: bool,
    },
    /// Version 1 only, although the endpoint is in a mesh: a peering apart from the mesh, over
    /// which nothing is relayed.
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
    fn select(self, theirs: Option<&Extension>) -> Protocol {
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

/// The handshakes of one endpoint. The shell reports connections, frames and time, and carries out
/// the [`Action`]s that [`Peering::poll`] returns, in order.
#[derive(Debug)]
pub struct Peering {
    me: EndpointId,
    timeout: Duration,
    filter: Filter,
    filter_version: u64,
    offer: Offer,
    cluster: Option<ClusterName>,
    largest_frame: Option<u64>,
    statuses: HashMap<EndpointId, Status>,
    handshakes: BTreeMap<ConnectionId, Handshake>,
    actions: VecDeque<Action>,
    closed: bool,
}

impl Peering {
    /// Creates the state of an endpoint without connections. `me` is its id, `timeout` the time
    /// limit of one handshake.
    pub fn new(me: EndpointId, timeout: Duration) -> Self {
        Self {
            me,
            timeout,
            filter: Filter::default(),
            filter_version: 1,
            offer: Offer::V1,
            cluster: None,
            largest_frame: None,
            statuses: HashMap::new(),
            handshakes: BTreeMap::new(),
            actions: VecDeque::new(),
            closed: false,
        }
    }

    /// Sets what is offered on all connections, except for those dialled with an offer of their
    /// own.
    #[must_use]
    pub fn with_offer(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// Sets the cluster that the endpoint belongs to: peerings with endpoints of another are refused. An endpoint
    /// that says nothing of a cluster is a peer of those of any.
    #[must_use]
    pub fn of_cluster(mut self, cluster: Option<ClusterName>) -> Self {
        self.cluster = cluster;
        self
    }

    /// Sets the largest payload of a frame that is read after handshakes, so that others are told.
    #[must_use]
    pub fn with_largest_frame(mut self, bytes: usize) -> Self {
        self.largest_frame = u64::try_from(bytes).ok();
        self
    }

    /// What is said behind `hello` and `version_select` on a connection.
    fn extension(&self, offer: Offer) -> Option<Extension> {
        let extension = match (offer.extension(), &self.cluster) {
            (Some(extension), _) => extension,
            (None, Some(_)) => Extension::OUTSIDE,
            (None, None) => return None,
        };
        Some(Extension {
            cluster: self.cluster.clone(),
            largest_frame: self.largest_frame,
            ..extension
        })
    }

    /// Sets the filter that handshakes announce from now on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        self.filter_version += 1;
    }

    /// Returns the number of handshakes under way.
    pub fn pending(&self) -> usize {
        self.handshakes.len()
    }

    /// Returns the handshake to give up when there are too many: the oldest whose other side has
    /// not said who it is, or, if all have, the oldest.
    pub fn oldest(&self) -> Option<ConnectionId> {
        let silent = self
            .handshakes
            .iter()
            .find(|(_, handshake)| handshake.peer.is_none());
        silent
            .or_else(|| self.handshakes.iter().next())
            .map(|(connection, _)| *connection)
    }

    /// Gives up a handshake with [`HandshakeError::TooMany`]. The connection is to be closed.
    pub fn abandon(&mut self, connection: ConnectionId) {
        self.close(connection, HandshakeError::TooMany);
    }

    /// Starts the handshake of a connection that was accepted.
    pub fn accepted(&mut self, connection: ConnectionId, now: Mono) {
        self.start(connection, State::WaitHello, self.offer, now);
        self.send(connection, &HandshakeMessage::Probe);
    }

    /// Starts the handshake of a connection that was dialled, with the offer that the endpoint
    /// makes on all connections.
    pub fn dialled(&mut self, connection: ConnectionId, now: Mono) {
        self.dialled_with(connection, self.offer, now);
    }

    /// Starts the handshake of a connection that was dialled, with another offer.
    pub fn dialled_with(&mut self, connection: ConnectionId, offer: Offer, now: Mono) {
        self.start(connection, State::WaitHelloOrSelect, offer, now);
        self.send_hello(connection);
    }

    /// Takes the payload of a frame that arrived. Frames of connections whose handshake is over are
    /// ignored.
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

    /// Returns the largest payload of the next frame of a connection's handshake.
    pub fn frame_limit(&self, connection: ConnectionId) -> usize {
        match self.handshakes.get(&connection) {
            Some(handshake) if !handshake.state.is_phase_one() => frame::HANDSHAKE_LIMIT,
            _ => frame::HELLO_LIMIT,
        }
    }

    /// Notes that a connection has ended, by either side, and with it its handshake or peering.
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

    /// Ends all handshakes under way, and refuses those to come.
    pub fn shut_down(&mut self) {
        self.closed = true;
        let pending: Vec<_> = self.handshakes.keys().copied().collect();
        for connection in pending {
            self.close(connection, HandshakeError::ShuttingDown);
        }
    }

    /// Returns the time at which [`Peering::handle_timeout`] has something to do, if there is any.
    pub fn next_timeout(&self) -> Option<Mono> {
        self.handshakes
            .values()
            .map(|handshake| handshake.deadline)
            .min()
    }

    /// Ends the handshakes whose time limit has passed.
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

    /// Returns the next thing to do, or `None` if there is nothing.
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
                .and_then(|handshake| self.extension(handshake.offer)),
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
