//! The bytes of a segment. The crate's documentation describes them.

use crc32fast::Hasher;

use crate::JournalName;

/// What every segment begins with.
const MAGIC: [u8; 8] = *b"MUSTRSPL";

/// The version of the format.
const VERSION: u32 = 1;

/// The length of a segment's file header: magic, version, segment number, checksum.
pub(crate) const FILE_HEADER: u64 = 24;

/// The length of what stands before a record's bytes: length, checksum, kind.
pub(crate) const RECORD_HEAD: u64 = 9;

/// What the file header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// What it should say.
    Whole,
    /// It is whole and says that this is something else.
    Foreign,
    /// As whole, except that bytes are missing or zero: so a crash leaves a file that was just
    /// created.
    Unwritten,
    /// Anything else.
    Damaged,
}

/// Checksums of one segment. They cover the name of the journal, the number of the segment and the
/// offset, so that nothing fits anywhere else.
#[derive(Debug, Clone)]
pub(crate) struct Seal {
    segment: u64,
    /// Has seen the name.
    named: Hasher,
}

impl Seal {
    pub(crate) fn new(name: &JournalName, segment: u64) -> Self {
        let mut named = Hasher::new();
        named.update(name.as_str().as_bytes());
        Self { segment, named }
    }

    /// Appends the file header.
    pub(crate) fn put_header(&self, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.segment.to_be_bytes());
        let mut hasher = self.named.clone();
        hasher.update(&out[from..]);
        out.extend_from_slice(&hasher.finalize().to_be_bytes());
    }

    /// Judges the first [`FILE_HEADER`] bytes of a file, or all of a shorter one.
    pub(crate) fn judge(&self, bytes: &[u8]) -> Header {
        let mut expected = Vec::new();
        self.put_header(&mut expected);
        if bytes == expected {
            return Header::Whole;
        }
        if let Some((said, checksum)) = bytes.split_last_chunk::<4>() {
            let mut hasher = self.named.clone();
            hasher.update(said);
            if bytes.len() == expected.len()
                && bytes.starts_with(&MAGIC)
                && hasher.finalize() == u32::from_be_bytes(*checksum)
            {
                return Header::Foreign;
            }
        }
        let mut pairs = bytes.iter().zip(&expected);
        if pairs.all(|(byte, expected)| *byte == 0 || byte == expected) {
            return Header::Unwritten;
        }
        Header::Damaged
    }

    /// Appends a record that will be at an offset.
    pub(crate) fn put_record(&self, offset: u64, kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let checksum = self.checksum(offset, length, kind, bytes);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&checksum.to_be_bytes());
        out.push(kind);
        out.extend_from_slice(bytes);
    }

    /// Returns the checksum of a record.
    pub(crate) fn checksum(&self, offset: u64, length: u32, kind: u8, bytes: &[u8]) -> u32 {
        let mut place = [0; 21];
        place[..8].copy_from_slice(&self.segment.to_be_bytes());
        place[8..16].copy_from_slice(&offset.to_be_bytes());
        place[16..20].copy_from_slice(&length.to_be_bytes());
        place[20] = kind;
        let mut hasher = self.named.clone();
        hasher.update(&place);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// What stands before a record's bytes, as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordHead {
    pub(crate) length: u32,
    pub(crate) checksum: u32,
    pub(crate) kind: u8,
}

impl RecordHead {
    pub(crate) fn read(bytes: [u8; 9]) -> Self {
        let number = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_be_bytes(bytes)
        };
        Self {
            length: number(0),
            checksum: number(4),
            kind: bytes[8],
        }
    }

    /// Returns whether all of it is zero, as where a crash has left a hole.
    pub(crate) fn is_hole(self) -> bool {
        (self.length, self.checksum, self.kind) == (0, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(name: &str, segment: u64) -> Seal {
        Seal::new(&JournalName::new(name).unwrap(), segment)
    }

    fn header(seal: &Seal) -> Vec<u8> {
        let mut bytes = Vec::new();
        seal.put_header(&mut bytes);
        bytes
    }

    /// What was written once has to be read for ever.
    #[test]
    fn the_bytes_are_these() {
        let seal = seal("spool", 258);
        let mut bytes = header(&seal);
        assert_eq!(bytes.len() as u64, FILE_HEADER);
        seal.put_record(FILE_HEADER, 3, b"one", &mut bytes);
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex = hex.concat();
        assert_eq!(&hex[..40], "4d5553545253504c000000010000000000000102");
        assert_eq!(&hex[40..], "0780213500000003205998a3036f6e65");
    }

    #[test]
    fn a_header_fits_one_file() {
        let ours = seal("spool", 2);
        let whole = header(&ours);
        assert_eq!(ours.judge(&whole), Header::Whole);
        assert_eq!(ours.judge(&header(&seal("spool", 3))), Header::Foreign);
        assert_eq!(ours.judge(&header(&seal("diary", 2))), Header::Damaged);
        assert_eq!(ours.judge(b"something else altogether"), Header::Damaged);
        for length in 0..whole.len() {
            assert_eq!(ours.judge(&whole[..length]), Header::Unwritten);
        }
        assert_eq!(ours.judge(&[0; 24]), Header::Unwritten);
    }

    #[test]
    fn a_record_fits_one_place() {
        let ours = seal("spool", 2);
        let here = ours.checksum(24, 3, 1, b"one");
        for elsewhere in [
            ours.checksum(25, 3, 1, b"one"),
            ours.checksum(24, 3, 2, b"one"),
            seal("spool", 3).checksum(24, 3, 1, b"one"),
            seal("diary", 2).checksum(24, 3, 1, b"one"),
        ] {
            assert_ne!(here, elsewhere);
        }
    }
}
