//! What adding to a value and subtracting from it mean, as Broker's stores define it (protocol
//! section 7.7).

mod amending;

use muster_data::{Data, Kind, Set, Table, Timespan, Timestamp};

use crate::op::WriteRefusal;
pub use amending::{Amended, amend};

/// Returns the value that an absent key starts with, for an operation that makes a value of some
/// kind. Returns `None` for kinds that nothing can be added to.
pub fn initial(kind: Kind) -> Option<Data> {
    Some(match kind {
        Kind::Count => Data::Count(0),
        Kind::Integer => Data::Integer(0),
        Kind::Real => Data::Real(0.0),
        Kind::Timestamp => Data::Timestamp(Timestamp::EPOCH),
        Kind::Timespan => Data::Timespan(Timespan::from_nanos(0)),
        Kind::String => Data::string(""),
        Kind::Set => Data::Set(Set::new()),
        Kind::Table => Data::Table(Table::new()),
        Kind::Vector => Data::Vector(Box::default()),
        _ => return None,
    })
}

/// Adds to a value. Numbers are summed; counts and integers wrap on overflow. A timespan moves a
/// timestamp, a string is appended, a set gains an element, a table the entry `[key, value]`, and a
/// vector an element at its end.
///
/// # Errors
///
/// Fails with [`WriteRefusal::TypeClash`] if `value` cannot be added to a value of this kind, and
/// with [`WriteRefusal::InvalidData`] if a vector that is added to a table is not a pair.
pub fn add(stored: Data, value: &Data) -> Result<Data, WriteRefusal> {
    Ok(match (stored, value) {
        (Data::Count(stored), Data::Count(value)) => Data::Count(stored.wrapping_add(*value)),
        (Data::Integer(stored), Data::Integer(value)) => Data::Integer(stored.wrapping_add(*value)),
        (Data::Real(stored), Data::Real(value)) => Data::Real(stored + value),
        (Data::Timespan(stored), Data::Timespan(value)) => {
            let nanos = stored.as_nanos().wrapping_add(value.as_nanos());
            Data::Timespan(Timespan::from_nanos(nanos))
        }
        (Data::Timestamp(stored), Data::Timespan(value)) => {
            let nanos = stored.as_nanos().wrapping_add(value.as_nanos());
            Data::Timestamp(Timestamp::from_nanos(nanos))
        }
        (Data::String(stored), Data::String(value)) => {
            Data::String([&stored[..], value].concat().into())
        }
        (Data::Set(stored), value) => {
            let mut elements = stored.into_vec();
            if let Err(place) = elements.binary_search(value) {
                elements.insert(place, value.clone());
            }
            Data::Set(Set::from(elements))
        }
        (Data::Table(stored), value) => {
            let Data::Vector(pair) = value else {
                return Err(WriteRefusal::TypeClash);
            };
            let [key, value] = &pair[..] else {
                return Err(WriteRefusal::InvalidData);
            };
            let mut entries = stored.into_vec();
            match entries.binary_search_by(|(stored, _)| stored.cmp(key)) {
                Ok(place) => entries[place].1 = value.clone(),
                Err(place) => entries.insert(place, (key.clone(), value.clone())),
            }
            Data::Table(entries.into_iter().collect())
        }
        (Data::Vector(stored), value) => {
            let mut elements = stored.into_vec();
            elements.push(value.clone());
            Data::Vector(elements.into())
        }
        _ => return Err(WriteRefusal::TypeClash),
    })
}

/// Subtracts from a value. Returns what is left, and the removed element of a vector. Numbers are
/// subtracted; counts and integers wrap on overflow, as in Broker. A timespan moves a timestamp
/// back, a set loses an element, a table the entry of a key, and a vector its last element,
/// whatever `value` is.
///
/// # Errors
///
/// Fails with [`WriteRefusal::TypeClash`] if `value` cannot be subtracted from a value of this
/// kind.
pub fn subtract(stored: Data, value: &Data) -> Result<(Data, Option<Data>), WriteRefusal> {
    let left = match (stored, value) {
        (Data::Count(stored), Data::Count(value)) => Data::Count(stored.wrapping_sub(*value)),
        (Data::Integer(stored), Data::Integer(value)) => Data::Integer(stored.wrapping_sub(*value)),
        (Data::Real(stored), Data::Real(value)) => Data::Real(stored - value),
        (Data::Timespan(stored), Data::Timespan(value)) => {
            let nanos = stored.as_nanos().wrapping_sub(value.as_nanos());
            Data::Timespan(Timespan::from_nanos(nanos))
        }
        (Data::Timestamp(stored), Data::Timespan(value)) => {
            let nanos = stored.as_nanos().wrapping_sub(value.as_nanos());
            Data::Timestamp(Timestamp::from_nanos(nanos))
        }
        (Data::Set(stored), value) => {
            let mut elements = stored.into_vec();
            if let Ok(place) = elements.binary_search(value) {
                elements.remove(place);
            }
            Data::Set(Set::from(elements))
        }
        (Data::Table(stored), key) => {
            let mut entries = stored.into_vec();
            if let Ok(place) = entries.binary_search_by(|(stored, _)| stored.cmp(key)) {
                entries.remove(place);
            }
            Data::Table(entries.into_iter().collect())
        }
        (Data::Vector(stored), _) => {
            let mut elements = stored.into_vec();
            let taken = elements.pop();
            return Ok((Data::Vector(elements.into()), taken));
        }
        _ => return Err(WriteRefusal::TypeClash),
    };
    Ok((left, None))
}

