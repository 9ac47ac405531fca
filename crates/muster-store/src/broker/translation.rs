//! Muster's operations in Broker's protocol: how a write is said there, and by what one sees that it was done.

use muster_data::Kind;

use super::codec::{Content, Entity};
use crate::op::{Answer, Op, OpKind, OpParts, WriteRefusal};
use crate::{Encoded, Entries, MAX_KEY, MAX_VALUE, arithmetic};

/// How a kind of operation goes with Broker's protocol.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "a table: each kind has its line, each question its column"
)]
struct Manner {
    /// Why it cannot be asked of a master of Broker, if it cannot.
    refusal: Option<WriteRefusal>,
    /// Whether the master is sent a value to store.
    stores_value: bool,
    /// Whether the master answers with a result of its own, besides the echo.
    has_result: bool,
    /// Whether its author is told a new number.
    is_sum: bool,
    /// Whether its echo may be another than expected, as Broker does not reckon exactly as we do.
    may_differ: bool,
}

fn manner(kind: OpKind) -> Manner {
    let manner = Manner {
        refusal: None,
        stores_value: false,
        has_result: false,
        is_sum: false,
        may_differ: false,
    };
    match kind {
        OpKind::Put => Manner {
            stores_value: true,
            may_differ: true,
            ..manner
        },
        OpKind::PutUnique => Manner {
            stores_value: true,
            has_result: true,
            ..manner
        },
        OpKind::Add => Manner {
            stores_value: true,
            is_sum: true,
            may_differ: true,
            ..manner
        },
        OpKind::Subtract => Manner {
            is_sum: true,
            may_differ: true,
            ..manner
        },
        OpKind::Erase | OpKind::Clear => manner,
        OpKind::Swap => Manner {
            refusal: Some(WriteRefusal::Unsupported),
            ..manner
        },
        OpKind::Expire => Manner {
            refusal: Some(WriteRefusal::Reserved),
            ..manner
        },
    }
}

/// Why an operation cannot be asked of a master of Broker, if it cannot.
pub(super) fn refusal(op: &Op) -> Option<WriteRefusal> {
    let manner = manner(op.kind());
    let OpParts { key, value, .. } = op.parts();
    let is_too_large = key.is_some_and(|key| key.size() > MAX_KEY)
        || value.is_some_and(|value| value.size() > MAX_VALUE);
    let too_large = (manner.stores_value && is_too_large).then_some(WriteRefusal::TooLarge);
    manner.refusal.or(too_large)
}

/// Returns `true` if the master answers a write of this kind with a result of its own, besides the
/// echo.
pub(super) fn has_result(kind: OpKind) -> bool {
    manner(kind).has_result
}

/// A write as an event; `None` for what is refused before.
pub(super) fn event(op: Op, me: Entity, request: u64) -> Option<Content> {
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

/// Returns `true` if an event is what comes of a write.
pub(super) fn is_echo(op: &Op, event: &Content, before: Option<&Encoded>) -> bool {
    match op {
        Op::Put { key, value, .. } | Op::PutUnique { key, value, .. } => {
            put(event).is_some_and(|(of, new)| key == of && is_same(value, new))
        }
        Op::Add { key, .. } | Op::Subtract { key, .. } => put(event).is_some_and(|(of, new)| {
            key == of && result_of(op, before).is_some_and(|(made, _)| is_same(&made, new))
        }),
        Op::Erase { key } => matches!(event, Content::Erase { key: of, .. } if key == of),
        Op::Clear => matches!(event, Content::Clear { .. }),
        Op::Swap { .. } | Op::Expire { .. } => false,
    }
}

/// Returns `true` if it may be what comes of a write, if Broker does not reckon exactly as we do.
pub(super) fn may_be_echo(op: &Op, event: &Content) -> bool {
    let is_likely = put(event).is_some_and(|(of, _)| op.parts().key == Some(of));
    is_likely && manner(op.kind()).may_differ
}

/// What the author of a write is told with its echo: the element that was taken, or the new number.
pub(super) fn told(op: &Op, event: &Content, before: Option<&Encoded>) -> Option<Encoded> {
    let (_, value) = put(event)?;
    if let Some((_, Some(taken))) = result_of(op, before) {
        return Some(taken);
    }
    let is_number = matches!(
        value.kind(),
        Kind::Count | Kind::Integer | Kind::Real | Kind::Timestamp | Kind::Timespan
    );
    (is_number && manner(op.kind()).is_sum).then(|| value.clone())
}

/// What became of a write that a master has and that has no echo.
pub(super) fn without_echo(op: &Op, entries: &Entries) -> Answer {
    match op {
        Op::Put { .. } => Answer::Refused(WriteRefusal::Backend),
        Op::Subtract { key, .. } if entries.get(key).is_none() => {
            Answer::Refused(WriteRefusal::NoSuchKey)
        }
        Op::Add { .. } | Op::Subtract { .. } => Answer::Refused(WriteRefusal::TypeClash),
        Op::Erase { key } => {
            let change = entries.get(key).map_or(0, |entry| entry.changed);
            Answer::Unchanged { change }
        }
        Op::PutUnique { .. } | Op::Swap { .. } | Op::Expire { .. } | Op::Clear => {
            Answer::Unchanged { change: 0 }
        }
    }
}

fn put(event: &Content) -> Option<(&Encoded, &Encoded)> {
    match event {
        Content::Put { key, value, .. } => Some((key, value)),
        _ => None,
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
        Op::Put { .. }
        | Op::PutUnique { .. }
        | Op::Swap { .. }
        | Op::Erase { .. }
        | Op::Expire { .. }
        | Op::Clear => None,
    }
}
