//! What loggers have: each tells the nodes that it has records of how many, so that what it takes with it when it dies is known.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_data::{Encode, Record};
use muster_wire::zeek::{EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono};

use super::{NodeLife, NodeLoop};
use crate::layout::MOST_NODES;

/// How long records wait to be confirmed.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);

/// A logger has taken records of the node that this is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Record)]
#[record(name = "Muster::records_taken")]
pub(super) struct RecordsTaken {
    /// How many since it said so last.
    pub(super) records: u64,
}

/// The records that a logger has taken and not confirmed.
#[derive(Debug, Default)]
pub(super) struct Confirmations {
    taken: BTreeMap<EndpointId, u64>,
    due: Option<Mono>,
}

impl Confirmations {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.due
    }
}

impl NodeLoop {
    /// This node, a logger, has records of another.
    pub(super) fn took_records(&mut self, from: EndpointId, records: u64) {
        let taken = &self.confirmations.taken;
        let is_full = taken.len() >= MOST_NODES && !taken.contains_key(&from);
        if from == self.core.id || is_full {
            return;
        }
        let now = self.core.clock.now.mono;
        self.confirmations
            .due
            .get_or_insert(now.after(CONFIRM_EVERY));
        *self.confirmations.taken.entry(from).or_default() += records;
    }

    pub(super) fn confirm_records_if_due(&mut self) {
        let now = self.core.clock.now.mono;
        if self.confirmations.due.is_some_and(|due| due <= now) {
            self.confirm_records();
        }
    }

    /// Tells every node how many records of it this one has taken.
    pub(super) fn confirm_records(&mut self) {
        self.confirmations.due = None;
        for (id, records) in std::mem::take(&mut self.confirmations.taken) {
            // Whoever is gone asks no more. A node whose hello was on its way has said it by now.
            if self.core.members.membership.name_of(id).is_none() {
                continue;
            }
            let topic = self.core.layout.topics().id(id);
            let taken = RecordsTaken { records };
            let metadata = Metadata::default();
            self.core.send(
                &topic,
                Class::Control,
                RecordsTaken::NAME,
                metadata,
                |out| {
                    taken.encode(out);
                },
            );
        }
    }

    /// A logger has taken records of this node.
    pub(super) fn records_taken(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Ok(taken) = event.arguments().to::<RecordsTaken>() else {
            self.core.counts.events_refused += 1;
            return;
        };
        let Some(name) = self.core.members.membership.name_of(from) else {
            return;
        };
        if let Some(sent) = self.core.logging.unconfirmed.get_mut(name) {
            *sent = sent.saturating_sub(taken.records);
        }
    }

    /// A logger is down: what it has not confirmed may be gone with it.
    pub(super) fn logger_down(&mut self, life: &NodeLife) {
        let open = self.core.logging.unconfirmed.remove(&life.name);
        let open = open.filter(|records| *records > 0);
        if let Some(records) = open {
            self.core.counts.records_unconfirmed += records;
            let kind = "unconfirmed records";
            let name = &life.name;
            let text = || {
                format!(
                    "{records} log records were given to {name}, which went down before it had confirmed them"
                )
            };
            self.core.report(super::Severity::Warning, kind, text);
        }
    }
}
