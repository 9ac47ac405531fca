//! Tables of values.

use std::slice;

use crate::Data;

/// A table of values, sorted by key and with unique keys, so that equal tables have equal
/// encodings.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(Box<[(Data, Data)]>);

impl Table {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &Data) -> Option<&Data> {
        let position = self
            .0
            .binary_search_by(|(candidate, _)| candidate.cmp(key))
            .ok()?;
        Some(&self.0[position].1)
    }

    /// Returns `true` if the key has an entry.
    pub fn contains_key(&self, key: &Data) -> bool {
        self.get(key).is_some()
    }

    /// Returns the entries in order of their keys.
    pub fn as_slice(&self) -> &[(Data, Data)] {
        &self.0
    }

    /// Returns an iterator over the entries in order of their keys.
    pub fn iter(&self) -> slice::Iter<'_, (Data, Data)> {
        self.0.iter()
    }

    /// Returns the entries as a vector, in order of their keys.
    pub fn into_vec(self) -> Vec<(Data, Data)> {
        self.0.into_vec()
    }
}

impl From<Vec<(Data, Data)>> for Table {
    /// Sorts the entries; of several with the same key the last one stays.
    fn from(mut entries: Vec<(Data, Data)>) -> Self {
        if !entries.is_sorted_by(|left, right| left.0 < right.0) {
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            // `dedup_by` keeps the first of a run, so the later entry is moved there.
            entries.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(later, earlier);
                }
                same
            });
        }
        Self(entries.into_boxed_slice())
    }
}

impl<K: Into<Data>, V: Into<Data>> FromIterator<(K, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()));
        entries.collect::<Vec<(Data, Data)>>().into()
    }
}

impl IntoIterator for Table {
    type Item = (Data, Data);
    type IntoIter = std::vec::IntoIter<(Data, Data)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a (Data, Data);
    type IntoIter = slice::Iter<'a, (Data, Data)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_entry_of_a_key_stays() {
        let table: Table = [("b", 1u64), ("a", 2), ("b", 3), ("b", 4)]
            .into_iter()
            .collect();
        assert_eq!(table.len(), 2);
        assert_eq!(table.get(&Data::from("b")), Some(&Data::Count(4)));
        assert_eq!(table.get(&Data::from("c")), None);
    }
}
