//! Who waits for which nodes: the state of the readiness barrier.

use std::time::Duration;

use muster_wire::Mono;

use crate::readiness::Readiness;

/// The least time between two looks at the waits: a large cluster's answers come in a burst, and a look
/// costs something for each node.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// The node's driver, on behalf of whoever holds the node.
    Driver { token: u64 },
    /// A framework, by its position.
    Framework { framework: usize, token: u64 },
}

/// The waits of a node.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    pub(super) all: Vec<(Waiter, Readiness)>,
    /// Something has happened that may end a wait or ask a question.
    pub(super) has_changed: bool,
    pub(super) looked: Option<Mono>,
    pub(super) questions: u64,
}

impl Waits {
    /// The cluster has changed.
    pub(super) fn changed(&mut self) {
        self.has_changed = !self.all.is_empty();
    }

    pub(super) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        if self.has_changed {
            let rested = self.looked.map(|looked| looked.after(LOOK_EVERY));
            return Some(rested.map_or(now, |rested| rested.max(now)));
        }
        let waits = self.all.iter();
        waits.map(|(_, wait)| wait.next_deadline()).min()
    }
}
