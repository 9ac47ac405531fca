//! What every backend must do, as a check for any of them.

use muster_data::{Data, Timestamp};
use muster_wire::EndpointId;

use crate::op::{Amendment, Writer};
use crate::{Backend, BackendWrite, Commit, Encoded, Entry, PersistedWriter};

/// Checks a backend. `place` makes a new, empty place each time it is called. What it returns opens
/// a backend on that place, and is called several times.
///
/// # Panics
///
/// Panics if the backend does not do what it must.
pub fn check<Open: FnMut() -> Box<dyn Backend>>(mut place: impl FnMut() -> Open) {
    begins_empty(&mut place());
    keeps_what_was_committed(&mut place());
    keeps_the_last_of_each_key(&mut place());
    clears(&mut place());
    amends(&mut place());
    keeps_writers(&mut place());
    keeps_every_kind_of_bytes(&mut place());
    keeps_without_being_closed(&mut place());
}

type Open<'a> = &'a mut dyn FnMut() -> Box<dyn Backend>;

fn key(number: u64) -> Encoded {
    Encoded::key(&number)
}

fn put(number: u64, value: u64) -> BackendWrite {
    let entry = Entry {
        value: Encoded::of(&value),
        expires: value
            .is_multiple_of(2)
            .then(|| Timestamp::from_nanos(i64::MAX - 1)),
        changed: value,
    };
    BackendWrite::Put(key(number), entry)
}

fn commit(changes: u64, writes: impl Into<Vec<BackendWrite>>) -> Commit {
    Commit {
        timeline: 7,
        changes,
        index: 0,
        writes: writes.into(),
        writers: Vec::new(),
    }
}

/// The keys and values that are kept, in order.
fn values(open: Open<'_>) -> Vec<(Encoded, Encoded)> {
    let mut backend = open();
    let kept = backend.load().expect("what was closed opens");
    let mut values: Vec<_> = kept
        .entries
        .into_iter()
        .map(|(key, entry)| (key, entry.value))
        .collect();
    values.sort();
    backend.close().expect("what is open closes");
    values
}

fn numbers(pairs: &[(u64, u64)]) -> Vec<(Encoded, Encoded)> {
    let pairs = pairs.iter();
    pairs
        .map(|(number, value)| (key(*number), Encoded::of(value)))
        .collect()
}

fn begins_empty(open: Open<'_>) {
    let mut backend = open();
    let kept = backend.load().expect("an empty place opens");
    assert_eq!((kept.timeline, kept.changes), (0, 0));
    assert!(kept.entries.is_empty() && kept.writers.is_empty());
    backend.close().expect("what is open closes");
    assert_eq!(values(open), []);
}

fn keeps_what_was_committed(open: Open<'_>) {
    let mut backend = open();
    backend.load().expect("an empty place opens");
    for number in 1..=100 {
        let done = backend.commit(&commit(number, [put(number, number)]));
        done.expect("a working backend commits");
    }
    backend.close().expect("what is open closes");
    let mut backend = open();
    let kept = backend.load().expect("what was closed opens");
    assert_eq!((kept.timeline, kept.changes), (7, 100));
    assert_eq!(kept.entries.len(), 100);
    for (found, entry) in &kept.entries {
        let number: u64 = found.view().to().expect("keys come back as they were");
        assert_eq!(entry.value, Encoded::of(&number));
        assert_eq!(entry.expires.is_some(), number.is_multiple_of(2));
    }
    backend.close().expect("what is open closes");
}

fn keeps_the_last_of_each_key(open: Open<'_>) {
    let mut backend = open();
    backend.load().expect("an empty place opens");
    let writes = [
        put(1, 1),
        put(2, 2),
        put(1, 3),
        BackendWrite::Erase(key(2)),
        BackendWrite::Erase(key(9)),
    ];
    backend
        .commit(&commit(5, writes))
        .expect("a working backend commits");
    backend
        .commit(&commit(7, [put(3, 6), put(1, 7)]))
        .expect("a working backend commits");
    backend.close().expect("what is open closes");
    assert_eq!(values(open), numbers(&[(1, 7), (3, 6)]));
}

fn clears(open: Open<'_>) {
    let mut backend = open();
    backend.load().expect("an empty place opens");
    let writes = [put(1, 1), BackendWrite::Clear, put(2, 3)];
    backend
        .commit(&commit(3, writes))
        .expect("a working backend commits");
    backend.close().expect("what is open closes");
    assert_eq!(values(open), numbers(&[(2, 3)]));
}

