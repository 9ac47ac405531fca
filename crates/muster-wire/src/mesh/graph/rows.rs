//! A table of bits: which slots are linked with which.

/// One row of bits for each slot, all of one length.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// The words of 64 bits in a row.
    words: usize,
    bits: Vec<u64>,
}

fn place(column: u32) -> (usize, u64) {
    ((column / 64) as usize, 1 << (column % 64))
}

impl Rows {
    /// Makes room for this many slots.
    pub(super) fn grow(&mut self, slots: usize) {
        let needed = slots.div_ceil(64);
        if needed > self.words {
            let words = needed.next_power_of_two();
            let mut bits = vec![0; slots * words];
            if self.words > 0 {
                let rows = bits.chunks_exact_mut(words);
                for (new, old) in rows.zip(self.bits.chunks_exact(self.words)) {
                    new[..self.words].copy_from_slice(old);
                }
            }
            self.words = words;
            self.bits = bits;
        } else {
            self.bits.resize(slots * self.words, 0);
        }
    }

    pub(super) fn get(&self, slot: u32) -> &[u64] {
        let start = slot as usize * self.words;
        self.bits.get(start..start + self.words).unwrap_or(&[])
    }

    pub(super) fn contains(&self, slot: u32, other: u32) -> bool {
        let (word, bit) = place(other);
        let word = self.get(slot).get(word);
        word.is_some_and(|word| word & bit != 0)
    }

    pub(super) fn set(&mut self, slot: u32, other: u32, is_linked: bool) {
        let (word, bit) = place(other);
        let word = &mut self.bits[slot as usize * self.words + word];
        if is_linked {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_bits_when_they_grow() {
        let mut rows = Rows::default();
        assert!(!rows.contains(0, 0));
        rows.grow(3);
        rows.set(2, 1, true);
        rows.set(1, 2, true);
        for slots in [4, 64, 65, 400] {
            rows.grow(slots);
            assert!(rows.contains(2, 1) && rows.contains(1, 2) && !rows.contains(2, 2));
            assert_eq!(rows.get(2)[0], 2);
        }
        rows.set(399, 390, true);
        assert!(rows.contains(399, 390) && !rows.contains(398, 390) && !rows.contains(400, 1));
        rows.set(399, 390, false);
        assert!(!rows.contains(399, 390));
    }
}
