//! Keyed work of a node: events for the owners of keys, and the keys that the node owns or has copies of.

mod context;
pub(super) mod outputs;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use muster_data::{DataRef, Record as _};
use muster_wire::zeek::{self, EventRef, Message, Metadata};
use muster_wire::{Class, EndpointId, Mono};

pub(super) use context::{Change, KeyedRefusal, Then};
pub use context::{KeyedContext, KeyedError, Published};
pub use table::KeyedTable;

use self::outputs::Outputs;
use super::dispatch::{HandlerRef, call};
use super::duties::ManagerPassed;
use super::framework::Hook;
use super::node_core::NodeCore;
use super::stores::Continuation;
use super::{CoordinationReport, NodeLoop, Severity, StoreAuthority, shape};
use crate::coordination::{OutReason, Standing, View};
use crate::hrw::Key;
use crate::keyed::messages::{
    EVENTS, EVENTS_ACK, LANE, LANE_ACK, put_events_ack, put_keyed_events, put_lane, put_lane_ack,
    read_events_ack, read_keyed_events, read_lane, read_lane_ack,
};
use crate::keyed::{
    Changes, EventId, Holder, Keeper, KeeperCounts, KeeperLimits, KeeperStep, KeyedEvent, Output,
    Publishing, Roster, RosterMember, RowChange, maker_of_outputs,
};
use crate::layout::{NodeName, PoolName};
use crate::pools::PoolView;

/// How long a producer that is gone is remembered: what it has sent may still be on its way, and others may have its outputs.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(600);

/// What a node has of keyed work.
#[derive(Default)]
pub(crate) struct KeyedWork {
    pools: BTreeMap<PoolName, PoolWork>,
    /// The handlers of events, by their pools and names.
    handlers: BTreeMap<PoolName, HashMap<&'static str, HandlerRef>>,
    /// The lives whose hello has said that they own keys.
    able: BTreeSet<EndpointId>,
    /// Producers that are gone, and since when.
    gone: BTreeMap<EndpointId, Mono>,
    /// Somebody has come or gone.
    pub(super) is_stale: bool,
    /// Something is to be said.
    pub(super) is_due: bool,
    /// What handlers of keyed events have given away.
    outputs: Outputs,
    /// When it is looked again who is there.
    look_at: Option<Mono>,
}

struct Waiting {
    framework: usize,
    then: Continuation,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").finish_non_exhaustive()
    }
}

/// By what the end of an event is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    /// Its number in the pool.
    Event(u64),
    /// It is kept with the rows of the key whose handler has published it.
    Output(u64),
}

/// The events that were published before a point in time, and not done then: the next number of each pool.
#[derive(Debug, Default)]
pub(super) struct KeyedMark(Vec<(PoolName, u64)>);

/// What a node has of keyed work in one pool.
pub(super) struct PoolWork {
    pub(super) publishing: Publishing,
    /// If the node is a member, and handles events there.
    keeper: Option<Keeper>,
    /// It was clear once who the members are.
    has_roster: bool,
    /// The roster that it goes by.
    roster: Option<u64>,
    /// Members are alive, and none of them handles such events: Zeek processes, and nodes of former releases.
    is_ownerless: bool,
    /// Who waits for the end of an event, by its number.
    waiting: HashMap<u64, Waiting>,
}

impl std::fmt::Debug for KeyedWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedWork").finish_non_exhaustive()
    }
}

