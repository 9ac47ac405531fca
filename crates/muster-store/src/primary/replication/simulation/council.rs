//! What coordinators decide about the copies, by the rules of theirs that concern stores.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::{Assignment, CopyRequest};

/// How long a node is silent until it is out.
const SILENCE: Duration = Duration::from_millis(2800);

/// How long it takes until a crash is noticed.
const CRASH: Duration = Duration::from_millis(200);

#[derive(Debug)]
enum Happening {
    In(usize, EndpointId),
    Out(usize, EndpointId),
    Asked(EndpointId, u64, CopyRequest),
    Moves,
    Drops(u64),
}

#[derive(Debug)]
pub(crate) struct Council {
    copies: usize,
    is_persistent: bool,
    decided: Assignment,
    /// The endpoint of each node that is in.
    members: BTreeMap<usize, EndpointId>,
    /// The endpoint of each node that runs.
    running: BTreeMap<usize, EndpointId>,
    nodes: BTreeMap<EndpointId, usize>,
    agenda: BTreeMap<(Mono, u64), Happening>,
    serial: u64,
    joining_since: Mono,
    skipped: Option<usize>,
}

impl Council {
    pub(crate) fn new(copies: usize, is_persistent: bool) -> Self {
        Self {
            copies,
            is_persistent,
            decided: Assignment {
                epoch: 0,
                began: 0,
                primary: None,
                in_sync: Vec::new(),
                joining: None,
                min_copies: 1,
            },
            members: BTreeMap::new(),
            running: BTreeMap::new(),
            nodes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            serial: 0,
            joining_since: Mono(0),
            skipped: None,
        }
    }

    fn later(&mut self, at: Mono, happening: Happening) {
        self.serial += 1;
        self.agenda.insert((at, self.serial), happening);
    }

    pub(crate) fn comes(&mut self, node: usize, id: EndpointId, now: Mono) {
        self.running.insert(node, id);
        self.nodes.insert(id, node);
        self.later(
            now.after(Duration::from_millis(300)),
            Happening::In(node, id),
        );
    }

    pub(crate) fn goes(&mut self, node: usize, now: Mono) {
        if let Some(id) = self.running.remove(&node) {
            self.later(now.after(CRASH), Happening::Out(node, id));
        }
    }

    /// A node is not heard until a time.
    pub(crate) fn is_silent(&mut self, node: usize, now: Mono, until: Mono) {
        let Some(id) = self.running.get(&node).copied() else {
            return;
        };
        if until > now.after(SILENCE) {
            self.later(now.after(SILENCE), Happening::Out(node, id));
            let back = until.after(Duration::from_millis(500));
            self.later(back, Happening::In(node, id));
        }
    }

    pub(crate) fn asked(&mut self, at: Mono, from: EndpointId, epoch: u64, request: CopyRequest) {
        self.later(at, Happening::Asked(from, epoch, request));
    }

    /// Somebody wants the primary elsewhere.
    pub(crate) fn moves(&mut self, now: Mono) {
        self.later(now, Happening::Moves);
    }

    /// Somebody wants one of the copies elsewhere.
    pub(crate) fn drops(&mut self, now: Mono, which: u64) {
        self.later(now, Happening::Drops(which));
    }

    pub(crate) fn heals(&mut self, now: Mono) {
        let running: Vec<_> = self.running.iter().map(|(node, id)| (*node, *id)).collect();
        for (node, id) in running {
            self.later(now.after(Duration::from_secs(4)), Happening::In(node, id));
        }
    }

    pub(crate) fn assignment(&self) -> &Assignment {
        &self.decided
    }

    pub(crate) fn began(&self) -> u64 {
        self.decided.began
    }

    pub(crate) fn copies(&self) -> usize {
        self.copies
    }

    pub(crate) fn is_redundant(&self) -> bool {
        self.decided.in_sync.len() >= self.copies
    }

    pub(crate) fn lives(&self) -> Vec<EndpointId> {
        self.running.values().copied().collect()
    }

    fn is_in(&self, id: EndpointId) -> bool {
        self.members.values().any(|member| *member == id)
    }

    /// When something may be decided next.
    pub(crate) fn next(&self, now: Mono) -> Mono {
        let event = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let look = now.after(Duration::from_millis(500));
        event.map_or(look, |event| event.min(look))
    }

