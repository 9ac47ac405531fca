//! A node's inputs and the watermarks of all inputs: when reading starts, how far it has come, and
//! which windows may be closed.

use muster_data::{Record, Timestamp};
use muster_wire::zeek::{EventRef, Metadata};
use muster_wire::{Class, EndpointId, Incarnation, Topic};

use super::framework::Hook;
use super::keyed::KeyedMark;
use super::{Effect, NodeLoop, Report, Severity};
use crate::layout::{NodeName, Role};
use crate::watermark::Watermarks;

/// An input of the publishing node will raise nothing before `low`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::watermark")]
pub(super) struct LowWatermark {
    pub(super) input: String,
    pub(super) low: Timestamp,
    pub(super) incarnation: u64,
}

/// All nodes that the publishing node is linked with have come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Record)]
#[record(name = "Muster::ready")]
pub(super) struct Ready {}

/// Event time between two announcements of an input's watermark.
const ANNOUNCE_EVERY_NANOS: i64 = 5_000_000_000;

/// The lows of inputs that wait for keyed events. Beyond, only the last one of each input is kept.
const MOST_WAITING: usize = 256;

/// An input will bring nothing before an event time. It is told when the keyed events that it has brought are done.
#[derive(Debug)]
pub(super) struct WaitingLow {
    input: String,
    low: Timestamp,
    before: KeyedMark,
}

impl NodeLoop {
    /// Starts the inputs when every node that this one is linked with is up, and has had all of its own up: what the
    /// inputs find must not be published before its receivers are known. A node that follows the register has read it by then, unless it
    /// has no copy for so long.
    pub(super) fn start_inputs(&mut self) {
        if self.inputs_started || self.stopping {
            return;
        }
        let is_ready = |name: &&NodeName| self.core.is_alive(name) && self.ready.contains(*name);
        let missing: Vec<&str> = self
            .neighbours
            .iter()
            .filter(|name| !is_ready(name))
            .map(NodeName::as_str)
            .collect();
        let now = self.core.clock.now.mono;
        if self.core.registers.are_awaited(now) {
            return;
        }
        let late = self.start_deadline <= now;
        if !missing.is_empty() && !late {
            return;
        }
        self.inputs_started = true;
        if !missing.is_empty() && !self.core.node.input.is_empty() {
            let text = format!(
                "starting the input although these nodes are not ready: {}",
                missing.join(", ")
            );
            let severity = Severity::Warning;
            self.core
                .outbox
                .effects
                .push(Effect::Report(Report { severity, text }));
        }
        self.core.outbox.effects.push(Effect::StartInputs);
    }

    /// Tells the workers, who have the inputs, when this node has become ready: all nodes that it is
    /// linked with are up for the first time in its life, and it has read the register.
    pub(super) fn tell_readiness(&mut self) {
        let is_hub = self.core.node.role != Role::Worker && !self.neighbours.is_empty();
        let awaits = self.core.registers.are_awaited(self.core.clock.now.mono);
        if !self.said_ready && is_hub && !awaits && self.has_all_neighbours() {
            self.said_ready = true;
            let topic = self.core.layout.topics().role(Role::Worker);
            self.send_readiness(&topic);
        }
    }

    /// Tells a node that came up, if it is a worker, what the others heard before.
    pub(super) fn tell_readiness_to(&mut self, name: &NodeName, id: EndpointId) {
        let is_worker = self
            .core
            .layout
            .node(name)
            .is_some_and(|node| node.role == Role::Worker);
        if self.said_ready && is_worker {
            let topic = self.core.layout.topics().id(id);
            self.send_readiness(&topic);
        }
    }

    fn send_readiness(&mut self, topic: &Topic) {
        self.core.send(
            topic,
            Class::Event,
            Ready::NAME,
            Metadata::default(),
            |out| {
                muster_data::Encode::encode(&Ready {}, out);
            },
        );
    }

    pub(super) fn is_ready(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if self.is_from_node(from, event.name()) {
            let name = self.core.members.membership.name_of(from);
            self.ready.extend(name.cloned());
        }
    }

    /// A node with an unfinished input went down: wait a while for its next life, so that windows do
    /// not close over what it will bring.
    pub(super) fn hold_watermark(&mut self, name: &NodeName) {
        let node = self.core.layout.node(name);
        let unfinished = node.is_some_and(|node| !node.input.is_empty())
            && !self.core.windows.watermarks.has_finished(name);
        self.core.windows.watermarks.node_down(name);
        if unfinished && !self.stopping {
            self.core.windows.watermarks.expect(name);
            let patience = self.core.node.settings.duration("runtime.start_deadline");
            self.grace
                .push((self.core.clock.now.mono.after(patience), name.clone()));
        }
    }

