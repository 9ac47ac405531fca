//! One column of one row.

use std::borrow::Cow;

use muster_data::{Address, Timestamp};
use serde_json::value::RawValue;

use super::error::quote;
use super::escape::unescape;
use super::json::decoded;
use super::time;

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
    /// A JSON value as it is written, not `null`.
    Json(&'a [u8]),
}

impl<'a> Field<'a> {
    pub(super) fn tsv(text: Option<&'a [u8]>, set_separator: &'a [u8]) -> Self {
        Self(Inner::Tsv {
            text,
            set_separator,
        })
    }

    pub(super) fn json(value: &'a [u8]) -> Self {
        Self(Inner::Json(value))
    }

    /// Returns the value as text, with escapes decoded. What is not UTF-8 is replaced. Sets and vectors come as they
    /// are written in the log.
    pub fn text(self) -> Cow<'a, str> {
        lossy(self.bytes())
    }

    /// Returns the value like [`text`](Self::text), with what is not UTF-8 as it is.
    pub fn bytes(self) -> Cow<'a, [u8]> {
        match self.0 {
            Inner::Tsv { text, .. } => unescape(text.unwrap_or_default()),
            Inner::Json(value) => json_bytes(value),
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
                    text => Some(lossy(unescape(text))),
                })
                .collect(),
            Inner::Json(value) => match elements(value) {
                Some(elements) => elements
                    .into_iter()
                    .map(|element| {
                        (element != "null").then(|| lossy(json_bytes(element.as_bytes())))
                    })
                    .collect(),
                None => vec![Some(lossy(json_bytes(value)))],
            },
        }
    }

    /// Returns the value as a point in time: seconds since the epoch (exact to the nanosecond), milliseconds where
    /// seconds cannot be meant, or ISO 8601, in UTC unless it has an offset.
    pub fn timestamp(self) -> Option<Timestamp> {
        match self.0 {
            Inner::Tsv { text, .. } => time::timestamp(text?),
            Inner::Json(value) => time::timestamp(&json_bytes(value)),
        }
    }

    /// Returns the value as an address.
    pub fn address(self) -> Option<Address> {
        match self.0 {
            Inner::Tsv { text, .. } => std::str::from_utf8(text?).ok()?.parse().ok(),
            Inner::Json(value) => std::str::from_utf8(&json_bytes(value)).ok()?.parse().ok(),
        }
    }

    /// Returns the value as a port's number. Programs that make tables of logs write `80.0`, others `"80"`.
    pub fn port_number(self) -> Option<u16> {
        let text = match self.0 {
            Inner::Tsv { text, .. } => Cow::Borrowed(text?),
            Inner::Json(value) => json_bytes(value),
        };
        let point = memchr::memchr(b'.', &text).unwrap_or(text.len());
        let (digits, fraction) = text.split_at(point);
        let is_whole = match fraction {
            [] => true,
            [_, zeros @ ..] => !zeros.is_empty() && zeros.iter().all(|zero| *zero == b'0'),
        };
        if digits.is_empty() || digits.len() > 5 || !is_whole {
            return None;
        }
        let mut number = 0_u32;
        for digit in digits {
            number = number * 10 + char::from(*digit).to_digit(10)?;
        }
        u16::try_from(number).ok()
    }

    /// Returns the value as a boolean: `T` and `F` in TSV, `true` and `false` in JSON.
    pub fn boolean(self) -> Option<bool> {
        match self.0 {
            Inner::Tsv {
                text: Some(b"T"), ..
            }
            | Inner::Json(b"true") => Some(true),
            Inner::Tsv {
                text: Some(b"F"), ..
            }
            | Inner::Json(b"false") => Some(false),
            _ => None,
        }
    }

    /// Returns the value as a number of something.
    pub(super) fn count(self) -> Option<u64> {
        match self.0 {
            Inner::Tsv { text, .. } => std::str::from_utf8(text?).ok()?.parse().ok(),
            Inner::Json(value) => std::str::from_utf8(&json_bytes(value)).ok()?.parse().ok(),
        }
    }

    /// A piece of the value for an error's text.
    pub(super) fn quote(self) -> String {
        match self.0 {
            Inner::Tsv { text, .. } => quote(text.unwrap_or(b"(empty)")),
            Inner::Json(value) => quote(value),
        }
    }
}

