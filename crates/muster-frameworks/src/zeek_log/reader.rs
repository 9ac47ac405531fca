//! The reader: from a file's bytes to rows.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::error::{LogError, LogErrorKind, quote};
use super::field::Field;
use super::json::{self, Members};
use super::lines::{Line, Lines};
use super::tsv::Header;

/// Bytes that are read at a time, compressed and not.
const BUFFER: usize = 64 << 10;

/// The first bytes of what gzip has compressed.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads one log in any of Zeek's formats: gzip or plain, TSV or JSON, told apart by their first bytes.
pub struct LogReader {
    file: Arc<str>,
    /// The log's name as far as the file's name tells it.
    stem: Arc<str>,
    wanted: Arc<[&'static str]>,
    lines: Lines<Box<dyn BufRead + Send>>,
    format: Format,
    has_ended: bool,
}

/// What the lines are.
enum Format {
    /// Not known before the first line that is not blank.
    Unknown,
    Tsv {
        header: Box<Header>,
        ends: Vec<usize>,
    },
    Json,
}

/// What a line turned out to be.
enum Kind {
    Row,
    Nothing,
}

impl LogReader {
    /// Creates a reader of a log from any source. `name` is the file's name in errors, and its part before the first
    /// dot (or a date) is the log's name unless the log states one. `wanted` are the columns that [`Row::get`] returns
    /// by their index.
    ///
    /// # Errors
    /// [`LogError`] of the kind [`Io`](LogErrorKind::Io) if the first bytes cannot be read.
    pub fn new(
        name: &str,
        source: impl Read + Send + 'static,
        wanted: &[&'static str],
    ) -> Result<Self, LogError> {
        let file: Arc<str> = name.into();
        let stem = stem(name);
        let source = detect(source).map_err(|error| LogError::io(&file, 0, error))?;
        Ok(Self {
            stem: stem.into(),
            file,
            wanted: wanted.into(),
            lines: Lines::new(source),
            format: Format::Unknown,
            has_ended: false,
        })
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
    /// An error for which [`LogError::is_row`] holds costs one row. After any other error the log has ended.
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>, LogError> {
        while !self.has_ended {
            let result = match self.lines.next() {
                Ok(None) => break,
                Ok(Some(Line::TooLong)) => Err(self.too_long()),
                Ok(Some(Line::Whole { is_ended })) => self.take_line(is_ended),
                Err(error) => Err(LogError::io(&self.file, self.lines.number(), error)),
            };
            match result {
                Ok(Kind::Nothing) => {}
                Ok(Kind::Row) => return self.row().map(Some),
                Err(error) => {
                    self.has_ended = !error.is_row();
                    return Err(error);
                }
            }
        }
        self.has_ended = true;
        Ok(None)
    }

    fn error(&self, kind: LogErrorKind, problem: impl Into<String>) -> LogError {
        LogError::new(kind, &self.file, self.lines.number(), problem)
    }

    fn too_long(&self) -> LogError {
        let kind = match self.format {
            Format::Unknown => LogErrorKind::NotALog,
            _ => LogErrorKind::LineTooLong,
        };
        self.error(kind, "the line is longer than 1 MiB")
    }

    fn take_line(&mut self, is_ended: bool) -> Result<Kind, LogError> {
        if matches!(self.format, Format::Unknown) {
            self.format = match first_line(self.lines.bytes()) {
                FirstLine::Blank => return Ok(Kind::Nothing),
                FirstLine::Tsv => Format::Tsv {
                    header: Box::default(),
                    ends: Vec::with_capacity(32),
                },
                FirstLine::Json => Format::Json,
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
            Format::Json | Format::Unknown => line.trim_ascii().is_empty(),
        };
        if is_blank {
            return Ok(Kind::Nothing);
        }
        let result = match &mut self.format {
            Format::Tsv { header, .. } if line.starts_with(b"#") => {
                header.take(line, &self.wanted).map(|()| Kind::Nothing)
            }
            Format::Tsv { .. } if !is_ended => {
                let problem = format!("ends in the middle of a row: {}", quote(line));
                Err((LogErrorKind::Truncated, problem))
            }
            Format::Tsv { header, ends } => header.split(line, ends).map(|()| Kind::Row),
            Format::Json | Format::Unknown => Ok(Kind::Row),
        };
        result.map_err(|(kind, problem)| self.error(kind, problem))
    }

    /// The row of the line that was read last.
    fn row(&mut self) -> Result<Row<'_>, LogError> {
        let number = self.lines.number();
        let line = text_of(self.lines.bytes(), number);
        let columns = match &self.format {
            Format::Tsv { header, ends } => Columns::Tsv { header, line, ends },
            Format::Json | Format::Unknown => match json::read(line) {
                Ok(members) => Columns::Json(members),
                Err((kind, problem)) => {
                    return Err(LogError::new(kind, &self.file, number, problem));
                }
            },
        };
        Ok(Row {
            columns,
            wanted: &self.wanted,
            file: &self.file,
            stem: &self.stem,
            line: number,
        })
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

/// The source, decompressed if it is gzip's.
fn detect(source: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    // A reader may yield less than two bytes at first; a log that short is no log.
    let is_gzip = loop {
        match source.fill_buf() {
            Ok(first) => break first.starts_with(&GZIP_MAGIC),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    Ok(if is_gzip {
        let decoder = MultiGzDecoder::new(source);
        Box::new(BufReader::with_capacity(BUFFER, decoder))
    } else {
        Box::new(source)
    })
}

/// The log that a file's name tells: what comes before the first dot, or before a dash and the date
/// that Zeek puts behind the name of a rotated log.
fn stem(name: &str) -> &str {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = base.split('.').next().unwrap_or(base);
    let mut dashes = stem.match_indices('-').map(|(at, _)| at);
    let date = dashes.find(|at| matches!(stem.as_bytes().get(at + 1), Some(b'0'..=b'9')));
    &stem[..date.unwrap_or(stem.len())]
}

enum FirstLine {
    Blank,
    Tsv,
    Json,
    Other,
}

fn first_line(line: &[u8]) -> FirstLine {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    match line.trim_ascii() {
        [] => FirstLine::Blank,
        [b'{', ..] => FirstLine::Json,
        _ if line.starts_with(b"#separator") => FirstLine::Tsv,
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

/// One row of a log.
#[derive(Debug)]
pub struct Row<'a> {
    columns: Columns<'a>,
    wanted: &'a [&'static str],
    file: &'a Arc<str>,
    stem: &'a str,
    line: u64,
}

#[derive(Debug)]
enum Columns<'a> {
    Tsv {
        header: &'a Header,
        line: &'a [u8],
        ends: &'a [usize],
    },
    Json(Members<'a>),
}

impl<'a> Row<'a> {
    /// The name of the log, such as `conn`: what TSV's `#path` or JSON's `_path` says, or else the part of the file's
    /// name before the first dot.
    pub fn path(&self) -> &'a str {
        let own = match &self.columns {
            Columns::Tsv { header, .. } => header.path(),
            Columns::Json(members) => member(members, "_path")
                .and_then(|value| value.strip_prefix('"')?.strip_suffix('"')),
        };
        own.unwrap_or(self.stem)
    }

    /// The number of the row's line, counted from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Returns the value of a wanted column, by its index in what was given to [`LogReader::new`], or `None` if it is
    /// not set or the log has no such column.
    pub fn get(&self, wanted: usize) -> Option<Field<'a>> {
        match &self.columns {
            Columns::Tsv { header, line, ends } => header.field(line, ends, header.column(wanted)?),
            Columns::Json(members) => member(members, self.wanted.get(wanted)?).map(Field::json),
        }
    }

    /// Returns the names and values of all columns that are set, in the log's order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Field<'a>)> {
        let count = match &self.columns {
            Columns::Tsv { header, .. } => header.fields().len(),
            Columns::Json(members) => members.len(),
        };
        (0..count).filter_map(|column| match &self.columns {
            Columns::Tsv { header, line, ends } => {
                let name = header.fields().get(column)?;
                Some((name.as_str(), header.field(line, ends, column)?))
            }
            Columns::Json(members) => {
                let (name, value) = members.get(column)?;
                Some((&**name, Field::json(value)))
            }
        })
    }

    /// An error that says what is wrong with this row.
    pub(super) fn error(&self, problem: impl Into<String>) -> LogError {
        LogError::new(LogErrorKind::Value, self.file, self.line, problem)
    }
}

/// The last member of a name.
fn member<'a>(members: &Members<'a>, name: &str) -> Option<&'a str> {
    let mut from_behind = members.iter().rev();
    from_behind
        .find(|(member, _)| member == name)
        .map(|(_, value)| *value)
}
