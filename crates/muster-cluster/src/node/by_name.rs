//! Counts by names that come from the network.

use std::collections::BTreeMap;

/// The different names that are counted one by one.
const NAMES: usize = 64;

/// The bytes of a name that are kept.
const LONGEST: usize = 128;

/// Counts by names that come from the network, in bounded memory: the first 64 names have a count each, all others
/// share [`ByName::OTHER`]. Names are cut after 128 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByName(BTreeMap<String, u64>);

impl ByName {
    /// The name under which names without a count of their own are counted.
    pub const OTHER: &'static str = "other";

    /// Counts a name. The word under which it counts, if it does so for the first time.
    pub(crate) fn add(&mut self, name: &str) -> Option<&str> {
        self.add_many(name, 1)
    }

    /// As [`ByName::add`], several times at once.
    pub(crate) fn add_many(&mut self, name: &str, times: u64) -> Option<&str> {
        if times == 0 {
            return None;
        }
        let mut name = beginning(name);
        if !self.0.contains_key(name) && self.0.len() >= NAMES {
            name = Self::OTHER;
        }
        let count = self.0.entry(name.to_owned()).or_default();
        let is_first = *count == 0;
        *count += times;
        let (name, _) = self.0.get_key_value(name)?;
        is_first.then_some(name.as_str())
    }

    /// Returns the names in order, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Returns how often a name came; 0 for one that is among the others.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The sum over all names.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// The whole characters within the first [`LONGEST`] bytes.
fn beginning(name: &str) -> &str {
    let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= LONGEST).last().unwrap_or(0);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let mut counts = ByName::default();
        for number in 0..200 {
            let name = format!("{number:04}{}", "é".repeat(100));
            let first = counts.add(&name).map(str::to_owned);
            let expected = match number {
                0..NAMES => Some(name[..LONGEST].to_owned()),
                NAMES => Some(ByName::OTHER.to_owned()),
                _ => None,
            };
            assert_eq!(first, expected);
        }
        assert_eq!(counts.iter().count(), NAMES + 1);
        assert_eq!((counts.total(), counts.get(ByName::OTHER)), (200, 136));
        assert_eq!(counts.add(&format!("0003{}", "é".repeat(100))), None);
        assert_eq!(counts.iter().nth(3).map(|(_, count)| count), Some(2));
    }
}
