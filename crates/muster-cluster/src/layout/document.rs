//! A layout's TOML, read key by key: every value knows its line, and every mistake becomes a
//! problem instead of an end.

use std::fmt;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{LayoutProblemKind as Kind, Problems};
use crate::settings::RawValue;
use crate::suggestion::nearest;

/// A value with the line it stands on.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// One `key = value`.
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) line: usize,
    pub(super) value: &'a DeValue<'a>,
}

/// Parses the text; nothing is returned where that is not TOML, as what could be read in spite of
/// it would only lead to more messages.
pub(super) fn parse<'a>(text: &'a str, problems: &mut Problems) -> Option<DeTable<'a>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = problems.line_of(error.span().map_or(0, |span| span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        problems.add(line, Kind::Syntax, format!("not valid TOML: {message}"));
    }
    errors.is_empty().then(|| table.into_inner())
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'a>(table: &'a DeTable<'a>, problems: &Problems) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
        .into_iter()
        .map(|(key, value)| Entry {
            key: key.get_ref(),
            line: problems.line_of(key.span().start),
            value: value.get_ref(),
        })
        .collect()
}

/// Every setting below a table as `section.name`, however deep the tables were nested.
pub(super) fn flatten<'a>(
    entry: &Entry<'a>,
    path: &str,
    problems: &Problems,
    found: &mut Vec<(String, Entry<'a>)>,
) {
    let path = if path.is_empty() {
        entry.key.to_owned()
    } else {
        format!("{path}.{}", entry.key)
    };
    match entry.value {
        DeValue::Table(table) => {
            for inner in entries(table, problems) {
                flatten(&inner, &path, problems, found);
            }
        }
        value => found.push((
            path,
            Entry {
                key: entry.key,
                line: entry.line,
                value,
            },
        )),
    }
}

/// The value of a setting before its kind is known.
pub(super) fn raw(value: &DeValue<'_>) -> RawValue {
    match value {
        DeValue::String(text) => RawValue::Text(text.clone().into_owned()),
        DeValue::Integer(_) => integer(value).map_or(RawValue::Other, RawValue::Integer),
        DeValue::Float(float) => float
            .as_str()
            .parse()
            .map_or(RawValue::Other, RawValue::Real),
        DeValue::Boolean(value) => RawValue::Boolean(*value),
        DeValue::Array(items) => {
            RawValue::List(items.iter().map(|item| raw(item.get_ref())).collect())
        }
        DeValue::Datetime(_) | DeValue::Table(_) => RawValue::Other,
    }
}

/// Reports a key that is not among the known ones, with the nearest that is.
pub(super) fn unknown_key(entry: &Entry<'_>, place: &str, known: &[&str], problems: &mut Problems) {
    if problems.is_full() {
        return;
    }
    let key = clip(entry.key);
    if let Some(near) = nearest(entry.key, known.iter().copied()) {
        let message = format!("unknown key `{key}` {place}; did you mean `{near}`?");
        problems.add(entry.line, Kind::UnknownKey, message);
        return;
    }
    let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
    let message = format!("unknown key `{key}` {place}");
    problems.add_with(
        entry.line,
        Kind::UnknownKey,
        message,
        format!("known are {}", known.join(", ")),
    );
}

/// Reports a reference to a box or pool that is not declared.
pub(super) fn unknown_name<'k>(
    name: At<&str>,
    what: &str,
    known: impl Iterator<Item = &'k str>,
    problems: &mut Problems,
) {
    if problems.is_full() {
        return;
    }
    let text = clip(name.value);
    let remedy = match nearest(name.value, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it with `[{what}.{text}]`"),
    };
    problems.add_with(
        name.line,
        Kind::UnknownName,
        format!("unknown {what} `{text}`"),
        remedy,
    );
}

/// The keys of one table, read by name and type.
pub(super) struct Fields<'a, 'p> {
    entries: Vec<Entry<'a>>,
    place: String,
    problems: &'p mut Problems,
}

impl<'a, 'p> Fields<'a, 'p> {
    /// Reads a table whose keys must be among `known`; `place` says where in messages ("in
    /// `[[node]]`").
    pub(super) fn new(
        table: &'a DeTable<'a>,
        known: &[&str],
        place: String,
        problems: &'p mut Problems,
    ) -> Self {
        let fields = Self::open(table, place, problems);
        for entry in &fields.entries {
            if !known.contains(&entry.key) {
                unknown_key(entry, &fields.place, known, fields.problems);
            }
        }
        fields
    }

    /// Reads a table with any keys.
    pub(super) fn open(table: &'a DeTable<'a>, place: String, problems: &'p mut Problems) -> Self {
        Self {
            entries: entries(table, problems),
            place,
            problems,
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Option<At<&'a str>> {
        self.read(key, "a text", |value| value.as_str())
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<At<bool>> {
        self.read(key, "true or false", DeValue::as_bool)
    }

    /// A whole number within bounds, both included.
    pub(super) fn number(&mut self, key: &str, least: u32, most: u32) -> Option<At<u32>> {
        self.read(
            key,
            format_args!("a whole number from {least} to {most}"),
            |value| {
                let number = u32::try_from(integer(value)?).ok()?;
                (least..=most).contains(&number).then_some(number)
            },
        )
    }

    pub(super) fn texts(&mut self, key: &str) -> Option<At<Vec<&'a str>>> {
        self.read(key, "a list of texts", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| item.get_ref().as_str())
                .collect()
        })
    }

    /// The entry itself, for tables.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The problems, for what only the caller can judge.
    pub(super) fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: impl fmt::Display,
        convert: impl Fn(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<At<T>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if let Some(value) = convert(entry.value) {
            return Some(At {
                line: entry.line,
                value,
            });
        }
        let message = format!(
            "`{key}` {} takes {expected}, not {}",
            self.place,
            shown(entry.value)
        );
        self.problems.add(entry.line, Kind::BadValue, message);
        None
    }
}

/// The tables of an array of tables, with their lines.
pub(super) fn tables<'a>(
    items: &'a DeArray<'a>,
    problems: &Problems,
) -> Vec<At<Option<&'a DeTable<'a>>>> {
    let at = |item: &'a Spanned<DeValue<'a>>| At {
        line: problems.line_of(item.span().start),
        value: item.get_ref().as_table(),
    };
    items.iter().map(at).collect()
}

/// A text of the file as it may stand in a message: at most 64 letters, control characters escaped.
pub(crate) fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        clipped.push('~');
    }
    clipped
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", clip(text)),
        DeValue::Integer(_) => integer(value).map_or_else(
            || "so large a number".to_owned(),
            |number| number.to_string(),
        ),
        DeValue::Float(float) => clip(float.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(integer) = value else {
        return None;
    };
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
