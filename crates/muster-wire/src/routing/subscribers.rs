//! The local subscribers of a table, and what they subscribe to.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::topic::LOCAL_PREFIX;

/// Subscribers by the prefixes of topics that they subscribe to. `S` is the shell's handle of one.
///
/// A copy costs a few pointers, and a change touches the changed prefixes and little else, however many there are: the
/// index is a list of layers, each at least twice as large as the next. A change is a new layer, and layers that are
/// near in size become one; copies share those that stay.
#[derive(Debug, Clone)]
pub struct Subscribers<S> {
    handles: Arc<Vec<Option<S>>>,
    free: Arc<Vec<u32>>,
    layers: Vec<Arc<Layer>>,
}

impl<S> Default for Subscribers<S> {
    fn default() -> Self {
        Self {
            handles: Arc::default(),
            free: Arc::default(),
            layers: Vec::new(),
        }
    }
}

impl<S> Subscribers<S> {
    /// Returns the subscriber at a position, if there is one.
    pub fn get(&self, position: u32) -> Option<&S> {
        self.handles.get(position as usize)?.as_ref()
    }

    /// Returns the positions of those that subscribe to a topic, in ascending order.
    pub fn matching(&self, topic: &[u8]) -> Vec<u32> {
        let mut found = Vec::new();
        // What newer layers say of a prefix and a subscriber holds.
        let mut ended = HashSet::new();
        for layer in self.layers.iter().rev() {
            layer.each_prefix_of(topic, |entry| {
                let length = entry.prefix.len();
                let holds =
                    |position: &&u32| ended.is_empty() || !ended.contains(&(length, **position));
                found.extend(entry.begun.iter().filter(holds).copied());
                ended.extend(entry.ended.iter().map(|position| (length, *position)));
            });
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Begins a subscription to each of some prefixes that the subscriber at a position did not subscribe to. Those
    /// below `<$>/local/` match nothing.
    pub fn subscribe<'a>(&mut self, position: u32, prefixes: impl IntoIterator<Item = &'a [u8]>) {
        self.change(position, prefixes, |entry| &mut entry.begun);
    }

    /// Ends the subscriptions to some prefixes of the subscriber at a position, which it has.
    pub fn unsubscribe<'a>(&mut self, position: u32, prefixes: impl IntoIterator<Item = &'a [u8]>) {
        self.change(position, prefixes, |entry| &mut entry.ended);
    }

    fn change<'a>(
        &mut self,
        position: u32,
        prefixes: impl IntoIterator<Item = &'a [u8]>,
        list: impl Fn(&mut Entry) -> &mut Vec<u32>,
    ) {
        let prefixes = prefixes.into_iter();
        let mut entries: BTreeMap<&[u8], Entry> = BTreeMap::new();
        for prefix in prefixes.filter(|prefix| !prefix.starts_with(LOCAL_PREFIX)) {
            let new = || Entry::new(prefix.into());
            *list(entries.entry(prefix).or_insert_with(new)) = vec![position];
        }
        self.add(Layer::new(entries.into_values()));
    }

    fn add(&mut self, mut layer: Layer) {
        if layer.size == 0 {
            return;
        }
        while let Some(before) = self.layers.pop_if(|before| before.size < 2 * layer.size) {
            layer = before.followed_by(&layer, self.layers.is_empty());
        }
        if layer.size > 0 {
            self.layers.push(Arc::new(layer));
        }
    }

    /// The prefixes that a look at all layers meets.
    #[cfg(test)]
    fn layers(&self) -> usize {
        self.layers.len()
    }
}

impl<S: Clone> Subscribers<S> {
    /// Adds a subscriber that subscribes to nothing yet. Returns its position.
    pub fn insert(&mut self, handle: S) -> u32 {
        let handles = Arc::make_mut(&mut self.handles);
        if !self.free.is_empty()
            && let Some(position) = Arc::make_mut(&mut self.free).pop()
        {
            handles[position as usize] = Some(handle);
            return position;
        }
        handles.push(Some(handle));
        super::position_of(handles.len() - 1)
    }

    /// Removes a subscriber with all that it subscribes to.
    pub fn remove<'a>(&mut self, position: u32, prefixes: impl IntoIterator<Item = &'a [u8]>) {
        self.unsubscribe(position, prefixes);
        let handle = Arc::make_mut(&mut self.handles).get_mut(position as usize);
        if let Some(handle) = handle
            && handle.take().is_some()
        {
            Arc::make_mut(&mut self.free).push(position);
        }
    }
}

