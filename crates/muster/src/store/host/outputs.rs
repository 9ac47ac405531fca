//! What a store wants done, done.

use bytes::Bytes;
use muster_store::broker::Snapshot;
use muster_store::{Notice, Output, Severity, WriteOutcome};
use muster_wire::mesh::topic_of;
use muster_wire::{Class, EndpointId, Topic};

use super::{Completion, Host, Inner};
use crate::endpoint::Publisher;
use crate::store::disk::Job;
use crate::store::rival;

/// Snapshots for Broker's clones of at least so many bytes are encoded on a thread of their own: the store goes on
/// meanwhile.
const LARGE: usize = 1 << 20;

impl Host {
    pub(super) fn carry_out(&self, inner: &mut Inner, ended: &mut Vec<(Completion, WriteOutcome)>) {
        while let Some(output) = inner.instance.poll() {
            self.do_one(inner, output, ended);
        }
    }

    fn do_one(
        &self,
        inner: &mut Inner,
        output: Output,
        ended: &mut Vec<(Completion, WriteOutcome)>,
    ) {
        let (topics, publisher) = (&self.topics, &mut inner.publisher);
        match output {
            Output::Broadcast(bytes) => broadcast(publisher, &topics.clone, bytes),
            Output::Find(bytes) => broadcast(publisher, &topics.primary, bytes),
            Output::Send(to, bytes) => send(publisher, to, bytes),
            Output::BrokerBroadcast(bytes) => broadcast(publisher, &topics.broker_clone, bytes),
            Output::BrokerFind(bytes) => broadcast(publisher, &topics.broker_master, bytes),
            Output::BrokerToClone(to, bytes) => {
                publisher.command_to(to, &topics.broker_clone, Bytes::from(bytes));
            }
            Output::BrokerToMaster(to, bytes) => {
                publisher.command_to(to, &topics.broker_master, Bytes::from(bytes));
            }
            Output::BrokerSnapshot(snapshot) => self.send_snapshot(publisher, *snapshot),
            Output::ListenToBroker(listens) => {
                inner.listens_to_broker = listens;
                self.earlier.notify_one();
            }
            Output::AskToOpen => {
                if let Some(ask) = &inner.ask_to_open {
                    // Until the node is there nobody hears it; it is asked again.
                    let payload = ask.payload.clone();
                    let _ = publisher.publish_encoded(&ask.topic, payload, Class::Interactive);
                }
            }
            Output::Request { epoch, request } => {
                if let Some(copies) = &inner.copies {
                    copies.request(&self.name, epoch, request, publisher);
                }
            }
            Output::FindRival => {
                let rival = rival::other_primary(&self.endpoint, &topics.broker_master);
                inner.instance.rival_found(rival);
            }
            Output::Load { limit } => self.load(inner, limit),
            Output::Commit(commit) => {
                if let Some(disk) = &inner.disk {
                    disk.ask(Job::Commit(commit));
                }
            }
            Output::Opened => {
                self.progress
                    .send_modify(|progress| progress.is_open = Some(true));
            }
            Output::OpenFailed => {
                self.progress
                    .send_modify(|progress| progress.is_open = Some(false));
            }
            Output::Attached => {
                inner.watchers.synced();
                self.progress
                    .send_modify(|progress| progress.is_attached = true);
            }
            Output::Changed(change) => inner.watchers.changed(&change),
            Output::Settled(settled) => {
                if let Some(completion) = inner.waiting.remove(&settled.token) {
                    ended.push((completion, settled.outcome));
                }
            }
            Output::Replied {
                request,
                revision,
                reply,
            } => {
                if let Some(asker) = inner.questions.remove(&request) {
                    let _ = asker.send((revision, reply));
                }
            }
            Output::NoReply { request } => {
                inner.questions.remove(&request);
            }
            Output::Notice(notice) => {
                self.copy_comes_and_goes(&notice);
                self.tell(&notice);
            }
        }
    }

    /// What is read of a copy that was given up is asked of the primary.
    fn copy_comes_and_goes(&self, notice: &Notice) {
        let is_given_up = match notice {
            Notice::TooLarge | Notice::NoRoomForCopy => true,
            Notice::RoomForCopy => false,
            _ => return,
        };
        self.progress.send_modify(|progress| {
            progress.is_given_up = is_given_up;
            progress.is_attached = false;
        });
    }

    fn send_snapshot(&self, publisher: &mut Publisher, snapshot: Snapshot) {
        let to = snapshot.command.receiver.endpoint;
        let topic = &self.topics.broker_clone;
        let runtime = tokio::runtime::Handle::try_current();
        if let Some(runtime) = runtime.ok().filter(|_| snapshot.size >= LARGE) {
            let (mut publisher, topic) = (self.endpoint.publisher(), topic.clone());
            runtime.spawn_blocking(move || {
                let bytes = Bytes::from(snapshot.command.encode());
                publisher.command_to(to, &topic, bytes);
            });
        } else {
            let bytes = Bytes::from(snapshot.command.encode());
            publisher.command_to(to, topic, bytes);
        }
    }

    fn tell(&self, notice: &Notice) {
        let text = match notice {
            Notice::Rival(id) => rival::told(&self.endpoint, &self.name, *id),
            Notice::TwoPrimaries(followed, other) => {
                rival::told_by_clone(&self.endpoint, &self.name, (*followed, *other))
            }
            Notice::FollowsBroker(master) => format!(
                "store {}: its primary is a master of Broker, at {}",
                self.name,
                rival::named(&self.endpoint, *master)
            ),
            _ => format!("store {}: {notice}", self.name),
        };
        match notice.severity() {
            Severity::Debug => tracing::debug!("{text}"),
            Severity::Info => tracing::info!("{text}"),
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Error => tracing::error!("{text}"),
        }
    }
}

/// To all who listen to a topic. What nobody hears is asked for again by who needs it.
fn broadcast(publisher: &mut Publisher, topic: &Topic, bytes: Vec<u8>) {
    let _ = publisher.publish_command(topic, Bytes::from(bytes), Class::Event);
}

fn send(publisher: &mut Publisher, to: EndpointId, bytes: Vec<u8>) {
    if let Ok(topic) = Topic::new(topic_of(to)) {
        let _ = publisher.publish_command(&topic, Bytes::from(bytes), Class::Event);
    }
}
