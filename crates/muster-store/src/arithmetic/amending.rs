//! Adding to encoded values and taking from them, without a value of each element.

use std::cmp::Ordering;
use std::ops::Range;

use muster_data::encode::{set_header, string, table_header, vector_header};
use muster_data::{DataRef, ValueRef};

use super::{add, subtract};
use crate::Encoded;
use crate::encoded::is_plain;
use crate::op::{Amendment, WriteRefusal};

/// What becomes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amended {
    /// The new value.
    pub value: Encoded,
    /// The element that was taken from a vector.
    pub taken: Option<Encoded>,
}

impl Amended {
    fn to(value: Encoded) -> Self {
        Self { value, taken: None }
    }
}

/// Adds to an encoded value or takes from it, as [`add`] and [`subtract`] do. A set, a table, a vector or a string in which
/// everything is in order is copied with the part in its place: no element of it is decoded.
///
/// # Errors
///
/// As [`add`] and [`subtract`].
pub fn amend(stored: &Encoded, amendment: &Amendment) -> Result<Amended, WriteRefusal> {
    if let Some(amended) = in_place(stored, amendment) {
        return amended;
    }
    match amendment {
        Amendment::Add(part) => {
            let sum = add(stored.to_data(), &part.to_data())?;
            Ok(Amended::to(Encoded::of(&sum)))
        }
        Amendment::Subtract(part) => {
            let (left, taken) = subtract(stored.to_data(), &part.to_data())?;
            Ok(Amended {
                value: Encoded::of(&left),
                taken: taken.map(|taken| Encoded::of(&taken)),
            })
        }
    }
}

/// The same; `None` if it has to be decoded.
fn in_place(stored: &Encoded, amendment: &Amendment) -> Option<Result<Amended, WriteRefusal>> {
    let part = amendment.part();
    if !is_plain(part.view()) {
        return None;
    }
    let value = match (stored.view().get(), amendment) {
        (ValueRef::String(before), Amendment::Add(part)) => {
            let added = part.view().as_bytes()?;
            let mut out = Vec::with_capacity(before.len() + added.len() + 6);
            string(&mut out, &[before, added].concat());
            Encoded::from_encoded(&out)
        }
        (ValueRef::Vector(elements), Amendment::Add(part)) => {
            let body = elements.encoded();
            let end = body.len()..body.len();
            splice(
                vector_header,
                elements.len() + 1,
                body,
                end,
                &[part.as_bytes()],
            )
        }
        (ValueRef::Vector(elements), Amendment::Subtract(_)) => {
            let last = elements.iter().last()?;
            let body = elements.encoded();
            let range = body.len() - last.encoded().len()..body.len();
            let value = splice(vector_header, elements.len() - 1, body, range, &[]);
            let taken = Some(Encoded::from_encoded(last.encoded()));
            return Some(Ok(Amended { value, taken }));
        }
        (ValueRef::Set(elements), amendment) => {
            let sized = elements
                .iter()
                .map(|element| (element, element.encoded().len()));
            let place = locate(sized, part.view())?;
            let body = elements.encoded();
            match (amendment, place.is_empty()) {
                (Amendment::Add(_), true) => {
                    let bytes = part.as_bytes();
                    splice(set_header, elements.len() + 1, body, place, &[bytes])
                }
                (Amendment::Subtract(_), false) => {
                    splice(set_header, elements.len() - 1, body, place, &[])
                }
                _ => stored.clone(),
            }
        }
        (ValueRef::Table(entries), amendment) => {
            let sized = entries
                .iter()
                .map(|(key, value)| (key, key.encoded().len() + value.encoded().len()));
            let body = entries.encoded();
            match amendment {
                Amendment::Add(part) => {
                    let pair = part.view().as_vector()?;
                    let mut pair = pair.iter();
                    let (Some(key), Some(value), None) = (pair.next(), pair.next(), pair.next())
                    else {
                        return None;
                    };
                    let place = locate(sized, key)?;
                    let length = entries.len() + usize::from(place.is_empty());
                    let entry = [key.encoded(), value.encoded()];
                    splice(table_header, length, body, place, &entry)
                }
                Amendment::Subtract(key) => {
                    let place = locate(sized, key.view())?;
                    if place.is_empty() {
                        stored.clone()
                    } else {
                        splice(table_header, entries.len() - 1, body, place, &[])
                    }
                }
            }
        }
        _ => return None,
    };
    Some(Ok(Amended::to(value)))
}

