//! One column of one row.

use std::borrow::Cow;

use muster_data::{Address, Timestamp};
use serde_json::value::RawValue;

use super::error::quote;
use super::escape::unescape;

/// Numbers of seconds from here on are milliseconds: as seconds they would lie behind the year 5138.
const FIRST_MILLIS: i128 = 100_000_000_000;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The value of a column that is set.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a>(Inner<'a>);

#[derive(Debug, Clone, Copy)]
enum Inner<'a> {
    /// The text with its escapes; `None` for what is set and empty.
    Tsv {
        text: Option<&'a [u8]>,
        set_separator: &'a [u8],
    },
    /// A JSON value, not `null`.
    Json(&'a str),
}

impl<'a> Field<'a> {
    pub(super) fn tsv(text: Option<&'a [u8]>, set_separator: &'a [u8]) -> Self {
        Self(Inner::Tsv {
            text,
            set_separator,
        })
    }

    pub(super) fn json(value: &'a str) -> Self {
        Self(Inner::Json(value))
    }

    /// Returns the value as text, with escapes decoded. What is not UTF-8 is replaced. Sets and vectors come as they
    /// are written in the log.
    pub fn text(self) -> Cow<'a, str> {
        match self.0 {
            Inner::Tsv { text, .. } => tsv_text(text.unwrap_or_default()),
            Inner::Json(value) => json_text(value),
        }
    }

    /// Returns the elements of a set or vector, each like [`text`](Self::text), or `None` for an element that is not
    /// set. Any other value is one element.
    pub fn elements(self) -> Vec<Option<Cow<'a, str>>> {
        match self.0 {
            Inner::Tsv { text: None, .. } => Vec::new(),
            Inner::Tsv {
                text: Some(text),
                set_separator,
            } => split(text, set_separator)
                .map(|element| match element {
                    b"-" => None,
                    b"(empty)" => Some(Cow::Borrowed("")),
                    text => Some(tsv_text(text)),
                })
                .collect(),
            Inner::Json(value) => match serde_json::from_str::<Vec<&'a RawValue>>(value) {
                Ok(elements) => elements
                    .into_iter()
                    .map(RawValue::get)
                    .map(|element| (element != "null").then(|| json_text(element)))
                    .collect(),
                Err(_) => vec![Some(json_text(value))],
            },
        }
    }

    /// The value as a point in time: seconds since the epoch (exact to the nanosecond), milliseconds
    /// where seconds cannot be meant, or ISO 8601 in UTC.
    pub fn timestamp(self) -> Option<Timestamp> {
        match self.0 {
            Inner::Tsv { text, .. } => seconds(text?),
            Inner::Json(value) if value.starts_with('"') => {
                let text = json_text(value);
                text.parse().ok().or_else(|| seconds(text.as_bytes()))
            }
            Inner::Json(value) => seconds(value.as_bytes()),
        }
    }

    /// The value as an address.
    pub fn address(self) -> Option<Address> {
        match self.0 {
            Inner::Tsv { text, .. } => std::str::from_utf8(text?).ok()?.parse().ok(),
            Inner::Json(value) => json_text(value).parse().ok(),
        }
    }

    /// The value as a port's number.
    pub fn port_number(self) -> Option<u16> {
        let digits = match self.0 {
            Inner::Tsv { text, .. } => text?,
            Inner::Json(value) => value.as_bytes(),
        };
        if digits.is_empty() || digits.len() > 5 {
            return None;
        }
        let mut number = 0_u32;
        for digit in digits {
            number = number * 10 + char::from(*digit).to_digit(10)?;
        }
        u16::try_from(number).ok()
    }

    /// The value as a boolean: `T` and `F` in TSV, `true` and `false` in JSON.
    pub fn boolean(self) -> Option<bool> {
        match self.0 {
            Inner::Tsv {
                text: Some(b"T"), ..
            }
            | Inner::Json("true") => Some(true),
            Inner::Tsv {
                text: Some(b"F"), ..
            }
            | Inner::Json("false") => Some(false),
            _ => None,
        }
    }

    /// A piece of the value for an error's text.
    pub(super) fn quote(self) -> String {
        match self.0 {
            Inner::Tsv { text, .. } => quote(text.unwrap_or(b"(empty)")),
            Inner::Json(value) => quote(value.as_bytes()),
        }
    }
}

fn tsv_text(text: &[u8]) -> Cow<'_, str> {
    match unescape(text) {
        Cow::Borrowed(text) => String::from_utf8_lossy(text),
        Cow::Owned(text) => Cow::Owned(
            String::from_utf8(text)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ),
    }
}

/// The text of a JSON string, or any other JSON value as it is.
pub(super) fn json_text(value: &str) -> Cow<'_, str> {
    let inner = value
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    match inner {
        Some(text) if !text.contains('\\') => Cow::Borrowed(text),
        Some(_) => serde_json::from_str(value).map_or(Cow::Borrowed(value), Cow::Owned),
        None => Cow::Borrowed(value),
    }
}

