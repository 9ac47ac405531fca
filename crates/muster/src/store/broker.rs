//! Broker's protocol on an endpoint: what a store's host sends and tells by it.

use bytes::Bytes;
use muster_store::broker::{BrokerClones, ClonesOutput};
use muster_store::{FollowerOutput, StoreName};
use muster_wire::{Class, Topic};

use crate::endpoint::{Endpoint, Publisher};

/// Snapshots of at least so many bytes are encoded on a thread of their own: the store goes on meanwhile.
const LARGE: usize = 1 << 20;

/// Of a store's host, what belongs to Broker's protocol.
#[derive(Debug)]
pub(super) struct BrokerPart {
    name: StoreName,
    /// Beside a master: the clones that it serves.
    pub(super) clones: Option<BrokerClones>,
    clone_topic: Topic,
    master_topic: Topic,
}

impl BrokerPart {
    pub(super) fn new(name: &StoreName, clones: Option<BrokerClones>) -> Self {
        Self {
            name: name.clone(),
            clones,
            clone_topic: name.broker_clone_topic(),
            master_topic: name.broker_master_topic(),
        }
    }

    /// Does what a master wants done for Broker's clones.
    pub(super) fn carry_out(&mut self, endpoint: &Endpoint, publisher: &mut Publisher) {
        let Some(clones) = &mut self.clones else {
            return;
        };
        let name = &self.name;
        while let Some(output) = clones.poll() {
            match output {
                ClonesOutput::Broadcast(bytes) => {
                    // What nobody hears is asked for again by who needs it.
                    let _ = publisher.publish_command(
                        &self.clone_topic,
                        Bytes::from(bytes),
                        Class::Event,
                    );
                }
                ClonesOutput::Send(to, bytes) => {
                    publisher.command_to(to, &self.clone_topic, Bytes::from(bytes));
                }
                ClonesOutput::Snapshot(snapshot) => {
                    let to = snapshot.command.receiver.endpoint;
                    let runtime = tokio::runtime::Handle::try_current();
                    if let Some(runtime) = runtime.ok().filter(|_| snapshot.size >= LARGE) {
                        let (mut publisher, topic) =
                            (endpoint.publisher(), self.clone_topic.clone());
                        runtime.spawn_blocking(move || {
                            let bytes = Bytes::from(snapshot.command.encode());
                            publisher.command_to(to, &topic, bytes);
                        });
                    } else {
                        let bytes = Bytes::from(snapshot.command.encode());
                        publisher.command_to(to, &self.clone_topic, bytes);
                    }
                }
                ClonesOutput::TooLarge(clone, size) => {
                    let endpoint = clone.endpoint;
                    tracing::error!(
                        "store {name}: its {size} bytes fit into no frame, so the Broker clone at \
                         {endpoint} gets nothing"
                    );
                }
                ClonesOutput::Attached(clone) => {
                    let endpoint = clone.endpoint;
                    tracing::info!("store {name}: serves a Broker clone at {endpoint}");
                }
                ClonesOutput::Dropped(clone) => {
                    let endpoint = clone.endpoint;
                    tracing::warn!(
                        "store {name}: the Broker clone at {endpoint} is not served any more: it is \
                         silent, or lags too far"
                    );
                }
                ClonesOutput::Refused(clone, refusal) => {
                    let endpoint = clone.endpoint;
                    tracing::debug!(
                        "store {name}: a write of the Broker clone at {endpoint} is refused: {refusal}"
                    );
                }
            }
        }
    }

    /// Does what a clone wants done by Broker's protocol.
    pub(super) fn follow(&self, output: FollowerOutput, publisher: &mut Publisher) {
        let name = &self.name;
        match output {
            FollowerOutput::BrokerFind(bytes) => {
                let bytes = Bytes::from(bytes);
                let _ = publisher.publish_command(&self.master_topic, bytes, Class::Event);
            }
            FollowerOutput::BrokerSend(to, bytes) => {
                publisher.command_to(to, &self.master_topic, Bytes::from(bytes));
            }
            FollowerOutput::FollowsBroker(master) => {
                tracing::info!("store {name}: its master is one of Broker, at {master}");
            }
            FollowerOutput::FollowsMuster => {
                tracing::warn!(
                    "store {name}: a Muster master has appeared, and is followed in place of \
                     Broker's"
                );
            }
            FollowerOutput::Muster(_) => {}
        }
    }
}
