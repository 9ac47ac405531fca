//! Peering with a real Zeek: its scripts' events arrive typed, and ours reach its handlers.
//!
//! See `support/zeek.rs` for how Zeek is found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are small")]

mod support;
#[path = "support/zeek.rs"]
mod zeek;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use muster::data::{DataRef, Encode, EnumValue, Port, Record, Subnet, Timespan, Timestamp};
use muster::wire::zeek::{EventRef, Metadata, put_event};
use muster::wire::{Class, EndpointId, QueueLimits, Topic};
use muster::{
    Certificates, Delivery, Endpoint, EndpointConfig, Exposure, PeerOrigin, Status, Subscriber, Tls,
};
use muster_test_support::within;
use support::{Authority, Flaw};

#[derive(Debug, Clone, PartialEq, Record)]
#[record(name = "Test::Inner")]
struct Inner {
    name: String,
    number: Option<u64>,
    list: Vec<f64>,
}

/// The arguments of the script's events, in order.
#[derive(Debug, Clone, PartialEq, Record)]
struct Typed {
    b: bool,
    i: i64,
    c: u64,
    d: f64,
    t: Timestamp,
    iv: Timespan,
    s: Vec<u8>,
    a: IpAddr,
    a6: IpAddr,
    sn: Subnet,
    sn6: Subnet,
    p: Port,
    e: EnumValue,
    strings: BTreeSet<String>,
    pairs: BTreeSet<(IpAddr, Port)>,
    counts: BTreeMap<String, u64>,
    grid: BTreeMap<(u64, String), Vec<i64>>,
    inner: Inner,
    inners: Vec<Inner>,
    pat: (String, String),
    nothing: Vec<String>,
    none: BTreeSet<u64>,
}

/// What the script sends.
fn from_zeek() -> Typed {
    let inner = Inner {
        name: "inner".to_owned(),
        number: None,
        list: Vec::new(),
    };
    let more = Inner {
        name: "more".to_owned(),
        number: Some(5),
        list: vec![0.5, -1e300],
    };
    Typed {
        b: true,
        i: -i64::MAX,
        c: u64::MAX,
        d: 0.1,
        // Zeek turns seconds into nanoseconds by truncation.
        t: Timestamp::from_nanos(1_700_000_000_249_999_872),
        iv: Timespan::from_millis(-1_500),
        s: b"text \xff\x00\" \xc3\xa9".to_vec(),
        a: "192.0.2.1".parse().unwrap(),
        a6: "2001:db8::1".parse().unwrap(),
        sn: "10.0.0.0/8".parse().unwrap(),
        sn6: "2001:db8::/32".parse().unwrap(),
        p: "53/udp".parse().unwrap(),
        e: EnumValue::new("Test::GREEN"),
        strings: ["a", "b"].map(str::to_owned).into(),
        pairs: [("192.0.2.1", "80/tcp"), ("::1", "8/icmp")]
            .map(|(host, port)| (host.parse().unwrap(), port.parse().unwrap()))
            .into(),
        counts: [("one", 1), ("two", 2)]
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        grid: [((1, "x".to_owned()), vec![1, -2])].into(),
        inner: inner.clone(),
        inners: vec![inner, more],
        pat: ("^?(foo|bar)$?".to_owned(), r"^?(.|\n)*(foo|bar)".to_owned()),
        nothing: Vec::new(),
        none: BTreeSet::new(),
    }
}

/// What Zeek is sent; different from the other in everything.
fn to_zeek() -> Typed {
    let inner = Inner {
        name: "ours".to_owned(),
        number: Some(u64::MAX),
        list: vec![1.0],
    };
    Typed {
        b: false,
        i: i64::MIN,
        c: 7,
        d: 1e300,
        t: Timestamp::from_nanos(1_000_000_000_500_000_000),
        iv: Timespan::from_secs(90),
        s: b"\x01\xfe\x00".to_vec(),
        a: "10.1.2.3".parse().unwrap(),
        a6: "fe80::1".parse().unwrap(),
        sn: "192.168.0.0/16".parse().unwrap(),
        sn6: "fe80::/10".parse().unwrap(),
        p: "443/tcp".parse().unwrap(),
        e: EnumValue::new("Test::RED"),
        strings: [String::new()].into(),
        pairs: BTreeSet::new(),
        counts: [("many".to_owned(), 1 << 40)].into(),
        grid: [((7, "seven".to_owned()), vec![-7])].into(),
        inner: inner.clone(),
        inners: vec![inner; 3],
        // What it matches exactly, and what it matches somewhere, as Zeek itself writes it.
        pat: ("^?(foo.*)$?".to_owned(), r"^?(.|\n)*(foo.*)".to_owned()),
        nothing: vec!["something".to_owned()],
        none: [3, 1, 2].into(),
    }
}

/// How the script prints [`to_zeek`].
const PRINTED: &str = "F -9223372036854775808 7 1e+300 1000000000.500000 1.0 min 30.0 secs 01fe00 10.1.2.3 \
    fe80::1 192.168.0.0/16 fe80::/10 443/tcp Test::RED 1 0 1099511627776 -7 \
    [name=ours, number=18446744073709551615, list=[1.0]] T";

