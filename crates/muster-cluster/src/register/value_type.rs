//! What a value must be: its type, its bounds, and how it is typed on a command line.

use std::fmt;
use std::time::Duration;

use muster_data::{Data, Kind, Limits, Timespan, Type};
use muster_store::Encoded;

use crate::settings::{LONGEST, MOST_COUNT, SettingValue, parse_duration};

/// The most words that a value may be one of.
pub(super) const MOST_WORDS: usize = 256;

/// The longest part of a value that an error shows, in characters.
const SHOWN: usize = 64;

/// What a value of the register must be.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueType {
    ty: Type,
    least: Option<Data>,
    most: Option<Data>,
    words: Vec<String>,
}

/// A value is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("takes {expected}, not {found}")]
pub struct Unfit {
    /// What is expected, in words.
    pub expected: String,
    /// What was there: the value as it is typed, cut where it is long.
    pub found: String,
}

impl ValueType {
    /// Takes every value of a type.
    pub fn new(ty: Type) -> Self {
        Self {
            ty,
            least: None,
            most: None,
            words: Vec::new(),
        }
    }

    /// Refuses values below `least` and above `most`, which are of the type. The bounds of a list are those of its elements.
    #[must_use]
    pub fn within(mut self, least: Option<Data>, most: Option<Data>) -> Self {
        (self.least, self.most) = (least, most);
        self
    }

    /// Refuses texts that are none of these. Behind the 256th they are ignored.
    #[must_use]
    pub fn one_of<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        let words = words.into_iter().take(MOST_WORDS);
        self.words = words.map(str::to_owned).collect();
        self
    }

    /// Returns the type, without the bounds.
    pub fn data_type(&self) -> &Type {
        &self.ty
    }

    pub(super) fn parts(&self) -> (Option<&Data>, Option<&Data>, &[String]) {
        (self.least.as_ref(), self.most.as_ref(), &self.words)
    }

    /// Checks that a value is what it must be.
    ///
    /// # Errors
    /// [`Unfit`] if it is not; it says what is expected and what is there.
    pub fn check(&self, value: &Encoded) -> Result<(), Unfit> {
        if self.ty.check(value.view()).is_err() || !self.is_within(value) {
            return Err(self.unfit(shown(value)));
        }
        Ok(())
    }

    fn is_within(&self, value: &Encoded) -> bool {
        let has_bounds = self.least.is_some() || self.most.is_some() || !self.words.is_empty();
        if !has_bounds || value.kind() == Kind::None {
            return true;
        }
        let data = value.to_data();
        match (&self.ty, data.as_vector()) {
            (Type::Vector(_), Some(elements)) => elements.iter().all(|it| self.bounds(it)),
            _ => self.bounds(&data),
        }
    }

    /// Whether a value, or an element of a list, is within the bounds.
    fn bounds(&self, data: &Data) -> bool {
        if matches!(data, Data::Real(number) if number.is_nan()) {
            return false;
        }
        let is_word = || {
            data.as_str()
                .is_some_and(|text| self.words.iter().any(|word| word == text))
        };
        self.least.as_ref().is_none_or(|least| data >= least)
            && self.most.as_ref().is_none_or(|most| data <= most)
            && (self.words.is_empty() || is_word())
    }

    /// Reads a value as people type it: `25`, `15m`, `10.0.0.0/8`, a text without quotes, elements of a list or set separated by
    /// commas; everything also in Zeek's form.
    ///
    /// # Errors
    /// [`Unfit`] if the text is not such a value, or out of bounds.
    pub fn read_text(&self, text: &str) -> Result<Data, Unfit> {
        let typed = || self.unfit(format!("`{}`", clip(text)));
        let data = read(&self.ty, text.trim()).ok_or_else(typed)?;
        let fits = self.check(&Encoded::of(&data));
        fits.map_err(|_| typed())?;
        Ok(data)
    }

    /// What is expected and what is there.
    fn unfit(&self, found: String) -> Unfit {
        Unfit {
            expected: self.to_string(),
            found,
        }
    }
}

