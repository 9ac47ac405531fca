//! Zeek's logs as they are: TSV or JSON, plain or compressed by gzip or zstd, whole or damaged.
//!
//! [`LogReader`] recognises the format and yields rows. A [`Row`] gives access to the columns that were asked for, and
//! [`ConnectionReader`] makes a [`Connection`] of each row that describes one. Nothing here keeps more than a line of
//! the file in memory.
//!
//! A bad row costs only that row: it is an error for which [`LogError::is_row`] holds, and the next call goes on after
//! it. A wrong header or a damaged file ends the reading, after everything before it has been read.
//!
//! ```
//! use muster_frameworks::zeek_log::LogReader;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let log = b"#separator \\x09\n#path\tconn\n#fields\tts\thistory\n1.500000\tSh\\x2d\n".as_slice();
//! let mut reader = LogReader::new("conn.log", log, &["history"])?;
//! let row = reader.next_row()?.ok_or("a row")?;
//! assert_eq!(row.path(), "conn");
//! assert_eq!(row.get(0).ok_or("set")?.text(), "Sh-");
//! assert!(reader.next_row()?.is_none());
//! # Ok(())
//! # }
//! ```

mod beginning;
mod connection;
mod error;
mod escape;
mod field;
mod json;
mod lines;
mod names;
mod reader;
mod row;
mod rules;
mod software;
mod source;
#[cfg(test)]
mod tests;
mod time;
mod tsv;
mod windows;

pub use connection::{Connection, ConnectionReader, ConnectionRef};
pub use error::{LogError, LogErrorKind};
pub use field::Field;
pub use lines::LONGEST_LINE;
pub use reader::LogReader;
pub use row::Row;
pub use software::{NamedSoftware, NamedSoftwareRef};

pub(crate) use beginning::{Beginning, beginning};
pub(crate) use escape::{escape_into, hex_into, or_escaped};
pub(crate) use reader::Place;
pub(crate) use rules::is_of_protocol;
pub(crate) use source::{PassOver, ReadOnly};
pub(crate) use windows::Windows;