/// Returns the part of a value that an index names: an element of a vector (by a count or an
/// integer from 0), the value of a table's key, or whether a set has an element. Of any other value
/// it is the value itself. Returns `None` if there is no such part.
pub fn part(value: &Data, index: &Data) -> Option<Data> {
    match value {
        Data::Vector(elements) => {
            let at = match index {
                Data::Count(at) => usize::try_from(*at).ok()?,
                Data::Integer(at) => usize::try_from(*at).ok()?,
                _ => return None,
            };
            elements.get(at).cloned()
        }
        Data::Table(entries) => entries.get(index).cloned(),
        Data::Set(elements) => Some(Data::Boolean(elements.contains(index))),
        other => Some(other.clone()),
    }
}

/// Returns the kind of value that an increment of an absent key makes: a timestamp if it is by a
/// timespan, otherwise the kind of what is added.
pub fn incremented_kind(amount: Kind) -> Kind {
    if amount == Kind::Timespan {
        Kind::Timestamp
    } else {
        amount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> Data {
        text.parse().unwrap()
    }

    #[test]
    fn adding_follows_the_kind_of_the_stored_value() {
        let cases = [
            ("1", "2", Ok("3")),
            ("\"a\"", "\"b\"", Ok("\"ab\"")),
            ("{1, 3}", "2", Ok("{1, 2, 3}")),
            ("{1}", "1", Ok("{1}")),
            ("{1 -> 2}", "[1, 3]", Ok("{1 -> 3}")),
            ("{1 -> 2}", "[0, 3]", Ok("{0 -> 3, 1 -> 2}")),
            ("{1 -> 2}", "[1]", Err(WriteRefusal::InvalidData)),
            ("{1 -> 2}", "1", Err(WriteRefusal::TypeClash)),
            ("[1]", "\"x\"", Ok("[1, \"x\"]")),
            ("1", "\"x\"", Err(WriteRefusal::TypeClash)),
            ("T", "T", Err(WriteRefusal::TypeClash)),
        ];
        for (stored, value, expected) in cases {
            let found = add(data(stored), &data(value));
            assert_eq!(found, expected.map(data), "{stored} + {value}");
        }
    }

    #[test]
    fn taking_follows_the_kind_of_the_stored_value() {
        let cases = [
            ("3", "1", Ok(("2", None))),
            ("{1, 2}", "2", Ok(("{1}", None))),
            ("{1 -> 2, 2 -> 3}", "2", Ok(("{1 -> 2}", None))),
            ("[1, 2]", "nil", Ok(("[1]", Some("2")))),
            ("[]", "nil", Ok(("[]", None))),
            ("\"ab\"", "\"b\"", Err(WriteRefusal::TypeClash)),
        ];
        for (stored, value, expected) in cases {
            let found = subtract(data(stored), &data(value));
            let expected = expected.map(|(left, taken)| (data(left), taken.map(data)));
            assert_eq!(found, expected, "{stored} - {value}");
        }
    }

    #[test]
    fn a_count_below_zero_wraps_as_in_broker() {
        let (left, _) = subtract(Data::Count(1), &Data::Count(2)).unwrap();
        assert_eq!(left, Data::Count(u64::MAX));
    }

    #[test]
    fn an_index_names_a_part() {
        let cases = [
            ("[5, 6]", "1", Some("6")),
            ("[5, 6]", "2", None),
            ("[5, 6]", "\"x\"", None),
            ("{5}", "5", Some("T")),
            ("{5}", "6", Some("F")),
            ("{5 -> 6}", "5", Some("6")),
            ("{5 -> 6}", "6", None),
            ("7", "1", Some("7")),
        ];
        for (value, index, expected) in cases {
            assert_eq!(
                part(&data(value), &data(index)),
                expected.map(data),
                "{value}[{index}]"
            );
        }
    }
}
