//! Records as lines of Zeek's TSV.

use std::io::Write;

use muster_cluster::node::Column;
use muster_data::{DataRef, Timestamp, ValueRef};

use super::names::time_text;
use crate::zeek_log::{escape_into, hex_into};

const UNSET: &[u8] = b"-";
const EMPTY: &[u8] = b"(empty)";

/// The header lines, as Zeek writes them.
pub(super) fn header(stream: &str, columns: &[Column], opened: Timestamp) -> Vec<u8> {
    let mut out = b"#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n\
        #unset_field\t-\n"
        .to_vec();
    out.extend_from_slice(format!("#path\t{stream}\n#open\t{}\n", time_text(opened)).as_bytes());
    out.extend_from_slice(b"#fields");
    for column in columns {
        out.push(b'\t');
        escape_into(&mut out, column.name.as_bytes(), b"");
    }
    out.extend_from_slice(b"\n#types");
    for column in columns {
        out.push(b'\t');
        escape_into(&mut out, column.zeek_type.as_bytes(), b"");
    }
    out.push(b'\n');
    out
}

/// The last line of a file that was closed in good order.
pub(super) fn footer(closed: Timestamp) -> Vec<u8> {
    format!("#close\t{}\n", time_text(closed)).into_bytes()
}

/// Appends the line of a record.
pub(super) fn line(out: &mut Vec<u8>, columns: &[Column], record: DataRef<'_>) {
    let start = out.len();
    let fields = record.as_vector().into_iter().flatten();
    for (at, field) in fields.enumerate() {
        if at > 0 {
            out.push(b'\t');
        }
        let ty = columns.get(at).map_or("", |column| &column.zeek_type);
        value(out, field, ty);
    }
    if out.get(start) == Some(&b'#') {
        // Or it would read as a header.
        let rest = out.split_off(start + 1);
        out.truncate(start);
        hex_into(out, b"#");
        out.extend_from_slice(&rest);
    }
    out.push(b'\n');
}

fn value(out: &mut Vec<u8>, field: DataRef<'_>, ty: &str) {
    let element = ty.split_once('[').map_or("", |(_, ty)| ty);
    let element = element.trim_end_matches(']');
    match field.get() {
        ValueRef::Set(set) => elements(out, set.iter(), element),
        ValueRef::Vector(vector) => elements(out, vector.iter(), element),
        _ => scalar(out, field, ty, b""),
    }
}

fn elements<'a>(out: &mut Vec<u8>, elements: impl ExactSizeIterator<Item = DataRef<'a>>, ty: &str) {
    if elements.len() == 0 {
        out.extend_from_slice(EMPTY);
    }
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        scalar(out, element, ty, b",");
    }
}

fn scalar(out: &mut Vec<u8>, field: DataRef<'_>, ty: &str, reserved: &[u8]) {
    match field.get() {
        ValueRef::None => out.extend_from_slice(UNSET),
        ValueRef::Boolean(value) => out.push(if value { b'T' } else { b'F' }),
        ValueRef::Real(value) if matches!(ty, "time" | "interval") => real_seconds(out, value),
        ValueRef::Real(value) => real(out, value),
        // Zeek writes a port's number only; the protocol is in a column of its own.
        ValueRef::Port(port) => text(out, port.number.to_string().as_bytes(), reserved),
        ValueRef::Timestamp(time) => seconds(out, time.as_nanos()),
        ValueRef::Timespan(span) => seconds(out, span.as_nanos()),
        ValueRef::String(bytes) => text(out, bytes, reserved),
        ValueRef::Enum(name) => text(out, name.as_bytes(), reserved),
        ValueRef::Count(value) => display(out, value),
        ValueRef::Integer(value) => display(out, value),
        ValueRef::Address(value) => display(out, value.to_zeek_text()),
        ValueRef::Subnet(value) => display(out, value.to_zeek_text()),
        // No column is declared so, but bytes from the network may be anything.
        ValueRef::Set(_) | ValueRef::Table(_) | ValueRef::Vector(_) => {
            text(out, field.to_string().as_bytes(), reserved);
        }
    }
}

