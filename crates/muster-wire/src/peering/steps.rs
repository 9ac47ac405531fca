//! The steps of a handshake: what each message leads to, until the connection is a peering or closed.

use super::extension::VERSION_2;
use super::message::{HandshakeMessage, Refusal, VERSION};
use super::{Action, ConnectionId, HandshakeError, Offer, Peering, Protocol, State, Status};
use crate::{EndpointId, ErrorCode, Filter};

enum Claim {
    Granted,
    Pending,
    Peered,
}

impl Peering {
    pub(super) fn message(
        &mut self,
        connection: ConnectionId,
        state: State,
        message: HandshakeMessage,
    ) {
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
                // Whoever has dialled has said hello.
                let has_said_hello = state == State::WaitHelloOrSelect;
                if !self.is_other_cluster(connection, has_said_hello) {
                    self.hello(connection, sender);
                }
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
                    let known = handshake.peer_extension.take();
                    handshake.peer_extension = known.or(extension);
                }
                if !self.is_other_cluster(connection, true) {
                    self.selected(connection, sender, version);
                }
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

    /// Refuses a side that belongs to another cluster. Says hello before that, if it has not: so the other side
    /// sees whom it has reached.
    fn is_other_cluster(&mut self, connection: ConnectionId, has_said_hello: bool) -> bool {
        let handshake = self.handshakes.get(&connection);
        let theirs = handshake.and_then(|handshake| handshake.peer_extension.as_ref());
        let theirs = theirs.and_then(|theirs| theirs.cluster.clone());
        let (Some(ours), Some(theirs)) = (self.cluster.clone(), theirs) else {
            return false;
        };
        if ours == theirs {
            return false;
        }
        if !has_said_hello {
            self.send_hello(connection);
        }
        let text = format!("another cluster: {ours} here, {theirs} there");
        self.send_drop(
            connection,
            &Refusal::new(ErrorCode::PEER_INCOMPATIBLE, text),
        );
        self.close(connection, HandshakeError::OtherCluster { ours, theirs });
        true
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
    pub(super) fn originate(&mut self, connection: ConnectionId, peer: EndpointId) {
        match self.claim(connection, peer) {
            Claim::Granted => {
                let Some(handshake) = self.handshakes.get_mut(&connection) else {
                    return;
                };
                let theirs = handshake.peer_extension.as_ref();
                let knows_extensions = theirs.is_some();
                let (offer, protocol) = (handshake.offer, handshake.offer.select(theirs));
                handshake.protocol = protocol;
                let extension = self.extension(offer).filter(|_| knows_extensions);
                let select = HandshakeMessage::VersionSelect {
                    sender: self.me,
                    version: protocol.number(),
                    extension,
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
        if let Some(handshake) = self.handshakes.get_mut(&connection) {
            let offers_version_2 = matches!(handshake.offer, Offer::V2 { .. });
            match version {
                VERSION => {}
                VERSION_2 if offers_version_2 => handshake.protocol = Protocol::V2,
                _ => {
                    let refusal = Refusal::unsupported_selection(version, offers_version_2);
                    return self.refuse(connection, refusal);
                }
            }
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
        let theirs = handshake.peer_extension.as_ref();
        let largest = theirs.and_then(|theirs| theirs.largest_frame);
        self.actions.push_back(Action::Established {
            connection,
            peer,
            protocol: handshake.protocol,
            is_guest: matches!(handshake.offer, Offer::V2 { .. })
                && theirs.is_none_or(|theirs| theirs.versions.is_none()),
            reads_zstd: handshake.protocol == Protocol::V2
                && theirs.is_some_and(|it| it.reads_zstd),
            reads_runs: handshake.protocol == Protocol::V2
                && theirs.is_some_and(|it| it.reads_runs),
            largest_frame: largest.and_then(|largest| usize::try_from(largest).ok()),
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

    pub(super) fn paused(&self, peer: EndpointId) -> Vec<ConnectionId> {
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

    pub(super) fn unexpected(
        &mut self,
        connection: ConnectionId,
        message: &'static str,
        state: State,
    ) {
        let expected = state.expected();
        self.close(connection, HandshakeError::Unexpected { message, expected });
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, refusal: Refusal) {
        self.send_drop(connection, &refusal);
        let Refusal { code, text } = refusal;
        self.close(connection, HandshakeError::Refusing { code, text });
    }
}
