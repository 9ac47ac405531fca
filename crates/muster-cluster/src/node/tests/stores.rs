//! Writes to stores: each has an outcome.

use muster_store::WriteFailure;
use muster_store::op::Answer;

use super::*;

const STORE: SharedStore<u64, bool> = SharedStore::new("test/numbers");

/// Writes as many numbers as it is told, and counts how the writes end.
struct Writer;

impl Framework for Writer {
    const NAME: &'static str = "writer";

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("done", "Writes that were done."),
        CounterSpec::new("too_many", "Writes that were not sent."),
    ];

    fn create(_site: &Site<'_>) -> Option<Self> {
        Some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(Self::write);
        declarations.store(&STORE);
    }
}

impl Writer {
    fn write(&mut self, row: Row, cx: &mut Context<'_>) {
        for number in 0..row.number {
            cx.store(&STORE)
                .put(&number, &true)
                .then(|_: &mut Self, cx, outcome| match outcome {
                    Ok(()) => cx.count("done", 1),
                    Err(WriteError::Failed(WriteFailure::TooMany)) => cx.count("too_many", 1),
                    Err(error) => panic!("{error}"),
                });
        }
    }
}

/// Hosts once stayed unlogged for ever: what should have been done when their writes ended was dropped.
#[test]
fn every_write_has_an_outcome_however_many_wait() {
    let registry = Registry::new().with::<Writer>();
    let mut rig = Rig::with("data-1", &registry).unwrap();
    rig.up("manager", 2);
    let mut payload = Vec::new();
    let all = 70_000;
    zeek::put_event(&mut payload, Row::NAME, Metadata::default(), |out| {
        row(all).encode(out);
    });
    rig.step(Input::Raise(&payload));
    assert_eq!(rig.node.counts().of_frameworks("too_many"), all - 65_536);
    assert!(rig.node.is_behind());
    for token in 1..=65_536 {
        let outcome = Ok(Answer::Done {
            change: 1,
            value: None,
        });
        rig.node.step(
            Input::StoreAnswer {
                token,
                outcome: &outcome,
            },
            rig.now,
        );
    }
    assert_eq!(rig.node.counts().of_frameworks("done"), 65_536);
    assert!(!rig.node.is_behind());
}
