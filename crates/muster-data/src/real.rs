//! Reals on the wire and in the order of values.
//!
//! Broker writes reals by portable arithmetic instead of copying bits. For zeros and finite normal
//! numbers the result is the IEEE 754 pattern; the two infinities come out swapped, every NaN is all
//! ones, and subnormals come out as another number altogether, so they are written as zero here.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

const INFINITY_ON_WIRE: u64 = 0xfff0_0000_0000_0000;
const NEG_INFINITY_ON_WIRE: u64 = 0x7ff0_0000_0000_0000;

/// Bit pattern that stands for the number on the wire.
#[inline]
pub(crate) fn to_wire(value: f64) -> u64 {
    if value.is_normal() {
        value.to_bits()
    } else if value.is_nan() {
        u64::MAX
    } else if value.is_infinite() {
        if value > 0.0 {
            INFINITY_ON_WIRE
        } else {
            NEG_INFINITY_ON_WIRE
        }
    } else {
        // Zero or subnormal: keep the sign only.
        value.to_bits() & (1 << 63)
    }
}

/// Number that a bit pattern on the wire stands for.
#[inline]
pub(crate) fn from_wire(bits: u64) -> f64 {
    match bits {
        INFINITY_ON_WIRE => f64::INFINITY,
        NEG_INFINITY_ON_WIRE => f64::NEG_INFINITY,
        _ => f64::from_bits(bits),
    }
}

/// The representative of all numbers that count as the same value: zeros and subnormals (which have
/// one encoding up to sign) are zero, and there is one NaN.
fn representative(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 || value.is_subnormal() {
        0.0
    } else {
        value
    }
}

/// Total order: numerically, NaN last.
pub(crate) fn compare(left: f64, right: f64) -> Ordering {
    representative(left).total_cmp(&representative(right))
}

/// Hash that agrees with [`compare`].
pub(crate) fn hash<H: Hasher>(value: f64, state: &mut H) {
    representative(value).to_bits().hash(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specials_take_brokers_patterns() {
        let cases = [
            (f64::INFINITY, 0xfff0_0000_0000_0000),
            (f64::NEG_INFINITY, 0x7ff0_0000_0000_0000),
            (f64::NAN, u64::MAX),
            (-0.0, 1 << 63),
            (0.0, 0),
            (5e-324, 0),
            (-5e-324, 1 << 63),
            (f64::MIN_POSITIVE, 0x0010_0000_0000_0000),
            (1.5, 0x3ff8_0000_0000_0000),
        ];
        for (value, bits) in cases {
            assert_eq!(to_wire(value), bits, "{value}");
            assert_eq!(compare(from_wire(bits), value), Ordering::Equal, "{value}");
        }
    }

    #[test]
    fn nan_is_last_and_single() {
        assert_eq!(compare(f64::NAN, -f64::NAN), Ordering::Equal);
        assert_eq!(compare(f64::INFINITY, -f64::NAN), Ordering::Less);
        assert_eq!(compare(-0.0, 0.0), Ordering::Equal);
    }
}
