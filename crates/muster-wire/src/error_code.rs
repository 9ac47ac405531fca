//! Broker's error codes, as they stand in a `drop_conn` message.

use std::fmt;

/// A Broker error code (protocol section 7.10). Codes above 40 have no name in Broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u8);

impl ErrorCode {
    /// No reason given.
    pub const UNSPECIFIED: Self = Self(1);
    /// The two sides share no protocol version.
    pub const PEER_INCOMPATIBLE: Self = Self(2);
    /// A message could not be parsed or has an illegal tag.
    pub const INVALID_MESSAGE: Self = Self(20);
    /// The endpoint is shutting down.
    pub const SHUTTING_DOWN: Self = Self(28);
    /// A phase 1 message did not carry Zeek's magic number.
    pub const WRONG_MAGIC_NUMBER: Self = Self(38);
    /// The two endpoints have, or are about to have, another connection.
    pub const REDUNDANT_CONNECTION: Self = Self(39);
    /// The other side broke a rule of the handshake.
    pub const LOGIC_ERROR: Self = Self(40);

    /// The largest code that Broker accepts in a `drop_conn`.
    pub const LAST: Self = Self(40);

    /// Returns Broker's name of the code.
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "none",
            1 => "unspecified",
            2 => "peer_incompatible",
            3 => "peer_invalid",
            4 => "peer_unavailable",
            5 => "peer_disconnect_during_handshake",
            6 => "peer_timeout",
            20 => "invalid_message",
            24 => "connection_timeout",
            28 => "shutting_down",
            29 => "invalid_peering_request",
            30 => "repeated_peering_handshake_request",
            31 => "unexpected_handshake_message",
            32 => "invalid_handshake_state",
            37 => "deserialization_failed",
            38 => "wrong_magic_number",
            39 => "redundant_connection",
            40 => "logic_error",
            _ => "unknown",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}
