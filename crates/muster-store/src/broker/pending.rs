//! A node's writes on their way to a master of Broker, which answers none of them but conditional puts: what
//! became of the others is seen by their echoes.

use std::collections::VecDeque;
use std::time::Duration;

use muster_wire::Mono;

use super::codec::{Content, Entity};
use super::translation;
use crate::op::{Answer, Op};
use crate::writes::{Unsent, WAITING, WAITING_BYTES};
use crate::{Encoded, Entries, SettledWrite, Token, WriteFailure};

/// The writes that the master may be sent before their outcomes are known, and their bytes.
const WINDOW: usize = 4096;
const WINDOW_BYTES: usize = 16 << 20;

/// How long after the master has confirmed a write its echo may be on its way. Whatever the master says later,
/// it says behind the echo.
const ECHO: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct Sent {
    write: Unsent,
    number: u64,
    /// Of a conditional put: what its result repeats.
    request: u64,
    /// When the master has confirmed that it has it.
    acked: Option<Mono>,
    /// Of a conditional put: the change that it has made, whose result is still to come.
    change: Option<u64>,
    /// Its author has heard; it waits for its echo, not to be taken for another.
    is_settled: bool,
}

/// The writes of one clone, in order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    unsent: VecDeque<Unsent>,
    bytes: usize,
    requests: u64,
    settled: Vec<SettledWrite>,
}

impl Pending {
    /// Takes a write, which is settled until `deadline`.
    pub(super) fn submit(&mut self, op: Op, token: Token, deadline: Mono) {
        let bytes = op.size();
        let waiting = self.sent.len() + self.unsent.len();
        if waiting >= WAITING || self.bytes + bytes > WAITING_BYTES {
            self.settle(token, Err(WriteFailure::TooMany));
            return;
        }
        self.bytes += bytes;
        self.unsent.push_back(Unsent {
            op,
            token,
            deadline,
        });
    }

    /// The next write that is to be sent, as the event of this number.
    pub(super) fn send(&mut self, number: u64, me: Entity) -> Option<Content> {
        if self.sent.len() >= WINDOW || self.sent_bytes >= WINDOW_BYTES {
            return None;
        }
        let write = self.unsent.pop_front()?;
        self.sent_bytes += write.op.size();
        self.requests += 1;
        let request = self.requests;
        let content = translation::event(write.op.clone(), me, request);
        self.sent.push_back(Sent {
            write,
            number,
            request,
            acked: None,
            change: None,
            is_settled: false,
        });
        content
    }

    /// The master has all events up to this number.
    pub(super) fn acked(&mut self, number: u64, now: Mono) {
        let unacked = self.sent.iter_mut().rev();
        let unacked = unacked.skip_while(|sent| sent.number > number);
        for sent in unacked.take_while(|sent| sent.acked.is_none()) {
            sent.acked = Some(now);
        }
    }

    /// A change of this clone's own has come: which write it is the echo of. The writes before it have changed
    /// nothing. `before` is the key's value before the change, which is the master's before it, too.
    pub(super) fn echoed(
        &mut self,
        event: &Content,
        before: Option<&Encoded>,
        change: u64,
        entries: &Entries,
    ) {
        let exact = |sent: &Sent| translation::is_echo(&sent.write.op, event, before);
        let place = self
            .sent
            .iter()
            .position(|sent| sent.change.is_none() && exact(sent))
            .or_else(|| {
                let is_likely = |sent: &Sent| translation::may_be_echo(&sent.write.op, event);
                self.sent.iter().position(is_likely)
            });
        let Some(place) = place else {
            return; // of a former timeline, or already given up
        };
        for _ in 0..place {
            self.pass(entries);
        }
        let Some(first) = self.sent.front_mut() else {
            return;
        };
        if translation::has_result(first.write.op.kind()) {
            first.change = Some(change);
            return;
        }
        let value = translation::told(&first.write.op, event, before);
        self.end_first(Ok(Answer::Done { change, value }));
    }

    /// A result of a conditional put of this clone has come.
    pub(super) fn result(&mut self, request: u64, inserted: bool, last: u64, entries: &Entries) {
        let place = self.sent.iter().position(|sent| sent.request == request);
        let Some(place) = place else {
            return;
        };
        for _ in 0..place {
            self.pass(entries);
        }
        let Some(first) = self.sent.front() else {
            return;
        };
        let answer = if inserted {
            let change = first.change.unwrap_or(last);
            Answer::Done {
                change,
                value: None,
            }
        } else {
            let entry = first.write.op.parts().key.and_then(|key| entries.get(key));
            let change = entry.map_or(0, |entry| entry.changed);
            Answer::Unchanged { change }
        };
        self.end_first(Ok(answer));
    }

