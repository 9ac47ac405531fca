//! What a node has received of a list, and what it asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_data::DataRef;
use muster_wire::{EndpointId, Mono};

use super::event::{FollowerHook, Told};
use super::keys::Keys;
use super::limits::FeedLimits;
use super::list::parts;
use super::messages::{PartRef, Want};
use super::sabotage::Sabotage;
use crate::layout::NodeName;

/// After so long without anything new a follower that is not at the end asks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The least time between two times that a follower asks as it sees that something is missing.
const ASK_SOON: Duration = Duration::from_millis(200);

/// What a follower has received it says after this time, if it does not say so earlier.
const SAY_AFTER: Duration = Duration::from_millis(500);

/// The nodes of which it is remembered that they are sources, beside the one that is followed.
const MOST_SOURCES: usize = 16;

/// The keys that are looked at in one step when those are removed that the new list does not have.
const KEYS_PER_STEP: usize = 16_384;

/// A node's copy of a list: the keys that its framework knows, and how far it is.
#[derive(Debug)]
pub(crate) struct Follower {
    limits: FeedLimits,
    /// The sources that are there, by name.
    sources: BTreeMap<NodeName, Known>,
    followed: Option<Followed>,
    keys: Keys,
    /// How often it has begun at 0.
    round: u32,
    /// The number of the last message to a source.
    number: u64,
    wants: Vec<(EndpointId, Want)>,
    broken: Sabotage,
}

/// A source that is there.
#[derive(Debug, Clone, Copy)]
struct Known {
    life: EndpointId,
    head: u64,
}

/// The source that is followed.
#[derive(Debug)]
struct Followed {
    name: NodeName,
    life: EndpointId,
    is_gone: bool,
    /// The framework does not know that everything is there.
    is_incomplete: bool,
    /// Everything up to this number is there.
    position: u64,
    state: State,
    /// The last number of the source that is known.
    head: u64,
    /// When something new came, or was asked for.
    stirred: Mono,
    asked: Mono,
    /// What the source was told, and what came since.
    told: u64,
    untold_bytes: usize,
    untold_since: Option<Mono>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It takes the list from the beginning. No removal is missing up to this number, the head of the part that was made first.
    Beginning(u64),
    /// It has the list, and drops what is not in it, from a place on.
    Sweeping(usize),
    /// It takes changes.
    Following,
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fate {
    /// Whether it was taken. Otherwise it is of another source, came twice, or something before it is missing.
    pub(crate) is_taken: bool,
    /// The changes that the framework was told.
    pub(crate) told: u64,
    /// The changes that are none, could not be read, or for which there is no room.
    pub(crate) refused: u64,
}

impl Follower {
    /// A follower that knows of no source yet.
    pub(crate) fn new(limits: FeedLimits) -> Self {
        Self {
            limits,
            sources: BTreeMap::new(),
            followed: None,
            keys: Keys::default(),
            round: 0,
            number: 0,
            wants: Vec::new(),
            broken: Sabotage::None,
        }
    }

    /// Lets a rule be broken, under other bounds.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn sabotage(&mut self, broken: Sabotage, limits: FeedLimits) {
        (self.broken, self.limits) = (broken, limits);
    }

    /// Returns the number of items that its framework knows of.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns the life of the source and the number up to which everything is there, if the framework was told that it is complete.
    #[cfg(test)]
    pub(crate) fn complete(&self) -> Option<(EndpointId, u64)> {
        let followed = self.followed.as_ref()?;
        let is_complete = !followed.is_incomplete && !followed.is_gone;
        is_complete.then_some((followed.life, followed.position))
    }

    /// Returns how often it has begun at the beginning of a list.
    pub(crate) fn rounds(&self) -> u32 {
        self.round
    }

    /// Returns the node that is followed and another one that is a source as well, if there is one.
    pub(crate) fn rival(&self) -> Option<(&NodeName, &NodeName)> {
        let followed = &self.followed.as_ref()?.name;
        let other = self.sources.keys().find(|name| *name != followed)?;
        Some((followed, other))
    }

    /// Returns what is to be said to sources.
    pub(crate) fn take_wants(&mut self) -> Vec<(EndpointId, Want)> {
        std::mem::take(&mut self.wants)
    }

