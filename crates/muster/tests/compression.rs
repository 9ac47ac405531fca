//! Slow links: what is sent is compressed where that pays, and arrives as it was.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster::data::{Data, DataRef};
use muster::wire::{Class, Topic};
use muster::{
    Compressed, Delivery, Endpoint, EndpointConfig, Exposure, Forwarding, LinkSpeed, NodeIdentity,
    PeerMatch, PeerOptions, PeerReport, PeerRule, Subscriber,
};
use muster_test_support::within;

fn start(name: &str, forwarding: Forwarding, slow_to: &[&str]) -> Endpoint {
    let peers = slow_to.iter().map(|name| PeerRule {
        peer: PeerMatch::Name((*name).to_owned()),
        options: PeerOptions {
            speed: Some(LinkSpeed::Slow),
            ..PeerOptions::default()
        },
    });
    Endpoint::start(EndpointConfig {
        forwarding,
        identity: NodeIdentity {
            name: name.to_owned(),
            ..NodeIdentity::default()
        },
        peers: peers.collect(),
        ..EndpointConfig::default()
    })
    .unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn row(number: u64) -> Data {
    Data::from(format!(
        "1331901{number} C{} 192.168.202.{} 49{} 192.168.229.{} 443 tcp ssl SF ShADadfF",
        number * 7919,
        number % 250,
        number % 1000,
        number % 240
    ))
}

/// Bytes that nothing makes smaller.
fn noise(size: usize) -> Data {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let bytes: Vec<u8> = std::iter::repeat_with(byte).take(size).collect();
    Data::String(bytes.into())
}

async fn values(subscriber: &mut Subscriber, count: usize) -> Vec<Data> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Some(Delivery::Batch(batch)) = within(subscriber.receive()).await {
            let values = batch.iter();
            all.extend(values.map(|message| DataRef::from_validated(message.payload).to_data()));
        }
    }
    all
}

fn report(of: &Endpoint, peer: &Endpoint) -> PeerReport {
    let mut peers = of.counts().peers.into_iter();
    peers.find(|report| report.peer.id == peer.id()).unwrap()
}

/// From an author over a relay to a hearer: the first link is slow, the second is not. Many small messages,
/// large ones in parts, some that shrink and some that do not, in the order of their class.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crosses_a_slow_link_arrives_as_it_was() {
    let author = start("author", Forwarding::Leaf, &["relay"]);
    let relay = start("relay", Forwarding::Relay, &["nobody"]);
    let hearer = start("hearer", Forwarding::Leaf, &[]);
    let mut rows = hearer.subscribe(["/row"]).await;
    let mut bulk = hearer.subscribe(["/bulk"]).await;
    let address = "127.0.0.1:0".parse().unwrap();
    let address = relay.listen(address, Exposure::Guarded).await.unwrap();
    for leaf in [&author, &hearer] {
        within(leaf.peer(&address.to_string(), None)).await.unwrap();
    }
    within(async {
        while author.filter_of(hearer.id()).is_none_or(|f| f.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let large: Vec<Data> = [9, 70_000, 200_000, 3, 64 << 10, 1 << 20]
        .into_iter()
        .flat_map(|size: usize| {
            [
                Data::from("a line of a log ".repeat(size / 16)),
                noise(size),
            ]
        })
        .collect();
    let mut publisher = author.publisher();
    for number in 0..6000 {
        let _ = publisher.publish(&topic("/row"), &row(number));
        if number % 500 == 0 {
            let value = &large[usize::try_from(number / 500).unwrap()];
            let _ = publisher.publish_as(Class::Bulk, &topic("/bulk"), value);
        }
    }
    assert!(values(&mut rows, 6000).await == (0..6000).map(row).collect::<Vec<_>>());
    assert!(values(&mut bulk, 12).await == large);
    let (sent, came) = (report(&author, &relay), report(&relay, &author));
    assert_eq!(sent.compressed_out, came.compressed_in);
    assert!(sent.compressed_out.bytes < sent.bytes_out);
    let ratio = sent.compressed_out.original / sent.compressed_out.bytes;
    assert!(ratio >= 2, "{:?}", sent.compressed_out);
    for endpoint in [&author, &relay] {
        let counts = endpoint.counts();
        let lost = |name| counts.mesh.iter().any(|c| c.key() == name && c.value > 0);
        assert!(!lost("mesh_fragments_lost") && !lost("mesh_too_old"));
    }
    // The relay was told nothing of its links, and nothing is slow on the way back.
    assert_eq!(
        report(&relay, &hearer).compressed_out,
        Compressed::default()
    );
    assert_eq!(
        report(&relay, &author).compressed_out,
        Compressed::default()
    );
}
