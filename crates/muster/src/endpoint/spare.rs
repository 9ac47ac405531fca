//! When a connection's buffer is given back: one that has grown for a burst must not stay for an idle
//! connection, of which an endpoint may have hundreds.

/// Buffers up to this size stay.
const SMALL: usize = 32 << 10;

/// A buffer is too large for what is less than this part of it, as a divisor.
const UNUSED: usize = 8;

/// After so many uses of which none needed it, a large buffer goes; a busy connection, whose reads and
/// writes are of all sizes, keeps its own.
const USES: u8 = 8;

/// Watches the uses of a buffer.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    uses: u8,
}

impl Spare {
    /// Notes that so many bytes of a buffer were used; whether it is too large by now.
    pub(crate) fn is_too_large(&mut self, used: usize, capacity: usize) -> bool {
        if capacity <= SMALL || used >= capacity / UNUSED {
            self.uses = 0;
            return false;
        }
        self.uses += 1;
        if self.uses < USES {
            return false;
        }
        self.uses = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_when_it_was_not_needed_for_a_while() {
        let mut spare = Spare::default();
        let uses = [
            100, 100, 100, 100, 100, 40_000, 100, 100, 100, 100, 100, 100, 100,
        ];
        assert!(
            !uses
                .into_iter()
                .any(|used| spare.is_too_large(used, 256 << 10))
        );
        assert!(spare.is_too_large(100, 256 << 10));
        assert!(!(0..100).any(|_| spare.is_too_large(0, SMALL)));
    }
}
