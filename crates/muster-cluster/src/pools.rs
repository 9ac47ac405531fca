//! Pools: which nodes share a kind of work, and who of them has which key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::hrw::{Key, site_id, weight};
use crate::layout::{Layout, NodeName, PoolName, PoolSpec, Role};

/// All pools of a layout with the state of their members.
///
/// Members and their order are fixed by the layout, identical on every node and identical to
/// Zeek's; which of them are alive is what [`node_up`](Self::node_up) and
/// [`node_down`](Self::node_down) say.
#[derive(Debug, Clone)]
pub struct Pools {
    pools: Vec<Pool>,
    me: Option<NodeName>,
    /// The members of pools, and whether they are alive.
    alive: BTreeMap<NodeName, bool>,
}

#[derive(Debug, Clone)]
struct Pool {
    name: PoolName,
    view: PoolView,
    /// Which members this node sees.
    seen: Vec<bool>,
    round_robin: HashMap<String, usize>,
}

/// A member of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node's name.
    pub name: NodeName,
    /// The site id that HRW weighs: the hash of the name and of a number that makes it unique in the pool.
    pub site: u32,
}

/// An immutable snapshot of a pool's members. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PoolView {
    members: Arc<[Member]>,
    alive: Arc<[bool]>,
}

/// A member of a pool that came or went.
#[derive(Debug, Clone)]
pub struct PoolChange {
    /// The pool.
    pub pool: PoolName,
    /// The member.
    pub node: NodeName,
    /// Whether it came (or went).
    pub up: bool,
    /// The pool before the change.
    pub before: PoolView,
    /// The pool after the change.
    pub after: PoolView,
}

/// The members that a pool is assigned, in the order of assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) pool: PoolName,
    pub(crate) members: Vec<Member>,
}

impl Pools {
    /// Creates the pools of a layout, where only `me` is alive.
    ///
    /// Unlike in Zeek, a node counts itself in HRW from the start: otherwise the members of a pool
    /// would disagree with everybody else on who owns a key.
    pub fn new(layout: &Layout, me: Option<&NodeName>) -> Self {
        let pools = assign(layout).into_iter().map(|assigned| Pool {
            view: PoolView {
                alive: assigned
                    .members
                    .iter()
                    .map(|member| Some(&member.name) == me)
                    .collect(),
                members: assigned.members.into(),
            },
            seen: Vec::new(),
            name: assigned.pool,
            round_robin: HashMap::new(),
        });
        let pools: Vec<Pool> = pools.collect();
        let members = pools.iter().flat_map(|pool| pool.view.members.iter());
        let alive = members.map(|member| (member.name.clone(), Some(&member.name) == me));
        Self {
            alive: alive.collect(),
            pools,
            me: me.cloned(),
        }
    }

    /// A node is alive from now on. Returns what that changed, sorted by the pools' topics; nothing
    /// if it was alive or is in no pool.
    pub fn node_up(&mut self, node: &NodeName) -> Vec<PoolChange> {
        self.set(node, true)
    }

    /// A node is dead from now on. Returns what that changed; nothing if it was dead, is in no pool,
    /// or is the node itself.
    pub fn node_down(&mut self, node: &NodeName) -> Vec<PoolChange> {
        if self.me.as_ref() == Some(node) {
            return Vec::new();
        }
        self.set(node, false)
    }

    /// This node sees another one, or not: who is alive and is not seen has no turn.
    pub(crate) fn set_seen(&mut self, node: &NodeName, seen: bool) {
        for pool in &mut self.pools {
            let members = &pool.view.members;
            if let Some(index) = members.iter().position(|member| member.name == *node) {
                pool.seen.resize(members.len(), true);
                pool.seen[index] = seen;
            }
        }
    }

