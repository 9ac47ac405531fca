//! Runs in which the test says what goes wrong.

use muster_test_support::Random;

use super::actors::{Disk, Part};
use super::world::{Happening, World, ms};
use crate::Sabotage;

/// Longer than any test.
const FOR_GOOD: u64 = 3_600_000;

impl World {
    fn on_box(&self, box_at: usize) -> Vec<usize> {
        let all = 0..self.processes.len();
        all.filter(|at| self.processes[*at].box_at == box_at)
            .collect()
    }

    pub(super) fn coordinator_of(&self, box_at: usize) -> usize {
        let all = self.on_box(box_at).into_iter();
        let mut coordinators =
            all.filter(|at| matches!(self.processes[*at].part, Part::Coordinator { .. }));
        coordinators.next().expect("a box that votes")
    }

    pub(super) fn start_box(&mut self, box_at: usize) {
        for at in self.on_box(box_at) {
            self.processes[at].starts_at = self.now;
            self.after(0, Happening::Start(at));
        }
    }

    /// A box is away until it is started.
    pub(super) fn crash_box(&mut self, box_at: usize) {
        for at in self.on_box(box_at) {
            self.crash(at, FOR_GOOD);
        }
    }

    /// A box is away until it is started, and comes back with a new disk.
    pub(super) fn wipe_box(&mut self, box_at: usize) {
        self.crash_box(box_at);
        let at = self.coordinator_of(box_at);
        if let Part::Coordinator { disk, .. } = &mut self.processes[at].part {
            *disk = Disk::new(&mut self.random);
        }
    }

    pub(super) fn freeze_box(&mut self, box_at: usize, millis: u64) {
        for at in self.on_box(box_at) {
            self.processes[at].frozen_until = self.now.after(ms(millis));
        }
    }
}

/// Boxes that vote and one that does not, when everybody is in.
pub(super) fn all_are_up(seed: u64, voters: usize) -> World {
    let mut world = World::of(Random::new(seed), voters, voters + 1, Sabotage::Nothing);
    for of_box in 0..=voters {
        world.start_box(of_box);
    }
    world.run(6_000).unwrap();
    world.check_settled().unwrap();
    world
}

/// Two of three are there; then one of them has lost its disk, the other stands, and the third comes.
fn founds(sabotage: Sabotage) -> Result<(), String> {
    let mut world = World::of(Random::new(7), 3, 3, sabotage);
    world.start_box(0);
    world.start_box(1);
    world.run(5_000)?;
    let early = world.oracle.groups();
    world.wipe_box(0);
    world.freeze_box(1, 10_000);
    world.start_box(0);
    world.start_box(2);
    world.run(9_000)?;
    assert_eq!((early, world.oracle.groups()), (0, 0));
    // Now all are there.
    world.run(10_000)?;
    assert_eq!(world.oracle.groups(), 1);
    world.check_led()?;
    world.check_settled()
}

#[test]
fn a_group_is_founded_when_all_are_there() {
    founds(Sabotage::Nothing).unwrap();
}

#[test]
fn a_group_that_is_founded_without_all_is_found() {
    let error = founds(Sabotage::FoundsWithMost).unwrap_err();
    println!("{error}");
    assert!(error.contains("I3"), "{error}");
}
