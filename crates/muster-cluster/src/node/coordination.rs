//! A node's part in what its cluster's coordinators decide: it renews its lease, and divides work by their view.

use muster_data::{Encode, Record};
use muster_wire::zeek::{EventRef, Metadata};
use muster_wire::{Class, EndpointId, Mono, Topic};

use super::{Effect, NodeLoop, Report, Severity, TroubleCause};
use crate::coordination::{
    Heard, Lease, LeaseAnswer, Leaving, NotTaken, Renew, Renewal, Standing, StoreGroup, View,
    ViewChange, ViewUpdate, ViewWanted, voters,
};
use crate::layout::{AGENT_PREFIX, Layout, NodeName};
use crate::pools::PoolChange;

/// The least time between two questions for a view.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

/// For how long a node may be without a lease before it fails at that: one that has just begun, or is being admitted again, is so for a
/// moment.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a node that begins waits for the word of a coordinator, until it takes it that there are none.
const WAIT_FOR_ANY: std::time::Duration = std::time::Duration::from_secs(3);

/// Who says which nodes keep a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreAuthority {
    /// The layout: nobody coordinates, at least not yet.
    Layout,
    /// The coordinators, for as long as the process lives.
    Coordinators,
}

/// What a node has of its coordinators.
#[derive(Debug)]
pub(super) struct Coordination {
    /// The names of their agents, and the topics that these hear.
    voters: Vec<(String, Topic)>,
    lease: Lease,
    view: View,
    /// When a view may be asked for again.
    ask_at: Mono,
    /// What the node was told to be last.
    told: Standing,
    /// The lease ran when the pools were looked at last.
    ran: bool,
    /// The newest epoch that a coordinator has spoken of.
    newest: u64,
    /// Those who are out are fenced.
    fences: bool,
    /// Since when the node is without a lease that it should have.
    without: Option<Mono>,
    /// What it fails at.
    trouble: Option<Standing>,
    began: Mono,
    /// Since when a voter is in the mesh that does not answer.
    silent_since: Option<Mono>,
    /// Who says which nodes keep a store, once that is clear.
    authority: Option<StoreAuthority>,
}

/// What a node has of its coordinators, to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoordinationReport {
    /// What the node may do.
    pub standing: Standing,
    /// Its session; 0 if it has none.
    pub session: u64,
    /// The epoch of the view that it goes by; 0 if it has none.
    pub epoch: u64,
}

impl Coordination {
    /// Returns `None` where the layout has no coordinators.
    pub(super) fn of(layout: &Layout, now: Mono) -> Option<Self> {
        let topics = layout.topics();
        let voters = voters(layout).into_iter().filter_map(|of_box| {
            let name = format!("{AGENT_PREFIX}{of_box}");
            let topic = topics.agent(&name)?;
            Some((name, topic))
        });
        let voters: Vec<_> = voters.collect();
        (!voters.is_empty()).then(|| Self {
            voters,
            lease: Lease::new(now),
            view: View::default(),
            ask_at: now,
            told: Standing::Alone,
            ran: false,
            newest: 0,
            fences: false,
            without: None,
            trouble: None,
            began: now,
            silent_since: None,
            authority: None,
        })
    }

    fn next_deadline(&self) -> Mono {
        let until = self.lease.until().filter(|_| self.ran);
        until.map_or(self.lease.next(), |until| until.min(self.lease.next()))
    }
}

impl NodeLoop {
    /// What the node has of its coordinators, if its layout has any.
    pub fn coordination(&self) -> Option<CoordinationReport> {
        let coordination = self.coordination.as_ref()?;
        Some(CoordinationReport {
            standing: coordination.lease.standing(self.core.clock.now.mono),
            session: coordination.lease.session(),
            epoch: coordination.view.epoch(),
        })
    }

    /// The view of the coordinators that the node goes by, if its layout has any.
    pub fn view(&self) -> Option<&View> {
        self.coordination.as_ref().map(|it| &it.view)
    }

    /// Until when the node may act by what it was told, without hearing anything new. `None` if it may not.
    pub fn lease_until(&self) -> Option<Mono> {
        let now = self.core.clock.now.mono;
        let lease = &self.coordination.as_ref()?.lease;
        lease.until().filter(|_| lease.runs(now))
    }

