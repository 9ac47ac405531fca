//! Frameworks: an author's detection work, and how a node finds and hosts it.

use std::borrow::Cow;

use muster_data::{
    ConvertError, DataRef, DecodeOwned, Encode, Record, Timestamp, Type, Typed, encode_to_vec,
};
use muster_store::WriteFailure;
use muster_store::op::Answer;
use muster_wire::counters::Descriptor;
use muster_wire::zeek::EventRef;
use muster_wire::{EndpointId, Incarnation, Topic};

use super::context::Context;
use super::counts::CounterSpec;
use super::event::Event;
use super::keyed::{self, Change, KeyedContext, KeyedRefusal};
use super::log_flushes;
use super::logs::{Column, StreamError, columns_of};
use super::question::Question;
use super::registers::{DeclaredRegister, RegisterChange, SettingChange};
use super::requests;
use super::stores::{Continuation, DeclaredStore, SharedStore, StoreChange, Then};
use crate::delivery::Flushed;
use crate::feed::{Feed, FeedEvent, Told};
use crate::hrw::Key;
use crate::layout::{Layout, Node, NodeName, PoolName, Role};
use crate::pools::PoolChange;
use crate::readiness::ReadyError;
use crate::register::Register;
use crate::requests::Outcome;
use crate::settings::SettingSpec;

/// Detection work on a node: plain fields, changed by plain methods that see one event at a time.
///
/// A method must not block. Work that takes long is divided by key over a pool; what is to happen later is scheduled.
pub trait Framework: Sized + Send + 'static {
    /// A short name, as in settings, counters and log lines.
    const NAME: &'static str;

    /// The settings that an operator may change, by keys that begin with the name.
    const SETTINGS: &'static [SettingSpec] = &[];

    /// What the framework counts with [`Context::count`], and what that means to an operator.
    const COUNTERS: &'static [CounterSpec] = &[];

    /// Creates the framework for a node, or returns `None` if it has no work there.
    fn create(site: &Site<'_>) -> Option<Self>;

    /// Declares the events that are handled and published, and the streams that are written.
    fn declare(&self, declarations: &mut Declarations<Self>);

    /// The node has started; no other node is known yet.
    fn init(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// The node is about to stop: the last chance to publish and to log.
    fn done(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// A node is up: what is published from now on reaches it.
    fn node_up(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        let _ = (node, cx);
    }

    /// A node is down.
    fn node_down(&mut self, node: &NodeLife, cx: &mut Context<'_>) {
        let _ = (node, cx);
    }

    /// A wait of [`Context::await_ready`] has ended: the nodes are mutually up, or `outcome` says what was missing.
    fn ready(&mut self, token: u64, outcome: &Result<(), ReadyError>, cx: &mut Context<'_>) {
        let _ = (token, outcome, cx);
    }

    /// A key of a store that was declared as [watched](SharedStore::watched) has changed. What is in the store already
    /// is reported the same way at first.
    fn store_changed(&mut self, change: &StoreChange<'_>, cx: &mut Context<'_>) {
        let _ = (change, cx);
    }

    /// A register that the framework has declared has another value. It is called at the start as well, if the value is not the
    /// default. Of values that follow one another quickly some may be passed over; the last one never is.
    fn register_changed(&mut self, change: &RegisterChange<'_>, cx: &mut Context<'_>) {
        let _ = (change, cx);
    }

    /// A [live](SettingSpec::live) setting of the node, perhaps of another framework, has another value. It is called at the start as
    /// well, if somebody has set a value that is not the layout's.
    fn setting_changed(&mut self, change: &SettingChange<'_>, cx: &mut Context<'_>) {
        let _ = (change, cx);
    }

    /// A pool has gained or lost a member, so some keys have another owner.
    fn pool_changed(&mut self, change: &PoolChange, cx: &mut Context<'_>) {
        let _ = (change, cx);
    }

    /// This node owns keys of a pool that it did not own before, and has their rows: those of
    /// [keyed events](Declarations::keyed). It is called once for all of them, and also when they turn out to have none.
    fn keys_gained(&mut self, pool: &PoolName, cx: &mut Context<'_>) {
        let _ = (pool, cx);
    }

    /// A timer that was scheduled with `token` is due.
    fn timer(&mut self, token: u64, cx: &mut Context<'_>) {
        let _ = (token, cx);
    }

    /// No input will bring anything before `closed`, late rows aside: windows that end by then can be
    /// closed. The allowance (setting `watermark.allowance`) is already taken off.
    fn watermark(&mut self, closed: Timestamp, cx: &mut Context<'_>) {
        let _ = (closed, cx);
    }
}

/// The node that a framework is created for.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The cluster's layout.
    pub layout: &'a Layout,
    /// The node, with its effective settings.
    pub node: &'a Node,
}

impl Site<'_> {
    /// Returns `true` if the node has this role.
    pub fn is(&self, role: Role) -> bool {
        self.node.role == role
    }

    /// Returns `true` if the node owns keys of the proxy pools: it is a data node, or the manager if there is none.
    pub fn owns_keys(&self) -> bool {
        self.layout.serves_as(self.node, Role::Proxy)
    }
}

