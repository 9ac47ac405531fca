//! A machine with a disk, and the lives of the voter on it.

use std::collections::VecDeque;

use muster_wire::Mono;

use super::oracle::State;
use crate::{Batch, Consensus, Kept, VoterId};

/// A disk that loses what was not synced.
pub(super) struct Disk {
    /// What is on it.
    pub(super) kept: Kept,
    /// Written without a sync, or on its way, in order.
    pub(super) waiting: VecDeque<(u64, Batch)>,
    /// When the last of them will be written.
    pub(super) busy_until: Mono,
}

impl Disk {
    pub(super) fn new(kept: Kept) -> Self {
        Self {
            kept,
            waiting: VecDeque::new(),
            busy_until: Mono(0),
        }
    }

    /// Writes all batches up to a number.
    pub(super) fn write(&mut self, upto: u64) {
        while self
            .waiting
            .front()
            .is_some_and(|(number, _)| *number <= upto)
        {
            let Some((_, batch)) = self.waiting.pop_front() else {
                return;
            };
            self.kept.write(&batch);
        }
    }

    /// What is there for somebody who reads: what was written without a sync, too.
    pub(super) fn read(&self, said: u64) -> Kept {
        let mut kept = self.kept.clone();
        for (number, batch) in &self.waiting {
            if *number <= said {
                kept.write(batch);
            }
        }
        kept
    }
}

/// A machine.
pub(super) struct Node {
    pub(super) id: VoterId,
    pub(super) disk: Disk,
    pub(super) voter: Option<Consensus>,
    /// Counted from 1.
    pub(super) life: u64,
    pub(super) state: State,
    /// What the voter was told to be persisted last.
    pub(super) said: u64,
    /// Until when it is stopped.
    pub(super) frozen_until: Mono,
    /// When it is woken next.
    pub(super) wake_at: Mono,
    /// When it starts again, if it is down.
    pub(super) starts_at: Mono,
    /// Whether it should have a vote.
    pub(super) wanted: bool,
}