    pub(super) fn next_renewal(&self) -> Option<Mono> {
        let coordination = self.coordination.as_ref().filter(|_| !self.stopping);
        coordination.map(Coordination::next_deadline)
    }

    /// The loop turns. It is called before what has arrived is looked at: a node that was stopped takes nothing of it for new.
    pub(super) fn turn(&mut self) {
        let now = self.core.clock.now.mono;
        if let Some(coordination) = &mut self.coordination
            && coordination.lease.turn(now)
        {
            self.look_at_standing();
        }
    }

    /// Renews the lease if that is due, and looks whether it still runs.
    pub(super) fn renew(&mut self) {
        let now = self.core.clock.now.mono;
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        if !self.stopping
            && let Some(Renewal { number, to }) = coordination.lease.renew(now)
        {
            let renew = Renew {
                node: self.core.node.name.to_string(),
                box_name: self.core.node.box_name.clone(),
                incarnation: self.core.incarnation.0,
                session: coordination.lease.session(),
                number,
                alone: Some(to.is_some()),
            };
            let mut voters = coordination.voters.iter();
            let leader = voters.find(|(voter, _)| Some(voter) == to.as_ref());
            match leader.map(|(_, topic)| topic.clone()) {
                Some(topic) => self.send_to_coordinator(&topic, &renew),
                None => self.tell_coordinators(&renew),
            }
        }
        self.look_for_coordinators();
        self.look_at_standing();
    }

    /// A node that hears no coordinator goes by its layout. One that cannot hear any though its cluster has some does not: there may be a
    /// primary elsewhere.
    fn look_for_coordinators(&mut self) {
        let now = self.core.clock.now.mono;
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        if coordination.authority.is_some() {
            return;
        }
        let is_voter = |name: &str| coordination.voters.iter().any(|(voter, _)| voter == name);
        let (mut has_agents, mut has_voters) = (false, false);
        for name in self.core.members.membership.announced_names() {
            has_agents |= name.starts_with(AGENT_PREFIX);
            has_voters |= is_voter(name);
        }
        // Whoever is there has some time to answer.
        if !has_voters {
            coordination.silent_since = None;
        }
        let since = match (has_agents, has_voters) {
            (_, true) => *coordination.silent_since.get_or_insert(now),
            (false, false) => coordination.began,
            (true, false) => return,
        };
        if now.since(since) >= WAIT_FOR_ANY {
            self.stores_go_by(StoreAuthority::Layout);
        }
    }

    fn stores_go_by(&mut self, authority: StoreAuthority) {
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        // What coordinators have taken over they keep.
        let is_decided = coordination.authority == Some(StoreAuthority::Coordinators);
        if !is_decided && coordination.authority.replace(authority) != Some(authority) {
            let effect = Effect::StoresGoBy(authority);
            self.core.outbox.effects.push(effect);
            self.core.keyed.is_stale = true;
        }
    }

    /// Who says which nodes keep a store, if that is clear.
    pub(in crate::node) fn store_authority(&self) -> Option<StoreAuthority> {
        let Some(coordination) = &self.coordination else {
            return Some(StoreAuthority::Layout);
        };
        coordination.authority
    }

    /// The node stops in order: others take over at once.
    pub(super) fn leave_coordinators(&mut self) {
        let Some(coordination) = &self.coordination else {
            return;
        };
        let session = coordination.lease.session();
        if session != 0 {
            let node = self.core.node.name.to_string();
            self.tell_coordinators(&Leaving { node, session });
        }
    }

    /// Whether it has said so: others take over from now on.
    pub(in crate::node) fn has_left_coordinators(&self) -> bool {
        let session = self.coordination.as_ref().map(|it| it.lease.session());
        self.stopping && session.is_some_and(|session| session != 0)
    }

    fn tell_coordinators<E: Record + Encode>(&mut self, event: &E) {
        let Some(coordination) = &self.coordination else {
            return;
        };
        for (_, topic) in coordination.voters.clone() {
            self.send_to_coordinator(&topic, event);
        }
    }

    fn send_to_coordinator<E: Record + Encode>(&mut self, topic: &Topic, event: &E) {
        let metadata = Metadata::default();
        self.core
            .send(topic, Class::Control, E::NAME, metadata, |out| {
                event.encode(out);
            });
    }

