//! The reader: from a file's bytes to rows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::error::{LogError, LogErrorKind, quote};
use super::json::Object;
use super::lines::{Line, Lines};
use super::names::log_of_file;
use super::row::{Columns, Row};
use super::source::{PassOver, ReadOnly, Source, source};
use super::tsv::{Header, Taken};
use super::windows::Windows;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads one log in any of Zeek's formats: plain, gzip or zstd, TSV or JSON, told apart by their first bytes.
pub struct LogReader {
    file: Arc<str>,
    /// The log's name as far as the file's name tells it.
    stem: Arc<str>,
    wanted: Arc<[&'static str]>,
    lines: Lines<Source>,
    format: Format,
    /// Where the header is that holds for the rows to come.
    header: Range<u64>,
    /// What is to be passed over: from where, to where, and the number of the line before.
    skips: VecDeque<(u64, u64, u64)>,
    has_ended: bool,
}

/// How far a log was read: enough to go on there another time. Offsets are of bytes that are decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The header that holds for the rows behind.
    pub(crate) header: Range<u64>,
    /// The end of the last line that was read.
    pub(crate) offset: u64,
    /// That line's number.
    pub(crate) line: u64,
}

/// What the lines are.
enum Format {
    /// Not known before the first line that is neither blank nor a comment.
    Unknown,
    Tsv {
        header: Box<Header>,
        ends: Vec<usize>,
    },
    Json(Box<Object>),
}

/// What a line turned out to be.
enum Kind {
    Row,
    Nothing,
}

