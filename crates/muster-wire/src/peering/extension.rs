//! What Muster appends to `hello` and `version_select` (`docs/protocol-v2.md`, section 2).

use crate::bytes::{Reader, put_string, put_varint};

/// The number of protocol version 2 on the wire; upstream may one day have a version 2 of its own.
pub(crate) const VERSION_2: u8 = 128;

/// "MSTR".
const MAGIC: [u8; 4] = *b"MSTR";

const VERSIONS: u64 = 1;
const RELAYS: u64 = 4;

/// An offer to speak protocol version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extension {
    /// The lowest and the highest version that the sender speaks besides 1.
    pub(crate) versions: (u8, u8),
    /// Whether the sender relays messages of others.
    pub(crate) relays: bool,
}

impl Extension {
    /// The sender is an endpoint of a mesh, and wants version 1 on this connection.
    pub(crate) const APART: Self = Self {
        versions: (1, 1),
        relays: false,
    };

    pub(crate) fn new(relays: bool) -> Self {
        Self {
            versions: (VERSION_2, VERSION_2),
            relays,
        }
    }

    /// Whether its sender speaks protocol version 2.
    pub(crate) fn has_version_2(self) -> bool {
        let (lowest, highest) = self.versions;
        (lowest..=highest).contains(&VERSION_2)
    }

    /// Reads what stands behind the last field of version 1. What is not Muster's, or cannot be
    /// read, counts as nothing: the peering is then one of version 1.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.array::<4>()? != MAGIC {
            return None;
        }
        let mut versions = None;
        let mut relays = false;
        while !reader.is_empty() {
            let tag = reader.varint()?;
            let field = reader.string()?;
            match (tag, field) {
                (VERSIONS, [lowest, highest, ..]) => versions = Some((*lowest, *highest)),
                (RELAYS, [flag, ..]) => relays = *flag != 0,
                _ => {}
            }
        }
        Some(Self {
            versions: versions?,
            relays,
        })
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (lowest, highest) = self.versions;
        out.extend_from_slice(&MAGIC);
        put_varint(out, VERSIONS);
        put_string(out, &[lowest, highest]);
        put_varint(out, RELAYS);
        put_string(out, &[u8::from(self.relays)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<Extension> {
        Extension::read(&mut Reader::new(bytes))
    }

    #[test]
    fn an_extension_is_read_back_and_unknown_fields_are_skipped() {
        for relays in [false, true] {
            let extension = Extension::new(relays);
            let mut bytes = Vec::new();
            extension.write(&mut bytes);
            assert_eq!(read(&bytes), Some(extension));
            bytes.extend_from_slice(&[9, 2, 1, 2]);
            assert_eq!(read(&bytes), Some(extension));
        }
    }

    /// The example of section 2.1.
    #[test]
    fn the_extension_is_that_of_the_specification() {
        let specification = include_str!("../../../../docs/protocol-v2.md");
        let mut bytes = Vec::new();
        Extension::new(true).write(&mut bytes);
        assert_eq!(bytes, *b"MSTR\x01\x02\x80\x80\x04\x01\x01");
        assert!(specification.contains("4d535452 01 02 8080 04 01 01"));
    }

    #[test]
    fn what_cannot_be_read_counts_as_nothing() {
        for bytes in [
            b"".as_slice(),
            b"MST",
            b"MSTX\x01\x02\x80\x80",
            b"MSTR",
            b"MSTR\x01\x02\x80",
            b"MSTR\x01\x01\x80",
            b"MSTR\x01\x02\x80\x80\x07",
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
        let other = read(b"MSTR\x01\x02\x81\x82").unwrap();
        assert!(!other.has_version_2());
    }
}
