//! Network addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::text::{ParseError, ParseErrorKind};

/// An IPv4 or IPv6 address. IPv4 is held in its mapped form, `::ffff:a.b.c.d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address([u8; 16]);

impl Address {
    const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

    /// Makes an address from the 16 bytes of its IPv6 form, as on the wire.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes of the IPv6 form.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns `true` if this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0.starts_with(&Self::V4_PREFIX)
    }

    /// Returns the address as a standard library type. Mapped addresses become IPv4.
    pub fn to_ip(&self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }

    /// Returns the text that Zeek writes in logs and hashes for keys. It is the usual text, except
    /// that the last four bytes are dotted after `::` and `::ffff:0:` as well.
    pub fn to_zeek_text(&self) -> String {
        if let IpAddr::V6(v6) = self.to_ip() {
            let words = v6.segments();
            let [.., a, b, c, d] = v6.octets();
            if words[..6] == [0; 6] && words[6] != 0 {
                return format!("::{a}.{b}.{c}.{d}");
            }
            if words[..6] == [0, 0, 0, 0, 0xffff, 0] {
                return format!("::ffff:0:{a}.{b}.{c}.{d}");
            }
        }
        self.to_string()
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.to_ipv6_mapped().octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        address.to_ip()
    }
}

impl fmt::Display for Address {
    /// IPv4 dotted, IPv6 as in RFC 5952.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse::<IpAddr>().map(Self::from).map_err(|_| {
            ParseError::new(
                ParseErrorKind::Malformed,
                0,
                text,
                "an address such as 10.0.0.1 or ::1",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        for text in ["10.1.2.3", "2001:db8::1", "::", "::1", "fe80::1:0:0:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "::ffff:1.2.3.4".parse::<Address>().unwrap().to_string(),
            "1.2.3.4"
        );
        for (text, zeeks) in [
            ("::102:304", "::1.2.3.4"),
            ("::ffff:0:102:304", "::ffff:0:1.2.3.4"),
            ("::2", "::2"),
            ("1.2.3.4", "1.2.3.4"),
            ("64:ff9b::102:304", "64:ff9b::102:304"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_zeek_text(), zeeks);
        }
        assert!("1.2.3".parse::<Address>().is_err());
        assert!("1.2.3.4".parse::<Address>().unwrap().is_v4());
        assert!(!"::1.2.3.4".parse::<Address>().unwrap().is_v4());
    }
}
