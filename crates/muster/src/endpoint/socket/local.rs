//! Unix sockets between peers of one machine. Beside each port on which an endpoint listens there is a socket in the
//! abstract namespace, under a name that says whose it is, for which address, and how TLS is set. A dialler of an
//! address of its own machine looks there first.
//!
//! The namespace belongs to the network namespace, as ports do: whoever cannot reach the port does not find the socket
//! either. A name is gone with the process that has it. Anybody may take any name, so each side asks the system who
//! the other is, and takes nobody but its own user.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Socket as RawSocket, Type};
use tokio::net::{TcpSocket, UnixListener, UnixStream};

use super::BACKLOG;
use crate::endpoint::tls::Tls;

/// The bytes that wait in the system for a peer to read them: it allows twice as many, and counts its own memory with
/// them. With what Linux gives by itself each side waits for the other too often; more than this gains nothing, leaves
/// the caches, and holds up what is urgent behind what is large. A system whose `net.core.wmem_max` is lower allows less.
pub(super) const SEND_BUFFER: usize = 512 << 10;

/// Where names begin: a later way of connecting has others.
const NAMES: &str = "muster/1";

/// Who everybody is that the system has no user for here, at home in another user namespace: no identity.
const NOBODY: u32 = 65_534;

/// Opens the sockets beside a port that has its address and is about to be listened on.
///
/// # Errors
/// Those of the system. The name is taken if another process has it, whoever that is.
pub(super) fn listen(
    port: &TcpSocket,
    address: SocketAddr,
    tls: &Tls,
) -> io::Result<Vec<UnixListener>> {
    let Some(user) = user() else {
        return Ok(Vec::new());
    };
    let address = canonical(address);
    let mut addresses = vec![address];
    // One that listens on all addresses of IPv6 does so on those of IPv4, unless the system is told otherwise.
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !SockRef::from(port).only_v6()? {
        addresses.push((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    let opened = addresses.into_iter().map(|address| {
        let socket = new_socket()?;
        socket.bind(&abstract_name(&name(user, tls, address))?)?;
        socket.listen(BACKLOG.cast_signed())?;
        UnixListener::from_std(socket.into())
    });
    opened.collect()
}

/// Connects to the socket beside an address of this machine, if one of our own user is there.
pub(super) fn connect(address: SocketAddr, tls: &Tls) -> Option<UnixStream> {
    let address = canonical(address);
    let user = user()?;
    let (ip, port) = (address.ip(), address.port());
    let loopback: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    // Whoever dials all addresses reaches itself.
    let address = if ip.is_unspecified() {
        (loopback, port).into()
    } else {
        address
    };
    if !is_of_this_machine(address.ip()) {
        return None;
    }
    let all: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let places = [address, (all, port).into()];
    places
        .into_iter()
        .find_map(|place| connect_to(&name(user, tls, place), user, address.ip()).ok())
}

fn connect_to(name: &str, user: u32, dialled: IpAddr) -> io::Result<UnixStream> {
    let socket = new_socket()?;
    socket.bind(&abstract_name(&own_name(user, dialled)?)?)?;
    // At once, or not at all: it does not wait for a listener whose queue is full.
    socket.connect(&abstract_name(name)?)?;
    let stream = UnixStream::from_std(socket.into())?;
    match stream.peer_cred()?.uid() {
        other if other == user => Ok(stream),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// The address of a process that has connected, as far as it has one: the one that it dialled, which is that of its own
/// machine.
///
/// # Errors
/// The user that it runs as, if that is not our own.
pub(super) fn address(stream: &UnixStream, beside: SocketAddr) -> Result<IpAddr, String> {
    let other = stream.peer_cred().map(|other| other.uid());
    let is_ours = user().is_some_and(|user| other.as_ref().is_ok_and(|other| *other == user));
    if !is_ours {
        let other = other.map_or_else(|error| error.to_string(), |other| other.to_string());
        return Err(other);
    }
    Ok(
        said_to_be_dialled(stream).unwrap_or(match canonical(beside).ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        }),
    )
}

/// What a dialler says by its own name.
#[cfg(target_os = "linux")]
fn said_to_be_dialled(stream: &UnixStream) -> Option<IpAddr> {
    let from = stream.peer_addr().ok()?;
    let name = std::str::from_utf8(from.as_abstract_name()?).ok()?;
    let (_, rest) = name.split_once("/from/")?;
    rest.split('/').next()?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn said_to_be_dialled(_: &UnixStream) -> Option<IpAddr> {
    None
}

/// The user that this process runs as, unless that says nothing about who it is.
fn user() -> Option<u32> {
    let user = rustix::process::geteuid().as_raw();
    (cfg!(target_os = "linux") && user != NOBODY).then_some(user)
}

fn new_socket() -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The name of the socket beside a port. Sides that differ in TLS do not meet here but at the port, where they are told.
fn name(user: u32, tls: &Tls, address: SocketAddr) -> String {
    format!("{NAMES}/{user}/tls-{}/{address}", tls.name())
}

/// A name of a dialler, which no other has: it says what was dialled.
fn own_name(user: u32, dialled: IpAddr) -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let random = u64::from_ne_bytes(random);
    Ok(format!("{NAMES}/{user}/from/{dialled}/{random:016x}"))
}

fn abstract_name(name: &str) -> io::Result<SockAddr> {
    SockAddr::unix(Path::new(&format!("\0{name}")))
}

/// An address of IPv4 as that, however it is written, and without what says nothing about where it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    let ip = address.ip().to_canonical();
    match address {
        SocketAddr::V6(mut v6) if ip.is_ipv6() => {
            v6.set_flowinfo(0);
            v6.into()
        }
        _ => (ip, address.port()).into(),
    }
}

/// Whether an address is one of this machine, as seen from this network namespace. Nothing is sent.
fn is_of_this_machine(ip: IpAddr) -> bool {
    if ip.is_loopback() {
        return true;
    }
    if ip.is_multicast() || ip.is_unspecified() {
        return false;
    }
    let can_be_bound = UdpSocket::bind((ip, 0)).is_ok();
    can_be_bound && (binds_own_addresses_only(ip) || is_reached_from_itself(ip))
}

/// Whether the system lets nobody bind an address that it does not have.
fn binds_own_addresses_only(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let setting = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    setting.is_ok_and(|setting| setting.trim() == "0")
}

/// Whether whoever sends to an address does so from that address.
fn is_reached_from_itself(ip: IpAddr) -> bool {
    let all: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = UdpSocket::bind((all, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == ip)
}
