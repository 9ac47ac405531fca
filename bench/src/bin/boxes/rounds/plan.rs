//! What happens in which round: drawn from a seed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use muster_test_support::Random;

use crate::client::now;
use crate::founding::BOXES;

/// What a node whose box has crashed is given until another serves.
const CRASH_LIMIT: f64 = 2.0;

/// What a node whose box hangs is given.
const HANG_LIMIT: f64 = 5.0;

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) rounds: u32,
    pub(super) seed: u64,
    pub(super) only: Option<String>,
    pub(super) is_json: bool,
    /// Times are told, and not judged: for machines that are busy with other things.
    pub(super) is_patient: bool,
    /// A file for what was asked and answered, in all rounds.
    pub(super) history: Option<PathBuf>,
}

impl Plan {
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self {
            rounds: 100,
            seed: now(),
            only: None,
            is_json: false,
            is_patient: false,
            history: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--patient" {
                plan.is_patient = true;
                continue;
            }
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            match *word {
                "--rounds" => plan.rounds = value.parse().context("--rounds takes a number")?,
                "--seed" => plan.seed = value.parse().context("--seed takes a number")?,
                "--fault" if FAULTS.iter().any(|known| known.name() == *value) => {
                    plan.only = Some((*value).to_owned());
                }
                "--fault" => {
                    let names: Vec<&str> = FAULTS.iter().map(|known| known.name()).collect();
                    bail!("there is no fault {value}: {}", names.join(", "));
                }
                "--history" => plan.history = Some(value.into()),
                "--format" => plan.is_json = *value == "json",
                _ => bail!(
                    "usage: boxes operate | stores [OPTION...] | [--rounds N] [--seed N] [--fault NAME] [--patient] [--history FILE] [--format text|json]"
                ),
            }
        }
        Ok(plan)
    }
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Kill,
    KillLeader,
    KillOne,
    Freeze,
    FreezeLeader,
    Cut,
    Dumb,
    Deaf,
    CutFromOne,
    Reset,
    Loss,
    FullDisk,
    HungDisk,
    Restart,
}

const FAULTS: [Fault; 14] = [
    Fault::Kill,
    Fault::KillLeader,
    Fault::KillOne,
    Fault::Freeze,
    Fault::FreezeLeader,
    Fault::Cut,
    Fault::Dumb,
    Fault::Deaf,
    Fault::CutFromOne,
    Fault::Reset,
    Fault::Loss,
    Fault::FullDisk,
    Fault::HungDisk,
    Fault::Restart,
];

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillLeader => "kill-leader",
            Self::KillOne => "kill-one",
            Self::Freeze => "freeze",
            Self::FreezeLeader => "freeze-leader",
            Self::Cut => "cut",
            Self::Dumb => "dumb",
            Self::Deaf => "deaf",
            Self::CutFromOne => "cut-from-one",
            Self::Reset => "reset",
            Self::Loss => "loss",
            Self::FullDisk => "full-disk",
            Self::HungDisk => "hung-disk",
            Self::Restart => "restart",
        }
    }

    /// How long it lasts at least and at most, in seconds.
    fn span(self) -> (u64, u64) {
        match self {
            Self::Freeze | Self::FreezeLeader => (1, 20),
            Self::HungDisk => (1, 10),
            Self::Restart => (0, 0),
            _ => (4, 10),
        }
    }

    /// How long the cluster may take to go on.
    pub(super) fn limit(self) -> f64 {
        match self {
            Self::Kill | Self::KillLeader | Self::KillOne | Self::Restart | Self::Reset => {
                CRASH_LIMIT
            }
            _ => HANG_LIMIT,
        }
    }

    /// Whether all nodes of the box have to be out while it lasts, if it lasts long enough.
    pub(super) fn takes_out(self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::KillLeader
                | Self::Freeze
                | Self::FreezeLeader
                | Self::Cut
                | Self::Dumb
                | Self::Reset
        )
    }

    /// Whether it is the box of the coordinators' leader that it happens to.
    pub(super) fn is_of_leader(self) -> bool {
        matches!(self, Self::KillLeader | Self::FreezeLeader)
    }
}

/// What a round does.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) fault: Fault,
    pub(super) on: &'static str,
    /// Another box, or a node or agent of this one.
    pub(super) which: usize,
    pub(super) after: Duration,
    pub(super) lasts: Duration,
}

impl Round {
    pub(super) fn drawn(random: &mut Random, only: Option<&str>) -> Self {
        let drawn = FAULTS[random.below(FAULTS.len())];
        let named = only.and_then(|name| FAULTS.into_iter().find(|fault| fault.name() == name));
        let fault = named.unwrap_or(drawn);
        let (shortest, longest) = fault.span();
        Self {
            fault,
            on: BOXES[random.below(BOXES.len())],
            which: random.below(64),
            after: millis(random, 1000, 2500),
            lasts: millis(random, shortest * 1000, longest * 1000),
        }
    }
}

/// A time between two, in milliseconds.
fn millis(random: &mut Random, from: u64, to: u64) -> Duration {
    Duration::from_millis(from + random.number(to - from + 1))
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = self.lasts.as_secs_f64();
        write!(f, "{} {}", self.fault.name(), self.on)?;
        if self.lasts > Duration::ZERO {
            write!(f, " {lasts:.1} s")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_rounds() {
        let drawn = |seed| {
            let mut random = Random::new(seed);
            let rounds = (0..50).map(|_| Round::drawn(&mut random, None).to_string());
            rounds.collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let all = drawn(1).join("\n");
        assert!(
            FAULTS.iter().all(|fault| all.contains(fault.name())),
            "{all}"
        );
    }
}
