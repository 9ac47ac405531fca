//! Options for single peers, in place of the endpoint's settings for all.

use std::net::{IpAddr, SocketAddr};

use muster_wire::{Class, ClassPolicy, Overflow};

use super::config::EndpointConfig;

/// Options of one queue towards a peer. What is `None` is as for all peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueOptions {
    /// The most messages.
    pub messages: Option<usize>,
    /// The most bytes of the allocations that the queued messages keep alive.
    pub bytes: Option<usize>,
    /// What happens when the queue is full. If set, this also decides whether publishers wait: with
    /// [`Overflow::Block`] they wait for room in this queue, with any other policy nobody waits for this peer. If not
    /// set, publishers with a deadline wait.
    pub overflow: Option<Overflow>,
}

/// How fast a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkSpeed {
    /// Faster than compression.
    #[default]
    Fast,
    /// So slow that compression pays: what is sent is compressed where that makes it at least a tenth smaller. The
    /// peer must have said that it reads compressed frames, as every Muster endpoint does that knows of them.
    /// Compression costs some microseconds for each KiB on both sides.
    Slow,
}

/// Options for one peer. What is not set is as for all peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerOptions {
    /// The queue of ordinary events, and of all data to a peer of version 1 ([`EndpointConfig::data_queue`]). Frames
    /// of the mesh itself are bounded as for all peers.
    pub data: QueueOptions,
    /// The queue of requests and notices ([`EndpointConfig::interactive`]).
    pub interactive: QueueOptions,
    /// The queue of logs and snapshots ([`EndpointConfig::bulk`]).
    pub bulk: QueueOptions,
    /// How fast the link is ([`EndpointConfig::speed`]).
    pub speed: Option<LinkSpeed>,
}

/// Which peers a rule is for.
///
/// The name and role of a peer of version 2 are what it says about itself; they are known before the first message is
/// routed to it. A peer of version 1 says neither: only an address matches it. It can also be dialled with options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMatch {
    /// The node of this name in the mesh.
    Name(String),
    /// The nodes of this role in the mesh.
    Role(String),
    /// Peers whose connection comes from this address, or was dialled to it by number rather than by a host's name.
    Host(IpAddr),
}

/// Options for some peers. Of several rules that match, the last that sets an option decides; what a
/// peer was dialled with comes after all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRule {
    /// The peers.
    pub peer: PeerMatch,
    /// The options for them.
    pub options: PeerOptions,
}

/// Who a peer is, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) address: &'a str,
    /// Name and role of a peer of version 2.
    pub(crate) node: Option<(&'a str, &'a str)>,
}

/// What the queues towards one peer do, in the order of [`Class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policies {
    pub(crate) classes: [ClassPolicy; 4],
    /// Whether a publisher that waits for room does so for this peer.
    pub(crate) is_waited_for: [bool; 4],
    pub(crate) is_slow: bool,
}

impl PeerMatch {
    fn matches(&self, peer: Known<'_>) -> bool {
        match self {
            Self::Name(name) => peer.node.is_some_and(|(known, _)| known == name),
            Self::Role(role) => peer.node.is_some_and(|(_, known)| known == role),
            Self::Host(host) => {
                let address = peer.address.parse::<SocketAddr>();
                // Whoever came over a Unix socket has no port.
                let ip = address.map_or_else(|_| peer.address.parse(), |it| Ok(it.ip()));
                ip.is_ok_and(|ip: IpAddr| ip.to_canonical() == host.to_canonical())
            }
        }
    }
}

impl QueueOptions {
    fn apply(self, policy: &mut ClassPolicy, is_waited_for: &mut bool) {
        if let Some(messages) = self.messages {
            policy.limits.messages = messages;
        }
        if let Some(bytes) = self.bytes {
            policy.limits.bytes = bytes;
        }
        if let Some(overflow) = self.overflow {
            policy.overflow = overflow;
            *is_waited_for = overflow == Overflow::Block;
        }
    }
}

impl Policies {
    /// What the endpoint's settings say for all peers.
    pub(crate) fn of_all(config: &EndpointConfig) -> Self {
        Self {
            classes: config.policies(),
            is_waited_for: [true; 4],
            is_slow: config.speed == LinkSpeed::Slow,
        }
    }

    /// What holds towards a peer by the endpoint's rules, and what it was dialled with.
    pub(crate) fn of(config: &EndpointConfig, peer: Known<'_>, dialled: &PeerOptions) -> Self {
        let mut policies = Self::of_all(config);
        let rules = config.peers.iter().filter(|rule| rule.peer.matches(peer));
        for options in rules.map(|rule| &rule.options).chain([dialled]) {
            policies.set(options);
        }
        policies
    }

    fn set(&mut self, options: &PeerOptions) {
        if let Some(speed) = options.speed {
            self.is_slow = speed == LinkSpeed::Slow;
        }
        for (class, queue) in [
            (Class::Event, options.data),
            (Class::Interactive, options.interactive),
            (Class::Bulk, options.bulk),
        ] {
            let at = class as usize;
            queue.apply(&mut self.classes[at], &mut self.is_waited_for[at]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(peer: PeerMatch, messages: usize, overflow: Option<Overflow>) -> PeerRule {
        let bulk = QueueOptions {
            messages: Some(messages),
            bytes: None,
            overflow,
        };
        PeerRule {
            peer,
            options: PeerOptions {
                bulk,
                ..PeerOptions::default()
            },
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides_and_what_was_dialled_with_is_last() {
        let host = "192.0.2.1".parse().unwrap();
        let config = EndpointConfig {
            peers: vec![
                rule(
                    PeerMatch::Role("logger".to_owned()),
                    1,
                    Some(Overflow::DropNewest),
                ),
                rule(PeerMatch::Name("logger-1".to_owned()), 2, None),
                rule(PeerMatch::Host(host), 3, Some(Overflow::Block)),
            ],
            ..EndpointConfig::default()
        };
        let nothing = PeerOptions::default();
        let bulk = |address, node, dialled| {
            let policies = Policies::of(&config, Known { address, node }, dialled);
            let at = Class::Bulk as usize;
            let policy = policies.classes[at];
            assert_eq!(policy.limits.bytes, config.bulk.limits.bytes);
            assert_eq!(policies.classes[0], Policies::of_all(&config).classes[0]);
            (
                policy.limits.messages,
                policy.overflow,
                policies.is_waited_for[at],
            )
        };
        let all = config.bulk;
        let elsewhere = "198.51.100.7:9999";
        assert_eq!(
            bulk(elsewhere, Some(("worker-1", "worker")), &nothing),
            (all.limits.messages, all.overflow, true)
        );
        assert_eq!(
            bulk(elsewhere, Some(("logger-1", "logger")), &nothing),
            (2, Overflow::DropNewest, false)
        );
        assert_eq!(
            bulk(
                "[::ffff:192.0.2.1]:47761",
                Some(("logger-1", "logger")),
                &nothing
            ),
            (3, Overflow::Block, true)
        );
        assert_eq!(
            bulk("192.0.2.1:5", None, &nothing),
            (3, Overflow::Block, true)
        );
        assert_eq!(
            bulk("192.0.2.1", None, &nothing),
            (3, Overflow::Block, true)
        );
        assert_eq!(bulk("a.host:5", None, &nothing).1, all.overflow);
        let dialled = rule(PeerMatch::Host(host), 9, Some(Overflow::Disconnect)).options;
        assert_eq!(
            bulk("192.0.2.1:5", None, &dialled),
            (9, Overflow::Disconnect, false)
        );
    }
}
