//! JSON as clients send it.

use muster_data::{Data, DataRef, Limits, encode_to_vec, json, validate};

/// The most bytes of an encoded value for a byte of JSON: the shortest objects are longer than what
/// they stand for.
const BYTES_PER_BYTE: usize = 2;

/// The most bytes of JSON for a byte of an encoded value: an empty container takes two bytes, and its
/// object some forty.
const JSON_PER_BYTE: usize = 48;

/// Limits that small inputs reach.
const TIGHT: Limits = Limits {
    depth: 3,
    elements: 16,
    bytes: 200,
};

/// Checks messages of clients, and the JSON form of the value that the bytes encode.
pub fn json(bytes: &[u8]) {
    let limits = Limits::default();
    let tight = json::read(bytes, &TIGHT);
    match json::read_message(bytes, &limits) {
        Ok(message) => {
            let encoded = encode_to_vec(&message.data);
            assert!(
                encoded.len() <= BYTES_PER_BYTE * bytes.len(),
                "{} bytes of {}",
                encoded.len(),
                bytes.len()
            );
            assert_eq!(validate(&encoded, &limits), Ok(()));
            if let Ok(tight) = tight {
                assert_eq!(tight, message.data, "limits change what is read");
            }
            round_trip(&encoded, message.topic.as_deref());
        }
        Err(error) => {
            assert!(
                tight.is_err(),
                "the wider limits refuse what the tight ones take"
            );
            assert!(error.to_string().len() < 4000 + error.path().len());
        }
    }
    // The same bytes as a value: what is written must be read.
    if let Ok(value) = DataRef::parse(bytes, &limits) {
        let mut text = Vec::new();
        json::write(&mut text, value);
        assert!(
            text.len() <= JSON_PER_BYTE * bytes.len(),
            "{} bytes of JSON for {}",
            text.len(),
            bytes.len()
        );
        assert!(std::str::from_utf8(&text).is_ok());
        // Strings that are not UTF-8 and subnets with bits below their prefix may become alike, and then
        // a set has an element twice.
        if let Err(error) = json::read(&text, &limits) {
            assert_eq!(error.kind(), json::JsonErrorKind::Duplicate, "{error}");
        }
    }
}

/// What was read is written and read again.
fn round_trip(encoded: &[u8], topic: Option<&str>) {
    let value = DataRef::from_validated(encoded);
    let mut text = Vec::new();
    json::write_message(&mut text, topic.unwrap_or_default().as_bytes(), value);
    let again = json::read_message(&text, &Limits::default());
    let again = again.expect("what is written is read");
    assert_eq!(again.topic.as_deref(), Some(topic.unwrap_or_default()));
    // One encoding for one value: what the encoding has no form for, as subnormal reals, is gone.
    let data: Data = value.to_data();
    assert_eq!(again.data, data);
}
