//! Publishers and subscribers of one endpoint that hear one another.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use muster::wire::{EndpointId, QueueLimits, Topic};
use muster::{Delivery, Endpoint, EndpointConfig, Exposure, Subscriber, TryReceiveError};
use muster_data::{Data, DataRef};

const LIMITS: QueueLimits = QueueLimits {
    messages: 1000,
    bytes: 1 << 20,
};

fn endpoint() -> Endpoint {
    Endpoint::start(EndpointConfig::default()).unwrap()
}

/// What has arrived: sender and value.
fn received(subscriber: &mut Subscriber) -> Vec<(EndpointId, Data)> {
    let mut all = Vec::new();
    loop {
        match subscriber.try_receive() {
            Ok(Delivery::Batch(batch)) => all.extend(batch.iter().map(|message| {
                let value = DataRef::from_validated(message.payload).to_data();
                (message.from, value)
            })),
            Ok(Delivery::Status(_)) => {}
            Err(TryReceiveError::Empty) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn who_hears_whom() {
    let endpoint = endpoint();
    let topic = Topic::new("/t/x").unwrap();
    let mut ordinary = endpoint.subscribe(["/t/"]).await;
    let mut hearing = endpoint.subscribe_with_local(["/t/"], LIMITS).await;
    let mut own = endpoint.publisher();
    let mut local = endpoint.local_publisher().unwrap();
    assert_eq!(own.id(), endpoint.id());
    assert_ne!(local.id(), endpoint.id());

    // The endpoint's own messages do not come back to whoever does not ask for them.
    let outcome = own.publish(&topic, &1_u64);
    assert_eq!((outcome.local, outcome.queued_to), (1, 0));
    assert!(!outcome.no_subscriber());
    let outcome = local.publish(&topic, &2_u64);
    assert_eq!(outcome.local, 2);
    assert_eq!(received(&mut ordinary), [(local.id(), Data::Count(2))]);
    let expected = [(own.id(), Data::Count(1)), (local.id(), Data::Count(2))];
    assert_eq!(received(&mut hearing), expected);

    // Elsewhere they are the endpoint's.
    let other = self::endpoint();
    let mut remote = other.subscribe(["/t/"]).await;
    let address = "127.0.0.1:0".parse().unwrap();
    let address = other.listen(address, Exposure::Guarded).await.unwrap();
    endpoint.peer(&address.to_string(), None).await.unwrap();
    let outcome = local
        .publish_waiting(&topic, &3_u64, std::time::Duration::from_secs(1))
        .await;
    assert_eq!((outcome.local, outcome.queued_to), (2, 1));
    let Some(Delivery::Batch(batch)) = remote.receive().await else {
        panic!("a message");
    };
    assert_eq!(batch.from(), endpoint.id());
    assert_eq!(received(&mut ordinary).len(), 1);
}
