use super::*;
use crate::{Data, DataRef, Limits, Port, Protocol, Timespan, Timestamp, encode_to_vec};

fn written(data: &Data) -> String {
    to_string(DataRef::from_validated(&encode_to_vec(data)))
}

fn read_text(text: &str) -> Result<Data, JsonError> {
    read(text.as_bytes(), &Limits::default())
}

#[test]
fn what_is_no_number_of_json() {
    let cases = [
        (f64::INFINITY, r#"{"@data-type":"real","data":1e400}"#),
        (f64::NEG_INFINITY, r#"{"@data-type":"real","data":-1e400}"#),
        (f64::NAN, r#"{"@data-type":"none","data":"nan"}"#),
    ];
    for (value, text) in cases {
        assert_eq!(written(&Data::Real(value)), text);
        assert_eq!(read_text(text), Ok(Data::Real(value)));
    }
    for text in ["inf", "-inf", "nan", "\"inf\"", "NaN", "1e999", "-Infinity"] {
        let text = format!(r#"{{"@data-type":"real","data":{text}}}"#);
        assert!(
            matches!(read_text(&text), Ok(Data::Real(value)) if !value.is_finite()),
            "{text}"
        );
    }
}

#[test]
fn reals_have_a_fraction_or_an_exponent() {
    for (value, text) in [
        (5.0, "5.0"),
        (1e20, "1e20"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e-9, "1e-9"),
    ] {
        assert_eq!(
            written(&Data::Real(value)),
            format!(r#"{{"@data-type":"real","data":{text}}}"#)
        );
    }
}

#[test]
fn strings_are_valid_json() {
    assert_eq!(
        written(&Data::string(b"a\"\\\n\t\x0b\x00\x7f\xc3\xa9\xff")),
        "{\"@data-type\":\"string\",\"data\":\"a\\\"\\\\\\n\\t\\u000b\\u0000\x7fé\\\\xff\"}"
    );
    // What C++ writes.
    let raw = b"{\"@data-type\":\"string\",\"data\":\"\\v\x01\\\\v\xff\"}";
    assert_eq!(
        read(raw, &Limits::default()),
        Ok(Data::string("\x0b\x01\\v\\xff"))
    );
}

#[test]
fn times_have_three_six_or_nine_digits() {
    let cases = [
        (0, "1970-01-01T00:00:00.000"),
        (-1, "1969-12-31T23:59:59.999999999"),
        (1_500_000, "1970-01-01T00:00:00.001500"),
        (1_000_000, "1970-01-01T00:00:00.001"),
    ];
    for (nanos, text) in cases {
        let data = Data::Timestamp(Timestamp::from_nanos(nanos));
        let text = format!(r#"{{"@data-type":"timestamp","data":"{text}"}}"#);
        assert_eq!(written(&data), text);
        assert_eq!(read_text(&text), Ok(data));
    }
    for text in [
        "1970-01-01T02:00:01+02:00",
        "1970-01-01 00:00:01",
        "1970-01-01T00:00:01Z",
        "1969-12-31T23:30:01-00:30",
    ] {
        let text = format!(r#"{{"@data-type":"timestamp","data":"{text}"}}"#);
        assert_eq!(
            read_text(&text),
            Ok(Data::Timestamp(Timestamp::from_secs(1))),
            "{text}"
        );
    }
}

#[test]
fn lenient_in_what_is_read() {
    let cases = [
        (r#"{"data":5,"@data-type":"count"}"#, Data::Count(5)),
        (
            r#"{"@data-type":"count","data":"18446744073709551615"}"#,
            Data::Count(u64::MAX),
        ),
        (
            r#"{"@data-type":"count","data":5.0,"more":[{}]}"#,
            Data::Count(5),
        ),
        (r#"{"@data-type":"real","data":5}"#, Data::Real(5.0)),
        (
            r#"{"@data-type":"enum_value","data":"A::B"}"#,
            Data::enum_value("A::B"),
        ),
        (
            r#"{"@data-type":"timespan","data":"1.5 d"}"#,
            Data::Timespan(Timespan::from_secs(129_600)),
        ),
        (
            r#"{"@data-type":"port","data":"8/foo"}"#,
            Port::new(8, Protocol::Unknown).into(),
        ),
        (
            r#"{"data":[{"data":[{"data":true,"@data-type":"boolean"}],"@data-type":"set"}],"@data-type":"vector"}"#,
            Data::from(vec![Data::set(vec![Data::Boolean(true)])]),
        ),
    ];
    for (text, data) in cases {
        assert_eq!(read_text(text), Ok(data), "{text}");
    }
}

#[test]
fn errors_name_the_place_and_the_expected_form() {
    let cases = [
        (
            r#"{"@data-type":"vector","data":[{"@data-type":"none"},{"@data-type":"table","data":[{"key":{"@data-type":"port","data":"x"}}]}]}"#,
            JsonErrorKind::WrongType,
            "data[1].data[0].key",
            "\"80/tcp\"",
        ),
        (
            r#"{"data":[{"@data-type":"count","data":-1}],"@data-type":"vector"}"#,
            JsonErrorKind::WrongType,
            "data[0]",
            "18446744073709551615",
        ),
        (
            r#"{"@data-type":"count"}"#,
            JsonErrorKind::WrongType,
            "",
            "missing data",
        ),
        (
            r#"{"data":1}"#,
            JsonErrorKind::WrongType,
            "",
            "missing @data-type",
        ),
        (
            r#"{"@data-type":"thing","data":1}"#,
            JsonErrorKind::WrongType,
            "",
            "`thing`",
        ),
        (
            r#"{"@data-type":"set","data":[{"@data-type":"none"},{"@data-type":"none"}]}"#,
            JsonErrorKind::Duplicate,
            "",
            "twice",
        ),
        ("[1]", JsonErrorKind::WrongType, "", "@data-type and data"),
        (
            r#"{"@data-type":"count","data":1}x"#,
            JsonErrorKind::Malformed,
            "",
            "trailing",
        ),
        ("", JsonErrorKind::Malformed, "", "EOF"),
    ];
    for (text, kind, path, part) in cases {
        let error = read_text(text).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert_eq!(error.path(), path, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn limits_hold() {
    let nested = |levels: usize| {
        format!(
            r#"{}{{"@data-type":"none"}}{}"#,
            r#"{"@data-type":"vector","data":["#.repeat(levels),
            "]}".repeat(levels)
        )
    };
    assert!(read_text(&nested(64)).is_ok());
    assert_eq!(
        read_text(&nested(65)).unwrap_err().kind(),
        JsonErrorKind::TooDeep
    );
    assert_eq!(
        read_text(&nested(100_000)).unwrap_err().kind(),
        JsonErrorKind::TooDeep
    );
    // Nested where nobody looks: passed over, without recursion.
    let ignored = format!(
        r#"{{"@data-type":"none","x":{}{},"data":{}{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000),
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    assert_eq!(read_text(&ignored), Ok(Data::None));
    let limits = Limits {
        elements: 2,
        bytes: 1000,
        ..Limits::default()
    };
    let many = r#"{"@data-type":"vector","data":[{"@data-type":"none"},{"@data-type":"none"},{"@data-type":"none"}]}"#;
    assert_eq!(
        read(many.as_bytes(), &limits).unwrap_err().kind(),
        JsonErrorKind::TooLarge
    );
    assert_eq!(
        read(&[b' '; 1001], &limits).unwrap_err().kind(),
        JsonErrorKind::TooLarge
    );
}

#[test]
fn messages_have_a_topic() {
    let mut out = Vec::new();
    write_message(&mut out, b"/t", DataRef::NONE);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        r#"{"type":"data-message","topic":"/t","@data-type":"none","data":{}}"#
    );
    let topic = |text: &str| read_message(text.as_bytes(), &Limits::default()).map(|m| m.topic);
    assert_eq!(topic(&text), Ok(Some("/t".to_owned())));
    assert_eq!(
        topic(r#"{"topic":{"a":[1]},"@data-type":"none"}"#),
        Ok(None)
    );
}

#[test]
fn errors_are_short_whatever_the_input() {
    let long = "x".repeat(100_000);
    for text in [
        format!("\"{long}\""),
        format!(r#"{{"@data-type":"{long}"}}"#),
        format!(r#"{{"@data-type":"count","data":"{long}"}}"#),
        format!(r#"{{"@data-type":{{"a":"{long}"}}}}"#),
        format!(r#"{{"@data-type":"table","data":["{long}"]}}"#),
    ] {
        assert!(read_text(&text).unwrap_err().to_string().len() < 1000);
    }
}
