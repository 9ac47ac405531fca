//! What a member does when others have come or gone: it offers, waits for what is offered, and forgets what is not its own.

use std::collections::BTreeSet;
use std::mem;

use muster_wire::{EndpointId, Mono};

use super::{Keeper, MAY_COME_BACK, WAIT_FOR_LOST};
use crate::coordination::LEASE;
use crate::keyed::entry::{Contents, Version, Wait};
use crate::keyed::lane::Lane;
use crate::keyed::messages::Mark;
use crate::keyed::roster::{Holder, Roster};
use crate::keyed::sabotage::Sabotage;

/// How far a member is with a roster.
#[derive(Debug, Default)]
pub(super) struct Phase {
    offered: BTreeSet<EndpointId>,
    settled: BTreeSet<EndpointId>,
    clean: BTreeSet<EndpointId>,
    pub(super) progress: Progress,
}

/// What a member has done since others have come or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Progress {
    /// It waits for what others offer.
    #[default]
    Waiting,
    /// All others have offered what they have: what is not here does not exist.
    Serving,
    /// Of all that it owns there are copies.
    Settled,
    /// It has nothing else any more.
    Cleaned,
    /// Nobody has anything else.
    Clean,
}

/// What was heard of another member.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) generation: u64,
    pub(super) expected: u64,
    /// Digests whose changes did not fit what is here: all of it is wanted.
    pub(super) wanted: BTreeSet<u32>,
}

impl Keeper {
    /// The members of the pool are these from now on.
    pub(crate) fn enter(&mut self, roster: Roster, now: Mono) {
        let is_same = roster.id() == self.roster.id();
        let mine = roster.holder(self.me);
        let former = mem::replace(&mut self.mine, mine);
        let before = mem::replace(&mut self.roster, roster);
        if is_same {
            return;
        }
        let mut holders = before.holders();
        let is_anybody_out = holders.any(|holder| !self.roster.has(holder));
        if self.roster.epoch() > 0 && (is_anybody_out || mine != former) {
            self.alone_from = now.after(LEASE);
        }
        self.withdraw();
        if mine != former {
            self.begin_again(now);
        }
        for site in before.sites() {
            self.missing.entry(site).or_insert(now);
        }
        for site in self.roster.sites() {
            self.missing.remove(&site);
        }
        self.phase = Phase::default();
        self.heard.clear();
        self.lanes.clear();
        self.waits_until = None;
        let Some(mine) = mine else {
            for entry in self.entries.values_mut() {
                entry.stop_serving();
            }
            self.drop_held();
            return;
        };
        self.open_lanes(mine);
        self.divide(mine);
        // Those who have the rest may come back: coordinators that could not be reached take all for out. Who was never in knows by those
        // who are out that there is something.
        let is_lost = match &self.settled_in {
            Some(settled) => settled.may_lose_both(&self.roster),
            None => self.roster.came_late(),
        };
        if is_lost && self.broken != Sabotage::DoesNotWait {
            self.waits_until = Some(now.after(WAIT_FOR_LOST));
        } else {
            self.offer();
        }
    }

    /// It was out, or not in yet: what has happened meanwhile others know.
    fn begin_again(&mut self, now: Mono) {
        if now.since(self.was_in) >= MAY_COME_BACK {
            self.entries.clear();
            self.bytes = 0;
            self.settled_in = None;
            self.forget_windows();
        }
        self.expect_anew();
    }

    /// Says that it has offered all that it has.
    pub(super) fn offer(&mut self) {
        self.waits_until = None;
        self.tell_all(Mark::Offered);
        self.look();
    }

    /// Takes back what was on its way to standbys.
    fn withdraw(&mut self) {
        for (_, lane) in mem::take(&mut self.lanes) {
            for said in lane.into_said() {
                let Some(digest) = said.digest else {
                    continue;
                };
                let Some(entry) = self.entries.get_mut(&digest) else {
                    continue;
                };
                // It may have arrived, or not.
                if entry.is_served {
                    entry.at = None;
                    entry.on_the_way = 0;
                    let later = mem::replace(&mut entry.waits, said.waits);
                    entry.waits.extend(later);
                }
            }
        }
    }

    fn open_lanes(&mut self, mine: Holder) {
        for other in self.roster.holders().filter(|other| *other != mine) {
            self.generation += 1;
            let mut lane = Lane::new(other, self.generation);
            lane.floors = self.producers.keys().copied().collect();
            self.lanes.insert(other.life, lane);
        }
    }

