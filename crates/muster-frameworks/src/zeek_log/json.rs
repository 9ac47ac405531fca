//! One JSON object a line, as Zeek's JSON writer and its streaming variant produce it, and as what ships logs wraps it.

mod columns;
mod scanner;
mod text;

use std::ops::Range;

use super::error::{LogErrorKind, quote};
use super::names::is_log;
use super::tsv::Problem;
use columns::{Columns, Member};
use scanner::{Place, Scanner};

pub(super) use text::decoded;

/// In how many wrappings a row may be.
const WRAPPINGS: u32 = 4;

/// A row, by the places of its members in its text.
#[derive(Debug)]
pub(super) struct Object {
    columns: Columns,
    /// The members in order, without those that are `null`; those of an object `id` as `id.orig_h` and so on.
    members: Vec<Member>,
    /// The value of each wanted column, and of `ts` and `_path` behind them; of several of a name, the last.
    wanted: Vec<Option<Range<usize>>>,
    /// The row, where it is not the line itself.
    unwrapped: Option<Vec<u8>>,
    /// What the row was called where it was wrapped: the log, as Kafka has it.
    tag: Option<String>,
}

impl Object {
    /// Creates a row of which these columns are wanted.
    pub(super) fn new(wanted: &[&'static str]) -> Self {
        Self {
            columns: Columns::new(wanted),
            members: Vec::with_capacity(24),
            wanted: Vec::with_capacity(wanted.len() + 2),
            unwrapped: None,
            tag: None,
        }
    }

    /// Reads a line.
    pub(super) fn read(&mut self, line: &[u8]) -> Result<(), Problem> {
        (self.unwrapped, self.tag) = (None, None);
        self.columns.begin();
        scan(line, &mut self.columns, &mut self.members).map_err(|what| {
            let problem = format!("not a JSON object ({what}): {}", quote(line));
            (LogErrorKind::Json, problem)
        })?;
        self.find_wanted(line);
        if self.wanted_from_behind(2).is_none()
            && let Some(inner) = row_in(line, &self.members, &mut self.columns, WRAPPINGS)
        {
            (self.members, self.tag) = (inner.members, inner.tag);
            self.find_wanted(&inner.text);
            self.unwrapped = Some(inner.text);
        }
        Ok(())
    }

    /// What the row says or was called where it was wrapped: the log that it is of.
    pub(super) fn path<'a>(&'a self, line: &'a [u8]) -> Option<&'a str> {
        let stated = self.wanted_from_behind(1);
        match stated.and_then(|value| self.text(line).get(value)) {
            Some([b'"', path @ .., b'"']) => std::str::from_utf8(path).ok(),
            _ => self.tag.as_deref(),
        }
    }

    /// The number of members.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The value of a wanted column, as it is written.
    pub(super) fn get<'a>(&'a self, line: &'a [u8], wanted: usize) -> Option<&'a [u8]> {
        let value = self.wanted.get(wanted)?.clone()?;
        self.text(line).get(value)
    }

    /// A member by its position.
    pub(super) fn member<'a>(&'a self, line: &'a [u8], at: usize) -> Option<(&'a str, &'a [u8])> {
        let text = self.text(line);
        let member = self.members.get(at)?;
        let value = text.get(member.value.clone())?;
        Some((self.columns.name(text, member), value))
    }

    fn text<'a>(&'a self, line: &'a [u8]) -> &'a [u8] {
        self.unwrapped.as_deref().unwrap_or(line)
    }

    fn wanted_from_behind(&self, place: usize) -> Option<Range<usize>> {
        let at = self.wanted.len().checked_sub(place)?;
        self.wanted.get(at)?.clone()
    }

    fn find_wanted(&mut self, text: &[u8]) {
        self.wanted.clear();
        self.wanted.resize(self.columns.wanted(), None);
        for member in &self.members {
            let slot = self.columns.slot(text, member);
            if let Some(wanted) = slot.and_then(|slot| self.wanted.get_mut(slot)) {
                *wanted = Some(member.value.clone());
            }
        }
    }
}

/// A row inside another object.
struct Inner {
    text: Vec<u8>,
    members: Vec<Member>,
    tag: Option<String>,
}

