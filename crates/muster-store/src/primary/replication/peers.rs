//! The other copies of a store, as its primary sees them.

use std::time::Duration;

use muster_wire::{EndpointId, Mono};

use super::Assignment;

/// How long a copy that is in sync may be behind without any progress until the coordinators are asked to go on without it.
const STUCK: Duration = Duration::from_secs(3);

/// How often the coordinators are asked the same.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// A newcomer that is no more entries behind is waited for: while others write on it would never have everything.
const NEAR: u64 = 4096;

/// How long, and how long after that was in vain it is waited for again.
const AWAITED: Duration = Duration::from_millis(500);
const AWAIT_AGAIN: Duration = Duration::from_secs(3);

/// How long after entries were sent they are sent again, if the copy does not say that it has them.
pub(super) const SEND_AGAIN: Duration = Duration::from_millis(300);

/// How long a copy waits for the news that all have what it has, if nothing else is sent to it.
pub(super) const TELL_COMMITTED: Duration = Duration::from_millis(20);

/// What the primary asks of the coordinators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyRequest {
    /// A copy has everything: it is to count.
    Joined(EndpointId),
    /// A copy does not follow: the others are to go on without it.
    Stuck(EndpointId),
}

/// One of them.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what may be the case in any combination"
)]
pub(super) struct Peer {
    pub(super) id: EndpointId,
    /// The coordinators count it among those that have everything.
    pub(super) in_sync: bool,
    /// It has said what it has, in this epoch.
    pub(super) is_attached: bool,
    /// What it has, it has without a gap.
    pub(super) is_whole: bool,
    /// It was told to begin behind this entry.
    pub(super) began: u64,
    /// All entries up to here were sent to it.
    pub(super) sent: u64,
    /// All up to here are in its memory.
    pub(super) index: u64,
    /// All up to here are on its disk.
    pub(super) durable: u64,
    /// What it was told to be committed.
    pub(super) told: u64,
    /// The coordinators were asked to count it in, and may have done so.
    pub(super) is_proposed: bool,
    /// It is about to have everything, and is waited for until then.
    awaited_until: Option<Mono>,
    await_at: Mono,
    /// When it had nothing more to catch up with, or did so last.
    pub(super) progress: Mono,
    /// It lacked something when it was looked at last.
    was_behind: bool,
    pub(super) send_again: Mono,
    pub(super) tell_at: Option<Mono>,
    ask_at: Mono,
}

impl Peer {
    fn new(id: EndpointId, now: Mono) -> Self {
        Self {
            id,
            in_sync: false,
            is_attached: false,
            is_whole: false,
            began: 0,
            sent: 0,
            index: 0,
            durable: 0,
            told: 0,
            is_proposed: false,
            awaited_until: None,
            await_at: now,
            progress: now,
            was_behind: false,
            send_again: Mono(u64::MAX),
            tell_at: None,
            ask_at: now,
        }
    }

    /// Whether nothing is committed that it does not have: also from the moment on at which it may have been counted in.
    pub(super) fn is_required(&self) -> bool {
        self.in_sync || self.is_proposed || self.awaited_until.is_some()
    }

    /// Is not counted in yet, nor waited for.
    pub(super) fn gives_up(&mut self) {
        self.is_proposed = false;
        self.awaited_until = None;
    }

    /// Begins to wait for a newcomer that is near, or gives it up for a while.
    fn await_newcomer(&mut self, last: u64, now: Mono) {
        if self.in_sync || self.is_proposed || !self.is_attached || !self.is_whole {
            self.awaited_until = None;
        } else if self.awaited_until.is_some_and(|until| until <= now) {
            self.awaited_until = None;
            self.await_at = now.after(AWAIT_AGAIN);
        } else if self.awaited_until.is_none()
            && now >= self.await_at
            && last.saturating_sub(self.index) <= NEAR
        {
            self.awaited_until = Some(now.after(AWAITED));
        }
    }

    /// What is behind this was perhaps lost on the way to it.
    pub(super) fn has(&self) -> u64 {
        self.index.max(self.began)
    }

    /// When entries that it does not say to have are sent again.
    fn sends_again(&self) -> Option<Mono> {
        let waits = self.is_attached && self.sent > self.has();
        waits.then_some(self.send_again)
    }