impl KeyedWork {
    pub(super) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let is_used = !self.pools.is_empty();
        if is_used && (self.is_due || self.is_stale) {
            return Some(now);
        }
        let pools = self.pools.values().flat_map(|pool| {
            let keeper = pool.keeper.as_ref().and_then(Keeper::next_deadline);
            [keeper, pool.publishing.next_deadline()]
        });
        let gone = self.gone.values().map(|since| since.after(REMEMBERED));
        let outputs = self.outputs.next_deadline();
        let others = gone.chain(self.look_at).chain(outputs);
        pools.flatten().chain(others).min()
    }

    /// Returns `true` if no event is open, and no output on its way.
    pub(super) fn is_done(&self) -> bool {
        let mut pools = self.pools.values();
        self.outputs.len() == 0
            && pools.all(|pool| {
                let has_outputs = pool.keeper.as_ref().is_some_and(Keeper::owns_outputs);
                !has_outputs && pool.publishing.len() == 0
            })
    }

    /// What is published so far.
    pub(super) fn mark(&self) -> KeyedMark {
        let pools = self.pools.iter();
        let open = pools.filter(|(_, pool)| pool.publishing.len() > 0);
        KeyedMark(
            open.map(|(name, pool)| (name.clone(), pool.publishing.next_number()))
                .collect(),
        )
    }

    /// Returns `true` if all that was published before a mark is done.
    pub(super) fn has_done(&self, mark: &KeyedMark) -> bool {
        mark.0.iter().all(|(name, next)| {
            let pool = self.pools.get(name);
            pool.is_none_or(|pool| pool.publishing.floor() >= *next)
        })
    }

    /// Returns how many log records of handlers are on their way.
    pub(super) fn records(&self) -> usize {
        self.outputs.records()
    }

    /// Returns `true` if so many events are open that whoever makes more should wait: half of what may be.
    pub(super) fn is_behind(&self) -> bool {
        let mut pools = self.pools.values();
        pools.any(|pool| pool.publishing.is_half_full())
    }

    /// Returns `true` if this node is among the owners of keys: a framework handles events for them, or it is a manager.
    pub(super) fn owns_keys(&self) -> bool {
        let mut pools = self.pools.values();
        pools.any(|pool| pool.keeper.is_some())
    }

    pub(super) fn pool(&mut self, pool: &PoolName) -> &mut PoolWork {
        self.pools.entry(pool.clone()).or_insert_with(|| {
            self.is_stale = true;
            PoolWork {
                publishing: Publishing::new(),
                keeper: None,
                has_roster: false,
                roster: None,
                is_ownerless: false,
                waiting: HashMap::new(),
            }
        })
    }

    fn keepers(&mut self) -> impl Iterator<Item = (&PoolName, &mut Keeper)> {
        let pools = self.pools.iter_mut();
        pools.filter_map(|(name, pool)| Some((name, pool.keeper.as_mut()?)))
    }

    pub(super) fn keeper(&self, pool: &PoolName) -> Option<&Keeper> {
        self.pools.get(pool)?.keeper.as_ref()
    }
}

impl NodeCore {
    /// Publishes an event for the owner of a key, or keeps it with the rows of the key whose handler runs.
    pub(super) fn publish_keyed(
        &mut self,
        pool: &PoolName,
        key: Key,
        name: &str,
        arguments: &[u8],
    ) -> Result<Number, KeyedError> {
        if self.members.pools.view(pool).is_none() {
            return Err(KeyedError::UnknownPool(pool.clone()));
        }
        let metadata = self.metadata();
        let mut payload = Vec::with_capacity(name.len() + arguments.len() + 64);
        zeek::put_event(&mut payload, name, metadata, |out| {
            out.extend_from_slice(arguments);
        });
        let (digest, payload) = (key.digest(), payload.into());
        if self.drafts_outputs() {
            let pool = pool.clone();
            let output = Output::Keyed {
                pool,
                digest,
                payload,
            };
            return Ok(Number::Output(self.draft(&output)));
        }
        let work = self.keyed.pool(pool);
        if work.is_ownerless {
            self.counts.keyed_unowned += 1;
            return Err(KeyedError::NoOwner(pool.clone()));
        }
        let taken = work.publishing.publish(digest, payload);
        if let Ok(number) = taken {
            self.counts.keyed_published += 1;
            self.keyed.is_due = true;
            return Ok(Number::Event(number));
        }
        self.counts.keyed_full += 1;
        let text = || {
            format!(
                "too many events for the owners of keys of {pool} are open: some are not published"
            )
        };
        self.report(Severity::Warning, "keyed", text);
        Err(KeyedError::Full(pool.clone()))
    }

    /// This node is one of the owners of a pool's keys.
    pub(super) fn own_keys_of(&mut self, pool: &PoolName) {
        let id = self.id;
        let new = || Keeper::new(id, KeeperLimits::default());
        self.keyed.pool(pool).keeper.get_or_insert_with(new);
        self.keyed.able.insert(id);
    }

