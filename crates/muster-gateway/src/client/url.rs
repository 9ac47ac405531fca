//! Addresses of WebSocket servers.

use std::fmt;
use std::str::FromStr;

use axum::http::Uri;

use crate::session::PATH;

/// The address of a WebSocket server: `ws://HOST[:PORT][/PATH]`, or `wss://` for TLS. Without a path it
/// is that of Zeek's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    pub(super) secure: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

/// Why a text is no address of a WebSocket server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address of a WebSocket server, as ws://127.0.0.1:27759 or wss://zeek.example.org"
)]
pub struct UrlError(String);

impl ServerUrl {
    /// Whether the connection is encrypted.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let error = || UrlError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| error())?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(error()),
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(error)?;
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self {
            secure,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            path: match path {
                "" | "/" => PATH.to_owned(),
                path => path.to_owned(),
            },
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        let Self {
            host, port, path, ..
        } = self;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            (
                "ws://127.0.0.1:27759",
                "ws://127.0.0.1:27759/v1/messages/json",
            ),
            (
                "wss://zeek.example.org/",
                "wss://zeek.example.org:443/v1/messages/json",
            ),
            ("ws://[::1]:5/x?y", "ws://[::1]:5/x?y"),
        ];
        for (text, full) in cases {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), full);
        }
        for text in ["127.0.0.1:9999", "http://x", "ws://", "ws://:5", ""] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}
