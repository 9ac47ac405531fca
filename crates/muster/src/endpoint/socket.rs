//! The options of TCP sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::low_water;

/// How long a connection is silent before the system asks whether the other side is there.
const IDLE: Duration = Duration::from_secs(15);

/// How long after a question without an answer it asks again.
const INTERVAL: Duration = Duration::from_secs(5);

/// After how many questions without an answer the connection is lost.
const PROBES: u32 = 3;

/// How long sent bytes may stay unacknowledged, or the peer's window closed: a peer that reads nothing
/// for so long is given up, shorter pauses cost its queue alone.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// What decides when bytes are sent by a clock, and what does not: between two processes of one machine there is nothing to
/// be paced for, and timers cost more than half of the rate.
#[cfg(target_os = "linux")]
const PACING: &[u8] = b"bbr";
#[cfg(target_os = "linux")]
const NOT_PACING: &[u8] = b"reno";

/// Dials an address, given by name or number. The port that the system chooses for this end keeps nobody from listening
/// there: a node whose port lies where the system chooses from starts all the same.
pub(crate) async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut failed = None;
    for address in lookup_host(address).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    let no_address = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    Err(failed.unwrap_or_else(no_address))
}

/// Sets what every connection of an endpoint has: no delay of small writes, and an end when
/// the other side's host or the network is gone without a word: within half a minute if nothing is
/// being sent, otherwise within two.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
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
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let dialled = connect(&address).await.unwrap();
        let port = dialled.local_addr().unwrap();
        let (_accepted, _) = listener.accept().await.unwrap();
        tokio::net::TcpListener::bind(port).await.unwrap();
    }

    #[tokio::test]
    async fn both_ends_of_a_connection_notice_that_the_other_is_gone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
