//! When a link's reader gives back the credit of what has come: at once, or, as long as a subscriber or a next hop
//! that took part of it is behind, when that one has room again.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use muster_wire::credit::SHARING;
use muster_wire::{Class, Mono};

use crate::endpoint::peer_session::PeerSession;
use crate::endpoint::subscriber::SubscriberQueue;

/// How long credit is held for a subscriber that takes nothing, and for one that takes while others want
/// more.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long credit is held for a next hop whose writer takes nothing: it is frozen, or its link is.
const PEER_PATIENCE: Duration = Duration::from_millis(250);

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
    /// Those who are behind. While there are none, nothing is held.
    behind: Vec<Behind>,
    /// Since when there are some.
    since: Mono,
    /// Whether others got messages too meanwhile, who are not behind.
    others: bool,
}

#[derive(Debug)]
struct Behind {
    who: Waited,
    /// What it had taken when it was looked at, and since when it has not taken more.
    taken: u64,
    since: Mono,
}

/// Who may be waited for.
#[derive(Debug)]
pub(super) enum Waited {
    Subscriber(Arc<SubscriberQueue>),
    /// A next hop, with the class of what it is behind with.
    Peer(Arc<PeerSession>, Class),
}

impl Waited {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Subscriber(one), Self::Subscriber(two)) => Arc::ptr_eq(one, two),
            (Self::Peer(one, class), Self::Peer(two, of)) => Arc::ptr_eq(one, two) && class == of,
            _ => false,
        }
    }

    fn is_behind(&self) -> bool {
        match self {
            Self::Subscriber(queue) => queue.is_behind(),
            Self::Peer(peer, class) => peer.queue.is_behind(*class),
        }
    }

    fn taken(&self) -> u64 {
        match self {
            Self::Subscriber(queue) => queue.taken(),
            Self::Peer(peer, _) => peer.queue.taken(),
        }
    }

    /// Nobody waits for it until it takes something; for a next hop, until it is not behind.
    fn give_up(&self) {
        match self {
            Self::Subscriber(queue) => queue.give_up_at(queue.taken()),
            Self::Peer(peer, class) => peer.queue.give_up(*class),
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Subscriber(queue) => queue.poll_room(cx),
            Self::Peer(peer, class) => peer.queue.poll_room(*class, cx),
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Subscriber(_) => PATIENCE,
            Self::Peer(..) => PEER_PATIENCE,
        }
    }
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

    /// Messages of these classes went to somebody who is behind. `who` makes one for each class.
    pub(super) fn is_behind(&mut self, classes: Classes, now: Mono, who: impl Fn() -> Waited) {
        for class in SHARING {
            let owed = &mut self.classes[class as usize];
            if !classes.has(class) {
                continue;
            }
            let who = who();
            if owed.behind.iter().any(|known| known.who.is(&who)) {
                continue;
            }
            if owed.behind.is_empty() {
                owed.since = now;
            }
            owed.behind.push(Behind {
                taken: who.taken(),
                who,
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
                for behind in owed.behind.drain(..) {
                    // A next hop is slow for longer, and whoever relays to others goes on.
                    if matches!(behind.who, Waited::Peer(..)) {
                        behind.who.give_up();
                    }
                }
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
            if all.any(|behind| behind.who.poll_room(cx).is_ready()) {
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
        if !self.who.is_behind() {
            return false;
        }
        let taken = self.who.taken();
        if taken != self.taken {
            (self.taken, self.since) = (taken, now);
        }
        let gives_up = now.since(self.since) >= self.who.patience();
        if gives_up {
            self.who.give_up();
        }
        !gives_up
    }
}