    /// Returns the voter that an endpoint is, by its name in the mesh.
    fn voter(&self, from: EndpointId) -> Option<String> {
        let name = self.core.members.membership.announced_name(from)?;
        let voters = &self.coordination.as_ref()?.voters;
        let known = voters.iter().find(|(voter, _)| voter == name);
        known.map(|(voter, _)| voter.clone())
    }

    /// A coordinator has answered.
    pub(super) fn lease_answered(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let now = self.core.clock.now.mono;
        let (Some(voter), Ok(answer)) = (self.voter(from), event.arguments().to::<LeaseAnswer>())
        else {
            self.core.counts.control_events_refused += 1;
            return;
        };
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        let heard = coordination.lease.answered(&voter, &answer, now);
        self.stores_go_by(StoreAuthority::Coordinators);
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        if answer.epoch > coordination.view.epoch() {
            coordination.newest = coordination.newest.max(answer.epoch);
            self.ask_for_view(&voter);
        }
        if heard != Heard::Nothing {
            self.look_at_standing();
        }
    }

    fn ask_for_view(&mut self, voter: &str) {
        let now = self.core.clock.now.mono;
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        if now < coordination.ask_at {
            return;
        }
        coordination.ask_at = now.after(ASK_AGAIN);
        let epoch = coordination.view.epoch();
        let topic = coordination.voters.iter().find(|(name, _)| name == voter);
        if let Some((_, topic)) = topic.cloned() {
            self.send_to_coordinator(&topic, &ViewWanted { epoch });
        }
    }

    /// Coordinators say who is in.
    pub(super) fn view_told(&mut self, from: EndpointId, event: &EventRef<'_>) {
        let now = self.core.clock.now.mono;
        let (Some(voter), Ok(update)) = (self.voter(from), event.arguments().to::<ViewUpdate>())
        else {
            self.core.counts.control_events_refused += 1;
            return;
        };
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        let known = |view: &View| (view.generation(), view.epoch());
        let before = known(&coordination.view);
        match coordination.view.update(&update) {
            // What was known is not told again.
            Ok(_) if known(&coordination.view) == before => {}
            Ok(changes) => {
                let name = self.core.node.name.as_str();
                coordination.lease.sees(&coordination.view, name, now);
                self.stores_go_by(StoreAuthority::Coordinators);
                self.view_changed(&changes);
                self.tell_stores(&changes, update.since == 0);
            }
            Err(NotTaken::Gap) => self.ask_for_view(&voter),
            Err(error) => {
                self.core.counts.control_events_refused += 1;
                let text = || format!("refused a view of {voter}: {error}");
                self.core.report(Severity::Warning, "view", text);
            }
        }
    }

    fn view_changed(&mut self, changes: &[ViewChange]) {
        let fences = self.coordination.as_ref().is_some_and(|it| it.fences);
        for change in changes {
            match change {
                ViewChange::In { life, .. } => self.set_fenced(*life, false),
                ViewChange::Out { node, life, reason } => {
                    if fences {
                        self.set_fenced(*life, true);
                    }
                    if self.core.members.membership.id_of_name(node) == Some(*life) {
                        self.core.outbox.effects.push(Effect::Report(Report {
                            severity: Severity::Warning,
                            text: format!("node out: {node} {}", reason.text()),
                        }));
                    }
                }
                ViewChange::Store { .. } => {}
            }
        }
        self.look_at_standing();
        self.follow_view();
    }

    /// Has nothing led through a life of another node, or lifts that.
    fn set_fenced(&mut self, life: EndpointId, is_fenced: bool) {
        if life != self.core.id {
            self.core.outbox.effects.push(if is_fenced {
                Effect::Fence(life)
            } else {
                Effect::Unfence(life)
            });
        }
    }

    /// Fences those who are out, as long as the node's lease runs. Without one it may have missed that somebody is in again, through whom
    /// its only way to the coordinators leads: with a new one it hears that first.
    fn look_at_fences(&mut self, runs: bool) {
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        let is_current = coordination.view.epoch() >= coordination.newest;
        let fences = runs && (coordination.fences || is_current);
        if std::mem::replace(&mut coordination.fences, fences) == fences {
            return;
        }
        let members = self.view().into_iter().flat_map(View::members);
        let out = members.filter(|(_, member)| member.out.is_some());
        let out: Vec<EndpointId> = out.map(|(_, member)| member.life).collect();
        for life in out {
            self.set_fenced(life, fences);
        }
    }

