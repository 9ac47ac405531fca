//! Settings of an endpoint.

use std::time::Duration;

use super::peer_options::{LinkSpeed, PeerRule};
use super::tls::Tls;
use muster_wire::peering::Offer;
use muster_wire::{
    Class, ClassPolicy, EndpointId, Filter, Incarnation, Overflow, QueueLimits, frame, peering,
};

/// Settings of an [`Endpoint`](crate::Endpoint). The defaults are usable as they are.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The endpoint's id, or `None` for a random one. Every life of an endpoint needs an id of its own. With
    /// [`Tls::Mutual`] it must be `None`, unless the endpoint is in no mesh ([`Forwarding::Direct`]): then the id is made of
    /// random numbers and of the names in the certificate, so that nobody else can have it.
    pub id: Option<EndpointId>,
    /// What the endpoint tells the others of its mesh about itself; empty if it is not a node.
    pub identity: NodeIdentity,
    /// What it does with messages of others.
    pub forwarding: Forwarding,
    /// Whether it relays between its peers of version 1 and its mesh, if it relays at all: Zeek and
    /// Broker then hear the whole mesh through it, and are heard in the whole mesh.
    pub relay_version_1: bool,
    /// The name of the cluster that the endpoint belongs to, of 1 to 255 bytes. It refuses peerings with endpoints that
    /// name another one; those that name none, as Zeek and Broker, are peers of any.
    pub cluster: Option<String>,
    /// How connections are protected.
    pub tls: Tls,
    /// Whether peers of this machine use Unix sockets.
    pub local: LocalTransport,
    /// How long the reader of a connection that has nothing to read asks the system again and again before it waits to be
    /// woken, which takes longer than a message's way. Zero for not at all. Each connection with traffic may keep a
    /// processor busy for it: it is for few peers, and for machines with processors to spare.
    pub busy_poll: Duration,
    /// The bounds of the data queue towards each peer: of ordinary events, and of all data to a peer of version 1.
    /// What is being written is not counted.
    pub data_queue: QueueLimits,
    /// What happens when a data queue is full.
    pub overflow: Overflow,
    /// The bounds and the policy of the queue of requests and notices towards each peer of the mesh.
    pub interactive: ClassPolicy,
    /// The bounds and the policy of the queue of logs and snapshots towards each peer of the mesh.
    pub bulk: ClassPolicy,
    /// How fast the links are.
    pub speed: LinkSpeed,
    /// Options for some peers, which take precedence over the settings here.
    pub peers: Vec<PeerRule>,
    /// Topics whose events travel in another class of traffic.
    pub classes: TopicClasses,
    /// The most control frames that may be queued towards a peer; their bytes have the bound of its data queue. Also
    /// the most messages of [`Class::Control`](muster_wire::Class::Control), which the bounds of the data queue do not
    /// include. If there are more, the peering ends.
    pub control_queue: usize,
    /// How much the peers of the mesh may send before it has been dealt with.
    pub credit: Credit,
    /// The bounds of each local subscriber's queue, unless it asks for others.
    pub subscriber_queue: QueueLimits,
    /// How long a handshake may take; a TLS handshake may take as long again.
    pub handshake_timeout: Duration,
    /// How long to wait for a connection to be made.
    pub connect_timeout: Duration,
    /// How long the graceful end of a peering waits for the peer's confirmation.
    pub bye_timeout: Duration,
    /// How long a peer may be silent before it is pinged, and before it counts as lost.
    pub heartbeat: Heartbeat,
    /// The largest frame to accept and to send after the handshake, in bytes. It bounds
    /// [`EndpointConfig::largest_message`].
    pub frame_limit: usize,
    /// The most bytes that the readers of all peers hold together of frames, and of large messages in parts, that have
    /// not come to their end; what is up to 64 KiB is free. If they would hold more, the peering ends that has been at
    /// its frame for the longest time. At least two frames of the largest size are allowed in any case.
    pub unfinished_frames: usize,
    /// The most bytes that the filters of all peers may take together: what they say that they subscribe to. One of up
    /// to 16 KiB is free; the peering of a peer whose filter is larger and does not fit ends, and is counted.
    pub peer_filters: usize,
    /// The most handshakes under way. If there are more, the oldest connection is closed, those first whose other side
    /// has not said who it is.
    pub max_handshakes: usize,
    /// The most peers; further connections are closed.
    pub max_peers: usize,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            id: None,
            identity: NodeIdentity::default(),
            forwarding: Forwarding::default(),
            relay_version_1: true,
            cluster: None,
            tls: Tls::Off,
            local: LocalTransport::default(),
            busy_poll: Duration::ZERO,
            // What a relay's reads bring before its writers have their turn: eight times Zeek's
            // `Broker::peer_buffer_size`, plus a bound in bytes.
            data_queue: QueueLimits {
                messages: 65_536,
                bytes: 64 << 20,
            },
            overflow: Overflow::DropOldest,
            interactive: ClassPolicy {
                limits: QueueLimits {
                    messages: 65_536,
                    bytes: 16 << 20,
                },
                overflow: Overflow::DropOldest,
            },
            bulk: ClassPolicy {
                limits: QueueLimits {
                    messages: 65_536,
                    bytes: 64 << 20,
                },
                overflow: Overflow::DropOldest,
            },
            speed: LinkSpeed::default(),
            peers: Vec::new(),
            classes: TopicClasses::default(),
            control_queue: 1024,
            credit: Credit::default(),
            subscriber_queue: QueueLimits {
                messages: 65_536,
                bytes: 64 << 20,
            },
            handshake_timeout: peering::HANDSHAKE_TIMEOUT,
            connect_timeout: Duration::from_secs(5),
            bye_timeout: Duration::from_secs(3),
            heartbeat: Heartbeat::default(),
            frame_limit: frame::DEFAULT_LIMIT,
            unfinished_frames: 256 << 20,
            peer_filters: 64 << 20,
            max_handshakes: 256,
            max_peers: 4096,
        }
    }
}

