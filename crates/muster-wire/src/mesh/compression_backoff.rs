//! When compression is tried: ever more rarely where it saves nothing.

/// After this many attempts in a row that saved nothing, compression is no longer tried each time.
const PATIENCE: u8 = 4;

/// How many batches are passed over at first.
const FIRST: u16 = 16;

/// The most batches that are passed over. Useless attempts then cost next to nothing, and a change
/// of what is sent is noticed within some megabytes.
const MOST: u16 = 256;

/// Decides whether the next batch of one class of traffic on one link is to be compressed.
#[derive(Debug, Clone, Default)]
pub struct CompressionBackoff {
    in_vain: u8,
    /// How many batches are passed over after each attempt now.
    pause: u16,
    left: u16,
}

impl CompressionBackoff {
    /// Returns `true` if compression is to be tried with the next batch, and counts the batch
    /// otherwise.
    pub fn is_due(&mut self) -> bool {
        if self.left == 0 {
            return true;
        }
        self.left -= 1;
        false
    }

    /// Notes whether an attempt has saved anything.
    pub fn note(&mut self, has_saved: bool) {
        if has_saved {
            *self = Self::default();
            return;
        }
        self.in_vain = self.in_vain.saturating_add(1).min(PATIENCE);
        if self.in_vain == PATIENCE {
            self.pause = (self.pause * 2).clamp(FIRST, MOST);
            self.left = self.pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_saves_nothing_is_tried_ever_more_rarely_until_it_saves() {
        let mut worth = CompressionBackoff::default();
        let mut tried = Vec::new();
        for number in 0..2000 {
            if worth.is_due() {
                tried.push(number);
                worth.note(false);
            }
        }
        assert_eq!(tried[..5], [0, 1, 2, 3, 20]);
        let pauses: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0] - 1).collect();
        assert_eq!(
            pauses[..],
            [0, 0, 0, 16, 32, 64, 128, 256, 256, 256, 256, 256, 256]
        );
        while !worth.is_due() {}
        worth.note(true);
        assert!((0..100).all(|_| {
            let is_due = worth.is_due();
            worth.note(true);
            is_due
        }));
        // A few useless ones between others change nothing.
        for _ in 0..100 {
            for has_saved in [false, false, false, true] {
                assert!(worth.is_due());
                worth.note(has_saved);
            }
        }
    }
}