/// Where an entry is, in bytes, or would be: empty then. `None` if the entries, each with its size, are not in order.
fn locate<'a>(
    entries: impl Iterator<Item = (DataRef<'a>, usize)>,
    wanted: DataRef<'_>,
) -> Option<Range<usize>> {
    let mut at = 0;
    let mut place = None;
    let mut before: Option<DataRef<'_>> = None;
    for (key, size) in entries {
        if before.is_some_and(|before| before >= key) {
            return None;
        }
        if place.is_none() {
            place = match key.cmp(&wanted) {
                Ordering::Less => None,
                Ordering::Equal => Some(at..at + size),
                Ordering::Greater => Some(at..at),
            };
        }
        at += size;
        before = Some(key);
    }
    Some(place.unwrap_or(at..at))
}

/// A container with other bytes in the place of some.
fn splice(
    header: impl Fn(&mut Vec<u8>, usize),
    length: usize,
    body: &[u8],
    place: Range<usize>,
    parts: &[&[u8]],
) -> Encoded {
    let added: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added + 6);
    header(&mut out, length);
    out.extend_from_slice(&body[..place.start]);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&body[place.end..]);
    Encoded::from_encoded(&out)
}

#[cfg(test)]
mod tests {
    use muster_data::Data;
    use muster_test_support::Random;

    use super::*;

    /// Decoded, changed, encoded.
    fn decoded(stored: &Encoded, amendment: &Amendment) -> Result<Amended, WriteRefusal> {
        match amendment {
            Amendment::Add(part) => add(stored.to_data(), &part.to_data()).map(|sum| Amended {
                value: Encoded::of(&sum),
                taken: None,
            }),
            Amendment::Subtract(part) => {
                let (left, taken) = subtract(stored.to_data(), &part.to_data())?;
                Ok(Amended {
                    value: Encoded::of(&left),
                    taken: taken.map(|taken| Encoded::of(&taken)),
                })
            }
        }
    }

    fn some_value(random: &mut Random, depth: u64) -> Data {
        let number = random.number(4);
        match random.number(if depth == 0 { 4 } else { 7 }) {
            0 => Data::Count(number),
            1 => Data::string("x".repeat(usize::try_from(number).unwrap() * 90)),
            2 => Data::Boolean(number == 0),
            3 => Data::Real(if number == 0 { -0.0 } else { 1.5 }),
            4 => Data::Vector((0..number).map(|_| some_value(random, depth - 1)).collect()),
            5 => Data::Set((0..number).map(|_| some_value(random, depth - 1)).collect()),
            _ => {
                let pairs =
                    (0..number).map(|_| (Data::Count(random.number(5)), some_value(random, 0)));
                let pairs: Vec<_> = pairs.collect();
                Data::Table(pairs.into_iter().collect())
            }
        }
    }

    #[test]
    fn amending_an_encoded_value_is_amending_the_value() {
        let mut random = Random::new(7);
        for _ in 0..20_000 {
            let stored = Encoded::of(&some_value(&mut random, 2));
            let part = Encoded::of(&match random.number(3) {
                0 => Data::Vector([some_value(&mut random, 1), some_value(&mut random, 1)].into()),
                _ => some_value(&mut random, 1),
            });
            let amendment = match random.number(2) {
                0 => Amendment::Add(part),
                _ => Amendment::Subtract(part),
            };
            assert_eq!(
                amend(&stored, &amendment),
                decoded(&stored, &amendment),
                "{stored} {amendment:?}"
            );
        }
    }

    #[test]
    fn elements_that_are_not_in_order_are_put_in_order() {
        let out_of_order = [12, 2, 2, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        let set = Encoded::parse(&out_of_order).unwrap();
        let amended = amend(&set, &Amendment::Add(Encoded::of(&2u64))).unwrap();
        assert_eq!(amended.value, Encoded::of(&Data::set([1u64, 2, 3])));
    }

    #[test]
    fn lengths_that_take_more_bytes_are_written_anew() {
        let mut value = Encoded::of(&Data::Set((0..127u64).map(Data::Count).collect()));
        for element in 127..300u64 {
            let add = Amendment::Add(Encoded::of(&element));
            value = amend(&value, &add).unwrap().value;
        }
        let all = Encoded::of(&Data::Set((0..300u64).map(Data::Count).collect()));
        assert_eq!(value, all);
        for element in (0..300u64).rev() {
            let subtract = Amendment::Subtract(Encoded::of(&element));
            value = amend(&value, &subtract).unwrap().value;
        }
        assert_eq!(
            value,
            Encoded::of(&Data::Set(std::iter::empty::<Data>().collect()))
        );
    }
}
