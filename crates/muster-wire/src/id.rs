//! Endpoint ids and incarnations: who a peer is, and which of its lives.

use std::fmt;
use std::str::FromStr;

/// The identity of one life of an endpoint: 16 opaque bytes, compared bytewise and printed as a
/// UUID.
///
/// The endpoint with the smaller id is the originator of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EndpointId([u8; 16]);

impl EndpointId {
    /// The nil id: "nobody" as a sender, "everybody" as a receiver.
    pub const NIL: Self = Self([0; 16]);

    /// Wraps 16 bytes as they stand on the wire.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Makes a version 4 UUID from 16 random bytes.
    ///
    /// Broker's text parser takes UUID versions 1 to 5 only; an id of another version would be
    /// accepted on the wire and then ignored by Zeek.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns `true` if this is the nil id.
    pub fn is_nil(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an endpoint id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an endpoint id (expected 8-4-4-4-12 hexadecimal digits): {0:?}")]
pub struct EndpointIdError(String);

impl FromStr for EndpointId {
    type Err = EndpointIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || EndpointIdError(text.chars().take(64).collect());
        let raw = text.as_bytes();
        if raw.len() != 36 {
            return Err(error());
        }
        let mut bytes = [0u8; 16];
        let mut nibble = 0;
        for (index, &character) in raw.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if character != b'-' {
                    return Err(error());
                }
                continue;
            }
            let digit = match character {
                b'0'..=b'9' => character - b'0',
                b'a'..=b'f' => character - b'a' + 10,
                b'A'..=b'F' => character - b'A' + 10,
                _ => return Err(error()),
            };
            bytes[nibble / 2] |= if nibble % 2 == 0 { digit << 4 } else { digit };
            nibble += 1;
        }
        Ok(Self(bytes))
    }
}

/// Orders the lives of one node: its start time in nanoseconds since 1970, raised above the last
/// life seen under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let id = EndpointId::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for text in [
            "",
            "abc",
            "ffffffff-ffff-4fff-bfff-fffffffffffg",
            "ffffffff+ffff-4fff-bfff-ffffffffffff",
        ] {
            assert!(text.parse::<EndpointId>().is_err(), "{text}");
        }
    }
}
