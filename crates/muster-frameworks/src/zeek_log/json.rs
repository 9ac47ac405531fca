//! One JSON object a line, as Zeek's JSON writer and its streaming variant produce it, and as what ships logs wraps it.

mod scanner;
mod text;

use std::ops::Range;

use super::error::{LogErrorKind, quote};
use super::names::{end_of_connection, is_log};
use super::tsv::Problem;
use scanner::{Place, Scanner};

pub(super) use text::decoded;

/// In how many wrappings a row may be.
const WRAPPINGS: u32 = 4;

/// A row, by the places of its members in its text.
#[derive(Debug, Default)]
pub(super) struct Object {
    /// The members in order, without those that are `null`; those of an object `id` as `id.orig_h` and so on.
    members: Vec<Member>,
    /// The row, where it is not the line itself.
    unwrapped: Option<Vec<u8>>,
    /// What the row was called where it was wrapped: the log, as Kafka has it.
    tag: Option<String>,
}

#[derive(Debug)]
struct Member {
    name: Name,
    /// The value as it is written.
    value: Range<usize>,
}

#[derive(Debug)]
enum Name {
    /// One of a connection's ends, whatever the separator.
    Known(&'static str),
    /// As it is written.
    Written(Range<usize>),
    Other(String),
}

impl Name {
    fn of(text: &[u8], range: Range<usize>) -> Self {
        let name = text.get(range.clone()).unwrap_or_default();
        if let Some(known) = end_of_connection(name) {
            Self::Known(known)
        } else if name.contains(&b'\\') || !name.is_ascii() {
            Self::Other(String::from_utf8_lossy(&decoded(name)).into_owned())
        } else {
            Self::Written(range)
        }
    }

    fn text<'a>(&'a self, text: &'a [u8]) -> &'a str {
        match self {
            Self::Known(name) => name,
            Self::Written(range) => text
                .get(range.clone())
                .and_then(|name| std::str::from_utf8(name).ok())
                .unwrap_or_default(),
            Self::Other(name) => name,
        }
    }

    fn is(&self, text: &[u8], name: &str) -> bool {
        match self {
            Self::Known(known) => *known == name,
            Self::Written(range) => text.get(range.clone()) == Some(name.as_bytes()),
            Self::Other(other) => other == name,
        }
    }
}

impl Object {
    /// Reads a line.
    pub(super) fn read(&mut self, line: &[u8]) -> Result<(), Problem> {
        (self.unwrapped, self.tag) = (None, None);
        scan(line, &mut self.members).map_err(|what| {
            let problem = format!("not a JSON object ({what}): {}", quote(line));
            (LogErrorKind::Json, problem)
        })?;
        if find(&self.members, line, "ts").is_none()
            && let Some((text, members, tag)) = row_in(line, &self.members, WRAPPINGS)
        {
            (self.members, self.unwrapped, self.tag) = (members, Some(text), tag);
        }
        Ok(())
    }

    /// What the row was called where it was wrapped.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The number of members.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The last member of a name, as it is written.
    pub(super) fn get<'a>(&'a self, line: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let text = self.text(line);
        text.get(find(&self.members, text, name)?)
    }

    /// A member by its position.
    pub(super) fn member<'a>(&'a self, line: &'a [u8], at: usize) -> Option<(&'a str, &'a [u8])> {
        let text = self.text(line);
        let member = self.members.get(at)?;
        Some((member.name.text(text), text.get(member.value.clone())?))
    }

    /// The names of all members.
    pub(super) fn names<'a>(&'a self, line: &'a [u8]) -> impl Iterator<Item = &'a str> {
        let text = self.text(line);
        self.members.iter().map(|member| member.name.text(text))
    }

    fn text<'a>(&'a self, line: &'a [u8]) -> &'a [u8] {
        self.unwrapped.as_deref().unwrap_or(line)
    }
}

/// A row inside another object: its text, its members, and what it is called.
type Inner = (Vec<u8>, Vec<Member>, Option<String>);

/// The row that a row without `ts` is wrapped around: an object in it, or a text that is one, as in `{"conn":{..}}`
/// and `{"message":"{..}"}`.
fn row_in(text: &[u8], around: &[Member], wrappings: u32) -> Option<Inner> {
    if wrappings == 0 {
        return None;
    }
    around.iter().find_map(|member| {
        let value = text.get(member.value.clone())?;
        let name = member.name.text(text);
        let (inner, tag) = match value {
            [b'{', ..] => {
                let is_tag = around.len() == 1 || is_log(name);
                (value.to_vec(), is_tag.then(|| name.to_owned()))
            }
            [b'"', inside @ .., b'"'] if inside.trim_ascii_start().starts_with(b"{") => {
                (decoded(inside).into_owned(), None)
            }
            _ => return None,
        };
        // Something in braces may be anything.
        let mut members = Vec::new();
        scan(&inner, &mut members).ok()?;
        if find(&members, &inner, "ts").is_some() {
            return Some((inner, members, tag));
        }
        let (text, members, inner_tag) = row_in(&inner, &members, wrappings - 1)?;
        Some((text, members, inner_tag.or(tag)))
    })
}

