//! The derive macro for typed records of Muster values.
//!
//! Use it as `muster_data::Record`, which is re-exported next to the trait of the same name.
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

/// Makes a struct with named fields a record, that is, a vector with one element per field, in
/// order.
///
/// It generates `Record`, `Encode` (directly to bytes), `Decode` (directly from bytes) and `Typed`
/// of `muster_data`. The struct may have one lifetime parameter, which its borrowed fields share.
/// The type of every field must implement the last three traits itself.
///
/// - `#[record(name = "Notice::Info")]` on the struct names the record type. Without it, the record
///   type has the name of the struct.
/// - `#[record(rename = "id.orig_h")]` on a field names the field.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    record::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
