//! Address prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use crate::Address;
use crate::text::{ParseError, ParseErrorKind};

const EXPECTED: &str = "a subnet such as 10.0.0.0/8 or 2001:db8::/32";

/// An address prefix.
///
/// The wire length counts bits of the IPv6 form: `10.0.0.0/8` has length 104. Values from the
/// network may have bits below the prefix and lengths above 128; both are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    address: Address,
    length: u8,
}

/// The error for a prefix length that the address family does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("prefix length {length} exceeds {most}")]
pub struct SubnetError {
    length: u8,
    most: u8,
}

impl Subnet {
    /// Makes the prefix of an address, with the bits below it cleared. The length counts bits of
    /// the address's own family: up to 32 for IPv4, up to 128 for IPv6.
    ///
    /// # Errors
    ///
    /// Fails if the length is more than that.
    pub fn new(address: Address, length: u8) -> Result<Self, SubnetError> {
        let (most, shift) = if address.is_v4() { (32, 96) } else { (128, 0) };
        if length > most {
            return Err(SubnetError { length, most });
        }
        let length = length + shift;
        let bits = u128::from_be_bytes(*address.as_bytes()) & mask(length);
        Ok(Self {
            address: Address::from_bytes(bits.to_be_bytes()),
            length,
        })
    }

    /// Makes a prefix exactly as on the wire. Nothing is checked or cleared, and the length counts
    /// bits of the IPv6 form.
    #[inline]
    pub const fn from_wire(address: Address, length: u8) -> Self {
        Self { address, length }
    }

    /// Returns the address.
    #[inline]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Returns the length in bits of the IPv6 form, as on the wire.
    #[inline]
    pub const fn wire_length(&self) -> u8 {
        self.length
    }

    /// Returns the length in bits of the address's own family, as written after the slash.
    pub fn length(&self) -> u8 {
        if self.is_v4() {
            self.length - 96
        } else {
            self.length
        }
    }

    /// Returns `true` if this is an IPv4 prefix.
    pub fn is_v4(&self) -> bool {
        self.address.is_v4() && (96..=128).contains(&self.length)
    }

    /// Returns `true` if the address lies in the prefix.
    pub fn contains(&self, address: &Address) -> bool {
        let different = u128::from_be_bytes(*self.address.as_bytes())
            ^ u128::from_be_bytes(*address.as_bytes());
        different & mask(self.length) == 0
    }

    /// Reads the text form, but takes an IPv6 length up to 255, which only values from the wire have.
    pub(crate) fn from_text_unchecked(text: &str) -> Result<Self, ParseError> {
        match text.split_once('/') {
            Some((address, length)) if address.contains(':') => {
                let address = address.parse::<Ipv6Addr>().map_err(|_| malformed(text))?;
                Ok(Self::from_wire(address.into(), parse_length(length, text)?))
            }
            Some((address, length)) => {
                let address = address.parse::<Address>().map_err(|_| malformed(text))?;
                let length = parse_length(length, text)?;
                if length > 32 {
                    return Err(ParseError::new(
                        ParseErrorKind::OutOfRange,
                        0,
                        text,
                        EXPECTED,
                    ));
                }
                Ok(Self::from_wire(address, length + 96))
            }
            None => Err(malformed(text)),
        }
    }
}

fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        1..=127 => u128::MAX << (128 - length),
        _ => u128::MAX,
    }
}

fn malformed(text: &str) -> ParseError {
    ParseError::new(ParseErrorKind::Malformed, 0, text, EXPECTED)
}

fn parse_length(length: &str, text: &str) -> Result<u8, ParseError> {
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed(text));
    }
    length
        .parse()
        .map_err(|_| ParseError::new(ParseErrorKind::OutOfRange, 0, text, EXPECTED))
}

impl Subnet {
    /// Returns the text that Zeek writes in logs and hashes for keys.
    pub fn to_zeek_text(&self) -> String {
        format!("{}/{}", self.address.to_zeek_text(), self.length())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v4() {
            write!(f, "{}/{}", self.address, self.length())
        } else {
            write!(
                f,
                "{}/{}",
                Ipv6Addr::from(*self.address.as_bytes()),
                self.length
            )
        }
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Subnet {
    type Err = ParseError;

    /// Bits below the prefix are kept; a length beyond the address family is an error.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let subnet = Self::from_text_unchecked(text)?;
        if subnet.length > 128 {
            return Err(ParseError::new(
                ParseErrorKind::OutOfRange,
                0,
                text,
                EXPECTED,
            ));
        }
        Ok(subnet)
    }
}

impl From<IpAddr> for Subnet {
    /// The prefix that holds this address alone.
    fn from(address: IpAddr) -> Self {
        Self {
            address: address.into(),
            length: 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_bits_of_the_ipv6_form() {
        let subnet: Subnet = "10.0.0.0/8".parse().unwrap();
        assert_eq!(subnet.wire_length(), 104);
        assert_eq!(subnet.length(), 8);
        assert_eq!(Subnet::new("10.1.2.3".parse().unwrap(), 8), Ok(subnet));
        assert!(Subnet::new("10.1.2.3".parse().unwrap(), 33).is_err());
        assert!("10.0.0.0/33".parse::<Subnet>().is_err());
        assert!("::/129".parse::<Subnet>().is_err());
    }

    #[test]
    fn contains_by_bits() {
        let subnet: Subnet = "10.1.0.0/16".parse().unwrap();
        assert!(subnet.contains(&"10.1.255.3".parse().unwrap()));
        assert!(!subnet.contains(&"10.2.0.0".parse().unwrap()));
        assert!(!subnet.contains(&"::1".parse().unwrap()));
        let all: Subnet = "::/0".parse().unwrap();
        assert!(all.contains(&"1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn impossible_lengths_are_shown() {
        let zero = Address::from_bytes([0; 16]);
        assert_eq!(Subnet::from_wire(zero, 200).to_string(), "::/200");
        let mapped: Address = "1.2.3.4".parse().unwrap();
        assert_eq!(
            Subnet::from_wire(mapped, 40).to_string(),
            "::ffff:1.2.3.4/40"
        );
        assert_eq!(
            Subnet::from_wire(mapped, 200).to_string(),
            "::ffff:1.2.3.4/200"
        );
        assert_eq!(Subnet::from_wire(mapped, 128).to_string(), "1.2.3.4/32");
    }
}
