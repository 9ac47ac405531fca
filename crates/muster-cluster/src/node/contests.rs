//! Nodes of one name: who is asked whether it still lives, and who is told to leave.

use std::time::Duration;

use muster_data::Record;
use muster_wire::zeek::{EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono};

use super::{Effect, NodeLoop, Report, Severity};
use crate::layout::NodeName;

/// How long the life that is there has to answer its ping.
const ANSWER: Duration = Duration::from_secs(1);

/// A node is told that another process of its name is alive, and that it is the one to leave.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::leave")]
pub(super) struct Leave {
    /// The name of both.
    pub(super) name: String,
    /// The endpoint id of the one that is to leave.
    pub(super) id: String,
    /// The endpoint id of the one that stays.
    pub(super) other: String,
}

/// A newcomer under the name of a living node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contest {
    name: NodeName,
    old: EndpointId,
    new: EndpointId,
    /// Until when the old life may answer.
    deadline: Mono,
}

impl NodeLoop {
    /// Asks the life that is there, before a newcomer takes its place.
    pub(super) fn contested(&mut self, name: NodeName, old: EndpointId, new: EndpointId) {
        let deadline = self.core.clock.now.mono.after(ANSWER);
        self.core.outbox.effects.push(Effect::Ping(old));
        // An earlier contest of the name has ended by itself, as one of its two was lost.
        self.contests.retain(|contest| contest.name != name);
        self.contests.push(Contest {
            name,
            old,
            new,
            deadline,
        });
    }

    /// A peer lives.
    pub(super) fn pong(&mut self, from: EndpointId) {
        let answered = |contest: &mut Contest| contest.old == from;
        let ended: Vec<Contest> = self.contests.extract_if(.., answered).collect();
        for contest in ended {
            let events = self
                .core
                .members
                .membership
                .contest_ended(&contest.name, true);
            if !events.is_empty() {
                self.tell_to_leave(&contest.name, contest.new, contest.old);
            }
            self.membership_events(events);
        }
    }

    /// Ends the contests whose old life has not answered in time.
    pub(super) fn end_contests(&mut self) {
        let now = self.core.clock.now.mono;
        let due = |contest: &mut Contest| contest.deadline <= now;
        let ended: Vec<Contest> = self.contests.extract_if(.., due).collect();
        for contest in ended {
            let events = self
                .core
                .members
                .membership
                .contest_ended(&contest.name, false);
            if !events.is_empty() {
                // It may only have been frozen.
                self.tell_to_leave(&contest.name, contest.old, contest.new);
            }
            self.membership_events(events);
        }
    }

    /// When the next contest ends by itself.
    pub(super) fn next_contest(&self) -> Option<Mono> {
        self.contests.iter().map(|contest| contest.deadline).min()
    }

    fn tell_to_leave(&mut self, name: &NodeName, id: EndpointId, other: EndpointId) {
        let topic = self.core.layout.topics().id(id);
        let leave = Leave {
            name: name.to_string(),
            id: id.to_string(),
            other: other.to_string(),
        };
        let metadata = Metadata::default();
        self.core
            .send(&topic, Class::Control, Leave::NAME, metadata, |out| {
                muster_data::Encode::encode(&leave, out);
            });
    }

    /// Another node says that this one is to leave. Only members are believed.
    pub(super) fn told_to_leave(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let leave = event.arguments().to::<Leave>().ok();
        let own = (self.core.node.name.to_string(), self.core.id.to_string());
        let is_meant = |leave: &Leave| leave.name == own.0 && leave.id == own.1;
        let teller = self.core.members.membership.name_of(from).cloned();
        let (Some(leave), Some(teller)) = (leave.filter(is_meant), teller) else {
            self.core.counts.events_refused += 1;
            return;
        };
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        let Leave { name, other, .. } = leave;
        self.core.outbox.effects.push(Effect::Report(Report {
            severity: Severity::Error,
            text: format!(
                "{teller} says that another process of the node {name} is alive ({other}): this one leaves"
            ),
        }));
        self.core.outbox.effects.push(Effect::Leave);
    }
}
