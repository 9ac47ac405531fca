//! Writes that come before their store is open.

use std::collections::VecDeque;

use muster_wire::Mono;

use super::Output;
use crate::op::Op;
use crate::writes::{WAITING, WAITING_BYTES, WriteOutcome};
use crate::{Level, SettledWrite, Token, WriteFailure};

/// One that waits.
#[derive(Debug)]
pub(super) struct EarlyWrite {
    pub(super) op: Op,
    pub(super) level: Level,
    pub(super) token: Token,
    pub(super) deadline: Option<Mono>,
}

/// Those that wait, in order: as many as may wait for a primary, and no more.
#[derive(Debug, Default)]
pub(super) struct EarlyWrites {
    waiting: VecDeque<EarlyWrite>,
    bytes: usize,
    /// The earliest deadline of those that wait.
    first_deadline: Option<Mono>,
}

impl EarlyWrites {
    /// Takes one, or says at once what becomes of it.
    pub(super) fn add(
        &mut self,
        op: Op,
        level: Level,
        token: Token,
        deadline: Option<Mono>,
    ) -> Option<WriteOutcome> {
        let bytes = op.size();
        if self.waiting.len() >= WAITING || self.bytes + bytes > WAITING_BYTES {
            return Some(Err(WriteFailure::TooMany));
        }
        self.bytes += bytes;
        self.first_deadline = self.first_deadline.into_iter().chain(deadline).min();
        self.waiting.push_back(EarlyWrite {
            op,
            level,
            token,
            deadline,
        });
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All of them, for the store that is open now.
    pub(super) fn take(&mut self) -> VecDeque<EarlyWrite> {
        self.bytes = 0;
        self.first_deadline = None;
        std::mem::take(&mut self.waiting)
    }

    /// Settles those whose deadline has come.
    pub(super) fn expire(&mut self, now: Mono, out: &mut VecDeque<Output>) {
        if self.first_deadline.is_none_or(|first| first > now) {
            return;
        }
        let mut first = None;
        self.waiting.retain(|write| {
            let is_over = write.deadline.is_some_and(|deadline| deadline <= now);
            if is_over {
                self.bytes -= write.op.size();
                settle(write.token, WriteFailure::NoPrimary, out);
            } else {
                first = first.into_iter().chain(write.deadline).min();
            }
            !is_over
        });
        self.first_deadline = first;
    }

    /// Settles all of them: the store will not open.
    pub(super) fn settle(&mut self, failure: WriteFailure, out: &mut VecDeque<Output>) {
        for write in self.take() {
            settle(write.token, failure, out);
        }
    }

    /// When the first has to be settled.
    pub(super) fn next_tick(&self) -> Option<Mono> {
        self.first_deadline
    }
}

fn settle(token: Token, failure: WriteFailure, out: &mut VecDeque<Output>) {
    out.push_back(Output::Settled(SettledWrite {
        token,
        outcome: Err(failure),
    }));
}
