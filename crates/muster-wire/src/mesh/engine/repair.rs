//! Repair: what two neighbours do when their databases differ (protocol version 2, section 6.3).

use std::collections::BTreeMap;
use std::time::Duration;

use super::offers::OFFERED;
use super::{Mesh, Neighbour};
use crate::EndpointId;
use crate::mesh::codec::MeshFrame;
use crate::mesh::record::{Record, Versions};
use crate::mesh::seal::Signature;
use crate::time::Mono;

/// A difference must last this long, and our own database must not have changed for this long, before it counts:
/// news may be under way.
const STANDING: Duration = Duration::from_millis(100);

/// The exchanges under way at one time. An endpoint with 96 neighbours need not ask all of them.
const MAX_EXCHANGES: usize = 3;

/// An exchange that has no answer after this time is no longer under way.
const UNANSWERED: Duration = Duration::from_secs(1);

/// What was out of reach for no longer may be about to come in reach.
const RECENT: Duration = Duration::from_secs(3);

/// The bytes of records after which they go on in another frame: a reader holds a whole frame, and may read from
/// hundreds of links.
const CUT: usize = 32 << 10;

impl Mesh {
    /// Returns the hash over the records of all that can be reached from here.
    pub fn digest(&self) -> u64 {
        self.database.hash()
    }

    fn versions(&self) -> Vec<Versions> {
        let reach = self.database.reach().iter();
        reach
            .filter_map(|slot| self.database.versions(slot))
            .collect()
    }

    /// A neighbour's hash. Where it differs, the one with the smaller id says what it has.
    pub(super) fn compare(&mut self, from: EndpointId, hash: u64, is_new: bool, now: Mono) {
        if self.is_between_leaves(from) {
            return;
        }
        #[cfg(feature = "simulation")]
        if self.sabotage == crate::mesh::Sabotage::NoRepair && !is_new {
            return;
        }
        let is_equal = hash == self.digest();
        let is_ours = self.identity.id < from;
        let is_standing = now.since(self.last_news) >= STANDING;
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        if is_equal {
            neighbour.is_synced = true;
            neighbour.doubt = None;
            if self.is_linked(from) && self.membership.proves(from) {
                self.look = Some(now);
            }
            self.try_join(None, now);
        } else if is_ours && is_new {
            neighbour.waits_with = Some(hash);
            self.exchange_with_next(now);
        } else if is_ours && is_standing {
            let (_, since) = neighbour.doubt.unwrap_or((hash, now));
            neighbour.doubt = Some((hash, since));
            self.set_alarm(from);
        }
    }