#[tokio::test(flavor = "multi_thread")]
async fn events_of_many_types_go_both_ways_without_encryption() {
    both_diallers(&[], &["Broker::disable_ssl=T"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_many_types_go_both_ways_with_anonymous_tls_as_is_zeeks_default() {
    both_diallers(&[Tls::Anonymous], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_many_types_go_both_ways_with_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let ours = authority.certify("ours", Flaw::None, None);
    let theirs = authority.certify("theirs", Flaw::None, Some("secret"));
    let arguments = zeeks_certificates(&theirs);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    both_diallers(&[Tls::Mutual(ours)], &arguments).await;
}

/// Zeek's names for the files of certificates.
fn zeeks_certificates(certificates: &Certificates) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    vec![
        format!(
            "Broker::ssl_cafile={}",
            text(certificates.cafile.as_ref().unwrap())
        ),
        format!(
            "Broker::ssl_certificate={}",
            text(&certificates.certificate)
        ),
        format!("Broker::ssl_keyfile={}", text(&certificates.keyfile)),
        format!(
            "Broker::ssl_passphrase={}",
            certificates.passphrase.as_deref().unwrap_or_default()
        ),
    ]
}

/// The whole exchange, once with each side dialling. No `tls` is [`Tls::Off`].
async fn both_diallers(tls: &[Tls], zeeks: &[&str]) {
    let Some(program) = zeek::zeek() else {
        return;
    };
    for dialler in [PeerOrigin::Dialled, PeerOrigin::Accepted] {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::start(EndpointConfig {
            tls: tls.first().cloned().unwrap_or(Tls::Off),
            ..EndpointConfig::default()
        })
        .unwrap();
        let limits = QueueLimits {
            messages: 1000,
            bytes: 1 << 20,
        };
        let mut inbox = endpoint
            .subscribe_with_statuses(["/muster/test"], limits)
            .await;
        let script = include_str!("zeek/types.zeek");
        let start = |more: &[&str]| {
            let arguments = [&["-b"], zeeks, more].concat();
            program.start(directory.path(), script, &arguments)
        };
        let mut zeek = if dialler == PeerOrigin::Dialled {
            let mut zeek = start(&[]);
            let port = zeek.says("listening ");
            endpoint.dial(
                &format!("127.0.0.1:{port}"),
                Some(Duration::from_millis(50)),
            );
            zeek
        } else {
            let any = "127.0.0.1:0".parse().unwrap();
            let address = endpoint.listen(any, Exposure::Guarded).await.unwrap();
            start(&[&format!("Test::dial={}/tcp", address.port())])
        };

        let peer = added(&mut inbox).await;
        assert_eq!(peer.1, dialler);
        assert_eq!(zeek.says("peer_added "), endpoint.id().to_string());
        let (name, arguments) = event(&mut inbox).await;
        assert_eq!((name.as_str(), arguments), ("Test::typed", from_zeek()));

        publish(&endpoint, "Test::typed", &to_zeek()).await;
        assert_eq!(zeek.says("received "), PRINTED);
        let (name, arguments) = event(&mut inbox).await;
        assert_eq!((name.as_str(), arguments), ("Test::echo", to_zeek()));

        publish(&endpoint, "Test::stop", &[(); 0]).await;
        zeek.ended();
        assert_eq!(lost(&mut inbox).await, peer.0);
    }
}

/// Publishes an event as soon as Zeek's subscription is known.
async fn publish(endpoint: &Endpoint, name: &str, arguments: &(impl Encode + ?Sized)) {
    let mut payload = Vec::new();
    put_event(&mut payload, name, Metadata::default(), |out| {
        arguments.encode(out);
    });
    let (payload, topic) = (Bytes::from(payload), Topic::new("/muster/zeek").unwrap());
    let mut publisher = endpoint.publisher();
    within(async {
        while publisher
            .publish_encoded(&topic, payload.clone(), Class::Event)
            .no_subscriber()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn added(inbox: &mut Subscriber) -> (EndpointId, PeerOrigin) {
    loop {
        match within(inbox.receive()).await.unwrap() {
            Delivery::Status(Status::PeerAdded(peer)) => return (peer.id, peer.origin),
            Delivery::Status(Status::PeerUnavailable { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn lost(inbox: &mut Subscriber) -> EndpointId {
    match within(inbox.receive()).await.unwrap() {
        Delivery::Status(Status::PeerLost { peer, .. }) => peer.id,
        other => panic!("{other:?}"),
    }
}

/// The next event.
async fn event(inbox: &mut Subscriber) -> (String, Typed) {
    match within(inbox.receive()).await.unwrap() {
        Delivery::Batch(batch) => {
            assert_eq!(batch.len(), 1);
            let message = batch.iter().next().unwrap();
            let event = EventRef::read(DataRef::from_validated(message.payload)).unwrap();
            (event.name().to_owned(), event.arguments().to().unwrap())
        }
        Delivery::Status(status) => panic!("unexpected {status}"),
    }
}