    /// A hello says whether its node owns keys.
    pub(super) fn owns_keys(&mut self, from: EndpointId, features: u64) {
        if features & zeek::OWNS_KEYS != 0 && self.keyed.able.insert(from) {
            self.keyed.is_stale = true;
        }
    }

    fn say(&mut self, to: EndpointId, name: &str, arguments: impl FnOnce(&mut Vec<u8>)) {
        let topic = self.layout.topics().id(to);
        self.send(&topic, Class::Event, name, Metadata::default(), arguments);
    }

    /// Says what is to be said, again where the time has come.
    fn take_keyed_steps(&mut self) {
        let now = self.clock.now.mono;
        let mut pools = std::mem::take(&mut self.keyed.pools);
        for (name, pool) in &mut pools {
            pool.publishing.tick(now);
            for sending in pool.publishing.take_steps(now) {
                self.counts.keyed_repeated += sending.repeated as u64;
                self.say(sending.to, EVENTS, |out| {
                    put_keyed_events(out, name.as_str(), &sending.events);
                });
            }
            let Some(keeper) = &mut pool.keeper else {
                continue;
            };
            keeper.tick(now);
            for step in keeper.take_steps(now) {
                match step {
                    KeeperStep::Acknowledge(to, ack) => self.say(to, EVENTS_ACK, |out| {
                        put_events_ack(out, name.as_str(), &ack);
                    }),
                    KeeperStep::Say(to, message) => self.say(to, LANE, |out| {
                        put_lane(out, name.as_str(), &message);
                    }),
                    KeeperStep::Confirm(to, ack) => self.say(to, LANE_ACK, |out| {
                        put_lane_ack(out, name.as_str(), &ack);
                    }),
                }
            }
        }
        self.keyed.pools = pools;
        self.keyed.is_due = false;
        self.count_keyed();
    }

    fn count_keyed(&mut self) {
        let mut total = KeeperCounts::default();
        let keepers = self.keyed.pools.values();
        for counts in keepers
            .filter_map(|pool| pool.keeper.as_ref())
            .map(Keeper::counts)
        {
            total.handled += counts.handled;
            total.again += counts.again;
            total.no_room += counts.no_room;
            total.taken_over += counts.taken_over;
        }
        self.counts.keyed_handled = total.handled;
        self.counts.keyed_again = total.again;
        self.counts.keyed_no_room = total.no_room;
        self.counts.keys_taken_over = total.taken_over;
    }

    /// Forgets producers that are gone for a while.
    fn forget_gone_producers(&mut self) {
        let now = self.clock.now.mono;
        let is_here = |life: EndpointId, core: &Self| {
            let mut lives = [life, maker_of_outputs(life)].into_iter();
            lives.any(|life| life == core.id || core.members.membership.name_of(life).is_some())
        };
        let keepers = self.keyed.pools.values();
        let keepers = keepers.filter_map(|pool| pool.keeper.as_ref());
        let producers: BTreeSet<EndpointId> = keepers.flat_map(Keeper::producers).collect();
        for life in &producers {
            if is_here(*life, self) {
                self.keyed.gone.remove(life);
            } else {
                self.keyed.gone.entry(*life).or_insert(now);
            }
        }
        self.keyed.gone.retain(|life, _| producers.contains(life));
        let over: Vec<EndpointId> = self
            .keyed
            .gone
            .iter()
            .filter(|(_, since)| since.after(REMEMBERED) <= now)
            .map(|(life, _)| *life)
            .collect();
        for life in over {
            self.keyed.gone.remove(&life);
            for pool in self.keyed.pools.values_mut() {
                if let Some(keeper) = &mut pool.keeper {
                    keeper.forget_producer(life);
                }
            }
        }
    }
}

/// The epoch in which a member of a pool went out last that may come back with what it had.
fn last_loss(decided: &View, pool: &PoolView) -> Option<u64> {
    let members = pool.members().iter();
    let known = members.filter_map(|member| decided.get(member.name.as_str()));
    let lost = known.filter(|known| {
        let is_gone = matches!(known.out, Some(OutReason::Left | OutReason::Superseded));
        known.out.is_some() && !is_gone
    });
    lost.map(|known| known.changed).max()
}

