//! Duties: what one manager of the cluster does, and another one when that is gone.

use bytes::Bytes;
use muster_data::{DataRef, Limits, Record};
use muster_wire::zeek::{EventRef, Message, Metadata};
use muster_wire::{Class, EndpointId, Topic};

use super::context::Context;
use super::event::Event;
use super::keyed::{KeyedError, Published};
use super::manager_topic::fingerprint;
use super::node_core::NodeCore;
use super::{Effect, NodeLoop, Report, Severity};
use crate::hrw::Key;
use crate::keyed::Keeper;
use crate::layout::{PoolName, Role};

/// The duty of whoever hears the manager's topic.
const ACTIVE: &str = "manager";

/// A manager says which messages to the manager's topic it has handled.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::manager_handled")]
pub(super) struct ManagerHandled {
    fingerprints: Vec<u64>,
}

/// A manager has a message to the manager's topic of which nobody has said that it is handled. It goes to the active one, as a keyed
/// event.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::manager_passed")]
pub(super) struct ManagerPassed {
    /// The endpoint that has published it.
    pub(super) from: Vec<u8>,
    pub(super) message: Vec<u8>,
}

impl NodeCore {
    /// Returns `true` if the node is a manager and has a duty at present, and no other one can take itself for it. What handlers of keyed
    /// events do counts once, whoever else takes itself for it.
    fn has_duty(&self, duty: &str) -> bool {
        let digest = Key::from(duty).digest();
        let has = |keeper: &Keeper| {
            let is_alone = self.is_in_keyed_handler() || keeper.is_alone(self.clock.now.mono);
            is_alone && keeper.acts_for(digest)
        };
        self.keyed.keeper(&PoolName::manager()).is_some_and(has)
    }

    /// Returns `true` if an event for this topic is handled by one of several managers.
    pub(super) fn is_for_active_manager(&self, topic: &Topic) -> bool {
        self.layout.has_several_managers() && *topic == self.layout.topics().manager()
    }

    /// Publishes an event for the manager that hears the manager's topic. What is open when there is no room is counted and told.
    pub(super) fn publish_to_manager(&mut self, name: &str, arguments: &[u8]) {
        let key = Key::from(ACTIVE);
        // The pool is there, and what was dropped is counted and told.
        let _ = self.publish_keyed(&PoolName::manager(), key, name, arguments);
    }
}

impl<'c> Context<'c> {
    /// Returns `true` if this node has a duty at present: it is a manager, and of several the one that [events for the
    /// duty](Context::publish_to_duty) go to, with all of its rows.
    ///
    /// Duties are divided among the managers. When the one that has a duty is gone, another one has it: events for it are handled there at once,
    /// and elsewhere this is `true` there two seconds later, when the lease of the former one is over. A manager without a lease has none.
    pub fn has_duty(&self, duty: &str) -> bool {
        self.core.has_duty(duty)
    }

    /// Publishes an event for the manager that has a duty. It is handled there by the method that was declared with
    /// [`Declarations::duty`](super::Declarations::duty), once, whoever dies meanwhile: see [`Context::publish_keyed`].
    ///
    /// # Errors
    /// Like [`Context::publish_keyed`].
    pub fn publish_to_duty<'a, E: Event>(
        &'a mut self,
        duty: &str,
        event: &E,
    ) -> Result<Published<'a, 'c>, KeyedError> {
        self.publish_keyed(&PoolName::manager(), duty, event)
    }
}

impl NodeLoop {
    /// A manager is a member of the managers' pool, also if no framework has a duty.
    pub(super) fn join_managers(&mut self) {
        if self.core.node.role == Role::Manager {
            self.core.own_keys_of(&PoolName::manager());
        }
    }

    /// Returns the manager's topic, if this node is one of several managers: what arrives there is
    /// [`Input::ForManager`](super::Input::ForManager).
    pub fn manager_topic(&self) -> Option<Topic> {
        let core = &self.core;
        let is_one = core.node.role == Role::Manager && core.layout.has_several_managers();
        is_one.then(|| core.layout.topics().manager())
    }

    /// Returns whether this node is the active manager; `None` if it is not one of several managers.
    pub fn active_manager(&self) -> Option<bool> {
        self.manager_topic().map(|_| self.is_active_manager())
    }

    /// Returns `true` if this node is the manager that hears the manager's topic.
    pub fn is_active_manager(&self) -> bool {
        let keeper = self.core.keyed.keeper(&PoolName::manager());
        keeper.is_some_and(|keeper| keeper.acts_for(Key::from(ACTIVE).digest()))
    }

    /// A message to the manager's topic has arrived.
    pub(super) fn for_manager(&mut self, from: EndpointId, payload: &[u8]) {
        let message = Message::read(DataRef::from_validated(payload));
        let is_handled = match &message {
            Ok(Message::Event(event)) => self.handlers.contains_key(event.name()),
            _ => false,
        };
        // What no framework handles concerns every manager.
        if !is_handled {
            return self.message(from, payload);
        }
        let now = self.core.clock.now.mono;
        self.look_who_is_manager();
        let mut dropped = 0;
        let topic = &mut self.core.manager_topic;
        let mine = topic.arrived(from, payload, now, &mut dropped);
        self.core.counts.for_manager_dropped += dropped;
        if let Some(fingerprint) = mine {
            self.handle_for_manager(fingerprint, from, payload);
        }
    }