fn text(out: &mut Vec<u8>, bytes: &[u8], reserved: &[u8]) {
    match bytes {
        [] => out.extend_from_slice(EMPTY),
        // What would read as unset or empty begins with an escape.
        [first, rest @ ..] if bytes == UNSET || bytes == EMPTY => {
            hex_into(out, &[*first]);
            out.extend_from_slice(rest);
        }
        _ => escape_into(out, bytes, reserved),
    }
}

pub(super) fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

/// A double as Zeek's ASCII writer has it: at most six digits behind the point, without zeros at the
/// end; `.0` behind what is whole to a billionth, and no point behind what is whole by rounding only.
fn real(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        return display(out, value.to_string().to_lowercase());
    }
    // Zeek leaves out the sign of a zero.
    let digits = format!("{:.6}", if value == 0.0 { 0.0 } else { value });
    display(out, digits.trim_end_matches('0').trim_end_matches('.'));
    if (value - value.round()).abs() < 1e-9 {
        out.extend_from_slice(b".0");
    }
}

/// A time or an interval that no whole number of nanoseconds is equal to, in seconds.
fn real_seconds(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        display(out, format_args!("{value:.6}"));
    } else {
        real(out, value);
    }
}

/// Times and intervals are seconds with six digits behind the point, always; the sign stays with what
/// is rounded to zero, as in Zeek.
fn seconds(out: &mut Vec<u8>, nanos: i64) {
    let micros = (nanos.unsigned_abs() + 500) / 1000;
    let sign = if nanos < 0 { "-" } else { "" };
    display(
        out,
        format_args!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000),
    );
}

#[cfg(test)]
mod tests {
    use muster_data::{Data, Timespan, encode_to_vec};

    use super::*;

    fn text_of(data: Data, ty: &str) -> String {
        let bytes = encode_to_vec(&Data::vector([data]));
        let mut out = Vec::new();
        let column = Column {
            name: "field".to_owned(),
            zeek_type: ty.to_owned(),
        };
        line(&mut out, &[column], DataRef::from_validated(&bytes));
        String::from_utf8(out)
            .unwrap()
            .trim_end_matches('\n')
            .to_owned()
    }

    #[test]
    fn values_are_written_as_zeek_does() {
        let strings = |texts: &[&str]| Data::vector(texts.iter().map(|text| Data::from(*text)));
        let cases = [
            (Data::None, "-"),
            (Data::Boolean(true), "T"),
            (Data::Boolean(false), "F"),
            (Data::Count(7), "7"),
            (Data::Integer(-7), "-7"),
            (Data::Real(1.0), "1.0"),
            (Data::Real(-1.5), "-1.5"),
            (Data::Real(0.123_456_789), "0.123457"),
            (Data::Real(1e10), "10000000000.0"),
            (Data::Real(f64::NAN), "nan"),
            (Data::Real(f64::NEG_INFINITY), "-inf"),
            (Data::Real(-0.0), "0.0"),
            (Data::Real(0.000_000_1), "0"),
            (Data::Real(-0.000_000_1), "-0"),
            // The nearest double is below the half.
            (Data::Real(0.000_000_5), "0"),
            (Data::Real(0.000_001_5), "0.000002"),
            (Data::Real(7.999_999_9), "8"),
            (Data::Real(3.0 / 128.0), "0.023438"),
            (Data::Real(1.0 / 128.0), "0.007812"),
            (Data::Real(3e9 + 0.5), "3000000000.5"),
            (Data::Real(-1e20), "-100000000000000000000.0"),
            (Data::from(""), "(empty)"),
            (Data::from("-"), "\\x2d"),
            (Data::from("--"), "--"),
            (Data::from("(empty)"), "\\x28empty)"),
            (Data::from("#close"), "\\x23close"),
            (Data::from("a\tb\\c,d\u{e9}"), "a\\x09b\\\\c,d\u{e9}"),
            (strings(&[]), "(empty)"),
            (strings(&["a,b", "-", ""]), "a\\x2cb,\\x2d,(empty)"),
            (Data::vector([Data::Count(1), Data::None]), "1,-"),
            (Data::Port(muster_data::Port::tcp(80)), "80"),
            (Data::Address("::ffff:1.2.3.4".parse().unwrap()), "1.2.3.4"),
            (Data::Address("::1.2.3.4".parse().unwrap()), "::1.2.3.4"),
            (Data::Subnet("10.0.0.0/8".parse().unwrap()), "10.0.0.0/8"),
            (
                Data::Timestamp(Timestamp::from_nanos(1_521_911_720_865_716_400)),
                "1521911720.865716",
            ),
            (Data::Timestamp(Timestamp::EPOCH), "0.000000"),
            (Data::Timespan(Timespan::from_nanos(-1_500)), "-0.000002"),
            (Data::Timespan(Timespan::from_nanos(-1)), "-0.000000"),
            (Data::Timespan(Timespan::MIN), "-9223372036.854776"),
        ];
        for (data, text) in cases {
            assert_eq!(text_of(data.clone(), ""), text, "{data}");
        }
    }