/// Subscribers with their prefixes.
impl<'a, S, P> FromIterator<(P, S)> for Subscribers<S>
where
    P: IntoIterator<Item = &'a [u8]>,
{
    fn from_iter<I: IntoIterator<Item = (P, S)>>(subscribers: I) -> Self {
        let mut handles = Vec::new();
        let mut entries: BTreeMap<&[u8], Entry> = BTreeMap::new();
        for (prefixes, handle) in subscribers {
            handles.push(Some(handle));
            let position = super::position_of(handles.len() - 1);
            for prefix in prefixes {
                let entry = entries.entry(prefix);
                let entry = entry.or_insert_with(|| Entry::new(prefix.into()));
                entry.begun.push(position);
            }
        }
        let mut all = Self {
            handles: Arc::new(handles),
            ..Self::default()
        };
        all.add(Layer::new(entries.into_values()));
        all
    }
}

/// Sorted prefixes, each with a link to the longest other prefix of it. All prefixes of a topic lie
/// on the chain that starts at the greatest entry not behind the topic.
#[derive(Debug)]
struct Layer {
    entries: Vec<Entry>,
    /// The subscriptions that begin and end.
    size: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    prefix: Arc<[u8]>,
    /// Who subscribes to it.
    begun: Vec<u32>,
    /// Who does not any more, whatever layers before say.
    ended: Vec<u32>,
    shorter: Option<usize>,
}

impl Entry {
    fn new(prefix: Arc<[u8]>) -> Self {
        Self {
            prefix,
            begun: Vec::new(),
            ended: Vec::new(),
            shorter: None,
        }
    }

    /// What this says, and after it another of the same prefix.
    fn followed_by(&self, next: &Self) -> Self {
        let stays = |position: &&u32| !next.ended.contains(position);
        let mut both = Self::new(Arc::clone(&self.prefix));
        both.begun.extend(self.begun.iter().filter(stays));
        both.begun.extend(&next.begun);
        let has_not_begun = |position: &&u32| !next.begun.contains(position);
        both.ended.extend(self.ended.iter().filter(has_not_begun));
        both.ended.extend(&next.ended);
        both
    }
}

