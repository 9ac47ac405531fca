//! With mutual TLS a record of the mesh belongs to the certificate of its origin: what a member with a certificate of its
//! own can say of others, and what one without seals can say at all. The member here makes ids and seals by what the
//! specification says (protocol version 2, section 5.2).
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are small")]

#[path = "support/member.rs"]
mod member;
mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use member::Member;
use muster::wire::mesh::codec::{MeshFrame, OwnedFrame};
use muster::wire::mesh::seal::{
    Credentials, NodeSeal, Owner, Seals, Signature, link_bytes, node_bytes,
};
use muster::wire::mesh::{Config, LinkRecord, NodeRecord, Record, Refusal};
use muster::wire::{EndpointId, Filter, Incarnation, Topic, Wall};
use muster::{
    Certificates, Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, NodeIdentity,
    StartError, Subscriber, Tls, TlsError,
};
use muster_data::Data;
use muster_test_support::within;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::sign::Signer;
use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod};
use openssl::x509::X509;
use support::{Authority, Flaw};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// Seals with a certificate of the authority, or of another one.
#[derive(Debug, Clone)]
struct OwnSeals {
    key: PKey<Private>,
    credentials: Arc<Credentials>,
    id: EndpointId,
}

/// It believes everybody.
#[derive(Debug)]
struct Anybody;

impl OwnSeals {
    fn new(certificates: &Certificates, salt: [u8; 16]) -> Self {
        let pem = std::fs::read(&certificates.certificate).unwrap();
        let certificate = X509::from_pem(&pem).unwrap();
        let pem = std::fs::read(&certificates.keyfile).unwrap();
        let subject = certificate.subject_name().to_der().unwrap();
        let mut named = b"Muster, protocol version 2, endpoint id 1\0".to_vec();
        named.extend_from_slice(&salt);
        named.push(b's');
        named.extend_from_slice(&(subject.len() as u64).to_be_bytes());
        named.extend_from_slice(&subject);
        let id = sha256(&named)[..16].try_into().unwrap();
        Self {
            key: PKey::private_key_from_pem(&pem).unwrap(),
            credentials: Arc::new(Credentials {
                salt,
                certificates: vec![certificate.to_der().unwrap()],
            }),
            id: EndpointId::from_random(id),
        }
    }

    fn node(&self, node: NodeRecord) -> Record {
        let seal = NodeSeal {
            credentials: Arc::clone(&self.credentials),
            signature: self.sign(&node_bytes(&node, &[])).unwrap(),
            unknown: Vec::new(),
        };
        Record::Node(Arc::new(node), Some(Arc::new(seal)))
    }
}

impl Seals for OwnSeals {
    fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    fn sign(&self, bytes: &[u8]) -> Option<Signature> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        Some(signer.sign_oneshot_to_vec(bytes).unwrap().into())
    }

    fn owner(&self, _: EndpointId, _: &Credentials, _: Wall) -> Result<Arc<dyn Owner>, Refusal> {
        Ok(Arc::new(Anybody))
    }
}

