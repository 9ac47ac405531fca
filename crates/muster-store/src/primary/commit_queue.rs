//! What a backend is to keep: many changes at once, one commit under way at a time.

use std::time::Duration;

use muster_wire::Mono;

use crate::Level;
use crate::backend::Commit;
use crate::op::{Change, Writer};

/// How long after a failure the backend is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The writes that may wait for the disk; beyond, writers are refused.
const WAITING: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct CommitQueue {
    timeline: u64,
    /// What the next commit takes.
    waiting: Commit,
    /// The generation of that.
    generation: u64,
    under_way: bool,
    /// When a backend that has failed is tried again.
    retry_at: Option<Mono>,
}

impl CommitQueue {
    pub(super) fn new(timeline: u64) -> Self {
        Self {
            timeline,
            waiting: Commit::default(),
            generation: 1,
            under_way: false,
            retry_at: None,
        }
    }

    pub(super) fn set_timeline(&mut self, timeline: u64) {
        self.timeline = timeline;
    }

    /// What was to be kept is replaced by everything that a store has.
    pub(super) fn replace(&mut self, everything: Commit) {
        self.waiting = everything;
    }

    /// The generation that everything applied so far is kept with; `None` if it is kept.
    pub(super) fn generation(&self) -> Option<u64> {
        if !self.waiting.writes.is_empty() {
            Some(self.generation)
        } else if self.under_way {
            Some(self.generation - 1)
        } else {
            None
        }
    }

    /// The changes that the next commit takes.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.writes.len()
    }

    /// Returns `true` if one more write of this level can be taken.
    pub(super) fn takes(&self, level: Level) -> bool {
        let is_failing = self.retry_at.is_some();
        self.waiting.writes.len() < WAITING && !(is_failing && level == Level::Durable)
    }

    pub(super) fn add(&mut self, change: &Change, writer: Option<(Writer, u64)>) {
        self.waiting.add(change);
        if let Some((writer, number)) = writer {
            self.waiting.note(writer, number);
        }
    }

    /// The next commit, if the backend is free and there is something to keep.
    pub(super) fn next(&mut self) -> Option<Commit> {
        if self.under_way || self.retry_at.is_some() || self.waiting.writes.is_empty() {
            return None;
        }
        self.under_way = true;
        self.generation += 1;
        let mut commit = std::mem::take(&mut self.waiting);
        commit.timeline = self.timeline;
        Some(commit)
    }

    /// The commit under way is kept, or has failed and comes back; its generation.
    pub(super) fn committed(&mut self, failed: Option<Commit>, now: Mono) -> Option<u64> {
        if !std::mem::take(&mut self.under_way) {
            return None;
        }
        if let Some(mut commit) = failed {
            commit.append(std::mem::take(&mut self.waiting));
            self.waiting = commit;
            self.retry_at = Some(now.after(RETRY));
        }
        Some(self.generation - 1)
    }

    pub(super) fn retry_at(&self) -> Option<Mono> {
        self.retry_at
    }

    pub(super) fn tick(&mut self, now: Mono) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
    }
}