pub(super) fn lossy(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        },
        Cow::Owned(bytes) => Cow::Owned(
            String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ),
    }
}

/// What a JSON string stands for, or any other JSON value as it is.
pub(super) fn json_bytes(value: &[u8]) -> Cow<'_, [u8]> {
    match value {
        [b'"', inside @ .., b'"'] => decoded(inside),
        _ => Cow::Borrowed(value),
    }
}

/// The elements of a JSON array as they are written.
fn elements(value: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(value).ok()?;
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tsv(text: &str) -> Field<'_> {
        Field::tsv(Some(text.as_bytes()), b",")
    }

    fn json(text: &str) -> Field<'_> {
        Field::json(text.as_bytes())
    }

    #[test]
    fn times() {
        let some = Some(Timestamp::from_nanos(1_521_911_720_865_716_000));
        for field in [
            tsv("1521911720.865716"),
            tsv("2018-03-24T17:15:20.865716+0000"),
            json("1521911720.865716"),
            json("\"1521911720.865716\""),
            json("\"2018-03-24T17:15:20.865716Z\""),
        ] {
            assert_eq!(field.timestamp(), some, "{field:?}");
        }
        assert_eq!(Field::tsv(None, b",").timestamp(), None);
        assert_eq!(json("true").timestamp(), None);
    }

    #[test]
    fn values() {
        assert_eq!(tsv("10.0.0.1").address(), "10.0.0.1".parse().ok());
        assert_eq!(json("\"::1\"").address(), "::1".parse().ok());
        assert_eq!(tsv("10.0.0").address(), None);
        assert_eq!(tsv("65535").port_number(), Some(65535));
        for text in ["80", "80.0", "\"80\"", "\"80.00\""] {
            assert_eq!(json(text).port_number(), Some(80), "{text}");
        }
        assert_eq!(tsv("80.0").port_number(), Some(80));
        for text in ["65536", "", "-1", "1/tcp", "123456", "80.5", "80.", ".0"] {
            assert_eq!(tsv(text).port_number(), None, "{text}");
        }
        assert_eq!(tsv("T").boolean(), Some(true));
        assert_eq!(json("false").boolean(), Some(false));
        assert_eq!(tsv("true").boolean(), None);
        assert_eq!(json("\"a\\n\\u00e9\"").text(), "a\n\u{e9}");
        assert_eq!(tsv("a\\xff").text(), "a\u{fffd}");
        let written: [(Field<'_>, &[u8]); 4] = [
            (tsv("a\\xff"), b"a\xff"),
            (Field::tsv(Some(b"a\xff"), b","), b"a\xff"),
            (Field::json(b"\"a\xff\tb\""), b"a\xff\tb"),
            (Field::json(br#""\x41\xff""#), b"A\xff"),
        ];
        for (field, bytes) in written {
            assert_eq!(&*field.bytes(), bytes, "{field:?}");
        }
    }

    #[test]
    fn elements() {
        let some = |text: &str| Some(Cow::Owned(text.to_owned()));
        let expected = vec![some("a,b"), None, some(""), some("-")];
        assert_eq!(tsv("a\\x2cb,-,(empty),\\x2d").elements(), expected);
        assert_eq!(json("[\"a,b\", null, \"\", \"-\"]").elements(), expected);
        assert_eq!(json("7").elements(), vec![some("7")]);
        assert!(Field::tsv(None, b",").elements().is_empty());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text: String) {
            for field in [Field::tsv(Some(&bytes), b","), Field::json(&bytes), Field::json(text.as_bytes())] {
                field.text();
                field.elements();
                field.quote();
                field.timestamp();
                field.address();
                field.port_number();
                field.count();
                field.boolean();
            }
        }
    }
}
