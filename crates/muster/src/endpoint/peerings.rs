//! How an endpoint makes peerings by itself, and ends them.

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
use super::status::{PeerInfo, PeerOrigin};

impl Endpoint {
    /// Takes a connected byte stream as if `address`, which names it, had been dialled: for links that are
    /// no TCP connections, as those within a process, whose other end is given to
    /// [`Endpoint::accept_stream`]. It is not dialled again when it ends. A stream with the address of
    /// another dial that is under way is dropped.
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
            let run = connection::run(reader, writer, shared, mine, named, PeerOrigin::Dialled);
            if let ConnectionEnd::Failed(reason) = run.await {
                let unavailable = Command::Unavailable(address.clone(), reason);
                owner.send(unavailable).await;
            }
            owner.send(Command::EndDial(address, states)).await;
        });
    }

    /// Dials `address` ("host:port") in the background and keeps the peering: a lost one is dialled
    /// again at once, a failed dial after `retry`, for ever. Without `retry` it dials once. An address
    /// that is being dialled already is left to that dial. Failures are told as [`Status::PeerUnavailable`];
    /// [`Endpoint::unpeer_address`] ends it.
    pub fn dial(&self, address: &str, retry: Option<Duration>) {
        self.dial_with(address, retry, PeerOptions::default());
    }

    /// Dials as [`Endpoint::dial`]; towards the peer there `options` hold, whatever the rules of
    /// [`EndpointConfig::peers`] say. They are those of the connection: if the endpoint there is a peer by a
    /// connection that it made itself, they do not hold.
    pub fn dial_with(&self, address: &str, retry: Option<Duration>, options: PeerOptions) {
        let offer = self.shared.config.forwarding.offer();
        self.dial_offering(address, retry, offer, options);
    }

    /// Dials as [`Endpoint::dial`], for a peering outside the mesh: the two exchange their own messages, and
    /// nothing is relayed over it. Between endpoints that are in one mesh anyway nothing goes over it.
    pub fn dial_direct(&self, address: &str, retry: Option<Duration>) {
        self.dial_direct_with(address, retry, PeerOptions::default());
    }

    /// Dials as [`Endpoint::dial_direct`], with options as [`Endpoint::dial_with`].
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

    /// Dials as [`Endpoint::dial`] and waits for the peering; without `retry` the first failure is
    /// the answer. If the endpoint there is a peer by another connection, that peering is the answer. When this
    /// returns, messages pass both ways.
    ///
    /// With `retry` it waits for ever: put a limit of your own around it. A future that is dropped leaves the dial
    /// going on.
    ///
    /// # Errors
    /// [`PeerError::Unavailable`] if it is not there, refuses, or does not fit, and there is no `retry`;
    /// [`PeerError::Ended`] if the endpoint shuts down meanwhile.
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

    /// Ends the peering with an endpoint, after what is queued for it is written, and its dial. Returns `true` if
    /// there was a peering. Waits at most [`EndpointConfig::bye_timeout`] for the peer; a future that is dropped
    /// does not take it back.
    pub async fn unpeer(&self, peer: EndpointId) -> bool {
        self.owner
            .call(|done| Command::Unpeer(Unpeer::Id(peer), done))
            .await
            .unwrap_or(false)
    }

    /// Ends the peering with, and the dial of, an address, as it was dialled. Returns `true` if there was one.
    /// Otherwise as [`Endpoint::unpeer`].
    pub async fn unpeer_address(&self, address: &str) -> bool {
        let which = Unpeer::Address(address.to_owned());
        self.owner
            .call(|done| Command::Unpeer(which, done))
            .await
            .unwrap_or(false)
    }
}
