//! What a node counts of its log input.

use muster_cluster::SettingSpec;
use muster_cluster::node::{Context, CounterSpec, Declarations, Framework, Site};
use muster_data::Record;
use muster_wire::zeek::{Metadata, put_event};

use super::summary::InputSummary;

/// What became of some rows of an input: an event that an input raises on its own node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Record)]
#[record(name = "Muster::input_counted")]
pub(super) struct InputCounted {
    pub(super) events: u64,
    pub(super) skipped: u64,
    pub(super) other_share: u64,
    pub(super) bad_rows: u64,
    pub(super) out_of_line: u64,
    pub(super) failed_files: u64,
    pub(super) begun_anew: u64,
}

impl InputCounted {
    pub(super) fn of(summary: &InputSummary) -> Self {
        Self {
            events: summary.events,
            skipped: summary.skipped,
            other_share: summary.other_share,
            bad_rows: summary.bad_rows,
            out_of_line: summary.out_of_line,
            failed_files: summary.failed_files,
            begun_anew: summary.begun_anew,
        }
    }

    /// The event for what was counted since `before`; `None` if nothing was.
    pub(super) fn since(self, before: Self) -> Option<Vec<u8>> {
        if self == before {
            return None;
        }
        let growth = Self {
            events: self.events - before.events,
            skipped: self.skipped - before.skipped,
            other_share: self.other_share - before.other_share,
            bad_rows: self.bad_rows - before.bad_rows,
            out_of_line: self.out_of_line - before.out_of_line,
            failed_files: self.failed_files - before.failed_files,
            begun_anew: self.begun_anew - before.begun_anew,
        };
        let metadata = Metadata {
            timestamp: None,
            ..Metadata::default()
        };
        let mut event = Vec::new();
        put_event(&mut event, Self::NAME, metadata, |out| {
            muster_data::Encode::encode(&growth, out);
        });
        Some(event)
    }
}

/// Counts, on a node that reads logs, what became of their rows.
#[derive(Debug)]
pub struct InputCounters;

impl Framework for InputCounters {
    const NAME: &'static str = "input";

    const SETTINGS: &'static [SettingSpec] = &[SettingSpec::boolean(
        "input.follow",
        false,
        "whether logs are read as they grow, through rotation, and on from where the node was when it ended",
    )];

    const COUNTERS: &'static [CounterSpec] = &[
        CounterSpec::new("events", "Rows of the node's logs that it took as events."),
        CounterSpec::new(
            "other_share",
            "Rows of the node's logs that belong to other workers with the same input.",
        ),
        CounterSpec::new(
            "skipped",
            "Rows of the node's logs that are not about a connection. If all are, the node's log names the columns.",
        ),
        CounterSpec::new(
            "bad_rows",
            "Rows of the node's logs that could not be read, and were passed over. The node's log names the first ones.",
        ),
        CounterSpec::new(
            "out_of_line",
            "Rows of the node's logs whose time is far from that of their neighbours. They are events like others, but neither pace a replay nor close windows. Growth means that a sensor's clock was wrong, or that rows are damaged.",
        ),
        CounterSpec::new(
            "failed_files",
            "Files of the node's input that cannot be read, are damaged or are not logs. The node's log names them.",
        ),
        CounterSpec::new(
            "begun_anew",
            "Logs that began anew under their name while the node followed them, as `copytruncate` does it. What had been written between the node's last look and that moment is lost, unless the copy is among the input's files.",
        ),
    ];

    fn create(site: &Site<'_>) -> Option<Self> {
        (!site.node.input.is_empty()).then_some(Self)
    }

    fn declare(&self, declarations: &mut Declarations<Self>) {
        declarations.on(|_: &mut Self, counted, cx| count(counted, cx));
    }
}

fn count(counted: InputCounted, cx: &mut Context<'_>) {
    let InputCounted {
        events,
        skipped,
        other_share,
        bad_rows,
        out_of_line,
        failed_files,
        begun_anew,
    } = counted;
    for (name, by) in [
        ("events", events),
        ("skipped", skipped),
        ("other_share", other_share),
        ("bad_rows", bad_rows),
        ("out_of_line", out_of_line),
        ("failed_files", failed_files),
        ("begun_anew", begun_anew),
    ] {
        if by > 0 {
            cx.count(name, by);
        }
    }
}
