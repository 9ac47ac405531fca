//! Dialling: makes and keeps a peering with an address.

use std::sync::Arc;
use std::time::Duration;

use muster_wire::EndpointId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{self, ConnectionEnd};
use super::end_reason::{EndReason, UnavailableReason};
use super::owner::{Command, OwnerHandle};
use super::shared::Shared;
use super::socket;
use super::status::PeerOrigin;

/// The part of a retry period that is added or taken away at random, as a divisor.
const JITTER: u32 = 10;

/// Where a dial stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialState {
    Connecting,
    Failed(UnavailableReason),
    /// There is, or will be, a peering with this endpoint by another connection.
    Redundant(EndpointId),
}

pub(crate) struct DialTask {
    pub(crate) shared: Arc<Shared>,
    pub(crate) owner: OwnerHandle,
    pub(crate) address: String,
    pub(crate) retry: Option<Duration>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) state: watch::Sender<DialState>,
}

fn unreachable(error: &std::io::Error) -> UnavailableReason {
    UnavailableReason::Unreachable {
        kind: error.kind(),
        text: error.to_string(),
    }
}

impl DialTask {
    /// Dials until the dial is stopped; with a retry for ever, otherwise once.
    pub(crate) async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.dial_and_redial() => {}
            // A peering that is being removed says goodbye in its own task.
            _ = stop.wait_for(|stop| *stop) => {}
        }
        let state = self.state.subscribe();
        self.owner.send(Command::EndDial(self.address, state)).await;
    }

    async fn dial_and_redial(&mut self) {
        let mut told = None;
        loop {
            let started = Instant::now();
            let end = self.attempt().await;
            if let (ConnectionEnd::Failed(reason), Some(_)) = (&end, self.retry)
                && told.as_ref() != Some(reason)
            {
                // Somebody is there, and this will hardly mend itself; but it is said only once.
                tracing::warn!("cannot peer with {}: {reason}", self.address);
                told = Some(reason.clone());
            }
            match end {
                ConnectionEnd::Unreachable(reason) | ConnectionEnd::Failed(reason) => {
                    let unavailable = Command::Unavailable(self.address.clone(), reason.clone());
                    self.owner.send(unavailable).await;
                    self.state.send_replace(DialState::Failed(reason));
                    let Some(retry) = self.retry else { return };
                    tokio::time::sleep(jittered(retry)).await;
                }
                ConnectionEnd::Redundant(peer) => {
                    self.owner
                        .send(Command::DialRedundant(self.address.clone(), peer))
                        .await;
                    self.state.send_replace(DialState::Redundant(peer));
                    let Some(retry) = self.retry else {
                        return self.until_peered(peer).await;
                    };
                    tokio::time::sleep(jittered(retry)).await;
                    self.until(|| !self.is_peer(peer)).await;
                }
                ConnectionEnd::Ended(EndReason::Removed(_)) => return,
                ConnectionEnd::Ended(EndReason::Lost(reason)) => {
                    let Some(retry) = self.retry else {
                        // Whoever waits for the peering may not have been told of it.
                        self.state.send_replace(DialState::Failed(reason.into()));
                        return;
                    };
                    // As Broker: at once; but not in a tight loop with a peer that always closes.
                    if started.elapsed() < retry {
                        tokio::time::sleep(jittered(retry)).await;
                    }
                }
            }
        }
    }

    async fn attempt(&self) -> ConnectionEnd {
        let connect = socket::connect(&self.address, &self.shared.config);
        let stream = match tokio::time::timeout(self.shared.config.connect_timeout, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return ConnectionEnd::Unreachable(unreachable(&error)),
            Err(_) => return ConnectionEnd::Unreachable(UnavailableReason::ConnectTimeout),
        };
        let limit = self.shared.config.handshake_timeout;
        let tls = self.shared.tls.load_full();
        let secured = match tokio::time::timeout(limit, tls.connect(stream)).await {
            Ok(Ok(secured)) => secured,
            Ok(Err(reason)) => return ConnectionEnd::Failed(reason.into()),
            Err(_) => {
                return ConnectionEnd::Failed(UnavailableReason::TlsTimeout(limit));
            }
        };
        // A task of its own: it outlives the dial to say goodbye.
        let connection = tokio::spawn(connection::run_secured(
            secured,
            Arc::clone(&self.shared),
            self.owner.clone(),
            self.address.clone(),
            PeerOrigin::Dialled,
        ));
        connection.await.unwrap_or_else(|error| {
            ConnectionEnd::Failed(UnavailableReason::Task(error.to_string()))
        })
    }

    /// Waits for the end of the handshake that made this dial redundant, and until the peering is told of:
    /// with version 2 that is later, and whoever waits for this dial looks for it then.
    async fn until_peered(&self, peer: EndpointId) {
        let limit = self.shared.config.handshake_timeout;
        let is_told = || {
            let table = self.shared.table.load();
            let entry = table.entry(peer);
            entry.is_some_and(|entry| entry.handle.is_announced())
        };
        let peered = self.until(is_told);
        if tokio::time::timeout(limit, peered).await.is_err() {
            let reason = UnavailableReason::OtherLost(peer);
            self.state.send_replace(DialState::Failed(reason));
        }
    }

    fn is_peer(&self, id: EndpointId) -> bool {
        let table = self.shared.table.load();
        table.peers().iter().any(|entry| entry.id == id)
    }

    /// Waits until the routing table makes `condition` true.
    async fn until(&self, condition: impl Fn() -> bool) {
        let mut version = self.shared.table_version.subscribe();
        loop {
            version.borrow_and_update();
            if condition() || version.changed().await.is_err() {
                return;
            }
        }
    }
}

/// A period plus or minus a tenth, so that many diallers do not dial at once.
fn jittered(period: Duration) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness there is no jitter, which only costs bunched retries.
    let _ = getrandom::fill(&mut byte);
    let span = period / JITTER;
    period.saturating_sub(span) + span * 2 * u32::from(byte[0]) / 255
}
