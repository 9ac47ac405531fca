//! The text form: what is accepted, and what errors say.

use muster_data::{Data, Limits, ParseErrorKind, Timespan, Timestamp};

#[test]
fn accepted_besides_the_written_form() {
    let cases = [
        (" [ 1 ,2,-3 ] ", "[1, 2, -3]"),
        ("{2,1}", "{1, 2}"),
        ("{ 1->2 , 0->-1 }", "{0 -> -1, 1 -> 2}"),
        ("{ -> }", "{->}"),
        ("{}", "{}"),
        ("1.5h", "5400s"),
        ("+1e3", "1000.0"),
        ("7/?", "7/unknown"),
        ("count:5", "5"),
        ("int:5", "+5"),
        ("real:5", "5.0"),
        ("double:1e-3", "0.001"),
        ("bool:true", "T"),
        ("addr:::1", "::1"),
        ("subnet:10.0.0.0/8", "10.0.0.0/8"),
        ("port: 80/tcp", "80/tcp"),
        ("time:1.5", "1970-01-01T00:00:01.5Z"),
        ("time:2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("interval:2min", "120s"),
        ("enum:tcp", "enum:\"tcp\""),
        ("enum:Foo::BAR", "Foo::BAR"),
        ("[enum:\"a b\"]", "[enum:\"a b\"]"),
        ("string:say \"hi\" ", "\"say \\\"hi\\\" \""),
        ("string:", "\"\""),
        ("string::x", "\":x\""),
        ("fe::ab", "fe::ab"),
        ("\"\\0\\x1b\"", "\"\\x00\\x1b\""),
    ];
    for (text, written) in cases {
        assert_eq!(text.parse::<Data>().unwrap().to_string(), written, "{text}");
    }
}

#[test]
fn the_form_decides_the_type() {
    use muster_data::Kind;
    let cases = [
        ("nil", Kind::None),
        ("T", Kind::Boolean),
        ("5", Kind::Count),
        ("-0", Kind::Integer),
        ("5.0", Kind::Real),
        ("-inf", Kind::Real),
        ("\"5\"", Kind::String),
        ("fe::ab", Kind::Address),
        ("10.0.0.0/8", Kind::Subnet),
        ("80/tcp", Kind::Port),
        ("2026-01-02T03:04:05Z", Kind::Timestamp),
        ("5s", Kind::Timespan),
        ("Foo::BAR", Kind::Enum),
        ("{}", Kind::Set),
        ("{->}", Kind::Table),
        ("[]", Kind::Vector),
    ];
    for (text, kind) in cases {
        assert_eq!(
            text.parse::<Data>().map(|data| data.kind()),
            Ok(kind),
            "{text}"
        );
    }
}

#[test]
fn errors_say_where_and_what() {
    use ParseErrorKind::{Duplicate, Malformed, OutOfRange, TrailingText, UnexpectedEnd};
    let cases = [
        ("", UnexpectedEnd, 0),
        ("[1, ", UnexpectedEnd, 4),
        ("[1 2]", Malformed, 3),
        ("[1, hello]", Malformed, 4),
        ("{1 -> 2, 3}", Malformed, 10),
        ("{1, 1}", Duplicate, 0),
        ("{1 -> 1, 1 -> 2}", Duplicate, 0),
        ("5 6", TrailingText, 2),
        ("18446744073709551616", OutOfRange, 0),
        ("-9223372036854775809", OutOfRange, 0),
        ("1e999", OutOfRange, 0),
        ("10.0.0.0/33", OutOfRange, 0),
        ("1.2.3.4.5", Malformed, 0),
        ("[99999/tcp]", OutOfRange, 1),
        ("\"abc", UnexpectedEnd, 4),
        ("\"\\q\"", Malformed, 1),
        ("\"\\xé\"", Malformed, 1),
        ("5parsecs", Malformed, 0),
        ("count:-5", Malformed, 6),
        ("enum:", UnexpectedEnd, 5),
        ("subnet:::/129", OutOfRange, 7),
        ("1e", Malformed, 0),
        ("-", Malformed, 0),
        ("->", Malformed, 0),
        ("]", Malformed, 0),
    ];
    for (text, kind, offset) in cases {
        let error = text.parse::<Data>().unwrap_err();
        assert_eq!(
            (error.kind(), error.offset()),
            (kind, offset),
            "{text}: {error}"
        );
        assert!(!error.expected().is_empty());
    }
    let error = "[1, hello]".parse::<Data>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "at byte 4: found `hello`, expected a value; text goes in quotes (\"text\"), an enum name \
         after enum:"
    );
}

#[test]
fn limits_hold() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(nested(64).parse::<Data>().is_ok());
    let error = nested(65).parse::<Data>().unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::TooDeep);
    let error = nested(200_000).parse::<Data>().unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::TooDeep);
    let limits = Limits {
        elements: 3,
        bytes: 100,
        ..Limits::default()
    };
    assert!(Data::parse_text("[1, [2]]", &limits).is_ok());
    let error = Data::parse_text("[1, [2, 3]]", &limits).unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::TooLarge);
    let error = Data::parse_text(&" ".repeat(101), &limits).unwrap_err();
    assert_eq!(error.kind(), ParseErrorKind::TooLarge);
}

#[test]
fn leaves_convert() {
    assert_eq!("1h".parse::<Data>(), Ok(Timespan::from_secs(3600).into()));
    assert_eq!("time:0".parse::<Data>(), Ok(Timestamp::EPOCH.into()));
}
