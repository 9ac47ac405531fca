//! From a log to a log: rows are replayed into a node, a framework logs them, and the files hold
//! what the rows said.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use muster_cluster::Layout;
use muster_cluster::node::{
    Context, Declarations, Effect, Framework, Input, LogSink, NodeLoop, Now, Registry, Site,
    Written,
};
use muster_data::{Address, Port, Record, Timestamp};
use muster_frameworks::log_files::{count_rows, read_rows};
use muster_frameworks::log_input::SimulatedClock;
use muster_frameworks::zeek_log::LogReader;
use muster_frameworks::{
    Connection, FileSink, LogFilesConfig, LogFormat, LogInput, LogInputConfig, Share,
};
use muster_wire::{EndpointId, Incarnation, Mono};

#[derive(Record)]
struct Seen {
    ts: Timestamp,
    uid: String,
    #[record(rename = "id.orig_h")]
    orig_h: Address,
    #[record(rename = "id.resp_p")]
    resp_p: Port,
    service: Option<String>,
    conn_state: Option<String>,
}

struct Recorder;

impl Framework for Recorder {
    const NAME: &'static str = "recorder";

    fn create(_: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.stream::<Seen>("seen");
        declarations.on(Self::connection);
    }
}

impl Recorder {
    #[allow(clippy::unused_self, reason = "handlers are methods")]
    fn connection(&mut self, row: Connection, cx: &mut Context<'_>) {
        let seen = Seen {
            ts: row.ts,
            uid: row.uid,
            orig_h: row.orig_h,
            resp_p: row.resp_p,
            service: row.service,
            conn_state: row.conn_state,
        };
        cx.log("seen", &seen).unwrap();
    }
}

/// The columns of `Seen` in a log, as text; times without zeros at the end.
fn expected(path: &Path) -> Vec<BTreeMap<String, String>> {
    let names = [
        "ts",
        "uid",
        "id.orig_h",
        "id.resp_p",
        "service",
        "conn_state",
    ];
    let mut reader = LogReader::open(path, &names).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row().unwrap() {
        let field = |at: usize| Some((names[at].to_owned(), row.get(at)?.text().into_owned()));
        rows.push((0..names.len()).filter_map(field).collect());
    }
    rows
}

/// Replays a log into a node whose records go to a sink. Returns what became of each batch.
fn replay(source: &Path, mut sink: FileSink) -> Vec<Written> {
    let layout = "[[node]]\nname = \"all\"\nrole = \"manager\"\n";
    let layout = Arc::new(Layout::parse(layout, "test", &[]).unwrap());
    let mut now = Now {
        mono: Mono(0),
        wall: Timestamp::from_secs(1_000),
    };
    let registry = Registry::new().with::<Recorder>();
    let id = EndpointId::from_random([7; 16]);
    let mut node = NodeLoop::new(&layout, "all", &registry, id, Incarnation(1), now).unwrap();
    let input = LogInput::new(&LogInputConfig {
        files: vec![source.to_owned()],
        share: Share::WHOLE,
        speed: 0.0,
        follow: None,
    })
    .unwrap();
    let mut written = Vec::new();
    let mut drain = |node: &mut NodeLoop, now: Now| {
        for effect in node.take_effects() {
            if let Effect::WriteLog { batch, .. } = effect {
                written.push(sink.write(&batch, None, now.wall));
            }
        }
    };
    let summary = input.run(&SimulatedClock::new(), &AtomicBool::new(false), |batch| {
        for event in batch.events() {
            now.mono = Mono(now.mono.0 + 1);
            node.step(Input::Raise(event), now);
            drain(&mut node, now);
        }
        ControlFlow::Continue(())
    });
    node.step(Input::Stop, now);
    drain(&mut node, now);
    assert!(summary.events > 0);
    sink.tick(now.wall).unwrap();
    sink.close(now.wall).unwrap();
    written
}

fn sink(directory: &Path, format: LogFormat) -> FileSink {
    FileSink::new(LogFilesConfig {
        directory: directory.to_owned(),
        format,
        rotation: None,
        writer_name: Some("logger-1".to_owned()),
    })
    .unwrap()
}

#[test]
fn rows_come_through_a_node_as_they_were() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for name in ["echo-connections", "nmap-vsn", "wikipedia"] {
        let source = data.join(format!("{name}.conn.log"));
        let mut expected = expected(&source);
        for format in [LogFormat::Tsv, LogFormat::Json] {
            let directory = tempfile::tempdir().unwrap();
            let written = replay(&source, sink(directory.path(), format));
            let records: u64 = written.iter().map(|written| written.records).sum();
            assert_eq!(records, expected.len() as u64);
            assert!(written.iter().all(|written| written.problem.is_none()));
            let rows = expected.len() as u64;
            let counts = count_rows(directory.path()).unwrap();
            assert_eq!(counts, [("seen".to_owned(), rows)].into());
            if format == LogFormat::Json {
                for row in &mut expected {
                    let time = row.get_mut("ts").unwrap();
                    *time = time.trim_end_matches('0').to_owned();
                }
            }
            assert_eq!(read_rows(directory.path(), "seen").unwrap(), expected);
        }
    }
}

#[test]
fn a_sink_says_what_it_could_not_write() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wikipedia.conn.log");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs");
    let sink = sink(&path, LogFormat::Tsv);
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, "in the way").unwrap();
    let written = replay(&source, sink);
    assert!(!written.is_empty());
    for batch in written {
        assert!(batch.records == 0 && batch.problem.is_some());
    }
}
