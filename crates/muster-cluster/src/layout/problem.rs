//! The problems of a layout, each with its place and, if there is one, its remedy.

use std::fmt;

/// One thing that is wrong with a layout file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutProblem {
    /// The file as the caller named it.
    pub file: String,
    /// The line, counted from 1; 1 where the file as a whole is at fault.
    pub line: usize,
    /// The kind of problem, for callers and tests.
    pub kind: LayoutProblemKind,
    /// What is wrong, one line.
    pub message: String,
    /// What to do about it, one line.
    pub remedy: Option<String>,
}

/// The kinds of [`LayoutProblem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayoutProblemKind {
    /// The file is larger than 1 MiB, or has more than 4096 nodes.
    TooLarge,
    /// The text is not TOML.
    Syntax,
    /// A key that the schema does not know.
    UnknownKey,
    /// A key that must be there and is not, or a cluster without a manager.
    Missing,
    /// A value of the wrong type, or outside its bounds.
    BadValue,
    /// Two things with the same name, or with the same address and port.
    Duplicate,
    /// A reference to a box, pool or node that is not declared.
    UnknownName,
    /// A topic that is a prefix of another's.
    TopicClash,
    /// A pool that the nodes of the layout cannot fill.
    Pool,
    /// Valid, but not supported yet, or a key that does not go with the node's role.
    Unsupported,
}

impl fmt::Display for LayoutProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\nhint: {remedy}")?;
        }
        Ok(())
    }
}

/// All problems of a layout, in the order of their lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutError {
    problems: Vec<LayoutProblem>,
}

impl LayoutError {
    /// The problems, at least one.
    pub fn problems(&self) -> &[LayoutProblem] {
        &self.problems
    }
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for LayoutError {}

/// Collects problems; knows how byte offsets map to lines.
pub(super) struct Problems {
    file: String,
    line_starts: Vec<usize>,
    found: Vec<LayoutProblem>,
}

impl Problems {
    /// More problems than this are not collected: nobody reads them, and a hostile file must not
    /// cost memory.
    const MOST: usize = 1000;

    pub(super) fn new(file: &str, text: &str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(
                text.bytes()
                    .enumerate()
                    .filter(|(_, byte)| *byte == b'\n')
                    .map(|(at, _)| at + 1),
            )
            .collect();
        Self {
            file: file.to_owned(),
            line_starts,
            found: Vec::new(),
        }
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.line_starts
            .partition_point(|&start| start <= offset)
            .max(1)
    }

    /// Whether more problems would not be kept: the search for the nearest word is then not worth
    /// its time.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= Self::MOST
    }

    pub(super) fn add(&mut self, line: usize, kind: LayoutProblemKind, message: impl Into<String>) {
        self.push(line, kind, message.into(), None);
    }

    pub(super) fn add_with(
        &mut self,
        line: usize,
        kind: LayoutProblemKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(line, kind, message.into(), Some(remedy.into()));
    }

    fn push(
        &mut self,
        line: usize,
        kind: LayoutProblemKind,
        message: String,
        remedy: Option<String>,
    ) {
        if !self.is_full() {
            let file = self.file.clone();
            self.found.push(LayoutProblem {
                file,
                line,
                kind,
                message,
                remedy,
            });
        }
    }

    /// The value, unless there were problems.
    pub(super) fn finish<T>(self, value: T) -> Result<T, LayoutError> {
        if self.found.is_empty() {
            Ok(value)
        } else {
            Err(self.into_error())
        }
    }

    /// The problems found so far, at least one.
    pub(super) fn into_error(mut self) -> LayoutError {
        self.found.sort_by_key(|problem| problem.line);
        LayoutError {
            problems: self.found,
        }
    }
}
