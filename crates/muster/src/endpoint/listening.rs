//! How an endpoint takes connections: its listeners, and streams that are handed to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::Endpoint;
use super::config::Exposure;
use super::connection::{self, ConnectionEnd};
use super::end_reason::UnavailableReason;
use super::error::ListenError;
use super::owner::OwnerHandle;
use super::shared::Shared;
use super::socket::{Accepted, Listener, Socket};
use super::status::{PeerOrigin, Transport};

/// How long the accept loop rests after a failure such as a full descriptor table.
const ACCEPT_REST: Duration = Duration::from_millis(100);
impl Endpoint {
    /// Listens for peers. Port 0 picks a free port. Returns the address in use. May be called for several addresses;
    /// each is listened on until the endpoint ends. Unless [`EndpointConfig::local`](crate::EndpointConfig::local) is off,
    /// peers of the same machine and user find a Unix socket beside the port.
    ///
    /// # Errors
    /// [`ListenError::Exposed`] for an address that others can reach where `exposure` does not allow it,
    /// [`ListenError::System`] if the address is taken or cannot be bound.
    #[allow(
        clippy::unused_async,
        reason = "whoever calls it is in a runtime, which it needs"
    )]
    pub async fn listen(
        &self,
        address: SocketAddr,
        exposure: Exposure,
    ) -> Result<SocketAddr, ListenError> {
        let tls = &self.shared.config.tls;
        if !address.ip().is_loopback() && !exposure.allows(tls) {
            return Err(ListenError::Exposed {
                address,
                tls: tls.name(),
            });
        }
        let system = |source| ListenError::System { address, source };
        let mut listener = Listener::bind(address, &self.shared.config).map_err(system)?;
        let local = listener.address();
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        tokio::spawn(async move {
            let mut stopping = shared.stopping.subscribe();
            tokio::select! {
                () = accept_loop(&mut listener, &shared, &owner) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
        Ok(local)
    }

    /// Takes over a connected byte stream as if it had been accepted from `address`. Nothing is encrypted here.
    /// Returns at once; if the handshake fails, the stream is closed, and counted and told like a refused connection.
    pub fn accept_stream<R, W>(&self, reader: R, writer: W, address: &str)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (shared, owner) = (Arc::clone(&self.shared), self.owner.clone());
        let address = address.to_owned();
        tokio::spawn(async move {
            let end = connection::run(
                reader,
                writer,
                Arc::clone(&shared),
                owner,
                address.clone(),
                (PeerOrigin::Accepted, Transport::Stream),
            );
            if let ConnectionEnd::Failed(reason) = end.await {
                shared.refused(&address, &reason.to_string());
            }
        });
    }
}

async fn accept_loop(listener: &mut Listener, shared: &Arc<Shared>, owner: &OwnerHandle) {
    let mut warned = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                warned = false;
                match accepted {
                    Accepted::Socket(socket, address) => {
                        begin(socket, address, shared, owner);
                    }
                    Accepted::Refused { address, reason } => shared.refused(&address, &reason),
                    Accepted::Gone => {}
                }
            }
            Err(error) => {
                if !warned {
                    tracing::error!("cannot accept connections: {error}");
                }
                warned = true;
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn begin(socket: Socket, address: String, shared: &Arc<Shared>, owner: &OwnerHandle) {
    let (shared, owner) = (Arc::clone(shared), owner.clone());
    tokio::spawn(async move {
        if let Err(reason) = accept(socket, &address, &shared, owner).await {
            shared.refused(&address, &reason.to_string());
        }
    });
}

/// Runs an accepted connection to its end; the error is why no peering came about.
async fn accept(
    socket: Socket,
    address: &str,
    shared: &Arc<Shared>,
    owner: OwnerHandle,
) -> Result<(), UnavailableReason> {
    let limit = shared.config.handshake_timeout;
    let (number, evicted) = shared.tls_handshake_begins();
    let tls = shared.tls.load_full();
    let secured = tokio::select! {
        secured = tokio::time::timeout(limit, tls.accept(socket)) => secured
            .map_or(Err(UnavailableReason::TlsTimeout(limit)), |secured| Ok(secured?)),
        _ = evicted => Err(UnavailableReason::TooManyTlsHandshakes),
    };
    shared.tls_handshake_ends(number);
    let secured = secured?;
    let end = connection::run_secured(
        secured,
        Arc::clone(shared),
        owner,
        address.to_owned(),
        PeerOrigin::Accepted,
    );
    match end.await {
        ConnectionEnd::Failed(reason) => Err(reason),
        _ => Ok(()),
    }
}
