//! What changed of late, so that what was computed before can be repaired.

use std::collections::VecDeque;

/// The changes remembered. What is older than all of them is computed anew.
const KEPT: usize = 1024;

/// The last changes of something, each with its number.
#[derive(Debug, Clone)]
pub(crate) struct Changes<T> {
    /// Counts all changes, those that are no longer remembered included.
    version: u64,
    recent: VecDeque<T>,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self {
            version: 0,
            recent: VecDeque::new(),
        }
    }
}

impl<T: Copy> Changes<T> {
    /// The number of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Something changed.
    pub(crate) fn push(&mut self, change: T) {
        if self.recent.len() >= KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(change);
        self.version += 1;
    }

    /// Something changed that cannot be said: whatever was computed before is void.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
        self.version += 1;
    }

    /// The changes after a version, if all are remembered.
    pub(crate) fn since(&self, version: u64) -> Option<impl Iterator<Item = T>> {
        let count = usize::try_from(self.version.checked_sub(version)?).ok()?;
        let skipped = self.recent.len().checked_sub(count)?;
        Some(self.recent.iter().skip(skipped).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_remembered_until_they_are_too_many_or_void() {
        let mut changes = Changes::default();
        for number in 1..=2000u32 {
            changes.push(number);
        }
        let since = |changes: &Changes<u32>, version| Some(changes.since(version)?.count());
        assert_eq!(since(&changes, 2000), Some(0));
        assert_eq!(since(&changes, 1998), Some(2));
        assert_eq!(changes.since(1998).unwrap().next(), Some(1999));
        assert_eq!(since(&changes, 2000 - 1024), Some(1024));
        assert_eq!(since(&changes, 2000 - 1025), None);
        assert_eq!(since(&changes, 2001), None);
        changes.forget();
        assert_eq!(since(&changes, 2000), None);
        assert_eq!(since(&changes, 2001), Some(0));
    }
}