    /// As Zeek 9.1 wrote them: texts are shown whole or escaped whole, up to the next backslash, tab or
    /// separator; some characters of UTF-8 are not shown.
    #[test]
    fn texts_with_what_cannot_be_shown_are_escaped_as_zeek_does() {
        let cases: [(&[u8], &str); 12] = [
            (b"caf\xc3\xa9", "caf\u{e9}"),
            (b"\xf0\x9f\x98\x80", "\u{1f600}"),
            (b"\xc3\xa9\xff", "\\xc3\\xa9\\xff"),
            (b"\xc3\xa9\n", "\\xc3\\xa9\\x0a"),
            (b"\xc3\xa9\t\xff", "\u{e9}\\x09\\xff"),
            (b"\xff\\\xc3\xa9", "\\xff\\\\\u{e9}"),
            (b"\xc2\x85", "\\xc2\\x85"),
            (b"\x7f", "\\x7f"),
            (b"\xee\x80\x80", "\\xee\\x80\\x80"),
            (b"\xef\xbf\xbd", "\\xef\\xbf\\xbd"),
            (b"\xef\xbb\xbf", "\u{feff}"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ];
        for (bytes, text) in cases {
            assert_eq!(text_of(Data::string(bytes), "string"), text);
        }
        let set = Data::vector([Data::string(*b"\xff,\xc3\xa9")]);
        assert_eq!(text_of(set, "vector[string]"), "\\xff\\x2c\u{e9}");
    }

    #[test]
    fn seconds_that_are_no_nanoseconds_keep_the_form_of_seconds() {
        for (value, text) in [
            (-0.0, "-0.000000"),
            (0.000_307_5, "0.000307"),
            (1.0 / 128.0, "0.007812"),
            (3.0 / 128.0, "0.023438"),
            (1e10, "10000000000.000000"),
            (f64::INFINITY, "inf"),
        ] {
            for ty in ["time", "interval"] {
                assert_eq!(text_of(Data::Real(value), ty), text);
            }
            let vector = Data::vector([Data::Real(value), Data::Real(value)]);
            assert_eq!(
                text_of(vector, "vector[interval]"),
                format!("{text},{text}")
            );
        }
    }

    #[test]
    fn the_header_is_zeeks() {
        let column = |name: &str, zeek_type: &str| Column {
            name: name.into(),
            zeek_type: zeek_type.into(),
        };
        let columns = [column("ts", "time"), column("na\tme", "set[addr]")];
        let header = header("known_hosts", &columns, Timestamp::EPOCH);
        let expected = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n\
            #unset_field\t-\n#path\tknown_hosts\n#open\t1970-01-01-00-00-00\n\
            #fields\tts\tna\\x09me\n#types\ttime\tset[addr]\n";
        assert_eq!(String::from_utf8(header).unwrap(), expected);
        assert_eq!(footer(Timestamp::EPOCH), b"#close\t1970-01-01-00-00-00\n");
    }
}
