//! What a voter keeps: written in order, and lost where it was not synced.

use std::collections::VecDeque;

use muster_consensus::{Batch, DiskId, Kept};
use muster_test_support::Random;

/// What may wait to be written, as an agent has it.
const JOBS: usize = 1024;

/// How long it takes to write what is not synced, in nanoseconds.
const CACHED: u64 = 10_000;

/// The file of a voter. It outlives the lives of its agent.
#[derive(Debug)]
pub(super) struct VoterDisk {
    pub(super) id: DiskId,
    /// What is on it for good.
    pub(super) kept: Option<Kept>,
    /// What was written since and not synced.
    cached: Vec<Batch>,
    waiting: VecDeque<Job>,
    /// When it has done all that it was asked for.
    until: u64,
}

/// Something to be written.
#[derive(Debug)]
pub(super) enum Job {
    Begin(Kept),
    Batch(u64, Batch),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    Begun,
    Written(u64),
}

impl VoterDisk {
    /// A new file, with nothing in it.
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            id: DiskId(random.bytes()),
            kept: None,
            cached: Vec::new(),
            waiting: VecDeque::new(),
            until: 0,
        }
    }

    /// Takes something to be written, which takes so long if it has to be on disk. Returns when it is done.
    pub(super) fn ask(&mut self, job: Job, now: u64, takes: u64) -> u64 {
        let syncs = match &job {
            Job::Begin(_) => true,
            Job::Batch(_, batch) => batch.sync,
        };
        self.waiting.push_back(job);
        assert!(
            self.waiting.len() <= JOBS,
            "so much waits for no voter's disk"
        );
        let takes = if syncs { takes } else { CACHED };
        self.until = self.until.max(now) + takes;
        self.until
    }

    /// Writes what comes first.
    pub(super) fn write(&mut self) -> Option<Done> {
        match self.waiting.pop_front()? {
            Job::Begin(kept) => {
                self.cached.clear();
                self.kept = Some(kept);
                Some(Done::Begun)
            }
            Job::Batch(number, batch) => {
                let syncs = batch.sync;
                self.cached.push(batch);
                if syncs {
                    self.sync(usize::MAX);
                }
                Some(Done::Written(number))
            }
        }
    }

    fn sync(&mut self, most: usize) {
        let count = most.min(self.cached.len());
        let synced = self.cached.drain(..count);
        if let Some(kept) = &mut self.kept {
            synced.for_each(|batch| kept.write(&batch));
        }
    }

    /// The process ends: what was not synced may be there or not, as far as it goes.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let written = random.below(self.waiting.len() + 1);
        for _ in 0..written {
            self.write();
        }
        self.waiting.clear();
        let most = random.below(self.cached.len() + 1);
        self.sync(most);
        self.cached.clear();
    }
}
