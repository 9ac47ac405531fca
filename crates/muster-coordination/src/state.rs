//! What coordinators agree on, and how an entry of their log changes it. No clock and no randomness: every voter computes the same.

mod settle;
mod stores;

use std::collections::BTreeMap;

use muster_cluster::coordination::{Membership, OutReason, View, ViewUpdate};
use muster_data::{Data, DecodeOwned, Limits, Record, encode_to_vec, from_data};
use muster_wire::EndpointId;

use crate::sabotage::Sabotage;
pub(crate) use settle::{better_copy, first_in, next_copy, surplus_copy};
use stores::Noted;
pub(crate) use stores::{
    JOINED, MOVE, Moved, OfStore, PASS, RESTART, Restarted, SHRINK, Wanted, can_take_one_more,
};

/// For how long a return counts: a node that comes back often is admitted later each time.
const RETURNS_WITHIN: u64 = 10 * 60 * 1000;

/// The returns that are remembered.
const RETURNS: usize = 16;

/// The most changes of one entry.
pub(crate) const MOST_CHANGES: usize = 128;

/// An entry of the coordinators' log.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(crate) struct Entry {
    /// The coordinators' time in milliseconds, as its leader had it.
    pub(crate) time: u64,
    /// The wall's time in seconds since 1970, to be shown to people and for nothing else.
    pub(crate) wall: u64,
    pub(crate) changes: Vec<Change>,
}

/// A change that a leader proposes. One that does not fit what is there when it is applied changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(crate) struct Change {
    /// What: one of the constants below.
    pub(crate) kind: u64,
    pub(crate) node: String,
    /// The session that it presupposes; 0 for none.
    pub(crate) session: u64,
    pub(crate) box_name: String,
    pub(crate) life: String,
    pub(crate) incarnation: u64,
    /// Why a node is out.
    pub(crate) reason: u64,
    /// What it is about, if that is a store.
    pub(crate) store: Option<OfStore>,
}

/// A node is in.
pub(crate) const ADMIT: u64 = 1;
/// A node is out.
pub(crate) const EXPEL: u64 = 2;
/// A node that is out and that no layout has any more is forgotten.
pub(crate) const FORGET: u64 = 3;

impl Change {
    pub(crate) fn admit(
        node: &str,
        box_name: &str,
        life: EndpointId,
        incarnation: u64,
        after: u64,
    ) -> Self {
        Self {
            kind: ADMIT,
            node: node.to_owned(),
            session: after,
            box_name: box_name.to_owned(),
            life: life.to_string(),
            incarnation,
            reason: 0,
            store: None,
        }
    }

    pub(crate) fn expel(node: &str, session: u64, reason: OutReason) -> Self {
        Self {
            reason: reason.number(),
            ..Self::of(EXPEL, node, session)
        }
    }

    pub(crate) fn forget(node: &str, session: u64) -> Self {
        Self::of(FORGET, node, session)
    }

    fn of(kind: u64, node: &str, session: u64) -> Self {
        Self {
            kind,
            node: node.to_owned(),
            session,
            box_name: String::new(),
            life: String::new(),
            incarnation: 0,
            reason: 0,
            store: None,
        }
    }
}

/// When and how often a node has come and gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// The coordinators' time of its last change.
    pub(crate) time: u64,
    /// The wall's time of its last change.
    pub(crate) wall: u64,
    /// When it was admitted again, not having left in order; of the last ten minutes.
    pub(crate) returns: Vec<u64>,
}

/// The state of the coordinators after an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    view: View,
    time: u64,
    past: BTreeMap<String, Past>,
}

/// What an entry has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Whether it has changed anything: then there is a new epoch.
    pub(crate) has_changed: bool,
    /// The stores whose former copies are worth nothing any more.
    pub(crate) restarted: Vec<Restarted>,
    /// The stores that go on with another primary, or wait.
    pub(crate) moved: Vec<Moved>,
}

/// As it is kept.
#[derive(Record)]
struct Kept {
    view: ViewUpdate,
    forgotten: u64,
    time: u64,
    past: Vec<KeptPast>,
}

#[derive(Record)]
struct KeptPast {
    node: String,
    time: u64,
    wall: u64,
    returns: Vec<u64>,
}

/// A state or an entry cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not what coordinators of this release agree on")]
pub(crate) struct Unreadable;

impl State {
    pub(crate) fn founded(cluster: [u8; 16], generation: u64) -> Self {
        Self {
            view: View::founded(cluster, generation),
            time: 0,
            past: BTreeMap::new(),
        }
    }