    /// All that the master has said so far has come: a write that it had confirmed well before has changed
    /// nothing, or its echo would be here.
    pub(super) fn caught_up(&mut self, now: Mono, entries: &Entries) {
        while let Some(first) = self.sent.front()
            && first.acked.is_some_and(|acked| now.since(acked) >= ECHO)
        {
            self.pass(entries);
        }
    }

    /// The first has changed nothing.
    fn pass(&mut self, entries: &Entries) {
        let Some(first) = self.sent.front() else {
            return;
        };
        let outcome = match (&first.write.op, first.change) {
            (_, Some(change)) => Ok(Answer::Done {
                change,
                value: None,
            }),
            (op, None) if translation::has_result(op.kind()) => Err(WriteFailure::Unknown),
            (op, None) => Ok(translation::without_echo(op, entries)),
        };
        self.end_first(outcome);
    }

    fn end_first(&mut self, outcome: Result<Answer, WriteFailure>) {
        let Some(first) = self.sent.pop_front() else {
            return;
        };
        let bytes = first.write.op.size();
        self.bytes -= bytes;
        self.sent_bytes -= bytes;
        if !first.is_settled {
            self.settle(first.write.token, outcome);
        }
    }

    /// A snapshot took the place of events, maybe of echoes: what the master had confirmed was applied, and
    /// what came of it is not known.
    pub(super) fn skipped(&mut self) {
        while self.sent.front().is_some_and(|first| first.acked.is_some()) {
            self.end_first(Ok(Answer::Repeated));
        }
    }

    /// The master that was sent writes is gone, or has forgotten this clone: what it had not confirmed was
    /// applied, or not. `is_same` says that it is still the same one, whose confirmations stand.
    pub(super) fn abandon(&mut self, is_same: bool) {
        if is_same {
            self.skipped();
        }
        while !self.sent.is_empty() {
            self.end_first(Err(WriteFailure::Unknown));
        }
    }

    /// Ends the time of writes whose deadline has come.
    pub(super) fn expire(&mut self, now: Mono) {
        let mut over = Vec::new();
        let bytes = &mut self.bytes;
        self.unsent.retain(|write| {
            let is_over = write.deadline <= now;
            if is_over {
                *bytes -= write.op.size();
                over.push((write.token, WriteFailure::NoPrimary));
            }
            !is_over
        });
        for sent in &mut self.sent {
            if sent.write.deadline <= now && !std::mem::replace(&mut sent.is_settled, true) {
                over.push((sent.write.token, WriteFailure::Unknown));
            }
        }
        for (token, failure) in over {
            self.settle(token, Err(failure));
        }
    }

    /// Settles all that waits: the store is closed.
    pub(super) fn close(&mut self) {
        for write in self.take_unsent() {
            self.settle(write.token, Err(WriteFailure::Closed));
        }
        self.abandon(false);
    }

    /// The writes that were not sent: for another master.
    pub(super) fn take_unsent(&mut self) -> VecDeque<Unsent> {
        let unsent = std::mem::take(&mut self.unsent);
        self.bytes -= unsent.iter().map(|write| write.op.size()).sum::<usize>();
        unsent
    }

    /// When [`Pending::expire`] has something to do: deadlines mostly grow, so the first is looked at.
    pub(super) fn next_tick(&self) -> Option<Mono> {
        let sent = self.sent.iter().find(|sent| !sent.is_settled);
        let sent = sent.map(|sent| sent.write.deadline);
        let unsent = self.unsent.front().map(|write| write.deadline);
        [sent, unsent].into_iter().flatten().min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.sent.iter().all(|sent| sent.is_settled)
    }

    /// The writes that wait for their end.
    pub(super) fn len(&self) -> usize {
        let sent = self.sent.iter().filter(|sent| !sent.is_settled);
        self.unsent.len() + sent.count()
    }

    /// What was settled since.
    pub(super) fn settled(&mut self) -> Vec<SettledWrite> {
        std::mem::take(&mut self.settled)
    }

    pub(super) fn settle(&mut self, token: Token, outcome: Result<Answer, WriteFailure>) {
        self.settled.push(SettledWrite { token, outcome });
    }
}
