//! A file is its model: whatever is written, and whenever it is opened again.

use proptest::prelude::*;

use super::*;

/// What is done, in numbers that are read by what the file has then.
#[derive(Debug, Clone)]
enum Step {
    Write {
        promise: Option<(u64, u64)>,
        kind: u8,
        place: u64,
        entries: usize,
        size: usize,
        sync: bool,
    },
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop_oneof![0..3_usize, 3..300_usize, 3000..9000_usize];
    let write = (
        prop::option::of((0..3_u64, 0..3_u64)),
        0..7_u8,
        any::<u64>(),
        0..4_usize,
        sizes,
        any::<bool>(),
    );
    let write = write.prop_map(|(promise, kind, place, entries, size, sync)| Step::Write {
        promise,
        kind,
        place,
        entries,
        size,
        sync,
    });
    prop_oneof![8 => write, 1 => Just(Step::Flush), 1 => Just(Step::Reopen)]
}

/// A batch that fits.
fn batch(kept: &Kept, step: &Step) -> Batch {
    let Step::Write {
        promise,
        kind,
        place,
        entries,
        size,
        sync,
    } = *step
    else {
        unreachable!("only writes have batches");
    };
    let base = kept.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    let (last, term) = (kept.last(), kept.promise.term);
    // A stranger waits for a state.
    let kind = if kept.snapshot.is_none() && kind > 0 {
        4
    } else {
        kind
    };
    let (snapshot, clears, first) = match kind {
        0 => (None, false, None),
        1 => (None, false, Some(last + 1)),
        2 => (None, false, Some(base + 1 + place % (last - base + 1))),
        3 => (Some(base + place % (last - base + 1)), false, None),
        4 => (Some(last + 1 + place % 5), true, None),
        5 => (Some(base + 1 + place % 9), true, Some(base + 2 + place % 9)),
        _ => {
            let index = base + place % (last - base + 3);
            (Some(index), false, Some(index.max(last) + 1))
        }
    };
    Batch {
        promise: promise.map(|(more, vote)| Promise {
            term: term + more,
            vote,
            commit: last,
        }),
        snapshot: snapshot.map(|index| Snapshot {
            index,
            term: 1,
            members: members(),
            state: vec![7; size].into(),
        }),
        clears,
        entries: first.map_or_else(Vec::new, |first| {
            let indexes = first..first + entries as u64;
            indexes
                .map(|index| entry(index, term.max(1), size))
                .collect()
        }),
        sync,
    }
}

fn run(is_founder: bool, steps: &[Step]) {
    let (_directory, path) = place();
    let (mut file, disk, _) = VoterFile::open(&path).unwrap();
    let kept = if is_founder {
        Kept::founding(CLUSTER, disk, members(), vec![1; 50].into())
    } else {
        Kept::stranger(CLUSTER, disk)
    };
    file.begin(&kept).unwrap();
    // What it may hold: what was synced last, and each state since.
    let mut possible = vec![kept];
    for step in steps {
        match step {
            Step::Flush => {
                file.flush().unwrap();
                possible.drain(..possible.len() - 1);
            }
            Step::Reopen => {
                drop(file);
                let (opened, read) = open(&path);
                let read = read.unwrap();
                assert!(possible.contains(&read), "{read:?} of {possible:?}");
                possible = vec![read];
                file = opened;
            }
            Step::Write { .. } => {
                let mut next = possible.last().unwrap().clone();
                let batch = batch(&next, step);
                next.write(&batch);
                file.write(&batch).unwrap();
                if batch.sync {
                    possible.clear();
                }
                possible.push(next);
            }
        }
    }
    file.flush().unwrap();
    drop(file);
    assert_eq!(open(&path).1, possible.pop());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_file_holds_what_its_model_holds(
        is_founder in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        run(is_founder, &steps);
    }
}