/// A text as a value of a type.
fn read(ty: &Type, text: &str) -> Option<Data> {
    let in_zeeks_form = || Data::parse_text(text, &Limits::default()).ok();
    let elements = |of: &Type| -> Option<Vec<Data>> {
        let items = text.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        items.map(|item| read(of, item)).collect()
    };
    match ty {
        Type::Boolean => match text {
            "true" => Some(Data::Boolean(true)),
            "false" => Some(Data::Boolean(false)),
            _ => in_zeeks_form(),
        },
        Type::Count => text.parse().map(Data::Count).ok().or_else(in_zeeks_form),
        Type::Integer => text.parse().map(Data::Integer).ok().or_else(in_zeeks_form),
        Type::Real => text.parse().map(Data::Real).ok().or_else(in_zeeks_form),
        Type::Timespan => duration(text).or_else(in_zeeks_form),
        Type::String if text.starts_with('"') => in_zeeks_form(),
        Type::String => Some(Data::string(text)),
        Type::Vector(of) if !text.starts_with('[') => elements(of).map(Data::vector),
        Type::Set(of) if !text.starts_with('{') => elements(of).map(Data::set),
        Type::Optional(of) => match text {
            "none" | "nil" => Some(Data::None),
            _ => read(of, text),
        },
        _ => in_zeeks_form(),
    }
}

/// A length of time as people write it, or a number of seconds.
fn duration(text: &str) -> Option<Data> {
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    let duration = parse_duration(text).or_else(|| seconds(text))?;
    let nanoseconds = i64::try_from(duration.as_nanos()).ok()?;
    Some(Data::Timespan(Timespan::from_nanos(nanoseconds)))
}

/// A value as it may be typed, cut where it is long.
fn shown(value: &Encoded) -> String {
    if value.size() > super::LARGEST_VALUE {
        return format!("a value of {} bytes", value.size());
    }
    let data = value.to_data();
    let kind = data.kind();
    format!("{kind} `{}`", clip(&typed(&data)))
}

/// A value as people type it.
pub(super) fn typed(data: &Data) -> String {
    match data {
        Data::Timespan(span) => match u64::try_from(span.as_nanos()) {
            Ok(nanoseconds) => {
                SettingValue::Duration(Duration::from_nanos(nanoseconds)).to_string()
            }
            Err(_) => data.to_string(),
        },
        Data::Boolean(value) => value.to_string(),
        _ => data.to_string(),
    }
}

fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(SHOWN).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

impl fmt::Display for ValueType {
    /// In words, such as `a whole number between 1 and 100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.words.is_empty() {
            return write!(f, "one of {}", self.words.join(", "));
        }
        match &self.ty {
            Type::Boolean => f.write_str("true or false"),
            Type::Count => f.write_str("a whole number"),
            Type::Integer => f.write_str("a whole number, which may be negative"),
            Type::Real => f.write_str("a number"),
            Type::Timespan => {
                f.write_str("a length of time such as 15m, 500ms or a number of seconds")
            }
            Type::String => f.write_str("a text"),
            Type::Address => f.write_str("an address"),
            Type::Subnet => f.write_str("a subnet such as 10.0.0.0/8"),
            Type::Port => f.write_str("a port such as 80/tcp"),
            Type::Vector(of) => match **of {
                Type::Count => f.write_str("a list of whole numbers"),
                Type::String => f.write_str("a list of texts"),
                Type::Subnet => f.write_str("a list of subnets such as 10.0.0.0/8"),
                Type::Address => f.write_str("a list of addresses"),
                _ => write!(f, "a {}", self.ty),
            },
            other => write!(f, "a value of type {other}"),
        }?;
        // Every length of time has a least one, and no count is below 0.
        let least = self.least.as_ref().filter(|least| !is_zero(least));
        let most = self.most.as_ref().filter(|most| !is_beyond(most));
        match (least, most) {
            (Some(least), Some(most)) => {
                write!(f, " between {} and {}", typed(least), typed(most))
            }
            (Some(Data::Real(_)), None) => f.write_str(" above 0"),
            (Some(least), None) => write!(f, ", {} or more", typed(least)),
            (None, Some(most)) => write!(f, ", {} or less", typed(most)),
            (None, None) => Ok(()),
        }
    }
}

