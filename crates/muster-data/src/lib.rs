//! Muster's value model: typed values, their text form, binary encoding and conversion to Rust
//! types.
//!
//! [`Data`] is an owned value, [`DataRef`] a borrowed view of an encoded one. Programs seldom need
//! either: a struct with [`#[derive(Record)]`](macro@Record) is converted to bytes and back
//! directly.
//!
//! ```
//! use muster_data::{Address, DataRef, Limits, Port, Protocol, Record, encode_to_vec};
//!
//! #[derive(Record, Debug, PartialEq)]
//! struct Scan<'a> {
//!     source: Address,
//!     port: Port,
//!     note: Option<&'a str>,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scan = Scan {
//!     source: "10.0.0.1".parse()?,
//!     port: Port::new(80, Protocol::Tcp),
//!     note: None,
//! };
//! let bytes = encode_to_vec(&scan);
//! let value = DataRef::parse(&bytes, &Limits::default())?;
//! assert_eq!(value.to_string(), "[10.0.0.1, 80/tcp, nil]");
//! assert_eq!(value.to::<Scan>()?, scan);
//! # Ok(())
//! # }
//! ```

extern crate self as muster_data;

mod address;
mod body;
mod convert;
mod cursor;
mod data;
mod data_ref;
mod decode_error;
pub mod encode;
mod enum_value;
pub mod json;
mod kind;
mod limits;
mod order;
mod port;
mod real;
mod record;
mod set;
mod subnet;
mod table;
mod text;
mod timespan;
mod timestamp;
mod types;
mod validate;

pub use address::Address;
pub use convert::{ConvertError, ConvertErrorKind, Decode, DecodeOwned, from_data};
pub use data::Data;
pub use data_ref::{
    DataRef, SetIter, SetRef, TableIter, TableRef, ValueRef, VectorIter, VectorRef,
};
pub use decode_error::{DecodeError, DecodeErrorKind};
pub use encode::{Encode, encode_to_vec, to_data};
pub use enum_value::{EnumRef, EnumValue};
pub use kind::Kind;
pub use limits::Limits;
pub use muster_derive::Record;
pub use port::{Port, Protocol};
pub use record::{FieldReader, Record};
pub use set::Set;
pub use subnet::{Subnet, SubnetError};
pub use table::Table;
pub use text::{ParseError, ParseErrorKind};
pub use timespan::Timespan;
pub use timestamp::Timestamp;
pub use types::{Field, RecordType, Type, Typed};
pub use validate::{validate, validate_first};
