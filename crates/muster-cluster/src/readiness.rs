//! Readiness: whether the nodes that a program needs are up, and see one another.
//!
//! No node reports its view unasked. A node that waits asks all nodes one question: "do you see these lives?", and
//! each answers with those that it does not see, mostly none. A question lists lives rather than names, so an answer
//! about the life before a restart is not taken for one about the present life. The question is asked when enough
//! nodes are up, and repeated while the answers do not suffice, so an answer that counts is at most [`LONGEST_REST`]
//! and a journey old. While nodes are missing, nobody is asked until shortly before the deadline: then the error can
//! say which of the others do not see one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use crate::layout::{Layout, NodeName, PoolName, Role};
use crate::links::is_link;
use crate::membership::Membership;
use crate::pools::Pools;

/// The least time between two questions that differ: when a cluster starts, nodes come up in bursts.
const HOLD_DOWN: Duration = Duration::from_millis(50);

/// The time until a question is repeated for the first time; it doubles.
const FIRST_REST: Duration = Duration::from_millis(100);

/// The longest time until a question is repeated.
pub(crate) const LONGEST_REST: Duration = Duration::from_secs(1);

/// How long before the deadline the question is put although too few nodes are up.
const LAST_QUESTION: Duration = Duration::from_secs(1);

/// The lives that a node says it does not see; one that misses more is taken to see nobody.
pub(crate) const MOST_MISSED: usize = 64;

/// Names of one kind in the text of an error.
const MOST_TOLD: usize = 10;

/// The nodes that have to be up and to see one another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quorum {
    /// Every node of the layout.
    All,
    /// Every node of these roles.
    Roles(Vec<Role>),
    /// At least this many nodes of a role.
    OfRole(Role, usize),
    /// At least this many members of a pool.
    OfPool(PoolName, usize),
}

/// Why a wait for readiness failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadyError {
    /// The layout has no such pool.
    #[error("the layout has no pool `{0}`")]
    UnknownPool(PoolName),
    /// The layout has fewer nodes of the kind than were asked for.
    #[error("{wanted} nodes are to be ready, but the layout has only {there} of that kind")]
    TooFew {
        /// The nodes asked for.
        wanted: usize,
        /// The nodes that the layout has.
        there: usize,
    },
    /// Too many waits run on this node already.
    #[error("too many waits for readiness already")]
    TooMany,
    /// The node is stopping, or has stopped.
    #[error("the node is stopping")]
    Stopped,
    /// The nodes were not mutually up in time.
    #[error("not ready in time: {0}")]
    NotReady(NotReady),
}

/// What was missing at the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotReady {
    /// The number of nodes that had to be mutually up.
    pub wanted: usize,
    /// The size of the largest group of nodes found that were.
    pub mutual: usize,
    /// The nodes in question that are not up.
    pub down: Vec<NodeName>,
    /// The nodes that are up and have not said whom they see: they may not see this node.
    pub silent: Vec<NodeName>,
    /// Pairs of nodes that are up, of which the first does not see the second.
    pub blind: Vec<(NodeName, NodeName)>,
}

/// One wait for a quorum.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// The nodes in question, this one perhaps among them.
    candidates: Vec<NodeName>,
    least: usize,
    deadline: Mono,
    /// The present question, and the lives that it names, sorted.
    question: u64,
    lives: Arc<[EndpointId]>,
    answers: BTreeMap<NodeName, Answer>,
    asked: Option<Mono>,
    next_question: Mono,
    rest: Duration,
}

/// Whom a node sees.
#[derive(Debug, Clone)]
struct Answer {
    /// The life that answered.
    id: EndpointId,
    /// The lives that it was asked for.
    lives: Arc<[EndpointId]>,
    missed: Vec<EndpointId>,
}

impl Answer {
    fn sees(&self, id: EndpointId) -> bool {
        self.missed.len() <= MOST_MISSED
            && self.lives.binary_search(&id).is_ok()
            && !self.missed.contains(&id)
    }
}

/// What follows from a look at the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The nodes are mutually up.
    Ready,
    /// The deadline has come.
    NotReady(NotReady),
    /// Ask all nodes which of these lives they do not see.
    Ask {
        /// The number of the question, which answers repeat.
        question: u64,
        /// The lives, sorted.
        lives: Arc<[EndpointId]>,
    },
    /// Nothing, before [`Readiness::next_deadline`].
    Wait,
}