/// Whether it is the most that a setting can be anyway: nobody needs to be told.
fn is_beyond(data: &Data) -> bool {
    match data {
        Data::Count(value) => *value >= MOST_COUNT,
        Data::Real(value) => *value >= f64::MAX,
        Data::Timespan(span) => {
            let nanoseconds = u128::try_from(span.as_nanos());
            nanoseconds.is_ok_and(|it| it >= LONGEST.as_nanos())
        }
        _ => false,
    }
}

fn is_zero(data: &Data) -> bool {
    match data {
        Data::Count(value) => *value == 0,
        Data::Real(value) => *value == 0.0,
        Data::Timespan(span) => span.as_nanos() == 0,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use muster_data::Typed;

    use super::*;

    fn count() -> ValueType {
        ValueType::new(Type::Count).within(Some(Data::Count(1)), Some(Data::Count(100)))
    }

    #[test]
    fn texts_are_read_as_their_type_has_them() {
        for (ty, text, data) in [
            (Type::Boolean, "true", Data::Boolean(true)),
            (Type::Boolean, "F", Data::Boolean(false)),
            (Type::Count, " 25 ", Data::Count(25)),
            (Type::Integer, "-3", Data::Integer(-3)),
            (Type::Real, "2", Data::Real(2.0)),
            (Type::String, "two words", Data::string("two words")),
            (Type::String, "\"quoted\"", Data::string("quoted")),
            (
                Type::Timespan,
                "1h30m",
                Data::Timespan(Timespan::from_nanos(5_400_000_000_000)),
            ),
            (
                Type::Timespan,
                "0.5",
                Data::Timespan(Timespan::from_nanos(500_000_000)),
            ),
            (
                Vec::<u64>::data_type(),
                "53, 80",
                Data::vector([Data::Count(53), Data::Count(80)]),
            ),
            (Vec::<u64>::data_type(), "", Data::vector::<Data>([])),
            (
                Vec::<u64>::data_type(),
                "[53]",
                Data::vector([Data::Count(53)]),
            ),
            (Option::<u64>::data_type(), "none", Data::None),
        ] {
            assert_eq!(
                ValueType::new(ty.clone()).read_text(text),
                Ok(data),
                "{ty} {text}"
            );
        }
    }

    #[test]
    fn whoever_is_refused_hears_what_is_expected_and_what_was_there() {
        let error = |ty: &ValueType, text: &str| ty.read_text(text).unwrap_err().to_string();
        assert_eq!(
            error(&count(), "many"),
            "takes a whole number between 1 and 100, not `many`"
        );
        assert_eq!(
            error(&count(), "0"),
            "takes a whole number between 1 and 100, not `0`"
        );
        let word = ValueType::new(Type::String).one_of(["tsv", "json"]);
        assert_eq!(error(&word, "xml"), "takes one of tsv, json, not `xml`");
        let refused = count().check(&Encoded::of("many")).unwrap_err();
        assert_eq!(refused.found, "string `\"many\"`");
        let long = "x".repeat(100_000);
        assert!(error(&count(), &long).len() < 200);
        let refused = count().check(&Encoded::of(&*long)).unwrap_err();
        assert!(refused.found.len() < 200);
    }

    #[test]
    fn bounds_include_both_ends_and_no_number_that_is_none() {
        for (value, fits) in [(0_u64, false), (1, true), (100, true), (101, false)] {
            let checked = count().check(&Encoded::of(&value));
            assert_eq!(checked.is_ok(), fits, "{value}");
        }
        let real = ValueType::new(Type::Real).within(Some(Data::Real(0.0)), None);
        assert!(real.read_text("NaN").is_err());
        assert!(real.read_text("-1").is_err());
        assert!(real.read_text("1.5").is_ok());
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for (ty, text) in [
            (Type::Timespan, "1h30m"),
            (Type::Boolean, "true"),
            (Vec::<u64>::data_type(), "[53, 80]"),
            (Type::String, "\"two \\\"words\\\"\""),
        ] {
            let ty = ValueType::new(ty);
            let data = ty.read_text(text).unwrap();
            assert_eq!(typed(&data), text);
        }
    }
}