/// A set of so many numbers, amended again and again, written whole and removed in between.
fn amends(open: Open<'_>) {
    let set = |numbers: u64| Encoded::of(&Data::Set((0..numbers).map(Data::Count).collect()));
    let entry = |numbers: u64, expires| Entry {
        value: set(numbers),
        expires,
        changed: numbers,
    };
    let add = |numbers: u64| {
        let amendment = Amendment::Add(Encoded::of(&(numbers - 1)));
        let expires = numbers.is_multiple_of(7).then(|| Timestamp::from_nanos(1));
        BackendWrite::Amend(key(1), entry(numbers, expires), amendment)
    };
    let mut backend = open();
    backend.load().expect("an empty place opens");
    let mut changes = 0;
    let mut commit_all = |backend: &mut dyn Backend, writes: Vec<BackendWrite>| {
        changes += 1;
        let done = backend.commit(&commit(changes, writes));
        done.expect("a working backend commits");
    };
    commit_all(
        &mut *backend,
        vec![BackendWrite::Put(key(1), entry(100, None))],
    );
    for numbers in 101..=300 {
        commit_all(&mut *backend, vec![add(numbers), put(2, numbers)]);
        if numbers % 50 == 0 {
            // One that is closed, and one that is not.
            if numbers % 100 == 0 {
                backend.close().expect("what is open closes");
            }
            drop(backend);
            backend = open();
            let kept = backend.load().expect("what was committed opens");
            let kept = kept.entries.into_iter().find(|(found, _)| *found == key(1));
            let kept = kept.map(|(_, kept)| (kept.value, kept.expires.is_some()));
            assert_eq!(kept, Some((set(numbers), numbers % 7 == 0)));
        }
    }
    let subtract = BackendWrite::Amend(
        key(1),
        entry(299, None),
        Amendment::Subtract(Encoded::of(&299u64)),
    );
    commit_all(&mut *backend, vec![subtract]);
    drop(backend);
    assert_eq!(
        values(open),
        [(key(1), set(299)), (key(2), Encoded::of(&300u64))]
    );
    let mut backend = open();
    backend.load().expect("what was closed opens");
    commit_all(&mut *backend, vec![add(300), BackendWrite::Erase(key(1))]);
    commit_all(
        &mut *backend,
        vec![BackendWrite::Put(key(1), entry(200, None)), add(201)],
    );
    drop(backend);
    assert_eq!(
        values(open),
        [(key(1), set(201)), (key(2), Encoded::of(&300u64))]
    );
    let mut backend = open();
    backend.load().expect("what was closed opens");
    commit_all(
        &mut *backend,
        vec![add(202), BackendWrite::Clear, put(3, 3)],
    );
    backend.close().expect("what is open closes");
    assert_eq!(values(open), numbers(&[(3, 3)]));
}

fn keeps_writers(open: Open<'_>) {
    let writer = |instance| Writer {
        endpoint: EndpointId::from_random([5; 16]),
        instance,
    };
    let mut backend = open();
    backend.load().expect("an empty place opens");
    let kept = |instance, number: u8| PersistedWriter {
        writer: writer(instance),
        number: u64::from(number),
        answers: vec![0, number, 255],
    };
    for (changes, noted) in [(1, kept(1, 1)), (2, kept(u64::MAX, 9)), (3, kept(1, 4))] {
        let commit = Commit {
            writers: vec![noted],
            ..commit(changes, [put(1, changes)])
        };
        backend.commit(&commit).expect("a working backend commits");
    }
    backend.close().expect("what is open closes");
    let mut backend = open();
    let found = backend.load().expect("what was closed opens");
    // The one that wrote least lately is first.
    assert_eq!(found.writers, [kept(u64::MAX, 9), kept(1, 4)]);
    backend.close().expect("what is open closes");
}

fn keeps_every_kind_of_bytes(open: Open<'_>) {
    let mut backend = open();
    backend.load().expect("an empty place opens");
    let all: Vec<u8> = (0..=255).collect();
    let strange = [
        Encoded::key(&String::new()),
        Encoded::key(&Data::string(&all)),
        Encoded::key(&Data::None),
        Encoded::key(&[1u64, 2][..]),
        Encoded::key(&"x".repeat(60_000)),
    ];
    let entry = |value: &Encoded| Entry {
        value: value.clone(),
        expires: Some(Timestamp::from_nanos(i64::MIN + 1)),
        changed: 1,
    };
    let writes: Vec<BackendWrite> = strange
        .iter()
        .map(|value| BackendWrite::Put(value.clone(), entry(value)))
        .collect();
    backend
        .commit(&commit(5, writes))
        .expect("a working backend commits");
    backend.close().expect("what is open closes");
    let found = values(open);
    assert_eq!(found.len(), strange.len());
    assert!(found.iter().all(|(key, value)| key == value));
}

fn keeps_without_being_closed(open: Open<'_>) {
    let mut backend = open();
    backend.load().expect("an empty place opens");
    backend
        .commit(&commit(1, [put(1, 1)]))
        .expect("a working backend commits");
    drop(backend);
    assert_eq!(values(open), numbers(&[(1, 1)]));
}
