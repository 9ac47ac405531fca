//! What became of an input's rows is counted on the node that reads.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use muster_cluster::Layout;
use muster_cluster::node::{Input, NodeLoop, Now};
use muster_data::Timestamp;
use muster_frameworks::log_input::SimulatedClock;
use muster_frameworks::{LogInput, LogInputConfig, Share, standard};
use muster_wire::{EndpointId, Incarnation, Mono};

#[test]
fn a_node_counts_what_becomes_of_its_rows() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("conn.log");
    let times = ["0", "1521911720.1", "x", "1521911721.1", "1521911722.1"];
    let rows = times
        .map(|ts| format!("{ts}\t10.0.0.1\t1\t10.0.0.2\t80\n"))
        .concat();
    let header = "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\n";
    let other = "1521911722.1\t-\t-\t-\t-\n";
    std::fs::write(&log, format!("{header}{rows}{other}")).unwrap();
    let absent = directory.path().join("absent.log");

    let layout = "node = [{ name = \"boss\", role = \"manager\" }, { name = \"reader\", role = \"worker\", input = [\"*\"] }]";
    let registry = standard();
    let layout = Arc::new(Layout::parse(layout, "test", &registry.settings()).unwrap());
    let now = Now {
        mono: Mono(0),
        wall: Timestamp::from_secs(1_521_911_720),
    };
    let id = EndpointId::from_random([7; 16]);
    let mut node = NodeLoop::new(&layout, "reader", &registry, id, Incarnation(1), now).unwrap();
    let input = LogInput::new(&LogInputConfig {
        files: vec![log, absent],
        share: Share::WHOLE,
        speed: 0.0,
        follow: None,
    })
    .unwrap();
    let summary = input.run(&SimulatedClock::new(), &AtomicBool::new(false), |batch| {
        for event in batch.events().chain(batch.counted()) {
            node.step(Input::Raise(event), now);
        }
        ControlFlow::Continue(())
    });
    assert_eq!((summary.events, summary.out_of_line), (4, 1));
    let counted = |name: &str| node.counts().of_frameworks(name);
    let names = [
        "events",
        "out_of_line",
        "bad_rows",
        "skipped",
        "failed_files",
        "other_share",
    ];
    assert_eq!(names.map(counted), [4, 1, 1, 1, 1, 0]);
    assert_eq!((node.counts().events_refused, node.counts().panics), (0, 0));
}
