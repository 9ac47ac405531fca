//! Borrowed views of encoded vectors, sets and tables, and iterators over them.

use std::fmt;

use super::DataRef;
use crate::cursor::{read_length, skip};

/// The elements of an encoded vector.
#[derive(Clone, Copy)]
pub struct VectorRef<'a> {
    body: &'a [u8],
    length: usize,
}

impl<'a> VectorRef<'a> {
    /// Entries after a container's tag, each of `width` values.
    #[inline]
    pub(super) fn new(body: &'a [u8], width: usize) -> Self {
        let mut pos = 0;
        let length = read_length(body, &mut pos).map_or(0, |length| length as usize);
        let body = &body[pos..];
        // On valid bytes this changes nothing; on others it bounds the iteration.
        Self {
            body,
            length: length.min(body.len() / width),
        }
    }

    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns `true` if there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns an iterator over the elements.
    #[inline]
    pub fn iter(&self) -> VectorIter<'a> {
        VectorIter {
            rest: self.body,
            remaining: self.length,
        }
    }

    /// Returns the encoded elements, one behind the other.
    #[inline]
    pub fn encoded(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the element at a position, counted from 0. Takes time in proportion to the elements
    /// before it.
    pub fn get(&self, index: usize) -> Option<DataRef<'a>> {
        self.iter().nth(index)
    }
}

/// An iterator over the elements of a vector.
#[derive(Clone, Debug)]
pub struct VectorIter<'a> {
    rest: &'a [u8],
    remaining: usize,
}

impl<'a> VectorIter<'a> {
    /// Splits off the next value.
    #[inline]
    fn split_next(&mut self) -> DataRef<'a> {
        let (bytes, rest) = self.rest.split_at(skip(self.rest, 0));
        self.rest = rest;
        DataRef { bytes }
    }
}

impl<'a> Iterator for VectorIter<'a> {
    type Item = DataRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<DataRef<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(self.split_next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for VectorIter<'_> {}

/// The elements of an encoded set, in the order in which they were encoded.
#[derive(Clone, Copy)]
pub struct SetRef<'a>(pub(super) VectorRef<'a>);

impl<'a> SetRef<'a> {
    /// Returns the number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no elements.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the encoded elements, one behind the other.
    #[inline]
    pub fn encoded(&self) -> &'a [u8] {
        self.0.encoded()
    }

    /// Returns an iterator over the elements.
    #[inline]
    pub fn iter(&self) -> SetIter<'a> {
        SetIter(self.0.iter())
    }

    /// Returns `true` if the value is an element. Compares one element after the other.
    pub fn contains(&self, value: DataRef<'_>) -> bool {
        self.iter().any(|element| element == value)
    }
}

/// An iterator over the elements of a set.
#[derive(Clone, Debug)]
pub struct SetIter<'a>(VectorIter<'a>);

impl<'a> Iterator for SetIter<'a> {
    type Item = DataRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<DataRef<'a>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for SetIter<'_> {}

/// The entries of an encoded table, in the order in which they were encoded.
#[derive(Clone, Copy)]
pub struct TableRef<'a>(pub(super) VectorRef<'a>);

impl<'a> TableRef<'a> {
    /// Returns the number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the encoded entries, one behind the other.
    #[inline]
    pub fn encoded(&self) -> &'a [u8] {
        self.0.encoded()
    }

    /// Returns an iterator over the entries.
    #[inline]
    pub fn iter(&self) -> TableIter<'a> {
        TableIter(self.0.iter())
    }

    /// Returns the value of a key. Compares one entry after the other.
    pub fn get(&self, key: DataRef<'_>) -> Option<DataRef<'a>> {
        self.iter()
            .find(|(candidate, _)| *candidate == key)
            .map(|(_, value)| value)
    }
}

/// An iterator over the entries of a table.
#[derive(Clone, Debug)]
pub struct TableIter<'a>(VectorIter<'a>);

impl<'a> Iterator for TableIter<'a> {
    type Item = (DataRef<'a>, DataRef<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.next()?;
        Some((key, self.0.split_next()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for TableIter<'_> {}

macro_rules! container_traits {
    ($($container:ident => $iter:ident, $item:ty;)*) => {$(
        impl<'a> IntoIterator for $container<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        impl<'a> IntoIterator for &$container<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        impl fmt::Debug for $container<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }
    )*};
}

container_traits! {
    VectorRef => VectorIter, DataRef<'a>;
    SetRef => SetIter, DataRef<'a>;
    TableRef => TableIter, (DataRef<'a>, DataRef<'a>);
}