    /// The node's stores hear who keeps them: of those that have changed, or of all of them.
    fn tell_stores(&mut self, changes: &[ViewChange], is_whole: bool) {
        let Some(coordination) = &self.coordination else {
            return;
        };
        let view = &coordination.view;
        let owned = |(store, group): (&str, &StoreGroup)| (store.to_owned(), group.clone());
        let changed = |change: &ViewChange| match change {
            ViewChange::Store { store } => view
                .store(store)
                .map(|group| owned((store.as_str(), group))),
            _ => None,
        };
        let groups: Vec<_> = if is_whole {
            view.stores().map(owned).collect()
        } else {
            changes.iter().filter_map(changed).collect()
        };
        if !groups.is_empty() {
            self.core.outbox.effects.push(Effect::StoreGroups(groups));
        }
    }

    /// What the node may do has perhaps changed.
    fn look_at_standing(&mut self) {
        let now = self.core.clock.now.mono;
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        let standing = coordination.lease.standing(now);
        let runs = coordination.lease.runs(now);
        let has_changed = std::mem::replace(&mut coordination.told, standing) != standing;
        let ran = std::mem::replace(&mut coordination.ran, runs);
        if has_changed {
            let (severity, text) = match standing {
                Standing::Alone => return,
                Standing::In => (
                    Severity::Info,
                    format!("in: session {}", coordination.lease.session()),
                ),
                Standing::Suspended => (
                    Severity::Warning,
                    "no lease: this node was stopped, or hears too few coordinators".to_owned(),
                ),
                Standing::Out => (
                    Severity::Warning,
                    "out, by the coordinators' word: this node asks to be admitted".to_owned(),
                ),
            };
            let report = Report { severity, text };
            self.core.outbox.effects.push(Effect::Report(report));
        }
        self.look_at_fences(runs);
        if ran != runs {
            self.follow_view();
        }
        self.look_at_lack(standing);
    }

    /// A node that should have a lease and has none for a while is not ready.
    fn look_at_lack(&mut self, standing: Standing) {
        let now = self.core.clock.now.mono;
        let Some(coordination) = &mut self.coordination else {
            return;
        };
        let text = match standing {
            Standing::Suspended => "this node was stopped, or hears too few coordinators",
            Standing::Out => "out by the coordinators' word, and not admitted yet",
            Standing::Alone | Standing::In => {
                coordination.without = None;
                if coordination.trouble.take().is_some() {
                    self.core.mends(&TroubleCause::Lease);
                }
                return;
            }
        };
        let since = *coordination.without.get_or_insert(now);
        let is_told = coordination.trouble == Some(standing);
        // Who stops in order is out soon.
        if is_told || self.stopping || now.since(since) < PATIENCE {
            return;
        }
        coordination.trouble = Some(standing);
        self.core.fails(TroubleCause::Lease, 1, text.to_owned());
    }

    /// Makes the pools what the view says, where it does.
    fn follow_view(&mut self) {
        let names: Vec<NodeName> = self.core.members.pools.names().cloned().collect();
        for name in names {
            self.follow_view_of(&name);
        }
    }

    /// A member of pools is up by the word of the coordinators. Without that it is up if this node sees it; and as long as the node hears
    /// nothing from them, only who is seen, too, is up: work that is divided is not to go to somebody who is gone.
    fn follow_view_of(&mut self, name: &NodeName) {
        let changes = self.changes_of(name);
        self.core.logging.shipping.is_stale |= !changes.is_empty();
        self.core.requests.is_stale |= !changes.is_empty();
        self.core.keyed.is_stale = true;
        self.pools_changed(&changes);
    }

    /// Sets what is so about a member of pools, and returns what that changed.
    pub(super) fn changes_of(&mut self, name: &NodeName) -> Vec<PoolChange> {
        let seen = *name == self.core.node.name || self.core.is_alive(name);
        let coordination = self.coordination.as_ref();
        let decided = coordination.and_then(|it| it.view.is_in(name.as_str()));
        let runs = coordination.is_some_and(|it| it.ran);
        let up = match decided {
            None => seen,
            Some(is_in) => is_in && (seen || runs),
        };
        let pools = &mut self.core.members.pools;
        pools.set_seen(name, seen);
        pools.set(name, up)
    }
}
