//! Membership: which nodes are alive, and in which of their lives.

use std::collections::{BTreeMap, HashMap};

use muster_data::Timestamp;
use muster_wire::{EndpointId, Incarnation};

use crate::layout::{Layout, NodeName, Role};

/// Hellos that may wait for their peering, per node of the layout: a restart may overlap.
const HELD_PER_NODE: usize = 2;

/// Hellos that may wait besides those.
const HELD_BESIDES: usize = 16;

/// The table of all nodes of a layout, which says who is alive.
///
/// A node is alive from the moment when it can be reached, by a peering of its own or through others, and its hello
/// has come. Its events alternate: up, down, up. The down of one life comes before the up of the next. The node itself
/// is in the table, alive from the start, without an event.
#[derive(Debug, Clone)]
pub struct Membership {
    me: NodeName,
    records: BTreeMap<NodeName, Record>,
    peers: HashMap<EndpointId, Peer>,
    /// The newcomers that wait until it is known whether the life that is there still lives.
    contenders: BTreeMap<NodeName, Contender>,
    held: HashMap<EndpointId, Hello>,
    /// What the endpoints of the mesh have announced themselves as.
    announced: HashMap<EndpointId, Box<str>>,
    most_held: usize,
}

/// What is known about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The node's name.
    pub name: NodeName,
    /// Its role.
    pub role: Role,
    /// The machine it runs on, the unit of failure.
    pub box_name: String,
    /// Its present life, if it is alive.
    pub life: Option<Life>,
}

/// One life of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its endpoint id.
    pub id: EndpointId,
    /// Its place among the lives of the node; not known for Zeek's nodes.
    pub incarnation: Option<Incarnation>,
    /// Since when it can be reached.
    pub since: Timestamp,
    /// Whether it is a direct peer now; `false` for a node that is reached only through others, and for the node
    /// itself.
    pub direct: bool,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipEvent {
    /// A node came up.
    NodeUp {
        /// Its name.
        name: NodeName,
        /// Its endpoint id.
        id: EndpointId,
        /// Its place among the lives of the node, where known.
        incarnation: Option<Incarnation>,
    },
    /// A node went down. Name, id and incarnation are those of its `NodeUp`.
    NodeDown {
        /// Its name.
        name: NodeName,
        /// Its endpoint id.
        id: EndpointId,
        /// Its place among the lives of the node, where known.
        incarnation: Option<Incarnation>,
    },
    /// A node that is alive says hello from another endpoint: a restart that was not seen yet, or a second process of
    /// the same name. The keeper of the table has to ping the old life, and to report with
    /// [`Membership::contest_ended`] whether it answered.
    Contested {
        /// The node's name.
        name: NodeName,
        /// The endpoint id of the life that is there.
        old: EndpointId,
        /// The endpoint id of the newcomer.
        new: EndpointId,
    },
    /// A hello was refused. The peering stays, but the peer is not a node.
    Refused {
        /// The name in the hello, at most 128 bytes of it.
        name: String,
        /// The endpoint id in the hello.
        id: EndpointId,
        /// Why.
        reason: Refusal,
    },
}

/// Why a hello was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The layout has no node of this name.
    #[error("the layout has no node of this name")]
    UnknownName,
    /// The name is this node's own: the node runs twice.
    #[error("the name is this node's own")]
    OwnName,
    /// The endpoint id in the hello is not that of the peer that sent it.
    #[error("the endpoint id is not the peer's own")]
    ForeignId,
    /// The peer is already a node with another name.
    #[error("the peer is already a node with another name")]
    OtherName,
    /// The endpoint has announced itself to the mesh under another name, which its certificate may bind it to.
    #[error("the endpoint has announced itself under another name")]
    NotItsName,
    /// Another life of the node took this one's place before: the hello is stale.
    #[error("another life of the node has taken this one's place")]
    OlderLife,
    /// The node is alive at another endpoint, which has just answered: it runs twice.
    #[error("the node is alive at another endpoint")]
    Duplicate,
    /// Another newcomer of the same name is being looked at.
    #[error("another newcomer of the same name is being looked at")]
    Contested,
    /// Too many hellos wait for their peering.
    #[error("too many hellos wait for their peering")]
    TooMany,
}

#[derive(Debug, Clone)]
struct Peer {
    since: Timestamp,
    /// Whether there is a peering, or only a way through others.
    direct: bool,
    /// The node whose life this is or was.
    name: Option<NodeName>,
    /// Whether another life has taken its place, or was there first.
    superseded: bool,
}

/// A newcomer under the name of a living node.
#[derive(Debug, Clone, Copy)]
struct Contender {
    id: EndpointId,
    incarnation: Option<Incarnation>,
}

#[derive(Debug, Clone)]
struct Hello {
    name: String,
    incarnation: Option<Incarnation>,
}

