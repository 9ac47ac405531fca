//! Bytes that many hold together, with a bound: what each client may hold, all could.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on what many hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            most,
        })
    }

    /// Returns whether more is held than may be.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.most
    }
}

/// What one of them holds. It is given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: 0 }
    }

    /// Holds so much from now on.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes >= self.held {
            let more = bytes - self.held;
            self.budget.held.fetch_add(more, Ordering::Relaxed);
        } else {
            let less = self.held - bytes;
            self.budget.held.fetch_sub(less, Ordering::Relaxed);
        }
        self.held = bytes;
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.budget.is_exceeded()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Budget::new(10);
        let (mut one, mut other) = (
            Share::new(Arc::clone(&budget)),
            Share::new(Arc::clone(&budget)),
        );
        one.set(6);
        other.set(4);
        assert!(!budget.is_exceeded());
        other.set(5);
        assert!(budget.is_exceeded() && one.is_exceeded());
        one.set(2);
        assert!(!budget.is_exceeded());
        one.set(100);
        drop(one);
        assert!(!budget.is_exceeded());
        drop(other);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
