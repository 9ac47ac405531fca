//! Zeek's escapes: `\xNN` for a byte, `\\` for a backslash.

use std::borrow::Cow;

use memchr::memchr;

/// Bytes with their escapes undone. What is no escape stays as it is.
pub(super) fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', text) else {
        return Cow::Borrowed(text);
    };
    let mut out = text[..first].to_vec();
    let mut rest = &text[first..];
    loop {
        match rest {
            [] => break,
            [b'\\', b'x', high, low, after @ ..] if nibble(*high).is_some() => {
                if let Some((high, low)) = nibble(*high).zip(nibble(*low)) {
                    out.push(high << 4 | low);
                    rest = after;
                } else {
                    out.push(b'\\');
                    rest = &rest[1..];
                }
            }
            [b'\\', b'\\', after @ ..] => {
                out.push(b'\\');
                rest = after;
            }
            [byte, after @ ..] => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    Cow::Owned(out)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Appends bytes as Zeek's TSV has them: backslashes, tabs and the bytes in `reserved` escaped, and what
/// is between these as [`or_escaped`] tells.
pub(crate) fn escape_into(out: &mut Vec<u8>, text: &[u8], reserved: &[u8]) {
    let is_apart = |byte: &u8| matches!(byte, b'\\' | b'\t') || reserved.contains(byte);
    for part in text.split_inclusive(is_apart) {
        match part.split_last() {
            Some((last, rest)) if is_apart(last) => {
                or_escaped(out, rest, b"");
                if *last == b'\\' {
                    out.extend_from_slice(b"\\\\");
                } else {
                    hex_into(out, &[*last]);
                }
            }
            _ => or_escaped(out, part, b""),
        }
    }
}

/// Appends a text as it is, or, if anything in it cannot be shown, with all but printable ASCII
/// characters and `controls` escaped: Zeek does not trust a text in parts.
pub(crate) fn or_escaped(out: &mut Vec<u8>, text: &[u8], controls: &[u8]) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') || controls.contains(&byte);
    let is_shown = |character: char| match character {
        '\0'..='\x7f' => is_plain(character as u8),
        // Control characters, those of private use, and those that are none.
        '\u{80}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' => false,
        _ => true,
    };
    if std::str::from_utf8(text).is_ok_and(|text| text.chars().all(is_shown)) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        if is_plain(*byte) {
            out.push(*byte);
        } else {
            hex_into(out, &[*byte]);
        }
    }
}

/// Appends bytes as escapes of their digits.
pub(crate) fn hex_into(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
        out.extend_from_slice(&[b'\\', b'x', DIGITS[high], DIGITS[low]]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"plain", b"plain"),
            (b"a\\x09b", b"a\tb"),
            (b"\\\\x09", b"\\x09"),
            (b"\\x2d", b"-"),
            (b"\\xZZ\\x4", b"\\xZZ\\x4"),
            (b"end\\", b"end\\"),
            (b"\\xfF", b"\xff"),
        ];
        for (text, bytes) in cases {
            assert_eq!(&*unescape(text), bytes, "{}", text.escape_ascii());
        }
        let mut out = Vec::new();
        escape_into(&mut out, "a,\u{e9}\t\\\u{85}".as_bytes(), b",");
        assert_eq!(out, "a\\x2c\u{e9}\\x09\\\\\\xc2\\x85".as_bytes());
    }

    proptest! {
        #[test]
        fn what_was_escaped_is_unescaped(bytes: Vec<u8>, reserved: [u8; 2]) {
            let mut out = Vec::new();
            escape_into(&mut out, &bytes, &reserved);
            prop_assert_eq!(&*unescape(&out), &bytes[..]);
            prop_assert!(!out.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')));
        }

        #[test]
        fn garbage_is_unescaped_somehow(bytes: Vec<u8>) {
            prop_assert!(unescape(&bytes).len() <= bytes.len());
        }
    }
}
