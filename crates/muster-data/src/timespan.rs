//! Lengths of time.

use std::fmt;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};
use std::str::FromStr;
use std::time::Duration;

use crate::text::{ParseError, ParseErrorKind};

/// A length of time in nanoseconds, possibly negative. Arithmetic saturates at the ends of the
/// range (about 292 years) instead of wrapping.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timespan(i64);

impl Timespan {
    /// The length zero.
    pub const ZERO: Self = Self(0);
    /// The longest length.
    pub const MAX: Self = Self(i64::MAX);
    /// The longest negative length.
    pub const MIN: Self = Self(i64::MIN);

    /// Makes a length from nanoseconds.
    #[inline]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Makes a length from milliseconds. Saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Makes a length from seconds. Saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Makes a length from seconds with a fraction, to the nearest nanosecond. Saturates; NaN
    /// becomes zero.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self(nanos_of_seconds(secs))
    }

    /// Returns the length in nanoseconds.
    #[inline]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the length in seconds with a fraction.
    pub fn as_secs_f64(self) -> f64 {
        seconds_of_nanos(self.0)
    }

    /// Returns `true` if the length is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// Nearest number of nanoseconds, cut to the range.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates, which is the intent"
)]
pub(crate) fn nanos_of_seconds(secs: f64) -> i64 {
    (secs * 1e9).round() as i64
}

/// Seconds; the whole part is exact.
#[allow(
    clippy::cast_precision_loss,
    reason = "a float cannot hold every nanosecond"
)]
pub(crate) fn seconds_of_nanos(nanos: i64) -> f64 {
    let billion = 1_000_000_000;
    (nanos / billion) as f64 + (nanos % billion) as f64 / 1e9
}

impl Add for Timespan {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Timespan {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Timespan {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Timespan {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Timespan {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul<i64> for Timespan {
    type Output = Self;

    fn mul(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl Div<i64> for Timespan {
    type Output = Self;

    /// Division by zero gives the end of the range, like any other overflow.
    fn div(self, divisor: i64) -> Self {
        match (divisor, self.0) {
            (0, 0) => Self::ZERO,
            (0, nanos) if nanos < 0 => Self::MIN,
            (0, _) => Self::MAX,
            _ => Self(self.0.saturating_div(divisor)),
        }
    }
}

impl From<Duration> for Timespan {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl TryFrom<Timespan> for Duration {
    type Error = std::num::TryFromIntError;

    /// Fails for a negative length.
    fn try_from(timespan: Timespan) -> Result<Self, Self::Error> {
        u64::try_from(timespan.0).map(Duration::from_nanos)
    }
}

impl fmt::Display for Timespan {
    /// Integer with the coarsest exact unit of `s`, `ms`, `us`, `ns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, nanos) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
            if self.0 % nanos == 0 {
                return write!(f, "{}{unit}", self.0 / nanos);
            }
        }
        write!(f, "{}ns", self.0)
    }
}

impl fmt::Debug for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Splits `1.5min` into its number and the nanoseconds of its unit, if it has that form.
pub(crate) fn split_unit(text: &str) -> Option<(&str, i64)> {
    let end = text.rfind(|c: char| !c.is_ascii_alphabetic())? + 1;
    let (number, unit) = text.split_at_checked(end)?;
    let nanos = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    Some((number, nanos))
}

/// Exact nanoseconds of a decimal number of units, as long as there is no finer fraction.
pub(crate) fn decimal_nanos(number: &str, unit: i64) -> Result<i64, ParseErrorKind> {
    let (negative, digits) = match number.as_bytes().first() {
        Some(b'-') => (true, &number[1..]),
        Some(b'+') => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(ParseErrorKind::Malformed);
    }
    let whole: i128 = whole.parse().map_err(|_| ParseErrorKind::OutOfRange)?;
    let fraction = fraction.trim_end_matches('0');
    let scale = u32::try_from(fraction.len())
        .ok()
        .and_then(|length| 10_i128.checked_pow(length))
        .ok_or(ParseErrorKind::OutOfRange)?;
    let part: i128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().map_err(|_| ParseErrorKind::OutOfRange)?
    };
    let unit = i128::from(unit);
    let scaled = part.checked_mul(unit).ok_or(ParseErrorKind::OutOfRange)?;
    if scaled % scale != 0 {
        return Err(ParseErrorKind::OutOfRange);
    }
    let nanos = whole
        .checked_mul(unit)
        .and_then(|whole| whole.checked_add(scaled / scale))
        .map(|nanos| if negative { -nanos } else { nanos })
        .ok_or(ParseErrorKind::OutOfRange)?;
    i64::try_from(nanos).map_err(|_| ParseErrorKind::OutOfRange)
}

impl FromStr for Timespan {
    type Err = ParseError;

    /// Units `ns us ms s min h`; a fraction is fine down to whole nanoseconds.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "an interval such as 1500ms, 1.5s, 10min or 2h";
        let (number, unit) = split_unit(text)
            .ok_or_else(|| ParseError::new(ParseErrorKind::Malformed, 0, text, expected))?;
        decimal_nanos(number, unit)
            .map(Self)
            .map_err(|kind| ParseError::new(kind, 0, text, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_coarsest_exact_unit() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1500ns"),
            (2_000, "2us"),
            (1_500_000_000, "1500ms"),
            (-3_600_000_000_000, "-3600s"),
            (i64::MIN, "-9223372036854775808ns"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Timespan(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Timespan(nanos)));
        }
    }

    #[test]
    fn reads_more_units_and_fractions() {
        assert_eq!("1.5min".parse(), Ok(Timespan::from_secs(90)));
        assert_eq!("+2h".parse(), Ok(Timespan::from_secs(7200)));
        assert_eq!("-0.000001ms".parse(), Ok(Timespan(-1)));
        for text in [
            "", "s", "1", "1d", "1e3s", ".5s", "1.s", "--1s", "é1s", "1és",
        ] {
            assert!(text.parse::<Timespan>().is_err(), "{text}");
        }
        for text in [
            "0.5ns",
            "9223372036854775808ns",
            "99999999999999999999999999999999999999999h",
        ] {
            let error = text.parse::<Timespan>().unwrap_err();
            assert_eq!(error.kind(), ParseErrorKind::OutOfRange, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timespan::MAX + Timespan(1), Timespan::MAX);
        assert_eq!(-Timespan::MIN, Timespan::MAX);
        assert_eq!(Timespan::MIN / -1, Timespan::MAX);
        assert_eq!(Timespan(5) / 0, Timespan::MAX);
        assert_eq!(Timespan::from_secs_f64(1.5), Timespan::from_millis(1500));
        assert_eq!(Timespan::from_secs_f64(f64::INFINITY), Timespan::MAX);
        assert!(Duration::try_from(Timespan(-1)).is_err());
    }
}
