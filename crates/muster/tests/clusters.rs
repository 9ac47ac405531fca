//! Endpoints of two clusters on one machine: whoever dials the wrong port is refused, and told by which cluster.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster::wire::EndpointId;
use muster::wire::peering::{ClusterName, HandshakeError};
use muster::{
    Endpoint, EndpointConfig, Exposure, Forwarding, PeerError, StartError, UnavailableReason,
};
use muster_test_support::within;

fn config(id: u8, cluster: Option<&str>, forwarding: Forwarding) -> EndpointConfig {
    EndpointConfig {
        id: Some(EndpointId::from_random([id; 16])),
        cluster: cluster.map(str::to_owned),
        forwarding,
        ..EndpointConfig::default()
    }
}

/// How many handshakes with other clusters were refused.
fn refused(endpoint: &Endpoint) -> u64 {
    let mesh = endpoint.counts().mesh;
    let mut counters = mesh.iter();
    let counter = counters.find(|counter| counter.key() == "other_cluster");
    counter.unwrap().value
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_on_the_same_port_is_refused_by_name() {
    let east = ClusterName::new("east").unwrap();
    let west = ClusterName::new("west").unwrap();
    let hub = Endpoint::start(config(0x80, Some("east"), Forwarding::Relay)).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let address = hub.listen(address, Exposure::Guarded).await.unwrap();
    let address = address.to_string();
    let (mut expected, mut ids) = (0, 0);
    for forwarding in [Forwarding::Relay, Forwarding::Leaf, Forwarding::Direct] {
        // Every life has an id of its own, the smaller ones originate.
        for first in [0, 0xc0] {
            ids += 3;
            let id = first + ids;
            let stranger = Endpoint::start(config(id, Some("west"), forwarding)).unwrap();
            let error = within(stranger.peer(&address, None)).await.unwrap_err();
            let reason = HandshakeError::OtherCluster {
                ours: west.clone(),
                theirs: east.clone(),
            };
            assert_eq!(
                error,
                PeerError::Unavailable {
                    address: address.clone(),
                    reason: UnavailableReason::Handshake(reason)
                }
            );
            let text = error.to_string();
            assert!(
                text.contains("\"east\"") && text.contains("\"west\""),
                "{text}"
            );
            expected += 1;
            within(async {
                while refused(&hub) < expected {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            assert_eq!(refused(&stranger), 1);
            // Those of the same cluster, and of none, come in.
            for (next, cluster) in [(1, Some("east")), (2, None)] {
                let peer = Endpoint::start(config(id + next, cluster, forwarding)).unwrap();
                within(peer.peer(&address, None)).await.unwrap();
                within(peer.shut_down()).await;
            }
        }
    }
    assert_eq!(refused(&hub), expected);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_at_the_start() {
    for name in ["", &"x".repeat(256)] {
        let error = Endpoint::start(config(1, Some(name), Forwarding::Relay)).unwrap_err();
        assert!(matches!(error, StartError::Cluster(_)), "{error}");
    }
}
