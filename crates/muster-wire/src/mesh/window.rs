//! The window that recognises duplicates (protocol version 2, section 4.2), as in RFC 6479.

use crate::message::Class;

/// The number of sequences that a window remembers.
pub const WINDOW: u64 = 8192;

const WORDS: usize = 128;

/// What a window says about a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before, and higher than all that were seen.
    New,
    /// Not seen before, but a higher one was seen.
    Late,
    /// Seen before.
    Duplicate,
    /// Below the window, so perhaps seen before.
    TooOld,
}

/// The sequences of one origin and class that were seen: the highest, and one bit for each of the
/// last 8,192. The highest alone would not do: what comes late over another path would be dropped.
#[derive(Debug, Clone)]
pub struct Window {
    top: u64,
    bits: Box<[u64; WORDS]>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            top: 0,
            bits: Box::new([0; WORDS]),
        }
    }
}

fn place(sequence: u64) -> (usize, u64) {
    let position = sequence % WINDOW;
    let word = usize::try_from(position / 64).unwrap_or_default();
    (word, 1 << (position % 64))
}

impl Window {
    /// Notes a sequence as seen, and returns what it was before. Sequences start at 1; 0 is never
    /// new.
    pub fn check(&mut self, sequence: u64) -> Verdict {
        if sequence == 0 || self.top.saturating_sub(sequence) >= WINDOW {
            return Verdict::TooOld;
        }
        let verdict = if sequence > self.top {
            if sequence - self.top >= WINDOW {
                self.bits.fill(0);
            } else {
                for passed in self.top + 1..=sequence {
                    let (word, bit) = place(passed);
                    self.bits[word] &= !bit;
                }
            }
            self.top = sequence;
            Verdict::New
        } else {
            Verdict::Late
        };
        let (word, bit) = place(sequence);
        if self.bits[word] & bit != 0 {
            return Verdict::Duplicate;
        }
        self.bits[word] |= bit;
        verdict
    }
}

/// The windows of one origin, by class. Each is made at the first message.
#[derive(Debug, Clone, Default)]
pub struct OriginWindows([Option<Window>; 4]);

impl OriginWindows {
    /// Notes a sequence of a class as seen, and returns what it was before.
    pub fn check(&mut self, class: Class, sequence: u64) -> Verdict {
        self.0[class as usize]
            .get_or_insert_default()
            .check(sequence)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_of_a_window() {
        let mut window = Window::default();
        assert_eq!(window.check(0), Verdict::TooOld);
        assert_eq!(window.check(1), Verdict::New);
        assert_eq!(window.check(1), Verdict::Duplicate);
        assert_eq!(window.check(WINDOW), Verdict::New);
        assert_eq!(window.check(1), Verdict::Duplicate);
        assert_eq!(window.check(WINDOW + 1), Verdict::New);
        assert_eq!(window.check(1), Verdict::TooOld);
        assert_eq!(window.check(2), Verdict::Late);
        assert_eq!(window.check(u64::MAX), Verdict::New);
        assert_eq!(window.check(u64::MAX), Verdict::Duplicate);
        assert_eq!(window.check(5), Verdict::TooOld);
    }

    proptest! {
        #[test]
        fn nothing_is_new_twice(steps in prop::collection::vec((0u64..20_000, 0u64..9000), 1..300)) {
            let mut window = Window::default();
            let mut seen = HashSet::new();
            let mut top = 0;
            for (base, back) in steps {
                let sequence = base.max(top).saturating_sub(back);
                top = top.max(sequence);
                let is_new = matches!(window.check(sequence), Verdict::New | Verdict::Late);
                let inside = sequence > 0 && sequence + WINDOW > top;
                prop_assert_eq!(is_new, inside && !seen.contains(&sequence));
                seen.insert(sequence);
            }
        }
    }
}
