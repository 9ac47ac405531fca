//! Whose a record is, record by record.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::mesh::codec::{Decoder, Frame, MeshFrame};
use crate::mesh::database::{Applied, Limits};
use crate::mesh::seal::{Credentials, ToySeals};
use crate::{Filter, Incarnation};

/// Counts how often it is asked.
#[derive(Debug)]
struct Counting {
    seals: ToySeals,
    asked: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct CountingOwner(Arc<dyn Owner>, Arc<AtomicUsize>);

impl Seals for Counting {
    fn credentials(&self) -> &Arc<Credentials> {
        self.seals.credentials()
    }

    fn sign(&self, bytes: &[u8]) -> Option<Signature> {
        self.seals.sign(bytes)
    }

    fn owner(
        &self,
        id: EndpointId,
        credentials: &Credentials,
        at: Wall,
    ) -> Result<Arc<dyn Owner>, Refusal> {
        self.asked.fetch_add(1000, Ordering::Relaxed);
        let owner = self.seals.owner(id, credentials, at)?;
        Ok(Arc::new(CountingOwner(owner, Arc::clone(&self.asked))))
    }
}

impl Owner for CountingOwner {
    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.has_signed(bytes, signature)
    }
}

/// An endpoint with a certificate.
struct Author {
    id: EndpointId,
    seals: ToySeals,
}

impl Author {
    fn new(name: u64, key: u64, salt: u8) -> Self {
        let (id, seals) = ToySeals::new(name, key, [salt; 16]);
        Self { id, seals }
    }

    fn record(&self, version: u64) -> NodeRecord {
        NodeRecord {
            id: self.id,
            incarnation: Incarnation(1),
            version,
            transit: true,
            ready: true,
            homes: false,
            name: "x".to_owned(),
            role: String::new(),
            machine: String::new(),
            filter: Filter::from_prefixes([format!("/{version}")]),
            guests: Vec::new(),
        }
    }

    fn seal(&self, node: NodeRecord) -> Record {
        self.seal_with(node, Vec::new())
    }

    fn seal_with(&self, node: NodeRecord, unknown: Vec<u8>) -> Record {
        let seal = NodeSeal {
            credentials: Arc::clone(self.seals.credentials()),
            signature: self.seals.sign(&seal::node_bytes(&node, &unknown)).unwrap(),
            unknown,
        };
        Record::Node(Arc::new(node), Some(Arc::new(seal)))
    }

    fn sign(&self, links: &LinkRecord) -> Option<Signature> {
        self.seals.sign(&seal::link_bytes(links))
    }

    fn links(&self, version: u64, neighbours: &[EndpointId]) -> LinkRecord {
        let mut neighbours = neighbours.to_vec();
        neighbours.sort_unstable();
        LinkRecord {
            id: self.id,
            incarnation: Incarnation(1),
            version,
            neighbours,
        }
    }

    fn sealed_links(&self, version: u64, neighbours: &[EndpointId]) -> Record {
        let links = self.links(version, neighbours);
        let seal = self.sign(&links);
        Record::Links(links, seal)
    }
}

/// The database of an endpoint with a certificate, and how often it has looked at others'.
fn database() -> (Database, Arc<AtomicUsize>) {
    let me = Author::new(1, 1, 1);
    let asked = Arc::new(AtomicUsize::new(0));
    let mut database = Database::new(me.record(1), Limits::default());
    database.set_seals(Arc::new(Counting {
        seals: me.seals,
        asked: Arc::clone(&asked),
    }));
    (database, asked)
}

fn id(number: u8) -> EndpointId {
    EndpointId::from_random([number; 16])
}

