//! A batch of records, as its producer has it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use muster_data::{DataRef, Encode, Limits, encode};

/// What every batch of a stream begins with: the stream's name and its columns.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamHead {
    name: String,
    /// Name and columns, encoded.
    encoded: Vec<u8>,
}

impl StreamHead {
    pub(crate) fn new(name: &str, columns: &(impl Encode + ?Sized)) -> Self {
        let mut encoded = Vec::new();
        encode::string(&mut encoded, name.as_bytes());
        columns.encode(&mut encoded);
        Self {
            name: name.to_owned(),
            encoded,
        }
    }

    /// What is known of a stream before its batches are read.
    pub(crate) fn unread(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            encoded: Vec::new(),
        }
    }

    /// Returns the stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Records of a stream that are given away together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub(crate) head: Arc<StreamHead>,
    /// The records, encoded, one behind the other.
    rows: Bytes,
    pub(crate) records: usize,
}

impl Batch {
    pub(crate) fn new(head: Arc<StreamHead>, rows: impl Into<Bytes>, records: usize) -> Self {
        Self {
            head,
            rows: rows.into(),
            records,
        }
    }

    /// Returns the bytes of its records.
    pub fn bytes(&self) -> usize {
        self.rows.len()
    }

    /// Adds the records of another batch of the stream.
    pub(crate) fn extend(&mut self, other: &Self) {
        let mut rows = BytesMut::with_capacity(self.rows.len() + other.rows.len());
        rows.put_slice(&self.rows);
        rows.put_slice(&other.rows);
        self.rows = rows.freeze();
        self.records += other.records;
    }

    /// Appends the stream's name and columns, and a vector of the records.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.reserve(self.rows.len() + self.head.encoded.len() + 64);
        out.extend_from_slice(&self.head.encoded);
        self.put_rows(out);
    }

    /// Appends a vector of the records.
    pub(crate) fn put_rows(&self, out: &mut Vec<u8>) {
        encode::vector_header(out, self.records);
        out.extend_from_slice(&self.rows);
    }

    /// Appends the batch as it is kept on disk: a vector of its number, the stream's name and columns, and the records.
    pub(crate) fn put_numbered(&self, number: u64, out: &mut Vec<u8>) {
        encode::vector_header(out, 4);
        encode::count(out, number);
        self.put(out);
    }

    /// Reads what [`put_numbered`](Self::put_numbered) has written. Returns `None` for anything else.
    pub(crate) fn read_numbered(bytes: &[u8]) -> Option<(u64, Self)> {
        let limits = Limits {
            depth: 16,
            elements: bytes.len() as u64,
            bytes: bytes.len(),
        };
        let mut parts = DataRef::parse(bytes, &limits).ok()?.as_vector()?.iter();
        let number = parts.next()?.as_count()?;
        let (name, columns, rows) = (parts.next()?, parts.next()?, parts.next()?);
        let (width, records) = (columns.as_vector()?.len(), rows.as_vector()?);
        let fits = |row: DataRef<'_>| row.as_vector().is_some_and(|row| row.len() == width);
        if parts.next().is_some() || !records.iter().all(fits) {
            return None;
        }
        let mut header = Vec::new();
        encode::vector_header(&mut header, records.len());
        let head = StreamHead {
            name: name.as_str()?.to_owned(),
            encoded: [name.bytes(), columns.bytes()].concat(),
        };
        let without_header = rows.bytes().get(header.len()..)?;
        let rows = Bytes::copy_from_slice(without_header);
        Some((number, Self::new(Arc::new(head), rows, records.len())))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A batch of so many records of one field.
    pub(crate) fn batch(stream: &str, records: u64) -> Batch {
        let mut rows = Vec::new();
        for number in 0..records {
            encode::vector_header(&mut rows, 1);
            encode::count(&mut rows, number);
        }
        let columns = [("n".to_owned(), "count".to_owned())];
        let mut encoded = Vec::new();
        encode::vector_header(&mut encoded, columns.len());
        for (name, ty) in columns {
            encode::vector_header(&mut encoded, 2);
            encode::string(&mut encoded, name.as_bytes());
            encode::string(&mut encoded, ty.as_bytes());
        }
        let columns = DataRef::from_validated(&encoded).to_data();
        let head = Arc::new(StreamHead::new(stream, &columns));
        Batch::new(head, rows, usize::try_from(records).unwrap())
    }

    #[test]
    fn a_batch_is_read_as_it_was_kept() {
        let mut batch = batch("conn", 3);
        batch.extend(&self::batch("conn", 300));
        let mut kept = Vec::new();
        batch.put_numbered(7, &mut kept);
        assert_eq!(Batch::read_numbered(&kept), Some((7, batch)));
        for end in 0..kept.len() {
            assert_eq!(Batch::read_numbered(&kept[..end]), None);
        }
        kept.push(0);
        assert_eq!(Batch::read_numbered(&kept), None);
    }

    #[test]
    fn what_has_other_columns_is_no_batch() {
        let mut kept = Vec::new();
        let mut other = batch("conn", 1);
        let mut rows = Vec::new();
        encode::vector_header(&mut rows, 2);
        encode::count(&mut rows, 1);
        encode::count(&mut rows, 2);
        other.rows = rows.into();
        other.put_numbered(1, &mut kept);
        assert_eq!(Batch::read_numbered(&kept), None);
    }
}
