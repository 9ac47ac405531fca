//! Sets and tables of any Rust values, in Broker's order.

use std::ops::Range;

use super::{Encode, length, set_header, table_header};
use crate::DataRef;
use crate::cursor::skip;
use crate::order::{Containers, compare_encoded};

/// Appends a set of elements in Broker's order, whatever order they come in. Of elements that
/// encode to the same value, one is kept.
pub fn set<T: Encode>(out: &mut Vec<u8>, elements: impl ExactSizeIterator<Item = T>) {
    let start = out.len();
    let count = elements.len();
    set_header(out, count);
    let body = out.len();
    let mut order = Order::new(body);
    for element in elements {
        let from = out.len();
        element.encode(out);
        order.key(out, from..out.len());
    }
    if !order.ascending {
        rewrite(out, start, body, 1);
    }
}

/// Appends a table of entries in Broker's order of keys, whatever order they come in. Of entries
/// whose keys encode to the same value, the last one is kept.
pub fn table<K: Encode, V: Encode>(
    out: &mut Vec<u8>,
    entries: impl ExactSizeIterator<Item = (K, V)>,
) {
    let start = out.len();
    let count = entries.len();
    table_header(out, count);
    let body = out.len();
    let mut order = Order::new(body);
    for (key, value) in entries {
        let from = out.len();
        key.encode(out);
        order.key(out, from..out.len());
        value.encode(out);
    }
    if !order.ascending {
        rewrite(out, start, body, 2);
    }
}

/// Whether the keys so far are strictly ascending.
struct Order {
    previous: Range<usize>,
    ascending: bool,
}

impl Order {
    fn new(body: usize) -> Self {
        Self {
            previous: body..body,
            ascending: true,
        }
    }

    fn key(&mut self, out: &[u8], key: Range<usize>) {
        if self.ascending && !self.previous.is_empty() {
            let previous = &out[self.previous.clone()];
            self.ascending =
                compare_encoded(previous, &out[key.clone()], Containers::AnyOrder).is_lt();
        }
        self.previous = key;
    }
}

/// Sorts the entries from `body` to the end, drops those with a key that comes again, and writes the
/// header at `start` anew.
#[cold]
fn rewrite(out: &mut Vec<u8>, start: usize, body: usize, width: usize) {
    let encoded = out.split_off(body);
    let mut entries = Vec::new();
    let mut pos = 0;
    while pos < encoded.len() {
        let start = pos;
        let key_end = skip(&encoded, start);
        pos = if width == 2 {
            skip(&encoded, key_end)
        } else {
            key_end
        };
        // Sorting demands a consistent order, which bytes have only if they are valid; values always.
        let key = DataRef::from_validated(&encoded[start..key_end]).to_data();
        entries.push((key, start..pos));
    }
    // Stable and from the back, so that the last of several equal keys comes first and is kept.
    entries.reverse();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    entries.dedup_by(|(later, _), (earlier, _)| later == earlier);
    out.truncate(start);
    let count = length(entries.len()) as usize;
    if width == 2 {
        table_header(out, count);
    } else {
        set_header(out, count);
    }
    for (_, entry) in &entries[..count] {
        out.extend_from_slice(&encoded[entry.clone()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Data;

    #[test]
    fn any_order_becomes_brokers_order() {
        let mut out = Vec::new();
        set(&mut out, [-1i64, 5, -7, 5].iter());
        let expected = Data::set([-7i64, -1, 5]);
        assert_eq!(out, crate::encode_to_vec(&expected));

        let mut out = Vec::new();
        table(&mut out, [("b", 1u64), ("a", 2), ("b", 3)].into_iter());
        let expected = Data::table([("a", 2u64), ("b", 3)]);
        assert_eq!(out, crate::encode_to_vec(&expected));
    }
}
