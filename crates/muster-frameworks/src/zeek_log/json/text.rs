//! The bytes that a JSON string stands for.

use std::borrow::Cow;

use memchr::memchr;

/// The bytes of a JSON string, given what is between its quotes. `\xNN` is a byte, as older Zeeks write it; another
/// escape that JSON does not know stays as it is, and so does every byte that is no UTF-8.
pub(in super::super) fn decoded(inside: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', inside) else {
        return Cow::Borrowed(inside);
    };
    let mut out = inside[..first].to_vec();
    let mut rest = &inside[first..];
    while let [first, after @ ..] = rest {
        if *first != b'\\' {
            out.push(*first);
            rest = after;
            continue;
        }
        rest = match after {
            [b'u', after @ ..] => unicode(after, &mut out),
            [b'x', high, low, after @ ..] if digits(&[*high, *low]).is_some() => {
                let byte = digits(&[*high, *low]).and_then(|byte| u8::try_from(byte).ok());
                out.extend(byte);
                after
            }
            [escape, after @ ..] => {
                match escape {
                    b'"' | b'\\' | b'/' => out.push(*escape),
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    _ => out.extend_from_slice(&[b'\\', *escape]),
                }
                after
            }
            [] => {
                out.push(b'\\');
                after
            }
        };
    }
    Cow::Owned(out)
}

/// Appends the character of `\uNNNN`, given what is behind the `u`; returns what is behind it. Half a pair is replaced.
fn unicode<'a>(after: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some((unit, rest)) = unit(after) else {
        out.extend_from_slice(b"\\u");
        return after;
    };
    let (code, rest) = match (unit, rest) {
        (0xd800..=0xdbff, [b'\\', b'u', second @ ..]) => match self::unit(second) {
            Some((low @ 0xdc00..=0xdfff, rest)) => {
                (0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00), rest)
            }
            _ => (unit, rest),
        },
        _ => (unit, rest),
    };
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    rest
}

fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (four, rest) = text.split_at_checked(4)?;
    Some((digits(four)?, rest))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, digit| {
        Some(number << 4 | char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes() {
        for (inside, bytes) in [
            (&b"plain"[..], &b"plain"[..]),
            (br#"\"\\\/\b\f\n\r\t"#, b"\"\\/\x08\x0c\n\r\t"),
            (br"\u00e9\u20ac", "\u{e9}\u{20ac}".as_bytes()),
            (br"\ud83d\ude00!", "\u{1f600}!".as_bytes()),
            (br"\ud83dx", "\u{fffd}x".as_bytes()),
            (br"\ud83d\u0041", "\u{fffd}A".as_bytes()),
            (br"\x41\xe9\xfg", b"A\xe9\\xfg"),
            (b"\xff\tx\0", b"\xff\tx\0"),
            (br"\q\u12", br"\q\u12"),
            (b"end\\", b"end\\"),
        ] {
            assert_eq!(&*decoded(inside), bytes, "{}", inside.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn texts_come_back(text: String, bytes: Vec<u8>) {
            let json = serde_json::to_string(&text).unwrap();
            let inside = &json.as_bytes()[1..json.len() - 1];
            prop_assert_eq!(&*decoded(inside), text.as_bytes());
            decoded(&bytes);
        }
    }
}