impl Owner for Anybody {
    fn has_signed(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// A connection with a certificate.
async fn connected(certificates: &Certificates, address: &str) -> Box<SslStream<TcpStream>> {
    let mut context = SslContext::builder(SslMethod::tls()).unwrap();
    let Certificates {
        certificate,
        keyfile,
        ..
    } = certificates;
    context.set_certificate_chain_file(certificate).unwrap();
    let pem = SslFiletype::PEM;
    context.set_private_key_file(keyfile, pem).unwrap();
    let ssl = Ssl::new(&context.build()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = Box::new(SslStream::new(ssl, stream).unwrap());
    Pin::new(&mut *stream).connect().await.unwrap();
    stream
}

/// A member with a certificate, which seals with these.
async fn member(certificates: &Certificates, seals: &OwnSeals, address: &str) -> Member {
    let stream = connected(certificates, address).await;
    let config = Config {
        seals: Some(Arc::new(seals.clone())),
        ..Config::default()
    };
    Member::over(stream, seals.id, config).await
}

fn named(certificates: Certificates, name: &str) -> EndpointConfig {
    EndpointConfig {
        tls: Tls::Mutual(certificates),
        identity: NodeIdentity {
            name: name.to_owned(),
            ..NodeIdentity::default()
        },
        ..EndpointConfig::default()
    }
}

async fn listening(endpoint: &Endpoint) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let address = endpoint.listen(address, Exposure::Guarded).await.unwrap();
    address.to_string()
}

/// The records that were refused for a cause.
fn refused(endpoint: &Endpoint, cause: Refusal) -> u64 {
    let counters = endpoint.counts().mesh;
    let of_cause = counters.iter().filter(|it| {
        it.descriptor.name == "muster_mesh_records_refused_total"
            && it.labels.iter().any(|(_, value)| value == cause.name())
    });
    of_cause.map(|counter| counter.value).sum()
}

fn contradicted(endpoint: &Endpoint) -> u64 {
    let counters = endpoint.counts().mesh;
    let all = counters.iter().filter(|it| it.key() == "mesh_contradicted");
    all.map(|counter| counter.value).sum()
}

fn record(endpoint: &Endpoint, id: EndpointId) -> Option<NodeRecord> {
    let known = endpoint.mesh();
    let known = known.into_iter().find(|node| node.id == id);
    known.map(Arc::unwrap_or_clone)
}

fn records(root: EndpointId, records: Vec<Record>) -> OwnedFrame {
    OwnedFrame::Mesh(MeshFrame::Records {
        root,
        more: false,
        flood: None,
        records,
    })
}

/// Publishes once, to whom a message reaches then at once.
async fn reaches(from: &Endpoint, at: &mut Subscriber, value: u64) {
    let mut publisher = from.publisher();
    let topic = Topic::new("/target").unwrap();
    let outcome = publisher.publish(&topic, &Data::from(value));
    assert_eq!(outcome.queued_to, 1);
    let heard = async {
        loop {
            if let Some(Delivery::Batch(batch)) = at.receive().await {
                let mut values = batch
                    .iter()
                    .map(|message| muster_data::DataRef::from_validated(message.payload).to_data());
                if values.any(|heard| heard == Data::from(value)) {
                    return;
                }
            }
        }
    };
    within(heard).await;
}

async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_cannot_announce_the_record_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(&directory.path().join("ours"));
    let hub = Endpoint::start(named(authority.certify("hub", Flaw::None, None), "hub")).unwrap();
    let address = listening(&hub).await;
    let certificates = authority.certify("target", Flaw::None, None);
    let target = Endpoint::start(named(certificates, "target")).unwrap();
    let mut at_target = target.subscribe(["/target"]).await;
    within(target.peer(&address, None)).await.unwrap();
    until(|| hub.has_subscriber(&Topic::new("/target").unwrap())).await;
    reaches(&hub, &mut at_target, 1).await;

    let certificates = authority.certify("liar", Flaw::None, None);
    let own = OwnSeals::new(&certificates, [7; 16]);
    let mut liar = member(&certificates, &own, &address).await;
    liar.is_up().await;
    let stranger = Authority::new(&directory.path().join("theirs"));
    let stranger = stranger.certify("target", Flaw::None, None);
    let expired = authority.certify("expired", Flaw::Expired, None);

    let genuine = record(&hub, target.id()).unwrap();
    let known = liar.mesh.database();
    let seal = known.seal(known.slot(target.id()).unwrap()).unwrap();
    let seal = Arc::clone(seal);
    for (number, (life, version)) in [(0, 1), (1, 0), (1 << 20, 3), (0, 1 << 20)]
        .into_iter()
        .enumerate()
    {
        let forged = NodeRecord {
            incarnation: Incarnation(genuine.incarnation.0 + life),
            version: genuine.version + version,
            filter: Filter::default(),
            ..genuine.clone()
        };
        let sealed_with = |change: &dyn Fn(&mut NodeSeal)| {
            let mut other = NodeSeal::clone(&seal);
            change(&mut other);
            Record::Node(Arc::new(forged.clone()), Some(Arc::new(other)))
        };
        // With the same salt those with the target's name have its id.
        let [strange, late] = [&stranger, &expired].map(|certificates| {
            let salt = seal.credentials.salt;
            OwnSeals::new(certificates, salt)
        });
        assert_eq!(strange.id, target.id());
        let own_signature = own.sign(&node_bytes(&forged, &[])).unwrap();
        let lies = [
            (
                Refusal::Unsealed,
                Record::Node(Arc::new(forged.clone()), None),
            ),
            (Refusal::Identity, own.node(forged.clone())),
            (Refusal::Identity, late.node(forged.clone())),
            (Refusal::Untrusted, strange.node(forged.clone())),
            (Refusal::Seal, sealed_with(&|_| {})),
            (
                Refusal::Seal,
                sealed_with(&|seal| seal.signature = Arc::clone(&own_signature)),
            ),
            (
                Refusal::Seal,
                sealed_with(&|seal| seal.signature = [1, 2, 3].into()),
            ),
        ];
        for (cause, lie) in lies {
            let before = refused(&hub, cause);
            liar.send(&records(liar.mesh.id(), vec![lie])).await;
            until(|| refused(&hub, cause) > before).await;
        }
        let links = LinkRecord {
            id: target.id(),
            incarnation: genuine.incarnation,
            version: 1000 + number as u64,
            neighbours: vec![liar.mesh.id()],
        };
        let own_signature = own.sign(&link_bytes(&links));
        let before = refused(&hub, Refusal::Seal);
        let lie = Record::Links(links, own_signature);
        liar.send(&records(liar.mesh.id(), vec![lie])).await;
        until(|| refused(&hub, Refusal::Seal) > before).await;
        assert_eq!(record(&hub, target.id()), Some(genuine.clone()));
        reaches(&hub, &mut at_target, 2 + number as u64).await;
    }
    // Nor the hub's own to the hub.
    let before = refused(&hub, Refusal::Identity);
    let mut forged = record(&hub, hub.id()).unwrap();
    forged.version += 1;
    let lie = own.node(forged);
    liar.send(&records(liar.mesh.id(), vec![lie])).await;
    until(|| refused(&hub, Refusal::Identity) > before).await;
    assert_eq!((contradicted(&hub), contradicted(&target)), (0, 0));
    // Its own it may, and it is still a member.
    let before = record(&hub, own.id).unwrap();
    let mut next = before.clone();
    next.version += 1;
    next.name = "honest".to_owned();
    liar.send(&records(own.id, vec![own.node(next)])).await;
    until(|| record(&hub, own.id).is_some_and(|node| node.name == "honest")).await;
}

/// A renewed certificate has another key and the same names; who has other names has another id.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_goes_on_and_another_one_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let hub = Endpoint::start(named(authority.certify("hub", Flaw::None, None), "hub")).unwrap();
    let address = listening(&hub).await;
    let certificates = authority.certify("node", Flaw::None, None);
    let first = OwnSeals::new(&certificates, [7; 16]);
    let mut node = member(&certificates, &first, &address).await;
    node.is_up().await;
    let renewed = OwnSeals::new(&authority.certify("node", Flaw::None, None), [7; 16]);
    assert_eq!(renewed.id, first.id);
    assert!(!renewed.key.public_eq(&first.key));
    let other = OwnSeals::new(&authority.certify("other", Flaw::None, None), [7; 16]);
    let mut next = record(&hub, first.id).unwrap();
    next.version += 1;
    next.name = "stolen".to_owned();
    node.send(&records(first.id, vec![other.node(next.clone())]))
        .await;
    until(|| refused(&hub, Refusal::Identity) == 1).await;
    next.name = "renewed".to_owned();
    node.send(&records(first.id, vec![renewed.node(next)]))
        .await;
    until(|| record(&hub, first.id).is_some_and(|node| node.name == "renewed")).await;
    // With a certificate of the same names that has expired nobody comes in.
    let late = OwnSeals::new(&authority.certify("node", Flaw::Expired, None), [9; 16]);
    let newcomer = NodeRecord {
        id: late.id,
        ..record(&hub, first.id).unwrap()
    };
    node.send(&records(first.id, vec![late.node(newcomer)]))
        .await;
    until(|| refused(&hub, Refusal::OutOfDate) == 1).await;
}

