//! What runs as a node: one of ours, or a Zeek process as far as ours see it; and beside them the agents of boxes.

use bytes::Bytes;
use muster_cluster::node::{Effect, Input, NodeLoop, Now, Reach};
use muster_cluster::{Layout, Node, Topics};
use muster_data::{Data, Encode};
use muster_wire::zeek::{Metadata, put_event};
use muster_wire::{Class, EndpointId, Mono, Topic};

use super::agent::Agent;

/// A node's process.
pub(super) enum Process {
    Muster(Box<NodeLoop>),
    Zeek(ZeekProcess),
    Agent(Box<Agent>),
}

/// A Zeek process: says hello as Zeek does, without incarnation, subscribes to what Zeek's node of the
/// role does, keeps what it hears, and says what a test tells it to.
pub(super) struct ZeekProcess {
    hello: [Data; 2],
    topics: Topics,
    subscriptions: Vec<Topic>,
    heard: Vec<Bytes>,
    effects: Vec<Effect>,
}

impl ZeekProcess {
    pub(super) fn new(layout: &Layout, node: &Node, id: EndpointId) -> Self {
        let topics = layout.topics().clone();
        let broadcast = topics.broadcast();
        let mut subscriptions = topics.subscriptions(node, id, layout);
        // Zeek has no topic for all nodes.
        subscriptions.retain(|topic| *topic != broadcast);
        Self {
            hello: [
                Data::from(node.name.to_string()),
                Data::from(id.to_string()),
            ],
            topics,
            subscriptions,
            heard: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, topic: Topic, payload: Bytes) {
        self.effects.push(Effect::Publish {
            topic,
            payload,
            class: Class::Event,
        });
    }

    pub(super) fn heard(&self) -> &[Bytes] {
        &self.heard
    }

    fn step(&mut self, input: Input<'_>) {
        match input {
            Input::Reach(id, Reach::PeerUp(_)) => {
                let topic = self.topics.id(id);
                let hello = event("Cluster::hello", &self.hello[..]);
                self.publish(topic, hello);
            }
            Input::Message { payload, .. } => self.heard.push(Bytes::copy_from_slice(payload)),
            _ => {}
        }
    }
}

/// An event as Zeek sends it by default, without metadata.
pub(super) fn event(name: &str, arguments: &(impl Encode + ?Sized)) -> Bytes {
    let mut out = Vec::new();
    put_event(&mut out, name, Metadata::default(), |out| {
        arguments.encode(out);
    });
    Bytes::from(out)
}

impl Process {
    pub(super) fn subscriptions(&self) -> &[Topic] {
        match self {
            Self::Muster(node) => node.subscriptions(),
            Self::Zeek(process) => &process.subscriptions,
            Self::Agent(agent) => agent.subscriptions(),
        }
    }

    /// The topic that one of several managers alone hears.
    pub(super) fn manager_topic(&self) -> Option<Topic> {
        match self {
            Self::Muster(node) => node.manager_topic(),
            Self::Zeek(_) | Self::Agent(_) => None,
        }
    }

    pub(super) fn step(&mut self, input: Input<'_>, now: Now) {
        match self {
            Self::Muster(node) => node.step(input, now),
            Self::Zeek(process) => process.step(input),
            Self::Agent(agent) => agent.step(input, now),
        }
    }

    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        match self {
            Self::Muster(node) => node.take_effects(),
            Self::Zeek(process) => std::mem::take(&mut process.effects),
            Self::Agent(agent) => agent.take_effects(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match self {
            Self::Muster(node) => node.next_deadline(),
            Self::Zeek(_) => None,
            Self::Agent(agent) => Some(agent.next_deadline()),
        }
    }

    /// The node's loop, if it is one of ours.
    pub(super) fn muster(&self) -> Option<&NodeLoop> {
        match self {
            Self::Muster(node) => Some(node),
            Self::Zeek(_) | Self::Agent(_) => None,
        }
    }

    pub(super) fn zeek(&mut self) -> Option<&mut ZeekProcess> {
        match self {
            Self::Muster(_) | Self::Agent(_) => None,
            Self::Zeek(process) => Some(process),
        }
    }

    /// The agent, if it is one.
    pub(super) fn agent(&mut self) -> Option<&mut Agent> {
        match self {
            Self::Muster(_) | Self::Zeek(_) => None,
            Self::Agent(agent) => Some(agent),
        }
    }
}
