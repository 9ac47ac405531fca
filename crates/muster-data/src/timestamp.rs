//! Points in time.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::Timespan;
use crate::text::{ParseError, ParseErrorKind};
use crate::timespan::{nanos_of_seconds, seconds_of_nanos};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
const EXPECTED: &str = "a UTC time such as 2026-01-02T03:04:05.678Z";

/// A point in time in nanoseconds since 1970-01-01 UTC, between the years 1677 and 2262. Arithmetic
/// saturates at the ends of the range instead of wrapping.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01 UTC.
    pub const EPOCH: Self = Self(0);

    /// Makes a time from nanoseconds since the epoch.
    #[inline]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Makes a time from whole seconds since the epoch. Saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SECOND))
    }

    /// Makes a time from seconds since the epoch, to the nearest nanosecond. Saturates; NaN becomes
    /// the epoch.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self(nanos_of_seconds(secs))
    }

    /// Returns the nanoseconds since the epoch.
    #[inline]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Returns the seconds since the epoch, with a fraction.
    pub fn as_secs_f64(self) -> f64 {
        seconds_of_nanos(self.0)
    }

    /// Year, month, day, hour, minute and second, and the nanoseconds that are left.
    pub(crate) fn civil(self) -> ([i64; 6], i64) {
        let seconds = self.0.div_euclid(NANOS_PER_SECOND);
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        (
            [year, month, day, hour, minute, second],
            self.0.rem_euclid(NANOS_PER_SECOND),
        )
    }
}

impl Add<Timespan> for Timestamp {
    type Output = Self;

    fn add(self, span: Timespan) -> Self {
        Self(self.0.saturating_add(span.as_nanos()))
    }
}

impl Sub<Timespan> for Timestamp {
    type Output = Self;

    fn sub(self, span: Timespan) -> Self {
        Self(self.0.saturating_sub(span.as_nanos()))
    }
}

impl Sub for Timestamp {
    type Output = Timespan;

    fn sub(self, earlier: Self) -> Timespan {
        Timespan::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(Timespan::from(after).as_nanos()),
            Err(before) => Self((-Timespan::from(before.duration())).as_nanos()),
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 < 0 {
            Self::UNIX_EPOCH - distance
        } else {
            Self::UNIX_EPOCH + distance
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts in eras of 400 years and in years that begin in March, so that the leap day is the last.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl fmt::Display for Timestamp {
    /// ISO 8601 in UTC with as many digits of the second's fraction as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([year, month, day, hour, minute, second], nanos) = self.civil();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if nanos != 0 {
            let digits = format!("{nanos:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |kind| ParseError::new(kind, 0, text, EXPECTED);
        let fields = split_fields(text).ok_or_else(|| error(ParseErrorKind::Malformed))?;
        let [year, month, day, hour, minute, second, nanos] = fields;
        let days = days_from_civil(year, month, day);
        let real_day = (1..=12).contains(&month) && civil_from_days(days) == (year, month, day);
        if !real_day || hour > 23 || minute > 59 || second > 59 {
            return Err(error(ParseErrorKind::OutOfRange));
        }
        let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        let total = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
        i64::try_from(total)
            .map(Self)
            .map_err(|_| error(ParseErrorKind::OutOfRange))
    }
}

/// Year, month, day, hour, minute, second and nanosecond of `YYYY-MM-DDTHH:MM:SS[.fraction]Z`.
fn split_fields(text: &str) -> Option<[i64; 7]> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut date = date.split('-');
    let mut time = time.split(':');
    let fields = [
        digits(date.next()?, 4..=4)?,
        digits(date.next()?, 2..=2)?,
        digits(date.next()?, 2..=2)?,
        digits(time.next()?, 2..=2)?,
        digits(time.next()?, 2..=2)?,
        digits(time.next()?, 2..=2)?,
        digits(fraction, 1..=9)? * 10_i64.pow(9 - u32::try_from(fraction.len()).ok()?),
    ];
    (date.next().is_none() && time.next().is_none()).then_some(fields)
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits && length.contains(&text.len()) {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (951_782_400_500_000_000, "2000-02-29T00:00:00.5Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Timestamp(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(nanos)));
        }
    }

    #[test]
    fn every_day_of_four_centuries_has_its_own_date() {
        let mut previous = (0, 0, 0);
        for days in -146_097..146_097 {
            let date = civil_from_days(days);
            assert_eq!(days_from_civil(date.0, date.1, date.2), days);
            assert!(date > previous || previous == (0, 0, 0));
            previous = date;
        }
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in [
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-01T24:00:00Z",
            "9999-01-01T00:00:00Z",
        ] {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert_eq!(error.kind(), ParseErrorKind::OutOfRange, "{text}");
        }
        for text in [
            "2023-01-01",
            "2023-01-01T00:00:00",
            "2023-01-01T00:00:00.Z",
            "T:::Z",
            "é",
        ] {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert_eq!(error.kind(), ParseErrorKind::Malformed, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp(i64::MAX);
        assert_eq!(end + Timespan::from_secs(1), end);
        assert_eq!(end - Timestamp(i64::MIN), Timespan::MAX);
        let time = Timestamp::from_secs(-5);
        assert_eq!(Timestamp::from(SystemTime::from(time)), time);
    }
}