#[test]
fn a_record_is_taken_with_the_seal_of_its_origin_alone() {
    let (mut database, _) = database();
    let origin = Author::new(2, 1, 2);
    let other = Author::new(3, 1, 3);
    assert_eq!(
        database.apply(&origin.seal(origin.record(1))),
        Applied::News
    );
    let known = database.node(database.slot(origin.id).unwrap()).cloned();
    // By everybody who is no origin, whatever the numbers are.
    for version in [1, 2, 1000] {
        let record = NodeRecord {
            filter: Filter::from_prefixes(["/zzz"]),
            ..origin.record(version)
        };
        let Record::Node(_, genuine) = origin.seal(origin.record(version)) else {
            unreachable!()
        };
        let mut by_other = NodeSeal::clone(genuine.as_ref().unwrap());
        by_other.signature = other.seals.sign(&seal::node_bytes(&record, &[])).unwrap();
        let stranger = Credentials {
            salt: [2; 16],
            certificates: vec![vec![9; 32]],
        };
        let strange = NodeSeal {
            credentials: Arc::new(stranger),
            ..by_other.clone()
        };
        let forged =
            |seal: Option<NodeSeal>| Record::Node(Arc::new(record.clone()), seal.map(Arc::new));
        for (forged, expected) in [
            (forged(None), Refusal::Unsealed),
            (forged(genuine.map(Arc::unwrap_or_clone)), Refusal::Seal),
            (forged(Some(by_other)), Refusal::Seal),
            (other.seal(record.clone()), Refusal::Identity),
            (forged(Some(strange)), Refusal::Untrusted),
        ] {
            assert_eq!(database.apply(&forged), Applied::Refused(expected));
        }
    }
    let held = database.node(database.slot(origin.id).unwrap());
    assert_eq!(held, known.as_ref());
    assert_eq!(
        database.apply(&origin.seal(origin.record(2))),
        Applied::News
    );
}

/// Nobody can be first with somebody else's id: it is made of the names in the certificate.
#[test]
fn an_id_that_nobody_knows_yet_is_not_to_be_had_either() {
    let (mut database, _) = database();
    let origin = Author::new(2, 1, 2);
    let other = Author::new(3, 1, 3);
    let forged = other.seal(origin.record(1));
    assert_eq!(database.apply(&forged), Applied::Refused(Refusal::Identity));
    assert_eq!(database.len(), 1);
    assert_eq!(
        database.apply(&origin.seal(origin.record(1))),
        Applied::News
    );
}

#[test]
fn a_renewed_certificate_of_the_same_names_is_good_and_so_is_a_new_life() {
    let (mut database, _) = database();
    let origin = Author::new(2, 1, 2);
    assert_eq!(
        database.apply(&origin.seal(origin.record(1))),
        Applied::News
    );
    let renewed = Author::new(2, 99, 2);
    assert_eq!(renewed.id, origin.id);
    let record = renewed.seal(renewed.record(2));
    assert_eq!(database.apply(&record), Applied::News);
    // What was signed with the key of before is none of its signatures.
    assert_eq!(
        database.apply(&origin.seal(origin.record(3))),
        Applied::News
    );
    let restarted = Author::new(2, 1, 7);
    assert_ne!(restarted.id, origin.id);
    let record = restarted.seal(restarted.record(1));
    assert_eq!(database.apply(&record), Applied::News);
}

/// What is known stays known, as connections do.
#[test]
fn a_certificate_that_expires_keeps_out_those_who_are_not_known() {
    let (mut database, _) = database();
    let author = |salt| {
        let (id, seals) = ToySeals::until(Wall(100), 2, 1, [salt; 16]);
        Author { id, seals }
    };
    let (known, late) = (author(2), author(3));
    database.set_wall(Wall(100));
    assert_eq!(database.apply(&known.seal(known.record(1))), Applied::News);
    database.set_wall(Wall(101));
    assert_eq!(
        database.apply(&late.seal(late.record(1))),
        Applied::Refused(Refusal::OutOfDate)
    );
    assert_eq!(database.apply(&known.seal(known.record(2))), Applied::News);
}

