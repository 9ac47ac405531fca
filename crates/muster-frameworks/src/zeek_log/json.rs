//! One JSON object a line, as Zeek's JSON writer and its streaming variant produce it.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use super::error::{LogErrorKind, quote};
use super::tsv::Problem;

/// The members of an object in order, the values as they are written. What is `null` is left out;
/// the members of an object `id` are named `id.orig_h` and so on.
pub(super) type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Result<Members<'_>, Problem> {
    let problem = |what: &dyn fmt::Display| {
        let problem = format!("not a JSON object ({what}): {}", quote(line));
        (LogErrorKind::Json, problem)
    };
    let text = std::str::from_utf8(line).map_err(|error| problem(&error))?;
    let object = parse(text).map_err(|error| problem(&error))?;
    let mut members = Vec::with_capacity(object.len());
    for (name, value) in object {
        if name == "id" && value.starts_with('{') {
            let id = parse(value).map_err(|error| problem(&error))?;
            let set = id.into_iter().filter(|(_, value)| *value != "null");
            members.extend(set.map(|(name, value)| (Cow::Owned(format!("id.{name}")), value)));
        } else if value != "null" {
            members.push((name, value));
        }
    }
    Ok(members)
}

fn parse(text: &str) -> serde_json::Result<Members<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = serde::de::Deserializer::deserialize_map(&mut deserializer, Visitor)?;
    deserializer.end()?;
    Ok(members)
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(24);
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push((name, value.get()));
        }
        Ok(members)
    }
}

/// A key, borrowed where it holds no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members() {
        let line = br#"{"_path":"ssh","ts":1.5,"id":{"orig_h":"::1","x":null},"n":null,"a":[1]}"#;
        let members = read(line).unwrap();
        let members: Vec<_> = members.iter().map(|(name, raw)| (&**name, *raw)).collect();
        let expected = [
            ("_path", "\"ssh\""),
            ("ts", "1.5"),
            ("id.orig_h", "\"::1\""),
            ("a", "[1]"),
        ];
        assert_eq!(members, expected);
        for line in [
            &b"[]"[..],
            b"{",
            b"{\"a\"}",
            b"{} x",
            b"\xff",
            b"{\"a\":\"\xff\"}",
        ] {
            assert_eq!(read(line).unwrap_err().0, LogErrorKind::Json);
        }
    }
}
