//! Broker's order of values, on their encoded form.

use std::cmp::Ordering;

use crate::cursor::array;
use crate::data_ref::{DataRef, ValueRef};
use crate::kind::Kind;
use crate::{Limits, real};

/// Compares two encoded values, each exactly one: by tag, then by value. Agrees with the order of
/// [`Data`](crate::Data).
#[inline]
pub(crate) fn compare_encoded(left: &[u8], right: &[u8]) -> Ordering {
    compare(left, right, Limits::MAX_DEPTH)
}

fn compare(left: &[u8], right: &[u8], depth: u32) -> Ordering {
    let (Some((left_tag, left_body)), Some((right_tag, right_body))) =
        (left.split_first(), right.split_first())
    else {
        return left.len().cmp(&right.len());
    };
    if left_tag != right_tag {
        return left_tag.cmp(right_tag);
    }
    let Some(kind) = Kind::from_tag(*left_tag) else {
        return left.cmp(right);
    };
    match kind {
        Kind::Count | Kind::Address | Kind::Subnet | Kind::Port => left_body.cmp(right_body),
        Kind::String | Kind::Enum => string(left_body).cmp(string(right_body)),
        Kind::None => Ordering::Equal,
        Kind::Boolean => (array(left_body, 0) != [0]).cmp(&(array(right_body, 0) != [0])),
        Kind::Integer | Kind::Timestamp | Kind::Timespan => {
            i64::from_be_bytes(array(left_body, 0)).cmp(&i64::from_be_bytes(array(right_body, 0)))
        }
        Kind::Real => real::compare(
            real::from_wire(u64::from_be_bytes(array(left_body, 0))),
            real::from_wire(u64::from_be_bytes(array(right_body, 0))),
        ),
        Kind::Vector => compare_vectors(left, right, depth),
        // The wire may hold these in any order, so they have to be sorted first.
        Kind::Set | Kind::Table if left == right => Ordering::Equal,
        Kind::Set | Kind::Table => {
            let value = |bytes| DataRef::from_validated(bytes).to_data();
            value(left).cmp(&value(right))
        }
    }
}

/// Content of an encoded string after its tag.
#[inline]
fn string(body: &[u8]) -> &[u8] {
    let mut pos = 0;
    match crate::cursor::read_length(body, &mut pos) {
        Ok(_) => &body[pos..],
        Err(_) => &[],
    }
}

fn compare_vectors(left: &[u8], right: &[u8], depth: u32) -> Ordering {
    // Only bytes that were never validated are nested deeper.
    let Some(depth) = depth.checked_sub(1) else {
        return left.cmp(right);
    };
    let (ValueRef::Vector(left), ValueRef::Vector(right)) = (
        DataRef::from_validated(left).get(),
        DataRef::from_validated(right).get(),
    ) else {
        return left.cmp(right);
    };
    for (left, right) in left.iter().zip(right.iter()) {
        let order = compare(left.bytes(), right.bytes(), depth);
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}