impl EndpointConfig {
    /// Returns the largest message that this endpoint publishes or relays, in bytes of its topic and payload: 1 KiB
    /// less than [`EndpointConfig::frame_limit`], 64 MiB - 1 KiB by default. The default queues of events and of bulk
    /// take it, that of [`Class::Interactive`](muster_wire::Class::Interactive) takes 16 MiB. What a queue can never
    /// take is dropped and counted with it as too large, and its log names topic and size; a publisher hears of it by
    /// [`Outcome::too_large`](crate::Outcome::too_large).
    pub fn largest_message(&self) -> usize {
        self.frame_limit.saturating_sub(frame::MESSAGE_ROOM)
    }

    /// Returns the [`frame_limit`](Self::frame_limit) with which a message of so many bytes, its topic included, is the
    /// largest.
    pub const fn frame_limit_for(largest_message: usize) -> usize {
        largest_message.saturating_add(frame::MESSAGE_ROOM)
    }

    /// What the queues towards all peers of the mesh do, in the order of [`Class`].
    pub(crate) fn policies(&self) -> [ClassPolicy; 4] {
        let event = ClassPolicy {
            limits: self.data_queue,
            overflow: self.overflow,
        };
        // Of control, all is reserved; what it holds is bounded like events.
        [event, self.interactive, event, self.bulk]
    }
}

/// How much each peer of the mesh may send, in each class of traffic, before this endpoint has dealt with it. It
/// bounds what is in transit, and what subscribers' queues receive beyond what they can take. A message counts with
/// the bytes of its topic and payload plus [`credit::OVERHEAD`](muster_wire::credit::OVERHEAD).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The most bytes per class and link; the last message may exceed them.
    pub link: u64,
    /// The bytes per class that all links share: with many links each has less than `link`, but at least 64 KiB.
    pub all: u64,
}

impl Credit {
    /// What each link has at least, whatever the number of links.
    const LEAST: u64 = 64 << 10;

    /// No bound.
    pub const UNLIMITED: Self = Self {
        link: u64::MAX,
        all: u64::MAX,
    };

    /// What each of so many links has.
    pub(crate) fn window(self, links: usize) -> u64 {
        let part = self.all / (links.max(1) as u64);
        part.max(Self::LEAST).min(self.link)
    }
}