impl Readiness {
    /// Begins a wait that ends at `deadline`.
    ///
    /// # Errors
    /// [`ReadyError::UnknownPool`] or [`ReadyError::TooFew`] if the layout can never have such a quorum.
    pub fn new(
        layout: &Layout,
        quorum: &Quorum,
        now: Mono,
        deadline: Mono,
    ) -> Result<Self, ReadyError> {
        let with = |is_meant: &dyn Fn(Role) -> bool| -> Vec<NodeName> {
            let nodes = layout.nodes().iter().filter(|node| is_meant(node.role));
            nodes.map(|node| node.name.clone()).collect()
        };
        let mut candidates = match quorum {
            Quorum::All => with(&|_| true),
            Quorum::Roles(roles) => with(&|role| roles.contains(&role)),
            Quorum::OfRole(role, _) => with(&|other| other == *role),
            Quorum::OfPool(pool, _) => {
                let pools = Pools::new(layout, None);
                let view = pools
                    .view(pool)
                    .ok_or_else(|| ReadyError::UnknownPool(pool.clone()))?;
                let members = view.members().iter();
                members.map(|member| member.name.clone()).collect()
            }
        };
        candidates.sort();
        candidates.dedup();
        let there = candidates.len();
        let least = match quorum {
            Quorum::All | Quorum::Roles(_) => there,
            Quorum::OfRole(_, least) | Quorum::OfPool(_, least) => *least,
        };
        if least > there {
            let wanted = least;
            return Err(ReadyError::TooFew { wanted, there });
        }
        Ok(Self {
            candidates,
            least,
            deadline,
            question: 0,
            lives: Arc::from([]),
            answers: BTreeMap::new(),
            asked: None,
            next_question: now,
            rest: FIRST_REST,
        })
    }

    /// Returns when to look again if nothing happens before.
    pub fn next_deadline(&self) -> Mono {
        self.next_question.min(self.deadline)
    }

    /// Looks at the cluster, after a change of its members, an answer, or at [`next_deadline`](Self::next_deadline).
    /// `number` is for a new question, if one is asked that differs from the last: it must be new on this node at each
    /// call.
    pub fn look(
        &mut self,
        layout: &Layout,
        membership: &Membership,
        now: Mono,
        number: impl FnOnce() -> u64,
    ) -> Look {
        let lives = self.lives_now(membership);
        let is_old = lives[..] != self.lives[..];
        let is_over = self.deadline <= now;
        let view = self.view(layout, membership, is_old, is_over);
        if view.mutual >= self.least {
            return Look::Ready;
        }
        if is_over {
            return Look::NotReady(view);
        }
        let last_question = Mono(self.deadline.0.saturating_sub(span(LAST_QUESTION)));
        if self.candidates.len() - view.down.len() < self.least && now < last_question {
            // What was answered would be old when it counts.
            self.answers.clear();
            self.lives = Arc::from([]);
            self.next_question = last_question;
            return Look::Wait;
        }
        if is_old {
            let held = self.asked.map_or(now, |asked| asked.after(HOLD_DOWN));
            self.next_question = self.next_question.min(held);
            if now < self.next_question {
                return Look::Wait;
            }
            self.question = number();
            self.lives = lives.into();
            self.rest = FIRST_REST;
        } else if now < self.next_question {
            return Look::Wait;
        }
        self.asked = Some(now);
        self.next_question = now.after(self.rest);
        self.rest = (self.rest * 2).min(LONGEST_REST);
        Look::Ask {
            question: self.question,
            lives: Arc::clone(&self.lives),
        }
    }

    /// The life `id` of a node says which lives of a question it does not see. Returns `true` if this wait can use the
    /// answer.
    pub fn answered(
        &mut self,
        name: &NodeName,
        id: EndpointId,
        question: u64,
        missed: &[EndpointId],
    ) -> bool {
        if question != self.question || self.candidates.binary_search(name).is_err() {
            return false;
        }
        let answer = Answer {
            id,
            lives: Arc::clone(&self.lives),
            missed: missed.iter().take(MOST_MISSED + 1).copied().collect(),
        };
        self.answers.insert(name.clone(), answer);
        true
    }