fn split<'a>(text: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = memchr::memmem::find(text, separator).filter(|_| !separator.is_empty());
        rest = at.map(|at| &text[at + separator.len()..]);
        Some(&text[..at.unwrap_or(text.len())])
    })
}

/// Seconds since the epoch in decimal digits, with a fraction of which nine digits count.
fn seconds(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let point = memchr::memchr(b'.', digits).unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at(point);
    if whole.is_empty() || whole.len() > 18 || !whole.iter().all(u8::is_ascii_digit) {
        return float_seconds(text);
    }
    let mut number = 0_i128;
    for digit in whole {
        number = number * 10 + i128::from(digit - b'0');
    }
    let unit = if number < FIRST_MILLIS {
        NANOS_PER_SECOND
    } else {
        NANOS_PER_SECOND / 1000
    };
    let (mut nanos, mut place) = (number * unit, unit);
    for digit in fraction.iter().skip(1) {
        if !digit.is_ascii_digit() {
            return float_seconds(text);
        }
        place /= 10;
        nanos += i128::from(digit - b'0') * place;
    }
    let nanos = if is_negative { -nanos } else { nanos };
    i64::try_from(nanos).ok().map(Timestamp::from_nanos)
}

/// Seconds with an exponent, as JSON may have them.
fn float_seconds(text: &[u8]) -> Option<Timestamp> {
    let has_exponent = text.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let starts_well = matches!(text, [b'0'..=b'9' | b'-', ..]);
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let in_range = number.abs() < 9.2e9;
    (has_exponent && starts_well && in_range).then(|| Timestamp::from_secs_f64(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tsv(text: &str) -> Field<'_> {
        Field::tsv(Some(text.as_bytes()), b",")
    }

    #[test]
    fn times() {
        let nanos = |field: Field<'_>| field.timestamp().map(Timestamp::as_nanos);
        let some = Some(1_521_911_720_865_716_000);
        assert_eq!(nanos(tsv("1521911720.865716")), some);
        assert_eq!(nanos(Field::json("1521911720.865716")), some);
        assert_eq!(nanos(Field::json("\"2018-03-24T17:15:20.865716Z\"")), some);
        let millis = Some(1_521_911_720_865_000_000);
        assert_eq!(nanos(Field::json("1521911720865")), millis);
        assert_eq!(nanos(Field::json("1.5e9")), Some(1_500_000_000_000_000_000));
        assert_eq!(nanos(tsv("-1.5")), Some(-1_500_000_000));
        assert_eq!(nanos(tsv("0.1234567899")), Some(123_456_789));
        for text in ["", "-", "x", "1.x", ".5", "nan", "inf", "1e99", "1 "] {
            assert_eq!(nanos(tsv(text)), None, "{text}");
        }
        assert_eq!(nanos(tsv("99999999999999999999")), None);
    }

    #[test]
    fn values() {
        assert_eq!(tsv("10.0.0.1").address(), "10.0.0.1".parse().ok());
        assert_eq!(Field::json("\"::1\"").address(), "::1".parse().ok());
        assert_eq!(tsv("10.0.0").address(), None);
        assert_eq!(tsv("65535").port_number(), Some(65535));
        for text in ["65536", "", "-1", "1/tcp", "123456"] {
            assert_eq!(tsv(text).port_number(), None, "{text}");
        }
        assert_eq!(tsv("T").boolean(), Some(true));
        assert_eq!(Field::json("false").boolean(), Some(false));
        assert_eq!(tsv("true").boolean(), None);
        assert_eq!(Field::json("\"a\\n\\u00e9\"").text(), "a\n\u{e9}");
        assert_eq!(tsv("a\\xff").text(), "a\u{fffd}");
    }

    #[test]
    fn elements() {
        let some = |text: &str| Some(Cow::Owned(text.to_owned()));
        let expected = vec![some("a,b"), None, some(""), some("-")];
        assert_eq!(tsv("a\\x2cb,-,(empty),\\x2d").elements(), expected);
        assert_eq!(
            Field::json("[\"a,b\", null, \"\", \"-\"]").elements(),
            expected
        );
        assert_eq!(Field::json("7").elements(), vec![some("7")]);
        assert!(Field::tsv(None, b",").elements().is_empty());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text: String) {
            for field in [Field::tsv(Some(&bytes), b","), Field::json(&text)] {
                field.text();
                field.elements();
                field.quote();
                field.timestamp();
                field.address();
                field.port_number();
                field.boolean();
            }
        }

        #[test]
        fn seconds_are_exact(micros in 0_i64..=4_000_000_000_000_000) {
            let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(tsv(&text).timestamp(), Some(Timestamp::from_nanos(micros * 1000)));
        }
    }
}
