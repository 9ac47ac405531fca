//! Questions to the primary, until they are answered.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster_wire::Mono;

use super::Output;
use crate::protocol::Query;

/// How soon a question is asked again: it, or its answer, may have been lost.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The questions that may wait at one time.
const WAITING: usize = 65_536;

#[derive(Debug)]
struct Question {
    query: Query,
    deadline: Mono,
    ask_at: Mono,
}

/// Those that wait, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<u64, Question>);

impl Questions {
    /// Takes a question. Returns `false` if too many wait.
    pub(super) fn add(&mut self, request: u64, query: Query, deadline: Mono, now: Mono) -> bool {
        if self.0.len() >= WAITING {
            return false;
        }
        let question = Question {
            query,
            deadline,
            ask_at: now,
        };
        self.0.insert(request, question);
        true
    }

    /// Those that are to be asked now.
    pub(super) fn due(&mut self, now: Mono) -> Vec<(u64, Query)> {
        let mut due = Vec::new();
        for (request, question) in &mut self.0 {
            if question.ask_at <= now {
                question.ask_at = now.after(ASK_AGAIN);
                due.push((*request, question.query.clone()));
            }
        }
        due
    }

    #[cfg(test)]
    pub(super) fn never_again(&mut self) {
        for question in self.0.values_mut() {
            question.ask_at = Mono(u64::MAX);
        }
    }

    /// All of them, to be answered here.
    pub(super) fn take(&mut self) -> Vec<(u64, Query)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.map(|(request, question)| (request, question.query))
            .collect()
    }

    /// Forgets a question, which is answered. Returns `false` if nobody waits for that any more.
    pub(super) fn remove(&mut self, request: u64) -> bool {
        self.0.remove(&request).is_some()
    }

    /// Gives up those whose deadline has come.
    pub(super) fn expire(&mut self, now: Mono, out: &mut VecDeque<Output>) {
        self.0.retain(|request, question| {
            let stays = question.deadline > now;
            if !stays {
                out.push_back(Output::NoReply { request: *request });
            }
            stays
        });
    }

    /// When one is to be given up or, where there is somebody to ask, asked again.
    pub(super) fn next_tick(&self, can_ask: bool) -> Option<Mono> {
        let all = self.0.values();
        all.map(|question| {
            let ask_at = if can_ask {
                question.ask_at
            } else {
                question.deadline
            };
            ask_at.min(question.deadline)
        })
        .min()
    }
}
