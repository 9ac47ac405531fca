//! What a store's core wants done, done.

use bytes::Bytes;
use muster_store::{CloneOutput, FollowerOutput, Now, PrimaryOutput, WriteFailure};
use muster_wire::mesh::topic_of;
use muster_wire::{Class, EndpointId, Topic};

use super::{Core, Done, Host, Inner, Outcome};
use crate::endpoint::Publisher;
use crate::store::disk::Job;

impl Inner {
    pub(super) fn carry_out(&mut self, host: &Host, now: Now, ended: &mut Vec<(Done, Outcome)>) {
        match &mut self.core {
            Core::Master(primary) => {
                while let Some(output) = primary.poll() {
                    match output {
                        PrimaryOutput::Broadcast(bytes) => {
                            let bytes = Bytes::from(bytes);
                            // What nobody hears is asked for again by who needs it.
                            let _ = self.publisher.publish_command(
                                &self.clone_topic,
                                bytes,
                                Class::Event,
                            );
                        }
                        PrimaryOutput::Send(to, bytes) => send(&mut self.publisher, to, bytes),
                        PrimaryOutput::Changed(change) => {
                            self.watchers.changed(&change);
                            if let Some(clones) = &mut self.broker.clones {
                                clones.changed(&change, now);
                            }
                        }
                        PrimaryOutput::Commit(commit) => {
                            if let Some(disk) = &self.disk {
                                disk.ask(Job::Commit(commit));
                            }
                        }
                        PrimaryOutput::Kept {
                            generation,
                            is_durable,
                        } => {
                            let all = std::mem::take(&mut self.keeping);
                            for (kept_with, answer, done) in all {
                                if kept_with > generation {
                                    self.keeping.push((kept_with, answer, done));
                                } else if is_durable {
                                    ended.push((done, Ok(answer)));
                                } else {
                                    ended.push((done, Err(WriteFailure::NotDurable)));
                                }
                            }
                        }
                    }
                }
                self.broker.carry_out(&host.endpoint, &mut self.publisher);
            }
            Core::Clone(clone) => {
                let mut is_attached = false;
                while let Some(output) = clone.poll() {
                    let output = match output {
                        FollowerOutput::Muster(output) => output,
                        other => {
                            self.broker.follow(other, &mut self.publisher);
                            continue;
                        }
                    };
                    match output {
                        CloneOutput::Find(bytes) => {
                            let bytes = Bytes::from(bytes);
                            let _ = self.publisher.publish_command(
                                &self.primary_topic,
                                bytes,
                                Class::Event,
                            );
                        }
                        CloneOutput::Send(to, bytes) => send(&mut self.publisher, to, bytes),
                        CloneOutput::Changed(change) => self.watchers.changed(&change),
                        CloneOutput::Settled(settled) => {
                            if let Some(done) = self.waiting.remove(&settled.token) {
                                ended.push((done, settled.outcome));
                            }
                        }
                        CloneOutput::Replied(request, revision, reply) => {
                            if let Some(asker) = self.questions.remove(&request) {
                                let _ = asker.send((revision, reply));
                            }
                        }
                        CloneOutput::Attached => is_attached = true,
                        CloneOutput::TooLarge => {
                            let name = &host.name;
                            tracing::error!(
                                "store {name}: larger than `stores.memory_limit`: this node has no copy"
                            );
                        }
                        CloneOutput::TwoPrimaries(first, second) => {
                            let name = &host.name;
                            tracing::error!(
                                "store {name}: two primaries, {first} and {second}; the first is kept"
                            );
                        }
                    }
                }
                if is_attached {
                    self.watchers.synced();
                    host.is_attached.send_replace(true);
                }
            }
        }
    }
}

fn send(publisher: &mut Publisher, to: EndpointId, bytes: Vec<u8>) {
    if let Ok(topic) = Topic::new(topic_of(to)) {
        let _ = publisher.publish_command(&topic, Bytes::from(bytes), Class::Event);
    }
}
