//! The sockets of connections: how they are dialled and accepted, and their options.

mod local;
mod low_water;
mod patience;
mod spin;
mod stream;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};

use super::config::{EndpointConfig, LocalTransport};
pub(crate) use stream::Socket;

/// How long a connection is silent before the system asks whether the other side is there.
const IDLE: Duration = Duration::from_secs(15);

/// How long after a question without an answer it asks again.
const INTERVAL: Duration = Duration::from_secs(5);

/// After how many questions without an answer the connection is lost.
const PROBES: u32 = 3;

/// How long sent bytes may stay unacknowledged, or the peer's window closed: a peer that reads nothing
/// for so long is given up, shorter pauses cost its queue alone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// What decides when bytes are sent by a clock, and what does not: between two processes of one machine there is nothing to
/// be paced for, and timers cost more than half of the rate.
#[cfg(target_os = "linux")]
const PACING: &[u8] = b"bbr";
#[cfg(target_os = "linux")]
const NOT_PACING: &[u8] = b"reno";

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1024;

/// Dials an address, given by name or number: a socket of this machine if a peer has one there, otherwise the port. The
/// port that the system chooses for this end keeps nobody from listening there: a node whose port lies where the system
/// chooses from starts all the same.
pub(crate) async fn connect(address: &str, config: &EndpointConfig) -> io::Result<Socket> {
    let mut failed = None;
    for address in lookup_host(address).await? {
        if config.local == LocalTransport::Auto
            && let Some(stream) = local::connect(address, &config.tls)
        {
            prepare_unix(&stream);
            return Ok(Socket::unix(stream, config.busy_poll));
        }
        match connect_tcp(address).await {
            Ok(stream) => {
                prepare(&stream)?;
                return Ok(Socket::tcp(stream, config.busy_poll));
            }
            Err(error) => failed = Some(error),
        }
    }
    let no_address = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(failed.unwrap_or_else(no_address))
}

async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = new_tcp(address)?;
    socket.set_reuseaddr(true)?;
    socket.connect(address).await
}

fn new_tcp(address: SocketAddr) -> io::Result<TcpSocket> {
    match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }
}

/// Where connections come in: a port, and the sockets of this machine beside it.
#[derive(Debug)]
pub(crate) struct Listener {
    // They go first: whoever gets the port next finds their names free.
    local: Vec<UnixListener>,
    port: TcpListener,
    address: SocketAddr,
    busy_poll: Duration,
    /// Which of them is asked first.
    turn: usize,
}

/// A connection that has come in.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is ready, and comes from this address.
    Socket(Socket, String),
    /// Whoever it was is nobody to speak with.
    Refused { address: String, reason: String },
    /// It is gone already.
    Gone,
}

/// What has come in, before it is known whether it is good.
enum Incoming {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on an address.
    ///
    /// # Errors
    /// Those of the system. That there can be no socket of this machine beside the port is none.
    pub(crate) fn bind(address: SocketAddr, config: &EndpointConfig) -> io::Result<Self> {
        let port = new_tcp(address)?;
        port.set_reuseaddr(true)?;
        port.bind(address)?;
        let address = port.local_addr()?;
        let local = match config.local {
            LocalTransport::Auto => local::listen(&port, address, &config.tls),
            LocalTransport::Off => Ok(Vec::new()),
        };
        // Last: whoever gets in by the port would have found what is beside it.
        let port = port.listen(BACKLOG)?;
        let local = local.unwrap_or_else(|error| {
            tracing::warn!(
                "peers of this machine reach {address} by TCP alone: its Unix socket cannot be opened: {error}"
            );
            Vec::new()
        });
        Ok(Self {
            local,
            port,
            address,
            busy_poll: config.busy_poll,
            turn: 0,
        })
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of the system, such as a full table of descriptors: the next may succeed.
    pub(crate) async fn accept(&mut self) -> io::Result<Accepted> {
        let incoming = poll_fn(|cx| self.poll_incoming(cx)).await?;
        Ok(match incoming {
            Incoming::Tcp(stream, from) => match prepare(&stream) {
                Ok(()) => Accepted::Socket(Socket::tcp(stream, self.busy_poll), from.to_string()),
                Err(_) => Accepted::Gone,
            },
            Incoming::Unix(stream) => match local::address(&stream, self.address) {
                Err(user) => Accepted::Refused {
                    address: "a Unix socket".to_owned(),
                    reason: format!("it is of another user of this machine ({user})"),
                },
                Ok(address) => {
                    prepare_unix(&stream);
                    let socket = Socket::unix(stream, self.busy_poll);
                    Accepted::Socket(socket, address.to_string())
                }
            },
        })
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        let all = self.local.len() + 1;
        for _ in 0..all {
            // Whoever connects all the time does not keep others out.
            self.turn = (self.turn + 1) % all;
            let came = match self.local.get(self.turn) {
                Some(local) => local
                    .poll_accept(cx)
                    .map_ok(|(stream, _)| Incoming::Unix(stream)),
                None => self
                    .port
                    .poll_accept(cx)
                    .map_ok(|(stream, from)| Incoming::Tcp(stream, from)),
            };
            if came.is_ready() {
                return came;
            }
        }
        Poll::Pending
    }
}

/// Sets what every connection over a Unix socket has.
fn prepare_unix(stream: &UnixStream) {
    // Where less room is allowed the link is slower and nothing else.
    let _ = SockRef::from(stream).set_send_buffer_size(local::SEND_BUFFER);
}

/// Sets what every connection of an endpoint has: no delay of small writes, and an end when
/// the other side's host or the network is gone without a word: within half a minute if nothing is
/// being sent, otherwise within two.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(IDLE)
        .with_interval(INTERVAL)
        .with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    set_unsent(stream, low_water::LOWEST)?;
    #[cfg(target_os = "linux")]
    if stream.peer_addr()?.ip() == stream.local_addr()?.ip()
        && socket.tcp_congestion()?.starts_with(PACING)
    {
        // Where it is not there, or not allowed, the link is slower and nothing else.
        let _ = socket.set_tcp_congestion(NOT_PACING);
    }
    Ok(())
}

/// Sets how many bytes wait in the system unsent at most: what is urgent, as a ping, is not behind more than these on a
/// slow link, and queues are where queues are bounded and counted.
#[cfg(target_os = "linux")]
pub(super) fn set_unsent(stream: &TcpStream, bytes: u32) -> io::Result<()> {
    SockRef::from(stream).set_tcp_notsent_lowat(bytes)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set_unsent(_: &TcpStream, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// What every user may choose.
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

    /// Sixty nodes on one machine never came up: ports of connections were those of listeners to be.
    #[tokio::test]
    async fn the_port_of_a_connection_can_be_listened_on() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = connect_tcp(address).await.unwrap();
        let port = dialled.local_addr().unwrap();
        let (_accepted, _) = listener.accept().await.unwrap();
        TcpListener::bind(port).await.unwrap();
    }

    #[tokio::test]
    async fn both_ends_of_a_connection_notice_that_the_other_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialled = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for stream in [&dialled, &accepted] {
            prepare(stream).unwrap();
            let socket = SockRef::from(stream);
            assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), low_water::LOWEST);
            let allowed = std::fs::read_to_string(ALLOWED).unwrap_or_default();
            if allowed.split_whitespace().any(|name| name == "reno") {
                assert!(!socket.tcp_congestion().unwrap().starts_with(PACING));
            }
        }
    }
}
