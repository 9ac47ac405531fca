//! Who is asked.

use muster_wire::EndpointId;

use crate::hrw::Key;
use crate::layout::{NodeName, PoolName, Role};
use crate::node::Severity;
use crate::node::node_core::{Members, NodeCore};
use crate::pools::PoolView;
use crate::requests::{Standing, Target, Whereabouts};

/// Who answers a request: one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct To(Recipient);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Recipient {
    Node(NodeName),
    Next(PoolName),
    Role(Role),
    Owner(PoolName, Key),
}

impl To {
    /// The node of this name.
    pub fn node(name: &NodeName) -> Self {
        Self(Recipient::Node(name.clone()))
    }

    /// The next living member of a pool. Every question has a turn of its own.
    pub fn next(pool: &PoolName) -> Self {
        Self(Recipient::Next(pool.clone()))
    }

    /// The next living node of a role. Every question has a turn of its own. The manager stands in where the layout has no loggers,
    /// or no data nodes.
    pub fn role(role: Role) -> Self {
        Self(Recipient::Role(role))
    }

    /// The living member of a pool that owns a key, perhaps this node. If it goes out before it has answered, the next owner is
    /// asked.
    pub fn owner(pool: &PoolName, key: impl Into<Key>) -> Self {
        Self(Recipient::Owner(pool.clone(), key.into()))
    }
}

impl From<&NodeName> for To {
    fn from(name: &NodeName) -> Self {
        Self::node(name)
    }
}

/// Who answers a request to many nodes. Nodes of the layout that are down are asked as well, that is, they are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Among(Recipients);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Recipients {
    Nodes(Vec<NodeName>),
    Pool(PoolName),
    Role(Role),
}

impl Among {
    /// The nodes of these names, each once.
    pub fn nodes<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> Self {
        Self(Recipients::Nodes(names.into_iter().cloned().collect()))
    }

    /// All members of a pool, dead or alive.
    pub fn pool(pool: &PoolName) -> Self {
        Self(Recipients::Pool(pool.clone()))
    }

    /// All nodes of a role, dead or alive. The manager stands in where the layout has no loggers, or no data nodes.
    pub fn role(role: Role) -> Self {
        Self(Recipients::Role(role))
    }
}

impl From<&PoolName> for Among {
    fn from(pool: &PoolName) -> Self {
        Self::pool(pool)
    }
}

impl From<Role> for Among {
    fn from(role: Role) -> Self {
        Self::role(role)
    }
}

/// Who is where, as this node sees it.
pub(super) struct Seen<'a> {
    pub(super) me: (&'a NodeName, EndpointId),
    pub(super) members: &'a Members,
    /// The lives whose hello has said that they answer requests.
    pub(super) able: &'a std::collections::BTreeSet<EndpointId>,
}

impl Whereabouts for Seen<'_> {
    fn standing(&self, node: &NodeName) -> Standing {
        let (me, id) = self.me;
        if node == me {
            return Standing::There(id);
        }
        let record = self.members.membership.get(node);
        let life = record.and_then(|record| record.life.as_ref());
        let is_in = self.members.pools.is_alive(node);
        match life {
            _ if is_in == Some(false) => Standing::Out,
            None if is_in.is_none() => Standing::Out,
            None => Standing::Away,
            Some(life) if self.able.contains(&life.id) => Standing::There(life.id),
            Some(_) => Standing::Unable,
        }
    }

    fn owner(&self, pool: &PoolName, key: Key) -> Option<NodeName> {
        self.members.pools.owner(pool, &key).cloned()
    }
}

impl NodeCore {
    /// Who is asked now.
    pub(super) fn target_of(&mut self, to: To, question: &'static str) -> Target {
        match to.0 {
            Recipient::Node(name) => Target::Nodes(vec![name]),
            Recipient::Owner(pool, key) => {
                self.check_pool(&pool, question);
                Target::Owner(pool, key)
            }
            Recipient::Next(pool) => {
                self.check_pool(&pool, question);
                let members = self.members.pools.view(&pool);
                let members = members.map_or(0, |view| view.members().len());
                Target::Nodes(self.next_of_pool(&pool, question, members))
            }
            Recipient::Role(role) => Target::Nodes(self.next_of_role(role, question)),
        }
    }

    pub(super) fn targets_of(&mut self, among: Among, question: &'static str) -> Target {
        Target::Nodes(match among.0 {
            Recipients::Nodes(names) => names,
            Recipients::Pool(pool) => {
                self.check_pool(&pool, question);
                let members = self.members.pools.view(&pool);
                let members = members.into_iter().flat_map(PoolView::members);
                members.map(|member| member.name.clone()).collect()
            }
            Recipients::Role(role) => self.nodes_of(role),
        })
    }

    /// The next member in turn that answers requests, or else the next one.
    fn next_of_pool(&mut self, pool: &PoolName, question: &str, members: usize) -> Vec<NodeName> {
        let mut first = None;
        for _ in 0..members {
            let Some(next) = self.members.pools.next(pool, question).cloned() else {
                break;
            };
            if matches!(self.seen().standing(&next), Standing::There(_)) {
                return vec![next];
            }
            first.get_or_insert(next);
        }
        first.into_iter().collect()
    }

    fn next_of_role(&mut self, role: Role, question: &'static str) -> Vec<NodeName> {
        let nodes = self.nodes_of(role);
        let last = self.requests.turns.get(&(role, question)).copied();
        let first = last.map_or(0, |last| last + 1);
        let turns = (0..nodes.len()).map(|step| (first + step) % nodes.len());
        let rank = |turn: &usize| match self.seen().standing(&nodes[*turn]) {
            Standing::There(_) => 0,
            Standing::Unable => 1,
            Standing::Away => 2,
            Standing::Out => 3,
        };
        // Of several that are as good as one another it is the first one.
        let Some(found) = turns.min_by_key(rank) else {
            return Vec::new();
        };
        let name = nodes[found].clone();
        self.requests.turns.insert((role, question), found);
        vec![name]
    }

    fn nodes_of(&self, role: Role) -> Vec<NodeName> {
        let nodes = self.layout.nodes().iter();
        let nodes = nodes.filter(|node| self.layout.serves_as(node, role));
        nodes.map(|node| node.name.clone()).collect()
    }

    fn check_pool(&mut self, pool: &PoolName, question: &str) {
        if self.members.pools.view(pool).is_none() {
            let kind = format!("asks pool {pool}");
            self.report(Severity::Error, &kind, || {
                format!("{question} is asked in pool `{pool}`, which the layout does not have")
            });
        }
    }
}