    /// The lives that are to be seen: those of the candidates, and our own.
    fn lives_now(&self, membership: &Membership) -> Vec<EndpointId> {
        let names = self.candidates.iter().chain([membership.me()]);
        let mut lives: Vec<_> = names.filter_map(|name| membership.id_of(name)).collect();
        lives.sort_unstable();
        lives.dedup();
        lives
    }

    /// Who lacks, and how many do not. `is_old` says that the question does not name the present lives.
    /// Pairs are looked at only where it matters: `in_full`, or if they could decide.
    fn view(
        &self,
        layout: &Layout,
        membership: &Membership,
        is_old: bool,
        in_full: bool,
    ) -> NotReady {
        let me = membership.me();
        let mut view = NotReady {
            wanted: self.least,
            mutual: 0,
            down: Vec::new(),
            silent: Vec::new(),
            blind: Vec::new(),
        };
        let mut up = Vec::new();
        let mut answers = Vec::new();
        for name in &self.candidates {
            let Some(life) = membership.get(name).and_then(|node| node.life.as_ref()) else {
                view.down.push(name.clone());
                continue;
            };
            let answer = self.answers.get(name).filter(|known| known.id == life.id);
            match answer {
                Some(answer) => answers.push((name, answer)),
                // A Zeek process cannot be asked: it counts from its hello.
                None if name == me || life.incarnation.is_none() => {}
                None => {
                    view.silent.push(name.clone());
                    continue;
                }
            }
            up.push((name, life));
        }
        if up.len() < self.least && !in_full {
            return view;
        }
        let own = membership.get(me).and_then(|node| node.life.as_ref());
        let mut blind: Vec<(&NodeName, &NodeName)> = Vec::new();
        for (name, answer) in answers {
            if !is_old && answer.missed.is_empty() && Arc::ptr_eq(&answer.lives, &self.lives) {
                continue;
            }
            let own = own.filter(|_| self.candidates.binary_search(me).is_err());
            let others = up.iter().copied().chain(own.map(|own| (me, own)));
            for (other, seen) in others.filter(|(other, _)| *other != name) {
                // Zeek's nodes are no members of the mesh: only who is linked with one sees it.
                let is_seen = answer.sees(seen.id)
                    || (seen.incarnation.is_none() && !is_link(layout, name, other));
                if !is_seen {
                    blind.push((name, other));
                }
            }
        }
        view.mutual = mutual(up.iter().map(|(name, _)| *name).collect(), &blind, me);
        let named = |(one, other): (&NodeName, &NodeName)| (one.clone(), other.clone());
        view.blind = blind.into_iter().map(named).collect();
        view
    }
}

fn span(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The size of a group whose members all see one another, and are seen by `me` and see it. The largest
/// one is hard to find; taking out whoever lacks most finds a large one, and the whole where nobody
/// lacks.
fn mutual(
    mut group: BTreeSet<&NodeName>,
    blind: &[(&NodeName, &NodeName)],
    me: &NodeName,
) -> usize {
    for (one, _) in blind.iter().filter(|(_, other)| *other == me) {
        group.remove(*one);
    }
    loop {
        let mut lacks: BTreeMap<&NodeName, usize> = BTreeMap::new();
        for (one, other) in blind {
            if group.contains(*one) && group.contains(*other) {
                *lacks.entry(*one).or_default() += 1;
                *lacks.entry(*other).or_default() += 1;
            }
        }
        let worst = lacks.into_iter().max_by_key(|(_, times)| *times);
        let Some((worst, _)) = worst else {
            return group.len();
        };
        group.remove(worst);
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} nodes are mutually up",
            self.mutual, self.wanted
        )?;
        let names = |names: &[NodeName]| list(names.iter().map(ToString::to_string));
        if !self.down.is_empty() {
            write!(f, "; not up: {}", names(&self.down))?;
        }
        if !self.silent.is_empty() {
            write!(f, "; up, but without an answer: {}", names(&self.silent))?;
        }
        if !self.blind.is_empty() {
            let pairs = self.blind.iter();
            let pairs = pairs.map(|(one, other)| format!("{one} does not see {other}"));
            write!(f, "; {}", list(pairs))?;
        }
        Ok(())
    }
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(MOST_TOLD);
    let told = items.take(MOST_TOLD).collect::<Vec<_>>().join(", ");
    if more > 0 {
        return format!("{told} and {more} more");
    }
    told
}
