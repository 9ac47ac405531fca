//! A bounded run of every fuzz target: random bytes, the captures, and the captures with changes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use muster_hostile::{TARGETS, Target, seeds};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Cases of random bytes, and of changed captures, per target.
const CASES: u32 = 2000;

/// A change to a capture.
#[derive(Debug, Clone)]
enum Change {
    FlipBit(Index, u8),
    Overwrite(Index, u8),
    /// Cuts the end off.
    Truncate(Index),
    /// Puts a length or number where it may be read as one.
    Length(Index, Vec<u8>),
    /// Goes on with another capture from somewhere.
    Splice(Index, Index, Index),
    Insert(Index, Vec<u8>),
    /// Says something twice.
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let lengths = prop_oneof![
        Just(vec![0xff, 0xff, 0xff, 0xff]),
        Just(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        Just(vec![0, 0, 0, 0]),
        Just(vec![0x7f, 0xff, 0xff, 0xff]),
        Just(vec![0x80, 0x80, 0x80, 0x80, 0x80]),
        Just(vec![0xff; 8]),
        Just(vec![0xff, 0xff]),
        vec(any::<u8>(), 1..5),
    ];
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::FlipBit(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Overwrite(at, byte)),
        at().prop_map(Change::Truncate),
        (at(), lengths).prop_map(|(at, bytes)| Change::Length(at, bytes)),
        (at(), at(), at()).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
        (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), at()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let position = |index: &Index, bytes: &Vec<u8>| index.index(bytes.len() + 1);
        match self {
            Self::FlipBit(at, bit) => {
                if let Some(byte) = bytes.get_mut(at.index(4096)) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Overwrite(at, new) => {
                let at = position(at, bytes);
                bytes.splice(at..bytes.len().min(at + 1), [*new]);
            }
            Self::Truncate(at) => bytes.truncate(position(at, bytes)),
            Self::Length(at, new) => {
                let at = position(at, bytes);
                let end = bytes.len().min(at + new.len());
                bytes.splice(at..end, new.iter().copied());
            }
            Self::Splice(at, other, from) => {
                let other = &seeds[other.index(seeds.len())];
                let from = position(from, other);
                bytes.truncate(position(at, bytes));
                bytes.extend_from_slice(&other[from..]);
            }
            Self::Insert(at, new) => {
                let at = position(at, bytes);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Repeat(from, to) => {
                let (from, to) = (position(from, bytes), position(to, bytes));
                let again = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(from..from, again);
            }
        }
    }
}

fn run(target: &Target) {
    let mut config = Config::default();
    // `PROPTEST_CASES` asks for more.
    config.cases = config.cases.max(CASES);
    config.failure_persistence = None;
    let seeds = seeds(target.name);
    assert!(seeds.len() > 2, "{} seeds", seeds.len());
    for seed in &seeds {
        (target.run)(seed);
    }
    let mut runner = TestRunner::new(config.clone());
    let garbage = prop_oneof![vec(any::<u8>(), 0..64), vec(0..16_u8, 0..200)];
    runner
        .run(&garbage, |bytes| {
            (target.run)(&bytes);
            Ok(())
        })
        .unwrap();
    let mut runner = TestRunner::new(config);
    runner
        .run(&(any::<Index>(), vec(change(), 1..5)), |(seed, changes)| {
            let mut bytes = seeds[seed.index(seeds.len())].clone();
            for change in &changes {
                change.apply(&mut bytes, &seeds);
            }
            (target.run)(&bytes);
            Ok(())
        })
        .unwrap();
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                run(TARGETS.iter().find(|target| target.name == stringify!($name)).unwrap());
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets!(
    frames,
    handshake,
    envelopes,
    filters,
    mesh,
    compression,
    stores,
    broker_stores,
    values,
    text,
    json,
    zeek,
    serial,
    agent,
    consensus,
    coordination,
    register,
    spool
);

/// A target without a fuzz target or without a run here would be forgotten.
#[test]
fn every_target_is_fuzzed_and_tested() {
    let names: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let tested: BTreeSet<String> = TESTED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(tested, names);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let files = std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap();
    let files: BTreeSet<String> = files
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(files, names);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