/// The next life of a node has another id of the same certificate, or of its renewed one; a relay passes its records on to
/// who has no link with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_is_back_with_its_certificate_or_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let hub = Endpoint::start(named(authority.certify("hub", Flaw::None, None), "hub")).unwrap();
    let address = listening(&hub).await;
    let far = authority.certify("far", Flaw::None, None);
    let far = Endpoint::start(named(far, "far")).unwrap();
    within(far.peer(&address, None)).await.unwrap();
    let topic = Topic::new("/target").unwrap();
    let mut ids = Vec::new();
    let mut certificates = authority.certify("target", Flaw::None, None);
    for life in 1..=3u64 {
        if life == 3 {
            certificates = authority.certify("target", Flaw::None, None);
        }
        let config = EndpointConfig {
            identity: NodeIdentity {
                name: "target".to_owned(),
                incarnation: Incarnation(life),
                ..NodeIdentity::default()
            },
            ..named(certificates.clone(), "")
        };
        let target = Endpoint::start(config).unwrap();
        assert!(!ids.contains(&target.id()));
        ids.push(target.id());
        let mut at_target = target.subscribe(["/target"]).await;
        within(target.peer(&address, None)).await.unwrap();
        until(|| far.has_subscriber(&topic)).await;
        reaches(&far, &mut at_target, life).await;
        assert_eq!(record(&far, target.id()).unwrap().incarnation.0, life);
        target.shut_down().await;
        until(|| !far.has_subscriber(&topic)).await;
    }
    for endpoint in [&hub, &far] {
        let counters = endpoint.counts().mesh;
        let mut refused = counters
            .iter()
            .filter(|it| it.descriptor.name == "muster_mesh_records_refused_total");
        assert!(refused.next().is_none());
    }
}