fn find(members: &[Member], text: &[u8], name: &str) -> Option<Range<usize>> {
    let mut from_behind = members.iter().rev();
    let found = from_behind.find(|member| member.name.is(text, name))?;
    Some(found.value.clone())
}

/// Finds the members of the object that a text is.
fn scan(text: &[u8], members: &mut Vec<Member>) -> Result<(), &'static str> {
    members.clear();
    let is_null = |value: &Range<usize>| text.get(value.clone()) == Some(b"null");
    let mut scanner = Scanner::new(text, 0);
    while let Some(Place { name, value }) = scanner.next()? {
        let is_id = text.get(name.clone()) == Some(b"id");
        if is_id && text.get(value.start) == Some(&b'{') {
            let mut ends = Scanner::new(text, value.start);
            while let Some(Place { name, value }) = ends.next()? {
                if !is_null(&value) {
                    let name = format!("id.{}", Name::of(text, name).text(text));
                    let known = end_of_connection(name.as_bytes()).map(Name::Known);
                    let name = known.unwrap_or(Name::Other(name));
                    members.push(Member { name, value });
                }
            }
        } else if !is_null(&value) {
            let name = Name::of(text, name);
            members.push(Member { name, value });
        }
    }
    if scanner.is_at_end() {
        Ok(())
    } else {
        Err("something behind it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(line: &[u8]) -> Vec<(String, String)> {
        let mut object = Object::default();
        object.read(line).unwrap();
        let shown = |at| {
            let (name, value) = object.member(line, at).unwrap();
            (name.to_owned(), value.escape_ascii().to_string())
        };
        (0..object.len()).map(shown).collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    #[test]
    fn rows() {
        let line = br#"{"_path":"ssh","ts":1.5,"id":{"orig_h":"::1","x":null,"vlan":7},"n":null,"\u0061":[1]}"#;
        let expected = pairs([
            ("_path", "\\\"ssh\\\""),
            ("ts", "1.5"),
            ("id.orig_h", "\\\"::1\\\""),
            ("id.vlan", "7"),
            ("a", "[1]"),
        ]);
        assert_eq!(members(line), expected);
        let other_separators =
            br#"{"ts":1,"id_orig_h":1,"id$orig_p":2,"id::resp_h":3,"id resp_p":4,"id_vlan":5}"#;
        let expected = pairs([
            ("ts", "1"),
            ("id.orig_h", "1"),
            ("id.orig_p", "2"),
            ("id.resp_h", "3"),
            ("id.resp_p", "4"),
            ("id_vlan", "5"),
        ]);
        assert_eq!(members(other_separators), expected);
        for line in [&b"[]"[..], b"{", b"{\"a\"}", b"{} x", b"\xff"] {
            assert_eq!(
                Object::default().read(line).unwrap_err().0,
                LogErrorKind::Json
            );
        }
        assert_eq!(
            members(b"{\"\xff\":\"\xff\"}"),
            pairs([("\u{fffd}", "\\\"\\xff\\\"")])
        );
    }

    #[test]
    fn wrapped_rows() {
        let row = r#"{"ts":1,"uid":"C\n"}"#;
        let text = serde_json::to_string(row).unwrap();
        let twice = serde_json::to_string(&format!(r#"{{"log":{text}}}"#)).unwrap();
        for (line, tag) in [
            (format!(r#"{{"conn":{row}}}"#), Some("conn")),
            (format!(r#"{{"dns_red":{row}}}"#), Some("dns_red")),
            (
                format!(r#"{{"@timestamp":"x","message":{text},"agent":{{"id":"y"}}}}"#),
                None,
            ),
            (
                format!(r#"{{"preview":false,"result":{{"_raw":{text},"source":"{{"}}}}"#),
                None,
            ),
            (format!(r#"{{"message":{twice}}}"#), None),
            (
                format!(r#"{{"host":"a","conn":{row},"offset":1}}"#),
                Some("conn"),
            ),
        ] {
            assert_eq!(members(line.as_bytes()).len(), 2, "{line}");
            let mut object = Object::default();
            object.read(line.as_bytes()).unwrap();
            assert_eq!(
                object.get(line.as_bytes(), "uid"),
                Some(&br#""C\n""#[..]),
                "{line}"
            );
            assert_eq!(object.tag(), tag, "{line}");
        }
        // A row stays what it is where there is no other in it.
        for line in [
            r#"{"a":1,"b":{"c":2},"d":"{}","e":"{x}"}"#,
            r#"{"ts":1,"conn":{"ts":2},"x":1,"y":1}"#,
            r#"{"1":1,"2":2,"3":3,"4":{"4":{"4":{"4":{"4":{"4":{"ts":1}}}}}}}"#,
        ] {
            assert_eq!(members(line.as_bytes()).len(), 4, "{line}");
        }
    }
}