#[test]
fn links_and_their_changes_are_under_the_seal_of_what_results() {
    let (mut database, _) = database();
    let origin = Author::new(2, 1, 2);
    let other = Author::new(3, 1, 3);
    let [a, b, c] = [7, 8, 9].map(id);
    assert_eq!(
        database.apply(&origin.sealed_links(1, &[a, b])),
        Applied::Gap
    );
    database.apply(&origin.seal(origin.record(1)));
    let links = origin.links(1, &[a, b]);
    for (seal, expected) in [
        (None, Refusal::Unsealed),
        (other.sign(&links), Refusal::Seal),
        (origin.sign(&origin.links(1, &[a])), Refusal::Seal),
        (origin.sign(&origin.links(2, &[a, b])), Refusal::Seal),
    ] {
        let applied = database.apply(&Record::Links(links.clone(), seal));
        assert_eq!(applied, Applied::Refused(expected));
    }
    // It could not be passed on as it is.
    assert_eq!(
        database.apply(&origin.sealed_links(1, &[a, origin.id])),
        Applied::Refused(Refusal::Seal)
    );
    assert_eq!(
        database.apply(&origin.sealed_links(1, &[a, b])),
        Applied::News
    );
    let changes = LinkChanges {
        id: origin.id,
        incarnation: Incarnation(1),
        before: 1,
        after: 2,
        added: vec![c],
        removed: vec![a],
    };
    let after = origin.links(2, &[b, c]);
    for (seal, expected) in [
        (None, Refusal::Unsealed),
        (other.sign(&after), Refusal::Seal),
        (origin.sign(&origin.links(2, &[a, b, c])), Refusal::Seal),
    ] {
        let applied = database.apply(&Record::Changes(changes.clone(), seal));
        assert_eq!(applied, Applied::Refused(expected));
    }
    let slot = database.slot(origin.id).unwrap();
    assert_eq!(database.links(slot), Some(origin.links(1, &[a, b])));
    let sealed = Record::Changes(changes, origin.sign(&after));
    assert_eq!(database.apply(&sealed), Applied::News);
    // What is passed on whole has the seal that came with the changes.
    assert_eq!(database.links(slot), Some(after.clone()));
    assert_eq!(database.links_seal(slot), origin.sign(&after).as_ref());
    // Another of the same numbers, which all would keep, is not weighed without a good seal.
    let greater = origin.links(2, &[c, id(10)]);
    let forged = Record::Links(greater, other.sign(&after));
    assert_eq!(database.apply(&forged), Applied::Refused(Refusal::Seal));
}

#[test]
fn what_is_known_is_not_looked_at_again() {
    let (mut database, asked) = database();
    let origin = Author::new(2, 1, 2);
    let count = || asked.load(Ordering::Relaxed);
    let first = origin.seal(origin.record(1));
    for _ in 0..3 {
        database.apply(&first);
    }
    assert_eq!(count(), 1001);
    // The next has the same certificate.
    let second = origin.seal(origin.record(2));
    for record in [&second, &first, &second] {
        database.apply(record);
    }
    assert_eq!(count(), 1002);
    let links = origin.sealed_links(1, &[id(7)]);
    for _ in 0..3 {
        database.apply(&links);
    }
    assert_eq!(count(), 1003);
    // Whoever makes other bytes of it has not made another record.
    let (Record::Node(node, Some(seal)), Applied::Known) = (&second, database.apply(&second))
    else {
        panic!("known");
    };
    let mut other = NodeSeal::clone(seal);
    other.signature = vec![1, 2, 3].into();
    let same = Record::Node(Arc::clone(node), Some(Arc::new(other)));
    assert_eq!(database.apply(&same), Applied::Known);
    assert_eq!(count(), 1003);
}

/// A relay of this version passes on what a later one has added.
#[test]
fn fields_that_are_not_known_here_are_under_the_seal_and_go_on() {
    let origin = Author::new(2, 1, 2);
    let unknown = vec![77, 3, 1, 2, 3, 78, 0];
    let record = origin.seal_with(origin.record(1), unknown.clone());
    let carried = |record: &Record| {
        let frame = MeshFrame::Records {
            root: EndpointId::NIL,
            more: false,
            flood: None,
            records: vec![record.clone()],
        };
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        let payload = &bytes[crate::frame::HEADER..];
        match Decoder::default().read(payload) {
            Ok(Frame::Mesh(MeshFrame::Records { mut records, .. })) => (records.remove(0), bytes),
            other => panic!("{other:?}"),
        }
    };
    let (first, bytes) = carried(&record);
    let (mut relay, _) = database();
    assert_eq!(relay.apply(&first), Applied::News);
    let slot = relay.slot(origin.id).unwrap();
    let node = Arc::clone(relay.node(slot).unwrap());
    let (second, again) = carried(&Record::Node(node, relay.seal(slot).cloned()));
    assert_eq!(bytes, again);
    let (mut next, _) = database();
    assert_eq!(next.apply(&second), Applied::News);
    let Record::Node(node, Some(seal)) = second else {
        panic!("sealed");
    };
    assert_eq!(seal.unknown, unknown);
    let mut stripped = NodeSeal::clone(&seal);
    stripped.unknown.clear();
    let (mut last, _) = database();
    let stripped = Record::Node(node, Some(Arc::new(stripped)));
    assert_eq!(last.apply(&stripped), Applied::Refused(Refusal::Seal));
}