/// One life of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLife {
    /// The node's name.
    pub name: NodeName,
    /// Its endpoint id.
    pub id: EndpointId,
    /// Its place among the lives of the node; not known for Zeek's nodes.
    pub incarnation: Option<Incarnation>,
}

type Handler<F> =
    Box<dyn Fn(&mut F, &EventRef<'_>, &mut Context<'_>) -> Result<(), ConvertError> + Send>;

type Answerer<F> =
    Box<dyn Fn(&mut F, DataRef<'_>, &mut Context<'_>) -> Result<Vec<u8>, ConvertError> + Send>;

type KeyedHandler<F> = Box<
    dyn Fn(
            &mut F,
            &PoolName,
            u32,
            &EventRef<'_>,
            &mut Context<'_>,
        ) -> Result<Vec<Change>, KeyedRefusal>
        + Send,
>;

type FeedHook<F> =
    Box<dyn Fn(&mut F, Told<'_>, &mut Context<'_>) -> Result<(), ConvertError> + Send>;

/// What a framework declares.
pub struct Declarations<F> {
    handlers: Vec<Handler<F>>,
    answerers: Vec<Answerer<F>>,
    keyed: Vec<KeyedHandler<F>>,
    feed_hooks: Vec<FeedHook<F>>,
    pub(crate) declared: Declared,
}

