//! Logs of a real Zeek: what it sent to a peer goes through a logger's loop into files, which hold
//! what Zeek's own writers would have written.
//!
//! `vectors/zeek_session_md.json` is a capture of Zeek 9.1, `zeek_log_write_serial_data.json` one of
//! its records with the values that it stands for. The lines here are those values in the form of
//! Zeek's writers, one rule for each column.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use muster_cluster::Layout;
use muster_cluster::node::{ByName, Effect, Input, NodeLoop, Now, Registry};
use muster_data::{DataRef, Limits, Timestamp};
use muster_frameworks::{LogFiles, LogFilesConfig, LogFormat};
use muster_wire::zeek::{LogWrite, put_log_write};
use muster_wire::{EndpointId, Incarnation, Mono};
use serde_json::Value as Json;

fn load(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// The values that Zeek sent, in order.
fn from_zeek() -> Vec<Vec<u8>> {
    let session = load("zeek_session_md.json");
    let messages = session["messages"].as_array().unwrap().iter();
    let data = messages.filter(|message| {
        message["direction"] == "broker->py" && message["decoded"]["type"] == "data"
    });
    data.map(|message| {
        let frame = unhex(message["hex"].as_str().unwrap());
        // Behind the frame's length, the two ids, type, TTL and topic.
        let topic = message["decoded"]["topic"].as_str().unwrap();
        frame[4 + 37 + topic.len()..].to_vec()
    })
    .collect()
}

/// A log_write of the record in `zeek_log_write_serial_data.json`.
fn decoded_record() -> Vec<u8> {
    let transcript = load("zeek_log_write_serial_data.json");
    let serial_data = transcript["records"][0]["serial_data_hex"]
        .as_str()
        .unwrap();
    let mut out = Vec::new();
    put_log_write(
        &mut out,
        &LogWrite {
            stream: "TT::LOG",
            writer: "Log::WRITER_ASCII",
            path: "t",
            serial_data: &unhex(serial_data),
        },
    );
    out
}

/// Files of a logger that got the session, and the record once more.
fn replay(directory: &Path, format: LogFormat) {
    let mut files = LogFiles::new(LogFilesConfig {
        directory: directory.to_owned(),
        format,
        rotation: None,
        writer_name: None,
    })
    .unwrap();
    let layout = "[[node]]\nname = \"logger\"\nrole = \"logger\"\n[[node]]\nname = \"manager\"\nrole = \"manager\"\n";
    let layout = Arc::new(Layout::parse(layout, "test", &[]).unwrap());
    let now = Now {
        mono: Mono(0),
        wall: Timestamp::from_secs(1_700_000_000),
    };
    let id = EndpointId::from_random([7; 16]);
    let registry = Registry::new();
    let mut node = NodeLoop::new(&layout, "logger", &registry, id, Incarnation(1), now).unwrap();
    let mut messages = from_zeek();
    messages.push(decoded_record());
    let mut batches = Vec::new();
    for payload in &messages {
        DataRef::parse(payload, &Limits::default()).unwrap();
        let from = EndpointId::from_random([8; 16]);
        node.step(Input::Message { from, payload }, now);
        for effect in node.take_effects() {
            if let Effect::WriteLog { batch, .. } = effect {
                batches.push((batch.stream.clone(), batch.len()));
                files.write(&batch, now.wall).unwrap();
            }
        }
    }
    let batches: Vec<_> = batches
        .iter()
        .map(|(name, len)| (name.as_str(), *len))
        .collect();
    assert_eq!(batches, [("broker", 1), ("t", 1), ("t", 2), ("t", 1)]);
    let counts = node.counts();
    assert_eq!(
        (counts.records_received, counts.records_refused.total()),
        (5, 0)
    );
    assert_eq!((counts.events_refused, counts.logs_refused), (0, 0));
    // Zeek's updates of variables, which no node has, and its events, which nobody handles.
    let named = |counts: &ByName| -> Vec<_> {
        let entries = counts.iter();
        entries
            .map(|(name, count)| format!("{name} {count}"))
            .collect()
    };
    assert_eq!(
        named(&counts.identifier_updates),
        ["TT::myconst 1", "TT::myid 1"]
    );
    assert_eq!(
        named(&counts.events_unhandled),
        ["TT::ev 1", "TT::from_py 2"]
    );
    files.close(now.wall).unwrap();
}

fn text(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

#[test]
fn tsv_is_as_zeek_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    replay(directory.path(), LogFormat::Tsv);
    let columns = [
        // name, type by the column's type and subtype in log_create, and the value by the rules of
        // Zeek's ASCII writer
        ("b", "bool", "T"),
        ("i", "int", "-5"),
        ("c", "count", "7"),
        // at most six digits, no zeros at the end
        ("d", "double", "1.5"),
        // always six digits
        ("t", "time", "1700000000.250000"),
        ("iv", "interval", "90.000000"),
        ("s", "string", "str"),
        ("e", "enum", "TT::BB"),
        // the number alone
        ("p", "port", "80"),
        ("p2", "port", "53"),
        ("p3", "port", "8"),
        ("a4", "addr", "1.2.3.4"),
        ("a6", "addr", "2001:db8::1"),
        // 104 on the wire: the length counts bits of the IPv6 form
        ("n4", "subnet", "10.0.0.0/8"),
        ("n6", "subnet", "2001:db8::/32"),
        ("ss", "set[string]", "x"),
        ("sc", "set[count]", "3"),
        ("v", "vector[string]", "p,q"),
        ("vi", "vector[interval]", "1.000000"),
        // unset
        ("opt", "string", "-"),
        // set, and without elements
        ("es", "set[string]", "(empty)"),
        // a function is its text, line ends escaped
        (
            "fn",
            "func",
            "TT::f1: function(x:count) : void\\x0a{ \\x0aprint TT::x;\\x0a}",
        ),
        ("inf", "double", "0.333333"),
        ("f", "file", "-"),
    ];
    let line = |part: fn(&(&'static str, &'static str, &'static str)) -> &'static str| {
        columns.iter().map(part).collect::<Vec<_>>().join("\t")
    };
    let expected = format!(
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tt\n\
         #open\t2023-11-14-22-13-20\n#fields\t{}\n#types\t{}\n{}#close\t2023-11-14-22-13-20\n",
        line(|column| column.0),
        line(|column| column.1),
        format!("{}\n", line(|column| column.2)).repeat(4),
    );
    assert_eq!(text(directory.path(), "t.log"), expected);
    let broker = text(directory.path(), "broker.log");
    assert_eq!(
        broker.lines().nth(8).unwrap(),
        "1795477431.952547\tBroker::STATUS\tpeer-added\t127.0.0.1\t36662\thandshake successful"
    );
}

#[test]
fn json_is_as_zeek_writes_it() {
    let directory = tempfile::tempdir().unwrap();
    replay(directory.path(), LogFormat::Json);
    // Numbers by as many digits as they need, always with a point where they are none of whole
    // numbers; times are seconds; what is not set is left out.
    let expected = concat!(
        r#"{"b":true,"i":-5,"c":7,"d":1.5,"t":1700000000.25,"iv":90.0,"s":"str","e":"TT::BB","#,
        r#""p":80,"p2":53,"p3":8,"a4":"1.2.3.4","a6":"2001:db8::1","n4":"10.0.0.0/8","#,
        r#""n6":"2001:db8::/32","ss":["x"],"sc":[3],"v":["p","q"],"vi":[1.0],"es":[],"#,
        r#""fn":"TT::f1: function(x:count) : void\n{ \nprint TT::x;\n}","inf":0.3333333333333333}"#,
        "\n"
    );
    assert_eq!(text(directory.path(), "t.log"), expected.repeat(4));
}
