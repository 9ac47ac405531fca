//! What a handler can do and see.

use std::any::TypeId;
use std::time::Duration;

use muster_data::{Data, DataRef, Encode, Record, Timestamp, Type, Typed, encode_to_vec};
use muster_wire::{Class, EndpointId, Mono, Topic};

use super::counts::CounterSpec;
use super::event::Event;
use super::logs::StreamError;
use super::node_core::NodeCore;
use super::waits::Waiter;
use super::{Severity, timers};
use crate::hrw::Key;
use crate::layout::{Layout, NodeName, PoolName, Role};
use crate::pools::PoolView;
use crate::readiness::{Quorum, ReadyError};
use crate::settings::Settings;

/// Why an event was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// No framework on this node has declared an event of this name.
    #[error("event `{0}` is not declared")]
    Undeclared(String),
    /// The arguments are not of the declared types.
    #[error("event `{event}`: {problem}")]
    WrongArguments {
        /// The event.
        event: String,
        /// Which argument, what it should be and what it is.
        problem: String,
    },
}

/// What a handler can do: publish, log, schedule, and see the cluster.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) core: &'a mut NodeCore,
    pub(crate) framework: usize,
    pub(crate) framework_name: &'static str,
}

impl Context<'_> {
    // --- publishing ---------------------------------------------------------------------------

    /// Publishes an event to the subscribers of a topic. A topic that addresses this node reaches its own handlers,
    /// after the present one.
    ///
    /// # Errors
    /// [`PublishError::WrongArguments`] if a framework on this node has declared the event with other arguments.
    pub fn publish<E: Event>(&mut self, topic: &Topic, event: &E) -> Result<(), PublishError> {
        self.publish_as(Class::Event, topic, event)
    }

    /// Publishes an event in another class of traffic than [`Class::Event`].
    ///
    /// # Errors
    /// Like [`Context::publish`].
    pub fn publish_as<E: Event>(
        &mut self,
        class: Class,
        topic: &Topic,
        event: &E,
    ) -> Result<(), PublishError> {
        self.core.fits::<E>()?;
        self.core
            .publish_event(topic, class, E::NAME, |out| event.encode(out));
        Ok(())
    }

    /// Publishes an event by name. Its arguments must be of the types that were declared for it.
    ///
    /// # Errors
    /// [`PublishError::Undeclared`] if no framework on this node has declared the event,
    /// [`PublishError::WrongArguments`] if there are too many arguments, or one is of another type.
    pub fn publish_dynamic(
        &mut self,
        topic: &Topic,
        name: &str,
        arguments: &[Data],
    ) -> Result<(), PublishError> {
        let declared = self
            .core
            .events
            .get(name)
            .ok_or_else(|| PublishError::Undeclared(name.to_owned()))?;
        let encoded = encode_to_vec(arguments);
        let wrong = |problem: String| PublishError::WrongArguments {
            event: name.to_owned(),
            problem,
        };
        if let Type::Record(record) = declared
            && arguments.len() > record.fields.len()
        {
            let most = record.fields.len();
            return Err(wrong(format!(
                "takes {most} arguments, {} given",
                arguments.len()
            )));
        }
        declared
            .check(DataRef::from_validated(&encoded))
            .map_err(|error| wrong(error.to_string()))?;
        self.core.publish_event(topic, Class::Event, name, |out| {
            out.extend_from_slice(&encoded);
        });
        Ok(())
    }

    // --- topics -------------------------------------------------------------------------------

    /// The manager's topic.
    pub fn topic_for_manager(&self) -> Topic {
        self.core.layout.topics().manager()
    }

    /// The topic of all nodes of a role.
    pub fn topic_for_role(&self, role: Role) -> Topic {
        self.core.layout.topics().role(role)
    }

    /// The topic of one node, or `None` if the layout has no such node.
    pub fn topic_for_node(&self, name: &NodeName) -> Option<Topic> {
        self.core.topic_for_node(name)
    }

    /// The topic of one life of a node.
    pub fn topic_for_id(&self, id: EndpointId) -> Topic {
        self.core.layout.topics().id(id)
    }

    /// The topic of the living member of a pool that owns a key, perhaps this node, or `None` if no member is alive or
    /// the pool is unknown.
    pub fn topic_for_key(&self, pool: &PoolName, key: impl Into<Key>) -> Option<Topic> {
        let owner = self.core.members.pools.owner(pool, &key.into())?;
        self.core.topic_for_node(owner)
    }

    /// The topic of the next living member of a pool in turn, or `None` if no member is alive or the pool is unknown.
    /// Every purpose has its own turn. Purposes are never forgotten: use fixed names, never names made from data.
    pub fn next_topic(&mut self, pool: &PoolName, purpose: &str) -> Option<Topic> {
        let next = self.core.members.pools.next(pool, purpose)?.clone();
        self.core.topic_for_node(&next)
    }

    /// The topic of all nodes.
    pub fn broadcast_topic(&self) -> Topic {
        self.core.layout.topics().broadcast()
    }

    // --- logging ------------------------------------------------------------------------------

    /// Writes a record to a stream. It goes to a logger with the next batch.
    ///
    /// # Errors
    /// [`StreamError::Undeclared`] if no framework on this node has declared the stream, [`StreamError::WrongRecord`]
    /// if it was declared with another type.
    pub fn log<R: Record + Encode + Typed + 'static>(
        &mut self,
        stream: &str,
        record: &R,
    ) -> Result<(), StreamError> {
        let now = self.core.clock.now.mono;
        let encode = |out: &mut Vec<u8>| record.encode(out);
        if self.core.drafts_outputs() {
            let logs = &mut self.core.logging.logs;
            let batch = logs.one_typed(stream, TypeId::of::<R>(), R::data_type, encode)?;
            self.core.draft_record(batch);
            return Ok(());
        }
        let logged = self.core.logging.logs.write_typed(
            stream,
            TypeId::of::<R>(),
            R::data_type,
            now,
            encode,
        )?;
        self.core.logged(stream, logged);
        Ok(())
    }

    /// Writes a record whose type is known only at run time.
    ///
    /// # Errors
    /// Like [`Context::log`].
    pub fn log_dynamic(&mut self, stream: &str, record: &Data) -> Result<(), StreamError> {
        let encoded = encode_to_vec(record);
        let row = DataRef::from_validated(&encoded);
        if self.core.drafts_outputs() {
            let batch = self.core.logging.logs.one_checked(stream, row)?;
            self.core.draft_record(batch);
            return Ok(());
        }
        let logged = self
            .core
            .logging
            .logs
            .write_checked(stream, row, self.core.clock.now.mono)?;
        self.core.logged(stream, logged);
        Ok(())
    }

    // --- time ---------------------------------------------------------------------------------

    /// The network time of the event that is being handled, if it has one.
    pub fn event_time(&self) -> Option<Timestamp> {
        self.core.clock.event_time
    }

    /// The event time up to which windows are closed, if any are. What happened before it is late.
    pub fn closed(&self) -> Option<Timestamp> {
        self.core.windows.closed
    }

    /// Returns `true` if an input of a living node has not ended: there may be more to see.
    pub fn has_open_inputs(&self) -> bool {
        self.core.windows.watermarks.are_open()
    }

    /// Monotonic time.
    pub fn now(&self) -> Mono {
        self.core.clock.now.mono
    }

    /// The wall clock's time.
    pub fn wall(&self) -> Timestamp {
        self.core.clock.now.wall
    }

    /// Calls the framework's [`timer`](super::Framework::timer) hook after a span of monotonic time.
    pub fn schedule_mono(&mut self, after: Duration, token: u64) {
        let owner = self.timer(token);
        self.core
            .timers
            .schedule_mono(self.core.clock.now.mono.after(after), owner);
    }

    /// Calls the framework's [`timer`](super::Framework::timer) hook when windows are closed up to the event time
    /// `at`.
    pub fn schedule_event_time(&mut self, at: Timestamp, token: u64) {
        let owner = self.timer(token);
        self.core.timers.schedule_event_time(at, owner);
    }

    /// Cancels the framework's timers with this token.
    pub fn cancel(&mut self, token: u64) {
        let owner = self.timer(token);
        self.core.timers.cancel(owner);
    }

    fn timer(&self, token: u64) -> timers::Owner {
        timers::Owner {
            framework: self.framework,
            token,
        }
    }

    // --- the cluster --------------------------------------------------------------------------

    /// The endpoint id of the node's present life.
    pub fn id(&self) -> EndpointId {
        self.core.id
    }

    /// This node's name.
    pub fn name(&self) -> &NodeName {
        &self.core.node.name
    }

    /// This node's role.
    pub fn role(&self) -> Role {
        self.core.node.role
    }

    /// This node's effective settings.
    pub fn settings(&self) -> &Settings {
        &self.core.node.settings
    }

    /// The cluster's layout.
    pub fn layout(&self) -> &Layout {
        &self.core.layout
    }

    /// Whether a node is alive; this node always is.
    pub fn is_alive(&self, name: &NodeName) -> bool {
        self.core.is_alive(name)
    }

    /// Waits until nodes are mutually up: this node sees them, they see it and one another. The framework's
    /// [`ready`](super::Framework::ready) hook is called with `token` when they are, or after `limit` with what is
    /// missing. At most 64 waits run on a node at a time.
    ///
    /// # Errors
    /// [`ReadyError::UnknownPool`] or [`ReadyError::TooFew`] if the layout can never have such a quorum,
    /// [`ReadyError::TooMany`] if 64 waits run already. The hook is not called then.
    pub fn await_ready(
        &mut self,
        quorum: &Quorum,
        limit: Duration,
        token: u64,
    ) -> Result<(), ReadyError> {
        let framework = self.framework;
        let waiter = Waiter::Framework { framework, token };
        self.core.await_ready(waiter, quorum, limit)
    }

    /// The members of a pool as they are now.
    pub fn pool(&self, pool: &PoolName) -> Option<&PoolView> {
        self.core.members.pools.view(pool)
    }

    /// Returns `true` if this node owns a key of a pool.
    pub fn owns(&self, pool: &PoolName, key: impl Into<Key>) -> bool {
        self.core.members.pools.owner(pool, &key.into()) == Some(&self.core.node.name)
    }

    /// Returns `true` if the owner of a key of a pool is a Zeek process, which knows the events of Zeek's scripts and
    /// no others.
    pub fn zeek_owns(&self, pool: &PoolName, key: impl Into<Key>) -> bool {
        let owner = self.core.members.pools.owner(pool, &key.into());
        owner.is_some_and(|owner| self.core.is_zeek(owner))
    }

    // --- telling the operator -----------------------------------------------------------------

    /// Reports something to the operator, at most three times for each text.
    pub fn report(&mut self, severity: Severity, text: &str) {
        let framework = self.framework_name;
        let kind = format!("{framework}: {text}");
        self.core.report(severity, &kind, || kind.clone());
    }

    // --- counting -----------------------------------------------------------------------------

    /// Adds to one of the framework's own counters, which `muster status` and the metrics show.
    ///
    /// The name has to be one of [`Framework::COUNTERS`](super::Framework::COUNTERS). Any other is counted as well,
    /// but without a description, and the mistake is reported to the operator.
    pub fn count(&mut self, name: &'static str, by: u64) {
        let framework = self.framework_name;
        if !self.core.count(framework, name, by) {
            let text = format!("counts `{name}`, which is not in its COUNTERS");
            self.report(Severity::Error, &text);
        }
    }

    /// Adds to a counter of a library that the framework uses. It needs no declaration.
    pub fn count_described(&mut self, spec: CounterSpec, by: u64) {
        self.core.declare_counters(self.framework_name, &[spec]);
        self.core.count(self.framework_name, spec.name, by);
    }
}
