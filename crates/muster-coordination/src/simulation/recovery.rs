//! A coordinator that goes on alone when most are lost, and others that follow it.

use muster_cluster::coordination::View;
use muster_test_support::Random;

use super::actors::{Disk, Part, Seen};
use super::scripted::all_are_up;
use super::world::{Happening, World, ms};
use crate::Coordinator;
use crate::coordinator::Part as Role;

impl World {
    /// An operator lets the coordinator of a box go on alone.
    pub(super) fn recover(&mut self, box_at: usize) {
        self.recovered = true;
        let at = self.coordinator_of(box_at);
        if let Part::Coordinator { disk, .. } = &mut self.processes[at].part {
            disk.recovers = true;
        }
        self.renew(at);
    }

    /// What a coordinator has is to be put aside.
    pub(super) fn renew(&mut self, at: usize) {
        let lives = self.processes[at].lives;
        if let Part::Coordinator { disk, .. } = &mut self.processes[at].part {
            disk.is_renewing = true;
        }
        let wait = 1 + self.random.below(20) as u64;
        self.after(wait, Happening::Renewed(at, lives));
    }

    /// It is put aside, and a new coordinator begins with a new file.
    pub(super) fn renewed(&mut self, at: usize, lives: u64) -> Result<(), String> {
        if self.processes[at].lives != lives || !self.processes[at].is_up {
            return Ok(());
        }
        if let Some(until) = self.stopped_until(at) {
            self.at(until, Happening::Renewed(at, lives));
            return Ok(());
        }
        let config = self.config(self.processes[at].box_at);
        let (random, new) = (self.random.next(), Disk::new(&mut self.random));
        let process = &mut self.processes[at];
        let clock = process.clock(self.now);
        if let Part::Coordinator { coordinator, disk } = &mut process.part {
            let recovers = coordinator.as_ref().filter(|_| disk.recovers);
            let kept = recovers.and_then(|it| it.recovered(new.id));
            let made = Coordinator::new(config, new.id, None, clock, random);
            let mut made = made.map_err(|error| format!("without a file: {error}"))?;
            made.sabotage(self.sabotage);
            match kept {
                Some(kept) => made.begin_with(kept),
                // It has forgotten everything.
                None => process.seen = Seen::default(),
            }
            (*coordinator, *disk) = (Some(Box::new(made)), new);
        }
        self.reach_others(at);
        self.drain(at)
    }

    fn check_generation(&self, generation: u64) {
        for process in &self.processes {
            let view = match &process.part {
                Part::Coordinator { coordinator, .. } => {
                    coordinator.as_ref().and_then(|it| it.view())
                }
                Part::Node { view, .. } => Some(view),
            };
            assert_eq!(
                view.map(View::generation),
                Some(generation),
                "{}",
                process.name
            );
        }
    }
}

/// Two of three are lost: one comes back with a new disk, the other with its old one.
#[test]
fn one_goes_on_alone_and_the_others_follow() {
    let mut world = all_are_up(1, 3);
    world.wipe_box(0);
    world.crash_box(2);
    world.run(10_000).unwrap();
    world.check_led().unwrap_err();
    world.recover(1);
    world.run(3_000).unwrap();
    world.check_led().unwrap();
    world.start_box(0);
    world.start_box(2);
    world.run(15_000).unwrap();
    world.check_settled().unwrap();
    world.check_generation(1);
}

/// The one that is left has missed what the others have decided: nodes must not go back behind that.
#[test]
fn epochs_do_not_go_back_when_one_goes_on_that_has_missed_some() {
    let mut world = all_are_up(2, 3);
    let until = world.now.after(ms(20_000));
    (world.deaf[1], world.dumb[1]) = (until, until);
    // The nodes of its box are out, and in and out again comes a node of the last box.
    for _ in 0..3 {
        world.run(4_000).unwrap();
        let last = world.processes.len() - 1;
        world.crash(last, 300);
    }
    world.run(4_000).unwrap();
    world.crash_box(0);
    world.crash_box(2);
    world.run(10_000).unwrap();
    world.recover(1);
    world.run(3_000).unwrap();
    world.start_box(0);
    world.start_box(2);
    world.run(20_000).unwrap();
    world.check_settled().unwrap();
    world.check_generation(1);
}