    /// All members of pools.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NodeName> {
        self.alive.keys()
    }

    /// Returns `true` if a member of pools is alive, `None` if the node is in no pool.
    pub(crate) fn is_alive(&self, node: &NodeName) -> Option<bool> {
        self.alive.get(node).copied()
    }

    /// Returns the living member that owns a key, possibly the node itself, or `None` if nobody is alive or the pool
    /// is unknown.
    pub fn owner(&self, pool: &PoolName, key: &Key) -> Option<&NodeName> {
        self.view(pool)?.owner(key)
    }

    /// Returns the next living member in turn, or `None` if nobody is alive or the pool is unknown.
    ///
    /// Each purpose has its own turn, like each key of Zeek's `Cluster::rr_topic`. Purposes are never forgotten: use
    /// fixed names, never names made from data.
    pub fn next(&mut self, pool: &PoolName, purpose: &str) -> Option<&NodeName> {
        let pool = self.pools.iter_mut().find(|known| known.name == *pool)?;
        let members = pool.view.members.len();
        if !pool.round_robin.contains_key(purpose) {
            pool.round_robin.insert(purpose.to_owned(), 0);
        }
        let turn = pool.round_robin.get_mut(purpose)?;
        let turns = (0..members).map(|step| (*turn + step) % members);
        let mut alive = turns.filter(|&index| pool.view.alive[index]);
        let first = alive.clone().next()?;
        // Whoever is not seen gets what nobody else can take.
        let seen = alive.find(|&index| pool.seen.get(index) != Some(&false));
        let found = seen.unwrap_or(first);
        *turn = (found + 1) % members;
        Some(&pool.view.members[found].name)
    }

    /// The members of a pool as they are now.
    pub fn view(&self, pool: &PoolName) -> Option<&PoolView> {
        self.pools
            .iter()
            .find(|known| known.name == *pool)
            .map(|pool| &pool.view)
    }

    /// All pools with their members, sorted by topic.
    pub fn iter(&self) -> impl Iterator<Item = (&PoolName, &PoolView)> {
        self.pools.iter().map(|pool| (&pool.name, &pool.view))
    }

    /// A node is alive, or dead, from now on, whoever it is. Returns what that changed.
    pub(crate) fn set(&mut self, node: &NodeName, up: bool) -> Vec<PoolChange> {
        let mut changes = Vec::new();
        if let Some(alive) = self.alive.get_mut(node) {
            *alive = up;
        }
        for pool in &mut self.pools {
            let Some(index) = pool
                .view
                .members
                .iter()
                .position(|member| member.name == *node)
            else {
                continue;
            };
            if pool.view.alive[index] == up {
                continue;
            }
            let before = pool.view.clone();
            let mut alive = before.alive.to_vec();
            alive[index] = up;
            pool.view.alive = alive.into();
            changes.push(PoolChange {
                pool: pool.name.clone(),
                node: node.clone(),
                up,
                before,
                after: pool.view.clone(),
            });
        }
        changes
    }
}

impl PoolView {
    /// The living member that owns a key: the highest weight wins, then the larger site id.
    /// Identical to Zeek's `HashHRW::get_site`.
    pub fn owner(&self, key: &Key) -> Option<&NodeName> {
        let digest = key.digest();
        self.living()
            .max_by_key(|member| (weight(digest, member.site), member.site))
            .map(|member| &member.name)
    }

    /// All members, dead or alive, in the order of assignment.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The living members, in the order of assignment.
    pub fn living(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .zip(&*self.alive)
            .filter(|(_, alive)| **alive)
            .map(|(member, _)| member)
    }

    /// Whether a node is a living member.
    pub fn is_alive(&self, node: &NodeName) -> bool {
        self.living().any(|member| member.name == *node)
    }
}

impl PoolChange {
    /// Who owned a key before the change.
    pub fn owner_before(&self, key: &Key) -> Option<&NodeName> {
        self.before.owner(key)
    }

    /// Who owns it after the change.
    pub fn owner_after(&self, key: &Key) -> Option<&NodeName> {
        self.after.owner(key)
    }
}

