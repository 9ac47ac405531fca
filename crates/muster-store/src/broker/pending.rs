//! A node's writes on their way to a master of Broker, which answers none of them but conditional puts: what
//! became of the others is seen by their echoes.

use std::collections::VecDeque;
use std::time::Duration;

use muster_data::Kind;
use muster_wire::Mono;

use super::codec::{Content, Entity};
use crate::arithmetic;
use crate::op::{Answer, Op, WriteRefusal};
use crate::writes::{Unsent, WAITING, WAITING_BYTES, size};
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
        let bytes = size(&op);
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
        self.sent_bytes += size(&write.op);
        self.requests += 1;
        let request = self.requests;
        let content = content(write.op.clone(), me, request);
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
        let exact = |sent: &Sent| is_echo(&sent.write.op, event, before);
        let place = self
            .sent
            .iter()
            .position(|sent| sent.change.is_none() && exact(sent))
            .or_else(|| {
                let is_likely = |sent: &Sent| may_be_echo(&sent.write.op, event);
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
        if matches!(first.write.op, Op::PutUnique { .. }) {
            first.change = Some(change);
            return;
        }
        let value = told(&first.write.op, event, before);
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
            let change = match &first.write.op {
                Op::PutUnique { key, .. } => entries.get(key).map_or(0, |entry| entry.changed),
                _ => 0,
            };
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
            (Op::PutUnique { .. }, None) => Err(WriteFailure::Unknown),
            (op, None) => Ok(without_echo(op, entries)),
        };
        self.end_first(outcome);
    }

    fn end_first(&mut self, outcome: Result<Answer, WriteFailure>) {
        let Some(first) = self.sent.pop_front() else {
            return;
        };
        let bytes = size(&first.write.op);
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
                *bytes -= size(&write.op);
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
        self.bytes -= unsent.iter().map(|write| size(&write.op)).sum::<usize>();
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

/// A write as an event. None for what such a master cannot do, which is refused before.
fn content(op: Op, me: Entity, request: u64) -> Option<Content> {
    let publisher = me;
    Some(match op {
        Op::Put { key, value, ttl } => Content::Put {
            key,
            value,
            ttl,
            publisher,
        },
        Op::PutUnique { key, value, ttl } => Content::PutUnique {
            key,
            value,
            ttl,
            who: me,
            request,
            publisher,
        },
        Op::Erase { key } => Content::Erase { key, publisher },
        Op::Add {
            key,
            value,
            initial,
            ttl,
        } => Content::Add {
            key,
            value,
            initial,
            ttl,
            publisher,
        },
        Op::Subtract { key, value, ttl } => Content::Subtract {
            key,
            value,
            ttl,
            publisher,
        },
        Op::Clear => Content::Clear { publisher },
        Op::Swap { .. } | Op::Expire { .. } => return None,
    })
}

/// Whether an event is what comes of a write.
fn is_echo(op: &Op, event: &Content, before: Option<&Encoded>) -> bool {
    match (op, event) {
        (
            Op::Put { key, value, .. } | Op::PutUnique { key, value, .. },
            Content::Put {
                key: of,
                value: new,
                ..
            },
        ) => key == of && is_same(value, new),
        (Op::Add { key, .. } | Op::Subtract { key, .. }, Content::Put { key: of, value, .. }) => {
            key == of && result_of(op, before).is_some_and(|(made, _)| is_same(&made, value))
        }
        (Op::Erase { key }, Content::Erase { key: of, .. }) => key == of,
        (Op::Clear, Content::Clear { .. }) => true,
        _ => false,
    }
}

/// Whether it may be what comes of a write, if Broker does not reckon exactly as we do.
fn may_be_echo(op: &Op, event: &Content) -> bool {
    match (op, event) {
        (
            Op::Put { key, .. } | Op::Add { key, .. } | Op::Subtract { key, .. },
            Content::Put { key: of, .. },
        ) => key == of,
        _ => false,
    }
}

/// Sets and tables of equal values may be written in another order.
fn is_same(one: &Encoded, other: &Encoded) -> bool {
    let may_differ = matches!(one.kind(), Kind::Set | Kind::Table | Kind::Vector);
    one == other || (may_differ && one.size() == other.size() && one.to_data() == other.to_data())
}

/// What an addition or subtraction makes of a value, and what it takes from it.
fn result_of(op: &Op, before: Option<&Encoded>) -> Option<(Encoded, Option<Encoded>)> {
    match op {
        Op::Add { value, initial, .. } => {
            let before = match before {
                Some(before) => before.to_data(),
                None => arithmetic::initial(*initial)?,
            };
            let sum = arithmetic::add(before, &value.to_data()).ok()?;
            Some((Encoded::of(&sum), None))
        }
        Op::Subtract { value, .. } => {
            let before = before?.to_data();
            let (rest, taken) = arithmetic::subtract(before, &value.to_data()).ok()?;
            Some((Encoded::of(&rest), taken.map(|taken| Encoded::of(&taken))))
        }
        _ => None,
    }
}

/// What the author of a write is told with its echo: the element that was taken, or the new number.
fn told(op: &Op, event: &Content, before: Option<&Encoded>) -> Option<Encoded> {
    let Content::Put { value, .. } = event else {
        return None;
    };
    if let Some((_, Some(taken))) = result_of(op, before) {
        return Some(taken);
    }
    let is_number = matches!(
        value.kind(),
        Kind::Count | Kind::Integer | Kind::Real | Kind::Timestamp | Kind::Timespan
    );
    let is_sum = matches!(op, Op::Add { .. } | Op::Subtract { .. });
    (is_number && is_sum).then(|| value.clone())
}

/// What became of a write that a master has and that has no echo.
fn without_echo(op: &Op, entries: &Entries) -> Answer {
    let refusal = match op {
        Op::Put { .. } => WriteRefusal::Backend,
        Op::Subtract { key, .. } if entries.get(key).is_none() => WriteRefusal::NoSuchKey,
        Op::Add { .. } | Op::Subtract { .. } => WriteRefusal::TypeClash,
        Op::Erase { key } => {
            let change = entries.get(key).map_or(0, |entry| entry.changed);
            return Answer::Unchanged { change };
        }
        _ => return Answer::Unchanged { change: 0 },
    };
    Answer::Refused(refusal)
}
