//! Zeek's TSV: header lines that say how the rows below them are to be read.

use memchr::{memchr_iter, memmem};

use super::error::{LogErrorKind, quote};
use super::escape::unescape;
use super::field::Field;
use super::names::end_of_connection;

/// A problem of a line; the reader adds file and line.
pub(super) type Problem = (LogErrorKind, String);

/// What a header line was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The beginning of a header.
    Begin,
    /// More of it.
    Part,
    /// Nothing that rows depend on.
    Comment,
}

/// The header that holds for the rows to come.
#[derive(Debug, Default)]
pub(super) struct Header {
    separator: Vec<u8>,
    set_separator: Vec<u8>,
    empty: Vec<u8>,
    unset: Vec<u8>,
    path: Option<String>,
    fields: Vec<String>,
    types: Option<usize>,
    /// The column of each wanted name.
    wanted: Vec<Option<usize>>,
}

impl Header {
    /// The name of the log, if the header tells it.
    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The names of the columns.
    pub(super) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The column of a wanted name.
    pub(super) fn column(&self, wanted: usize) -> Option<usize> {
        self.wanted.get(wanted).copied().flatten()
    }

    /// Takes a line that begins with `#`. Unknown ones are comments.
    pub(super) fn take(&mut self, line: &[u8], wanted: &[&str]) -> Result<Taken, Problem> {
        if let Some(rest) = line.strip_prefix(b"#separator") {
            self.begin(&separator(rest)?);
            return Ok(Taken::Begin);
        }
        if self.separator.is_empty() {
            // Without a header of its own it is what Zeek's input framework reads: separated by tabs.
            self.begin(b"\t");
        }
        let at = memmem::find(line, &self.separator).unwrap_or(line.len());
        let (key, value) = line.split_at(at);
        let value = value.get(self.separator.len()..).unwrap_or_default();
        match key {
            b"#set_separator" => self.set_separator = unescape(value).into_owned(),
            b"#empty_field" => self.empty = unescape(value).into_owned(),
            b"#unset_field" => self.unset = unescape(value).into_owned(),
            b"#path" => {
                let path = unescape(value);
                self.path = Some(String::from_utf8_lossy(&path).into_owned());
            }
            b"#fields" => self.take_fields(value, wanted)?,
            b"#types" => {
                self.types = Some(columns(value, &self.separator).count());
                self.check_types()?;
            }
            _ => return Ok(Taken::Comment),
        }
        Ok(Taken::Part)
    }

    /// Begins a header.
    fn begin(&mut self, separator: &[u8]) {
        *self = Self {
            separator: separator.to_owned(),
            set_separator: b",".to_vec(),
            empty: b"(empty)".to_vec(),
            unset: b"-".to_vec(),
            wanted: Vec::new(),
            ..Self::default()
        };
    }

    fn take_fields(&mut self, value: &[u8], wanted: &[&str]) -> Result<(), Problem> {
        self.fields = columns(value, &self.separator)
            .map(|name| String::from_utf8_lossy(&unescape(name)).into_owned())
            .collect();
        self.types = None;
        self.wanted.clear();
        for name in wanted {
            let is_it =
                |field: &str| field == *name || end_of_connection(field.as_bytes()) == Some(*name);
            let mut columns = (0..).zip(&self.fields).filter(|(_, field)| is_it(field));
            self.wanted.push(columns.next().map(|(column, _)| column));
            if columns.next().is_some() {
                let problem = format!("#fields names `{name}` twice");
                return Err((LogErrorKind::Header, problem));
            }
        }
        Ok(())
    }

    fn check_types(&self) -> Result<(), Problem> {
        let (fields, types) = (self.fields.len(), self.types.unwrap_or_default());
        if types == fields {
            return Ok(());
        }
        let problem = format!("#types has {types} columns, #fields has {fields}");
        Err((LogErrorKind::Header, problem))
    }

    /// Finds the ends of a row's columns.
    pub(super) fn split(&self, line: &[u8], ends: &mut Vec<usize>) -> Result<(), Problem> {
        if self.fields.is_empty() {
            let problem = format!("a row before #fields: {}", quote(line));
            return Err((LogErrorKind::Header, problem));
        }
        ends.clear();
        match self.separator[..] {
            [byte] => ends.extend(memchr_iter(byte, line)),
            ref separator => ends.extend(memmem::find_iter(line, separator)),
        }
        ends.push(line.len());
        if ends.len() == self.fields.len() {
            return Ok(());
        }
        let problem = format!(
            "{} columns instead of {}: {}",
            ends.len(),
            self.fields.len(),
            quote(line)
        );
        Err((LogErrorKind::ColumnCount, problem))
    }

    /// The value of a column of a row that was split; `None` if it is not set.
    pub(super) fn field<'a>(
        &'a self,
        line: &'a [u8],
        ends: &[usize],
        column: usize,
    ) -> Option<Field<'a>> {
        let start = match column.checked_sub(1) {
            None => 0,
            Some(before) => ends.get(before)? + self.separator.len(),
        };
        let text = line.get(start..*ends.get(column)?)?;
        if text == self.unset {
            return None;
        }
        let text = (text != self.empty).then_some(text);
        Some(Field::tsv(text, &self.set_separator))
    }
}

/// The separator that follows `#separator`, behind white space of any kind.
fn separator(rest: &[u8]) -> Result<Vec<u8>, Problem> {
    let problem = |text: &str| Err((LogErrorKind::Header, text.to_owned()));
    let [b' ' | b'\t', behind @ ..] = rest else {
        return problem("#separator is not followed by white space and the separator");
    };
    // The separator itself may be white space, not escaped.
    let written = match behind.trim_ascii() {
        [] => behind,
        trimmed => trimmed,
    };
    let separator = unescape(written).into_owned();
    if separator.is_empty() || separator.contains(&b'\n') {
        return problem("an impossible #separator");
    }
    Ok(separator)
}

fn columns<'a>(line: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut start = 0;
    let ends = memmem::find_iter(line, separator).map(Some).chain([None]);
    ends.map(move |end| {
        let column = &line[start..end.unwrap_or(line.len())];
        start = end.unwrap_or(line.len()) + separator.len();
        column
    })
}
