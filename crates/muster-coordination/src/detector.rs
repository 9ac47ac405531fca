//! Who is to be admitted and who is out, as a leader sees it.
//!
//! Nothing here is agreed on: it is what one coordinator has heard. What it concludes becomes a proposal, and counts when most voters
//! have it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_cluster::coordination::{OutReason, Renew, SILENCE};
use muster_wire::{EndpointId, Mono};

use crate::sabotage::Sabotage;
use crate::state::{Change, MOST_CHANGES, State};

/// How long a node is out of the mesh's reach until it is out: what is only led around another way is back by then.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// How old a wish to be admitted may be.
const FRESH: Duration = Duration::from_millis(1500);

/// The lives of one node that are remembered.
const LIVES: usize = 4;

/// What is heard of nodes that are no members of the layout is forgotten after so long.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How long a node is out that the layout does not have until it is forgotten, in milliseconds.
const FORGET_AFTER: u64 = 60 * 60 * 1000;

/// The endpoints that are out of reach and remembered: more than a layout has nodes.
const MOST_LOST: usize = 2 * muster_cluster::MOST_NODES;

/// What a node has said last.
#[derive(Debug, Clone)]
struct Heard {
    life: EndpointId,
    at: Mono,
    renew: Renew,
    /// It has said that it stops.
    is_leaving: bool,
}

/// What a coordinator has heard of nodes.
#[derive(Debug)]
pub(crate) struct Detector {
    /// The nodes of the layout, with their boxes.
    layout: BTreeMap<String, String>,
    /// By node of the layout; of a name that many lives use, [`LIVES`] are remembered, among them the life that is in.
    heard: BTreeMap<(String, EndpointId), Heard>,
    /// Who is in the mesh's reach. The mesh bounds it.
    reached: BTreeSet<EndpointId>,
    /// Since when others are not: of the last minute, and at most [`MOST_LOST`].
    lost: BTreeMap<EndpointId, Mono>,
    /// From when on silence counts: no lease is older than a leader's term.
    since: Mono,
    sabotage: Sabotage,
}

impl Detector {
    pub(crate) fn new(layout: BTreeMap<String, String>, now: Mono) -> Self {
        Self {
            layout,
            heard: BTreeMap::new(),
            reached: BTreeSet::new(),
            lost: BTreeMap::new(),
            since: now,
            sabotage: Sabotage::Nothing,
        }
    }

    pub(crate) fn sabotage(&mut self, sabotage: Sabotage) {
        self.sabotage = sabotage;
    }

    /// Returns `true` if the layout has a node on a box.
    pub(crate) fn has(&self, node: &str, box_name: &str) -> bool {
        self.layout.get(node).is_some_and(|it| it == box_name)
    }

    /// A node of the layout has renewed. Of a name that many lives use, what was heard of the `member`, the life that is in, stays.
    pub(crate) fn renewed(
        &mut self,
        life: EndpointId,
        renew: Renew,
        member: Option<EndpointId>,
        now: Mono,
    ) {
        let heard = Heard {
            life,
            at: now,
            renew,
            is_leaving: false,
        };
        let node = heard.renew.node.clone();
        self.heard.insert((node.clone(), life), heard);
        let lives = || self.lives(&node);
        if lives().count() > LIVES {
            let others = lives().filter(|heard| Some(heard.life) != member);
            let oldest = others.min_by_key(|heard| heard.at).map(|it| it.life);
            if let Some(oldest) = oldest {
                self.heard.remove(&(node, oldest));
            }
        }
    }

    /// All lives of a node that were heard.
    fn lives(&self, node: &str) -> impl Iterator<Item = &Heard> {
        let lives = self.heard.range((node.to_owned(), EndpointId::NIL)..);
        lives
            .take_while(move |((of, _), _)| of == node)
            .map(|(_, heard)| heard)
    }

    /// A node has said that it stops.
    pub(crate) fn leaves(&mut self, life: EndpointId, node: &str) {
        if let Some(heard) = self.heard.get_mut(&(node.to_owned(), life)) {
            heard.is_leaving = true;
        }
    }

    /// An endpoint has come into the mesh's reach, or is out of it.
    pub(crate) fn reaches(&mut self, id: EndpointId, reached: bool, now: Mono) {
        if reached {
            self.reached.insert(id);
            self.lost.remove(&id);
        } else if self.reached.remove(&id) {
            if self.lost.len() >= MOST_LOST {
                let oldest = self.lost.iter().min_by_key(|(_, since)| **since);
                if let Some(oldest) = oldest.map(|(id, _)| *id) {
                    self.lost.remove(&oldest);
                }
            }
            self.lost.insert(id, now);
        }
    }

    /// This coordinator leads from now on, or goes on after it was stopped: whoever it has not heard may have been heard by others.
    pub(crate) fn counts_from(&mut self, now: Mono) {
        if self.sabotage != Sabotage::CountsOldSilence {
            self.since = now;
        }
    }

