//! What a primary sends to writers and clones of other endpoints.

use muster_wire::{EndpointId, Mono};

use super::{CHUNK, KEEPS_ORDER, Primary};
#[cfg(test)]
use crate::instance::Sabotage;
use crate::op::{Answer, Writer};
use crate::protocol::{Changes, Chunk, Results, StoreMessage, WriteBatch};
use crate::{Encoded, Now};

impl Primary {
    pub(super) fn write_of(&mut self, from: EndpointId, write: WriteBatch, now: Now) {
        let writer = Writer {
            endpoint: from,
            instance: write.instance,
        };
        // Makes room first: what is noted below must not go beyond the bound.
        self.sessions.of(writer, now.mono);
        let applied = self.state.last_of(writer).map_or(0, |last| last + 1);
        // A writer that does not wait for what is below has given it up.
        let next = applied.max(write.first_open).max(1);
        let mut results = Results {
            instance: write.instance,
            timeline: self.timeline,
            epoch: self.epoch,
            next,
            durable: 0,
            failed: 0,
            number: write.number,
            answers: Vec::with_capacity(write.ops.len()),
        };
        if write.number <= next {
            for (number, (op, level)) in (write.number..).zip(write.ops) {
                let answer = if number < next {
                    let known = self.sessions.answer(writer, number);
                    known.unwrap_or(Answer::Repeated)
                } else {
                    results.next = number.saturating_add(1);
                    self.apply(writer, number, op, level, now)
                };
                results.answers.push(answer);
            }
        }
        let generation = self.generation();
        let session = self.sessions.of(writer, now.mono);
        let known = usize::try_from(next.saturating_sub(write.number)).unwrap_or(usize::MAX);
        let new = results.answers.get(known..).unwrap_or_default();
        session.note(next, new.iter().cloned());
        session.forget_below(write.first_open);
        if self.commit_queue.is_some() {
            // What was applied before this timeline of the primary was on disk when it began.
            #[cfg(test)]
            let generation =
                generation.filter(|_| self.sabotage != Sabotage::DurableAtOnceElsewhere);
            session.mark(generation, results.next - 1);
            (results.durable, results.failed) = session.kept();
        }
        // The writer's own clone should have the changes when the results come.
        self.tell(now.mono);
        self.send(from, &StoreMessage::Results(results));
    }

    /// The part of a snapshot behind a key. It takes its time from this call alone: nothing is kept for the
    /// clone, which asks for the next part when it has this one. What is kept for all is the order of keys.
    pub(super) fn chunk(&mut self, instance: u64, after: Option<Encoded>, now: Mono) -> Chunk {
        let part = self.state.part(after.as_ref(), CHUNK);
        self.order_until = Some(now.after(KEEPS_ORDER));
        Chunk {
            instance,
            timeline: self.timeline,
            epoch: self.epoch,
            as_of: self.state.changes(),
            after,
            entries: part.entries,
            is_last: part.is_last,
        }
    }

    pub(super) fn resend(&mut self, to: EndpointId, timeline: u64, from: u64) {
        let (last, epoch) = (self.state.changes(), self.epoch);
        let message = if timeline != self.timeline || from > last {
            StoreMessage::Alive {
                timeline: self.timeline,
                last,
                epoch,
            }
        } else {
            match self.backlog.from(from) {
                None => StoreMessage::Gone {
                    timeline: self.timeline,
                    epoch,
                },
                Some(changes) => StoreMessage::Changes(Changes {
                    timeline,
                    epoch,
                    changes,
                }),
            }
        };
        self.send(to, &message);
    }
}
