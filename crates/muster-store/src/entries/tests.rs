use std::collections::BTreeMap;

use muster_test_support::Random;

use super::*;

fn entry(changed: u64) -> Entry {
    Entry {
        value: Encoded::of(&changed),
        expires: None,
        changed,
    }
}

/// Keys of several lengths, of which some are the beginnings of others.
fn key(random: &mut Random, of: u64) -> Encoded {
    let number = random.number(of);
    match number % 3 {
        0 => Encoded::key(&number),
        1 => Encoded::key(&format!("host {number}")),
        _ => Encoded::key(&"x".repeat(usize::try_from(number % 97).unwrap())),
    }
}

/// What a [`BTreeMap`] would hold, and which parts it would give.
#[derive(Default)]
struct Model(BTreeMap<Encoded, Entry>);

impl Model {
    fn check(&self, entries: &Entries) {
        assert_eq!(entries.len(), self.0.len());
        assert!(entries.in_order().eq(self.0.iter()));
        let mut unordered: Vec<_> = entries.iter().collect();
        unordered.sort_by_key(|(key, _)| *key);
        assert!(unordered.into_iter().eq(self.0.iter()));
        let bytes = self.0.iter().map(|(key, entry)| cost(key, entry));
        assert_eq!(entries.bytes(), bytes.sum::<usize>());
    }

    fn check_part(&self, entries: &mut Entries, after: Option<&Encoded>, bytes: usize) {
        let part = entries.part(after, bytes);
        let behind = |key: &Encoded| after.is_none_or(|after| key > after);
        let mut rest = self.0.iter().filter(|(key, _)| behind(key));
        for (key, entry) in &part.entries {
            assert_eq!(rest.next(), Some((key, entry)));
        }
        assert_eq!(part.is_last, rest.next().is_none());
        let taken = part.entries.iter();
        let taken = taken.map(|(key, entry)| key.size() + entry.value.size() + IN_A_PART);
        assert!(part.is_last || taken.sum::<usize>() >= bytes);
    }
}

#[test]
fn entries_and_parts_are_those_of_an_ordered_map_while_writes_go_on() {
    for seed in 0..24 {
        let mut random = Random::new(seed);
        let (mut entries, mut model) = (Entries::default(), Model::default());
        let keys = [30, 400, 20_000][usize::try_from(seed % 3).unwrap()];
        for step in 0..6000u64 {
            let key = key(&mut random, keys);
            match random.number(100) {
                0..55 => {
                    let put = entries.put(key.clone(), entry(step));
                    assert_eq!(put, model.0.insert(key, entry(step)));
                }
                55..85 => assert_eq!(entries.remove(&key), model.0.remove(&key)),
                85..92 => assert_eq!(entries.get(&key), model.0.get(&key)),
                92..98 => {
                    let after = random.chance(80).then_some(&key);
                    model.check_part(&mut entries, after, [0, 200, 5000][(step % 3) as usize]);
                }
                98 => entries.forget_order(),
                _ if random.chance(10) => {
                    let below = random.number(step + 1);
                    entries.retain(|_, entry| entry.changed > below);
                    model.0.retain(|_, entry| entry.changed > below);
                }
                _ if random.chance(5) => {
                    let taken = entries.take();
                    assert!(taken.into_iter().eq(std::mem::take(&mut model.0)));
                }
                _ => model.check(&entries),
            }
        }
        model.check(&entries);
        assert_eq!(entries, entries.clone());
    }
}

/// Sorted along the way: parts of a large store come in order from the first to the last, and from any key.
#[test]
fn a_large_store_is_cut_into_parts() {
    let mut random = Random::new(7);
    let (mut entries, mut model) = (Entries::default(), Model::default());
    for number in 0..40_000u64 {
        let key = Encoded::key(&format!("host {}", random.number(1 << 40)));
        entries.put(key.clone(), entry(number));
        model.0.insert(key, entry(number));
    }
    let mut after = None;
    let mut found = 0;
    loop {
        let part = entries.part(after.as_ref(), 64 << 10);
        model.check_part(&mut entries, after.as_ref(), 64 << 10);
        found += part.entries.len();
        if part.is_last {
            break;
        }
        after = part.entries.last().map(|(key, _)| key.clone());
    }
    assert_eq!(found, model.0.len());
    entries.forget_order();
    for _ in 0..20 {
        let after = Encoded::key(&format!("host {}", random.number(1 << 40)));
        model.check_part(&mut entries, Some(&after), 1000);
    }
}

#[test]
fn an_order_is_given_up_when_more_has_changed_than_it_saves() {
    let mut entries = Entries::default();
    for number in 0..20_000u64 {
        entries.put(Encoded::key(&number), entry(number));
    }
    entries.part(None, 100);
    assert!(entries.order.is_some());
    // What only changes values costs an order nothing.
    for number in 0..20_000u64 {
        entries.put(Encoded::key(&number), entry(number + 1));
    }
    assert!(entries.order.is_some());
    for number in 0..20_000u64 {
        entries.remove(&Encoded::key(&number));
        entries.put(Encoded::key(&(number + 50_000)), entry(number));
    }
    assert!(entries.order.is_none());
    assert_eq!(entries.slots.len() - entries.free.len(), entries.len());
}

#[test]
fn slots_are_given_back() {
    let mut entries = Entries::default();
    for number in 0..100_000u64 {
        entries.put(Encoded::key(&number), entry(number));
    }
    for number in 0..99_000u64 {
        entries.remove(&Encoded::key(&number));
    }
    assert!(entries.slots.capacity() < 10_000);
    assert!(entries.index.bytes() < 100_000);
    for number in 0..100_000u64 {
        let there = entries.get(&Encoded::key(&number));
        assert_eq!(there.is_some(), number >= 99_000);
    }
}

/// What is counted as an entry's cost is what it takes: a slot, two or three places of the index.
#[test]
fn an_entry_costs_what_is_counted() {
    assert_eq!(size_of::<Slot>(), 104);
    let mut entries = Entries::default();
    for number in 0..300_000u64 {
        entries.put(Encoded::key(&number), entry(number));
    }
    let used = entries.slots.len() * size_of::<Slot>() + entries.index.bytes();
    assert!(used < entries.len() * ENTRY_OVERHEAD, "{used}");
}
