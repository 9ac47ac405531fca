//! What the observer of a run checks.

use std::time::Duration;

use muster_data::Timestamp;
use muster_wire::EndpointId;

use super::{Sabotage, Scenario, World, list_of};
use crate::op::{Answer, Op, StoreCommand, Writer};
use crate::{Backend, Encoded, Entries, Freshness, Level, State, Token, WriteFailure};

/// How late a write may be settled: timers are as late as the next thing that happens.
const SLACK: Duration = Duration::from_millis(100);

/// How late one of a clone may be: it is held until the clone's copy has it, for 10 seconds.
const HELD: Duration = Duration::from_millis(10_100);

/// A rule that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::instance) enum Violation {
    /// A write was settled twice.
    SettledTwice,
    /// A write was not settled until its deadline.
    NotSettled,
    /// A durable write was answered, and is not on disk.
    NotOnDisk,
    /// A write that was answered is not there.
    Lost,
    /// A write that was told not to be applied is there.
    AppliedAllTheSame,
    /// A write is there twice.
    AppliedTwice,
    /// The writes of one process are in another order.
    OutOfOrder,
    /// Nobody has opened the primary.
    NotOpened,
    /// A node has something else than the primary, or its watchers heard of something else.
    NotEqual,
    /// The disk has something else than the primary.
    DiskNotEqual,
    /// A question was not answered, though the primary was there.
    NotAnswered,
    /// Stores take more than they may together.
    OverBudget,
    /// Two primaries do not know of one another.
    RivalsUnnoticed,
}

impl World {
    /// A whole run: use and faults, then calm, in which everything must become as it should be. Returns how many
    /// writes there were.
    pub(in crate::instance) fn check(seed: u64, sabotage: Sabotage) -> Result<usize, Violation> {
        let world = Self::run_through(seed, Scenario::of(seed), sabotage);
        match world.violation {
            None => Ok(world.asked.len()),
            Some(violation) => Err(violation),
        }
    }

    /// A whole run in a scenario.
    pub(super) fn run_through(seed: u64, scenario: Scenario, sabotage: Sabotage) -> Self {
        let mut world = Self::new(seed, scenario, sabotage);
        for _ in 0..150 {
            world.act();
            let pause = world.random.number(60);
            world.run(Duration::from_millis(pause));
            if world.violation.is_some() {
                return world;
            }
        }
        world.calm_down();
        world
    }

    /// One thing that a node does, or that is done to it.
    fn act(&mut self) {
        let number = usize::try_from(self.random.number(self.nodes.len() as u64)).unwrap();
        if !self.nodes[number].is_up {
            self.nodes[number].is_up = self.random.chance(30);
            return;
        }
        match self.random.number(100) {
            0..2 if self.scenario.has_faults => self.kill(number),
            2..4 if self.scenario.has_faults => {
                let operations = self.random.number(4);
                self.nodes[number].disk.fail_after(operations);
            }
            4..12 => self.nodes[number].disk.mend(),
            12..20 if self.nodes[number].process.is_some() => self.open(number),
            20..30 => self.ask(number),
            30..40 if self.scenario.budget.is_some() => self.use_another_store(number),
            _ if number > 0 || self.scenario.primary_writes => {
                let is_durable = self.scenario.is_persistent && self.random.chance(50);
                let level = if is_durable {
                    Level::Durable
                } else {
                    Level::Applied
                };
                for _ in 0..=self.random.number(3) {
                    let within = Duration::from_millis(200 + self.random.number(8_000));
                    self.write(number, level, within);
                }
            }
            _ => {}
        }
    }

    /// Another store of a node, which has the same budget, grows or shrinks.
    fn use_another_store(&mut self, number: usize) {
        let most = self.scenario.budget.unwrap_or(0) as u64;
        let size = usize::try_from(self.random.number(most)).unwrap();
        if let Some(process) = &mut self.nodes[number].process {
            fill(&mut process.other_store, size);
        }
    }

    /// All faults end. Every node is up, and every node but the primary's uses the store.
    fn calm_down(&mut self) {
        self.is_bad = false;
        for number in 0..self.nodes.len() {
            self.nodes[number].is_up = true;
            self.nodes[number].disk.mend();
            if number > 0 {
                self.open(number);
            }
            if let Some(process) = &mut self.nodes[number].process
                && self.scenario.has_room_in_the_end
            {
                fill(&mut process.other_store, 0);
            }
        }
        self.run(Duration::from_secs(45));
        self.check_writes();
        self.check_equal();
        let is_unanswered = self
            .questions
            .iter()
            .any(|question| question.end != Some(true));
        if is_unanswered && !self.scenario.has_faults {
            self.fails(Violation::NotAnswered);
        }
        if self.scenario.has_rival {
            self.rival();
        }
    }

    /// A node starts anew with another layout, which puts the primary there.
    fn rival(&mut self) {
        self.kill(1);
        self.nodes[1].is_up = true;
        self.nodes[1].is_primary = true;
        self.open(1);
        self.run(Duration::from_secs(40));
        let knows = |number: usize| {
            let process = self.nodes[number].process.as_ref();
            process.is_some_and(|process| process.rival.is_some())
        };
        if !knows(0) || !knows(1) {
            self.fails(Violation::RivalsUnnoticed);
        }
    }

