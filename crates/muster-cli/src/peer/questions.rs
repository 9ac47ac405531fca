//! What a node can be asked: who its peers are, and whether it is ready.

use std::time::Duration;

use bytes::Bytes;
use muster::{Delivery, Endpoint, PeersReply, PeersRequest, Subscriber};
use muster_data::{DataRef, Encode, Record};
use muster_wire::zeek::{self, EventRef, Metadata};
use muster_wire::{Class, EndpointId, Topic};

/// The questions of one endpoint.
pub(super) struct Questions {
    endpoint: Endpoint,
    answers: Subscriber,
}

impl Questions {
    /// Listens for answers from now on, so before a node is dialled.
    pub(super) async fn new(endpoint: &Endpoint) -> Self {
        // A node answers to the id's topic, whatever its prefix: the topic is known from its own.
        let topic = format!("muster/peers/{}/", endpoint.id());
        Self {
            endpoint: endpoint.clone(),
            answers: endpoint.subscribe([topic]).await,
        }
    }

    /// Asks a node. Returns `None` if it does not answer in time.
    pub(super) async fn ask(&mut self, topic: &Topic, limit: Duration) -> Option<PeersReply> {
        // An unanswered question is noticed by its time-out.
        let _ = self.endpoint.publisher().publish_encoded(
            topic,
            Bytes::from(request()),
            Class::Interactive,
        );
        let answer = async {
            while let Some(Delivery::Batch(batch)) = self.answers.receive().await {
                let message = batch.iter().next();
                let value = message.map(|message| DataRef::from_validated(message.payload));
                let event = value.and_then(|value| EventRef::read(value).ok());
                let reply = event.and_then(|event| event.arguments().to::<PeersReply>().ok());
                if reply.is_some() {
                    return reply;
                }
            }
            None
        };
        tokio::time::timeout(limit, answer).await.ok().flatten()
    }
}

/// A cluster node's topic for its own id, if it subscribes to one.
pub(super) fn request_topic(id: EndpointId, filter: &[Vec<u8>]) -> Option<Topic> {
    let suffix = format!("/nodeid/{id}/");
    let entry = filter
        .iter()
        .find(|entry| entry.ends_with(suffix.as_bytes()))?;
    Topic::new(entry).ok()
}

/// The event that asks a node for its peers.
pub(super) fn request() -> Vec<u8> {
    let mut event = Vec::new();
    zeek::put_event(&mut event, PeersRequest::NAME, Metadata::default(), |out| {
        PeersRequest {}.encode(out);
    });
    event
}