impl Membership {
    /// Creates the table that the node `me` keeps, in its life `id`, which began at `now`.
    ///
    /// `me` need not be in the layout: an outside observer keeps a table as well.
    pub fn new(
        layout: &Layout,
        me: &NodeName,
        id: EndpointId,
        incarnation: Incarnation,
        now: Timestamp,
    ) -> Self {
        let own = Life {
            id,
            incarnation: Some(incarnation),
            since: now,
            direct: false,
        };
        let records = layout.nodes().iter().map(|node| {
            let record = Record {
                name: node.name.clone(),
                role: node.role,
                box_name: node.box_name.clone(),
                life: (node.name == *me).then(|| own.clone()),
            };
            (node.name.clone(), record)
        });
        Self {
            me: me.clone(),
            records: records.collect(),
            peers: HashMap::new(),
            contenders: BTreeMap::new(),
            held: HashMap::new(),
            announced: HashMap::new(),
            most_held: layout.nodes().len() * HELD_PER_NODE + HELD_BESIDES,
        }
    }

    /// An endpoint can be reached: by a peering if it is `direct`, otherwise through others. A hello of it that came
    /// earlier takes effect now. Returns what that changed.
    pub fn peer_added(
        &mut self,
        id: EndpointId,
        direct: bool,
        now: Timestamp,
    ) -> Vec<MembershipEvent> {
        self.peers.entry(id).or_insert(Peer {
            since: now,
            direct,
            name: None,
            superseded: false,
        });
        self.link_changed(id, direct);
        match self.held.remove(&id) {
            Some(hello) => self.settle(id, &hello.name, hello.incarnation),
            None => Vec::new(),
        }
    }

    /// Returns what the endpoints of the mesh have announced themselves as.
    pub fn announced_names(&self) -> impl Iterator<Item = &str> {
        self.announced.values().map(AsRef::as_ref)
    }

    /// The mesh says what an endpoint has announced itself as: it is a node of that name or none. Returns what that changed;
    /// nothing unless it has said another name before.
    pub fn announced(&mut self, id: EndpointId, name: &str) -> Vec<MembershipEvent> {
        let said = self.peers.get(&id).and_then(|peer| peer.name.clone());
        let mut events = Vec::new();
        if let Some(said) = said.filter(|said| said.as_str() != name)
            && let Some(peer) = self.peers.get(&id).cloned()
        {
            events = self.peer_lost(id);
            events.extend(refused(said.as_str(), id, Refusal::NotItsName));
            self.peers.insert(id, Peer { name: None, ..peer });
        }
        self.announced.insert(id, name.into());
        events
    }

    /// The peer `from` says that it is the node `name` in the life `id`. Returns what that changed; repeats change
    /// nothing.
    ///
    /// If the node is alive at another endpoint, that life is pinged first, whatever the order of the incarnations:
    /// clocks may go back, and Zeek's nodes have no incarnation. A peer that was refused becomes a node only by
    /// another hello.
    pub fn hello(
        &mut self,
        from: EndpointId,
        name: &str,
        id: EndpointId,
        incarnation: Option<Incarnation>,
    ) -> Vec<MembershipEvent> {
        if id != from {
            return refused(name, id, Refusal::ForeignId);
        }
        if let Some(reason) = self.judge_name(name) {
            return refused(name, id, reason);
        }
        if self.peers.contains_key(&from) {
            return self.settle(from, name, incarnation);
        }
        if self.held.len() >= self.most_held && !self.held.contains_key(&from) {
            return refused(name, id, Refusal::TooMany);
        }
        self.held.insert(
            from,
            Hello {
                name: name.to_owned(),
                incarnation,
            },
        );
        Vec::new()
    }