/// What all frameworks of a node declare, without their types.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    /// Event name and priority of each handler.
    pub(crate) handlers: Vec<(Cow<'static, str>, i32)>,
    /// The name of the question of each answerer.
    pub(crate) questions: Vec<&'static str>,
    /// The pool and the event of each handler of keyed events.
    pub(crate) keyed: Vec<(PoolName, &'static str)>,
    pub(crate) events: Vec<(Cow<'static, str>, Type)>,
    pub(crate) streams: Vec<DeclaredStream>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) stores: Vec<DeclaredStore>,
    pub(crate) registers: Vec<DeclaredRegister>,
    /// The feeds whose source is here.
    pub(crate) feed_sources: Vec<&'static str>,
    /// The feed of each hook.
    pub(crate) feeds: Vec<&'static str>,
}

/// A stream with the type and the columns of its records.
#[derive(Debug)]
pub(crate) struct DeclaredStream {
    pub(crate) name: &'static str,
    pub(crate) ty: Type,
    pub(crate) columns: Result<Vec<Column>, StreamError>,
    /// Zeek's stream of the same columns.
    pub(crate) zeek_stream: Option<&'static str>,
}

impl<F: Framework> Declarations<F> {
    fn new() -> Self {
        Self {
            handlers: Vec::new(),
            answerers: Vec::new(),
            keyed: Vec::new(),
            feed_hooks: Vec::new(),
            declared: Declared::default(),
        }
    }

    /// Handles an event with a method.
    ///
    /// ```ignore
    /// declarations.on(Self::attempt); // fn attempt(&mut self, event: Attempt, cx: &mut Context<'_>)
    /// ```
    pub fn on<E: Event>(&mut self, handler: fn(&mut F, E, &mut Context<'_>)) {
        self.on_with_priority(0, handler);
    }

    /// Handles an event with a method. Handlers with a higher priority are called first, as in Zeek.
    pub fn on_with_priority<E: Event>(
        &mut self,
        priority: i32,
        handler: fn(&mut F, E, &mut Context<'_>),
    ) {
        self.on_dynamic(
            E::NAME,
            E::data_type(),
            priority,
            move |framework, event, cx| {
                handler(framework, event.arguments().to::<E>()?, cx);
                Ok(())
            },
        );
    }

    /// Handles an event whose name and argument types are known only at run time. For hosts of other languages.
    /// Handlers with a higher priority are called first.
    pub fn on_dynamic(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        arguments: Type,
        priority: i32,
        handler: impl Fn(&mut F, &EventRef<'_>, &mut Context<'_>) -> Result<(), ConvertError>
        + Send
        + 'static,
    ) {
        let name = name.into();
        self.declared.events.push((name.clone(), arguments));
        self.declared.handlers.push((name, priority));
        self.handlers.push(Box::new(handler));
    }

    /// Answers a question with a method, whichever node asks. On a node one framework alone answers it.
    ///
    /// ```ignore
    /// declarations.answers(Self::seen); // fn seen(&mut self, question: Seen, cx: &mut Context<'_>) -> u64
    /// ```
    pub fn answers<Q: Question>(&mut self, handler: fn(&mut F, Q, &mut Context<'_>) -> Q::Answer) {
        let name = Cow::Borrowed(Q::NAME);
        self.declared.events.push((name, Q::data_type()));
        self.declared.questions.push(Q::NAME);
        let answerer = move |framework: &mut F, question: DataRef<'_>, cx: &mut Context<'_>| {
            let answer = handler(framework, question.to::<Q>()?, cx);
            Ok(encode_to_vec(&answer))
        };
        self.answerers.push(Box::new(answerer));
    }

    /// Handles an event with a method on the node that owns its key, among the members of a pool. `key` finds the key in the event: the
    /// same that it is published with ([`Context::publish_keyed`]). On a node one framework alone handles the event in a pool.
    ///
    /// ```ignore
    /// declarations.keyed(PoolName::proxy(), |attempt: &Attempt| attempt.attacker, Self::attempt);
    /// // fn attempt(&mut self, event: Attempt, cx: &mut KeyedContext<'_, '_, Address>)
    /// ```
    pub fn keyed<E, K>(
        &mut self,
        pool: PoolName,
        key: fn(&E) -> K,
        handler: fn(&mut F, E, &mut KeyedContext<'_, '_, K>),
    ) where
        E: Event,
        K: Encode + Clone + Into<Key> + 'static,
    {
        self.keyed_by(pool, key, handler);
    }

    /// Handles an event with a method on the manager that has a duty: see [`Context::publish_to_duty`]. What it does to rows, under the
    /// duty's name as their key, another manager has as well before the event is acknowledged.
    ///
    /// ```ignore
    /// declarations.duty("example/tickets", Self::ticket);
    /// // fn ticket(&mut self, event: Ticket, cx: &mut KeyedContext<'_, '_, String>)
    /// ```
    pub fn duty<E: Event>(
        &mut self,
        duty: &'static str,
        handler: fn(&mut F, E, &mut KeyedContext<'_, '_, String>),
    ) {
        self.keyed_by(PoolName::manager(), |_: &E| duty.to_owned(), handler);
    }

    fn keyed_by<E, K>(
        &mut self,
        pool: PoolName,
        key: impl Fn(&E) -> K + Send + 'static,
        handler: fn(&mut F, E, &mut KeyedContext<'_, '_, K>),
    ) where
        E: Event,
        K: Encode + Clone + Into<Key> + 'static,
    {
        self.declared
            .events
            .push((Cow::Borrowed(E::NAME), E::data_type()));
        self.declared.keyed.push((pool, E::NAME));
        let handler = move |framework: &mut F,
                            pool: &PoolName,
                            digest: u32,
                            event: &EventRef<'_>,
                            cx: &mut Context<'_>| {
            let event = event.arguments().to::<E>()?;
            let key = key(&event);
            if key.clone().into().digest() != digest {
                return Err(KeyedRefusal::OtherKey);
            }
            let mut keyed = KeyedContext::new(cx, pool, digest, encode_to_vec(&key));
            handler(framework, event, &mut keyed);
            Ok(keyed.into_changes())
        };
        self.keyed.push(Box::new(handler));
    }

    /// Declares an event that is published by name only; typed events need no declaration.
    pub fn publishes(&mut self, name: impl Into<Cow<'static, str>>, arguments: Type) {
        self.declared.events.push((name.into(), arguments));
    }

    /// Declares a stream of log records of a type.
    pub fn stream<R: Record + Typed>(&mut self, name: &'static str) {
        self.declare_stream::<R>(name, None);
    }

    /// Declares a stream of log records that is also one of Zeek's: `zeek_stream` is the full name of its id, such as
    /// `Known::HOSTS_LOG`. Where a logger is a Zeek process, records go to that stream, under the path `name`.
    ///
    /// The columns must be Zeek's, all of them and in order: a Zeek logger closes a log for good when
    /// a record has more or fewer fields than those before.
    pub fn zeek_stream<R: Record + Typed>(
        &mut self,
        name: &'static str,
        zeek_stream: &'static str,
    ) {
        self.declare_stream::<R>(name, Some(zeek_stream));
    }

    fn declare_stream<R: Record + Typed>(
        &mut self,
        name: &'static str,
        zeek_stream: Option<&'static str>,
    ) {
        let ty = R::data_type();
        let columns = columns_of(&ty);
        self.declared.streams.push(DeclaredStream {
            name,
            ty,
            columns,
            zeek_stream,
        });
    }

    /// Opens a store on every node that the framework runs on.
    pub fn store<K, V>(&mut self, store: &SharedStore<K, V>) {
        self.declared.stores.push(DeclaredStore {
            name: store.name,
            is_persistent: store.is_persistent,
            is_watched: store.is_watched,
        });
    }

    /// Declares a register that the framework reads or changes.
    pub fn register<T>(&mut self, register: &Register<T>)
    where
        T: Encode + DecodeOwned + Typed,
    {
        self.declared.registers.push(DeclaredRegister {
            name: register.name(),
            definition: register.definition(),
            check: Register::<T>::check(),
        });
    }

    /// Makes this node the source of a feed: it has the list, and [`Context::feed`] changes it. On a node one framework alone declares it.
    /// A cluster has one source of a feed; of several, the one whose node's name comes first is followed, and the operator is warned.
    pub fn feed_source<K, V>(&mut self, feed: &Feed<K, V>) {
        self.declared.feed_sources.push(feed.name());
    }

    /// Follows a feed: a method is told what is in the list, and how it changes. On a node one framework alone follows it, which may be
    /// the node of the source.
    ///
    /// ```ignore
    /// declarations.feed(&INDICATORS, Self::indicators);
    /// // fn indicators(&mut self, event: FeedEvent<Address, String>, cx: &mut Context<'_>)
    /// ```
    pub fn feed<K, V>(
        &mut self,
        feed: &Feed<K, V>,
        handler: fn(&mut F, FeedEvent<K, V>, &mut Context<'_>),
    ) where
        K: Encode + DecodeOwned + 'static,
        V: Encode + DecodeOwned + 'static,
    {
        self.declared.feeds.push(feed.name());
        let hook = move |framework: &mut F, told: Told<'_>, cx: &mut Context<'_>| {
            handler(framework, FeedEvent::read(told)?, cx);
            Ok(())
        };
        self.feed_hooks.push(Box::new(hook));
    }

    /// Subscribes the node to one more topic prefix.
    pub fn subscribe(&mut self, prefix: Topic) {
        self.declared.topics.push(prefix);
    }
}

/// A framework without its type, with its handlers.
pub(crate) trait Hosted: Send {
    fn name(&self) -> &'static str;
    fn counters(&self) -> &'static [CounterSpec];
    fn settings(&self) -> &'static [SettingSpec];
    fn handle(
        &mut self,
        handler: usize,
        event: &EventRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ConvertError>;
    fn answer(
        &mut self,
        answerer: usize,
        question: DataRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Vec<u8>, ConvertError>;
    fn handle_keyed(
        &mut self,
        handler: usize,
        pool: &PoolName,
        digest: u32,
        event: &EventRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Vec<Change>, KeyedRefusal>;
    fn feed(
        &mut self,
        hook: usize,
        told: Told<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ConvertError>;
    fn hook(&mut self, hook: Hook<'_>, cx: &mut Context<'_>);
    fn resume_published(&mut self, then: Continuation, cx: &mut Context<'_>);
    fn resume_request(&mut self, then: Continuation, outcome: Outcome, cx: &mut Context<'_>);
    fn resume_flush(&mut self, then: Continuation, flushed: Flushed, cx: &mut Context<'_>);
    fn resume(
        &mut self,
        then: Continuation,
        outcome: Result<Answer, WriteFailure>,
        cx: &mut Context<'_>,
    );
}

/// A call of one of a framework's hooks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hook<'a> {
    Init,
    Done,
    NodeUp(&'a NodeLife),
    NodeDown(&'a NodeLife),
    PoolChanged(&'a PoolChange),
    KeysGained(&'a PoolName),
    Ready(u64, &'a Result<(), ReadyError>),
    Timer(u64),
    Watermark(Timestamp),
    StoreChanged(&'a StoreChange<'a>),
    RegisterChanged(&'a RegisterChange<'a>),
    SettingChanged(&'a SettingChange<'a>),
}

impl Hook<'_> {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Done => "done",
            Self::NodeUp(_) => "node_up",
            Self::NodeDown(_) => "node_down",
            Self::PoolChanged(_) => "pool_changed",
            Self::KeysGained(_) => "keys_gained",
            Self::Ready(..) => "ready",
            Self::Timer(_) => "timer",
            Self::Watermark(_) => "watermark",
            Self::StoreChanged(_) => "store_changed",
            Self::RegisterChanged(_) => "register_changed",
            Self::SettingChanged(_) => "setting_changed",
        }
    }
}

struct Host<F> {
    framework: F,
    handlers: Vec<Handler<F>>,
    answerers: Vec<Answerer<F>>,
    keyed: Vec<KeyedHandler<F>>,
    feed_hooks: Vec<FeedHook<F>>,
}

impl<F: Framework> Hosted for Host<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn counters(&self) -> &'static [CounterSpec] {
        F::COUNTERS
    }

    fn settings(&self) -> &'static [SettingSpec] {
        F::SETTINGS
    }

    fn handle(
        &mut self,
        handler: usize,
        event: &EventRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ConvertError> {
        self.handlers[handler](&mut self.framework, event, cx)
    }

    fn answer(
        &mut self,
        answerer: usize,
        question: DataRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Vec<u8>, ConvertError> {
        self.answerers[answerer](&mut self.framework, question, cx)
    }

    fn handle_keyed(
        &mut self,
        handler: usize,
        pool: &PoolName,
        digest: u32,
        event: &EventRef<'_>,
        cx: &mut Context<'_>,
    ) -> Result<Vec<Change>, KeyedRefusal> {
        self.keyed[handler](&mut self.framework, pool, digest, event, cx)
    }

    fn resume_published(&mut self, then: Continuation, cx: &mut Context<'_>) {
        // A node hands every end to the framework that has published.
        if let Ok(then) = then.downcast::<keyed::Then<F>>() {
            then(&mut self.framework, cx);
        }
    }

    fn feed(
        &mut self,
        hook: usize,
        told: Told<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), ConvertError> {
        self.feed_hooks[hook](&mut self.framework, told, cx)
    }

    fn hook(&mut self, hook: Hook<'_>, cx: &mut Context<'_>) {
        let framework = &mut self.framework;
        match hook {
            Hook::Init => framework.init(cx),
            Hook::Done => framework.done(cx),
            Hook::NodeUp(node) => framework.node_up(node, cx),
            Hook::NodeDown(node) => framework.node_down(node, cx),
            Hook::PoolChanged(change) => framework.pool_changed(change, cx),
            Hook::KeysGained(pool) => framework.keys_gained(pool, cx),
            Hook::Ready(token, outcome) => framework.ready(token, outcome, cx),
            Hook::Timer(token) => framework.timer(token, cx),
            Hook::Watermark(closed) => framework.watermark(closed, cx),
            Hook::StoreChanged(change) => framework.store_changed(change, cx),
            Hook::RegisterChanged(change) => framework.register_changed(change, cx),
            Hook::SettingChanged(change) => framework.setting_changed(change, cx),
        }
    }

    fn resume_request(&mut self, then: Continuation, outcome: Outcome, cx: &mut Context<'_>) {
        // A node hands every outcome to the framework that has asked.
        if let Ok(then) = then.downcast::<requests::Then<F>>() {
            then(&mut self.framework, cx, outcome);
        }
    }

    fn resume_flush(&mut self, then: Continuation, flushed: Flushed, cx: &mut Context<'_>) {
        // A node hands every outcome to the framework that has asked.
        if let Ok(then) = then.downcast::<log_flushes::Then<F>>() {
            then(&mut self.framework, cx, flushed);
        }
    }

    fn resume(
        &mut self,
        then: Continuation,
        outcome: Result<Answer, WriteFailure>,
        cx: &mut Context<'_>,
    ) {
        // A node hands every outcome to the framework that has asked.
        if let Ok(then) = then.downcast::<Then<F>>() {
            then(&mut self.framework, cx, outcome);
        }
    }
}

/// The frameworks that a program's nodes may run.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: &'static str,
    counters: &'static [CounterSpec],
    settings: &'static [SettingSpec],
    create: fn(&Site<'_>) -> Option<Created>,
}

/// A framework on a node, and what it declared.
pub(crate) struct Created {
    pub(crate) hosted: Box<dyn Hosted>,
    pub(crate) declared: Declared,
}

impl Registry {
    /// Creates a registry without frameworks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a framework.
    #[must_use]
    pub fn with<F: Framework>(mut self) -> Self {
        self.entries.push(Entry {
            name: F::NAME,
            counters: F::COUNTERS,
            settings: F::SETTINGS,
            create: host::<F>,
        });
        self
    }

    /// The settings of all frameworks, for [`Layout::parse`].
    pub fn settings(&self) -> Vec<SettingSpec> {
        self.entries
            .iter()
            .flat_map(|entry| entry.settings)
            .copied()
            .collect()
    }

    /// Returns the descriptors of what all frameworks count, grouped by framework.
    pub fn counters(&self) -> Vec<Descriptor> {
        self.entries
            .iter()
            .flat_map(|entry| {
                entry
                    .counters
                    .iter()
                    .map(|spec| spec.descriptor(entry.name))
            })
            .collect()
    }

    /// Creates the frameworks that have work on a node.
    pub(crate) fn create(&self, site: &Site<'_>) -> Vec<Created> {
        self.entries
            .iter()
            .filter_map(|entry| (entry.create)(site))
            .collect()
    }
}

fn host<F: Framework>(site: &Site<'_>) -> Option<Created> {
    let framework = F::create(site)?;
    let mut declarations = Declarations::new();
    framework.declare(&mut declarations);
    let Declarations {
        handlers,
        answerers,
        keyed,
        feed_hooks,
        declared,
    } = declarations;
    Some(Created {
        hosted: Box::new(Host {
            framework,
            handlers,
            answerers,
            keyed,
            feed_hooks,
        }),
        declared,
    })
}