/// Whether a member may not act: its node has no lease, or has one again and goes by what was decided before that still, or has said that
/// it stops. Others may have taken over.
fn is_suspended(lease: Option<CoordinationReport>, has_left: bool, keeper: &Keeper) -> bool {
    let Some(CoordinationReport {
        standing, session, ..
    }) = lease
    else {
        return false;
    };
    match standing {
        Standing::Alone => false,
        Standing::In => {
            let is_former = keeper.session().is_some_and(|known| known != session);
            is_former || (has_left && keeper.has_others())
        }
        Standing::Suspended | Standing::Out => true,
    }
}

impl NodeLoop {
    /// A framework handles an event as the owner of its key, and no other one does.
    pub(super) fn declare_keyed(
        &mut self,
        pool: PoolName,
        event: &'static str,
        handler: HandlerRef,
    ) -> Result<(), super::NodeError> {
        let core = &mut self.core;
        let Some(view) = core.members.pools.view(&pool) else {
            return Err(super::NodeError::UnknownPool(pool));
        };
        let is_member = view.members().iter().any(|it| it.name == core.node.name);
        if !is_member {
            return Ok(());
        }
        core.own_keys_of(&pool);
        let of_pool = core.keyed.handlers.entry(pool).or_default();
        match of_pool.insert(event, handler) {
            None => Ok(()),
            Some(_) => Err(super::NodeError::KeyedTwice(event)),
        }
    }

    /// Whether there may be members that this node has not seen yet, as it has just begun: they have what is known of its keys.
    fn is_too_new(&self, pool: &PoolName, view: &PoolView) -> bool {
        let core = &self.core;
        let is_seen = |name: &NodeName| *name == core.node.name || core.is_alive(name);
        let sees_all = view.members().iter().all(|member| is_seen(&member.name));
        let known = core.keyed.pools.get(pool);
        let was_in = known.is_some_and(|work| work.has_roster);
        !sees_all && !was_in && core.clock.now.mono < self.start_deadline
    }

    /// The members of a pool that own its keys, by the view of the coordinators, or as this node sees them.
    fn roster(&self, pool: &PoolName) -> Option<Roster> {
        let core = &self.core;
        let view = core.members.pools.view(pool)?;
        // Before it is clear who decides, or what, there may be owners elsewhere.
        let decided = match self.store_authority()? {
            StoreAuthority::Layout if self.is_too_new(pool, view) => return None,
            StoreAuthority::Layout => None,
            StoreAuthority::Coordinators => Some(self.view().filter(|view| view.epoch() > 0)?),
        };
        let holder = |name: &NodeName| {
            if let Some(view) = decided {
                let known = view
                    .get(name.as_str())
                    .filter(|known| known.out.is_none())?;
                return Some(Holder {
                    life: known.life,
                    session: known.session,
                });
            }
            let is_me = *name == core.node.name;
            let other = || core.members.membership.id_of(name);
            let life = if is_me { Some(core.id) } else { other() };
            life.map(|life| Holder { life, session: 0 })
        };
        // Who is in and has said nothing yet may own keys: without it others would have other owners.
        let is_silent = |life: EndpointId| {
            let is_heard = core.members.membership.name_of(life).is_some();
            life != core.id && !is_heard && !core.keyed.able.contains(&life)
        };
        let mut holders = view
            .members()
            .iter()
            .filter_map(|member| holder(&member.name));
        if holders.any(|holder| is_silent(holder.life)) {
            return None;
        }
        let members = view.members().iter().filter_map(|member| {
            let holder = holder(&member.name)?;
            let place = core.layout.node(&member.name).map(|node| {
                let is_named = !node.box_name.is_empty();
                let address = || node.address.to_string();
                if is_named {
                    node.box_name.clone()
                } else {
                    address()
                }
            });
            let member = RosterMember {
                holder,
                site: member.site,
                place: place.unwrap_or_default(),
            };
            core.keyed.able.contains(&holder.life).then_some(member)
        });
        let epoch = decided.map_or(0, View::epoch);
        let lost = decided.and_then(|decided| last_loss(decided, view));
        Some(Roster::new(epoch, members.collect()).since_loss(lost))
    }