    /// Looks whose each digest is now.
    fn divide(&mut self, mine: Holder) {
        let mut over = Vec::new();
        for (digest, entry) in &mut self.entries {
            let owner = self.roster.owner(*digest);
            if entry.has_news() {
                entry.at = None;
            }
            if owner != Some(mine) {
                let is_offered = match self.broken {
                    Sabotage::KeepsForItself => !entry.is_served,
                    _ => true,
                } && (entry.of == mine || !self.roster.has(entry.of));
                let is_offered = is_offered
                    && !(self.broken == Sabotage::StandbyKeepsForItself && entry.of != mine);
                entry.stop_serving();
                let lane = owner.and_then(|owner| self.lanes.get_mut(&owner.life));
                if let Some(lane) = lane.filter(|_| is_offered) {
                    lane.offers.insert(*digest);
                    self.counts.handed_over += 1;
                }
                continue;
            }
            // A candidate, until all others have offered what they have.
            if !entry.is_served || entry.of != mine {
                entry.stop_serving();
                continue;
            }
            let standby = self.roster.standby(*digest);
            let lane = standby.and_then(|standby| self.lanes.get_mut(&standby.life));
            match lane {
                None => over.push((*digest, entry.tell_nobody())),
                Some(lane) if entry.at != standby => {
                    entry.at = standby;
                    entry.want();
                    lane.copies.insert(*digest);
                }
                Some(_) => {}
            }
        }
        for (digest, waits) in over {
            self.is_known(digest, waits);
        }
    }

    /// A member has said where it is.
    pub(super) fn marked(&mut self, from: EndpointId, mark: Mark) {
        let marks = match mark {
            Mark::Offered => &mut self.phase.offered,
            Mark::Settled => &mut self.phase.settled,
            Mark::Clean => &mut self.phase.clean,
        };
        marks.insert(from);
        self.look();
    }

    /// A member has begun anew: it says again where it is.
    pub(super) fn forget_marks(&mut self, from: EndpointId) {
        for marks in [
            &mut self.phase.offered,
            &mut self.phase.settled,
            &mut self.phase.clean,
        ] {
            marks.remove(&from);
        }
        self.phase.progress = self.phase.progress.min(Progress::Cleaned);
    }

    /// A member has lost what it was told: it is told everything.
    pub(super) fn restart(&mut self, from: EndpointId) {
        let (Some(mine), Some(lane)) = (self.mine, self.lanes.remove(&from)) else {
            return;
        };
        let to = lane.to;
        let lanes = mem::take(&mut self.lanes);
        self.lanes.insert(from, lane);
        self.withdraw();
        self.lanes = lanes;
        self.generation += 1;
        self.lanes.insert(from, Lane::new(to, self.generation));
        let mut copies = BTreeSet::new();
        let mut offers = BTreeSet::new();
        for (digest, entry) in &mut self.entries {
            if entry.is_served {
                if self.roster.standby(*digest) == Some(to) {
                    entry.at = Some(to);
                    entry.want();
                    copies.insert(*digest);
                }
            } else if self.roster.owner(*digest) == Some(to)
                && (entry.of == mine || !self.roster.has(entry.of))
            {
                offers.insert(*digest);
            }
        }
        let phase = &self.phase;
        if let Some(lane) = self.lanes.get_mut(&from) {
            lane.copies = copies;
            lane.offers = offers;
            lane.floors = self.producers.keys().copied().collect();
            if self.waits_until.is_none() {
                lane.mark(Mark::Offered);
            }
            if phase.progress >= Progress::Settled {
                lane.mark(Mark::Settled);
            }
            if phase.progress >= Progress::Cleaned {
                lane.mark(Mark::Clean);
            }
        }
    }

    /// Looks whether the next step is due.
    pub(super) fn look(&mut self) {
        let Some(mine) = self.mine else {
            return;
        };
        let have_all = |marks: &BTreeSet<EndpointId>, lanes: &Self| {
            lanes.lanes.keys().all(|other| marks.contains(other))
        };
        let is_bold = self.broken == Sabotage::ServesAtOnce;
        if self.phase.progress == Progress::Waiting
            && self.waits_until.is_none()
            && (is_bold || have_all(&self.phase.offered, self))
        {
            self.phase.progress = Progress::Serving;
            self.has_gained = true;
            self.serve(mine);
        }
        if self.phase.progress == Progress::Serving && self.lanes.values().all(Lane::has_all_copies)
        {
            self.phase.progress = Progress::Settled;
            self.settled_in = Some(self.roster.clone());
            self.tell_all(Mark::Settled);
        }
        if self.phase.progress == Progress::Settled && have_all(&self.phase.settled, self) {
            self.phase.progress = Progress::Cleaned;
            if self.broken != Sabotage::KeepsStaleCopies {
                self.drop_stale(mine);
            }
            self.tell_all(Mark::Clean);
        }
        if self.phase.progress == Progress::Cleaned && have_all(&self.phase.clean, self) {
            self.phase.progress = Progress::Clean;
            self.is_swept = false;
        }
    }

    fn tell_all(&mut self, mark: Mark) {
        for lane in self.lanes.values_mut() {
            lane.mark(mark);
        }
    }

