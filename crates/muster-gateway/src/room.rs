//! Back-pressure on those who publish what they read from a socket.

use std::time::{Duration, Instant};

use muster::{Endpoint, Pacer};

/// How long a message waits at most until the peers have room for it.
const LIMIT: Duration = Duration::from_secs(1);

/// How often the peers' queues are looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A queue towards a peer is full enough to wait for when it is fuller than one in this many parts.
const BACKLOG_PART: usize = 2;

/// Waits for peers that are behind, not for those that are stuck.
#[derive(Debug, Default)]
pub(crate) struct Room(Pacer);

impl Room {
    /// Waits while a peer is behind, a second at most.
    pub(crate) async fn wait(&mut self, endpoint: &Endpoint) {
        let limit = endpoint.config().data_queue.messages / BACKLOG_PART;
        let start = Instant::now();
        loop {
            let now = Instant::now();
            let must_wait = self.0.must_wait(endpoint, limit, now, |_| true);
            if !must_wait || now.duration_since(start) > LIMIT {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