    /// When a node was heard last, in this or another life.
    pub(crate) fn heard_at(&self, node: &str, life: EndpointId) -> Option<Mono> {
        self.heard.get(&(node.to_owned(), life)).map(|it| it.at)
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn weight(&self) -> usize {
        self.heard.len() + self.reached.len() + self.lost.len()
    }

    fn silence(&self) -> Duration {
        match self.sabotage {
            Sabotage::IsImpatient => SILENCE / 2,
            _ => SILENCE,
        }
    }

    /// Since when a life is out of reach; `None` if it is in reach.
    fn lost_since(&self, life: EndpointId) -> Option<Mono> {
        match self.lost.get(&life) {
            Some(since) => Some(*since),
            // It was never in reach of this coordinator, as when the coordinator is new.
            None if !self.reached.contains(&life) => Some(self.since),
            None => None,
        }
    }

    /// What is to be proposed.
    pub(crate) fn decide(&mut self, state: &State, time: u64, now: Mono) -> Vec<Change> {
        let mut changes = self.out(state, now);
        let gone: BTreeSet<String> = changes.iter().map(|it| it.node.clone()).collect();
        self.admit(state, time, now, &gone, &mut changes);
        self.forget_strangers(state, time, &mut changes);
        changes.truncate(MOST_CHANGES);
        changes
    }

    fn out(&self, state: &State, now: Mono) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut boxes = BTreeSet::new();
        let members = || state.view().members().filter(|(_, it)| it.out.is_none());
        for (node, member) in members() {
            let heard = self.heard.get(&(node.to_owned(), member.life));
            let at = heard.map_or(self.since, |heard| heard.at.max(self.since));
            let is_leaving = heard.is_some_and(|heard| heard.is_leaving);
            let lost = self.lost_since(member.life);
            let is_lost = lost.is_some_and(|since| now.since(since) >= GRACE);
            let reason = if is_leaving {
                OutReason::Left
            } else if is_lost && self.has_successor(node, member.life, now) {
                OutReason::Superseded
            } else if is_lost && self.lost.contains_key(&member.life) {
                boxes.insert(member.box_name.clone());
                OutReason::Reset
            } else if now.since(at) > self.silence() {
                OutReason::Silent
            } else {
                continue;
            };
            changes.push(Change::expel(node, member.session, reason));
        }
        // A box dies as a whole: its roles are not to hop to a node that dies a moment later.
        for (node, member) in members() {
            let dies = boxes.contains(&member.box_name) && self.lost.contains_key(&member.life);
            if dies && !changes.iter().any(|it| it.node == node) {
                changes.push(Change::expel(node, member.session, OutReason::Reset));
            }
        }
        changes
    }

    /// Whether another, later life of a node wants to be in.
    fn has_successor(&self, node: &str, life: EndpointId, now: Mono) -> bool {
        self.candidate(node, now).is_some_and(|it| it.life != life)
    }

    /// The latest life of a node that wants to be in.
    fn candidate(&self, node: &str, now: Mono) -> Option<&Heard> {
        self.lives(node)
            .filter(|heard| !heard.is_leaving && now.since(heard.at) < FRESH)
            .filter(|heard| self.reached.contains(&heard.life))
            .max_by_key(|heard| (heard.renew.incarnation, heard.life))
    }

    fn admit(
        &self,
        state: &State,
        time: u64,
        now: Mono,
        gone: &BTreeSet<String>,
        changes: &mut Vec<Change>,
    ) {
        for (node, box_name) in &self.layout {
            let known = state.view().get(node);
            let is_in = known.is_some_and(|known| known.out.is_none());
            let may = !is_in && !gone.contains(node) && state.admissible_at(node) <= time;
            let Some(candidate) = may.then(|| self.candidate(node, now)).flatten() else {
                continue;
            };
            let session = known.map_or(0, |known| known.session);
            let incarnation = candidate.renew.incarnation;
            let change = Change::admit(node, box_name, candidate.life, incarnation, session);
            changes.push(change);
        }
    }

    fn forget_strangers(&self, state: &State, time: u64, changes: &mut Vec<Change>) {
        for (node, member) in state.view().members() {
            let is_stranger = !self.layout.contains_key(node) && member.out.is_some();
            let since = state.past(node).map_or(0, |past| past.time);
            if is_stranger && since.saturating_add(FORGET_AFTER) < time {
                changes.push(Change::forget(node, member.session));
            }
        }
    }

    /// Forgets what was heard long ago. It is called at times, whoever leads.
    pub(crate) fn forget_old(&mut self, now: Mono) {
        if self.sabotage == Sabotage::ForgetsNobody {
            return;
        }
        self.heard
            .retain(|_, heard| now.since(heard.at) < FORGOTTEN);
        self.lost.retain(|_, since| now.since(*since) < FORGOTTEN);
    }
}

#[cfg(test)]
mod tests;