    pub(super) fn input_low(&mut self, input: &str, low: Timestamp) {
        let mut waiting = self.waiting_lows.iter().rev();
        let last = waiting.find(|waiting| waiting.input == input);
        let last = last.map(|waiting| waiting.low);
        let last = last.or_else(|| self.announced.get(input).copied());
        let next = last.map_or(i64::MIN, |last| {
            last.as_nanos().saturating_add(ANNOUNCE_EVERY_NANOS)
        });
        if last == Some(Watermarks::END) || (low < Watermarks::END && low.as_nanos() < next) {
            return;
        }
        // The last one says what those before it say, a little later.
        if self.waiting_lows.len() >= MOST_WAITING {
            let same = self.waiting_lows.iter().rposition(|it| it.input == input);
            same.and_then(|same| self.waiting_lows.remove(same));
        }
        let input = input.to_owned();
        let before = self.core.keyed.mark();
        self.waiting_lows
            .push_back(WaitingLow { input, low, before });
        self.release_lows();
    }

    /// Announces the lows before which everything is done. An owner of keys closes no window over an event that it has not handled.
    pub(super) fn release_lows(&mut self) {
        while let Some(first) = self.waiting_lows.front()
            && self.core.keyed.has_done(&first.before)
            && let Some(WaitingLow { input, low, .. }) = self.waiting_lows.pop_front()
        {
            let topic = self.core.layout.topics().broadcast();
            self.announce(&topic, &input, low);
            self.announced.insert(input, low);
        }
    }

    /// Tells a node that came up what the others heard before.
    pub(super) fn announce_to(&mut self, id: EndpointId) {
        let topic = self.core.layout.topics().id(id);
        let announced: Vec<_> = self
            .announced
            .iter()
            .map(|(input, low)| (input.clone(), *low))
            .collect();
        for (input, low) in announced {
            self.announce(&topic, &input, low);
        }
    }

    pub(super) fn announce(&mut self, topic: &Topic, input: &str, low: Timestamp) {
        let event = LowWatermark {
            input: input.to_owned(),
            low,
            incarnation: self.core.incarnation.0,
        };
        let metadata = Metadata {
            timestamp: Some(low),
            ..Metadata::default()
        };
        self.core
            .send(topic, Class::Event, LowWatermark::NAME, metadata, |out| {
                muster_data::Encode::encode(&event, out);
            });
    }

    pub(super) fn low_watermark(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Ok(announced) = event.arguments().to::<LowWatermark>() else {
            self.core.counts.events_refused += 1;
            return;
        };
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let name = self.core.members.membership.name_of(from);
        let name = name.unwrap_or(&self.core.node.name).clone();
        let incarnation = Incarnation(announced.incarnation);
        self.core
            .windows
            .watermarks
            .announce(&name, incarnation, &announced.input, announced.low);
        self.watermark_moved();
    }

    pub(super) fn watermark_moved(&mut self) {
        let Some(low) = self.core.windows.watermarks.low() else {
            return;
        };
        let closed = if low >= Watermarks::END {
            low
        } else {
            Timestamp::from_nanos(
                low.as_nanos()
                    .saturating_sub(self.core.windows.allowance.as_nanos()),
            )
        };
        if self
            .core
            .windows
            .closed
            .is_some_and(|before| closed <= before)
        {
            return;
        }
        self.core.windows.closed = Some(closed);
        self.event_timers();
        self.core.clock.event_time = Some(closed).filter(|closed| *closed < Watermarks::END);
        self.hook_all(Hook::Watermark(closed));
        self.core.clock.event_time = None;
    }

    pub(super) fn event_timers(&mut self) {
        let Some(closed) = self.core.windows.closed else {
            return;
        };
        self.core.clock.event_time = Some(closed).filter(|closed| *closed < Watermarks::END);
        for owner in self.core.timers.take_event_time(closed) {
            self.hook(owner.framework, Hook::Timer(owner.token));
        }
        self.core.clock.event_time = None;
    }

    /// Releases the holds whose time is over.
    pub(super) fn end_of_grace(&mut self) {
        let now = self.core.clock.now.mono;
        let over: Vec<NodeName> = self
            .grace
            .iter()
            .filter(|(at, _)| *at <= now)
            .map(|(_, name)| name.clone())
            .collect();
        self.grace.retain(|(at, _)| *at > now);
        for name in &over {
            self.core.windows.watermarks.release(name);
        }
        let mut moved = !over.is_empty();
        if !self.released && self.start_deadline <= now {
            self.released = true;
            moved = true;
            let awaited = self.core.windows.watermarks.awaited();
            let dead: Vec<NodeName> = awaited
                .filter(|name| !self.core.is_alive(name))
                .filter(|name| self.grace.iter().all(|(_, waiting)| waiting != *name))
                .cloned()
                .collect();
            for name in &dead {
                self.core.windows.watermarks.release(name);
            }
        }
        if moved {
            self.watermark_moved();
        }
    }
}
