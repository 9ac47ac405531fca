//! Transport ports.

use std::fmt;
use std::str::FromStr;

use crate::text::{ParseError, ParseErrorKind};

/// The transport protocol of a port. The numbers are those of the encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// Not known.
    #[default]
    Unknown = 0,
    /// TCP.
    Tcp = 1,
    /// UDP.
    Udp = 2,
    /// ICMP. The port's number is then the message type.
    Icmp = 3,
}

impl Protocol {
    /// Returns the protocol with a number, or `None` if there is none.
    #[inline]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Unknown),
            1 => Some(Self::Tcp),
            2 => Some(Self::Udp),
            3 => Some(Self::Icmp),
            _ => None,
        }
    }

    /// Returns the name as Zeek writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// Protocol of a name; `?` is C++ Broker's way to write an unknown one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "unknown" | "?" => Some(Self::Unknown),
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "icmp" => Some(Self::Icmp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A port number with its protocol. Ports are ordered by number, then by protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The port number.
    pub number: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl Port {
    /// Makes a port of its parts.
    #[inline]
    pub const fn new(number: u16, protocol: Protocol) -> Self {
        Self { number, protocol }
    }

    /// Makes a TCP port.
    pub const fn tcp(number: u16) -> Self {
        Self::new(number, Protocol::Tcp)
    }

    /// Makes a UDP port.
    pub const fn udp(number: u16) -> Self {
        Self::new(number, Protocol::Udp)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Port {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "a port such as 80/tcp (tcp, udp, icmp or unknown)";
        let error = |kind| ParseError::new(kind, 0, text, expected);
        let (number, name) = text
            .split_once('/')
            .ok_or_else(|| error(ParseErrorKind::Malformed))?;
        let protocol = Protocol::from_name(name).ok_or_else(|| error(ParseErrorKind::Malformed))?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error(ParseErrorKind::Malformed));
        }
        let number = number
            .parse()
            .map_err(|_| error(ParseErrorKind::OutOfRange))?;
        Ok(Self { number, protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        for text in ["80/tcp", "53/udp", "8/icmp", "7/unknown"] {
            assert_eq!(text.parse::<Port>().unwrap().to_string(), text);
        }
        assert_eq!("7/?".parse::<Port>(), Ok(Port::new(7, Protocol::Unknown)));
        let range = "65536/tcp".parse::<Port>().unwrap_err();
        assert_eq!(range.kind(), ParseErrorKind::OutOfRange);
        for text in ["80", "80/", "/tcp", "+80/tcp", "80/sctp"] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }
}