    /// An endpoint that was reached only through others is a direct peer now, or the reverse. That makes no node go up
    /// or down.
    pub fn link_changed(&mut self, id: EndpointId, direct: bool) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.direct = direct;
        let record = peer
            .name
            .as_ref()
            .and_then(|name| self.records.get_mut(name));
        let life = record.and_then(|record| record.life.as_mut());
        if let Some(life) = life.filter(|life| life.id == id) {
            life.direct = direct;
        }
    }

    /// An endpoint can no longer be reached. Returns what that changed; nothing if it was not a node.
    pub fn peer_lost(&mut self, id: EndpointId) -> Vec<MembershipEvent> {
        self.held.remove(&id);
        self.announced.remove(&id);
        let name = self.peers.remove(&id).and_then(|peer| peer.name);
        let Some(record) = name.and_then(|name| self.records.get_mut(&name)) else {
            return Vec::new();
        };
        let name = record.name.clone();
        if let Some(life) = record.life.take_if(|life| life.id == id) {
            let mut events = vec![down(&name, &life)];
            let contender = self.contenders.remove(&name);
            events.extend(contender.and_then(|contender| self.begin(&name, contender)));
            return events;
        }
        if self.contenders.get(&name).is_some_and(|new| new.id == id) {
            self.contenders.remove(&name);
        }
        Vec::new()
    }

    /// The old life of a contest has answered its ping, or has not answered in time. Returns what that changed;
    /// nothing if the contest has ended by itself, for example because one of the two is gone.
    pub fn contest_ended(&mut self, name: &NodeName, has_answered: bool) -> Vec<MembershipEvent> {
        let Some(contender) = self.contenders.remove(name) else {
            return Vec::new();
        };
        if has_answered {
            if let Some(peer) = self.peers.get_mut(&contender.id) {
                peer.superseded = true;
            }
            return refused(name.as_str(), contender.id, Refusal::Duplicate);
        }
        let mut events = Vec::new();
        if let Some(old) = self
            .records
            .get_mut(name)
            .and_then(|record| record.life.take())
        {
            if let Some(peer) = self.peers.get_mut(&old.id) {
                peer.superseded = true;
            }
            events.push(down(name, &old));
        }
        events.extend(self.begin(name, contender));
        events
    }

    /// A life begins.
    fn begin(
        &mut self,
        name: &NodeName,
        Contender { id, incarnation }: Contender,
    ) -> Option<MembershipEvent> {
        let peer = self.peers.get(&id)?;
        let record = self.records.get_mut(name)?;
        record.life = Some(Life {
            id,
            incarnation,
            since: peer.since,
            direct: peer.direct,
        });
        Some(MembershipEvent::NodeUp {
            name: name.clone(),
            id,
            incarnation,
        })
    }

    /// The node's own name.
    pub fn me(&self) -> &NodeName {
        &self.me
    }

    /// All nodes of the layout, dead or alive, in the order of their names.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The nodes that are alive, the node itself included, in the order of their names.
    pub fn alive(&self) -> impl Iterator<Item = &Record> {
        self.records().filter(|record| record.life.is_some())
    }

    /// What is known about a node of the layout.
    pub fn get(&self, name: &NodeName) -> Option<&Record> {
        self.records.get(name)
    }

    /// What an endpoint of the mesh has announced itself as.
    pub fn announced_name(&self, id: EndpointId) -> Option<&str> {
        self.announced.get(&id).map(|name| &**name)
    }

    /// The endpoint id of the living node of a name.
    pub fn id_of_name(&self, name: &str) -> Option<EndpointId> {
        let record = self.records.get(name)?;
        record.life.as_ref().map(|life| life.id)
    }

    /// The endpoint id of a node that is alive.
    pub fn id_of(&self, name: &NodeName) -> Option<EndpointId> {
        self.get(name)?.life.as_ref().map(|life| life.id)
    }

    /// The living node that an endpoint id belongs to.
    pub fn name_of(&self, id: EndpointId) -> Option<&NodeName> {
        let name = self
            .peers
            .get(&id)
            .map_or(Some(&self.me), |peer| peer.name.as_ref())?;
        self.records
            .get(name)
            .filter(|record| record.life.as_ref().is_some_and(|life| life.id == id))
            .map(|record| &record.name)
    }

    fn judge_name(&self, name: &str) -> Option<Refusal> {
        if self.me == *name {
            return Some(Refusal::OwnName);
        }
        (!self.records.contains_key(name)).then_some(Refusal::UnknownName)
    }

    /// A hello whose peering stands and whose name is a node's.
    fn settle(
        &mut self,
        id: EndpointId,
        name: &str,
        incarnation: Option<Incarnation>,
    ) -> Vec<MembershipEvent> {
        let (Some(record), Some(peer)) = (self.records.get_mut(name), self.peers.get_mut(&id))
        else {
            return Vec::new();
        };
        if self
            .announced
            .get(&id)
            .is_some_and(|announced| **announced != *name)
        {
            return refused(name, id, Refusal::NotItsName);
        }
        if peer
            .name
            .as_ref()
            .is_some_and(|known| *known != record.name)
        {
            return refused(name, id, Refusal::OtherName);
        }
        if let Some(life) = record.life.as_mut().filter(|life| life.id == id) {
            life.incarnation = life.incarnation.or(incarnation);
            return Vec::new();
        }
        if peer.superseded && record.life.is_some() {
            return refused(name, id, Refusal::OlderLife);
        }
        let name = record.name.clone();
        let contender = Contender { id, incarnation };
        match (&record.life, self.contenders.get(&name)) {
            (None, _) => {}
            (Some(_), Some(known)) if known.id == id => return Vec::new(),
            (Some(_), Some(_)) => return refused(name.as_str(), id, Refusal::Contested),
            (Some(alive), None) => {
                let old = alive.id;
                peer.name = Some(name.clone());
                self.contenders.insert(name.clone(), contender);
                return vec![MembershipEvent::Contested { name, old, new: id }];
            }
        }
        peer.name = Some(name.clone());
        self.begin(&name, contender).into_iter().collect()
    }
}

fn down(name: &NodeName, life: &Life) -> MembershipEvent {
    MembershipEvent::NodeDown {
        name: name.clone(),
        id: life.id,
        incarnation: life.incarnation,
    }
}

fn refused(name: &str, id: EndpointId, reason: Refusal) -> Vec<MembershipEvent> {
    let name = name.chars().take(crate::layout::LONGEST_NAME).collect();
    vec![MembershipEvent::Refused { name, id, reason }]
}
