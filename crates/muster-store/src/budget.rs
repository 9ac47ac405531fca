//! What all stores of a node may hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use muster_wire::counters::{Counter, Descriptor};

/// A bound in bytes over all the primaries and clones that it is given to, by their settings. Clones of it are the same
/// budget.
///
/// What counts is what [`Entries::bytes`](crate::Entries::bytes) says of each store, and the copies that are being
/// fetched. A primary refuses a write that there is no room for; a clone, which must not skip a change, gives up its
/// whole copy. What a backend has kept is taken in whatever it holds.
#[derive(Debug, Clone)]
pub struct StoreBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
    refused: AtomicU64,
    missing_copies: AtomicUsize,
}

/// What has become of a [`StoreBudget`], for operators of the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreBudgetReport {
    /// The bytes that the stores may take together.
    pub limit: usize,
    /// The bytes that they take.
    pub used: usize,
    /// The writes that were refused for it.
    pub refused: u64,
    /// The clones that have no copy at present, because there was no room for it.
    pub missing_copies: usize,
}

mod descriptors {
    muster_wire::counters! {
        /// Memory that the entries of all stores of the node take, those of copies that are being fetched included, roughly.
        pub(super) USED = gauge("muster_stores_bytes");
        /// What the stores of the node may take together (`stores.node_memory_limit`).
        pub(super) LIMIT = gauge("muster_stores_limit_bytes");
        /// Writes that were refused because the stores of the node may not take more together. Any growth is a loss, unless
        /// the writers try again: give entries times to live, raise `stores.node_memory_limit`, or put stores on other
        /// nodes.
        pub(super) REFUSED = counter("muster_stores_writes_refused_total");
        /// Clones that have no copy at present because the stores of the node may not take more together. A copy comes back
        /// when there is room.
        pub(super) MISSING_COPIES = gauge("muster_stores_missing_copies");
    }
}

impl StoreBudgetReport {
    /// The descriptors of all that [`StoreBudgetReport::counters`] returns.
    pub const DESCRIPTORS: &'static [Descriptor] = descriptors::ALL;

    /// Returns the counters of all the stores together.
    pub fn counters(&self) -> Vec<Counter> {
        vec![
            descriptors::USED.of(self.used as u64),
            descriptors::LIMIT.of(self.limit as u64),
            descriptors::REFUSED.of(self.refused),
            descriptors::MISSING_COPIES.of(self.missing_copies as u64),
        ]
    }
}

impl Default for StoreBudget {
    /// Returns a budget without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// The same budget, not one that happens to have the same bound.
impl PartialEq for StoreBudget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StoreBudget {}

impl StoreBudget {
    /// Creates a budget of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            used: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            missing_copies: AtomicUsize::new(0),
        }))
    }

    /// Returns what is used of it, and what was refused.
    pub fn report(&self) -> StoreBudgetReport {
        let shared = &*self.0;
        StoreBudgetReport {
            limit: shared.limit,
            used: shared.used.load(Ordering::Relaxed),
            refused: shared.refused.load(Ordering::Relaxed),
            missing_copies: shared.missing_copies.load(Ordering::Relaxed),
        }
    }

    /// Returns `true` if so many bytes more would fit in.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        let used = self.0.used.load(Ordering::Relaxed);
        used.checked_add(more)
            .is_some_and(|used| used <= self.0.limit)
    }

    /// Counts a write that was refused.
    pub(crate) fn note_refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn claim(&self, more: usize) -> bool {
        let within = |used: usize| {
            let used = used.checked_add(more);
            used.filter(|used| *used <= self.0.limit)
        };
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.used.fetch_update(set, read, within).is_ok()
    }
}

/// A clone that has no copy, because there is no room. It counts as long as this lives.
#[derive(Debug)]
pub(crate) struct MissingCopy(StoreBudget);

impl MissingCopy {
    pub(crate) fn new(budget: &StoreBudget) -> Self {
        budget.0.missing_copies.fetch_add(1, Ordering::Relaxed);
        Self(budget.clone())
    }
}

