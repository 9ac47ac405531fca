//! Values of settings, and lengths of time as people write them.

use std::fmt;
use std::time::Duration;

use muster_data::{Data, DataRef, Subnet, Timespan, ValueRef};

use super::spec::SettingKind;

/// The value of a setting.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SettingValue {
    /// A whole number.
    Count(u64),
    /// A finite number, 0 or more.
    Real(f64),
    /// A length of time, to the nanosecond.
    Duration(Duration),
    /// Yes or no.
    Boolean(bool),
    /// A text, also that of a choice.
    Text(String),
    /// Texts in the order given.
    TextList(Vec<String>),
    /// Whole numbers in the order given.
    CountList(Vec<u64>),
}

impl SettingValue {
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Count(value) => *value == 0,
            Self::Real(value) => *value <= 0.0,
            Self::Duration(value) => value.is_zero(),
            _ => false,
        }
    }

    /// Returns the value as the register keeps it, where `kind` is the setting's.
    pub(crate) fn to_data(&self, kind: SettingKind) -> Data {
        match (self, kind) {
            (Self::TextList(texts), SettingKind::SubnetList) => {
                let subnets = texts.iter().filter_map(|text| text.parse::<Subnet>().ok());
                Data::vector(subnets.map(Data::Subnet))
            }
            (Self::Count(value), _) => Data::Count(*value),
            (Self::Real(value), _) => Data::Real(*value),
            (Self::Duration(value), _) => {
                let nanoseconds = i64::try_from(value.as_nanos()).unwrap_or(i64::MAX);
                Data::Timespan(Timespan::from_nanos(nanoseconds))
            }
            (Self::Boolean(value), _) => Data::Boolean(*value),
            (Self::Text(text), _) => Data::string(text),
            (Self::TextList(texts), _) => Data::vector(texts.iter().map(Data::string)),
            (Self::CountList(values), _) => Data::vector(values.iter().copied().map(Data::Count)),
        }
    }
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{value}"),
            Self::Duration(value) => write_duration(f, *value),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::TextList(texts) => write!(f, "{texts:?}"),
            Self::CountList(values) => write!(f, "{values:?}"),
        }
    }
}

/// A value before its setting's kind is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RawValue {
    Text(String),
    Integer(i64),
    Real(f64),
    Boolean(bool),
    List(Vec<RawValue>),
    Other,
}

impl RawValue {
    /// The raw value that a word on a command line stands for.
    pub(super) fn guess(word: &str) -> Self {
        if let Ok(value) = word.parse() {
            return Self::Integer(value);
        }
        if let Ok(value) = word.parse() {
            return Self::Real(value);
        }
        match word {
            "true" => Self::Boolean(true),
            "false" => Self::Boolean(false),
            _ => Self::Text(word.to_owned()),
        }
    }

    /// A value as the register keeps it.
    pub(super) fn of_data(value: DataRef<'_>) -> Self {
        match value.get() {
            ValueRef::Boolean(value) => Self::Boolean(value),
            ValueRef::Count(value) => i64::try_from(value).map_or(Self::Other, Self::Integer),
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::String(bytes) => {
                String::from_utf8(bytes.to_vec()).map_or(Self::Other, Self::Text)
            }
            ValueRef::Timespan(span) => u64::try_from(span.as_nanos()).map_or(Self::Other, |it| {
                let duration = Duration::from_nanos(it);
                Self::Text(SettingValue::Duration(duration).to_string())
            }),
            ValueRef::Subnet(subnet) => Self::Text(subnet.to_string()),
            ValueRef::Vector(elements) => Self::List(elements.iter().map(Self::of_data).collect()),
            _ => Self::Other,
        }
    }

    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Integer(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn real(&self) -> Option<f64> {
        match self {
            // A layout's whole numbers are small; beyond 2^53 the nearest number does.
            #[allow(clippy::cast_precision_loss)]
            Self::Integer(value) if *value >= 0 => Some(*value as f64),
            Self::Real(value) if value.is_finite() && *value >= 0.0 => Some(*value),
            _ => None,
        }
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        match self {
            Self::Text(text) => parse_duration(text),
            other => bounded(Duration::try_from_secs_f64(other.real()?).ok()?),
        }
    }
}

/// Units from the largest to the smallest, with their nanoseconds.
const UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `1h30m`, `500ms` and the like: whole numbers, each with its unit.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|character: char| !character.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*nanoseconds)?)?;
        rest = tail.trim_start();
    }
    bounded(Duration::from_nanos(total))
}

/// Longer than 100 years is a mistake, and would overflow times of signed nanoseconds.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The most of a count.
pub(crate) const MOST_COUNT: u64 = i64::MAX as u64;

fn bounded(duration: Duration) -> Option<Duration> {
    (duration <= LONGEST).then_some(duration)
}

fn write_duration(f: &mut fmt::Formatter<'_>, duration: Duration) -> fmt::Result {
    let mut rest = duration.as_nanos();
    if rest == 0 {
        return f.write_str("0s");
    }
    for &(unit, nanoseconds) in UNITS {
        let number = rest / u128::from(nanoseconds);
        rest %= u128::from(nanoseconds);
        if number > 0 {
            write!(f, "{number}{unit}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        let seconds = |text: &str| parse_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("15m"), Some(900.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("1h 30m"), Some(5400.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!(seconds("0s"), Some(0.0));
        for text in [
            "",
            "15",
            "m",
            "1.5h",
            "-1s",
            "1y",
            "99999999999999999999s",
            "200000d",
            "1h30",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["15m", "1h30m", "500ms", "1d", "0s", "1s1ns"] {
            assert_eq!(
                SettingValue::Duration(parse_duration(text).unwrap()).to_string(),
                text
            );
        }
    }
}
