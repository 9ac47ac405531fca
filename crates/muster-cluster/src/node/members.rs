//! Who comes and goes: hellos, and what follows from the table of members.

use std::time::Duration;

use muster_data::Record;
use muster_wire::zeek::{self, EventRef, Metadata};
use muster_wire::{Class, EndpointId, Incarnation};

use super::framework::Hook;
use super::health::TroubleCause;
use super::{Effect, NodeLife, NodeLoop, Report, Severity, shape};
use crate::membership::MembershipEvent;

/// A node says who it is: Zeek's `Cluster::hello`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Cluster::hello")]
pub(super) struct Hello {
    pub(super) name: String,
    pub(super) id: String,
}

/// When a hello is said again to a peer that has not said its own, and how often.
const HELLO_AGAIN: Duration = Duration::from_secs(3);
const HELLO_TIMES: u32 = 10;

impl NodeLoop {
    pub(super) fn peer_added(&mut self, id: EndpointId, direct: bool) {
        self.say_hello(id);
        let again = self.core.clock.now.mono.after(HELLO_AGAIN);
        self.strangers.insert(id, (again, HELLO_TIMES));
        let now = self.core.clock.now.wall;
        let events = self.core.members.membership.peer_added(id, direct, now);
        self.membership_events(events);
    }

    fn say_hello(&mut self, id: EndpointId) {
        let topic = self.core.layout.topics().id(id);
        let hello = Hello {
            name: self.core.node.name.to_string(),
            id: self.core.id.to_string(),
        };
        let metadata = Metadata {
            timestamp: None,
            incarnation: Some(self.core.incarnation.0),
            fingerprint: Some(self.core.fingerprint),
            features: Some(self.features()),
        };
        self.core
            .send(&topic, Class::Control, Hello::NAME, metadata, |out| {
                muster_data::Encode::encode(&hello, out);
            });
    }

    /// Says hello again to peers that have not said who they are: a hello may have been lost where a
    /// queue was full, and a node that hears it twice answers. Most peers that stay strangers are no
    /// nodes.
    pub(super) fn hello_to_strangers(&mut self) {
        let now = self.core.clock.now.mono;
        let due: Vec<EndpointId> = self
            .strangers
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.say_hello(id);
            match self.strangers.get_mut(&id) {
                Some((at, left)) if *left > 1 => {
                    *at = now.after(HELLO_AGAIN);
                    *left -= 1;
                }
                _ => {
                    self.strangers.remove(&id);
                }
            }
        }
    }

    /// A node that is known says hello again: it does not know us, or not what we told it.
    fn hello_again(&mut self, from: EndpointId) {
        let now = self.core.clock.now.mono;
        let Some(name) = self.core.members.membership.name_of(from).cloned() else {
            return;
        };
        let answered = self.answered.get(&from).copied();
        if answered.is_some_and(|at| now.since(at) < HELLO_AGAIN / 2) {
            return;
        }
        self.answered.insert(from, now);
        self.say_hello(from);
        self.announce_to(from);
        self.announce_problem_to(from);
        self.tell_readiness_to(&name, from);
    }

    pub(super) fn hello(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let parsed = event.arguments().to::<Hello>().ok();
        let Some((id, hello)) = parsed.and_then(|hello| Some((hello.id.parse().ok()?, hello)))
        else {
            self.core.counts.events_refused += 1;
            self.core.report(Severity::Warning, "hello", || {
                let found = shape::found(event.arguments());
                format!(
                    "refused a hello of {from}: declared (name: string, id: string), found {found}"
                )
            });
            return;
        };
        let incarnation = event
            .metadata(zeek::INCARNATION)
            .and_then(|value| value.as_count())
            .map(Incarnation);
        self.features_of(from, event);
        self.give_up_missing_life(&hello.name, from);
        let events = self
            .core
            .members
            .membership
            .hello(from, &hello.name, id, incarnation);
        if events.is_empty() {
            self.hello_again(from);
        }
        self.membership_events(events);
        self.compare_layouts(from, event);
    }

    /// Compares what a node says of its layout with this node's.
    fn compare_layouts(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some(name) = self.core.members.membership.name_of(from).cloned() else {
            return;
        };
        let (theirs, ours) = (event.fingerprint(), self.core.fingerprint);
        let cause = TroubleCause::Layout(name);
        // Zeek's nodes and older ones say nothing.
        let Some(theirs) = theirs.filter(|theirs| *theirs != ours) else {
            return self.core.mends(&cause);
        };
        if theirs.layout == ours.layout {
            self.core.mends(&cause);
            let kind = format!("settings of {cause}");
            let text =
                || format!("{cause}: settings of frameworks or stores differ from this node's");
            return self.core.report(Severity::Warning, &kind, text);
        }
        let text = "it has other nodes, pools or stores than this node's: the two do not agree on who owns what. \
                    Restart with the same file whichever has the old one";
        self.core.fails(cause, 1, text.to_owned());
    }

    pub(super) fn membership_events(&mut self, events: Vec<MembershipEvent>) {
        if events.is_empty() {
            return;
        }
        for event in events {
            match event {
                MembershipEvent::NodeUp {
                    name,
                    id,
                    incarnation,
                } => {
                    self.remember_name(id, &name);
                    self.was_ready |= self.has_all_neighbours();
                    self.grace.retain(|(_, waiting)| *waiting != name);
                    self.strangers.remove(&id);
                    self.core.windows.watermarks.node_up(&name, incarnation);
                    let changes = self.changes_of(&name);
                    self.announce_to(id);
                    self.announce_problem_to(id);
                    self.tell_readiness_to(&name, id);
                    self.tell_zeek_manager(&name);
                    if incarnation.is_none() {
                        // Zeek's nodes do not say it.
                        self.ready.insert(name.clone());
                    }
                    let life = NodeLife {
                        name,
                        id,
                        incarnation,
                    };
                    self.core.is_now_zeek(&life, incarnation.is_none());
                    self.core.outbox.effects.push(Effect::Report(Report {
                        severity: Severity::Info,
                        text: format!("node up: {}", life.name),
                    }));
                    let now = self.core.clock.now.mono;
                    self.core.sources.hurry(now);
                    self.hook_all(Hook::NodeUp(&life));
                    self.pools_changed(&changes);
                }
                MembershipEvent::NodeDown {
                    name,
                    id,
                    incarnation,
                } => {
                    let changes = self.changes_of(&name);
                    self.ready.remove(&name);
                    self.hold_watermark(&name);
                    let life = NodeLife {
                        name,
                        id,
                        incarnation,
                    };
                    self.core.is_now_zeek(&life, false);
                    self.core.mends(&TroubleCause::Layout(life.name.clone()));
                    self.core.outbox.effects.push(Effect::Report(Report {
                        severity: Severity::Warning,
                        text: format!("node down: {}", life.name),
                    }));
                    self.feeds_lose(life.id);
                    self.hook_all(Hook::NodeDown(&life));
                    self.pools_changed(&changes);
                    self.watermark_moved();
                }
                MembershipEvent::Contested { name, old, new } => self.contested(name, old, new),
                MembershipEvent::Refused { name, id, reason } => {
                    let kind = format!("hello of {name}");
                    let text = || format!("refused the hello of `{name}` ({id}): {reason}");
                    self.core.report(Severity::Error, &kind, text);
                }
            }
        }
        self.look_for_indirect_neighbours();
        self.core.logging.shipping.is_stale = true;
        self.core.requests.is_stale = true;
        self.core.keyed.is_stale = true;
        self.core.waits.changed();
    }
}
