//! Dropped messages, by cause and topic.

use std::collections::BTreeMap;
use std::fmt;

use super::{Counter, Descriptor};
use crate::Topic;

mod descriptors {
    crate::counters! {
        /// Messages that did not reach the end of a queue, by cause. `queue` is `peer` (to `peer`), `joining` (published
        /// before the endpoint had joined its mesh), `local` (events of the node to itself), `subscriber` (all of the
        /// endpoint's subscribers together: the node's loop, the gateway, the bridge), `websocket` (clients of the gateway),
        /// `relay` (came from a neighbour to be passed on, and no way led on, cause `no_next_hop`) or `none` (nobody
        /// subscribed, which is no fault). Growth means that somebody reads more slowly than others publish: look at the load
        /// of that peer or node, then at its queue's bounds (`peering.*_queue`). With `relay` it means that endpoints see
        /// different ways: some come with every change of links, and of these most come to their receivers by another way
        /// as well; without such changes it means that this node, or the one before it, hears of changes seconds late.
        pub(super) DROPPED = counter("muster_dropped_messages_total").labels(&["cause", "queue", "peer", "topic"]);
        /// What `muster_dropped_messages_total` counts with the queue `subscriber`, for the subscribers that have a name:
        /// `node` (the node's loop), `gateway` and `bridge`. Growth means that this one does not keep up: spread the
        /// work of the node's frameworks, or subscribe to fewer topics.
        pub(super) SUBSCRIBER_DROPPED =
            counter("muster_subscriber_dropped_messages_total").labels(&["cause", "subscriber", "topic"]);
    }
}

/// Why a message did not reach a queue's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropCause {
    /// The queue was full and its policy is to drop the oldest.
    Oldest,
    /// The queue was full and its policy is to drop the newest.
    Newest,
    /// The queue was full and its policy is to disconnect.
    Disconnect,
    /// The message was still queued when the peering ended.
    PeerGone,
    /// A local publisher waited for room until its deadline.
    Deadline,
    /// One message is larger than the whole queue or a frame may be.
    TooLarge,
    /// The payload or the envelope was malformed.
    Malformed,
    /// The envelope claims a sender other than the connection's peer, or has a topic that never
    /// crosses an endpoint's border.
    Forged,
    /// The envelope is addressed to another endpoint, and nothing is relayed.
    NotForUs,
    /// It was a command for a store, and this endpoint has none for it.
    NoStore,
    /// No peer subscribes to the topic.
    NoSubscriber,
    /// The local subscriber had ended, or ended without taking the message.
    Closed,
    /// The message came after a later one of its origin and class, and the subscriber asks for
    /// order.
    Reordered,
    /// The message came from a neighbour to be passed on, and no way leads on from here to anybody who wants it.
    NoNextHop,
}

impl DropCause {
    /// Returns the cause in one word, for counters and screens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oldest => "drop_oldest",
            Self::Newest => "drop_newest",
            Self::Disconnect => "disconnect",
            Self::PeerGone => "peer_gone",
            Self::Deadline => "deadline",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::NotForUs => "not_for_us",
            Self::NoStore => "no_store",
            Self::NoSubscriber => "no_subscriber",
            Self::Closed => "closed",
            Self::Reordered => "reordered",
            Self::NoNextHop => "no_next_hop",
        }
    }
}

/// The most distinct topic labels that a ledger keeps apart; the rest count as `other`.
const MAX_LABELS: usize = 256;

/// The dropped messages of one cause and topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// Why they were dropped.
    pub cause: DropCause,
    /// Their topic, normalised; `other` if the ledger had no room for another topic.
    pub topic: &'a str,
    /// How many.
    pub messages: u64,
}

/// Dropped messages by cause and normalised topic.
#[derive(Clone, Default)]
pub struct DropLedger {
    /// In order.
    counts: Vec<((DropCause, String), u64)>,
    /// The topic that was counted last, and where: a full queue drops one message of it after the other.
    last: Option<Last>,
}

#[derive(Clone)]
struct Last {
    cause: DropCause,
    topic: Box<[u8]>,
    at: usize,
}

impl PartialEq for DropLedger {
    fn eq(&self, other: &Self) -> bool {
        self.counts == other.counts
    }
}

