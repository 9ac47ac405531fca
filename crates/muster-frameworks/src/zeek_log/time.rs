//! Points in time, as logs write them.

use muster_data::{Timespan, Timestamp};

/// Numbers of seconds from here on are milliseconds: as seconds they would lie behind the year 5138.
const FIRST_MILLIS: i64 = 100_000_000_000;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The most digits of a fraction that count.
const FRACTION: usize = 9;

/// Seconds since the epoch (exact to the nanosecond), milliseconds where seconds cannot be meant, or ISO 8601: with
/// `Z`, with an offset such as `+02:00`, `+0200` or `+02`, or without a zone, which is UTC.
pub(super) fn timestamp(text: &[u8]) -> Option<Timestamp> {
    match text {
        [_, _, _, _, b'-', ..] => iso(text),
        _ => seconds(text),
    }
}

fn iso(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (time, offset) = match rest.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => match rest.rfind(['+', '-']) {
            Some(at) => (rest[..at].trim_end(), offset(&rest[at..])?),
            None => (rest, 0),
        },
    };
    let (time, fraction) = time.split_once(['.', ',']).unwrap_or((time, "0"));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.get(..FRACTION).unwrap_or(fraction);
    // In the only form that a timestamp is parsed from.
    let mut buffer = [0; 32];
    let mut length = 0;
    for part in [date, "T", time, ".", fraction, "Z"] {
        let end = length + part.len();
        buffer
            .get_mut(length..end)?
            .copy_from_slice(part.as_bytes());
        length = end;
    }
    let utc: Timestamp = std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()?;
    let nanos = utc
        .as_nanos()
        .checked_sub(Timespan::from_secs(offset).as_nanos())?;
    Some(Timestamp::from_nanos(nanos))
}

/// The seconds of an offset: a sign, hours, and minutes with or without a colon.
fn offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes() {
        [b'+', ..] => (1, text.get(1..)?),
        _ => (-1, text.get(1..)?),
    };
    let (hours, minutes) = match digits.len() {
        2 => (digits, "0"),
        4 => digits.split_at_checked(2)?,
        5 => digits
            .split_once(':')
            .filter(|(hours, _)| hours.len() == 2)?,
        _ => return None,
    };
    let number = |text: &str| -> Option<i64> {
        let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Seconds since the epoch in decimal digits, with a fraction of which nine digits count.
fn seconds(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let point = memchr::memchr(b'.', digits).unwrap_or(digits.len());
    let (whole, fraction) = digits.split_at(point);
    if whole.is_empty() || whole.len() > 18 || !whole.iter().all(u8::is_ascii_digit) {
        return float_seconds(text);
    }
    let mut number = 0_i64;
    for digit in whole {
        number = number * 10 + i64::from(digit - b'0');
    }
    let (unit, places) = if number < FIRST_MILLIS {
        (NANOS_PER_SECOND, FRACTION)
    } else {
        (NANOS_PER_SECOND / 1000, FRACTION - 3)
    };
    let digits = fraction.get(1..).unwrap_or_default();
    if !digits.iter().all(u8::is_ascii_digit) {
        return float_seconds(text);
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0'));
    let part = padded
        .take(places)
        .fold(0, |part, digit| part * 10 + i64::from(digit - b'0'));
    let nanos = number.checked_mul(unit)?.checked_add(part)?;
    Some(Timestamp::from_nanos(if is_negative {
        -nanos
    } else {
        nanos
    }))
}

/// Seconds with an exponent, as JSON may have them.
fn float_seconds(text: &[u8]) -> Option<Timestamp> {
    let has_exponent = text.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let starts_well = matches!(text, [b'0'..=b'9' | b'-', ..]);
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let in_range = number.abs() < 9.2e9;
    (has_exponent && starts_well && in_range).then(|| Timestamp::from_secs_f64(number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Option<i64> {
        timestamp(text.as_bytes()).map(Timestamp::as_nanos)
    }

    #[test]
    fn numbers() {
        let some = Some(1_521_911_720_865_716_000);
        assert_eq!(nanos("1521911720.865716"), some);
        let millis = Some(1_521_911_720_865_000_000);
        assert_eq!(nanos("1521911720865"), millis);
        assert_eq!(nanos("1.5e9"), Some(1_500_000_000_000_000_000));
        assert_eq!(nanos("-1.5"), Some(-1_500_000_000));
        assert_eq!(nanos("0.1234567899"), Some(123_456_789));
        for text in ["", "-", "x", "1.x", ".5", "nan", "inf", "1e99", "1 "] {
            assert_eq!(nanos(text), None, "{text}");
        }
        assert_eq!(nanos("99999999999999999999"), None);
    }

    #[test]
    fn iso_8601() {
        let some = Some(1_521_911_720_865_716_000);
        for text in [
            "2018-03-24T17:15:20.865716Z",
            "2018-03-24T17:15:20.865716",
            "2018-03-24 17:15:20.865716",
            "2018-03-24t17:15:20,865716z",
            "2018-03-24T19:15:20.865716+02:00",
            "2018-03-24T11:45:20.865716-0530",
            "2018-03-25T02:15:20.865716+09",
            "2018-03-24T17:15:20.865716 +0000",
            "2018-03-24T17:15:20.865716000000Z",
        ] {
            assert_eq!(nanos(text), some, "{text}");
        }
        assert_eq!(
            nanos("2018-03-24T17:15:20+0000"),
            Some(1_521_911_720_000_000_000)
        );
        assert_eq!(nanos("1969-12-31T23:59:59Z"), Some(-1_000_000_000));
        for text in [
            "2018-03-24",
            "2018-03-24T17:15",
            "2018-13-24T17:15:20Z",
            "2018-03-24T17:15:20+2:00",
            "2018-03-24T17:15:20+24:00",
            "2018-03-24T17:15:20.Z",
            "2018-03-24T17:15:20.xZ",
            "2018-03-24_17:15:20",
            "2018-03-24T17:15:20+",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "[0-9]{0,5}[-:TZ0-9+. ]{0,30}") {
            timestamp(&bytes);
            timestamp(text.as_bytes());
        }

        #[test]
        fn seconds_are_exact(micros in 0_i64..=4_000_000_000_000_000) {
            let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(nanos(&text), Some(micros * 1000));
        }
    }
}
