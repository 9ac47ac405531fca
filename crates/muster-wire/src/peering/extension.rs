//! What Muster appends to `hello` and `version_select` (`docs/protocol-v2.md`, section 2).

use super::cluster::ClusterName;
use crate::bytes::{Reader, put_string, put_varint};

/// The number of protocol version 2 on the wire; upstream may one day have a version 2 of its own.
pub(crate) const VERSION_2: u8 = 128;

/// "MSTR".
const MAGIC: [u8; 4] = *b"MSTR";

const VERSIONS: u64 = 1;
const RELAYS: u64 = 4;
const COMPRESSIONS: u64 = 5;
const CLUSTER: u64 = 6;
const LARGEST_FRAME: u64 = 7;
const RUNS: u64 = 8;

/// The compression of frames by zstd.
const ZSTD: u8 = 1;

/// An offer to speak protocol version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extension {
    /// The lowest and the highest version that the sender speaks besides 1. `None` if it is in no mesh: then only what
    /// it says else is of interest.
    pub(crate) versions: Option<(u8, u8)>,
    /// Whether the sender relays messages of others.
    pub(crate) relays: bool,
    /// Whether the sender reads frames that zstd has compressed.
    pub(crate) reads_zstd: bool,
    /// Whether the sender reads runs of messages.
    pub(crate) reads_runs: bool,
    /// The cluster that the sender belongs to, if it says so.
    pub(crate) cluster: Option<ClusterName>,
    /// The largest payload of a frame that the sender reads after the handshake, if it says so.
    pub(crate) largest_frame: Option<u64>,
}

impl Extension {
    /// The sender is an endpoint of a mesh, and wants version 1 on this connection.
    pub(crate) const APART: Self = Self {
        versions: Some((1, 1)),
        relays: false,
        reads_zstd: false,
        reads_runs: false,
        cluster: None,
        largest_frame: None,
    };

    /// The sender is in no mesh. Programs that know no clusters take what has no versions for no
    /// extension.
    pub(crate) const OUTSIDE: Self = Self {
        versions: None,
        ..Self::APART
    };

    pub(crate) fn new(relays: bool) -> Self {
        Self {
            versions: Some((VERSION_2, VERSION_2)),
            relays,
            reads_zstd: true,
            reads_runs: true,
            cluster: None,
            largest_frame: None,
        }
    }

    /// Returns `true` if its sender speaks protocol version 2.
    pub(crate) fn has_version_2(&self) -> bool {
        self.versions
            .is_some_and(|(lowest, highest)| (lowest..=highest).contains(&VERSION_2))
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
        let mut reads_runs = false;
        let mut cluster = None;
        let mut largest_frame = None;
        while !reader.is_empty() {
            let tag = reader.varint()?;
            let field = reader.string()?;
            match (tag, field) {
                (VERSIONS, [lowest, highest, ..]) => versions = Some((*lowest, *highest)),
                (VERSIONS, _) => return None,
                (RELAYS, [flag, ..]) => relays = *flag != 0,
                (CLUSTER, name) => cluster = ClusterName::read(name),
                (LARGEST_FRAME, size) => largest_frame = Reader::new(size).varint(),
                (RUNS, [flag, ..]) => reads_runs = *flag != 0,
                (COMPRESSIONS, known) => reads_zstd = known.contains(&ZSTD),
                _ => {}
            }
        }
        Some(Self {
            versions,
            relays,
            reads_zstd,
            reads_runs,
            cluster,
            largest_frame,
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        if let Some((lowest, highest)) = self.versions {
            put_varint(out, VERSIONS);
            put_string(out, &[lowest, highest]);
            put_varint(out, RELAYS);
            put_string(out, &[u8::from(self.relays)]);
        }
        if self.reads_zstd {
            put_varint(out, COMPRESSIONS);
            put_string(out, &[ZSTD]);
        }
        if self.reads_runs {
            put_varint(out, RUNS);
            put_string(out, &[1]);
        }
        if let Some(cluster) = &self.cluster {
            put_varint(out, CLUSTER);
            put_string(out, cluster.as_str().as_bytes());
        }
        if let Some(largest) = self.largest_frame {
            let mut size = Vec::new();
            put_varint(&mut size, largest);
            put_varint(out, LARGEST_FRAME);
            put_string(out, &size);
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
            assert_eq!(read(&bytes).as_ref(), Some(&extension));
            bytes.extend_from_slice(&[9, 2, 1, 2]);
            assert_eq!(read(&bytes), Some(extension));
        }
    }

    #[test]
    fn a_cluster_and_the_largest_frame_are_read_back() {
        let extension = Extension {
            cluster: Some(ClusterName::new("sensors-east").unwrap()),
            largest_frame: Some(64 << 20),
            ..Extension::new(true)
        };
        let mut bytes = Vec::new();
        extension.write(&mut bytes);
        assert!(bytes.ends_with(b"\x06\x0csensors-east\x07\x04\x80\x80\x80\x20"));
        assert_eq!(read(&bytes), Some(extension));
        // What is no name, and what is no number, is not said.
        for field in [
            &b"\x06\x00"[..],
            b"\x06\x01\xff",
            b"\x07\x00",
            b"\x07\x01\x80",
        ] {
            let bytes = [b"MSTR\x01\x02\x80\x80", field].concat();
            let read = read(&bytes).unwrap();
            assert_eq!(
                (read.cluster, read.largest_frame),
                (None, None),
                "{field:?}"
            );
        }
        let mut long = b"MSTR\x01\x02\x80\x80\x06\x80\x02".to_vec();
        long.resize(long.len() + 256, b'x');
        assert_eq!(read(&long).unwrap().cluster, None);
    }

    /// The example of section 2.1.
    #[test]
    fn the_extension_is_that_of_the_specification() {
        let specification = include_str!("../../../../docs/protocol-v2.md");
        let mut bytes = Vec::new();
        Extension::new(true).write(&mut bytes);
        assert_eq!(
            bytes,
            *b"MSTR\x01\x02\x80\x80\x04\x01\x01\x05\x01\x01\x08\x01\x01"
        );
        assert!(specification.contains("4d535452 01 02 8080 04 01 01 05 01 01 08 01 01"));
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
    fn who_does_not_say_so_reads_no_runs() {
        for (field, reads_runs) in [
            (&b""[..], false),
            (b"\x08\x00", false),
            (b"\x08\x01\x00", false),
            (b"\x08\x02\x01\x09", true),
        ] {
            let bytes = [b"MSTR\x01\x02\x80\x80", field].concat();
            assert_eq!(read(&bytes).unwrap().reads_runs, reads_runs, "{field:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_as_nothing() {
        for bytes in [
            b"".as_slice(),
            b"MST",
            b"MSTX\x01\x02\x80\x80",
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
