//! Which seeds a simulation runs with, and what one finds that breaks a rule on purpose.

use std::ops::Range;

/// The seeds of a test: so many from 0, or as many as `MUSTER_SEEDS` says, from `MUSTER_FIRST_SEED`.
pub fn seeds(count: u64) -> Range<u64> {
    let number = |variable: &str, otherwise| {
        let value = std::env::var(variable).ok();
        let value = value.and_then(|value| value.parse().ok());
        value.unwrap_or(otherwise)
    };
    let first = number("MUSTER_FIRST_SEED", 0);
    first..first + number("MUSTER_SEEDS", count)
}

/// Returns the first of 200 seeds whose run breaks a rule, given by a word of its error, and the error.
///
/// # Panics
/// If none does.
pub fn first_that_finds<T>(rule: &str, run: impl Fn(u64) -> Result<T, String>) -> (u64, String) {
    let broken = |seed| Some((seed, run(seed).err()?));
    let mut found = (0..200).filter_map(broken);
    let found = found.find(|(_, error)| error.contains(rule));
    found.unwrap_or_else(|| panic!("nothing breaks {rule}"))
}
