//! Scalars as texts in JSON: how they are written, and the forms that are read.

use crate::{Port, Protocol, Subnet, Timespan, Timestamp};

/// Writes a time without a zone, with 3, 6 or 9 digits of the fraction: Python's readers before 3.11
/// know no other numbers of digits.
pub(super) fn write_timestamp(out: &mut Vec<u8>, time: Timestamp) {
    // By hand: messages are full of times, and this takes a sixth of what formatting takes.
    let ([year, month, day, hour, minute, second], nanos) = time.civil();
    write_digits(out, year, 4);
    for (separator, number) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute)] {
        out.push(separator);
        write_digits(out, number, 2);
    }
    out.push(b':');
    write_digits(out, second, 2);
    out.push(b'.');
    match nanos {
        millis if millis % 1_000_000 == 0 => write_digits(out, millis / 1_000_000, 3),
        micros if micros % 1_000 == 0 => write_digits(out, micros / 1_000, 6),
        nanos => write_digits(out, nanos, 9),
    }
}

/// Writes a number that is not negative with so many digits, at most 9.
fn write_digits(out: &mut Vec<u8>, mut number: i64, width: usize) {
    let mut digits = [b'0'; 9];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Writes a port; a protocol that is not known is `?`, as in C++.
pub(super) fn write_port(out: &mut Vec<u8>, port: Port) {
    out.extend_from_slice(itoa::Buffer::new().format(port.number).as_bytes());
    out.push(b'/');
    out.extend_from_slice(match port.protocol {
        Protocol::Unknown => b"?",
        protocol => protocol.name().as_bytes(),
    });
}

/// Reads an ISO 8601 time: `T` or a blank before the time of day, which may be absent; `Z`, an offset
/// or no zone, which is UTC.
pub(super) fn read_timestamp(text: &str) -> Option<Timestamp> {
    let (local, offset_minutes) = split_zone(text);
    let time = match local.split_once(['T', 't', ' ']) {
        Some((date, time)) => format!("{date}T{time}Z"),
        None => format!("{local}T00:00:00Z"),
    };
    let time: Timestamp = time.parse().ok()?;
    Some(time - Timespan::from_secs(offset_minutes * 60))
}

/// A time without its zone, and the zone's minutes before UTC.
fn split_zone(text: &str) -> (&str, i64) {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return (local, 0);
    }
    let zone = || {
        let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
        let (sign, zone) = zone.split_at_checked(1)?;
        let (hours, minutes) = zone.split_once(':')?;
        let is_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(hours) || !is_digits(minutes) || !local.contains(':') {
            return None;
        }
        let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
        match sign {
            "+" => Some((local, minutes)),
            "-" => Some((local, -minutes)),
            _ => None,
        }
    };
    zone().unwrap_or((text, 0))
}

/// Reads an interval; besides the text form's units there are days, and blanks may stand in it.
pub(super) fn read_timespan(text: &str) -> Option<Timespan> {
    let compact = text.replace(' ', "");
    match compact.strip_suffix('d') {
        Some(days) => {
            let hours: Timespan = format!("{days}h").parse().ok()?;
            Some(hours * 24)
        }
        None => compact.parse().ok(),
    }
}

/// Reads a port: without a protocol it is of TCP, of a protocol that is not known it is unknown.
pub(super) fn read_port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number)?;
    Some(Port::new(
        number,
        Protocol::from_name(protocol).unwrap_or_default(),
    ))
}

/// Reads a subnet and clears the bits below its prefix. Prefixes that only values from the wire have
/// are kept as they are.
pub(super) fn read_subnet(text: &str) -> Option<Subnet> {
    let subnet = Subnet::from_text_unchecked(text).ok()?;
    let masked = Subnet::new(subnet.address(), subnet.length())
        .ok()
        .filter(|masked| masked.wire_length() == subnet.wire_length());
    Some(masked.unwrap_or(subnet))
}