    /// What a neighbour has heard may be on its way to us: only a difference that stays is repaired.
    pub(super) fn settle_doubt(&mut self, peer: EndpointId, now: Mono) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let Some((hash, _)) = neighbour.doubt.filter(|(_, since)| doubted(*since) <= now) else {
            return;
        };
        neighbour.doubt = None;
        let is_standing = now.since(self.last_news) >= STANDING;
        if hash != self.digest() && is_standing {
            self.exchange(peer, now);
        }
    }

    /// Exchanges with those that had to wait for others, as long as they still differ from us.
    pub(super) fn exchange_with_next(&mut self, now: Mono) {
        loop {
            let open = self.open_exchanges(now);
            let mut waiting = self.neighbours.iter_mut();
            let next = waiting.find(|(_, neighbour)| neighbour.waits_with.is_some());
            let Some((peer, neighbour)) = next.filter(|_| open < MAX_EXCHANGES) else {
                return;
            };
            let (peer, hash) = (*peer, neighbour.waits_with.take());
            if hash == Some(self.database.hash()) {
                neighbour.is_synced = true;
                self.try_join(None, now);
            } else {
                self.exchange(peer, now);
            }
        }
    }

    fn open_exchanges(&self, now: Mono) -> usize {
        let open = |neighbour: &&Neighbour| is_open(neighbour, now);
        self.neighbours.values().filter(open).count()
    }

    fn exchange(&mut self, peer: EndpointId, now: Mono) {
        let open = self.open_exchanges(now);
        if let Some(neighbour) = self.neighbours.get_mut(&peer)
            && open < MAX_EXCHANGES
            && !is_open(neighbour, now)
        {
            neighbour.list_sent = Some(now);
            self.counts.repairs += 1;
            let list = self.versions();
            self.send(peer, MeshFrame::List(list));
        }
    }

    /// A neighbour's versions: we ask for what is newer there, and send what is older or missing.
    pub(super) fn listed(&mut self, from: EndpointId, list: &[Versions], now: Mono) {
        let mut theirs: BTreeMap<EndpointId, Versions> = list
            .iter()
            .map(|versions| (versions.id, *versions))
            .collect();
        let held = |mesh: &Self, id| {
            let slot = mesh.database.slot(id)?;
            mesh.database.versions(slot)
        };
        let wanted: Vec<EndpointId> = list
            .iter()
            .filter(|there| held(self, there.id).is_none_or(|here| there.is_newer_than(&here)))
            .map(|there| there.id)
            .collect();
        let mut to_send = Vec::new();
        for here in self.versions() {
            if theirs
                .remove(&here.id)
                .is_none_or(|there| here.is_newer_than(&there))
            {
                to_send.push(here.id);
            }
        }
        // What came just now and is not in reach yet will be, and the neighbour would miss it.
        let recent = self.unreachable.for_less(RECENT, now);
        to_send.extend(recent.filter(|id| !theirs.contains_key(id)));
        // What is out of our reach does not count for us, but may make them believe in it no longer.
        for there in theirs.values() {
            if held(self, there.id).is_some_and(|here| here.is_newer_than(there)) {
                to_send.push(there.id);
            }
        }
        let is_synced = wanted.is_empty();
        if !is_synced {
            self.send(from, MeshFrame::Want(wanted));
        }
        self.send_repair(from, &to_send);
        if let Some(neighbour) = self.neighbours.get_mut(&from)
            && is_synced
        {
            neighbour.is_synced = true;
            self.try_join(None, now);
        }
    }

    /// A neighbour wants records.
    pub(super) fn wanted(&mut self, from: EndpointId, ids: &[EndpointId]) {
        self.send_repair(from, ids);
    }

    /// Sends whole records in frames of bearable size; the last one says that it is the last.
    pub(super) fn send_repair(&mut self, to: EndpointId, ids: &[EndpointId]) {
        let mut records = Vec::new();
        let mut bytes = 0;
        for id in ids {
            let whole = self.whole_records(*id);
            bytes += whole.iter().map(size).sum::<usize>();
            records.extend(whole);
            if bytes >= CUT {
                let full = std::mem::take(&mut records);
                bytes = 0;
                self.send_part(to, true, full);
            }
        }
        self.send_part(to, false, records);
    }

    /// Sends a neighbour our records of some endpoints as a repair, or offers them if they are many: it takes up what it does
    /// not have by then.
    fn offer_repair(&mut self, to: EndpointId, ids: &[EndpointId]) {
        if ids.is_empty() {
            return;
        }
        let neighbour = self.neighbours.get(&to);
        let takes_offers = neighbour.is_some_and(|it| it.takes_offers);
        let records = ids.iter().flat_map(|id| self.whole_records(*id));
        let bytes: usize = records.map(|record| size(&record)).sum();
        let offered = OFFERED;
        #[cfg(feature = "simulation")]
        let offered = self.sabotage.offered_from(offered);
        if !takes_offers || bytes < offered {
            return self.send_repair(to, ids);
        }
        let slots = ids.iter().filter_map(|id| self.database.slot(*id));
        let list: Vec<Versions> = slots
            .filter_map(|slot| self.database.versions(slot))
            .collect();
        if !list.is_empty() {
            self.counts.offers += 1;
            let root = EndpointId::NIL;
            self.send(to, MeshFrame::Offer { root, list });
        }
    }

    /// A neighbour offers records as a repair: we take up what is newer there.
    pub(super) fn repair_offered(&mut self, from: EndpointId, list: &[Versions]) {
        let held = |id| {
            let slot = self.database.slot(id)?;
            self.database.versions(slot)
        };
        let newer = list
            .iter()
            .filter(|there| held(there.id).is_none_or(|here| there.is_newer_than(&here)));
        let ids: Vec<EndpointId> = newer.map(|there| there.id).collect();
        if !ids.is_empty() {
            let root = EndpointId::NIL;
            self.send(from, MeshFrame::Accept { root, ids });
        }
    }

    fn send_part(&mut self, to: EndpointId, more: bool, records: Vec<Record>) {
        self.counts.records_sent += records.len() as u64;
        let frame = MeshFrame::Records {
            root: EndpointId::NIL,
            more,
            flood: None,
            records,
        };
        self.send(to, frame);
    }

    /// A neighbour whose link has begun to count is asked whether it has what we have: if both are ready
    /// they are up for one another without settling.
    pub(super) fn greet(&mut self, peer: EndpointId) {
        let is_up = self.membership.up().contains(&peer);
        if !self.ready || is_up || !self.is_linked(peer) {
            return;
        }
        let slot = self.database.slot(peer);
        let node = slot.and_then(|slot| self.database.node(slot));
        let is_ready = node.is_some_and(|node| node.ready);
        if let Some(neighbour) = self.neighbours.get_mut(&peer)
            && is_ready
            && !neighbour.is_greeted
        {
            neighbour.is_greeted = true;
            let hash = self.digest();
            self.send(peer, MeshFrame::Digest(hash));
        }
    }

    /// A part of a repair came from a neighbour.
    pub(super) fn repaired(&mut self, from: EndpointId, more: bool, records: &[Record], now: Mono) {
        let news = self.take(from, records, now);
        self.hold_back(from, &news, now);
        // What is newer here may be out of our reach, or forged: then the endpoint itself must come to hear it.
        let behind = records
            .iter()
            .filter(|record| record.id() != self.identity.id);
        let behind = behind.filter(|record| record.id() != from && self.is_behind(record));
        let mut behind: Vec<EndpointId> = behind.map(Record::id).collect();
        behind.dedup();
        // It may well have come there meanwhile: while much changes most of it has.
        self.offer_repair(from, &behind);
        if let Some(neighbour) = self.neighbours.get_mut(&from)
            && !more
        {
            neighbour.is_synced = true;
            neighbour.list_sent = None;
            self.try_join(None, now);
            self.exchange_with_next(now);
        }
    }
}