impl Default for Credit {
    fn default() -> Self {
        // A quarter of a subscriber's queue for all links: half of it is filled before credit is held back.
        Self {
            link: 16 << 20,
            all: 16 << 20,
        }
    }
}

/// What an endpoint tells the others of its mesh about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeIdentity {
    /// Its name, of at most 255 bytes; empty for an endpoint that is no node.
    pub name: String,
    /// Its role, of at most 255 bytes.
    pub role: String,
    /// The machine it runs on, of at most 255 bytes.
    pub machine: String,
    /// Which life of its name this is.
    pub incarnation: Incarnation,
}

/// Topic prefixes whose events are in another class of traffic than [`Class::Event`]. What is
/// published in another class by its author stays there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicClasses {
    /// Their events go before others ([`Class::Interactive`]).
    pub interactive: Filter,
    /// Their events go after others ([`Class::Bulk`]).
    pub bulk: Filter,
}

impl TopicClasses {
    /// Returns the class of a message that its author publishes in `class`. A topic with prefixes in both lists is
    /// interactive.
    #[inline]
    pub fn class_of(&self, topic: &[u8], class: Class) -> Class {
        if class != Class::Event || (self.interactive.is_empty() && self.bulk.is_empty()) {
            class
        } else if self.interactive.matches(topic) {
            Class::Interactive
        } else if self.bulk.matches(topic) {
            Class::Bulk
        } else {
            class
        }
    }
}

/// What an endpoint does with messages of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// It relays between the endpoints of its mesh.
    #[default]
    Relay,
    /// It is in the mesh, and relays nothing.
    Leaf,
    /// It is in no mesh: it exchanges its own messages with its direct peers, as Broker does. To them it is a peer of
    /// version 1, for which a relay of a mesh relays.
    Direct,
}

impl Forwarding {
    pub(crate) fn offer(self) -> Offer {
        match self {
            Self::Relay => Offer::V2 { relays: true },
            Self::Leaf => Offer::V2 { relays: false },
            Self::Direct => Offer::V1,
        }
    }

    /// What is offered where a peering is to be apart from the mesh.
    pub(crate) fn offer_apart(self) -> Offer {
        match self {
            Self::Relay | Self::Leaf => Offer::Apart,
            Self::Direct => Offer::V1,
        }
    }
}

/// When a silent peer is pinged, and when it is given up. Anything that arrives is a sign of life, and every endpoint
/// answers pings, Broker's too. A peer that crashes closes its connection and is lost at once; this finds those that
/// hang, and those whose machine or network is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// How long a peer may be silent before it is pinged. Zero turns heartbeats off: no peer is pinged or given up.
    pub interval: Duration,
    /// How long a peer may be silent before it is lost: in whole intervals, and at least two of them.
    pub timeout: Duration,
}

impl Heartbeat {
    /// No heartbeats.
    pub const OFF: Self = Self {
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
    };
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Whether peers of one machine use Unix sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalTransport {
    /// On Linux, between processes of one user that have the same network namespace: beside each port there is a Unix
    /// socket, and whoever dials an address of its own machine takes that if it is there. Everything else goes by TCP, as
    /// does a peer of version 1. Their connections are not encrypted with [`Tls::Anonymous`]: the system says that the
    /// other side is of the same user, which is more than that says. With [`Tls::Mutual`] they are.
    #[default]
    Auto,
    /// They do not: all connections are TCP.
    Off,
}

/// On which addresses an endpoint may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposure {
    /// On loopback addresses, and on others only with [`Tls::Mutual`].
    #[default]
    Guarded,
    /// Also with [`Tls::Anonymous`] on any address: everyone who reaches it can take part.
    AnonymousAnywhere,
    /// Also without encryption on any address: everyone who reaches it, or the network on the way,
    /// can read and write everything.
    PlaintextAnywhere,
}

impl Exposure {
    /// Whether listening on an address that others can reach is allowed.
    pub(crate) fn allows(self, tls: &Tls) -> bool {
        match tls {
            Tls::Mutual(_) => true,
            Tls::Anonymous => self != Self::Guarded,
            Tls::Off => self == Self::PlaintextAnywhere,
        }
    }
}
