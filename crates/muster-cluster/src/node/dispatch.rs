//! How messages reach the frameworks: which handlers take an event, and how a panic is contained.

use std::panic::{AssertUnwindSafe, catch_unwind};

use muster_data::{DataRef, Record};
use muster_store::WriteFailure;
use muster_wire::EndpointId;
use muster_wire::zeek::{EventRef, Message};

use super::contests::Leave;
use super::facts::{Effect, Severity};
use super::framework::{Hook, Hosted};
use super::inputs::{LowWatermark, Ready};
use super::members::Hello;
use super::node_core::NodeCore;
use super::stores::{NeedStore, OpenStore};
use crate::coordination::{LeaseAnswer, ViewUpdate};
use crate::delivery::messages::{
    LogAck, LogRefused, LogSettle, LogSettled, LogVerdict, LoggerState,
};

use super::duties::ManagerHandled;
use super::keyed::outputs::OutputsHeld;
use super::{Context, NodeLoop, PEERS_REQUEST, barrier, logs, shape};
use crate::feed::messages::{PART, SOURCE, WANT};
use crate::keyed::messages::{EVENTS, EVENTS_ACK, LANE, LANE_ACK};
use crate::requests::messages::{ANSWER, QUESTION};

/// A handler of an event: framework and position in it.
pub(super) type HandlerRef = (usize, usize);

/// Events of a node to itself that are handled before it looks at the world again.
const LOCAL_PER_STEP: usize = 16_384;

impl NodeLoop {
    pub(super) fn message(&mut self, from: EndpointId, payload: &[u8]) {
        match Message::read(DataRef::from_validated(payload)) {
            Ok(Message::Event(event)) => self.event(from, &event),
            Ok(message) => self.zeek_message(from, message),
            Err(error) => {
                self.core.counts.events_refused += 1;
                let kind = error.kind().to_string();
                self.core.report(Severity::Warning, &kind, || {
                    format!("refused a message: {error}")
                });
            }
        }
    }

    pub(super) fn event(&mut self, from: EndpointId, event: &EventRef<'_>) {
        match event.name() {
            Hello::NAME => self.hello(from, event),
            Leave::NAME => self.told_to_leave(from, event),
            barrier::Question::NAME => self.asked_whom_it_sees(from, event),
            barrier::NotSeen::NAME => self.told_whom_it_does_not_see(from, event),
            LowWatermark::NAME => self.low_watermark(from, event),
            Ready::NAME => self.is_ready(from, event),
            logs::BATCH => self.log_batch(from, event),
            LoggerState::NAME => self.logger_says(from, event),
            LogAck::NAME => self.log_acknowledged(from, event),
            LogRefused::NAME => self.log_refused(from, event),
            LogVerdict::NAME => self.log_verdict(from, event),
            LogSettle::NAME => self.log_settle(from, event),
            LogSettled::NAME => self.log_settled(from, event),
            LeaseAnswer::NAME => self.lease_answered(from, event),
            ViewUpdate::NAME => self.view_told(from, event),
            QUESTION => self.question_arrived(from, event),
            ANSWER => self.answer_arrived(from, event),
            EVENTS => self.keyed_events(from, event),
            EVENTS_ACK => self.keyed_acknowledged(from, event),
            LANE => self.keyed_lane(from, event),
            LANE_ACK => self.keyed_lane_confirmed(from, event),
            OutputsHeld::NAME => self.outputs_held(from, event),
            ManagerHandled::NAME => self.manager_handled(from, event),
            SOURCE => self.feed_announced(from, event),
            WANT => self.feed_wanted(from, event),
            PART => self.feed_part(from, event),
            OpenStore::NAME => self.open_store(from, event),
            NeedStore::NAME => self.store_needed(from, event),
            PEERS_REQUEST => self.core.outbox.effects.push(Effect::DescribePeers(from)),
            _ => self.dispatch(from, event),
        }
    }