/// Returns `true` if an exchange with a neighbour is under way.
fn is_open(neighbour: &Neighbour, now: Mono) -> bool {
    let sent = neighbour.list_sent;
    sent.is_some_and(|sent| now.since(sent) < UNANSWERED)
}

/// When a difference seen first at this time has lasted.
pub(super) fn doubted(since: Mono) -> Mono {
    since.after(STANDING)
}

/// Records in parts of bearable size, each of at least one.
pub(super) fn cut(records: &[Record]) -> Vec<&[Record]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        bytes += size(record);
        if bytes >= CUT {
            parts.push(&records[start..=at]);
            (start, bytes) = (at + 1, 0);
        }
    }
    if start < records.len() {
        parts.push(&records[start..]);
    }
    parts
}

fn signed(seal: Option<&Signature>) -> usize {
    seal.map_or(0, |seal| seal.len())
}

/// About how many bytes a record takes.
pub(super) fn size(record: &Record) -> usize {
    match record {
        Record::Node(node, seal) => {
            let filter: usize = node.filter.entries().map(<[u8]>::len).sum();
            64 + filter + seal.as_ref().map_or(0, |seal| seal.size())
        }
        Record::Links(links, seal) => 32 + 16 * links.neighbours.len() + signed(seal.as_ref()),
        Record::Changes(changes, seal) => {
            40 + 16 * (changes.added.len() + changes.removed.len()) + signed(seal.as_ref())
        }
    }
}
