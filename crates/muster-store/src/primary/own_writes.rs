//! The durable writes of a primary's own endpoint, which wait for the disk alone.

use std::collections::VecDeque;

use muster_wire::Mono;

use crate::op::Answer;
use crate::{Output, SettledWrite, Token, WriteFailure};

/// One that waits.
#[derive(Debug)]
struct OwnWrite {
    /// The generation of commits that it is on disk with.
    generation: u64,
    token: Token,
    answer: Answer,
    deadline: Option<Mono>,
}

/// Those that wait, in the order of their generations. The commit queue bounds them.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    waiting: VecDeque<OwnWrite>,
    /// No deadline of one that waits is before this.
    first_deadline: Option<Mono>,
}

impl OwnWrites {
    pub(super) fn add(
        &mut self,
        generation: u64,
        token: Token,
        answer: Answer,
        deadline: Option<Mono>,
    ) {
        self.first_deadline = self.first_deadline.into_iter().chain(deadline).min();
        self.waiting.push_back(OwnWrite {
            generation,
            token,
            answer,
            deadline,
        });
    }

    /// A generation and those before are on disk, or could not be put there.
    pub(super) fn committed(
        &mut self,
        generation: u64,
        is_durable: bool,
        out: &mut VecDeque<Output>,
    ) {
        while self
            .waiting
            .front()
            .is_some_and(|first| first.generation <= generation)
            && let Some(first) = self.waiting.pop_front()
        {
            let outcome = if is_durable {
                Ok(first.answer)
            } else {
                Err(WriteFailure::NotDurable)
            };
            settle(first.token, outcome, out);
        }
    }

    /// Settles those whose deadline has come: they are applied, and not known to be on disk.
    pub(super) fn expire(&mut self, now: Mono, out: &mut VecDeque<Output>) {
        if self.next_tick().is_none_or(|next| next > now) {
            return;
        }
        let mut first = None;
        self.waiting.retain(|write| {
            let is_over = write.deadline.is_some_and(|deadline| deadline <= now);
            if is_over {
                settle(write.token, Err(WriteFailure::NotDurable), out);
            }
            if !is_over {
                first = first.into_iter().chain(write.deadline).min();
            }
            !is_over
        });
        self.first_deadline = first;
    }

    /// When [`OwnWrites::expire`] has something to do at the earliest.
    pub(super) fn next_tick(&self) -> Option<Mono> {
        self.first_deadline.filter(|_| !self.waiting.is_empty())
    }

    pub(super) fn close(&mut self, out: &mut VecDeque<Output>) {
        for write in self.waiting.drain(..) {
            settle(write.token, Err(WriteFailure::Unknown), out);
        }
    }
}

fn settle(token: Token, outcome: Result<Answer, WriteFailure>, out: &mut VecDeque<Output>) {
    out.push_back(Output::Settled(SettledWrite { token, outcome }));
}