    /// A message is handled as if one of this cluster's nodes had published it: another manager has what comes of it.
    fn handle_for_manager(&mut self, fingerprint: u64, from: EndpointId, payload: &[u8]) {
        let work = self.core.keyed.pool(&PoolName::manager());
        let digest = Key::from(ACTIVE).digest();
        let published = work
            .publishing
            .publish(digest, Bytes::copy_from_slice(payload));
        let now = self.core.clock.now.mono;
        if let Ok(number) = published {
            self.core.counts.keyed_published += 1;
            self.core.keyed.is_due = true;
            self.core.manager_topic.is_open(number, fingerprint, now);
        } else {
            // Late is better than never, and here is better than nowhere.
            self.core.manager_topic.has_handled(fingerprint, now);
            self.message(from, payload);
        }
    }

    fn look_who_is_manager(&mut self) {
        let is_active = self.is_active_manager();
        let now = self.core.clock.now.mono;
        if self.core.manager_topic.set_active(is_active, now) {
            let text = if is_active {
                "this is the active manager"
            } else {
                "this is not the active manager any more"
            };
            let report = Report {
                severity: Severity::Info,
                text: text.to_owned(),
            };
            self.core.outbox.effects.push(Effect::Report(report));
        }
    }

    /// Another manager has handled what came to the manager's topic.
    pub(super) fn manager_handled(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, ManagerHandled::NAME) {
            return;
        }
        let name = self.core.members.membership.name_of(from);
        let sender = name.and_then(|name| self.core.layout.node(name));
        if sender.is_none_or(|sender| sender.role != Role::Manager) {
            self.core.counts.control_events_refused += 1;
            return;
        }
        let Ok(handled) = event.arguments().to::<ManagerHandled>() else {
            self.core.counts.control_events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        let topic = &mut self.core.manager_topic;
        let dropped = topic.handled_elsewhere(&handled.fingerprints, now);
        self.core.counts.for_manager_dropped += dropped;
    }

    /// Does what is due for the manager's topic.
    pub(super) fn look_at_manager_topic(&mut self) {
        if self.core.node.role != Role::Manager || !self.core.layout.has_several_managers() {
            return;
        }
        let now = self.core.clock.now.mono;
        self.look_who_is_manager();
        let left = self.core.manager_topic.take_left(now);
        self.core.counts.for_manager_again += left.len() as u64;
        for (fingerprint, from, payload) in left {
            self.handle_for_manager(fingerprint, from, &payload);
        }
        let unheard = self.core.manager_topic.take_unheard(now);
        self.core.counts.for_manager_passed += unheard.len() as u64;
        for (from, message) in unheard {
            let passed = ManagerPassed {
                from: from.as_bytes().to_vec(),
                message: message.to_vec(),
            };
            let arguments = muster_data::encode_to_vec(&passed);
            self.core
                .publish_to_manager(ManagerPassed::NAME, &arguments);
        }
        let Some(fingerprints) = self.core.manager_topic.take_handled(now) else {
            return;
        };
        let me = self.core.node.name.clone();
        let managers = self.core.layout.with_role(Role::Manager);
        let others = managers.filter(|manager| manager.name != me);
        let topics: Vec<_> = others
            .map(|it| self.core.layout.topics().node(&it.name))
            .collect();
        let handled = ManagerHandled { fingerprints };
        for topic in topics {
            let metadata = Metadata::default();
            self.core.send(
                &topic,
                Class::Event,
                ManagerHandled::NAME,
                metadata,
                |out| {
                    muster_data::Encode::encode(&handled, out);
                },
            );
        }
    }

    /// Handles what another manager has passed on, if it was not handled: what it says may have been lost.
    pub(super) fn take_passed(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let passed = event.arguments().to::<ManagerPassed>().ok();
        let sender = |passed: &ManagerPassed| <[u8; 16]>::try_from(&*passed.from).ok();
        let Some((passed, sender)) = passed.and_then(|it| sender(&it).map(|of| (it, of))) else {
            self.core.counts.events_refused += 1;
            return;
        };
        let sender = EndpointId::from_bytes(sender);
        let fingerprint = fingerprint(sender, &passed.message);
        if self.core.manager_topic.is_known(fingerprint) {
            return;
        }
        let message = DataRef::parse(&passed.message, &Limits::default());
        let message = message.map(Message::read);
        let Ok(Ok(Message::Event(event))) = message else {
            self.core.counts.events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        self.core.manager_topic.has_handled(fingerprint, now);
        self.dispatch(from, &event);
    }

    /// An event for the manager is handled as one that came to its topic.
    pub(super) fn is_for_manager(pool: &PoolName, digest: u32) -> bool {
        pool.is_manager() && digest == Key::from(ACTIVE).digest()
    }
}
