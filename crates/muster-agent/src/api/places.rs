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

/// The places for answers in lines.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Vec<OwnedSemaphorePermit>);

impl Default for Places {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            large: Arc::new(Semaphore::new(LARGE)),
        }
    }
}

impl Places {
    /// Takes a place, or refuses if there is none.
    pub(super) fn take(&self, reads: Reads) -> Result<Place, Refusal> {
        let mut places = vec![&self.all];
        if reads == Reads::Much {
            places.push(&self.large);
        }
        let taken = places.into_iter().map(|places| {
            let taken = Arc::clone(places).try_acquire_owned();
            taken.map_err(|_| {
                Refusal::busy("too many are being told as much already: try again later")
            })
        });
        taken.collect::<Result<_, _>>().map(Place)
    }
}

impl Place {
    /// Returns the body, which has the place until it ends.
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
    async fn a_place_is_free_again_when_its_answer_has_ended() {
        let places = Places::default();
        let mut held: Vec<Place> = (0..LARGE)
            .map(|_| places.take(Reads::Much).unwrap())
            .collect();
        assert!(places.take(Reads::Much).is_err());
        assert!(places.take(Reads::Little).is_ok());
        let body = held.pop().unwrap().hold(Body::from("lines"));
        assert!(places.take(Reads::Much).is_err());
        drop(body);
        assert!(places.take(Reads::Much).is_ok());
    }
}
