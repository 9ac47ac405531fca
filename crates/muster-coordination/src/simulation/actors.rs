//! The processes of a simulated cluster: coordinators with their disks, and nodes.

use std::collections::VecDeque;

use muster_cluster::coordination::{Lease, View};
use muster_consensus::{Batch, DiskId, Kept};
use muster_wire::{EndpointId, Mono};

use crate::Coordinator;

/// A disk that loses what was not synced.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) id: DiskId0,
    pub(super) kept: Option<Kept>,
    /// On its way, in order; `None` begins the file.
    pub(super) waiting: VecDeque<(u64, Write)>,
}

/// The identity of a disk.
#[derive(Clone, Copy)]
pub(super) struct DiskId0(pub(super) DiskId);

impl Default for DiskId0 {
    fn default() -> Self {
        Self(DiskId([0; 16]))
    }
}

pub(super) enum Write {
    Begin(Kept),
    Batch(Batch),
}

impl Disk {
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
    pub(super) part: Part,
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
