//! Ports for processes that are about to start.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below what Linux hands out for outgoing connections (`net.ipv4.ip_local_port_range`, from 32,768 on): there, any
/// connection of any process may take a port between its choice and its use.
const PORTS: Range<u16> = 10_000..32_768;

/// Returns `count` different ports on which nothing listens on 127.0.0.1, from 10,000 to 32,767.
///
/// They are chosen at random, so two processes that ask at the same time are unlikely to choose the
/// same.
///
/// # Errors
///
/// Fails with [`AddrInUse`](io::ErrorKind::AddrInUse) if there are not enough.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let random = RandomState::new().hash_one(std::process::id());
    let start = random % u64::from(PORTS.end - PORTS.start);
    let start = PORTS.start + u16::try_from(start).expect("it is below the number of ports");
    let mut ports = Vec::new();
    for port in (start..PORTS.end).chain(PORTS.start..start) {
        if ports.len() == count {
            return Ok(ports);
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.push(port);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_different_and_free() {
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        // Another process of this machine may have taken one meanwhile, but not most.
        let free = |port: &&u16| TcpListener::bind((Ipv4Addr::LOCALHOST, **port)).is_ok();
        assert!(ports.iter().filter(free).count() > 10);
    }

    #[test]
    fn more_ports_than_there_are_is_an_error() {
        let error = free_ports(usize::from(PORTS.end)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
