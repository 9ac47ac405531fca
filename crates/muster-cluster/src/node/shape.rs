//! What was declared and what was found, beside one another, for whoever has to find the difference.

use std::fmt::Write;

use muster_data::{DataRef, Type};

/// The fields that are listed. Of more only their number is told.
const MOST: usize = 24;

/// Returns the fields of a declared record, as `(host: addr, name: string &optional)`.
pub(super) fn declared(ty: &Type) -> String {
    let Type::Record(record) = ty else {
        return ty.to_string();
    };
    let fields = record.fields.iter();
    list(fields.map(|field| format!("{}: {}", field.name, field.ty)))
}

/// Returns the kinds of the elements of a value, as `(addr, none)`.
pub(super) fn found(value: DataRef<'_>) -> String {
    match value.as_vector() {
        Some(elements) => list(elements.iter().map(|element| element.kind().to_string())),
        None => value.kind().to_string(),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = "(".to_owned();
    let mut more = 0;
    for (number, item) in items.enumerate() {
        if number >= MOST {
            more += 1;
            continue;
        }
        let separator = if number == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{item}");
    }
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use muster_data::{Data, encode_to_vec};

    use super::*;

    #[test]
    fn long_values_are_cut() {
        let value = Data::vector((0..30).map(Data::Count));
        let encoded = encode_to_vec(&value);
        let text = found(DataRef::from_validated(&encoded));
        assert!(
            text.starts_with("(count, count, ") && text.ends_with(" and 6 more)"),
            "{text}"
        );
    }
}
