//! How an endpoint makes and ends peerings on request.

use std::sync::Arc;
use std::time::Duration;

use muster_wire::EndpointId;
use muster_wire::peering::Offer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Endpoint;
use super::connection::{self, ConnectionEnd};
use super::dial::{DialState, DialTask};
use super::error::PeerError;
use super::owner::{Command, DialStart, Unpeer};
use super::peer_options::PeerOptions;
use super::status::{PeerInfo, PeerOrigin, Transport};

impl Endpoint {
    /// Takes over a connected byte stream as if `address`, a name for it, had been dialled. For links that are not TCP
    /// connections, such as those within a process; the other end is given to [`Endpoint::accept_stream`]. The stream
    /// is not dialled again when it ends. If a dial of the same address is under way, the stream is dropped. Returns
    /// at once.
    pub fn connect_stream<R, W>(&self, reader: R, writer: W, address: &str)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        let address = address.to_owned();
        tokio::spawn(async move {
            let (stop, _stopped) = watch::channel(false);
            let (_state, states) = watch::channel(DialState::Connecting);
            let start = owner.call(|done| Command::StartDial {
                address: address.clone(),
                offer: shared.config.forwarding.offer(),
                options: PeerOptions::default(),
                stop,
                state: states.clone(),
                done,
            });
            if !matches!(start.await, Some(DialStart::New)) {
                return;
            }
            let (mine, named) = (owner.clone(), address.clone());
            let made = (PeerOrigin::Dialled, Transport::Stream);
            let run = connection::run(reader, writer, shared, mine, named, made);
            if let ConnectionEnd::Failed(reason) = run.await {
                let unavailable = Command::Unavailable(address.clone(), reason);
                owner.send(unavailable).await;
            }
            owner.send(Command::EndDial(address, states)).await;
        });
    }

    /// Dials `address` ("host:port") in the background and keeps the peering. A failed dial is repeated after `retry`,
    /// for ever; so is a lost peering, at once if it lasted longer than `retry`. Without `retry` it dials once. An
    /// address that is being dialled already is left to that dial. Failures are reported as
    /// [`Status::PeerUnavailable`](crate::Status::PeerUnavailable). [`Endpoint::unpeer_address`] ends the dial.
    pub fn dial(&self, address: &str, retry: Option<Duration>) {
        self.dial_with(address, retry, PeerOptions::default());
    }

    /// Dials like [`Endpoint::dial`], with `options` for the peering, whatever the rules of
    /// [`EndpointConfig::peers`](crate::EndpointConfig::peers) say. The options belong to the connection: if the
    /// endpoint there is already a peer by a connection that it made itself, they have no effect.
    pub fn dial_with(&self, address: &str, retry: Option<Duration>, options: PeerOptions) {
        let offer = self.shared.config.forwarding.offer();
        self.dial_offering(address, retry, offer, options);
    }

    /// Dials like [`Endpoint::dial`], for a peering outside the mesh: the two endpoints exchange only their own
    /// messages, and nothing is relayed over it. Between endpoints that are in one mesh anyway, no messages are sent
    /// over it.
    pub fn dial_direct(&self, address: &str, retry: Option<Duration>) {
        self.dial_direct_with(address, retry, PeerOptions::default());
    }

    /// Dials like [`Endpoint::dial_direct`], with options as in [`Endpoint::dial_with`].
    pub fn dial_direct_with(&self, address: &str, retry: Option<Duration>, options: PeerOptions) {
        let offer = self.shared.config.forwarding.offer_apart();
        self.dial_offering(address, retry, offer, options);
    }

    fn dial_offering(
        &self,
        address: &str,
        retry: Option<Duration>,
        offer: Offer,
        options: PeerOptions,
    ) {
        let endpoint = self.clone();
        let address = address.to_owned();
        tokio::spawn(async move {
            let _ = endpoint.start_dial(&address, retry, offer, options).await;
        });
    }

    /// Dials like [`Endpoint::dial`] and waits for the peering. If the endpoint there is a peer by another connection,
    /// that peering is returned. When this returns a peering, messages pass both ways.
    ///
    /// Without `retry` the first failure ends the wait. With `retry` it may wait for ever: put a timeout around the
    /// call. If the future is dropped, the dial goes on.
    ///
    /// # Errors
    /// [`PeerError::Unavailable`] if there is no `retry` and the other endpoint cannot be reached, refuses, or does
    /// not fit; [`PeerError::Ended`] if this endpoint shuts down meanwhile.
    pub async fn peer(
        &self,
        address: &str,
        retry: Option<Duration>,
    ) -> Result<PeerInfo, PeerError> {
        let mut version = self.shared.table_version.subscribe();
        let offer = self.shared.config.forwarding.offer();
        let options = PeerOptions::default();
        let mut state = self.start_dial(address, retry, offer, options).await?;
        loop {
            version.borrow_and_update();
            if let Some(peer) = self.dialled_peer(address, &state) {
                return Ok(peer);
            }
            tokio::select! {
                changed = version.changed() => changed.map_err(|_| PeerError::Ended)?,
                changed = state.changed() => {
                    let failed = match &*state.borrow_and_update() {
                        DialState::Failed(reason) => Some(reason.clone()),
                        DialState::Connecting | DialState::Redundant(_) => None,
                    };
                    match failed {
                        Some(reason) if retry.is_none() => {
                            return Err(PeerError::Unavailable { address: address.to_owned(), reason });
                        }
                        _ if changed.is_err() => {
                            return self.dialled_peer(address, &state).ok_or(PeerError::Ended);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// The peering that a dial led to, or that made it redundant.
    fn dialled_peer(&self, address: &str, state: &watch::Receiver<DialState>) -> Option<PeerInfo> {
        let redundant = match &*state.borrow() {
            DialState::Redundant(peer) => Some(*peer),
            DialState::Connecting | DialState::Failed(_) => None,
        };
        self.peers()
            .into_iter()
            .find(|peer| peer.address == address || redundant == Some(peer.id))
    }

    async fn start_dial(
        &self,
        address: &str,
        retry: Option<Duration>,
        offer: Offer,
        options: PeerOptions,
    ) -> Result<watch::Receiver<DialState>, PeerError> {
        let (stop, stopped) = watch::channel(false);
        let (state, states) = watch::channel(DialState::Connecting);
        let start = self.owner.call(|done| Command::StartDial {
            address: address.to_owned(),
            offer,
            options,
            stop,
            state: states.clone(),
            done,
        });
        match start.await.ok_or(PeerError::Ended)? {
            DialStart::New => {
                let task = DialTask {
                    shared: Arc::clone(&self.shared),
                    owner: self.owner.clone(),
                    address: address.to_owned(),
                    retry,
                    stop: stopped,
                    state,
                };
                tokio::spawn(task.run());
                Ok(states)
            }
            DialStart::UnderWay(mut states) => {
                // Earlier failures are not an answer.
                states.mark_unchanged();
                Ok(states)
            }
            DialStart::Refused => Err(PeerError::Ended),
        }
    }

    /// Ends the peering with an endpoint, and its dial. Returns `true` if there was a peering, without waiting for its
    /// end: what is queued is still written, and the peer has
    /// [`EndpointConfig::bye_timeout`](crate::EndpointConfig::bye_timeout) to confirm. Then comes
    /// [`Status::PeerRemoved`](crate::Status::PeerRemoved). Dropping the future does not undo it.
    pub async fn unpeer(&self, peer: EndpointId) -> bool {
        self.owner
            .call(|done| Command::Unpeer(Unpeer::Id(peer), done))
            .await
            .unwrap_or(false)
    }

    /// Ends the peering with an address, written as it was dialled, and its dial. Returns `true` if there was either.
    /// Otherwise like [`Endpoint::unpeer`].
    pub async fn unpeer_address(&self, address: &str) -> bool {
        let which = Unpeer::Address(address.to_owned());
        self.owner
            .call(|done| Command::Unpeer(which, done))
            .await
            .unwrap_or(false)
    }
}
