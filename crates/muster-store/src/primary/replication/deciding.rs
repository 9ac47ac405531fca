//! What becomes of commands, before all copies have it.

use super::{Primary, Role, known_or_repeated};
use crate::op::{Answer, Edit, Op, StoreEvent, WriteRefusal, Writer};
use crate::primary::EXPIRED_AT_ONCE;
use crate::protocol::{LogEntry, Results, StoreMessage, WriteBatch};
use crate::state::Decision;
use crate::{Level, Now};
use muster_wire::EndpointId;

impl Primary {
    /// The number of the last command of a writer, decided or made.
    fn last_decided(&self, writer: Writer) -> Option<u64> {
        let replication = self.replication.as_ref()?;
        let pending = replication.pending.last_of(writer);
        pending.or_else(|| self.state.last_of(writer))
    }

    /// Commands of a writer are decided, the last one with this number.
    fn note_decided(&mut self, writer: Writer, last: Option<u64>) {
        if let (Some(replication), Some(last)) = (&mut self.replication, last) {
            replication.pending.note(writer, last);
        }
    }

    /// Takes commands of a writer. Those that were answered are answered again at once; all others when all copies have them.
    pub(super) fn decide_write(&mut self, from: EndpointId, write: WriteBatch, now: Now) {
        let writer = Writer {
            endpoint: from,
            instance: write.instance,
        };
        self.sessions.of(writer, now.mono);
        let made = self.state.last_of(writer).unwrap_or(0);
        let decided = self.last_decided(writer).map_or(0, |last| last + 1);
        // A writer that does not wait for what is below has given it up.
        let next = decided.max(write.first_open).max(1);
        let mut answers = Vec::new();
        let mut last = None;
        if write.number <= next {
            for (number, (op, level)) in (write.number..).zip(write.ops) {
                if number <= made {
                    answers.push(known_or_repeated(self.sessions.answer(writer, number)));
                } else if number >= next {
                    let is_full = self.replication.as_ref().is_none_or(|it| it.log.is_full());
                    if is_full {
                        break; // it is sent again
                    }
                    self.decide(Some((writer, number)), op, level, now);
                    last = Some(number);
                }
            }
        }
        self.note_decided(writer, last);
        if self.holds_for(writer) {
            return; // the answers are on their way
        }
        let is_persistent = self.commit_queue.is_some();
        let last = self.replication.as_ref().map_or(0, |it| it.log.last());
        let durable = self.replication.as_ref().map_or(0, |it| it.durable);
        let session = self.sessions.of(writer, now.mono);
        session.forget_below(write.first_open);
        let asks = write.number > made || !answers.is_empty();
        if is_persistent && made > 0 {
            // What was made before is on all disks with what is decided now, if not earlier.
            session.mark((durable < last).then_some(last), made);
        }
        let (durable, failed) = session.kept();
        if !answers.is_empty() || (is_persistent && asks) {
            let results = Results {
                instance: write.instance,
                timeline: self.timeline,
                epoch: self.epoch,
                next: made + 1,
                durable,
                failed,
                number: if answers.is_empty() { 0 } else { write.number },
                answers,
            };
            self.send(from, &StoreMessage::Results(results));
        }
    }

    /// Takes a command of a writer of Broker's protocol. Its answer is what becomes of it if this stays the primary.
    pub(in crate::primary) fn decide_foreign(
        &mut self,
        writer: Writer,
        op: Op,
        now: Now,
    ) -> Answer {
        let number = self.last_decided(writer).unwrap_or(0) + 1;
        let answer = self.decide(Some((writer, number)), op, Level::Applied, now);
        self.note_decided(writer, Some(number));
        self.advance(now);
        answer
    }

    /// Ends what has a TTL that is over.
    pub(super) fn expire_copied(&mut self, now: Now) {
        let Some(replication) = &self.replication else {
            return;
        };
        let pending = &replication.pending;
        let expired = self.state.all_expired(self.store_time(now).wall);
        let expired = expired.filter(|key| !pending.changes_key(key));
        let expired: Vec<_> = expired.take(EXPIRED_AT_ONCE).cloned().collect();
        for key in expired {
            self.decide(None, Op::Expire { key }, Level::Applied, now);
        }
    }

    /// Decides a command, as the next in the order of all.
    fn decide(&mut self, by: Option<(Writer, u64)>, op: Op, level: Level, now: Now) -> Answer {
        let outcome = self.outcome(by.map(|(writer, _)| writer), op, level, now);
        if outcome == Err(Answer::Refused(WriteRefusal::OverBudget)) {
            self.over_budget(now.mono);
        }
        let Some(replication) = self.replication.as_mut() else {
            return Answer::Refused(WriteRefusal::Backend);
        };
        let (answer, event) = match outcome {
            Err(answer) if by.is_none() => return answer,
            Err(answer) => (answer, None),
            Ok((event, told)) => {
                let change = replication.log.changes() + 1;
                replication.pending.add(change, &event);
                let answer = Answer::Done {
                    change,
                    value: told,
                };
                (answer, Some(event))
            }
        };
        replication.log.push(LogEntry {
            by,
            answer: answer.clone(),
            edit: event.map(Edit::from),
        });
        answer
    }

    /// What a command does, with what its writer is told of it; or what it is answered when it does nothing.
    fn outcome(
        &self,
        writer: Option<Writer>,
        op: Op,
        level: Level,
        now: Now,
    ) -> Result<(StoreEvent, Option<crate::Encoded>), Answer> {
        let Some(replication) = &self.replication else {
            return Err(Answer::Refused(WriteRefusal::Backend));
        };
        let assignment = &replication.assignment;
        if let Some(writer) = writer {
            if assignment.in_sync.len() < assignment.min_copies {
                return Err(Answer::Refused(WriteRefusal::TooFewCopies));
            }
            if let Some(answer) = self.judge(writer, &op, level, Some(&replication.pending)) {
                return Err(answer);
            }
        }
        let pending = Some(&replication.pending);
        let decision = self.state.decide(pending, self.store_time(now).wall, op);
        let Decision {
            event, told, more, ..
        } = decision.map_err(crate::state::Stop::answer)?;
        if more > 0 && !self.state.has_budget(more + replication.pending.bytes()) {
            return Err(Answer::Refused(WriteRefusal::OverBudget));
        }
        Ok((event, told))
    }

    /// How far it has decided: the index of the last entry, 0 without copies, and the number of the last change.
    pub(crate) fn decided(&self) -> (u64, u64) {
        match &self.replication {
            None => (0, self.state.changes()),
            Some(replication) => (replication.log.last(), replication.log.changes()),
        }
    }

    /// The index up to which all copies have everything; 0 without copies.
    pub(crate) fn committed_index(&self) -> u64 {
        self.replication.as_ref().map_or(0, |it| it.log.committed())
    }

    /// Returns `true` if as much is on its way to other copies as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.replication.as_ref().is_some_and(|it| it.log.is_full())
    }

    /// Returns `true` if it is the primary of its copies.
    pub(super) fn leads(&self) -> bool {
        let replication = self.replication.as_ref();
        replication.is_some_and(|it| matches!(it.role, Role::Primary(_)))
    }
}
