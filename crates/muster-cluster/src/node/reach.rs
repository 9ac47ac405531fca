//! The ways to other endpoints, and the state of a node that follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_wire::peering::Protocol;
use muster_wire::{EndpointId, Mono};

use super::NodeLoop;
use crate::layout::NodeName;

/// The nodes whose names are kept, unless more are up.
const NAMES: usize = 1024;

/// A change in how an endpoint can be reached, as this node's endpoint reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A peering is up: messages are routed to the peer.
    PeerUp(Protocol),
    /// A peering has ended; nothing more arrives over it.
    PeerDown(Protocol),
    /// The endpoint has come into reach in the mesh, whether it is a direct peer or not.
    Discovered,
    /// The endpoint can no longer be reached through the mesh.
    Unreachable,
}

/// How an endpoint can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Way {
    /// By a peering of version 1.
    peering: bool,
    /// Through the mesh.
    mesh: bool,
    /// By a link of the mesh: a peer of version 2. Alone it is no way, for what crosses it is not ours
    /// before the mesh has told of the peer.
    link: bool,
}

/// What a change means for membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consequence {
    Nothing,
    Reached { direct: bool },
    LinkChanged { direct: bool },
    Lost,
}

impl Way {
    fn leads_there(self) -> bool {
        self.peering || self.mesh
    }

    fn is_direct(self) -> bool {
        self.peering || self.link
    }

    fn of(&mut self, protocol: Protocol) -> &mut bool {
        match protocol {
            Protocol::V1 => &mut self.peering,
            Protocol::V2 => &mut self.link,
        }
    }
}

/// The ways to all endpoints.
#[derive(Debug, Default)]
pub(super) struct Ways(BTreeMap<EndpointId, Way>);

impl Ways {
    fn change(&mut self, id: EndpointId, reach: Reach) -> Consequence {
        let before = self.0.get(&id).copied().unwrap_or_default();
        let mut after = before;
        match reach {
            Reach::PeerUp(protocol) => *after.of(protocol) = true,
            Reach::PeerDown(protocol) => *after.of(protocol) = false,
            Reach::Discovered => after.mesh = true,
            Reach::Unreachable => after.mesh = false,
        }
        if after == Way::default() {
            self.0.remove(&id);
        } else {
            self.0.insert(id, after);
        }
        let direct = after.is_direct();
        match (before.leads_there(), after.leads_there()) {
            (false, true) => Consequence::Reached { direct },
            (true, false) => Consequence::Lost,
            (true, true) if before.is_direct() != direct => Consequence::LinkChanged { direct },
            _ => Consequence::Nothing,
        }
    }
}

/// How long after it came into reach an endpoint is new: some of its links are not announced yet, so whoever relays for it
/// may be the only way that others know of.
const NEW: Duration = Duration::from_secs(5);

/// How long a new endpoint may be out of reach until it is lost: a link that only makes paths better comes into use when the
/// view has stood for a second.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The endpoints that came into reach a short while ago, and those of them that are out of reach for the moment.
#[derive(Debug, Default)]
pub(super) struct Missing {
    new: BTreeMap<EndpointId, Mono>,
    until: BTreeMap<EndpointId, Mono>,
}

impl Missing {
    fn reached(&mut self, id: EndpointId, now: Mono) {
        self.new.retain(|_, since| now.since(*since) < NEW);
        self.new.insert(id, now);
    }

    /// The endpoint's own link has ended, so it does not come back by another way for its links' sake. Returns `true` if it was
    /// waited for.
    fn end(&mut self, id: EndpointId) -> bool {
        self.new.remove(&id);
        self.until.remove(&id).is_some()
    }

    /// Returns `true` if the endpoint is waited for.
    fn lose(&mut self, id: EndpointId, now: Mono) -> bool {
        let is_new = self.is_new(id, now);
        if is_new {
            self.until.insert(id, now.after(PATIENCE));
        }
        is_new
    }

    /// Returns `true` if the endpoint was waited for.
    fn found(&mut self, id: EndpointId) -> bool {
        self.until.remove(&id).is_some()
    }

    fn forget(&mut self, id: EndpointId) {
        self.new.remove(&id);
        self.until.remove(&id);
    }

    /// Returns `true` if the endpoint came into reach a short while ago.
    pub(super) fn is_new(&self, id: EndpointId, now: Mono) -> bool {
        let since = self.new.get(&id);
        since.is_some_and(|since| now.since(*since) < NEW)
    }

    fn all(&self) -> impl Iterator<Item = EndpointId> {
        self.until.keys().copied()
    }

    fn due(&self, now: Mono) -> Vec<EndpointId> {
        let due = self.until.iter().filter(|(_, until)| **until <= now);
        due.map(|(id, _)| *id).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.until.values().copied().min()
    }
}

