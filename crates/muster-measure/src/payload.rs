//! What is sent, and how it is read.

use anyhow::Result;
use muster_data::encode_to_vec;
use serde::{Deserialize, Serialize};

use crate::{Conn, Flow};

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A string of 16 bytes.
    #[serde(rename = "16 B")]
    Bytes16,
    /// A record of 12 fields, 128 bytes.
    #[serde(rename = "128 B")]
    Record128,
    /// A record of 20 fields, like a row of conn.log.
    #[serde(rename = "conn.log row")]
    Conn,
    /// A string of 1 KiB.
    #[serde(rename = "1 KiB")]
    Kib1,
    /// A string of 16 KiB.
    #[serde(rename = "16 KiB")]
    Kib16,
    /// A string of 1 MiB.
    #[serde(rename = "1 MiB")]
    Mib1,
}

impl Payload {
    /// All of them, the smallest first.
    pub const ALL: [Self; 6] = [
        Self::Bytes16,
        Self::Record128,
        Self::Conn,
        Self::Kib1,
        Self::Kib16,
        Self::Mib1,
    ];

    /// Returns the payload's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes16 => "16 B",
            Self::Record128 => "128 B",
            Self::Conn => "conn.log row",
            Self::Kib1 => "1 KiB",
            Self::Kib16 => "16 KiB",
            Self::Mib1 => "1 MiB",
        }
    }

    /// Returns the string, or `None` if the payload is a record.
    pub fn string(self) -> Option<Vec<u8>> {
        let length = match self {
            Self::Bytes16 => 16,
            Self::Kib1 => 1 << 10,
            Self::Kib16 => 16 << 10,
            Self::Mib1 => 1 << 20,
            Self::Record128 | Self::Conn => return None,
        };
        Some(vec![b'7'; length])
    }

    /// Returns as many bytes as engines without types send: the string itself, or the encoded
    /// record.
    ///
    /// # Errors
    ///
    /// Never fails, as the records are valid.
    pub fn opaque(self) -> Result<Vec<u8>> {
        Ok(match (self, self.string()) {
            (_, Some(string)) => string,
            (Self::Record128, None) => encode_to_vec(&Flow::sample()?),
            (_, None) => encode_to_vec(&Conn::sample()?),
        })
    }

    /// How many messages make up a step of [`Tally`](crate::Tally): some 256 KiB.
    pub(crate) const fn stride(self) -> u64 {
        match self {
            Self::Bytes16 | Self::Record128 | Self::Conn => 1024,
            Self::Kib1 => 256,
            Self::Kib16 => 16,
            Self::Mib1 => 1,
        }
    }

    /// Returns `true` if looking at the clock for every message costs nothing beside the message.
    pub(crate) const fn is_large(self) -> bool {
        matches!(self, Self::Kib16 | Self::Mib1)
    }
}

/// How a subscriber reads records. Strings are read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// It visits every field in place.
    #[default]
    Borrowed,
    /// It converts each record to a struct.
    Struct,
}

impl Reading {
    /// Returns the name of the way to read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Borrowed => "borrowed",
            Self::Struct => "struct",
        }
    }
}

/// How connections are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// They are not.
    #[default]
    Plain,
    /// Anonymous TLS.
    Anonymous,
    /// TLS with certificates on both sides, those of [`Launcher::with_certificates`](crate::Launcher::with_certificates).
    Mutual,
}

impl Protection {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Anonymous => "anonymous TLS",
            Self::Mutual => "mutual TLS",
        }
    }
}

/// What is sent in a measurement of throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// What a message carries.
    pub payload: Payload,
    /// The number of subscribers, each of which gets every message.
    pub links: u32,
    /// How they read.
    pub reading: Reading,
    /// How connections are protected.
    pub protection: Protection,
    /// Whether the publisher encodes once and sends the same bytes again and again.
    pub encoded_once: bool,
}

impl Traffic {
    /// One publisher and `links` subscribers, which visit every field. Each message is encoded
    /// anew, without TLS.
    pub const fn new(payload: Payload, links: u32) -> Self {
        Self {
            payload,
            links,
            reading: Reading::Borrowed,
            protection: Protection::Plain,
            encoded_once: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_sizes_that_their_names_say() {
        assert_eq!(Payload::Bytes16.opaque().unwrap().len(), 16);
        assert_eq!(Payload::Record128.opaque().unwrap().len(), 128);
        assert_eq!(Payload::Mib1.opaque().unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_payload_s_name_is_its_serialized_form() {
        for payload in Payload::ALL {
            let text = serde_json::to_string(&payload).unwrap();
            assert_eq!(text, format!("{:?}", payload.name()));
        }
    }
}