impl Drop for MissingCopy {
    fn drop(&mut self) {
        let Self(budget) = self;
        budget.0.missing_copies.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes that one table of entries takes, counted in a budget as long as they are held.
#[derive(Debug, Default)]
pub(crate) struct HeldBytes {
    bytes: usize,
    /// What the budget has of it: more than `bytes` for what was claimed and is about to be added.
    charged: usize,
    budget: Option<StoreBudget>,
}

impl HeldBytes {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts in a budget from now on. What is held already is taken in, room or not.
    pub(crate) fn join(&mut self, budget: &StoreBudget) {
        self.leave();
        self.budget = Some(budget.clone());
        self.settle();
    }

    /// Nothing, in the same budget.
    pub(crate) fn emptied(&self) -> Self {
        Self {
            budget: self.budget.clone(),
            ..Self::default()
        }
    }

    /// Makes room for what the next [`HeldBytes::change`] adds. Returns `false` if there is none.
    pub(crate) fn claim(&mut self, more: usize) -> bool {
        if let Some(budget) = &self.budget {
            if !budget.claim(more) {
                return false;
            }
            self.charged += more;
        }
        true
    }

    /// Counts what was added and what was removed.
    pub(crate) fn change(&mut self, added: usize, removed: usize) {
        self.bytes = self.bytes + added - removed;
        self.settle();
    }

    fn settle(&mut self) {
        let Some(budget) = &self.budget else {
            return;
        };
        let used = &budget.0.used;
        if self.bytes > self.charged {
            used.fetch_add(self.bytes - self.charged, Ordering::Relaxed);
        } else if self.bytes < self.charged {
            used.fetch_sub(self.charged - self.bytes, Ordering::Relaxed);
        }
        self.charged = self.bytes;
    }

    fn leave(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.0.used.fetch_sub(self.charged, Ordering::Relaxed);
        }
        self.charged = 0;
    }

    /// Returns `true` if the budget has room for so many bytes more.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        let budget = self.budget.as_ref();
        budget.is_none_or(|budget| budget.has_room(more))
    }

    /// Returns `true` if the budget's tables hold more than they may.
    pub(crate) fn is_over(&self) -> bool {
        let budget = self.budget.as_ref();
        budget.is_some_and(|budget| !budget.has_room(0))
    }
}

/// What is copied takes memory as well.
impl Clone for HeldBytes {
    fn clone(&self) -> Self {
        let mut clone = self.emptied();
        clone.change(self.bytes, 0);
        clone
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_gone() {
        let budget = StoreBudget::new(100);
        let held = |bytes| {
            let mut held = HeldBytes::default();
            held.join(&budget);
            held.change(bytes, 0);
            held
        };
        let one = held(60);
        let two = one.clone();
        assert_eq!(budget.report().used, 120);
        assert!(one.is_over());
        drop(two);
        assert_eq!(budget.report().used, 60);
        let mut three = held(0);
        assert!(!three.claim(41) && three.claim(40));
        assert_eq!(budget.report().used, 100);
        assert!(!budget.has_room(1));
        // Less was added than claimed.
        three.change(10, 0);
        assert_eq!((three.bytes(), budget.report().used), (10, 70));
        three.join(&StoreBudget::default());
        assert_eq!(budget.report().used, 60);
        drop(one);
        assert_eq!(budget.report().used, 0);
    }

    #[test]
    fn threads_never_claim_more_than_there_is() {
        let budget = StoreBudget::new(1000);
        let claims = std::thread::scope(|scope| {
            let claim = || {
                let mut held = HeldBytes::default();
                held.join(&budget);
                let claims = (0..1000).filter(|_| held.claim(1)).count();
                held.change(claims, 0);
                (held, claims)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(claim)).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap());
            ended.collect::<Vec<_>>()
        });
        assert_eq!(claims.iter().map(|(_, claims)| claims).sum::<usize>(), 1000);
        assert_eq!(budget.report().used, 1000);
        drop(claims);
        assert_eq!(budget.report().used, 0);
    }
}
