//! Seals of records as bytes.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::mesh::seal::Signature;

pub(super) fn a_signature() -> impl Strategy<Value = Option<Signature>> {
    prop::option::of(any::<Vec<u8>>()).prop_map(|bytes| bytes.map(Into::into))
}

pub(super) fn a_seal() -> impl Strategy<Value = NodeSeal> {
    let certificates = prop::collection::vec(any::<Vec<u8>>(), 0..=MAX_CHAIN);
    let unknown = prop::collection::vec((3u64.., any::<Vec<u8>>()), 0..3);
    let parts = (any::<[u8; 16]>(), certificates, any::<Vec<u8>>(), unknown);
    parts.prop_map(|(salt, certificates, signature, fields)| {
        let mut unknown = Vec::new();
        for (tag, field) in fields {
            put_varint(&mut unknown, tag);
            put_string(&mut unknown, &field);
        }
        NodeSeal {
            credentials: Arc::new(Credentials { salt, certificates }),
            signature: signature.into(),
            unknown,
        }
    })
}

/// What of a seal is not taken: more than any honest one has.
#[test]
fn seals_are_bounded() {
    let read = |certificates: Vec<Vec<u8>>, signature: usize, unknown: Vec<u8>| {
        let seal = NodeSeal {
            credentials: Arc::new(Credentials {
                salt: [1; 16],
                certificates,
            }),
            signature: vec![7; signature].into(),
            unknown,
        };
        let record = Record::Node(Arc::new(host(Vec::new())), Some(Arc::new(seal)));
        let mut bytes = Vec::new();
        records::write(&record, &mut Vec::new(), &mut bytes);
        let read = records::read(&mut Reader::new(&bytes));
        read.map(|read| assert_eq!(read, Some(record)))
    };
    let certificates = |count: usize, bytes: usize| vec![vec![7; bytes]; count];
    let unknown = |bytes: usize| {
        let mut unknown = vec![77];
        put_string(&mut unknown, &vec![0; bytes]);
        unknown
    };
    let most = MAX_CERTIFICATES / MAX_CHAIN;
    assert_eq!(
        read(certificates(MAX_CHAIN, most), 1024, unknown(16 << 10)),
        Ok(())
    );
    let over = Err(Fault::OverLimit);
    assert_eq!(read(certificates(MAX_CHAIN + 1, 0), 0, Vec::new()), over);
    assert_eq!(
        read(certificates(1, MAX_CERTIFICATES + 1), 0, Vec::new()),
        over
    );
    assert_eq!(read(certificates(1, 1), 1025, Vec::new()), over);
    assert_eq!(read(certificates(1, 1), 1, unknown((16 << 10) + 1)), over);
    // Without a seal nobody keeps what is not known.
    let mut bytes = Vec::new();
    put_node(&host(Vec::new()), &mut bytes);
    bytes.extend_from_slice(&unknown(64 << 10));
    let mut record = vec![1];
    put_string(&mut record, &bytes);
    let read = records::read(&mut Reader::new(&record));
    assert_eq!(
        read,
        Ok(Some(Record::Node(Arc::new(host(Vec::new())), None)))
    );
    // Half a seal is none.
    for half in [0, 8, 16] {
        let mut bytes = Vec::new();
        put_node(&host(Vec::new()), &mut bytes);
        bytes.push(2);
        put_string(&mut bytes, &vec![0; half]);
        let mut record = vec![1];
        put_string(&mut record, &bytes);
        let read = records::read(&mut Reader::new(&record));
        assert_eq!(read, Err(Fault::Malformed));
    }
}