impl LogReader {
    /// Creates a reader of a log from any source. `name` is the file's name in errors, and tells the log unless the
    /// log states what it is. `wanted` are the columns that [`Row::get`] returns by their index.
    ///
    /// # Errors
    /// [`LogError`] of the kind [`Io`](LogErrorKind::Io) if the first bytes cannot be read.
    pub fn new(
        name: &str,
        source: impl Read + Send + 'static,
        wanted: &[&'static str],
    ) -> Result<Self, LogError> {
        let mut reader = Self::unread(name, ReadOnly(source), wanted, &Windows::default());
        match reader.lines.source_mut().get_mut().recognise() {
            Err(error) if !is_passing(&error) => Err(LogError::io(&reader.file, 0, error)),
            _ => Ok(reader),
        }
    }

    /// Creates a reader that has not touched its source.
    fn unread(
        name: &str,
        raw: impl PassOver + Send + 'static,
        wanted: &[&'static str],
        windows: &Windows,
    ) -> Self {
        Self {
            stem: log_of_file(name).into(),
            file: name.into(),
            wanted: wanted.into(),
            lines: Lines::new(source(raw, windows)),
            format: Format::Unknown,
            header: 0..0,
            skips: VecDeque::new(),
            has_ended: false,
        }
    }

    /// Creates a reader that goes on where another came to. A source that is shorter has ended.
    pub(crate) fn resumed(
        name: &str,
        raw: impl PassOver + Send + 'static,
        wanted: &[&'static str],
        place: &Place,
        windows: &Windows,
    ) -> Self {
        let Place {
            header,
            offset,
            line,
        } = place;
        let mut reader = Self::unread(name, raw, wanted, windows);
        if header.end > header.start && header.end <= *offset {
            reader.skips.push_back((0, header.start, 0));
            reader.skips.push_back((header.end, *offset, *line));
        } else {
            reader.skips.push_back((0, *offset, *line));
        }
        reader
    }

    /// How far the log was read.
    pub(crate) fn place(&self) -> Place {
        let (offset, line) = self.lines.place();
        Place {
            header: self.header.clone(),
            offset,
            line,
        }
    }

    /// Opens a log. The arguments are those of [`LogReader::new`].
    ///
    /// # Errors
    /// [`LogError`] of the kind [`Io`](LogErrorKind::Io) if the file cannot be opened, is not a file, or cannot be
    /// read.
    pub fn open(path: &Path, wanted: &[&'static str]) -> Result<Self, LogError> {
        let name = path.display().to_string();
        let failed = |error| LogError::io(&name.as_str().into(), 0, error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        Self::new(&name, file, wanted)
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the next row, or `None` at the end.
    ///
    /// # Errors
    /// An error for which [`LogError::is_row`] holds costs one row, and after one of the kind
    /// [`NotReady`](LogErrorKind::NotReady) a later call may bring a row. After any other error the log has ended.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, LogError> {
        while !self.has_ended {
            let result = match self.next_line() {
                Ok(None) => break,
                Ok(Some(Line::TooLong)) => Err(self.too_long()),
                Ok(Some(Line::Whole { is_ended })) => self.take_line(is_ended),
                Err(error) => Err(LogError::io(&self.file, self.lines.number(), error)),
            };
            match result {
                Ok(Kind::Nothing) => {}
                // Between a header and what follows is what was read before.
                Ok(Kind::Row) if !self.skips.is_empty() => {}
                Ok(Kind::Row) => return Ok(Some(self.row())),
                Err(error) => {
                    self.has_ended = !error.is_row() && error.kind() != LogErrorKind::NotReady;
                    return Err(error);
                }
            }
        }
        self.has_ended = true;
        Ok(None)
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        while let Some((from, to, number)) = self.skips.front().copied()
            && self.lines.span().1 >= from
        {
            self.pass_over(to)?;
            if !self.lines.skip_to(to, number)? {
                return Ok(None);
            }
            self.skips.pop_front();
        }
        self.lines.next()
    }

    /// Passes over what lies before an offset without reading it, if the source can.
    fn pass_over(&mut self, to: u64) -> io::Result<()> {
        let (_, offset) = self.lines.span();
        let source = self.lines.source_mut();
        let buffered = source.buffer().len();
        let Some(behind) = to.saturating_sub(offset).checked_sub(buffered as u64) else {
            return Ok(());
        };
        let passed = source.get_mut().pass_over(behind)?;
        if passed > 0 {
            source.consume(buffered);
            self.lines.passed_over(buffered as u64 + passed);
        }
        Ok(())
    }

    fn error(&self, kind: LogErrorKind, problem: impl Into<String>) -> LogError {
        LogError::new(kind, &self.file, self.lines.number(), problem)
    }

    fn too_long(&mut self) -> LogError {
        if let (Format::Unknown, FirstLine::Json) = (&self.format, first_line(self.lines.bytes())) {
            self.format = Format::Json(Box::new(Object::new(&self.wanted)));
        }
        let kind = match self.format {
            Format::Unknown => LogErrorKind::NotALog,
            _ => LogErrorKind::LineTooLong,
        };
        self.error(kind, "the line is longer than 1 MiB")
    }

    fn take_line(&mut self, is_ended: bool) -> Result<Kind, LogError> {
        if matches!(self.format, Format::Unknown) {
            self.format = match first_line(self.lines.bytes()) {
                FirstLine::Nothing => return Ok(Kind::Nothing),
                FirstLine::Tsv => Format::Tsv {
                    header: Box::default(),
                    ends: Vec::with_capacity(32),
                },
                FirstLine::Json => Format::Json(Box::new(Object::new(&self.wanted))),
                FirstLine::Other => {
                    let problem = format!(
                        "not a Zeek log: begins with {}, not with #separator or a JSON object",
                        quote(self.lines.bytes())
                    );
                    return Err(self.error(LogErrorKind::NotALog, problem));
                }
            };
        }
        let line = text_of(self.lines.bytes(), self.lines.number());
        let is_blank = match self.format {
            // Spaces may be a row of one column.
            Format::Tsv { .. } => line.is_empty(),
            Format::Json(_) | Format::Unknown => line.trim_ascii().is_empty(),
        };
        if is_blank {
            return Ok(Kind::Nothing);
        }
        let result = match &mut self.format {
            Format::Tsv { header, .. } if line.starts_with(b"#") => {
                let (start, end) = self.lines.span();
                header.take(line, &self.wanted).map(|taken| {
                    match taken {
                        Taken::Begin => self.header = start..end,
                        Taken::Part => self.header.end = end,
                        Taken::Comment => {}
                    }
                    Kind::Nothing
                })
            }
            Format::Tsv { header, ends } => match header.split(line, ends) {
                Err((LogErrorKind::ColumnCount, _)) if !is_ended => {
                    let problem = format!("ends in the middle of a row: {}", quote(line));
                    Err((LogErrorKind::Truncated, problem))
                }
                split => split.map(|()| Kind::Row),
            },
            // Where a pipe's writers take turns, or a file had a comment.
            Format::Json(_) if line.starts_with(b"#") => Ok(Kind::Nothing),
            Format::Json(object) => object.read(line).map(|()| Kind::Row),
            Format::Unknown => Ok(Kind::Nothing),
        };
        result.map_err(|(kind, problem)| self.error(kind, problem))
    }

    /// The row of the line that was read last.
    fn row(&self) -> Row<'_> {
        let number = self.lines.number();
        let line = text_of(self.lines.bytes(), number);
        let columns = match &self.format {
            Format::Tsv { header, ends } => Columns::Tsv { header, line, ends },
            Format::Json(object) => Columns::Json { object, line },
            Format::Unknown => Columns::None,
        };
        Row {
            columns,
            file: &self.file,
            stem: &self.stem,
            line: number,
        }
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("file", &self.file)
            .field("line", &self.lines.number())
            .finish_non_exhaustive()
    }
}

/// Whether an error of a source says nothing about it.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

enum FirstLine {
    /// Blank, or a comment.
    Nothing,
    Tsv,
    Json,
    Other,
}

fn first_line(line: &[u8]) -> FirstLine {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let is_header = line.starts_with(b"#separator") || line.starts_with(b"#fields\t");
    match line.trim_ascii() {
        [] => FirstLine::Nothing,
        [b'{', ..] => FirstLine::Json,
        _ if is_header => FirstLine::Tsv,
        [b'#', ..] => FirstLine::Nothing,
        _ => FirstLine::Other,
    }
}

/// A line without the byte order mark that the first may have.
fn text_of(line: &[u8], number: u64) -> &[u8] {
    match number {
        1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
        _ => line,
    }
}
