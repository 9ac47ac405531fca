//! Those that speak another protocol at a peer port, known by their first bytes.

use std::fmt;

/// A protocol that has nothing to do at a peer port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignProtocol {
    /// HTTP: a browser, a monitor, or a WebSocket client.
    Http,
    /// SSH.
    Ssh,
    /// Lines of text of some other protocol.
    Text,
}

/// How the first lines of HTTP begin, of requests and of answers.
const HTTP: [&[u8]; 10] = [
    b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"CONN", b"OPTI", b"TRAC", b"PATC", b"PRI ",
];

/// How many first bytes tell protocols apart.
pub(crate) const TELLING: usize = 4;

/// The first two bytes of a TLS connection: a handshake record of TLS 1.x.
pub(crate) const TLS_RECORD: [u8; 2] = [0x16, 0x03];

/// The first two bytes of a TLS side that complains.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// A complaint of TLS that its version is not spoken, which is how a side without TLS sees that the other has it.
pub(crate) const ALERT: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70];

impl ForeignProtocol {
    /// Returns whose first bytes these are, if it is known.
    pub(crate) fn of(first: &[u8]) -> Option<Self> {
        let first = first.first_chunk::<TELLING>()?;
        if HTTP.contains(&&first[..]) || first == b"HTTP" {
            return Some(Self::Http);
        }
        if first == b"SSH-" {
            return Some(Self::Ssh);
        }
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        first.iter().all(is_text).then_some(Self::Text)
    }
}

/// Returns `true` if these are the first bytes of a side that speaks TLS.
pub(crate) fn is_tls(first: &[u8]) -> bool {
    first.starts_with(&TLS_RECORD) || first.starts_with(&TLS_ALERT)
}

impl fmt::Display for ForeignProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => {
                "the other side speaks HTTP, and this is for peers (Broker's protocol): WebSocket clients, bridges and \
                 monitors have ports of their own"
            }
            Self::Ssh => "the other side speaks SSH, and this is for peers (Broker's protocol): check host and port",
            Self::Text => {
                "the other side sends text, and this is for peers (Broker's protocol): check host and port"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_known_by_their_first_bytes() {
        for (first, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(ForeignProtocol::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(ForeignProtocol::Http)),
            (b"HTTP/1.1 400 Bad Request", Some(ForeignProtocol::Http)),
            (b"SSH-2.0-OpenSSH_9", Some(ForeignProtocol::Ssh)),
            (b"220 mail ESMTP", Some(ForeignProtocol::Text)),
            (b"GET", None),
            (&[0, 0, 0, 0x17, 6], None),
            (&[0x16, 3, 1, 2], None),
        ] {
            assert_eq!(ForeignProtocol::of(first), expected, "{first:?}");
        }
        assert!(is_tls(&[0x16, 3, 1]) && is_tls(&ALERT) && !is_tls(b"GET "));
    }
}