/// Fills the pools of a layout, sorted by topic, as Zeek does at its start: exclusive pools take
/// their share of the nodes of their type first, the others go round over what is left.
///
/// Beyond Zeek: there is a pool of managers, and without a proxy they stand in; a pool that nodes name in their `pools` takes only those, and the turn of the other
/// pools does not move; exclusive ones of that kind choose first.
pub(crate) fn assign(layout: &Layout) -> Vec<Assigned> {
    let mut eligible = HashMap::new();
    for role in Role::ALL {
        let mut names: Vec<_> = layout
            .with_role(role)
            .map(|node| node.name.clone())
            .collect();
        names.sort();
        if role != Role::Manager {
            let managers = layout.with_role(Role::Manager);
            let stand_in = managers.filter(|manager| layout.serves_as(manager, role));
            let mut stand_in: Vec<_> = stand_in.map(|manager| manager.name.clone()).collect();
            stand_in.sort();
            names.append(&mut stand_in);
        }
        eligible.insert(role, Turn { names, next: 0 });
    }
    let named = |pool: &PoolSpec, name: &NodeName| {
        layout
            .node(name)
            .is_some_and(|node| node.pools.contains(&pool.name))
    };
    let is_named = |pool: &PoolSpec| {
        layout
            .nodes()
            .iter()
            .any(|node| node.pools.contains(&pool.name))
    };

    let mut assigned: Vec<Option<Vec<NodeName>>> = vec![None; layout.pools().len()];
    let exclusive = |explicit: bool| {
        let wanted = move |pool: &PoolSpec| pool.exclusive && is_named(pool) == explicit;
        layout
            .pools()
            .iter()
            .enumerate()
            .filter(move |(_, pool)| wanted(pool))
    };
    for (index, pool) in exclusive(true).chain(exclusive(false)) {
        let turn = eligible.entry(pool.role).or_default();
        let fits = |name: &NodeName| !is_named(pool) || named(pool, name);
        let most = pool.max_nodes.unwrap_or(0) as usize;
        let taken: Vec<_> = turn
            .names
            .iter()
            .filter(|name| fits(name))
            .take(most)
            .cloned()
            .collect();
        turn.names.retain(|name| !taken.contains(name));
        assigned[index] = Some(taken);
    }
    for (index, pool) in layout
        .pools()
        .iter()
        .enumerate()
        .filter(|(_, pool)| !pool.exclusive)
    {
        let turn = eligible.entry(pool.role).or_default();
        let most = pool.max_nodes.map_or(usize::MAX, |most| most as usize);
        assigned[index] = Some(if is_named(pool) {
            turn.names
                .iter()
                .filter(|name| named(pool, name))
                .take(most)
                .cloned()
                .collect()
        } else {
            turn.take(most)
        });
    }
    layout
        .pools()
        .iter()
        .zip(assigned)
        .map(|(pool, names)| Assigned {
            pool: pool.name.clone(),
            members: members(names.unwrap_or_default()),
        })
        .collect()
}

/// The eligible nodes of one type, and whose turn it is.
#[derive(Default)]
struct Turn {
    names: Vec<NodeName>,
    next: usize,
}

impl Turn {
    fn take(&mut self, most: usize) -> Vec<NodeName> {
        let count = most.min(self.names.len());
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            taken.push(self.names[self.next].clone());
            self.next = (self.next + 1) % self.names.len();
        }
        taken
    }
}

/// Gives each member a site id that no earlier member of the pool has.
fn members(names: Vec<NodeName>) -> Vec<Member> {
    let mut taken = std::collections::HashSet::new();
    let mut members = Vec::with_capacity(names.len());
    for name in names {
        let site = (0..=u32::MAX)
            .map(|attempt| site_id(name.as_str(), attempt))
            .find(|site| taken.insert(*site));
        members.push(Member {
            site: site.unwrap_or(0),
            name,
        });
    }
    members
}
