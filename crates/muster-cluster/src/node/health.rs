//! What a node fails at: a node that loses something, or cannot do what it is there for, is not ready.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use muster_data::Timestamp;
use muster_store::StoreName;
use muster_wire::Mono;

use super::node_core::NodeCore;
use super::{Effect, Now, Report, Severity};
use crate::layout::NodeName;

/// The troubles that are told apart. More count as one.
const MOST: usize = 256;

/// What a node fails at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TroubleCause {
    /// Records of a log cannot be written: the node is a logger.
    Log(String),
    /// The files of logs cannot be written, or their disk hangs: the node is a logger, and others have its share.
    LogFiles,
    /// Log records that should be on disk until a logger has them cannot be written there, or read.
    Spool,
    /// A store cannot be opened, although its primary belongs here.
    Store(StoreName),
    /// The stores have together reached the memory that they may take.
    StoreMemory,
    /// Another node runs with a layout in which keys, stores or logs belong to other nodes.
    Layout(NodeName),
    /// By the coordinators' word the node is out, or it hears too few of them to be told that it is in.
    Lease,
    /// More than 256 of these.
    Others,
}

impl TroubleCause {
    /// Returns the kind of cause in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::LogFiles => "log_files",
            Self::Spool => "spool",
            Self::Store(_) => "store",
            Self::StoreMemory => "store_memory",
            Self::Layout(_) => "layout",
            Self::Lease => "lease",
            Self::Others => "others",
        }
    }
}

impl fmt::Display for TroubleCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(stream) => write!(f, "log {stream}"),
            Self::LogFiles => f.write_str("log files"),
            Self::Spool => f.write_str("spool"),
            Self::Store(store) => write!(f, "store {store}"),
            Self::StoreMemory => f.write_str("memory of stores"),
            Self::Layout(node) => write!(f, "layout of {node}"),
            Self::Lease => f.write_str("lease"),
            Self::Others => f.write_str("more of these"),
        }
    }
}

/// Something that a node fails at, at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is.
    pub cause: TroubleCause,
    /// What went wrong the last time, one line.
    pub text: String,
    /// How often it went wrong since it began; for a log, the number of records that were lost; for the memory of
    /// stores, that of writes that were refused.
    pub count: u64,
    /// When it began.
    pub since: Timestamp,
}

/// How long nothing of a log, or for the memory of stores, must fail until it is in order again, though nothing was
/// written either.
const QUIET: Duration = Duration::from_secs(5);

/// The troubles of a node, each with the time at which it ends by itself.
#[derive(Debug, Default)]
pub(crate) struct Health(BTreeMap<TroubleCause, (Trouble, Option<Mono>)>);

impl Health {
    pub(crate) fn is_good(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn troubles(&self) -> impl Iterator<Item = &Trouble> {
        self.0.values().map(|(trouble, _)| trouble)
    }

    /// Something goes wrong. Returns `true` if it did not before.
    fn fails(&mut self, cause: TroubleCause, count: u64, text: String, now: Now) -> bool {
        let is_known = self.0.contains_key(&cause);
        let cause = if is_known || self.0.len() < MOST {
            cause
        } else {
            TroubleCause::Others
        };
        let ends_by_itself = matches!(
            cause,
            TroubleCause::Log(_) | TroubleCause::StoreMemory | TroubleCause::Others
        );
        let is_new = !self.0.contains_key(&cause);
        let (trouble, ends) = self.0.entry(cause.clone()).or_insert_with(|| {
            let trouble = Trouble {
                cause,
                text: String::new(),
                count: 0,
                since: now.wall,
            };
            (trouble, None)
        });
        trouble.count += count;
        trouble.text = text;
        *ends = ends_by_itself.then(|| now.mono.after(QUIET));
        is_new
    }

    /// Something goes well. Returns the trouble that this ends.
    fn mends(&mut self, cause: &TroubleCause) -> Option<Trouble> {
        self.0.remove(cause).map(|(trouble, _)| trouble)
    }

    /// Returns when the next trouble ends by itself.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.0.values().filter_map(|(_, ends)| *ends).min()
    }

    /// Returns what is over because nothing of it has failed for a while.
    fn over(&self, now: Mono) -> Vec<TroubleCause> {
        let over = self.0.iter();
        let over = over.filter(|(_, (_, ends))| ends.is_some_and(|at| at <= now));
        over.map(|(cause, _)| cause.clone()).collect()
    }
}

impl NodeCore {
    /// The node fails at something. The operator is told when it begins.
    pub(crate) fn fails(&mut self, cause: TroubleCause, count: u64, text: String) {
        let told = format!("{cause}: {text}");
        if self.health.fails(cause, count, text, self.clock.now) {
            let severity = Severity::Error;
            let report = Report {
                severity,
                text: told,
            };
            self.outbox.effects.push(Effect::Report(report));
        }
    }

    /// Ends the troubles of which nothing has been heard for a while.
    pub(super) fn end_troubles(&mut self) {
        for cause in self.health.over(self.clock.now.mono) {
            self.mends(&cause);
        }
    }

    /// The node no longer fails at something. The operator is told if it did before.
    pub(crate) fn mends(&mut self, cause: &TroubleCause) {
        let Some(trouble) = self.health.mends(cause) else {
            return;
        };
        let text = format!("{cause}: in order again, after {} failures", trouble.count);
        self.inform(text);
    }

    /// Tells the operator something of normal operation, each time.
    pub(super) fn inform(&mut self, text: String) {
        let severity = Severity::Info;
        let report = Report { severity, text };
        self.outbox.effects.push(Effect::Report(report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Mono::default().after(Duration::from_secs(seconds)),
            wall: Timestamp::from_secs(i64::try_from(seconds).unwrap()),
        }
    }

    #[test]
    fn troubles_are_counted_since_they_began_and_end() {
        let mut health = Health::default();
        let cause = || TroubleCause::Log("conn".to_owned());
        assert!(health.fails(cause(), 5, "full".to_owned(), at(1)));
        assert!(!health.fails(cause(), 2, "still full".to_owned(), at(2)));
        let trouble = health.troubles().next().unwrap();
        assert_eq!((trouble.count, trouble.since), (7, Timestamp::from_secs(1)));
        assert_eq!(trouble.text, "still full");
        assert!(health.mends(&cause()).is_some());
        assert!(health.is_good() && health.mends(&cause()).is_none());
    }

    #[test]
    fn troubles_are_bounded() {
        let mut health = Health::default();
        for number in 0..1000 {
            let cause = TroubleCause::Log(number.to_string());
            health.fails(cause, 1, String::new(), at(0));
        }
        assert_eq!(health.troubles().count(), MOST + 1);
        let others = health
            .troubles()
            .find(|trouble| trouble.cause == TroubleCause::Others);
        assert_eq!(others.unwrap().count, 1000 - MOST as u64);
        assert_eq!(health.over(at(4).mono), []);
        for cause in health.over(at(5).mono) {
            health.mends(&cause);
        }
        assert!(health.is_good());
    }

    /// A store stays closed until somebody opens it.
    #[test]
    fn a_store_does_not_open_by_itself() {
        let mut health = Health::default();
        let cause = TroubleCause::Store(StoreName::new("a").unwrap());
        health.fails(cause, 1, String::new(), at(0));
        assert_eq!(health.next_deadline(), None);
        assert_eq!(health.over(at(1000).mono), []);
    }
}
