//! A duty for trials: who has it acts at a rate, and all that it does is counted in one row.

use muster_cluster::node::{Context, KeyedContext, KeyedTable, Severity};
use muster_data::{Record, Timestamp};

use super::{Pace, Probe};

/// The duty's name.
pub(super) const DUTY: &str = "probe/duty";

/// What has the duty has done.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::probe_tick")]
pub struct ProbeTick {
    /// The life of the manager that has done it: its endpoint id.
    pub life: String,
    /// How often that life had gained the duty by then.
    pub span: u64,
    /// When it was done.
    pub acted: Timestamp,
}

/// A record of the stream `probe_duty`: something that was done because of the duty was counted.
///
/// One manager at a time has the duty if what was done in one span and what was done in another do not overlap in time; and the count
/// is as exact as all keyed work if every number is there once.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(name = "Muster::probe_duty")]
pub struct ProbeDuty {
    /// When it was counted.
    pub ts: Timestamp,
    /// The node that has counted it.
    pub node: String,
    /// The life of the manager that has done it.
    pub life: String,
    /// How often that life had gained the duty by then.
    pub span: u64,
    /// When it was done.
    pub acted: Timestamp,
    /// The count, from 1.
    pub number: u64,
}

/// The count.
const COUNT: KeyedTable<String, bool, u64> = KeyedTable::new("probe/count");

/// What a manager knows of the duty.
#[derive(Debug)]
pub(super) struct Duty {
    pub(super) pace: Pace,
    has_it: bool,
    /// How often this life has gained it.
    span: u64,
}

impl Duty {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            has_it: false,
            span: 0,
        }
    }
}

impl Probe {
    /// Acts if this node has the duty.
    pub(super) fn act(&mut self, cx: &mut Context<'_>) {
        let Some(duty) = &mut self.duty else {
            return;
        };
        let had_it = std::mem::replace(&mut duty.has_it, cx.has_duty(DUTY));
        if !duty.has_it {
            return;
        }
        duty.span += u64::from(!had_it);
        for _ in 0..duty.pace.take() {
            let tick = ProbeTick {
                life: self.life.clone(),
                span: duty.span,
                acted: cx.wall(),
            };
            if let Err(error) = cx.publish_to_duty(DUTY, &tick) {
                cx.report(Severity::Error, &error.to_string());
            }
        }
    }

    /// On whoever has the duty.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "handlers are methods that take their event"
    )]
    pub(super) fn ticked(&mut self, tick: ProbeTick, cx: &mut KeyedContext<'_, '_, String>) {
        let number = cx.row(&COUNT, &true).unwrap_or(0) + 1;
        cx.set(&COUNT, &true, &number);
        let record = ProbeDuty {
            ts: cx.wall(),
            node: self.node.clone(),
            life: tick.life,
            span: tick.span,
            acted: tick.acted,
            number,
        };
        if let Err(error) = cx.log("probe_duty", &record) {
            cx.report(Severity::Error, &error.to_string());
        }
    }
}
