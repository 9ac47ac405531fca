//! When a link's reader gives back the credit of what has come: at once, or, as long as a subscriber that
//! took part of it is behind, when that one has room again.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use muster_wire::credit::SHARING;
use muster_wire::{Class, Mono};

use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::subscriber::SubscriberQueue;

/// How long credit is held for a subscriber that takes nothing, and for one that takes while others want
/// more.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a reader looks whether it has waited long enough.
const LOOK: Duration = Duration::from_millis(100);

/// Some classes of traffic.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Classes(u8);

impl Classes {
    pub(super) fn add(&mut self, class: Class) {
        self.0 |= 1 << class as u8;
    }

    fn has(self, class: Class) -> bool {
        self.0 & 1 << class as u8 != 0
    }
}

/// What has come by one link and is not given back.
#[derive(Debug, Default)]
pub(super) struct CreditIntake {
    classes: [Owed; 4],
}

#[derive(Debug, Default)]
struct Owed {
    cost: usize,
    /// The subscribers that are behind. While there are none, nothing is held.
    behind: Vec<Behind>,
    /// Since when there are some.
    since: Mono,
    /// Whether others got messages too meanwhile, who are not behind.
    others: bool,
}

#[derive(Debug)]
struct Behind {
    queue: Arc<SubscriberQueue>,
    /// What it had taken when it was looked at, and since when it has not taken more.
    taken: u64,
    since: Mono,
}

impl CreditIntake {
    /// A message has come.
    pub(super) fn came(&mut self, class: Class, cost: usize) {
        self.classes[class as usize].cost += cost;
    }

    /// Messages of these classes went to somebody who is not behind.
    pub(super) fn passed_on(&mut self, classes: Classes) {
        for class in SHARING {
            let owed = &mut self.classes[class as usize];
            owed.others |= classes.has(class);
        }
    }

    /// Messages of these classes went to a subscriber that is behind.
    pub(super) fn is_behind(&mut self, classes: Classes, queue: &Arc<SubscriberQueue>, now: Mono) {
        for class in SHARING {
            let owed = &mut self.classes[class as usize];
            let mut known = owed.behind.iter();
            if !classes.has(class) || known.any(|known| Arc::ptr_eq(&known.queue, queue)) {
                continue;
            }
            if owed.behind.is_empty() {
                owed.since = now;
            }
            owed.behind.push(Behind {
                queue: Arc::clone(queue),
                taken: queue.taken(),
                since: now,
            });
        }
    }

    /// Whether credit is held back.
    pub(super) fn is_holding(&self) -> bool {
        self.classes.iter().any(|owed| !owed.behind.is_empty())
    }

    /// Gives back what nobody holds any more.
    pub(super) fn settle(&mut self, now: Mono, peer: &PeerSession, window: u64) {
        for class in SHARING {
            let owed = &mut self.classes[class as usize];
            owed.behind.retain_mut(|behind| behind.holds(now));
            if owed.others && now.since(owed.since) >= PATIENCE {
                owed.behind.clear();
            }
            if owed.behind.is_empty() {
                owed.others = false;
                if owed.cost > 0 {
                    peer.grant(class, std::mem::take(&mut owed.cost), window);
                }
            }
        }
    }

    /// Waits until it is worth looking whether something is held.
    pub(super) async fn released(&self) {
        let room = poll_fn(|cx| {
            let mut all = self.classes.iter().flat_map(|owed| &owed.behind);
            // Each that is looked at in vain tells this task; one is enough.
            if all.any(|behind| behind.queue.poll_room(cx).is_ready()) {
                return Poll::Ready(());
            }
            Poll::Pending
        });
        let _ = tokio::time::timeout(LOOK, room).await;
    }
}

impl Behind {
    /// Whether there is reason to wait for it.
    fn holds(&mut self, now: Mono) -> bool {
        if !self.queue.is_behind() {
            return false;
        }
        let taken = self.queue.taken();
        if taken != self.taken {
            (self.taken, self.since) = (taken, now);
        }
        let gives_up = now.since(self.since) >= PATIENCE;
        if gives_up {
            self.queue.give_up_at(taken);
        }
        !gives_up
    }
}