/// The state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeState {
    /// It waits for the nodes that it is linked with.
    #[default]
    Starting,
    /// All the nodes that it is linked with are up, some of them perhaps reached only through others.
    Ready,
    /// It runs, but not all the nodes that it is linked with are up, or it fails at something: see
    /// [`NodeLoop::troubles`].
    Degraded,
    /// It is draining and about to end.
    Stopping,
}

impl NodeState {
    /// All states, in the order in which a node may be in them.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Degraded, Self::Stopping];

    /// Returns the state in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

impl NodeLoop {
    /// Returns the node's state.
    pub fn state(&self) -> NodeState {
        let is_good = self.core.health.is_good();
        // A node that has just started and has not read the register goes by values that may be no longer those of the others.
        let now = self.core.clock.now.mono;
        let has_read = !self.core.registers.are_awaited(now);
        let has_all = has_read && self.has_all_neighbours();
        match (self.stopping, has_all, has_read && self.was_ready) {
            (true, ..) => NodeState::Stopping,
            (_, true, _) if is_good => NodeState::Ready,
            (_, true, _) | (_, _, true) => NodeState::Degraded,
            (_, _, false) => NodeState::Starting,
        }
    }

    /// Returns the number of the layout's other nodes that have not been up since this one started.
    pub fn unseen(&self) -> usize {
        let seen: BTreeSet<&str> = self.names.values().map(String::as_str).collect();
        let others = self.core.layout.nodes().iter();
        let others = others.filter(|node| node.name != self.core.node.name);
        others
            .filter(|node| !seen.contains(node.name.as_str()))
            .count()
    }

    /// Returns the names of the nodes that are or were up, by their endpoint ids. Of former ones at most 1,024 are
    /// kept.
    pub fn names(&self) -> &BTreeMap<EndpointId, String> {
        &self.names
    }

    /// A node is up: its name is remembered, also when it is gone.
    pub(super) fn remember_name(&mut self, id: EndpointId, name: &NodeName) {
        self.names.insert(id, name.to_string());
        let former = |id: &EndpointId| self.core.members.membership.name_of(*id).is_none();
        while self.names.len() > NAMES {
            let Some(oldest) = self.names.keys().copied().find(former) else {
                return;
            };
            self.names.remove(&oldest);
        }
    }

    /// The ways to an endpoint have changed.
    pub(super) fn reach_changed(&mut self, id: EndpointId, reach: Reach) {
        let now = self.core.clock.now.mono;
        if matches!(reach, Reach::PeerDown(_)) && self.missing.end(id) {
            self.ways.change(id, reach);
            return self.is_lost(id);
        }
        match self.ways.change(id, reach) {
            Consequence::Nothing => {}
            Consequence::Reached { direct } if self.missing.found(id) => {
                self.core.members.membership.link_changed(id, direct);
                self.look_for_indirect_neighbours();
            }
            Consequence::Reached { direct } => {
                self.missing.reached(id, now);
                self.peer_added(id, direct);
            }
            Consequence::Lost if reach == Reach::Unreachable && self.missing.lose(id, now) => {}
            Consequence::LinkChanged { direct } => {
                self.core.members.membership.link_changed(id, direct);
                self.look_for_indirect_neighbours();
            }
            Consequence::Lost => self.is_lost(id),
        }
    }

    fn is_lost(&mut self, id: EndpointId) {
        self.missing.forget(id);
        self.strangers.remove(&id);
        self.answered.remove(&id);
        let events = self.core.members.membership.peer_lost(id);
        self.membership_events(events);
    }

    /// Gives up the endpoints that have been missing for too long.
    pub(super) fn give_up_missing(&mut self) {
        for id in self.missing.due(self.core.clock.now.mono) {
            self.is_lost(id);
        }
    }

    /// A node of this name speaks from another endpoint: a life of it that is missing does not come back.
    pub(super) fn give_up_missing_life(&mut self, name: &str, new: EndpointId) {
        let membership = &self.core.members.membership;
        let old = self.missing.all().find(|id| {
            let known = membership.name_of(*id);
            *id != new && known.is_some_and(|known| known.as_str() == name)
        });
        if let Some(old) = old {
            self.is_lost(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_the_first_that_leads_there_and_lost_with_the_last() {
        let id = EndpointId::from_random([1; 16]);
        let mut ways = Ways::default();
        let mut change = |reach| ways.change(id, reach);
        // A link alone is no way.
        assert_eq!(change(Reach::PeerUp(Protocol::V2)), Consequence::Nothing);
        let reached = Consequence::Reached { direct: true };
        assert_eq!(change(Reach::Discovered), reached);
        let apart = Consequence::LinkChanged { direct: false };
        assert_eq!(change(Reach::PeerDown(Protocol::V2)), apart);
        let peered = Consequence::LinkChanged { direct: true };
        assert_eq!(change(Reach::PeerUp(Protocol::V1)), peered);
        assert_eq!(change(Reach::Unreachable), Consequence::Nothing);
        assert_eq!(change(Reach::PeerDown(Protocol::V1)), Consequence::Lost);
        assert!(ways.0.is_empty());
    }
}