/// The row that a row without `ts` is wrapped around: an object in it, or a text that is one, as in `{"conn":{..}}`
/// and `{"message":"{..}"}`.
fn row_in(text: &[u8], around: &[Member], columns: &mut Columns, wrappings: u32) -> Option<Inner> {
    if wrappings == 0 {
        return None;
    }
    around.iter().find_map(|member| {
        let value = text.get(member.value.clone())?;
        let (inner, tag) = match value {
            [b'{', ..] => {
                let name = columns.name(text, member);
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
        scan(&inner, columns, &mut members).ok()?;
        if members
            .iter()
            .any(|member| columns.name(&inner, member) == "ts")
        {
            return Some(Inner {
                text: inner,
                members,
                tag,
            });
        }
        let found = row_in(&inner, &members, columns, wrappings - 1)?;
        Some(Inner {
            tag: found.tag.or(tag),
            ..found
        })
    })
}

/// Finds the members of the object that a text is.
fn scan(text: &[u8], columns: &mut Columns, members: &mut Vec<Member>) -> Result<(), &'static str> {
    members.clear();
    let is_null = |value: &Range<usize>| text.get(value.clone()) == Some(b"null");
    let mut scanner = Scanner::new(text, 0);
    while let Some(Place { name, value }) = scanner.next()? {
        let is_id = name.len() == 2 && text.get(name.clone()) == Some(b"id");
        if is_id && text.get(value.start) == Some(&b'{') {
            let mut ends = Scanner::new(text, value.start);
            while let Some(Place { name, value }) = ends.next()? {
                if !is_null(&value) {
                    members.push(columns.member(text, name, value, true));
                }
            }
        } else if !is_null(&value) {
            members.push(columns.member(text, name, value, false));
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
        let mut object = Object::new(&["uid"]);
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
                Object::new(&[]).read(line).unwrap_err().0,
                LogErrorKind::Json
            );
        }
        assert_eq!(
            members(b"{\"\xff\":\"\xff\"}"),
            pairs([("\u{fffd}", "\\\"\\xff\\\"")])
        );
    }

    #[test]
    fn names_without_end_and_in_any_order_are_read() {
        let mut object = Object::new(&["uid", "c"]);
        let mut read = |line: &str| {
            object.read(line.as_bytes()).unwrap();
            let get = |wanted| {
                let value = object.get(line.as_bytes(), wanted)?;
                Some(String::from_utf8_lossy(value).into_owned())
            };
            let names = (0..object.len())
                .map(|at| object.member(line.as_bytes(), at).unwrap().0.to_owned());
            (get(0), get(1), names.collect::<Vec<_>>())
        };
        let some = |text: &str| Some(text.to_owned());
        for _ in 0..3 {
            let all = [some("1"), some("2")];
            let (uid, c, names) = read(r#"{"ts":1,"uid":1,"c":2}"#);
            assert_eq!(
                ([uid, c], names),
                (all.clone(), vec!["ts".into(), "uid".into(), "c".into()])
            );
            let (uid, c, _) = read(r#"{"c":2,"ts":1,"uid":1}"#);
            assert_eq!([uid, c], all);
            let (uid, c, _) = read(r#"{"ts":1,"x":0,"uid":0,"uid":1}"#);
            assert_eq!([uid, c], [some("1"), None]);
            let many = (0..1000).fold("{\"ts\":1".to_owned(), |row, n| {
                format!("{row},\"n{n}\":{n}")
            });
            let (uid, c, names) = read(&format!("{many},\"c\":2,\"id_orig_h\":3}}"));
            assert_eq!([uid, c], [None, some("2")]);
            assert_eq!(
                (names.len(), &*names[1000], &*names[1002]),
                (1003, "n999", "id_orig_h")
            );
        }
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
            let mut object = Object::new(&["uid"]);
            object.read(line.as_bytes()).unwrap();
            assert_eq!(
                object.get(line.as_bytes(), 0),
                Some(&br#""C\n""#[..]),
                "{line}"
            );
            assert_eq!(object.path(line.as_bytes()), tag, "{line}");
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
