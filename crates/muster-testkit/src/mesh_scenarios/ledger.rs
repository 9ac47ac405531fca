//! Who published what, who got it, and what that breaks.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::endpoint::Message;
use muster_wire::EndpointId;
use muster_wire::{Class, MessageId};

type Key = (MessageId, Class);

#[derive(Debug)]
struct Sent {
    /// Those who must get it, if nothing is lost.
    expected: Option<BTreeSet<EndpointId>>,
    /// The transmissions that are needed, if nothing changes.
    needed: Option<usize>,
    delivered: BTreeSet<EndpointId>,
    transmissions: usize,
    topic: String,
    why: &'static str,
}

/// All messages since the ledger was closed last.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: BTreeMap<Key, Sent>,
    last: HashMap<(EndpointId, EndpointId, Class), u64>,
    /// Whether order must hold: nothing changed since the ledger was closed.
    pub(super) is_ordered: bool,
    pub(super) violations: Vec<String>,
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) transmissions: u64,
}

impl Ledger {
    pub(super) fn publish(
        &mut self,
        key: Key,
        topic: String,
        expected: Option<BTreeSet<EndpointId>>,
        needed: Option<usize>,
        why: &'static str,
    ) {
        self.published += 1;
        // The first transmissions were counted before the publisher knew the number.
        let sent = self.sent.entry(key).or_insert_with(Sent::new);
        sent.topic = topic;
        sent.expected = expected;
        sent.needed = needed;
        sent.why = why;
    }

    pub(super) fn transmitted(&mut self, key: Key) {
        self.transmissions += 1;
        let sent = self.sent.entry(key).or_insert_with(Sent::new);
        sent.transmissions += 1;
        // No tree needs more, and a storm would not end by itself.
        if sent.transmissions > 100_000 {
            self.violations.push(format!("a storm of {:?}", key.0));
        }
    }

    pub(super) fn deliver(&mut self, to: EndpointId, message: &Message) {
        self.delivered += 1;
        let key = (message.id, message.class);
        if message.id.origin == to {
            self.violations
                .push(format!("{to} got its own {:?} back", message.id));
        }
        let sent = self.sent.entry(key).or_insert_with(Sent::new);
        if !sent.delivered.insert(to) {
            self.violations
                .push(format!("{to} got {:?} twice", message.id));
        }
        let has_one_way = sent.needed.is_some();
        let last = self
            .last
            .entry((to, message.id.origin, message.class))
            .or_default();
        if self.is_ordered && has_one_way && message.id.sequence < *last {
            self.violations
                .push(format!("{to} got {:?} behind {last}", message.id));
        }
        *last = message.id.sequence.max(*last);
    }

    /// Everything has arrived that will: was it all, and no more?
    pub(super) fn close(&mut self, is_alive: impl Fn(EndpointId) -> bool) {
        for ((id, _), sent) in std::mem::take(&mut self.sent) {
            let Some(expected) = sent.expected else {
                continue;
            };
            for missed in expected
                .difference(&sent.delivered)
                .filter(|id| is_alive(**id))
            {
                self.violations.push(format!(
                    "{missed} missed {id:?} on {} ({})",
                    sent.topic, sent.why
                ));
            }
            if let Some(needed) = sent.needed {
                if let Some(extra) = sent.delivered.difference(&expected).next() {
                    self.violations
                        .push(format!("{extra} got {id:?} on {}", sent.topic));
                }
                if sent.transmissions != needed {
                    self.violations.push(format!(
                        "{id:?} on {} took {} transmissions, not {needed}",
                        sent.topic, sent.transmissions
                    ));
                }
            }
        }
    }
}

impl Sent {
    fn new() -> Self {
        Self {
            expected: None,
            needed: None,
            delivered: BTreeSet::new(),
            transmissions: 0,
            topic: String::new(),
            why: "",
        }
    }
}
