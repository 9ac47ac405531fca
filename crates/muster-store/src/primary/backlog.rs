//! The last changes, for clones that missed some.

use std::collections::VecDeque;

use crate::op::NumberedEdit;

/// The changes kept.
const CHANGES: usize = 65_536;

/// The memory of their keys and values, in bytes.
const BYTES: usize = 32 << 20;

/// The bytes sent again at one time; the rest is asked for when these have arrived.
const AT_ONCE: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Backlog {
    changes: VecDeque<NumberedEdit>,
    bytes: usize,
    /// The number of the first that is kept, or of the next.
    first: u64,
}

impl Backlog {
    /// Nothing is kept of the changes so far.
    pub(super) fn new(last: u64) -> Self {
        Self {
            changes: VecDeque::new(),
            bytes: 0,
            first: last + 1,
        }
    }

    /// Keeps a change.
    pub(super) fn push(&mut self, change: NumberedEdit) {
        self.bytes += size(&change);
        self.changes.push_back(change);
        while self.changes.len() > CHANGES || self.bytes > BYTES {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            self.first = oldest.number + 1;
        }
    }

    /// The changes from a number on, as many as are sent at one time; `None` if they are not kept.
    pub(super) fn from(&self, number: u64) -> Option<Vec<NumberedEdit>> {
        let skipped = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let mut bytes = 0;
        let wanted = self.changes.iter().skip(skipped).take_while(|change| {
            let fits = bytes < AT_ONCE;
            bytes += size(change);
            fits
        });
        Some(wanted.cloned().collect())
    }
}

fn size(change: &NumberedEdit) -> usize {
    change.edit.size() + size_of::<NumberedEdit>()
}