    /// Decides what is due. Returns the decision, if there is a new one.
    pub(crate) fn decide(&mut self, now: Mono) -> Option<Assignment> {
        let before = self.decided.clone();
        let epoch = before.epoch + 1;
        let mut decided = before.clone();
        while let Some(first) = self.agenda.first_entry()
            && first.key().0 <= now
        {
            match first.remove() {
                Happening::In(node, id) => {
                    if self.running.get(&node) == Some(&id) {
                        self.members.insert(node, id);
                    }
                }
                Happening::Out(node, id) => {
                    if self.members.get(&node) == Some(&id) {
                        self.members.remove(&node);
                    }
                }
                Happening::Moves => {
                    let others = decided.in_sync.iter().copied();
                    let other = others.rev().find(|id| Some(*id) != decided.primary);
                    decided.primary = other.filter(|id| self.is_in(*id)).or(decided.primary);
                }
                Happening::Drops(which) => {
                    let count = decided.in_sync.len().max(1) as u64;
                    let which = usize::try_from(which % count).unwrap();
                    let id = decided.in_sync.get(which).copied();
                    let others = decided.in_sync.iter().filter(|other| Some(**other) != id);
                    if others.copied().any(|other| self.is_in(other)) {
                        decided.in_sync.retain(|other| Some(*other) != id);
                        self.skipped = id.and_then(|id| self.nodes.get(&id).copied());
                    }
                }
                Happening::Asked(from, of, request) => {
                    if of != before.epoch || before.primary != Some(from) || decided != before {
                        continue;
                    }
                    match request {
                        CopyRequest::Joined(id) => {
                            if decided.joining == Some(id) {
                                decided.joining = None;
                                decided.in_sync.push(id);
                            }
                        }
                        CopyRequest::Stuck(id) => {
                            if id != from {
                                decided.in_sync.retain(|it| *it != id);
                                self.skipped = self.nodes.get(&id).copied();
                            }
                        }
                    }
                }
            }
        }
        self.settle(&mut decided, epoch);
        if decided.joining != before.joining {
            self.joining_since = now;
        } else if decided.joining.is_some()
            && now.since(self.joining_since) > Duration::from_secs(8)
        {
            self.skipped = decided.joining.and_then(|id| self.nodes.get(&id).copied());
            decided.joining = None;
            self.settle(&mut decided, epoch);
            self.joining_since = now;
        }
        if decided == before {
            return None;
        }
        decided.epoch = epoch;
        self.decided = decided;
        Some(self.decided.clone())
    }

    fn settle(&self, decided: &mut Assignment, epoch: u64) {
        let is_in = |id: &EndpointId| self.is_in(*id);
        if decided.in_sync.iter().any(is_in) {
            decided.in_sync.retain(is_in);
        }
        if decided
            .primary
            .is_none_or(|id| !decided.in_sync.contains(&id) || !self.is_in(id))
        {
            decided.primary = decided.in_sync.iter().copied().find(is_in);
        }
        if decided.primary.is_none() {
            // The processes of the last copies are gone: with a file, one of these nodes begins anew.
            let gone = |id: &EndpointId| {
                let node = self.nodes.get(id);
                node.is_none_or(|node| self.members.get(node).is_some_and(|it| it != id))
            };
            let returned = decided.in_sync.iter().all(gone);
            let first = if self.is_persistent {
                let of = |id: &EndpointId| self.nodes.get(id).and_then(|it| self.members.get(it));
                match decided.in_sync.as_slice() {
                    [] => self.members.values().next(),
                    all => all.iter().find_map(of),
                }
            } else {
                self.members.values().next()
            };
            if let Some(first) = first.filter(|_| returned) {
                decided.in_sync = vec![*first];
                decided.primary = Some(*first);
                decided.began = epoch;
                decided.joining = None;
            }
        }
        let joins = |id: &EndpointId| self.is_in(*id) && !decided.in_sync.contains(id);
        decided.joining = decided.joining.filter(joins);
        if decided.in_sync.len() >= self.copies || decided.primary.is_none() {
            decided.joining = None;
        } else if decided.joining.is_none() {
            let mut candidates: Vec<_> = self.members.iter().collect();
            candidates.sort_by_key(|(node, _)| Some(**node) == self.skipped);
            let mut candidates = candidates.into_iter().map(|(_, id)| *id);
            decided.joining = candidates.find(|id| joins(id));
        }
    }
}