    /// A node says that it is a source. Of several the one with the least name is followed.
    pub(crate) fn announced(
        &mut self,
        name: &NodeName,
        life: EndpointId,
        head: u64,
        now: Mono,
        tell: &mut FollowerHook<'_>,
    ) {
        if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(name) {
            return;
        }
        self.sources.insert(name.clone(), Known { life, head });
        self.choose(now, tell);
    }

    /// A life of a node is gone.
    pub(crate) fn gone(&mut self, life: EndpointId, now: Mono, tell: &mut FollowerHook<'_>) {
        self.sources.retain(|_, known| known.life != life);
        if let Some(followed) = &mut self.followed
            && followed.life == life
            && !followed.is_gone
        {
            followed.is_gone = true;
            followed.is_incomplete = true;
            tell(Told::Gone);
        }
        self.choose(now, tell);
    }

    /// A part has arrived, of so many bytes.
    pub(crate) fn part(
        &mut self,
        from: EndpointId,
        part: &PartRef<'_>,
        bytes: usize,
        now: Mono,
        tell: &mut FollowerHook<'_>,
    ) -> Fate {
        let is_gap_taken = self.broken == Sabotage::TakesGaps;
        let followed = self.followed.as_mut();
        let followed = followed.filter(|it| it.life == from && !it.is_gone);
        let Some(followed) = followed else {
            return Fate::default();
        };
        followed.head = followed.head.max(part.head);
        if matches!(followed.state, State::Sweeping(_)) {
            return Fate::default();
        }
        let follows =
            part.from == followed.position || (is_gap_taken && part.to > followed.position);
        if !follows {
            let is_missing = part.from > followed.position;
            if is_missing && followed.asked.after(ASK_SOON) <= now {
                self.ask(now);
            }
            return Fate::default();
        }
        let known = match followed.state {
            State::Beginning(first) => first.max(part.from),
            _ => part.from,
        };
        if part.floor > known && self.broken != Sabotage::ForgetsRemovals {
            self.begin(now, tell);
            return Fate::default();
        }
        followed.position = part.to;
        followed.stirred = now;
        followed.untold_bytes += bytes;
        followed.untold_since.get_or_insert(now);
        let is_at_end = part.to == part.head;
        if let State::Beginning(first) = followed.state {
            followed.state = match is_at_end {
                true if self.broken == Sabotage::SweepsNothing => State::Following,
                true => State::Sweeping(0),
                false => State::Beginning(first.min(part.head)),
            };
        }
        let is_complete = followed.is_incomplete && is_at_end;
        let is_complete = is_complete && followed.state == State::Following;
        followed.is_incomplete &= !is_complete;
        let says = followed.untold_bytes >= self.limits.part / 2;
        let fate = self.take(part, tell);
        if is_complete {
            tell(Told::Complete);
        }
        if says {
            self.say();
        }
        fate
    }

