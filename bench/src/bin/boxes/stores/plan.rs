//! What the command line says.

use anyhow::{Context, Result, bail, ensure};

/// What is measured, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    /// How long each run takes.
    pub(super) seconds: f64,
    /// How often everything is repeated.
    pub(super) repeat: u32,
    /// What is in the store whose box is lost.
    pub(super) entries: u64,
    /// How many write to it at once, each waiting for its answer.
    pub(super) writers: u64,
    pub(super) is_json: bool,
}

impl Plan {
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self {
            seconds: 5.0,
            repeat: 3,
            entries: 100_000,
            writers: 1,
            is_json: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value"))?;
            match *word {
                "--seconds" => plan.seconds = value.parse().context("--seconds takes a number")?,
                "--repeat" => plan.repeat = value.parse().context("--repeat takes a number")?,
                "--entries" => plan.entries = value.parse().context("--entries takes a number")?,
                "--writers" => plan.writers = value.parse().context("--writers takes a number")?,
                "--format" => plan.is_json = *value == "json",
                _ => bail!(
                    "usage: boxes stores [--seconds N] [--repeat N] [--entries N] [--writers N] [--format text|json]"
                ),
            }
        }
        ensure!(
            (0.1..=600.0).contains(&plan.seconds) && plan.repeat > 0,
            "a run takes 0.1 to 600 seconds, and there is one at least"
        );
        Ok(plan)
    }
}
