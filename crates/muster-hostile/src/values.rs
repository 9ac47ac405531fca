//! Values, encoded and as text.

use std::collections::BTreeMap;

use muster_data::{Address, Data, DataRef, Limits, Port, ValueRef, encode_to_vec, validate};

/// Limits that small inputs reach.
const TIGHT: Limits = Limits {
    depth: 3,
    elements: 16,
    bytes: 64,
};

/// The most characters of text for a byte of a value: a byte of a string that has to be escaped.
const TEXT_PER_BYTE: usize = 16;

/// The most bytes of a value for a character of text: `1` is a count of nine bytes.
const BYTES_PER_CHARACTER: usize = 18;

/// Checks the binary encoding: validation, the borrowed form, the owned form, and encoding again.
pub fn values(bytes: &[u8]) {
    let limits = Limits::default();
    let verdict = validate(bytes, &limits);
    if validate(bytes, &TIGHT).is_ok() {
        assert!(
            verdict.is_ok(),
            "the wider limits refuse what the tight ones take"
        );
    }
    // Accessors must not depend on the check for their own safety.
    unchecked(DataRef::from_validated(bytes));
    let parsed = DataRef::parse(bytes, &limits);
    let owned = Data::from_bytes(bytes, &limits);
    if let Err(error) = verdict {
        assert!(error.offset() <= bytes.len());
        assert_eq!(parsed, Err(error));
        assert_eq!(owned, Err(error));
        return;
    }
    let value = parsed.expect("valid");
    let data = owned.expect("valid");
    assert_eq!(value.to_data(), data);
    assert_eq!(value.kind(), data.kind());

    let encoded = encode_to_vec(&data);
    assert!(
        encoded.len() <= bytes.len(),
        "no form is longer than another"
    );
    let again = DataRef::parse(&encoded, &limits).expect("what is written is valid");
    assert_eq!(again.to_data(), data);
    assert_eq!(encode_to_vec(&again.to_data()), encoded);
    typed(value);

    let text = value.to_string();
    assert!(
        text.len() <= TEXT_PER_BYTE * bytes.len() + 32,
        "{} characters for {} bytes",
        text.len(),
        bytes.len()
    );
    assert_eq!(text, data.to_string());
    assert_eq!(Data::parse_text(&text, &limits), Ok(data), "{text}");
}

/// Everything that can be asked of bytes that nobody has checked.
fn unchecked(value: DataRef<'_>) {
    let _ = (
        value.kind(),
        value.is_none(),
        value.as_str(),
        value.as_bytes(),
    );
    let visited = match value.get() {
        ValueRef::Vector(vector) => vector.iter().count(),
        ValueRef::Set(set) => set.iter().count(),
        ValueRef::Table(table) => table.iter().count(),
        _ => 0,
    };
    assert!(visited <= value.bytes().len() + 1);
    let data = value.to_data();
    let _ = encode_to_vec(&data);
    let _ = value.to_string();
    typed(value);
}

/// Conversions into Rust's types.
fn typed(value: DataRef<'_>) {
    let _ = value.to::<Vec<u64>>();
    let _ = value.to::<(Option<String>, f64)>();
    let _ = value.to::<BTreeMap<Port, Vec<Address>>>();
    let _ = value.to::<Data>();
}

/// Checks the text form of values.
pub fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let limits = Limits::default();
    let tight = Data::parse_text(text, &TIGHT);
    match Data::parse_text(text, &limits) {
        Ok(data) => {
            let encoded = encode_to_vec(&data);
            assert!(encoded.len() <= BYTES_PER_CHARACTER * text.len());
            assert_eq!(validate(&encoded, &limits), Ok(()));
            let written = data.to_string();
            assert_eq!(Data::parse_text(&written, &limits), Ok(data), "{written}");
        }
        Err(error) => {
            assert!(
                tight.is_err(),
                "the wider limits refuse what the tight ones take"
            );
            assert!(error.offset() <= text.len());
            assert!(error.to_string().len() < 1000);
        }
    }
}