    /// What the coordinators are to be asked because of it, if it is time for that.
    fn request(
        &mut self,
        (last, committed): (u64, u64),
        is_on_disk: impl Fn(&Self) -> bool,
        now: Mono,
    ) -> Option<CopyRequest> {
        let has_last = self.is_attached && self.index >= last;
        // It is behind from now on, however long nothing was looked at.
        if has_last || !self.was_behind {
            self.progress = now;
        }
        self.was_behind = !has_last;
        self.await_newcomer(last, now);
        // What is committed from now on it has, too.
        let has_all = self.is_attached && self.index >= committed;
        let request = if self.in_sync {
            let is_stuck = now.since(self.progress) >= STUCK;
            is_stuck.then_some(CopyRequest::Stuck(self.id))
        } else {
            let joins = self.is_proposed || (has_all && self.is_whole && is_on_disk(self));
            joins.then_some(CopyRequest::Joined(self.id))
        }?;
        if now < self.ask_at {
            return None;
        }
        self.ask_at = now.after(ASK_AGAIN);
        Some(request)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers(Vec<Peer>);

impl Peers {
    /// Those that the coordinators name. What is known of them stays, but that one may be counted in: what it was proposed for is over.
    pub(super) fn assign(&mut self, assignment: &Assignment, me: EndpointId, now: Mono) {
        let before = std::mem::take(&mut self.0);
        let named = assignment.in_sync.iter().chain(&assignment.joining);
        for id in named.filter(|id| **id != me) {
            if self.0.iter().any(|peer| peer.id == *id) {
                continue;
            }
            self.0.push(Peer::new(*id, now));
        }
        for known in before {
            if let Some(peer) = self.0.iter_mut().find(|peer| peer.id == known.id) {
                *peer = known;
            }
        }
        for peer in &mut self.0 {
            let was_in_sync = peer.in_sync;
            peer.in_sync = assignment.in_sync.contains(&peer.id);
            peer.gives_up();
            if peer.in_sync && !was_in_sync {
                peer.progress = now;
            }
        }
    }

    pub(super) fn get_mut(&mut self, id: EndpointId) -> Option<&mut Peer> {
        self.0.iter_mut().find(|peer| peer.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.0.iter_mut()
    }

    /// The index up to which all that are required have everything in memory; `last` if none is.
    pub(super) fn index(&self, last: u64) -> u64 {
        let required = self.0.iter().filter(|peer| peer.is_required());
        let index = |peer: &Peer| if peer.is_attached { peer.index } else { 0 };
        required.map(index).fold(last, u64::min)
    }

    /// The same, on disk.
    pub(super) fn durable(&self, own: u64) -> u64 {
        let required = self.0.iter().filter(|peer| peer.is_required());
        let durable = |peer: &Peer| if peer.is_attached { peer.durable } else { 0 };
        required.map(durable).fold(own, u64::min)
    }

    /// Gives up those that fetch a snapshot and lack entries before an index: they begin anew when they are heard.
    pub(super) fn give_up_slow(&mut self, first: u64) {
        for peer in &mut self.0 {
            if !peer.is_required() && peer.has() + 1 < first {
                peer.is_attached = false;
            }
        }
    }

    /// The first index that one of them may still ask for.
    pub(super) fn needed(&self) -> u64 {
        let attached = self.0.iter().filter(|peer| peer.is_attached);
        attached
            .map(|peer| peer.has() + 1)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// What the coordinators are to be asked now.
    pub(super) fn requests(
        &mut self,
        (last, committed): (u64, u64),
        durable: Option<u64>,
        now: Mono,
    ) -> Vec<CopyRequest> {
        let mut requests = Vec::new();
        for peer in &mut self.0 {
            // One that joins has what it found there on disk, too, before it counts.
            let is_on_disk = |peer: &Peer| durable.is_none_or(|durable| peer.durable >= durable);
            if let Some(request) = peer.request((last, committed), is_on_disk, now) {
                if let CopyRequest::Joined(_) = request {
                    peer.is_proposed = true;
                }
                requests.push(request);
            }
        }
        requests
    }

    /// When something is due.
    pub(super) fn next_tick(&self, last: u64) -> Option<Mono> {
        let due = |peer: &Peer| {
            let stuck = peer.in_sync && !(peer.is_attached && peer.index >= last);
            let stuck = stuck.then(|| peer.progress.after(STUCK).max(peer.ask_at));
            let joined = peer.is_proposed.then_some(peer.ask_at);
            let again = peer.sends_again();
            [stuck, joined, again, peer.tell_at, peer.awaited_until]
                .into_iter()
                .flatten()
                .min()
        };
        self.0.iter().filter_map(due).min()
    }

    /// When something is to be sent again, which is all that is done while nothing can be decided.
    pub(super) fn next_sending(&self) -> Option<Mono> {
        self.0.iter().filter_map(Peer::sends_again).min()
    }
}