    /// The state with which other coordinators go on.
    pub(crate) fn refounded(&self, cluster: [u8; 16]) -> Self {
        Self {
            view: self.view.recovered(cluster),
            time: self.time,
            past: self.past.clone(),
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    pub(crate) fn past(&self, node: &str) -> Option<&Past> {
        self.past.get(node)
    }

    /// Applies an entry.
    pub(crate) fn apply(&mut self, index: u64, entry: &Entry, sabotage: Sabotage) -> Applied {
        self.time = self.time.max(entry.time);
        // Epochs grow, also where a new log has begun behind an old one.
        let epoch = index.max(self.view.epoch().saturating_add(1));
        let mut has_changed = false;
        let mut noted = Noted::default();
        for change in entry.changes.iter().take(MOST_CHANGES) {
            has_changed |= match change.store {
                None => self.change(epoch, entry.wall, change),
                Some(_) => self.change_store(epoch, change, &mut noted),
            };
        }
        // What follows from it for stores. A box that dies with several copies is looked at when all of them are out.
        has_changed |= self.settle_stores(epoch, sabotage, &mut noted);
        Applied {
            has_changed,
            moved: noted.moved(&self.view),
            restarted: noted.restarted,
        }
    }

    fn change(&mut self, epoch: u64, wall: u64, change: &Change) -> bool {
        let known = self.view.get(&change.node).cloned();
        let session = known.as_ref().map_or(0, |known| known.session);
        if session != change.session {
            return false;
        }
        let is_in = known.as_ref().is_some_and(|known| known.out.is_none());
        match (change.kind, known) {
            (ADMIT, known) if !is_in => {
                let Ok(life) = change.life.parse() else {
                    return false;
                };
                let membership = Membership {
                    box_name: change.box_name.clone(),
                    life,
                    incarnation: change.incarnation,
                    session: epoch,
                    changed: epoch,
                    out: None,
                };
                if !self.view.set(epoch, &change.node, membership) {
                    return false;
                }
                let was_lost = known
                    .and_then(|known| known.out)
                    .is_some_and(|reason| reason != OutReason::Left);
                let time = self.time;
                let past = self.past.entry(change.node.clone()).or_default();
                past.returns
                    .retain(|at| at.saturating_add(RETURNS_WITHIN) > time);
                if was_lost && past.returns.len() < RETURNS {
                    past.returns.push(time);
                }
                (past.time, past.wall) = (time, wall);
                true
            }
            (EXPEL, Some(known)) if is_in => {
                let membership = Membership {
                    changed: epoch,
                    out: Some(OutReason::of(change.reason)),
                    ..known
                };
                self.view.set(epoch, &change.node, membership);
                let past = self.past.entry(change.node.clone()).or_default();
                (past.time, past.wall) = (self.time, wall);
                true
            }
            (FORGET, Some(_)) if !is_in => {
                self.view.forget(epoch, &change.node);
                self.past.remove(&change.node);
                true
            }
            _ => false,
        }
    }

    /// When a node may be admitted that was lost: at once at first, later each time if it comes and goes.
    pub(crate) fn admissible_at(&self, node: &str) -> u64 {
        let Some(past) = self.past.get(node) else {
            return 0;
        };
        let returns = past.returns.iter();
        let recent = returns.filter(|at| at.saturating_add(RETURNS_WITHIN) > self.time);
        let often = recent.count().saturating_sub(2);
        if often == 0 {
            return 0;
        }
        let wait = 1000_u64 << often.min(6);
        past.time.saturating_add(wait.min(60_000))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let past = self.past.iter();
        encode_to_vec(&Kept {
            view: ViewUpdate::whole(&self.view),
            forgotten: self.view.forgotten(),
            time: self.time,
            past: past
                .map(|(node, past)| KeptPast {
                    node: node.clone(),
                    time: past.time,
                    wall: past.wall,
                    returns: past.returns.clone(),
                })
                .collect(),
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let kept: Kept = read(bytes)?;
        let mut view = View::default();
        view.update(&kept.view).map_err(|_| Unreadable)?;
        let view = view.with_forgotten(kept.forgotten);
        let past = kept.past.into_iter().map(|it| {
            let past = Past {
                time: it.time,
                wall: it.wall,
                returns: it.returns.into_iter().take(RETURNS).collect(),
            };
            (it.node, past)
        });
        Ok(Self {
            view,
            time: kept.time,
            past: past.collect(),
        })
    }
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_to_vec(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        read(bytes)
    }
}

fn read<T: DecodeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let data = Data::from_bytes(bytes, &Limits::default()).map_err(|_| Unreadable)?;
    from_data(&data).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests;
