//! Replays what C++ Broker's JSON encoder wrote, and what its decoder made of texts.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking")]

use muster_data::json::{self, JsonErrorKind};
use muster_data::{DataRef, Limits, encode_to_vec};

fn lines(prefix: &str) -> Vec<String> {
    let capture: serde_json::Value =
        serde_json::from_str(include_str!("vectors/json_v1.json")).unwrap();
    let lines = capture["lines"].as_array().unwrap().iter();
    lines
        .filter_map(|line| line.as_str().unwrap().strip_prefix(prefix))
        .map(str::to_owned)
        .collect()
}

/// What we write where C++ writes something else: valid JSON, and reals that read back.
const BETTER: [(&str, &str); 8] = [
    (r#""data":1.500000"#, r#""data":1.5"#),
    (r#""data":0.100000"#, r#""data":0.1"#),
    (r#""data":0.000000"#, r#""data":0.0"#),
    (r#""data":100000000000000000000.000000"#, r#""data":1e20"#),
    (r#""data":inf"#, r#""data":1e400"#),
    (r#""data":-inf"#, r#""data":-1e400"#),
    (r#""real","data":nan"#, r#""none","data":"nan""#),
    // Control characters.
    ("\\v", "\\u000b"),
];

#[test]
fn what_cpp_writes_is_read_and_written_alike() {
    let written = [lines("ENC "), lines("EVT ")].concat();
    assert_eq!(written.len(), 43);
    for text in written {
        // The capture shows a byte that is not UTF-8 as an escape, which JSON does not have.
        let mut raw = text.clone().into_bytes();
        if let Some(at) = text.find("\\xff") {
            raw.splice(at..at + 4, [0xff]);
        }
        let message = json::read_message(&raw, &Limits::default()).unwrap();
        let bytes = encode_to_vec(&message.data);
        let mut ours = Vec::new();
        let topic = message.topic.unwrap();
        json::write_message(&mut ours, topic.as_bytes(), DataRef::from_validated(&bytes));
        let mut expected = text.replace('\u{1}', "\\u0001");
        for (theirs, better) in BETTER {
            expected = expected.replace(theirs, better);
        }
        expected = expected.replace("\\xff", "\\\\xff");
        assert_eq!(String::from_utf8(ours).unwrap(), expected);
    }
}

#[test]
fn verdicts_of_cpp() {
    // We are less strict here.
    let lenient = [
        r#"{"topic":"/t","@data-type":"real","data":5}"#,
        r#"{"topic":"/t","@data-type":"count","data":1.0}"#,
        r#"{"topic":"/t","@data-type":"timestamp","data":"2022-04-10"}"#,
        r#"{"topic":"/t","@data-type":"timestamp","data":"2022-04-10 07:00:00"}"#,
        r#"{"topic":"/t","@data-type":"timespan","data":"1d"}"#,
        r#"{"topic":"/t","@data-type":"timespan","data":"5 s"}"#,
        r#"{"topic":"/t","@data-type":"enum_value","data":"X"}"#,
    ];
    // C++ takes these for another value without a word.
    let strict = [
        r#"{"topic":"/t","@data-type":"port","data":"70000/tcp"}"#,
        r#"{"topic":"/t","@data-type":"subnet","data":"10.0.0.0/64"}"#,
    ];
    let verdicts = lines("DEC ");
    assert_eq!(verdicts.len(), 51);
    for verdict in verdicts {
        let (text, theirs) = verdict.split_once("  =>  ").unwrap();
        let ours = json::read_message(text.as_bytes(), &Limits::default());
        if lenient.contains(&text) {
            assert!(ours.is_ok(), "{text}");
            continue;
        }
        if strict.contains(&text) {
            assert_eq!(ours.unwrap_err().kind(), JsonErrorKind::WrongType, "{text}");
            continue;
        }
        match theirs {
            "ERROR 37" => assert_eq!(ours.unwrap_err().kind(), JsonErrorKind::Duplicate, "{text}"),
            // A count out of range is malformed in one place of C++, of the wrong type in another.
            error if error.starts_with("ERROR") => {
                let kind = ours.unwrap_err().kind();
                let fits = kind == JsonErrorKind::WrongType
                    || (kind == JsonErrorKind::Malformed && error == "ERROR 41");
                assert!(fits, "{text}: {kind:?}");
            }
            theirs => {
                let message = ours.unwrap();
                let topic = message.topic.as_deref().unwrap_or("<$>");
                // One value has a line break, behind which the capture ends.
                let is_cut = theirs == "string é";
                assert!(
                    is_cut || theirs.ends_with(&format!("topic={topic}")),
                    "{text}"
                );
                let ours = json::to_string(DataRef::from_validated(&encode_to_vec(&message.data)));
                let theirs = theirs.split(' ').next().unwrap().replace('_', "-");
                assert!(
                    ours.contains(&format!("\"@data-type\":\"{theirs}\"")),
                    "{text}"
                );
            }
        }
    }
}
