//! What was heard and what was said of it, held against what the register promises.

use std::collections::{BTreeMap, BTreeSet};

use muster_wire::EndpointId;

use super::follower::{Heard, LEVEL, LIMIT, MOST, Memory, Outcome, TURN};

/// The numbers of changes that were asked for, and when: in steps of the run.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    asked: BTreeMap<u64, u64>,
    /// When somebody heard what became of it.
    ended: BTreeMap<u64, (u64, Outcome)>,
    /// What a swap has expected.
    expected: BTreeMap<u64, u64>,
    /// What each life goes by, of each name.
    has: BTreeMap<(EndpointId, &'static str), u64>,
    /// The values of registers that somebody has seen follow one another: of one, those behind it.
    follows: BTreeMap<u64, BTreeSet<u64>>,
    pub(crate) heard: u64,
}

impl Oracle {
    pub(crate) fn asked(&mut self, number: u64, step: u64) {
        self.asked.insert(number, step);
    }

    pub(crate) fn count(&self, is: impl Fn(bool, Outcome) -> bool) -> u64 {
        let ended = self.ended.iter();
        let ended =
            ended.filter(|(number, (_, outcome))| is(self.expected.contains_key(number), *outcome));
        ended.count() as u64
    }

    /// Takes what was heard in a step.
    pub(crate) fn take(&mut self, memory: Memory, step: u64) -> Result<(), String> {
        self.expected.extend(memory.expected);
        for (number, outcome) in memory.outcomes {
            self.ended.insert(number, (step, outcome));
        }
        for heard in &memory.heard {
            self.take_one(heard)?;
        }
        Ok(())
    }

    fn take_one(&mut self, heard: &Heard) -> Result<(), String> {
        let Heard {
            life,
            name,
            old,
            new,
        } = heard;
        self.heard += 1;
        let before = self.has.insert((*life, name), *new).unwrap_or(0);
        if before != *old {
            return Err(format!(
                "ORDER: {life} hears that {name} was {old}, and it was {before}"
            ));
        }
        if *name == LIMIT {
            let fits = *new <= MOST;
            return if fits {
                Ok(())
            } else {
                Err(format!("FIT: {life} goes by {new} as {name}"))
            };
        }
        if *new != 0 && !self.asked.contains_key(new) {
            return Err(format!("FIT: nobody has set {name} to {new}"));
        }
        if old != new {
            self.follows.entry(*old).or_default().insert(*new);
        }
        Ok(())
    }

    /// Returns what a life goes by.
    pub(crate) fn of(&self, life: EndpointId, name: &'static str) -> u64 {
        self.has.get(&(life, name)).copied().unwrap_or(0)
    }

    /// Looks at what was said in the course of the run, whose end all nodes know.
    pub(crate) fn check(&self, level: u64, turn: u64) -> Result<(), String> {
        self.check_order()?;
        self.check_winners(turn)?;
        self.check_level(level)
    }

    /// All that was seen fits into one order: nothing follows itself.
    fn check_order(&self) -> Result<(), String> {
        let mut done = BTreeSet::new();
        for start in self.follows.keys() {
            // Depth first, with the way that leads to where it is.
            let mut way = vec![(*start, self.behind(*start))];
            let mut on_way = BTreeSet::from([*start]);
            while let Some((value, behind)) = way.last_mut() {
                let Some(next) = behind.pop() else {
                    done.insert(*value);
                    on_way.remove(value);
                    way.pop();
                    continue;
                };
                if on_way.contains(&next) {
                    return Err(format!(
                        "ORDER: {next} is seen before and after another value"
                    ));
                }
                if !done.contains(&next) {
                    on_way.insert(next);
                    way.push((next, self.behind(next)));
                }
            }
        }
        Ok(())
    }

    fn behind(&self, value: u64) -> Vec<u64> {
        let behind = self.follows.get(&value).into_iter();
        behind.flatten().copied().collect()
    }

    /// Of those who swap the same value one wins; and the swaps that were won are all on the way to the last value.
    fn check_winners(&self, turn: u64) -> Result<(), String> {
        let mut winners: BTreeMap<u64, u64> = BTreeMap::new();
        let won = |number: &u64| matches!(self.ended.get(number), Some((_, Outcome::Done)));
        for (number, expected) in &self.expected {
            if won(number)
                && let Some(other) = winners.insert(*expected, *number)
            {
                return Err(format!(
                    "ONE: {number} and {other} have both replaced {expected}"
                ));
            }
        }
        let mut on_way = BTreeSet::new();
        let mut value = turn;
        while value != 0 {
            on_way.insert(value);
            value = *self.expected.get(&value).ok_or("FIT: nobody has swapped")?;
        }
        let lost = self
            .expected
            .keys()
            .find(|it| won(it) && !on_way.contains(it));
        lost.map_or(Ok(()), |lost| {
            let name = TURN.name();
            Err(format!(
                "LOST: {lost} has won {name}, which is {turn} by other ways"
            ))
        })
    }

    /// What was set is there, unless something was set that had not ended when it was asked for.
    fn check_level(&self, level: u64) -> Result<(), String> {
        let name = LEVEL.name();
        let ended = self.ended.get(&level).map_or(u64::MAX, |(step, _)| *step);
        let ended = if level == 0 { 0 } else { ended };
        let sets = self.ended.iter();
        let mut sets = sets.filter(|(number, (_, outcome))| {
            !self.expected.contains_key(number) && *outcome == Outcome::Done
        });
        let later = sets.find(|(number, _)| self.asked[number] > ended);
        later.map_or(Ok(()), |(later, _)| {
            Err(format!(
                "LOST: {name} is {level}, and {later} was set behind it"
            ))
        })?;
        // What has not happened has not happened.
        match self.ended.get(&level) {
            Some((_, Outcome::Not)) => Err(format!("FIT: {name} is {level}, which was not set")),
            _ => Ok(()),
        }
    }
}