    /// Returns when [`tick`](Self::tick) is due.
    pub(crate) fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let followed = self.followed.as_ref().filter(|it| !it.is_gone)?;
        if matches!(followed.state, State::Sweeping(_)) {
            return Some(now);
        }
        let ask = followed.is_behind().then(|| followed.ask_at());
        let say = followed.untold_since.map(|since| since.after(SAY_AFTER));
        ask.into_iter().chain(say).min()
    }

    /// Does what is due. Returns the number of changes that the framework was told.
    pub(crate) fn tick(&mut self, now: Mono, tell: &mut FollowerHook<'_>) -> u64 {
        let Some(followed) = self.followed.as_mut().filter(|it| !it.is_gone) else {
            return 0;
        };
        if let State::Sweeping(place) = followed.state {
            return self.sweep(place, now, tell);
        }
        if followed.is_behind() && followed.ask_at() <= now {
            self.ask(now);
        } else if followed
            .untold_since
            .is_some_and(|at| at.after(SAY_AFTER) <= now)
        {
            self.say();
        }
        0
    }

    /// Follows the source with the least name, if it is not followed yet.
    fn choose(&mut self, now: Mono, tell: &mut FollowerHook<'_>) {
        let Some((name, known)) = self.sources.first_key_value() else {
            return;
        };
        let known = *known;
        if let Some(followed) = &mut self.followed
            && followed.name == *name
        {
            if followed.life == known.life {
                if !followed.is_behind() {
                    // What is new is on its way.
                    followed.stirred = now;
                }
                followed.head = followed.head.max(known.head);
                if std::mem::take(&mut followed.is_gone) {
                    // What was on its way may be lost. The source answers even if nothing is new, and then it is complete.
                    self.ask(now);
                }
                return;
            }
            if self.broken == Sabotage::MixesLives {
                followed.life = known.life;
                followed.is_gone = false;
                self.ask(now);
                return;
            }
        }
        self.followed = Some(Followed {
            name: name.clone(),
            life: known.life,
            is_gone: false,
            is_incomplete: true,
            position: 0,
            state: State::Beginning(u64::MAX),
            head: known.head,
            stirred: now,
            asked: now,
            told: 0,
            untold_bytes: 0,
            untold_since: None,
        });
        self.begin(now, tell);
    }

    /// Takes the list of the source that is followed from its beginning.
    fn begin(&mut self, now: Mono, tell: &mut FollowerHook<'_>) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        followed.position = 0;
        followed.state = State::Beginning(u64::MAX);
        followed.is_incomplete = true;
        // Rounds that are as far apart as this comes to do not meet.
        self.round = self.round.wrapping_add(1);
        tell(Told::Begun(&followed.name));
        if self.broken == Sabotage::EmptiesFirst {
            let round = self.round;
            let removed = |key: &[u8]| _ = tell(Told::Removed(DataRef::from_validated(key)));
            self.keys.sweep(0, usize::MAX, round, removed);
        }
        self.ask(now);
    }

    /// Takes the changes of a part.
    fn take(&mut self, part: &PartRef<'_>, tell: &mut FollowerHook<'_>) -> Fate {
        let mut fate = Fate {
            is_taken: true,
            ..Fate::default()
        };
        for change in part.changes {
            let Some((key, value)) = parts(change.encoded()) else {
                fate.refused += 1;
                continue;
            };
            let key_view = DataRef::from_validated(key);
            let Some(value) = value else {
                if self.keys.remove(key) {
                    fate.told += 1;
                    fate.refused += u64::from(!tell(Told::Removed(key_view)));
                }
                continue;
            };
            let has_room = self.keys.len() < self.limits.items
                && self.keys.bytes() + key.len() <= self.limits.bytes;
            let is_readable = (has_room || self.keys.contains(key))
                && tell(Told::Put(key_view, DataRef::from_validated(value)));
            if is_readable {
                self.keys.put(key, self.round);
                fate.told += 1;
            } else {
                fate.refused += 1;
                // What it was before is not what the source has.
                if self.keys.remove(key) {
                    tell(Told::Removed(key_view));
                }
            }
        }
        fate
    }

    /// Drops some of what was not in the list that it has taken.
    fn sweep(&mut self, place: usize, now: Mono, tell: &mut FollowerHook<'_>) -> u64 {
        let mut told = 0;
        let next = self.keys.sweep(place, KEYS_PER_STEP, self.round, |key| {
            told += 1;
            tell(Told::Removed(DataRef::from_validated(key)));
        });
        let Some(followed) = &mut self.followed else {
            return told;
        };
        if let Some(next) = next {
            followed.state = State::Sweeping(next);
            return told;
        }
        followed.state = State::Following;
        followed.is_incomplete = false;
        followed.stirred = now;
        // What came meanwhile was not taken.
        let is_behind = followed.is_behind();
        tell(Told::Complete);
        if is_behind {
            self.ask(now);
        }
        told
    }

    /// Asks for what is behind the position.
    fn ask(&mut self, now: Mono) {
        self.want(true);
        if let Some(followed) = &mut self.followed {
            (followed.asked, followed.stirred) = (now, now);
        }
    }

    /// Says what has arrived, if the source does not know it.
    fn say(&mut self) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        if followed.told == followed.position {
            followed.untold_since = None;
            followed.untold_bytes = 0;
            return;
        }
        self.want(false);
    }

    fn want(&mut self, is_anew: bool) {
        let Some(followed) = &mut self.followed else {
            return;
        };
        followed.told = followed.position;
        followed.untold_bytes = 0;
        followed.untold_since = None;
        self.number += 1;
        let want = Want {
            number: self.number,
            position: followed.position,
            is_anew,
        };
        self.wants.push((followed.life, want));
    }
}

impl Followed {
    /// Something is missing.
    fn is_behind(&self) -> bool {
        self.is_incomplete || self.position < self.head
    }

    /// When it asks for it.
    fn ask_at(&self) -> Mono {
        self.stirred.after(ASK_AGAIN)
    }
}
