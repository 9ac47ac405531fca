//! The names of members, each read once: the rows of a log have the same, mostly in the same order.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::super::names::end_of_connection;
use super::decoded;

/// The most names that are remembered; those of a log are fewer than a hundred.
const MOST: usize = 256;

/// A name that is not remembered.
const FORGOTTEN: usize = usize::MAX;

/// A member of a row, by places in its text.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Its name among the columns.
    column: usize,
    /// The name as it is written.
    written: Range<usize>,
    /// The value as it is written.
    pub(super) value: Range<usize>,
}

/// The names that members have had.
#[derive(Debug)]
pub(super) struct Columns {
    wanted: Arc<[&'static str]>,
    known: Vec<Column>,
    /// The column of the last member.
    last: usize,
}

#[derive(Debug)]
struct Column {
    written: Vec<u8>,
    is_inside_id: bool,
    name: String,
    slot: Option<usize>,
    /// The column that came behind it the last time.
    next: usize,
}

impl Columns {
    /// Names of which these are wanted, and `ts` and `_path` behind them.
    pub(super) fn new(wanted: &[&'static str]) -> Self {
        Self {
            wanted: wanted.iter().copied().chain(["ts", "_path"]).collect(),
            known: Vec::new(),
            last: FORGOTTEN,
        }
    }

    /// The number of names that are wanted.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// A row begins. Names that somebody makes without end are forgotten.
    pub(super) fn begin(&mut self) {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.last = FORGOTTEN;
    }

    /// A member of a row, or of the object `id` in it.
    pub(super) fn member(
        &mut self,
        text: &[u8],
        written: Range<usize>,
        value: Range<usize>,
        is_inside_id: bool,
    ) -> Member {
        let name = text.get(written.clone()).unwrap_or_default();
        let is_it = |column: &Column| column.written == name && column.is_inside_id == is_inside_id;
        let expected = self.known.get(self.last).map_or(0, |last| last.next);
        let column = if self.known.get(expected).is_some_and(is_it) {
            expected
        } else {
            let known = self.known.iter().position(is_it);
            known.unwrap_or_else(|| self.remember(name, is_inside_id))
        };
        if let Some(last) = self.known.get_mut(self.last) {
            last.next = column;
        }
        self.last = column;
        Member {
            column,
            written,
            value,
        }
    }

    fn remember(&mut self, written: &[u8], is_inside_id: bool) -> usize {
        if self.known.len() >= MOST {
            return FORGOTTEN;
        }
        let name = named(written, is_inside_id).into_owned();
        self.known.push(Column {
            written: written.to_owned(),
            is_inside_id,
            slot: self.wanted.iter().position(|wanted| **wanted == name),
            name,
            next: FORGOTTEN,
        });
        self.known.len() - 1
    }

    /// The name of a member; of one that is not remembered as it is written.
    pub(super) fn name<'a>(&'a self, text: &'a [u8], member: &Member) -> &'a str {
        let written = || std::str::from_utf8(text.get(member.written.clone())?).ok();
        match self.known.get(member.column) {
            Some(column) => &column.name,
            None => written().unwrap_or_default(),
        }
    }

    /// Which of the wanted names a member has.
    pub(super) fn slot(&self, text: &[u8], member: &Member) -> Option<usize> {
        if let Some(column) = self.known.get(member.column) {
            return column.slot;
        }
        let name = named(text.get(member.written.clone()).unwrap_or_default(), false);
        self.wanted.iter().position(|wanted| *wanted == name)
    }
}

/// What a name means: one of a connection's ends, whatever the separator, or what is written.
fn named(written: &[u8], is_inside_id: bool) -> Cow<'_, str> {
    let name = String::from_utf8_lossy(written);
    let name = if written.contains(&b'\\') {
        Cow::Owned(String::from_utf8_lossy(&decoded(written)).into_owned())
    } else {
        name
    };
    if is_inside_id {
        return Cow::Owned(format!("id.{name}"));
    }
    match end_of_connection(name.as_bytes()) {
        Some(end) => Cow::Borrowed(end),
        None => name,
    }
}