impl Eq for DropLedger {}

#[allow(
    clippy::missing_fields_in_debug,
    reason = "what was counted last is no count"
)]
impl fmt::Debug for DropLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: BTreeMap<_, _> = self
            .counts
            .iter()
            .map(|(key, count)| (key, count))
            .collect();
        f.debug_struct("DropLedger")
            .field("counts", &counts)
            .finish()
    }
}

impl DropLedger {
    /// What [`DropLedger::counters`] and [`DropLedger::counters_of_subscriber`] return.
    pub const DESCRIPTORS: &'static [Descriptor] = descriptors::ALL;

    /// Counts one dropped message with a topic, which need not be a valid one.
    pub fn count_topic(&mut self, cause: DropCause, topic: &[u8]) {
        if let Some(last) = &self.last
            && last.cause == cause
            && *last.topic == *topic
        {
            self.counts[last.at].1 += 1;
            return;
        }
        let label = Topic::new(topic).map(|topic| topic.normalized());
        let at = self.add(cause, label.as_deref().unwrap_or_default(), 1);
        let topic = topic.into();
        self.last = Some(Last { cause, topic, at });
    }

    /// Counts `messages` dropped messages of one topic label.
    pub fn count(&mut self, cause: DropCause, label: &str, messages: u64) {
        if messages > 0 {
            self.last = None;
            self.add(cause, label, messages);
        }
    }

    fn add(&mut self, cause: DropCause, label: &str, messages: u64) -> usize {
        let place = |label: &str| {
            let key = (cause, label);
            self.counts
                .binary_search_by(|((cause, label), _)| (*cause, &label[..]).cmp(&key))
        };
        let (label, found) = match place(label) {
            Err(_) if self.counts.len() >= MAX_LABELS => ("other", place("other")),
            found => (label, found),
        };
        let at = found.unwrap_or_else(|at| {
            self.counts.insert(at, ((cause, label.to_owned()), 0));
            at
        });
        self.counts[at].1 += messages;
        at
    }

    /// Returns the number of all messages dropped, for any cause.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, messages)| messages).sum()
    }

    /// Returns the number of messages dropped, by cause.
    pub fn by_cause(&self) -> BTreeMap<DropCause, u64> {
        let mut sums = BTreeMap::new();
        for ((cause, _), value) in &self.counts {
            *sums.entry(*cause).or_default() += value;
        }
        sums
    }

    /// Returns the dropped messages of each cause and topic.
    pub fn entries(&self) -> impl Iterator<Item = Dropped<'_>> {
        self.counts
            .iter()
            .map(|((cause, topic), messages)| Dropped {
                cause: *cause,
                topic,
                messages: *messages,
            })
    }

    /// Adds another ledger's counts to this one.
    pub fn merge(&mut self, other: &Self) {
        for dropped in other.entries() {
            self.count(dropped.cause, dropped.topic, dropped.messages);
        }
    }

    /// Returns the counters of what was dropped for a subscriber that has a name. The endpoint also
    /// counts these messages among those of all its subscribers.
    pub fn counters_of_subscriber(&self, subscriber: &str) -> Vec<Counter> {
        let counter = |dropped: Dropped<'_>| {
            let labels = [
                ("cause", dropped.cause.name().to_owned()),
                ("subscriber", subscriber.to_owned()),
                ("topic", dropped.topic.to_owned()),
            ];
            descriptors::SUBSCRIBER_DROPPED.of_each(labels, dropped.messages)
        };
        self.entries().map(counter).collect()
    }

    /// Returns the counters of what was dropped from a queue. `peer` is the peer that the queue
    /// leads to, or empty if it leads to none.
    pub fn counters(&self, queue: &str, peer: &str) -> Vec<Counter> {
        let counter = |dropped: Dropped<'_>| {
            let labels = [
                ("cause", dropped.cause.name().to_owned()),
                ("queue", queue.to_owned()),
                ("peer", peer.to_owned()),
                ("topic", dropped.topic.to_owned()),
            ];
            descriptors::DROPPED.of_each(labels, dropped.messages)
        };
        self.entries().map(counter).collect()
    }
}