impl Layer {
    /// Makes a layer of entries in the order of their prefixes.
    fn new(sorted: impl IntoIterator<Item = Entry>) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        let mut size = 0;
        for mut entry in sorted {
            let mut shorter = entries.len().checked_sub(1);
            while let Some(at) = shorter
                && !entry.prefix.starts_with(&entries[at].prefix)
            {
                shorter = entries[at].shorter;
            }
            entry.shorter = shorter;
            size += entry.begun.len() + entry.ended.len();
            entries.push(entry);
        }
        Self { entries, size }
    }

    /// One layer that says what this and then another say. The first of all has nothing to end.
    fn followed_by(&self, next: &Self, is_first: bool) -> Self {
        let (mut before, mut behind) = (
            self.entries.iter().peekable(),
            next.entries.iter().peekable(),
        );
        let merged = std::iter::from_fn(|| {
            let order = match (before.peek(), behind.peek()) {
                (Some(before), Some(behind)) => before.prefix.cmp(&behind.prefix),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => before.next().cloned(),
                Ordering::Greater => behind.next().cloned(),
                Ordering::Equal => before
                    .next()
                    .zip(behind.next())
                    .map(|(before, behind)| before.followed_by(behind)),
            }
        });
        let merged = merged.map(|mut entry| {
            if is_first {
                entry.ended = Vec::new();
            }
            entry
        });
        Self::new(merged.filter(|entry| !(entry.begun.is_empty() && entry.ended.is_empty())))
    }

    fn each_prefix_of(&self, topic: &[u8], mut take: impl FnMut(&Entry)) {
        let mut next = self
            .entries
            .partition_point(|entry| &*entry.prefix <= topic)
            .checked_sub(1);
        while let Some(at) = next {
            let entry = &self.entries[at];
            if topic.starts_with(&entry.prefix) {
                take(entry);
            }
            next = entry.shorter;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use muster_test_support::Random;
    use proptest::prelude::*;

    use super::*;

    fn all(subscribers: &[&[&str]]) -> Subscribers<usize> {
        let each = subscribers.iter().enumerate();
        each.map(|(number, prefixes)| (prefixes.iter().map(|it| it.as_bytes()), number))
            .collect()
    }

    #[test]
    fn overlapping_subscriptions_are_found_along_the_chain() {
        let all = all(&[&["a/b/c"], &["a"], &["a/b", "x"], &[""], &["a/bb"]]);
        assert_eq!(all.matching(b"a/b/c/d"), [0, 1, 2, 3]);
        assert_eq!(all.matching(b"a/c"), [1, 3]);
        assert_eq!(all.matching(b"b"), [3]);
    }

    #[test]
    fn changes_one_by_one_lead_where_a_look_at_all_does() {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut subscribers = Subscribers::default();
            let mut model: BTreeMap<u32, (u64, BTreeSet<String>)> = BTreeMap::new();
            let mut former = Vec::new();
            for step in 0..400 {
                let prefix: String = (0..random.number(5))
                    .map(|_| if random.chance(50) { 'a' } else { 'b' })
                    .collect();
                let some = model.keys().nth(random.below(model.len().max(1))).copied();
                match (random.number(10), some) {
                    (0, _) | (_, None) => {
                        let position = subscribers.insert(step);
                        let new = model.insert(position, (step, BTreeSet::new()));
                        assert!(new.is_none());
                    }
                    (1, Some(position)) if random.chance(40) => {
                        let (_, prefixes) = model.remove(&position).unwrap();
                        subscribers.remove(position, prefixes.iter().map(String::as_bytes));
                    }
                    (2..7, Some(position)) => {
                        if model.get_mut(&position).unwrap().1.insert(prefix.clone()) {
                            subscribers.subscribe(position, [prefix.as_bytes()]);
                        }
                    }
                    (_, Some(position)) => {
                        let prefixes = &mut model.get_mut(&position).unwrap().1;
                        let one = prefixes.iter().nth(random.below(prefixes.len().max(1)));
                        if let Some(one) = one.cloned() {
                            prefixes.remove(&one);
                            subscribers.unsubscribe(position, [one.as_bytes()]);
                        }
                    }
                }
                let topic: String = (0..random.number(6))
                    .map(|_| if random.chance(50) { 'a' } else { 'b' })
                    .collect();
                let expected: Vec<u32> = model
                    .iter()
                    .filter(|(_, (_, all))| all.iter().any(|it| topic.starts_with(it.as_str())))
                    .map(|(position, _)| *position)
                    .collect();
                assert_eq!(subscribers.matching(topic.as_bytes()), expected);
                for (position, (number, _)) in &model {
                    assert_eq!(subscribers.get(*position), Some(number));
                }
                // Copies stay what they were.
                former.push((subscribers.clone(), topic, expected));
            }
            for (subscribers, topic, expected) in former {
                assert_eq!(subscribers.matching(topic.as_bytes()), expected);
            }
        }
    }

    /// Subscribing and unsubscribing one by one moves each subscription as often as the number doubles.
    #[test]
    fn a_change_does_not_cost_what_is_there() {
        let mut subscribers = Subscribers::default();
        let position = subscribers.insert(());
        let mut sizes = 0;
        let mut moved = |subscribers: &Subscribers<()>| {
            assert!(subscribers.layers() <= 14);
            sizes += subscribers.layers.last().map_or(0, |layer| layer.size);
            sizes
        };
        for number in 0..6_400u32 {
            subscribers.subscribe(position, [format!("topic {number}").as_bytes()]);
            moved(&subscribers);
        }
        for number in 0..6_400u32 {
            subscribers.unsubscribe(position, [format!("topic {number}").as_bytes()]);
            moved(&subscribers);
        }
        assert!(sizes < 30 * 2 * 6_400, "{sizes}");
        assert_eq!(subscribers.layers(), 0);
    }

    #[test]
    fn what_is_local_is_heard_of_nobody() {
        let mut subscribers = Subscribers::default();
        let position = subscribers.insert(());
        subscribers.subscribe(position, [&b"<$>/local/x"[..], b"a"]);
        assert!(subscribers.matching(b"<$>/local/x").is_empty());
        assert_eq!(subscribers.matching(b"ab"), [0]);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_linear_search_finds(
            subscribers in prop::collection::vec(prop::collection::vec("[ab]{0,4}", 0..4), 0..12),
            topic in "[ab]{0,6}"
        ) {
            let expected: Vec<u32> = (0u32..).zip(&subscribers)
                .filter(|(_, prefixes)| prefixes.iter().any(|p| topic.starts_with(p)))
                .map(|(position, _)| position)
                .collect();
            let all: Subscribers<()> = subscribers
                .iter()
                .map(|prefixes| (prefixes.iter().map(String::as_bytes), ()))
                .collect();
            prop_assert_eq!(all.matching(topic.as_bytes()), expected);
        }
    }
}