/// A member that does not seal, as of an earlier version, is no part of the mesh, and that is counted.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_seal_is_not_taken_in() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let hub = Endpoint::start(named(authority.certify("hub", Flaw::None, None), "hub")).unwrap();
    let address = listening(&hub).await;
    let certificates = authority.certify("old", Flaw::None, None);
    let stream = connected(&certificates, &address).await;
    let id = EndpointId::from_random([9; 16]);
    let mut old = Member::over(stream, id, Config::default()).await;
    within(async {
        while refused(&hub, Refusal::Unsealed) < 2 {
            old.pump().await;
        }
    })
    .await;
    assert_eq!(record(&hub, id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_cannot_be_given_where_it_is_made_of_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let config = EndpointConfig {
        id: Some(EndpointId::from_random([9; 16])),
        ..named(authority.certify("hub", Flaw::None, None), "hub")
    };
    let error = Endpoint::start(config.clone()).unwrap_err();
    assert!(matches!(error, StartError::IdGiven), "{error}");
    // In no mesh there are no records.
    let direct = EndpointConfig {
        forwarding: Forwarding::Direct,
        ..config
    };
    let direct = Endpoint::start(direct).unwrap();
    assert_eq!(direct.id(), EndpointId::from_random([9; 16]));
}

/// A certificate ends before its node does: the node goes on with the next one, and who comes later knows it by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_while_its_node_runs() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let hub = Endpoint::start(named(authority.certify("hub", Flaw::None, None), "hub")).unwrap();
    let address = listening(&hub).await;
    let own = authority.certify("target", Flaw::None, None);
    let target = Endpoint::start(named(own.clone(), "target")).unwrap();
    within(target.peer(&address, None)).await.unwrap();
    let (topic, id) = (Topic::new("/target").unwrap(), target.id());
    let mut at_target = target.subscribe(["/target"]).await;
    until(|| hub.has_subscriber(&topic)).await;
    let before = record(&hub, id).unwrap().version;

    // Both, the relay and the leaf, have another key from now on.
    for (name, endpoint) in [("target", &target), ("hub", &hub)] {
        authority.certify(name, Flaw::None, None);
        endpoint.reload_tls().unwrap();
    }
    until(|| record(&hub, id).is_some_and(|node| node.version > before)).await;
    reaches(&hub, &mut at_target, 1).await;
    let late = authority.certify("late", Flaw::None, None);
    let late = Endpoint::start(named(late, "late")).unwrap();
    within(late.peer(&address, None)).await.unwrap();
    until(|| late.has_subscriber(&topic)).await;
    reaches(&late, &mut at_target, 2).await;
    assert_eq!(target.id(), id);
    for endpoint in [&hub, &target, &late] {
        let counters = endpoint.counts().mesh;
        let mut counters = counters.iter();
        let refused = counters.find(|it| it.descriptor.name == "muster_mesh_records_refused_total");
        assert!(refused.is_none(), "{refused:?}");
    }

    // An endpoint is who its certificate says.
    let other = authority.certify("other", Flaw::None, None);
    std::fs::copy(&other.certificate, &own.certificate).unwrap();
    std::fs::copy(&other.keyfile, &own.keyfile).unwrap();
    let error = target.reload_tls().unwrap_err();
    assert!(matches!(error, TlsError::OtherNames), "{error}");
    std::fs::remove_file(&own.keyfile).unwrap();
    let error = target.reload_tls().unwrap_err();
    assert!(matches!(error, TlsError::File { .. }), "{error}");
    reaches(&late, &mut at_target, 3).await;
}
