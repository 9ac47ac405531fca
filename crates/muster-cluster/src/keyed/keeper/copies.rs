//! What a member tells its standbys, and what it hears as one.

use muster_data::DataRef;
use muster_wire::{EndpointId, Mono};

use super::{Keeper, KeeperStep};
use crate::keyed::entry::{Changes, Contents, Entry, EventId, News, Version};
use crate::keyed::lane::Said;
use crate::keyed::messages::{LaneAck, LaneItem, LaneMessage, decoded, encoded};
use crate::keyed::roster::Holder;
use crate::keyed::sabotage::Sabotage;

impl Keeper {
    /// Says what others are to know.
    pub(super) fn speak(&mut self, now: Mono) {
        self.look();
        let lives: Vec<EndpointId> = self.lanes.keys().copied().collect();
        for life in lives {
            while self.say_next(life) {}
            let heard = self.heard.get(&life);
            let heard = heard.map_or((0, 0), |heard| (heard.generation, heard.expected));
            let Some(lane) = self.lanes.get_mut(&life) else {
                continue;
            };
            while let Some((first, items)) = lane.take_unsaid(now) {
                let message = LaneMessage {
                    roster: self.roster.id(),
                    generation: lane.generation,
                    heard,
                    first,
                    items,
                };
                self.steps.push(KeeperStep::Say(life, message));
            }
        }
    }

    /// Puts the next message on a lane. Returns `false` if there is none, or no room.
    fn say_next(&mut self, life: EndpointId) -> bool {
        let Some(lane) = self.lanes.get_mut(&life).filter(|lane| lane.has_room()) else {
            return false;
        };
        // What was handled just now goes before what nobody waits for.
        if let Some(digest) = lane.changed.pop_first() {
            if let Some(entry) = self.entries.get_mut(&digest)
                && entry.is_served
                && !entry.is_wanted
                && let Some(news) = entry.take_news()
            {
                let News {
                    base,
                    changes,
                    events,
                    waits,
                } = news;
                entry.on_the_way += 1;
                let item = LaneItem::Changes {
                    digest,
                    base,
                    version: entry.contents.version,
                    changes,
                    events,
                };
                lane.say(Said {
                    item: encoded(&item),
                    digest: Some(digest),
                    is_copy: false,
                    waits,
                });
            }
            return true;
        }
        if lane.needs_floors() {
            let told = std::mem::take(&mut lane.floors);
            let known = told.into_iter().filter_map(|producer| {
                let known = self.producers.get(&producer)?;
                Some((producer, known.floor))
            });
            lane.say(Said {
                item: encoded(&LaneItem::Floors(known.collect())),
                digest: None,
                is_copy: false,
                waits: Vec::new(),
            });
            return true;
        }
        if let Some(digest) = lane.copies.pop_first() {
            if let Some(entry) = self.entries.get_mut(&digest)
                && entry.is_served
            {
                let waits = entry.take_all();
                entry.on_the_way += 1;
                let item = whole(digest, &entry.contents, self.broken);
                lane.say(Said {
                    item,
                    digest: Some(digest),
                    is_copy: true,
                    waits,
                });
            }
            return true;
        }
        if let Some(digest) = lane.offers.pop_first() {
            if let Some(entry) = self.entries.get(&digest) {
                lane.say(Said {
                    item: whole(digest, &entry.contents, self.broken),
                    digest: None,
                    is_copy: false,
                    waits: Vec::new(),
                });
            }
            return true;
        }
        if let Some(item) = lane.next_word() {
            lane.say(Said {
                item: encoded(&item),
                digest: None,
                is_copy: false,
                waits: Vec::new(),
            });
            return true;
        }
        false
    }

    /// Another member says something.
    pub(crate) fn heard(&mut self, from: EndpointId, message: &LaneMessage) {
        let is_current = message.roster == self.roster.id();
        if !is_current && self.broken != Sabotage::TakesFromFormer {
            return;
        }
        let Some(sender) = self.roster.holder(from).or_else(|| {
            let is_former = self.broken == Sabotage::TakesFromFormer;
            is_former.then_some(Holder {
                life: from,
                session: 0,
            })
        }) else {
            return;
        };
        if self.mine.is_none() {
            return;
        }
        let heard = self.heard.entry(from).or_default();
        if !is_current {
            heard.generation = message.generation;
            heard.expected = message.first;
        }
        if message.generation < heard.generation {
            return;
        }
        if message.generation > heard.generation {
            let has_met = heard.generation > 0;
            heard.generation = message.generation;
            heard.expected = 0;
            heard.wanted.clear();
            if has_met {
                self.forget_marks(from);
            }
            let lane = self.lanes.get_mut(&from);
            if lane
                .as_ref()
                .is_some_and(|lane| lane.was_lost(message.heard))
            {
                self.restart(from);
            } else if let Some(lane) = lane {
                // It is here now: what was said before may not have been heard.
                lane.begin_again();
            }
        }
        for (index, item) in (0..).zip(&message.items) {
            let place = message.first.saturating_add(index);
            let heard = self.heard.entry(from).or_default();
            if place < heard.expected {
                continue;
            }
            if place > heard.expected {
                break;
            }
            let item = decoded(DataRef::from_validated(item));
            // The owner's own bound holds for what it has; this one for whoever sends more than it may have.
            if let Some(LaneItem::Contents(_, contents)) = &item
                && self.bytes + contents.bytes() > self.limits.rows.saturating_mul(2)
            {
                self.counts.no_room += 1;
                break;
            }
            heard.expected += 1;
            match item {
                Some(item) => self.take(sender, item),
                None => self.counts.malformed += 1,
            }
        }
        let Some(heard) = self.heard.get(&from) else {
            return;
        };
        let ack = LaneAck {
            roster: message.roster,
            generation: message.generation,
            expected: heard.expected,
            wanted: heard.wanted.clone(),
        };
        self.steps.push(KeeperStep::Confirm(from, ack));
    }