    /// Whether members of a pool are alive, and none of them handles events of keys: nobody ever will. One that does may not be in yet.
    fn has_no_owner(&self, pool: &PoolName) -> bool {
        let core = &self.core;
        let living = core.members.pools.view(pool).into_iter();
        let mut living = living.flat_map(PoolView::living).peekable();
        let is_able = |name: &NodeName| {
            let is_me = *name == core.node.name;
            let other = || core.members.membership.id_of(name);
            let life = if is_me { Some(core.id) } else { other() };
            // Of whom nothing was heard yet nothing is known.
            life.is_none_or(|life| core.keyed.able.contains(&life))
        };
        living.peek().is_some() && !living.any(|member| is_able(&member.name))
    }

    /// This node acts for the keys that it owns as long as its lease runs. It is looked at before anything is done: the node may have been
    /// stopped for a while, and others may have taken over.
    pub(super) fn look_at_lease_of_keys(&mut self) {
        let (lease, has_left) = (self.coordination(), self.has_left_coordinators());
        for (_, keeper) in self.core.keyed.keepers() {
            let is_suspended = is_suspended(lease, has_left, keeper);
            if keeper.is_suspended() != is_suspended {
                keeper.set_suspended(is_suspended);
            }
        }
    }

    /// Looks who is there, handles the events of keys that this node owns, and says what is to be said.
    pub(super) fn look_at_keyed(&mut self) {
        let now = self.core.clock.now.mono;
        if self.core.keyed.next_deadline(now).is_none_or(|at| at > now) {
            return;
        }
        let is_late = self.core.keyed.look_at.take_if(|at| *at <= now).is_some();
        let is_stale = std::mem::take(&mut self.core.keyed.is_stale) || is_late;
        let pools: Vec<PoolName> = self.core.keyed.pools.keys().cloned().collect();
        let mut ownerless = Vec::new();
        let (lease, has_left) = (self.coordination(), self.has_left_coordinators());
        for name in &pools {
            let roster = if is_stale { self.roster(name) } else { None };
            let is_ownerless = is_stale && self.has_no_owner(name);
            if is_stale && roster.is_none() && now < self.start_deadline {
                self.core.keyed.look_at = Some(self.start_deadline);
            }
            let Some(pool) = self.core.keyed.pools.get_mut(name) else {
                continue;
            };
            if let Some(roster) = roster {
                pool.has_roster = true;
                pool.is_ownerless = is_ownerless;
                if pool.is_ownerless {
                    let dropped = pool.publishing.drop_all();
                    self.core.counts.keyed_unowned += dropped.len() as u64;
                    pool.waiting.clear();
                    ownerless.extend(dropped.into_iter().map(|number| (name.clone(), number)));
                }
                if pool.roster != Some(roster.id()) {
                    pool.roster = Some(roster.id());
                    self.core.keyed.outputs.members_changed(name);
                }
                pool.publishing.enter(roster.clone());
                if let Some(keeper) = &mut pool.keeper {
                    keeper.enter(roster, now);
                }
            }
            if let Some(keeper) = &mut pool.keeper {
                keeper.set_suspended(is_suspended(lease, has_left, keeper));
            }
            self.handle_keyed(name);
        }
        let keeps_few = self.core.keyed.able.len() <= crate::layout::MOST_NODES;
        if is_stale && !keeps_few {
            let membership = &self.core.members.membership;
            let me = self.core.id;
            let able = &mut self.core.keyed.able;
            able.retain(|id| *id == me || membership.name_of(*id).is_some());
        }
        if is_stale
            || self
                .core
                .keyed
                .gone
                .values()
                .any(|since| since.after(REMEMBERED) <= self.core.clock.now.mono)
        {
            self.core.forget_gone_producers();
        }
        for (pool, number) in ownerless {
            self.core.published_is_done(&pool, number);
        }
        let were_many = self.core.keyed.outputs.are_many();
        self.core.let_outputs_go();
        self.core.take_keyed_steps();
        // What has waited for that is handled.
        self.core.keyed.is_due |= were_many && !self.core.keyed.outputs.are_many();
        self.tell_published();
        for name in &pools {
            let pool = self.core.keyed.pools.get_mut(name);
            let keeper = pool.and_then(|pool| pool.keeper.as_mut());
            if keeper.is_some_and(Keeper::has_gained) {
                self.hook_all(Hook::KeysGained(name));
            }
        }
        self.release_lows();
    }

