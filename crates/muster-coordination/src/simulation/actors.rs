//! The processes of a simulated cluster: coordinators with their disks, and nodes.

use std::collections::VecDeque;

use muster_cluster::coordination::{Lease, View};
use muster_consensus::{Batch, DiskId, Kept};
use muster_test_support::Random;
use muster_wire::{EndpointId, Mono};

use crate::Coordinator;

/// A disk that loses what was not synced.
pub(super) struct Disk {
    pub(super) id: DiskId,
    pub(super) kept: Option<Kept>,
    /// On its way, in order; `None` begins the file.
    pub(super) waiting: VecDeque<(u64, Write)>,
    /// It is being put aside: its coordinator does nothing more.
    pub(super) is_renewing: bool,
    /// Its coordinator goes on alone with the next one.
    pub(super) recovers: bool,
}

pub(super) enum Write {
    Begin(Kept),
    Batch(Batch),
}

impl Disk {
    /// A new one, with nothing on it.
    pub(super) fn new(random: &mut Random) -> Self {
        Self {
            id: DiskId(random.bytes()),
            kept: None,
            waiting: VecDeque::new(),
            is_renewing: false,
            recovers: false,
        }
    }

    /// Writes what comes first.
    pub(super) fn write(&mut self) -> Option<(u64, bool)> {
        let (number, write) = self.waiting.pop_front()?;
        match write {
            Write::Begin(kept) => {
                self.kept = Some(kept);
                Some((number, true))
            }
            Write::Batch(batch) => {
                if let Some(kept) = &mut self.kept {
                    kept.write(&batch);
                }
                Some((number, false))
            }
        }
    }
}

/// A process of a box.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) box_at: usize,
    pub(super) life: EndpointId,
    pub(super) lives: u64,
    pub(super) is_up: bool,
    pub(super) frozen_until: Mono,
    pub(super) wake_at: Mono,
    pub(super) starts_at: Mono,
    /// Its clock runs at so many thousandths of the true rate.
    pub(super) rate: u64,
    /// The last view that it has shown in this life.
    pub(super) seen: Seen,
    pub(super) part: Part,
}

/// Which view somebody has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) generation: u64,
    pub(super) cluster: [u8; 16],
    pub(super) epoch: u64,
}

impl Seen {
    pub(super) fn of(view: &View) -> Self {
        Self {
            generation: view.generation(),
            cluster: *view.cluster(),
            epoch: view.epoch(),
        }
    }
}

pub(super) enum Part {
    Coordinator {
        coordinator: Option<Box<Coordinator>>,
        disk: Disk,
    },
    Node {
        lease: Lease,
        view: View,
        /// Whether it does not turn, although its connections live.
        hangs_until: Mono,
    },
}

impl Process {
    /// Its own time.
    pub(super) fn clock(&self, now: Mono) -> Mono {
        Mono(now.0 / 1000 * self.rate)
    }

    /// When its own time will be a given one.
    pub(super) fn true_time(&self, at: Mono) -> Mono {
        Mono(at.0 / self.rate * 1000 + 1000)
    }
}
