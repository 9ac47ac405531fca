//! Sets of values.

use std::slice;

use crate::Data;

/// A set of values, sorted and without duplicates, so that equal sets have equal encodings.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(Box<[Data]>);

impl Set {
    /// Creates an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `true` if the value is an element.
    pub fn contains(&self, value: &Data) -> bool {
        self.0.binary_search(value).is_ok()
    }

    /// Returns the elements in order.
    pub fn as_slice(&self) -> &[Data] {
        &self.0
    }

    /// Returns an iterator over the elements in order.
    pub fn iter(&self) -> slice::Iter<'_, Data> {
        self.0.iter()
    }

    /// Returns the elements as a vector, in order.
    pub fn into_vec(self) -> Vec<Data> {
        self.0.into_vec()
    }
}

impl From<Vec<Data>> for Set {
    /// Sorts the elements and drops duplicates.
    fn from(mut elements: Vec<Data>) -> Self {
        // What comes from the network usually is in order already.
        if !elements.is_sorted_by(|left, right| left < right) {
            elements.sort();
            elements.dedup();
        }
        Self(elements.into_boxed_slice())
    }
}

impl<T: Into<Data>> FromIterator<T> for Set {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        elements
            .into_iter()
            .map(Into::into)
            .collect::<Vec<Data>>()
            .into()
    }
}

impl IntoIterator for Set {
    type Item = Data;
    type IntoIter = std::vec::IntoIter<Data>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Set {
    type Item = &'a Data;
    type IntoIter = slice::Iter<'a, Data>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_without_duplicates() {
        let set: Set = [3u64, 1, 3, 2].into_iter().collect();
        assert_eq!(set.as_slice(), [1u64, 2, 3].map(Data::from));
        assert!(set.contains(&Data::Count(2)));
        assert!(!set.contains(&Data::Integer(2)));
    }
}
