//! Text form of values.

mod error;
mod parse;
mod write;

pub use error::{ParseError, ParseErrorKind};
pub(crate) use write::{write_data, write_enum};

/// Words that begin a value of a stated type, as in `count:5`.
const PREFIXES: [&str; 14] = [
    "bool", "count", "int", "real", "double", "string", "addr", "subnet", "port", "time",
    "interval", "enum", "set", "table",
];
