//! What connections have read of frames that have not come to their end, with one bound for all of them: what each
//! may hold, all could.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What any connection may hold, however much the others do.
pub(crate) const FREE: usize = 64 << 10;

/// Too much was under way in unfinished frames, and this connection had been at its frame for the longest time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the unfinished frames of all peers together are over their limit of {limit} bytes, and this peer's was the oldest"
)]
pub struct TooMuchUnfinished {
    /// The limit in bytes.
    pub limit: usize,
}

/// Ends a connection.
type GiveUp = Arc<dyn Fn(TooMuchUnfinished) + Send + Sync>;

/// A bound on what all connections of an endpoint hold together.
#[derive(Debug)]
pub(crate) struct IntakeBudget {
    most: usize,
    state: Mutex<State>,
    ended: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    next: u64,
    /// The connections whose frame has not come to its end, oldest first.
    unfinished: BTreeMap<u64, Unfinished>,
}

struct Unfinished {
    held: usize,
    give_up: GiveUp,
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.held)
    }
}

impl IntakeBudget {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
            ended: AtomicU64::new(0),
        })
    }

    /// Returns how many connections were ended because all together held too much.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one connection holds of it. It is given back when dropped.
pub(crate) struct Intake {
    budget: Arc<IntakeBudget>,
    give_up: GiveUp,
    held: usize,
    /// Its place among the unfinished.
    number: Option<u64>,
}

impl Intake {
    /// Creates the share of a connection. `give_up` ends it, and is called when others need the room and no frame is
    /// as old as this one's.
    pub(crate) fn new(
        budget: Arc<IntakeBudget>,
        give_up: impl Fn(TooMuchUnfinished) + Send + Sync + 'static,
    ) -> Self {
        Self {
            budget,
            give_up: Arc::new(give_up),
            held: 0,
            number: None,
        }
    }

    /// Holds `bytes` from now on, for a frame that has not come to its end. If all together hold too much then, those
    /// are given up that have been at their frame for the longest time.
    ///
    /// # Errors
    ///
    /// Fails if this one is given up, now or before.
    pub(crate) fn unfinished(&mut self, bytes: usize) -> Result<(), TooMuchUnfinished> {
        if bytes <= FREE {
            self.at_rest(bytes);
            return Ok(());
        }
        if self.number.is_some() && self.held == bytes {
            return Ok(());
        }
        let limit = self.budget.most;
        let mut given_up = Vec::new();
        {
            let mut state = self.budget.lock();
            let number = match self.number {
                Some(number) if !state.unfinished.contains_key(&number) => {
                    // What it held counts no longer.
                    (self.held, self.number) = (0, None);
                    return Err(TooMuchUnfinished { limit });
                }
                Some(number) => number,
                None => {
                    state.next += 1;
                    state.next
                }
            };
            state.held = state.held - self.held + bytes;
            (self.held, self.number) = (bytes, Some(number));
            let unfinished = Unfinished {
                held: bytes,
                give_up: Arc::clone(&self.give_up),
            };
            state.unfinished.insert(number, unfinished);
            while state.held > limit {
                let Some((_, oldest)) = state.unfinished.pop_first() else {
                    break;
                };
                state.held -= oldest.held;
                given_up.push(oldest.give_up);
            }
            if !state.unfinished.contains_key(&number) {
                (self.held, self.number) = (0, None);
            }
        }
        let ended = given_up.len() as u64;
        self.budget.ended.fetch_add(ended, Ordering::Relaxed);
        for give_up in given_up {
            give_up(TooMuchUnfinished { limit });
        }
        match self.number {
            Some(_) => Ok(()),
            None => Err(TooMuchUnfinished { limit }),
        }
    }

    /// Holds `bytes` from now on, ready for frames to come. Returns `false` if that is more than is free, while all
    /// together hold over half of what they may: then it is to be given back.
    pub(crate) fn at_rest(&mut self, bytes: usize) -> bool {
        let bytes = if bytes <= FREE { 0 } else { bytes };
        if self.number.is_none() && self.held == bytes {
            return true;
        }
        let budget = Arc::clone(&self.budget);
        let mut state = budget.lock();
        self.leave(&mut state);
        state.held += bytes;
        self.held = bytes;
        bytes == 0 || state.held <= budget.most / 2
    }

    /// The whole frame has come: the next one is as new as others.
    pub(crate) fn finished(&mut self) {
        if self.number.is_some() {
            let held = self.held;
            self.at_rest(held);
        }
    }

    /// Gives back what is held. What was given up was given back.
    fn leave(&mut self, state: &mut State) {
        let is_given_up = match self.number.take() {
            Some(number) => state.unfinished.remove(&number).is_none(),
            None => false,
        };
        if !is_given_up {
            state.held -= self.held;
        }
        self.held = 0;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.held > 0 {
            let budget = Arc::clone(&self.budget);
            self.leave(&mut budget.lock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A share, and how often it was given up.
    fn share(budget: &Arc<IntakeBudget>) -> (Intake, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let intake = Intake::new(Arc::clone(budget), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (intake, count)
    }

    #[test]
    fn the_oldest_unfinished_frame_makes_room_for_the_others() {
        let budget = IntakeBudget::new(10 * FREE);
        let (mut old, old_ended) = share(&budget);
        let (mut new, new_ended) = share(&budget);
        old.unfinished(6 * FREE).unwrap();
        new.unfinished(4 * FREE).unwrap();
        new.unfinished(5 * FREE).unwrap();
        assert_eq!(old_ended.load(Ordering::Relaxed), 1);
        assert!(old.unfinished(7 * FREE).is_err());
        // Whoever begins anew is as new as others.
        old.unfinished(5 * FREE).unwrap();
        new.finished();
        new.unfinished(5 * FREE).unwrap();
        old.unfinished(FREE).unwrap();
        new.unfinished(10 * FREE).unwrap();
        assert_eq!(new_ended.load(Ordering::Relaxed), 0);
        assert!(new.unfinished(10 * FREE + 1).is_err());
        assert_eq!((new_ended.load(Ordering::Relaxed), budget.ended()), (1, 2));
        drop((old, new));
        assert_eq!(budget.lock().held, 0);
    }

    #[test]
    fn what_is_small_is_free_and_what_rests_leaves_room() {
        let budget = IntakeBudget::new(10 * FREE);
        let (mut full, _) = share(&budget);
        let (mut other, ended) = share(&budget);
        full.unfinished(10 * FREE).unwrap();
        assert!(other.at_rest(FREE));
        other.unfinished(FREE).unwrap();
        assert!(!other.at_rest(2 * FREE));
        assert!(other.at_rest(0));
        drop(full);
        assert!(other.at_rest(5 * FREE));
        assert!(!other.at_rest(6 * FREE));
        other.unfinished(6 * FREE).unwrap();
        other.finished();
        drop(other);
        assert_eq!((budget.lock().held, ended.load(Ordering::Relaxed)), (0, 0));
    }
}
