//! Who can reach an HTTP service, and whether it is protected enough for that.

use std::net::SocketAddr;

use crate::config::{GatewayTls, Plaintext};
use crate::tls::{ServedTls, TlsProblem};

/// What is missing before a service may listen on an address that others can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Whoever reaches it could use it.
    Token,
    /// What it is told could be read on the way.
    Tls,
}

/// How a service is protected.
#[derive(Debug)]
pub(crate) struct Protection<'a> {
    pub(crate) has_token: bool,
    pub(crate) tls: Option<&'a GatewayTls>,
    pub(crate) plaintext: Plaintext,
}

impl Protection<'_> {
    /// Checks that it is enough for an address, and reads the files of TLS.
    pub(crate) fn served<E>(&self, address: SocketAddr) -> Result<Option<ServedTls>, E>
    where
        E: From<TlsProblem> + From<(Missing, SocketAddr)>,
    {
        if !address.ip().is_loopback() {
            if !self.has_token {
                return Err((Missing::Token, address).into());
            }
            if self.tls.is_none() && self.plaintext != Plaintext::Anywhere {
                return Err((Missing::Tls, address).into());
            }
        }
        Ok(self.tls.map(ServedTls::open).transpose()?)
    }
}
