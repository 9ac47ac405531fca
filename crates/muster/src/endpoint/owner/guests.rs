//! What peers of version 1 are told that is subscribed to: by the home of one also what the mesh
//! subscribes to.

use std::time::Duration;

use muster_wire::envelope::Control;
use muster_wire::mesh::BitSet;
use muster_wire::{EndpointId, Filter, Mono};

use super::Owner;

/// How long changes of the mesh are put together before guests are told of them.
const TOGETHER: Duration = Duration::from_millis(20);

/// The time between two rounds of telling guests of the mesh: each may send every one a whole filter.
const APART: Duration = Duration::from_millis(200);

/// When a guest is asked whether it forwards, after its peers are known: a peering that one end knows of
/// may not stand yet at the other.
const QUESTIONS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// The peers of a guest through which it is asked: one that forwards does so to all.
const ASKED_THROUGH: usize = 4;

/// The questions to a guest whether it forwards.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Those of its other peers that it is asked through.
    through: Vec<EndpointId>,
    since: Mono,
    times: usize,
}

impl Asked {
    /// When it is asked next, if it is.
    pub(super) fn due(&self) -> Option<Mono> {
        let after = QUESTIONS
            .get(self.times)
            .filter(|_| !self.through.is_empty())?;
        Some(self.since.after(*after))
    }

    fn asks_through(&mut self, through: Vec<EndpointId>, now: Mono) {
        if self.through != through {
            *self = Self {
                through,
                since: now,
                times: 0,
            };
        }
    }
}

/// When guests are told of the mesh.
#[derive(Debug, Default)]
pub(super) struct GuestNews {
    due: Option<Mono>,
    last: Option<Mono>,
}

impl GuestNews {
    /// When they are told next, if there may be something to tell.
    pub(super) fn due(&self) -> Option<Mono> {
        self.due
    }

    fn changed(&mut self, now: Mono) {
        let soon = now.after(TOGETHER);
        let next = self.last.map_or(soon, |last| last.after(APART).max(soon));
        self.due.get_or_insert(next);
    }

    fn is_due(&self, now: Mono) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

impl Owner {
    /// The routes have changed: perhaps who is whose home, or what is subscribed to in the mesh.
    pub(super) fn guests_may_hear_other_things(&mut self) {
        if self.peers.values().any(|peer| peer.is_guest) {
            self.guest_news.changed(self.shared.now());
        }
    }

    /// The subscriptions here have changed, and all peers of version 1 know before anybody relies on it.
    /// What a guest of the mesh need not send any more it is told with the mesh's changes.
    pub(super) fn tell_version_1(&mut self) {
        let table = self.shared.table.load();
        let mut has_guests = false;
        for (id, peer) in self.peers.iter_mut().filter(|(_, it)| !it.is_in_mesh()) {
            if table.leaves_to_others(*id) {
                continue;
            }
            let is_home = table.mesh().is_some_and(|routes| routes.is_home_of(*id));
            has_guests |= is_home;
            let filter = if is_home {
                let both = peer.told.entries().chain(self.filter.entries());
                Filter::from_prefixes(both)
            } else {
                self.filter.clone()
            };
            if filter != peer.told {
                peer.told = filter.clone();
                peer.session.push_control(&Control::RoutingUpdate(filter));
            }
        }
        if has_guests {
            self.guest_news.changed(self.shared.now());
        }
    }

    /// Tells guests what is subscribed to here, and for those that have their home here in the mesh, if
    /// it is time to.
    pub(super) fn tell_guests(&mut self) {
        let now = self.shared.now();
        if !self.guest_news.is_due(now) {
            return;
        }
        self.guest_news = GuestNews {
            due: None,
            last: Some(now),
        };
        let me = self.shared.me;
        let table = self.shared.table.load();
        let Some(routes) = table.mesh() else {
            return;
        };
        // Most guests have the same peers as others, and are told the same.
        let mut known: Vec<(BitSet, Filter)> = Vec::new();
        let guests = self.peers.iter_mut();
        for (id, peer) in guests.filter(|(_, peer)| peer.is_guest && !peer.leaving) {
            let is_home = routes.is_home_of(*id);
            let others = routes.hosts_of(*id).filter(|host| is_home && *host != me);
            let through = others.take(ASKED_THROUGH).collect();
            peer.asked.asks_through(through, now);
            let filter = if is_home {
                let peers = routes.peers_of(*id);
                let same = known.iter().find(|(others, _)| *others == peers);
                if let Some((_, filter)) = same {
                    filter.clone()
                } else {
                    let filter = routes.filter_for(&peers, &self.filter);
                    known.push((peers, filter.clone()));
                    filter
                }
            } else if routes.leaves_to_others(*id) {
                Filter::default()
            } else {
                self.filter.clone()
            };
            if filter != peer.told {
                peer.told = filter.clone();
                peer.session.push_control(&Control::RoutingUpdate(filter));
            }
        }
    }

    /// Asks guests that have their home here, and other peers in the mesh, whether they forward, if it is
    /// time to: what they forward comes out at one of these.
    pub(super) fn ask_guests(&mut self) {
        let now = self.shared.now();
        for peer in self.peers.values_mut() {
            if peer.asked.due().is_some_and(|due| due <= now) {
                peer.asked.times += 1;
                for other in &peer.asked.through {
                    peer.session.push_control(&Control::Through(*other));
                }
            }
        }
    }
}
