//! Tables of rows under the keys of events.

use std::marker::PhantomData;

use bytes::Bytes;
use muster_data::{DataRef, DecodeOwned, Encode, Limits, encode, validate};

/// Rows of a type under each key: what the owner of a key knows of it. A standby has a copy.
///
/// ```
/// use muster_cluster::node::KeyedTable;
/// use muster_data::{Address, Port};
///
/// /// For each host, how often it was seen at a port.
/// const SEEN: KeyedTable<Address, Port, u64> = KeyedTable::new("example/seen");
/// ```
///
/// A row is what is sent to the standby when it changes: many small rows are better than a large one.
#[derive(Debug)]
pub struct KeyedTable<K, R, V> {
    name: &'static str,
    of: PhantomData<Parts<K, R, V>>,
}

type Parts<K, R, V> = fn() -> (K, R, V);

impl<K, R, V> KeyedTable<K, R, V> {
    /// Returns the table of a name. Names begin with that of the framework.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            of: PhantomData,
        }
    }

    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<K, R: Encode + DecodeOwned, V: Encode + DecodeOwned> KeyedTable<K, R, V> {
    /// What the rows of a key begin with.
    pub(super) fn prefix(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode::string(&mut out, self.name.as_bytes());
        out.extend_from_slice(key);
        out
    }

    pub(super) fn row(&self, key: &[u8], row: &R) -> Bytes {
        let mut out = self.prefix(key);
        row.encode(&mut out);
        out.into()
    }
}

/// Reads a value that may come from another node.
pub(super) fn read<T: DecodeOwned>(bytes: &[u8]) -> Option<T> {
    validate(bytes, &Limits::default()).ok()?;
    DataRef::from_validated(bytes).to().ok()
}
