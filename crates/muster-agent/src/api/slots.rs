//! How many may be told lines at once: each costs memory, those that read whole streams of records much.

use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refusal;

/// Answers in lines at once.
const ALL: usize = 128;

/// Of them those that may hold many records.
const LARGE: usize = 4;

/// How much an answer may hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Little,
    Much,
}

/// The slots for answers in lines.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A slot, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(Vec<OwnedSemaphorePermit>);

impl Default for Slots {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            large: Arc::new(Semaphore::new(LARGE)),
        }
    }
}

impl Slots {
    /// Takes a slot, or refuses if there is none.
    pub(super) fn take(&self, reads: Reads) -> Result<Slot, Refusal> {
        let mut slots = vec![&self.all];
        if reads == Reads::Much {
            slots.push(&self.large);
        }
        let taken = slots.into_iter().map(|slots| {
            let taken = Arc::clone(slots).try_acquire_owned();
            taken.map_err(|_| {
                Refusal::busy("too many are being told as much already: try again later")
            })
        });
        taken.collect::<Result<_, _>>().map(Slot)
    }
}

impl Slot {
    /// Returns the body, which has the slot until it ends.
    pub(super) fn hold(self, body: Body) -> Body {
        Body::from_stream(body.into_data_stream().map(move |data| {
            let _ = &self.0;
            data
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[tokio::test]
    async fn a_slot_is_free_again_when_its_answer_has_ended() {
        let slots = Slots::default();
        let mut held: Vec<Slot> = (0..LARGE)
            .map(|_| slots.take(Reads::Much).unwrap())
            .collect();
        assert!(slots.take(Reads::Much).is_err());
        assert!(slots.take(Reads::Little).is_ok());
        let body = held.pop().unwrap().hold(Body::from("lines"));
        assert!(slots.take(Reads::Much).is_err());
        drop(body);
        assert!(slots.take(Reads::Much).is_ok());
    }
}
