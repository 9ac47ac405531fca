//! What the observer of a run checks.

use std::time::Duration;

use super::{Lists, NODES, World, Wrong, lists, tokens};
use crate::op::Answer;
use crate::{Freshness, Level, WriteFailure};

/// How late a write may be settled: what it is held for, and what a process sleeps.
const LATE: Duration = Duration::from_millis(16_500);

impl World {
    /// What is read on a node is what its watchers were told, and goes forward as long as it is one history.
    pub(super) fn look_at_reads(&mut self, number: usize) {
        let Some(process) = &mut self.nodes[number].process else {
            return;
        };
        let Some(entries) = process.instance.entries() else {
            return;
        };
        let now = lists(entries);
        let timeline = process.instance.applied().timeline;
        let is_told = now == process.watched;
        let (of, before) = std::mem::replace(&mut process.read, (timeline, now.clone()));
        let goes_on = |(key, list): (&_, &_)| {
            let now = now.get(key).map(tokens).unwrap_or_default();
            now.starts_with(&tokens(list))
        };
        let goes_back = of == timeline && timeline > 0 && !before.iter().all(goes_on);
        if !is_told {
            self.fails(format!(
                "WATCH: node {number} reads something else than its watchers were told"
            ));
        }
        if goes_back {
            self.fails(format!(
                "READ: what node {number} reads of timeline {timeline} goes back"
            ));
        }
    }

    /// Whoever has done what is due waits for something.
    pub(super) fn check_rest(&mut self, number: usize) {
        let now = self.clocks();
        let process = self.nodes[number].process.as_ref();
        if process.is_some_and(|process| process.instance.next_tick(now) <= now.mono) {
            self.fails(format!("REST: node {number} is never done"));
        }
    }

    /// Nothing waits for longer than it may.
    pub(super) fn check_time(&self) -> Result<(), Wrong> {
        for (asked, token) in self.asked.iter().zip(0_u64..) {
            let is_open = asked.outcome.is_none() && !asked.is_orphan;
            if is_open && asked.deadline.after(LATE) < self.now {
                return Err(format!("ONCE: {token} is not settled"));
            }
        }
        let mut questions = self.questions.iter();
        let is_open = questions.any(|it| !it.is_over && it.deadline.after(LATE) < self.now);
        if is_open {
            return Err("ONCE: a question is not over".to_owned());
        }
        Ok(())
    }

    /// Everything is as it should be in the end.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let expected = self.check_equal()?;
        for (asked, token) in self.asked.iter().zip(0_u64..) {
            let list = expected.get(&asked.key).map(tokens).unwrap_or_default();
            let is_there = list.contains(&token);
            let is_excused = self.excused.contains(&token);
            let is_safe = asked.losses == self.losses
                || (asked.level == Level::Durable && self.is_persistent);
            match &asked.outcome {
                None if !asked.is_orphan => return Err(format!("END: {token} is not settled")),
                Some(Ok(Answer::Done { .. })) if is_safe && !is_there && !is_excused => {
                    return Err(format!("LOST: {token} was acknowledged, and is not there"));
                }
                Some(
                    Err(WriteFailure::NoPrimary | WriteFailure::TooMany) | Ok(Answer::Refused(_)),
                ) if is_there => {
                    return Err(format!(
                        "TWICE: {token} was not to be applied, and is there"
                    ));
                }
                Some(Ok(Answer::Repeated)) if self.losses == 0 => {
                    return Err(format!(
                        "TWICE: what became of {token} is not known any more"
                    ));
                }
                _ => {}
            }
        }
        for list in expected.values().map(tokens) {
            if !list.is_sorted_by(|one, other| one < other) {
                return Err(format!("TWICE: applied twice, or out of order: {list:?}"));
            }
        }
        Ok(())
    }

    /// All nodes have the same, and so do their watchers and the disks.
    fn check_equal(&self) -> Result<Lists, Wrong> {
        let assignment = self.council.assignment();
        if assignment.in_sync.len() < self.council.copies() {
            return Err(format!("END: not redundant: {assignment:?}"));
        }
        let process = |number: usize| self.nodes[number].process.as_ref();
        let primary = assignment.primary.and_then(|id| self.number_of(id));
        let primary = primary.and_then(process).ok_or("END: no primary")?;
        if !primary.instance.is_primary() {
            return Err("END: the primary does not serve".to_owned());
        }
        let expected = primary.instance.entries().map(lists).unwrap_or_default();
        for number in 0..NODES {
            let process = process(number).ok_or("END: a node is down")?;
            let entries = process.instance.entries().map(lists);
            if entries.as_ref() != Some(&expected) || process.watched != expected {
                return Err(format!("END: node {number} has something else"));
            }
            if process.instance.freshness(self.now) != Freshness::Fresh {
                return Err(format!("END: node {number} is not fresh"));
            }
            if self.is_persistent && assignment.in_sync.contains(&process.id) {
                let kept = self.nodes[number].disk.persisted().entries;
                let kept: Lists = kept.into_iter().map(|(k, e)| (k, e.value)).collect();
                if kept != expected {
                    return Err(format!("END: the disk of node {number} has something else"));
                }
            }
        }
        Ok(expected)
    }

    pub(super) fn written(&self) -> usize {
        let outcomes = self.asked.iter().map(|asked| &asked.outcome);
        let is_done = |outcome: &&_| matches!(outcome, Some(Ok(Answer::Done { .. })));
        outcomes.filter(is_done).count()
    }
}
