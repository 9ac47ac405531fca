//! What Muster appends to `hello` and `version_select` (`docs/protocol-v2.md`, section 2).

use crate::bytes::{Reader, put_string, put_varint};

/// The number of protocol version 2 on the wire; upstream may one day have a version 2 of its own.
pub(crate) const VERSION_2: u8 = 128;

/// "MSTR".
const MAGIC: [u8; 4] = *b"MSTR";

const VERSIONS: u64 = 1;
const RELAYS: u64 = 4;
const COMPRESSIONS: u64 = 5;

/// The compression of frames by zstd.
const ZSTD: u8 = 1;

/// An offer to speak protocol version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extension {
    /// The lowest and the highest version that the sender speaks besides 1.
    pub(crate) versions: (u8, u8),
    /// Whether the sender relays messages of others.
    pub(crate) relays: bool,
    /// Whether the sender reads frames that zstd has compressed.
    pub(crate) reads_zstd: bool,
}

impl Extension {
    /// The sender is an endpoint of a mesh, and wants version 1 on this connection.
    pub(crate) const APART: Self = Self {
        versions: (1, 1),
        relays: false,
        reads_zstd: false,
    };

    pub(crate) fn new(relays: bool) -> Self {
        Self {
            versions: (VERSION_2, VERSION_2),
            relays,
            reads_zstd: true,
        }
    }

    /// Returns `true` if its sender speaks protocol version 2.
    pub(crate) fn has_version_2(self) -> bool {
        let (lowest, highest) = self.versions;
        (lowest..=highest).contains(&VERSION_2)
    }

    /// Reads what follows the last field of version 1. What is not Muster's, or cannot be
    /// read, counts as nothing: the peering is then one of version 1.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.array::<4>()? != MAGIC {
            return None;
        }
        let mut versions = None;
        let mut relays = false;
        let mut reads_zstd = false;
        while !reader.is_empty() {
            let tag = reader.varint()?;
            let field = reader.string()?;
            match (tag, field) {
                (VERSIONS, [lowest, highest, ..]) => versions = Some((*lowest, *highest)),
                (RELAYS, [flag, ..]) => relays = *flag != 0,
                (COMPRESSIONS, known) => reads_zstd = known.contains(&ZSTD),
                _ => {}
            }
        }
        Some(Self {
            versions: versions?,
            relays,
            reads_zstd,
        })
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (lowest, highest) = self.versions;
        out.extend_from_slice(&MAGIC);
        put_varint(out, VERSIONS);
        put_string(out, &[lowest, highest]);
        put_varint(out, RELAYS);
        put_string(out, &[u8::from(self.relays)]);
        if self.reads_zstd {
            put_varint(out, COMPRESSIONS);
            put_string(out, &[ZSTD]);
        }
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
        assert_eq!(bytes, *b"MSTR\x01\x02\x80\x80\x04\x01\x01\x05\x01\x01");
        assert!(specification.contains("4d535452 01 02 8080 04 01 01 05 01 01"));
    }

    #[test]
    fn who_does_not_say_so_reads_nothing_compressed() {
        for (field, reads_zstd) in [
            (&b""[..], false),
            (b"\x05\x00", false),
            (b"\x05\x02\x02\x09", false),
            (b"\x05\x02\x02\x01", true),
        ] {
            let bytes = [b"MSTR\x01\x02\x80\x80", field].concat();
            assert_eq!(read(&bytes).unwrap().reads_zstd, reads_zstd);
        }
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