    /// Returns `true` if a control event comes from this node or from another one that is up. One of anybody else is
    /// counted, and reported if it asks for something.
    pub(super) fn is_from_node(&mut self, from: EndpointId, event: &str) -> bool {
        let is_node = from == self.core.id || self.core.members.membership.name_of(from).is_some();
        if !is_node {
            self.core.counts.control_events_refused += 1;
        }
        let asks = matches!(event, Leave::NAME | OpenStore::NAME | NeedStore::NAME);
        // What a node says may come before its hello.
        let is_new = self.missing.is_new(from, self.core.clock.now.mono);
        if !is_node && !is_new && asks {
            let kind = format!("{event} of no node");
            let text = || format!("refused {event} of {from}, which is no node of this cluster");
            self.core.report(Severity::Warning, &kind, text);
        }
        is_node
    }

    pub(super) fn dispatch(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let Some(handlers) = self.handlers.get(event.name()) else {
            return self.unhandled(from, event.name());
        };
        self.core.clock.event_time = event.timestamp();
        for (framework, handler) in handlers {
            let hosted = &mut *self.frameworks[*framework];
            let name = hosted.name();
            let handled = call(
                &mut self.core,
                *framework,
                hosted,
                event.name(),
                |hosted, cx| hosted.handle(*handler, event, cx),
            );
            if let Some(Err(error)) = handled {
                self.core.counts.events_refused += 1;
                let kind = format!("refused {}", event.name());
                let declared = self.core.events.get(event.name()).map(shape::declared);
                let text = || {
                    let found = shape::found(event.arguments());
                    let declared = declared.unwrap_or_default();
                    let event = event.name();
                    format!(
                        "framework {name} refused event {event} of {from}: {error}; declared {declared}, found {found}"
                    )
                };
                self.core.report(Severity::Warning, &kind, text);
            }
        }
        self.core.clock.event_time = None;
    }

    pub(super) fn hook_all(&mut self, hook: Hook<'_>) {
        for framework in 0..self.frameworks.len() {
            self.hook(framework, hook);
        }
    }

    pub(super) fn hook(&mut self, framework: usize, hook: Hook<'_>) {
        let Some(hosted) = self.frameworks.get_mut(framework) else {
            return;
        };
        call(
            &mut self.core,
            framework,
            &mut **hosted,
            hook.name(),
            |hosted, cx| hosted.hook(hook, cx),
        );
    }

    /// Handles what the node addressed to itself, answers writes that were not sent and tells of requests and flushes that have ended, what
    /// that leads to included; no more than fits between two looks at the world, for a handler may answer itself for ever.
    pub(super) fn run_local(&mut self) {
        for _ in 0..LOCAL_PER_STEP {
            if let Some((framework, then)) = self.core.stores.writes.take_refused() {
                self.resume(framework, then, Err(WriteFailure::TooMany));
                continue;
            }
            // One by one, as what follows from an outcome may be another one at once.
            let ended = self.core.requests.take_ended();
            let flushed = self.core.take_ended_flush();
            let has_ended = ended.is_some() || flushed.is_some();
            if let Some(ended) = ended {
                self.resume_request(ended);
            }
            if let Some(flushed) = flushed {
                self.resume_flush(flushed);
            }
            let Some(payload) = self.core.outbox.local.pop_front() else {
                if has_ended {
                    continue;
                }
                return;
            };
            self.core.counts.events_local += 1;
            self.message(self.core.id, &payload);
        }
    }
}

/// Lets a framework do something. A panic costs this one call: it is counted and told of, and nothing comes
/// back.
pub(super) fn call<R>(
    core: &mut NodeCore,
    framework: usize,
    hosted: &mut dyn Hosted,
    place: &str,
    act: impl FnOnce(&mut dyn Hosted, &mut Context<'_>) -> R,
) -> Option<R> {
    let framework_name = hosted.name();
    let mut cx = Context {
        core,
        framework,
        framework_name,
    };
    match catch_unwind(AssertUnwindSafe(|| act(hosted, &mut cx))) {
        Ok(result) => Some(result),
        Err(panic) => {
            panicked(core, framework_name, place, panic.as_ref());
            None
        }
    }
}

fn panicked(core: &mut NodeCore, framework: &str, place: &str, panic: &(dyn std::any::Any + Send)) {
    core.counts.panics += 1;
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let kind = format!("panic in {framework} {place}");
    let text = || format!("framework {framework} panicked in {place}: {message}");
    core.report(Severity::Error, &kind, text);
}
