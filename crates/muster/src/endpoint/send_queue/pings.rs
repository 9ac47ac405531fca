//! Pings that wait for their pong.

use tokio::sync::oneshot;

/// The most pings that wait for their pong.
const MAX_PINGS: usize = 64;

/// The pings of one peering.
#[derive(Debug, Default)]
pub(super) struct Pings {
    last: u64,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// A ping that is to be sent.
#[derive(Debug)]
pub(crate) struct Ping {
    pub(crate) number: u64,
    /// Is told of the pong, and closed with the peering.
    pub(crate) pong: oneshot::Receiver<()>,
}

impl Pings {
    /// Begins another; `None` if too many wait for their pong.
    pub(super) fn begin(&mut self) -> Option<Ping> {
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        if self.waiting.len() >= MAX_PINGS {
            return None;
        }
        let (sender, pong) = oneshot::channel();
        self.last += 1;
        let number = self.last;
        self.waiting.push((number, sender));
        Some(Ping { number, pong })
    }

    /// A pong has come.
    pub(super) fn answered(&mut self, number: u64) {
        let at = self.waiting.iter().position(|(known, _)| *known == number);
        if let Some(at) = at {
            let (_, waiting) = self.waiting.swap_remove(at);
            let _ = waiting.send(());
        }
    }

    /// The peering has ended: nobody will answer.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
