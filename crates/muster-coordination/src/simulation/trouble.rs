//! What goes wrong, and how it ends.

use muster_cluster::coordination::{Lease, Leaving, event};
use muster_wire::Mono;

use super::actors::{Disk, Part, Process};
use super::world::{Happening, World, ms};
use crate::Sabotage;

impl World {
    /// One box at a time gets into trouble, and out of it.
    pub(super) fn trouble(&mut self) {
        if self.healed {
            return;
        }
        let wait = 300 + self.random.below(2500) as u64;
        self.after(wait, Happening::Trouble);
        if self.troubled_until > self.now {
            return;
        }
        let lasts = 100 + self.random.below(8_000) as u64;
        self.troubled_until = self.now.after(ms(lasts + 500));
        let box_at = self.random.below(self.boxes.len());
        let all: Vec<usize> = (0..self.processes.len())
            .filter(|at| self.processes[*at].box_at == box_at)
            .collect();
        if all.is_empty() {
            return;
        }
        let one = all[self.random.below(all.len())];
        match self.random.below(12) {
            0 => all.into_iter().for_each(|at| self.crash(at, lasts)),
            1 => self.crash(one, lasts),
            2 => {
                self.account.freezes += 1;
                for at in all {
                    self.processes[at].frozen_until = self.now.after(ms(lasts));
                }
            }
            3 => {
                self.account.freezes += 1;
                self.processes[one].frozen_until = self.now.after(ms(lasts));
            }
            4 => self.hang(one, lasts),
            5 => self.leave(one, lasts),
            6 => self.wipe(box_at, lasts),
            9 | 10 => {
                self.ambush = Some(lasts);
                self.troubled_until = self.now;
            }
            11 => self.isolate(lasts),
            how => {
                self.account.cuts += 1;
                let until = self.now.after(ms(lasts));
                if how == 7 || self.random.chance(50) {
                    self.deaf[box_at] = until;
                }
                if how == 8 || self.random.chance(50) {
                    self.dumb[box_at] = until;
                }
                // Heartbeats are missed.
                if lasts > 3_000 {
                    for at in all {
                        self.is_cut_off(at, 2_500, lasts);
                    }
                }
            }
        }
    }

    /// The box that leads is cut off. The connections of its agent break at once, those of its nodes only hang.
    fn isolate(&mut self, lasts: u64) {
        let leads = |process: &Process| match &process.part {
            Part::Coordinator { coordinator, .. } => {
                coordinator.as_ref().is_some_and(|it| it.decides())
            }
            Part::Node { .. } => false,
        };
        let Some(at) = self.processes.iter().position(leads) else {
            return;
        };
        self.account.isolated += 1;
        let (box_at, until) = (self.processes[at].box_at, self.now.after(ms(lasts)));
        (self.deaf[box_at], self.dumb[box_at]) = (until, until);
        self.is_cut_off(at, 10, lasts);
    }

    /// A box that proposes something crashes, or is not heard, before the proposal has got anywhere.
    pub(super) fn spring(&mut self, at: usize) {
        let Some(lasts) = self.ambush.take() else {
            return;
        };
        self.account.ambushes += 1;
        let box_at = self.processes[at].box_at;
        let until = self.now.after(ms(lasts));
        self.troubled_until = self.troubled_until.max(until.after(ms(500)));
        if self.random.chance(50) {
            self.dumb[box_at] = until;
            return;
        }
        for at in 0..self.processes.len() {
            if self.processes[at].box_at == box_at {
                self.crash(at, lasts);
            }
        }
    }

    pub(super) fn crash(&mut self, at: usize, lasts: u64) {
        let process = &mut self.processes[at];
        if !process.is_up {
            return;
        }
        self.account.crashes += 1;
        process.is_up = false;
        process.frozen_until = Mono(0);
        process.starts_at = self.now.after(ms(lasts));
        match &mut process.part {
            Part::Coordinator { coordinator, disk } => {
                *coordinator = None;
                disk.waiting.clear();
            }
            Part::Node {
                lease, hangs_until, ..
            } => {
                *hangs_until = Mono(0);
                *lease = Lease::new(Mono(0));
            }
        }
        self.tell_reach(at, false, 10);
        self.after(lasts, Happening::Start(at));
    }

    pub(super) fn hang(&mut self, at: usize, lasts: u64) {
        let until = self.now.after(ms(lasts));
        if let Part::Node { hangs_until, .. } = &mut self.processes[at].part {
            self.account.hangs += 1;
            *hangs_until = until;
        }
    }

    pub(super) fn leave(&mut self, at: usize, lasts: u64) {
        let process = &self.processes[at];
        let Part::Node { lease, .. } = &process.part else {
            return;
        };
        if !process.is_up || lease.session() == 0 {
            return;
        }
        self.account.left += 1;
        let leaving = Leaving {
            node: process.name.clone(),
            session: lease.session(),
        };
        self.tell_voters(at, &event(&leaving));
        self.crash(at, lasts);
    }

    /// A box loses its disk with everything on it.
    pub(super) fn wipe(&mut self, box_at: usize, lasts: u64) {
        // With one voter there is nobody left who knows, and a second wipe would be a second failure.
        let is_founded = self.processes.iter().all(|it| match &it.part {
            Part::Coordinator { disk, .. } => disk.kept.is_some() && it.is_up,
            Part::Node { .. } => true,
        });
        let settled = is_founded || self.sabotage == Sabotage::FoundsWithMost;
        if self.voters == 1 || !settled || self.account.wiped > 0 {
            return;
        }
        for at in 0..self.processes.len() {
            if self.processes[at].box_at != box_at {
                continue;
            }
            self.crash(at, lasts);
            if let Part::Coordinator { disk, .. } = &mut self.processes[at].part {
                self.account.wiped += 1;
                *disk = Disk::new(&mut self.random);
            }
        }
    }

    /// All trouble ends.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.ambush = None;
        self.loss = 0;
        for at in 0..self.boxes.len() {
            self.deaf[at] = Mono(0);
            self.dumb[at] = Mono(0);
        }
        for at in 0..self.processes.len() {
            self.processes[at].frozen_until = Mono(0);
            if let Part::Node { hangs_until, .. } = &mut self.processes[at].part {
                *hangs_until = Mono(0);
            }
            if !self.processes[at].is_up {
                self.processes[at].starts_at = self.now;
                self.after(0, Happening::Start(at));
            }
        }
        for at in 0..self.processes.len() {
            if self.processes[at].is_up {
                self.tell_reach(at, true, 5);
                self.after(0, Happening::Wake(at));
                self.processes[at].wake_at = self.now;
            }
        }
    }
}