    /// Every write has come to its end by its deadline.
    pub(super) fn check_deadlines(&mut self) {
        // A primary takes in what its backend has kept, room or not.
        let mut clones = self.nodes.iter().filter(|node| !node.is_primary);
        let is_over = clones.any(|node| {
            let process = node.process.as_ref();
            let report = process.map(|process| process.budget.report());
            report.is_some_and(|report| report.used > report.limit)
        });
        if is_over {
            self.fails(Violation::OverBudget);
        }
        let now = self.now;
        let is_late = self.asked.iter().any(|asked| {
            let is_open = asked.outcome.is_none() && !asked.is_orphan;
            let slack = if asked.writer.0 == 0 { SLACK } else { HELD };
            is_open && asked.deadline.after(slack) < now
        });
        if is_late {
            self.fails(Violation::NotSettled);
        }
    }

    pub(super) fn is_on_disk(&self, key: &Encoded, token: Token) -> bool {
        let persisted = self.nodes[0].disk.persisted();
        let entry = persisted.entries.iter().find(|(known, _)| known == key);
        entry.is_some_and(|(_, entry)| tokens(&entry.value).contains(&token))
    }

    fn entries_of(&self, number: usize) -> Option<&Entries> {
        self.nodes[number].process.as_ref()?.instance.entries()
    }

    /// What the primary has of the writes is what their writers were told.
    fn check_writes(&mut self) {
        let Some(entries) = self.entries_of(0) else {
            return self.fails(Violation::NotOpened);
        };
        let mut found = None;
        for number in 0..self.nodes.len() {
            for life in 1..=self.nodes[number].lives {
                let list = entries.get(&list_of(number, life));
                let list = list.map(|entry| tokens(&entry.value)).unwrap_or_default();
                let mut once = list.clone();
                once.sort_unstable();
                once.dedup();
                if once.len() < list.len() {
                    found = Some(Violation::AppliedTwice);
                } else if once != list {
                    found = Some(Violation::OutOfOrder);
                }
                let asked = self.asked.iter();
                for asked in asked.filter(|asked| asked.writer == (number, life)) {
                    let is_there = list.contains(&asked.token);
                    let is_safe = asked.level == Level::Durable || !self.has_lost;
                    match &asked.outcome {
                        Some(Ok(Answer::Done { .. })) if is_safe && !is_there => {
                            found = found.or(Some(Violation::Lost));
                        }
                        Some(Err(WriteFailure::NoPrimary) | Ok(Answer::Refused(_))) if is_there => {
                            found = Some(Violation::AppliedAllTheSame);
                        }
                        _ => {}
                    }
                }
            }
        }
        if let Some(violation) = found {
            self.fails(violation);
        }
    }

    /// Every node, what its watchers heard, and the disk have what the primary has.
    fn check_equal(&mut self) {
        let Some(expected) = self.entries_of(0).map(values) else {
            return;
        };
        let now = self.now;
        let is_equal = self.nodes.iter().all(|node| {
            let Some(process) = &node.process else {
                return true;
            };
            let entries = process.instance.entries().map(values);
            let watched = process.watched.iter();
            let watched: Vec<_> = watched.map(|(k, v)| (k.clone(), v.clone())).collect();
            if process.budget.report().missing_copies > 0 && !self.scenario.has_room_in_the_end {
                // There is nothing to read, and nobody was told otherwise.
                let freshness = process.instance.freshness(now);
                return entries.is_some_and(|entries| entries.is_empty())
                    && watched.is_empty()
                    && freshness == Freshness::Unattached;
            }
            entries.as_ref() == Some(&expected)
                && watched == expected
                && process.instance.freshness(now) == Freshness::Fresh
        });
        if !is_equal {
            self.fails(Violation::NotEqual);
        }
        if self.scenario.is_persistent {
            let persisted = self.nodes[0].disk.load().unwrap().entries;
            let mut persisted: Vec<_> = persisted.into_iter().map(|(k, e)| (k, e.value)).collect();
            persisted.sort();
            if persisted != expected {
                self.fails(Violation::DiskNotEqual);
            }
        }
    }
}

/// Has one key of a store take about so many bytes, if there is room.
fn fill(store: &mut State, size: usize) {
    let writer = Writer {
        endpoint: EndpointId::from_random([99; 16]),
        instance: 1,
    };
    let op = match size {
        0 => Op::Clear,
        _ => Op::Put {
            key: Encoded::key("fill"),
            value: Encoded::of(&"x".repeat(size)),
            ttl: None,
        },
    };
    store.apply(StoreCommand {
        at: Timestamp::from_secs(0),
        writer,
        number: store.last_of(writer).unwrap_or(0) + 1,
        op,
    });
}

fn values(entries: &Entries) -> Vec<(Encoded, Encoded)> {
    let entries = entries.in_order();
    entries
        .map(|(key, entry)| (key.clone(), entry.value.clone()))
        .collect()
}

fn tokens(list: &Encoded) -> Vec<Token> {
    list.view().to().unwrap_or_default()
}