    /// Something that was said has arrived.
    pub(crate) fn lane_confirmed(&mut self, from: EndpointId, ack: &LaneAck, now: Mono) {
        if ack.roster == self.roster.id() {
            self.confirmed(from, ack.generation, ack.expected, &ack.wanted, now);
        }
    }

    fn take(&mut self, sender: Holder, item: LaneItem) {
        let is_owner = |digest: u32| self.roster.owner(digest) == Some(sender);
        match item {
            LaneItem::Mark(mark) => self.marked(sender.life, mark),
            LaneItem::Floors(floors) => {
                for (producer, floor) in floors {
                    self.know(producer);
                    self.advance(producer, floor);
                }
            }
            LaneItem::Contents(digest, contents) => {
                if self.roster.owner(digest) == self.mine {
                    self.offered(sender, digest, contents);
                } else if is_owner(digest) || self.broken == Sabotage::TakesFromFormer {
                    self.put(sender, digest, contents);
                    if let Some(heard) = self.heard.get_mut(&sender.life) {
                        heard.wanted.remove(&digest);
                    }
                }
            }
            LaneItem::Changes {
                digest,
                base,
                version,
                changes,
                events,
            } => {
                if !is_owner(digest) && self.broken != Sabotage::TakesFromFormer {
                    return;
                }
                let fits = match self.entries.get(&digest) {
                    Some(entry) => !entry.is_served && entry.contents.version == base,
                    None => false,
                };
                if fits {
                    self.follow(sender, digest, version, &changes, &events);
                } else if let Some(heard) = self.heard.get_mut(&sender.life) {
                    heard.wanted.insert(digest);
                }
            }
            LaneItem::Forget(digest, version) => {
                let entry = self.entries.get(&digest);
                let is_it = entry
                    .is_some_and(|entry| !entry.is_served && entry.contents.version == version);
                if is_it && is_owner(digest) {
                    self.remove(digest);
                }
            }
        }
    }

    /// Takes all of what is known of a digest.
    pub(super) fn put(&mut self, of: Holder, digest: u32, mut contents: Contents) {
        self.remove(digest);
        let producers = &self.producers;
        contents.handled.retain(|producer, numbers| {
            if let Some(known) = producers.get(producer) {
                numbers.remove_below(known.floor);
            }
            !numbers.is_empty()
        });
        for (producer, numbers) in &contents.handled {
            for number in numbers.iter() {
                let event = EventId {
                    producer: *producer,
                    number,
                };
                self.remember(event, digest);
            }
        }
        self.bytes += contents.bytes();
        if !contents.outputs.is_empty() {
            self.with_outputs.insert(digest);
        }
        self.entries.insert(digest, Entry::new(contents, of));
    }

    fn follow(
        &mut self,
        of: Holder,
        digest: u32,
        version: Version,
        changes: &Changes,
        events: &[EventId],
    ) {
        let producers = &self.producers;
        let may_come = |event: &&EventId| {
            let known = producers.get(&event.producer);
            known.is_none_or(|known| known.floor <= event.number)
        };
        let events: Vec<EventId> = events.iter().filter(may_come).copied().collect();
        for event in &events {
            self.remember(*event, digest);
        }
        let Some(entry) = self.entries.get_mut(&digest) else {
            return;
        };
        entry.of = of;
        if !changes.outputs.is_empty() {
            self.with_outputs.insert(digest);
        }
        entry.contents.version = version;
        let (grown, shrunk) = entry.contents.apply(changes);
        for event in events {
            let handled = entry.contents.handled.entry(event.producer).or_default();
            handled.insert(event.number);
        }
        self.bytes = (self.bytes + grown).saturating_sub(shrunk);
    }

    fn remove(&mut self, digest: u32) {
        if let Some(entry) = self.entries.remove(&digest) {
            self.bytes = self.bytes.saturating_sub(entry.contents.bytes());
        }
    }
}

fn whole(digest: u32, contents: &Contents, broken: Sabotage) -> bytes::Bytes {
    let mut contents = contents.clone();
    if broken == Sabotage::HandsOverRowsAlone {
        contents.handled.clear();
    }
    if broken == Sabotage::HandsOverNoOutputs {
        contents.outputs.clear();
    }
    encoded(&LaneItem::Contents(digest, contents))
}