    /// Handles the events that are ready.
    fn handle_keyed(&mut self, pool: &PoolName) {
        while !self.core.keyed.outputs.are_many() {
            let work = self.core.keyed.pools.get_mut(pool);
            let keeper = work.and_then(|work| work.keeper.as_mut());
            let Some((receipt, event)) = keeper.and_then(Keeper::take_event) else {
                return;
            };
            let outer = self.core.begin_drafts();
            let rows = self.handle_one(pool, receipt.sent_as, &event);
            let changes = if let Some(rows) = rows {
                let outputs = self.core.end_drafts(outer);
                Changes { rows, outputs }
            } else {
                self.core.discard_drafts(outer);
                Changes::default()
            };
            let work = self.core.keyed.pools.get_mut(pool);
            if let Some(keeper) = work.and_then(|work| work.keeper.as_mut()) {
                keeper.changed(event.digest, Some(receipt), changes);
                self.core.keyed.is_due = true;
            }
        }
    }

    /// Returns what the handler has done to rows, or `None` if nothing that it has done counts.
    fn handle_one(
        &mut self,
        pool: &PoolName,
        id: EventId,
        event: &KeyedEvent,
    ) -> Option<Vec<RowChange>> {
        let digest = event.digest;
        let message = Message::read(DataRef::from_validated(&event.payload));
        let Ok(Message::Event(event)) = message else {
            self.core.counts.events_refused += 1;
            return None;
        };
        if Self::is_for_manager(pool, digest) {
            if event.name() == ManagerPassed::NAME {
                self.take_passed(id.producer, &event);
                return Some(Vec::new());
            }
            if self.handlers.contains_key(event.name()) {
                self.dispatch(id.producer, &event);
                return Some(Vec::new());
            }
        }
        let of_pool = self.core.keyed.handlers.get(pool);
        let handler = of_pool.and_then(|handlers| handlers.get(event.name()).copied());
        let hosted = handler.and_then(|(framework, handler)| {
            Some((framework, handler, self.frameworks.get_mut(framework)?))
        });
        let Some((framework, handler, hosted)) = hosted else {
            self.unhandled(id.producer, event.name());
            return None;
        };
        self.core.clock.event_time = event.timestamp();
        let name = hosted.name();
        let handled = call(
            &mut self.core,
            framework,
            &mut **hosted,
            event.name(),
            |hosted, cx| hosted.handle_keyed(handler, pool, digest, &event, cx),
        );
        self.core.clock.event_time = None;
        match handled {
            Some(Ok(changes)) => Some(changes),
            Some(Err(error)) => {
                self.keyed_refused(name, id.producer, &event, &error);
                None
            }
            // It has panicked: nothing that it has changed counts.
            None => None,
        }
    }

    fn keyed_refused(
        &mut self,
        framework: &str,
        from: EndpointId,
        event: &EventRef<'_>,
        error: &KeyedRefusal,
    ) {
        self.core.counts.events_refused += 1;
        let kind = format!("refused {}", event.name());
        let declared = self.core.events.get(event.name()).map(shape::declared);
        let text = || {
            let found = shape::found(event.arguments());
            let declared = declared.unwrap_or_default();
            let event = event.name();
            format!(
                "framework {framework} refused event {event} of {from}: {error}; declared {declared}, found {found}"
            )
        };
        self.core.report(Severity::Warning, &kind, text);
    }