    /// Everybody has offered what it has: the newest of it counts.
    fn serve(&mut self, mine: Holder) {
        let terms = self
            .entries
            .values()
            .map(|entry| entry.contents.version.term);
        let newest = terms.max().unwrap_or(0);
        // Another owner may have begun since with fewer terms behind it: its epoch is what makes it later.
        self.epoch = match self.broken {
            Sabotage::CountsTermsAlone => 0,
            _ => self.roster.epoch(),
        };
        self.term = self.term.max(newest).saturating_add(1);
        let mut over = Vec::new();
        for (digest, entry) in &mut self.entries {
            if entry.is_served || self.roster.owner(*digest) != Some(mine) {
                continue;
            }
            self.count += 1;
            entry.is_served = true;
            entry.of = mine;
            entry.contents.version = Version {
                epoch: self.epoch,
                term: self.term,
                count: self.count,
            };
            let standby = self.roster.standby(*digest);
            entry.at = standby;
            // Whoever had it before may have said it, or not.
            let outputs = entry.contents.outputs.keys();
            entry.waits = outputs.map(|id| Wait::LeavesAgain(*id)).collect();
            let lane = standby.and_then(|standby| self.lanes.get_mut(&standby.life));
            if let Some(lane) = lane {
                entry.want();
                lane.copies.insert(*digest);
            } else {
                over.push((*digest, entry.tell_nobody()));
            }
        }
        for (digest, waits) in over {
            self.is_known(digest, waits);
        }
        self.release_held();
    }

    /// Forgets what others own by now, and have copies of.
    fn drop_stale(&mut self, mine: Holder) {
        let roster = &self.roster;
        let mut bytes = 0;
        self.entries.retain(|digest, entry| {
            let is_kept =
                roster.owner(*digest) == Some(mine) || roster.standby(*digest) == Some(mine);
            if !is_kept {
                bytes += entry.contents.bytes();
            }
            is_kept
        });
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Something was offered.
    pub(super) fn offered(&mut self, from: Holder, digest: u32, contents: Contents) {
        let known = self.entries.get(&digest);
        // Who serves it knows what it was before.
        if known.is_some_and(|known| known.is_served) || self.phase.progress > Progress::Waiting {
            return;
        }
        let is_newer = known.is_none_or(|known| {
            let known = known.contents.version;
            match self.broken {
                Sabotage::TakesOldest => known > contents.version,
                _ => known < contents.version,
            }
        });
        if is_newer {
            self.counts.taken_over += 1;
            self.put(from, digest, contents);
        }
    }

    /// Drops events that wait for contents that do not come: their producers send them to others.
    pub(super) fn drop_held(&mut self) {
        for held in mem::take(&mut self.held) {
            self.expect_again(&held);
        }
        self.held_bytes = 0;
    }

    /// Forgets the digests of which nothing is left.
    pub(super) fn forget_empty(&mut self) {
        let may_come_back = !self.missing.is_empty() && self.broken != Sabotage::ForgetsTooEarly;
        if self.phase.progress != Progress::Clean || may_come_back {
            return;
        }
        // Nobody has anything older that they would have to be newer than. Of some copies their owner's word has not arrived.
        if !mem::replace(&mut self.is_swept, true) {
            self.entries
                .retain(|_, entry| entry.is_served || !entry.contents.is_empty());
            let empty = self.entries.iter();
            let empty = empty.filter(|(_, entry)| entry.contents.is_empty());
            self.empty.extend(empty.map(|(digest, _)| *digest));
        }
        for digest in mem::take(&mut self.empty) {
            let Some(entry) = self.entries.get(&digest) else {
                continue;
            };
            if !entry.contents.is_empty() || !entry.is_served {
                continue;
            }
            if !entry.is_safe() {
                self.empty.insert(digest);
                continue;
            }
            let version = entry.contents.version;
            self.entries.remove(&digest);
            let standby = self.roster.standby(digest);
            if let Some(lane) = standby.and_then(|standby| self.lanes.get_mut(&standby.life)) {
                lane.forget(digest, version);
            }
        }
    }

    /// Says again what another member has not confirmed, where the time has come.
    pub(super) fn confirmed(
        &mut self,
        from: EndpointId,
        generation: u64,
        expected: u64,
        wanted: &BTreeSet<u32>,
        now: Mono,
    ) {
        let Some(lane) = self.lanes.get_mut(&from) else {
            return;
        };
        if lane.generation != generation {
            return;
        }
        let arrived = lane.arrived(expected, now);
        let to = lane.to;
        for said in arrived {
            let digest = said.digest.filter(|digest| !wanted.contains(digest));
            let entry = said.digest.and_then(|digest| self.entries.get_mut(&digest));
            let Some(entry) = entry else {
                continue;
            };
            entry.on_the_way = entry.on_the_way.saturating_sub(1);
            if digest.is_none() {
                // It has arrived, and was of no use.
                let later = mem::replace(&mut entry.waits, said.waits);
                entry.waits.extend(later);
                continue;
            }
            if let Some(digest) = digest {
                self.is_known(digest, said.waits);
            }
        }
        for digest in wanted {
            let entry = self.entries.get_mut(digest);
            let is_copy = self.roster.standby(*digest) == Some(to);
            if let (Some(entry), Some(lane)) = (entry, self.lanes.get_mut(&from))
                && entry.is_served
                && is_copy
            {
                entry.want();
                lane.copies.insert(*digest);
            }
        }
        self.look();
    }
}
