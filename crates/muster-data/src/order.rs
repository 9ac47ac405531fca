//! Broker's order of values, on their encoded form.
//!
//! Both values are read side by side, and only as far as they are equal. That keeps comparing cheap
//! however deeply hostile values are nested; the exception are sets and tables that are not in order.

use std::cmp::Ordering;

use crate::cursor::{BODY_SIZE, read_length, skip};
use crate::data_ref::DataRef;
use crate::kind::Kind;
use crate::{Limits, body, real};

/// What is known about the sets and tables inside the values to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containers {
    /// All are in order, so they compare like vectors.
    InOrder,
    /// They may be in any order and have to be sorted first, which takes memory.
    AnyOrder,
}

/// Compares two encoded values, each exactly one: by tag, then by value. Agrees with the order of
/// [`Data`](crate::Data).
#[inline]
pub(crate) fn compare_encoded(left: &[u8], right: &[u8], containers: Containers) -> Ordering {
    compare(&mut { left }, &mut { right }, containers, Limits::MAX_DEPTH)
}

/// Compares the next two values and moves past them if they are equal.
fn compare(left: &mut &[u8], right: &mut &[u8], containers: Containers, depth: u32) -> Ordering {
    let (Some((left_tag, left_body)), Some((right_tag, right_body))) =
        (left.split_first(), right.split_first())
    else {
        return left.len().cmp(&right.len());
    };
    if left_tag != right_tag {
        return left_tag.cmp(right_tag);
    }
    let Some(kind) = Kind::from_tag(*left_tag) else {
        return (*left).cmp(*right);
    };
    match kind {
        Kind::String | Kind::Enum => {
            let (left_string, right_string);
            (left_string, *left) = split_string(left_body);
            (right_string, *right) = split_string(right_body);
            left_string.cmp(right_string)
        }
        Kind::Set | Kind::Table if containers == Containers::AnyOrder => {
            let (left_value, right_value);
            (left_value, *left) = left.split_at(skip(left, 0));
            (right_value, *right) = right.split_at(skip(right, 0));
            compare_any_order(left_value, right_value)
        }
        Kind::Set | Kind::Table | Kind::Vector => {
            // Only bytes that were never validated are nested deeper.
            let Some(depth) = depth.checked_sub(1) else {
                return (*left).cmp(*right);
            };
            let width = if kind == Kind::Table { 2 } else { 1 };
            (*left, *right) = (left_body, right_body);
            compare_sequences(left, right, width, containers, depth)
        }
        _ => {
            let size = usize::from(BODY_SIZE[usize::from(kind.tag())]);
            let (left_leaf, right_leaf);
            (left_leaf, *left) = left_body.split_at(size.min(left_body.len()));
            (right_leaf, *right) = right_body.split_at(size.min(right_body.len()));
            compare_leaves(kind, left_leaf, right_leaf)
        }
    }
}

/// Compares two bodies of a kind with a fixed size.
#[inline]
fn compare_leaves(kind: Kind, left: &[u8], right: &[u8]) -> Ordering {
    match kind {
        Kind::Boolean => body::boolean(left).cmp(&body::boolean(right)),
        Kind::Integer | Kind::Timestamp | Kind::Timespan => {
            body::integer(left).cmp(&body::integer(right))
        }
        Kind::Real => real::compare(body::real(left), body::real(right)),
        _ => left.cmp(right),
    }
}

/// Compares two containers after their tags, entry by entry in the order in which they come.
fn compare_sequences(
    left: &mut &[u8],
    right: &mut &[u8],
    width: u64,
    containers: Containers,
    depth: u32,
) -> Ordering {
    let length = |body: &mut &[u8]| {
        let mut pos = 0;
        let length = read_length(body, &mut pos).unwrap_or(0);
        *body = &body[pos..];
        u64::from(length)
    };
    let (left_length, right_length) = (length(left), length(right));
    for _ in 0..left_length.min(right_length) * width {
        // Only in bytes that were never validated, lengths are no bound on the effort.
        if left.is_empty() && right.is_empty() {
            break;
        }
        let order = compare(left, right, containers, depth);
        if order.is_ne() {
            return order;
        }
    }
    left_length.cmp(&right_length)
}

/// Compares two encoded sets or tables whose entries may be in any order.
#[cold]
fn compare_any_order(left: &[u8], right: &[u8]) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let value = |bytes| DataRef::from_validated(bytes).to_data();
    value(left).cmp(&value(right))
}

/// Content of an encoded string after its tag, and what follows it.
#[inline]
fn split_string(body: &[u8]) -> (&[u8], &[u8]) {
    let mut pos = 0;
    let length = read_length(body, &mut pos).map_or(0, |length| length as usize);
    let rest = &body[pos..];
    rest.split_at(length.min(rest.len()))
}
