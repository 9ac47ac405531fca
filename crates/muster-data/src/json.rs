//! The JSON encoding of values, as Broker and Zeek's WebSocket API use it.
//!
//! A value is an object with its type and its content, `{"@data-type":"count","data":5}`. A message
//! has a topic as well. The output is always valid JSON that Broker and Zeek can read:
//!
//! | value | is written as | where C++ writes |
//! | --- | --- | --- |
//! | real | the shortest number that reads back exactly, with fraction or exponent | six decimals |
//! | infinities | `1e400` and `-1e400`, which readers round to infinity | `inf`, which is not JSON |
//! | NaN | type `none` with the content `"nan"`: C++ reads none, this crate reads NaN | `nan`, which is not JSON |
//! | string | control characters as escapes, bytes that are not UTF-8 as the text `\xff` as in Zeek's logs | raw bytes |
//! | time | UTC without a zone, with 3, 6 or 9 digits of the second's fraction | 3 digits, the rest cut off |
//!
//! Everything can be read back unchanged, except for strings and names that are not UTF-8 and
//! subnets with bits below their prefix.
//!
//! Input may be less strict: keys in any order and unknown ones among them, `5` for a real, numbers
//! in quotes (JavaScript has no 64-bit integers), times with a zone, with a blank or without a time
//! of day, intervals in days, and what C++ writes although it is not JSON: `inf`, `nan`, `\v`, raw
//! control characters and bytes that are not UTF-8.
//!
//! ```
//! use muster_data::{Data, Limits, encode_to_vec, DataRef, json};
//!
//! # fn main() -> Result<(), json::JsonError> {
//! let bytes = encode_to_vec(&Data::from(vec![Data::Count(5), Data::Real(0.5)]));
//! let text = json::to_string(DataRef::from_validated(&bytes));
//! assert_eq!(
//!     text,
//!     r#"{"@data-type":"vector","data":[{"@data-type":"count","data":5},{"@data-type":"real","data":0.5}]}"#
//! );
//! let data = json::read(text.as_bytes(), &Limits::default())?;
//! assert_eq!(data.to_string(), "[5, 0.5]");
//! # Ok(())
//! # }
//! ```

mod error;
mod read;
mod repair;
mod scalar;
#[cfg(test)]
mod tests;
mod write;

pub use error::{JsonError, JsonErrorKind};
pub use read::{Message, read, read_message};
pub use write::{to_string, write, write_message, write_string};