    /// Tells frameworks which of their events are done.
    fn tell_published(&mut self) {
        let mut ended = Vec::new();
        let mut done = Vec::new();
        for (name, pool) in &mut self.core.keyed.pools {
            let numbers = pool.publishing.take_done();
            if numbers.is_empty() {
                continue;
            }
            let waiting = &mut pool.waiting;
            ended.extend(numbers.iter().filter_map(|number| waiting.remove(number)));
            done.push((name.clone(), numbers));
        }
        for (pool, numbers) in done {
            for number in numbers {
                self.core.published_is_done(&pool, number);
            }
        }
        for Waiting { framework, then } in ended {
            let Some(hosted) = self.frameworks.get_mut(framework) else {
                continue;
            };
            call(
                &mut self.core,
                framework,
                &mut **hosted,
                "the end of a keyed event",
                |hosted, cx| hosted.resume_published(then, cx),
            );
        }
    }

    /// Events for an owner of keys.
    pub(super) fn keyed_events(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some((pool, events)) = read_keyed_events(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        self.with_keeper(pool, |keeper, _| keeper.arrived(from, events));
    }

    /// The word of an owner on events of this node.
    pub(super) fn keyed_acknowledged(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some((pool, ack)) = read_events_ack(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        let now = self.core.clock.now.mono;
        let pools = &mut self.core.keyed.pools;
        let found = pools.iter_mut().find(|(name, _)| name.as_str() == pool);
        if let Some((_, work)) = found {
            work.publishing.acknowledged(from, &ack, now);
            self.core.keyed.is_due = true;
        }
    }

    /// What another member of a pool says.
    pub(super) fn keyed_lane(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some((pool, message)) = read_lane(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        self.with_keeper(pool, |keeper, _| keeper.heard(from, &message));
    }

    /// What has arrived of what this node says.
    pub(super) fn keyed_lane_confirmed(&mut self, from: EndpointId, event: &EventRef<'_>) {
        if !self.is_from_node(from, event.name()) {
            return;
        }
        let Some((pool, ack)) = read_lane_ack(event.arguments()) else {
            self.core.counts.events_refused += 1;
            return;
        };
        self.with_keeper(pool, |keeper, now| keeper.lane_confirmed(from, &ack, now));
    }

    /// Lets a member of a pool hear something, if this node is one.
    fn with_keeper(&mut self, pool: &str, hear: impl FnOnce(&mut Keeper, Mono)) {
        let now = self.core.clock.now.mono;
        let pools = &mut self.core.keyed.pools;
        let found = pools.iter_mut().find(|(name, _)| name.as_str() == pool);
        if let Some(keeper) = found.and_then(|(_, work)| work.keeper.as_mut()) {
            hear(keeper, now);
            self.core.keyed.is_due = true;
        }
    }

    /// Returns `true` if no event for an owner of a key is open, and nothing that handlers of such events have given away on this node.
    pub fn is_keyed_work_done(&self) -> bool {
        self.core.keyed.is_done()
    }

    /// Returns the number of events for owners of keys that are open.
    pub fn open_keyed_events(&self) -> usize {
        let pools = self.core.keyed.pools.values();
        pools.map(|pool| pool.publishing.len()).sum()
    }

    /// Returns `true` if of all keys that this node owns there are copies, and all other members of its pools have said the same of
    /// theirs. A node that owns none is settled.
    pub fn keys_are_settled(&self) -> bool {
        let mut keepers = self
            .core
            .keyed
            .pools
            .values()
            .filter_map(|pool| pool.keeper.as_ref());
        keepers.all(Keeper::is_settled)
    }

    /// Returns how many bytes the rows of keys have that this node owns or has copies of.
    pub fn keyed_bytes(&self) -> usize {
        let keepers = self
            .core
            .keyed
            .pools
            .values()
            .filter_map(|pool| pool.keeper.as_ref());
        keepers.map(Keeper::bytes).sum()
    }

    /// Lets a rule of keyed work be broken, to see that it is noticed.
    #[cfg(any(test, feature = "simulation"))]
    pub fn sabotage_keyed(&mut self, rule: super::KeyedSabotage) {
        for pool in self.core.keyed.pools.values_mut() {
            if let Some(keeper) = &mut pool.keeper {
                keeper.sabotage(rule);
            }
        }
    }
}