/// Who has heard nothing of it asks for what has changed, and gets everything.
#[test]
fn a_node_that_has_missed_the_recovery_is_told() {
    let mut world = all_are_up(3, 3);
    world.wipe_box(0);
    world.crash_box(2);
    world.deaf[3] = world.now.after(ms(20_000));
    world.run(5_000).unwrap();
    world.recover(1);
    world.run(40_000).unwrap();
    world.start_box(0);
    world.start_box(2);
    world.run(15_000).unwrap();
    world.check_settled().unwrap();
    world.check_generation(1);
}

/// Some are left and some are lost, some of these for a while and some for good, in a network of any kind.
fn recovers(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let voters = [3, 5][random.below(2)];
    let mut world = all_are_up(seed, voters);
    world.loss = [0, 10][random.below(2)];
    world.slowest = [3, 30, 100][random.below(3)];
    let remaining = random.below(voters);
    // Most are lost; of five two may be left.
    let lost = voters / 2 + 1 + random.below(voters - voters / 2 - 1);
    let lost: Vec<usize> = (1..=lost).map(|by| (remaining + by) % voters).collect();
    for of_box in &lost {
        if random.chance(50) {
            world.wipe_box(*of_box);
        } else {
            world.crash_box(*of_box);
        }
        world.run(random.below(3_000) as u64)?;
    }
    world.run(random.below(6_000) as u64)?;
    world.recover(remaining);
    if random.chance(30) {
        // The disk has the old file or the new one.
        world.run(random.below(40) as u64)?;
        let at = world.coordinator_of(remaining);
        world.crash(at, 500);
        world.run(2_000)?;
        if !world.is_recovered(remaining) {
            world.recover(remaining);
        }
    }
    world.run(3_000 + random.below(3_000) as u64)?;
    for of_box in lost {
        world.start_box(of_box);
        world.run(random.below(2_000) as u64)?;
    }
    world.loss = 0;
    world.run(30_000)?;
    world.check_settled()?;
    world.check_generation(1);
    Ok(())
}

impl World {
    /// Whether the leases of a box's nodes run.
    fn running(&self, box_at: usize) -> Vec<bool> {
        let here = self.processes.iter().filter(|it| it.box_at == box_at);
        let running = here.filter_map(|it| match &it.part {
            Part::Node { lease, .. } => Some(lease.runs(it.clock(self.now))),
            Part::Coordinator { .. } => None,
        });
        running.collect()
    }

    fn roles_of<const N: usize>(&self, boxes: [usize; N]) -> Vec<Role> {
        let roles = boxes.into_iter().filter_map(|box_at| {
            match &self.processes[self.coordinator_of(box_at)].part {
                Part::Coordinator { coordinator, .. } => Some(coordinator.as_ref()?.status().part),
                Part::Node { .. } => None,
            }
        });
        roles.collect()
    }

    fn is_recovered(&self, box_at: usize) -> bool {
        let at = self.coordinator_of(box_at);
        match &self.processes[at].part {
            Part::Coordinator { coordinator, .. } => coordinator
                .as_ref()
                .and_then(|it| it.view())
                .is_some_and(|view| view.generation() == 1),
            Part::Node { .. } => false,
        }
    }
}

#[test]
fn whoever_is_lost_follows_the_one_that_goes_on() {
    for seed in muster_test_support::seeds(20) {
        recovers(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// A newcomer that had the members of its group, but not yet its state on disk, called itself one of the first generation: just then one
/// came back that was.
#[test]
fn a_newcomer_is_of_its_generation_from_the_beginning() {
    recovers(1108).unwrap();
}

/// Two voters that were taken for lost come back together, while the one that went on is cut off from them: they are most voters of their
/// group, and one of them leads.
#[test]
fn nobody_is_in_by_the_word_of_voters_from_before_a_recovery() {
    let mut world = all_are_up(4, 3);
    world.crash_box(0);
    world.crash_box(2);
    world.run(10_000).unwrap();
    world.recover(1);
    world.run(6_000).unwrap();
    assert_eq!(world.running(3), [true, true]);
    let until = world.now.after(ms(12_000));
    (world.deaf[1], world.dumb[1]) = (until, until);
    world.start_box(0);
    world.start_box(2);
    for _ in 0..8 {
        world.run(1_000).unwrap();
    }
    // Their leases were granted by the one that is cut off now, and are over.
    assert_eq!(world.running(3), [false, false]);
    let old = world.roles_of([0, 2]);
    assert!(old.contains(&Role::Leader), "{old:?}");
    world.run(15_000).unwrap();
    world.check_settled().unwrap();
    world.check_generation(1);
}
