//! Records as JSON, one object a line, as Zeek's JSON writer does it: times are seconds since the
//! epoch, what is not set is left out.

use muster_cluster::node::Column;
use muster_data::{DataRef, ValueRef};

use super::tsv::display;
use crate::zeek_log::or_escaped;

/// Appends the line of a record.
pub(super) fn line(out: &mut Vec<u8>, columns: &[Column], record: DataRef<'_>) {
    let fields = record.as_vector().into_iter().flatten();
    let set = columns
        .iter()
        .zip(fields)
        .filter(|(_, field)| !field.is_none());
    out.push(b'{');
    for (at, (column, field)) in set.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(out, column.name.as_bytes());
        out.push(b':');
        value(out, field);
    }
    out.extend_from_slice(b"}\n");
}

fn value(out: &mut Vec<u8>, field: DataRef<'_>) {
    match field.get() {
        ValueRef::Boolean(value) => display(out, value),
        ValueRef::Count(value) => display(out, value),
        ValueRef::Integer(value) => display(out, value),
        ValueRef::Real(value) if value.is_finite() => real(out, value),
        // JSON has no infinities; Zeek writes null as well.
        ValueRef::None | ValueRef::Real(_) => out.extend_from_slice(b"null"),
        ValueRef::Port(port) => display(out, port.number),
        ValueRef::Timestamp(time) => real(out, time.as_secs_f64()),
        ValueRef::Timespan(span) => real(out, span.as_secs_f64()),
        ValueRef::String(bytes) => string(out, bytes),
        ValueRef::Enum(name) => string(out, name.as_bytes()),
        ValueRef::Address(value) => string(out, value.to_zeek_text().as_bytes()),
        ValueRef::Subnet(value) => string(out, value.to_zeek_text().as_bytes()),
        ValueRef::Set(set) => elements(out, set.iter()),
        ValueRef::Vector(vector) => elements(out, vector.iter()),
        // No column is declared so, but bytes from the network may be anything.
        ValueRef::Table(_) => string(out, field.to_string().as_bytes()),
    }
}

fn elements<'a>(out: &mut Vec<u8>, elements: impl Iterator<Item = DataRef<'a>>) {
    out.push(b'[');
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        value(out, element);
    }
    out.push(b']');
}

/// A number by the digits that tell it from every other double, as Zeek's JSON writer (RapidJSON's)
/// has it: with a point, or with an exponent below a millionth and from 10^21 on.
fn real(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        display(out, format_args!("{value:e}"));
    } else if value.fract() == 0.0 {
        display(out, format_args!("{value}.0"));
    } else {
        display(out, value);
    }
}

/// A string. One that cannot be shown has the text `\xNN` for each byte that is no printable ASCII, as
/// in Zeek; of control characters these five are let through, which JSON has escapes for.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut shown = Vec::with_capacity(bytes.len());
    or_escaped(&mut shown, bytes, b"\x08\x0c\n\r\t");
    out.push(b'"');
    for byte in shown {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            other => out.push(other),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use muster_data::{Data, Timespan, Timestamp, encode_to_vec};

    use super::*;

    #[test]
    fn values_are_written_as_zeek_does() {
        let values = [
            (
                "ts",
                Data::Timestamp(Timestamp::from_nanos(1_521_911_720_865_700_000)),
            ),
            ("host", Data::Address("::1".parse().unwrap())),
            ("unset", Data::None),
            ("port", Data::Port(muster_data::Port::udp(53))),
            ("span", Data::Timespan(Timespan::from_secs(-3))),
            ("real", Data::Real(0.1)),
            ("big", Data::Count(u64::MAX)),
            ("nan", Data::Real(f64::NAN)),
            ("set", Data::vector([Data::Boolean(true), Data::None])),
            (
                "bytes",
                Data::String(b"\"a\\\n\xff\x1f\x08\xc3\xa9"[..].into()),
            ),
            ("text", Data::String(b"\n\t\x08\xc3\xa9"[..].into())),
            ("span2", Data::Timespan(Timespan::from_nanos(215_054))),
            ("span3", Data::Timespan(Timespan::from_nanos(15))),
            (
                "large",
                Data::vector([Data::Real(1e20), Data::Real(1.5e21), Data::Real(-0.0)]),
            ),
        ];
        let columns = values.each_ref().map(|(name, _)| Column {
            name: (*name).to_owned(),
            zeek_type: String::new(),
        });
        let record = encode_to_vec(&Data::vector(values.map(|(_, value)| value)));
        let mut out = Vec::new();
        line(&mut out, &columns, DataRef::from_validated(&record));
        let expected = r#"{"ts":1521911720.8657,"host":"::1","port":53,"span":-3.0,"real":0.1,"big":18446744073709551615,"nan":null,"set":[true,null],"bytes":"\"a\\\n\\xff\\x1f\b\\xc3\\xa9","text":"\n\t\bé","span2":0.000215054,"span3":1.5e-8,"large":[100000000000000000000.0,1.5e21,-0.0]}"#;
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, format!("{expected}\n"));
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}
