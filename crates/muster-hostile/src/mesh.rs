//! The frames of protocol version 2: one direction of a link, as a stream of frames.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use muster_wire::frame::{self, HEADER, Next};
use muster_wire::mesh::codec::{
    Decoder, Encoder, Frame, MAX_CERTIFICATES, MAX_CHAIN, MeshFrame, OwnedFrame,
};
use muster_wire::mesh::seal::{
    Credentials, NodeSeal, Owner, Seals, Signature, link_bytes, node_bytes,
};
use muster_wire::mesh::{Database, Limits, LinkChanges, LinkRecord, NodeRecord, Record, Refusal};
use muster_wire::{EndpointId, Filter, Incarnation, Wall};

/// A limit that small inputs reach.
const LIMIT: usize = 1 << 16;

/// Checks frames of the mesh: what was read and written again reads the same, and nothing that is
/// read is larger than its bytes allow.
pub fn mesh(bytes: &[u8]) {
    let mut reader = Decoder::default();
    let (mut writer, mut again) = (Encoder::default(), Decoder::default());
    let mut relay = Relay::new();
    let mut rest = bytes;
    while let Ok(Next::Complete(length)) = frame::next(rest, LIMIT) {
        let payload = &rest[HEADER..HEADER + length];
        rest = &rest[HEADER + length..];
        let Ok(frame) = reader.read(payload).and_then(Frame::into_owned) else {
            return; // the end of the peering
        };
        match &frame {
            OwnedFrame::Unknown => continue, // a kind from the future
            OwnedFrame::Batch { messages, .. } | OwnedFrame::Run { messages, .. } => {
                assert!(messages.len() <= payload.len());
                let held: usize = messages.iter().map(|it| it.payload.len()).sum();
                assert!(held <= payload.len());
            }
            OwnedFrame::Mesh(MeshFrame::Records { records, .. }) => {
                assert!(records.len() <= payload.len());
                sealed(records, payload.len());
                relay.take(records);
            }
            OwnedFrame::Fragment { .. } | OwnedFrame::Link(_) | OwnedFrame::Mesh(_) => {}
        }
        let mut written = Vec::new();
        frame.write(&mut writer, &mut written);
        let read = again.read(&written[HEADER..]).and_then(Frame::into_owned);
        assert_eq!(read, Ok(frame));
    }
}

/// Records of a relay with seals: its own, its links, a change of them, and the record of one that it has named before.
pub(crate) fn sealed_frames() -> Vec<u8> {
    let id = |byte| EndpointId::from_random([byte; 16]);
    let seal = NodeSeal {
        credentials: Arc::new(Credentials {
            salt: [7; 16],
            certificates: vec![vec![0x30, 3, 1, 2, 3]; 2],
        }),
        signature: [1, 2, 3].into(),
        unknown: vec![9, 1, 0xff],
    };
    let signature = || Some(Signature::from([4, 5, 6]));
    let node = |byte| {
        let node = record_of(id(byte));
        Record::Node(Arc::new(node), Some(Arc::new(seal.clone())))
    };
    let links = LinkRecord {
        id: id(0x21),
        incarnation: Incarnation(1),
        version: 1,
        neighbours: vec![id(0x11), id(0x22), id(0x23)],
    };
    let changes = LinkChanges {
        id: id(0x21),
        incarnation: Incarnation(1),
        before: 1,
        after: 2,
        added: vec![id(0x24)],
        removed: vec![id(0x22)],
    };
    let mut bytes = Vec::new();
    for records in [
        vec![node(0x21), Record::Links(links, signature())],
        vec![Record::Changes(changes, signature()), node(0x23)],
    ] {
        let frame = MeshFrame::Records {
            root: id(0x21),
            more: false,
            flood: None,
            records,
        };
        frame.write(&mut bytes);
    }
    bytes
}

fn record_of(id: EndpointId) -> NodeRecord {
    NodeRecord {
        id,
        incarnation: Incarnation(1),
        version: 1,
        transit: true,
        ready: true,
        homes: false,
        name: String::new(),
        role: String::new(),
        machine: String::new(),
        filter: Filter::default(),
        guests: Vec::new(),
    }
}

/// What seals hold is not more than came, nor than they may.
fn sealed(records: &[Record], bytes: usize) {
    for record in records {
        if let Record::Node(_, Some(seal)) = record {
            let certificates = &seal.credentials.certificates;
            let held: usize = certificates.iter().map(Vec::len).sum();
            assert!(certificates.len() <= MAX_CHAIN && held <= MAX_CERTIFICATES.min(bytes));
            assert!(seal.unknown.len() + seal.signature.len() <= bytes);
        }
    }
}

/// An endpoint that takes every seal for a good one. What it passes on is what it has found good, to the last byte.
struct Relay {
    database: Database,
    seals: Arc<Notary>,
    known: BTreeSet<EndpointId>,
}

/// What was found good: signed bytes, and their signature.
type Found = Arc<Mutex<HashSet<(Vec<u8>, Vec<u8>)>>>;

#[derive(Debug)]
struct Notary {
    credentials: Arc<Credentials>,
    found: Found,
}

#[derive(Debug)]
struct Anybody(Found);

impl Relay {
    fn new() -> Self {
        let me = record_of(EndpointId::from_random([0x11; 16]));
        let mut database = Database::new(me, Limits { nodes: 16 });
        let seals = Arc::new(Notary {
            credentials: Arc::new(Credentials {
                salt: [0; 16],
                certificates: Vec::new(),
            }),
            found: Found::default(),
        });
        database.set_seals(Arc::clone(&seals) as Arc<dyn Seals>);
        Self {
            database,
            seals,
            known: BTreeSet::new(),
        }
    }

    fn take(&mut self, records: &[Record]) {
        let me = self.database.me();
        for record in records {
            if self.database.slot(record.id()) != Some(me) {
                self.database.apply(record);
                self.known.insert(record.id());
            }
        }
        let found = self.seals.found.lock();
        let found = found.unwrap_or_else(PoisonError::into_inner);
        let slots = self.known.iter().filter_map(|id| self.database.slot(*id));
        for slot in slots {
            if let (Some(node), Some(seal)) = (self.database.node(slot), self.database.seal(slot)) {
                let signed = node_bytes(node, &seal.unknown);
                assert!(found.contains(&(signed, seal.signature.to_vec())));
            }
            if let Some(links) = self.database.links(slot) {
                let seal = self.database.links_seal(slot).map(|seal| seal.to_vec());
                assert!(found.contains(&(link_bytes(&links), seal.unwrap_or_default())));
            }
        }
    }
}

impl Seals for Notary {
    fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    fn sign(&self, _: &[u8]) -> Option<Signature> {
        None
    }

    fn owner(&self, _: EndpointId, _: &Credentials, _: Wall) -> Result<Arc<dyn Owner>, Refusal> {
        Ok(Arc::new(Anybody(Arc::clone(&self.found))))
    }
}

impl Owner for Anybody {
    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert((bytes.to_vec(), signature.to_vec()));
        true
    }
}
