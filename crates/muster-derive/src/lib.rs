//! Derive macro for typed records of Muster values.
//!
//! Use it as `muster_data::Record`, which re-exports it next to the trait of the same name.
//!
//! # Example
//!
//! ```
//! use muster_data::{Record, to_data};
//!
//! #[derive(Record)]
//! #[record(name = "Scan::attempt")]
//! struct Attempt<'a> {
//!     #[record(rename = "id.resp_p")]
//!     port: u64,
//!     note: Option<&'a str>,
//! }
//!
//! assert_eq!(Attempt::NAME, "Scan::attempt");
//! assert_eq!(Attempt::FIELDS, ["id.resp_p", "note"]);
//! let value = to_data(&Attempt { port: 22, note: None });
//! assert_eq!(value.to_string(), "[22, nil]");
//! ```

mod attributes;
mod record;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct with named fields a record: a vector with one element per field, in order.
///
/// Generates `Record`, `Encode` (straight to bytes), `Decode` (straight from bytes) and `Typed` of
/// `muster_data`. The struct may have one lifetime parameter, which its borrowed fields share; every
/// field's type has to implement the three traits itself.
///
/// - `#[record(name = "Notice::Info")]` on the struct names the record type; otherwise it has the name
///   of the struct.
/// - `#[record(rename = "id.orig_h")]` on a field names the field.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    record::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
