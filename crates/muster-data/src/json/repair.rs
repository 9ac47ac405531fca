//! Turns what C++ writes into JSON where it is not.

/// Longest number or word that is looked at; longer ones are left as they are.
const LONGEST_WORD: usize = 400;

/// Rewrites `inf` and `nan` outside of strings, numbers too large for a double, and in strings `\v`, raw
/// control characters and bytes that are not UTF-8. Everything else stays as it is, wrong or not.
pub(super) fn repair(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b'"' => {
                let length = string_length(rest);
                repair_string(&mut out, &rest[..length]);
                length
            }
            byte if is_word(byte) => {
                let length = rest.iter().take_while(|&&byte| is_word(byte)).count();
                repair_word(&mut out, &rest[..length]);
                length
            }
            byte => {
                out.push(byte);
                1
            }
        };
        rest = &rest[length..];
    }
    out
}

/// Bytes of numbers, and of the words that may stand outside of strings.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn repair_word(out: &mut Vec<u8>, word: &[u8]) {
    let quoted = match word {
        b"inf" | b"+inf" | b"-inf" | b"Infinity" | b"-Infinity" | b"nan" | b"-nan" | b"NaN" => true,
        word if word.len() <= LONGEST_WORD && word.last().is_some_and(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(word)
                .ok()
                .and_then(|word| word.parse().ok());
            number.is_some_and(f64::is_infinite)
        }
        _ => false,
    };
    if quoted {
        out.push(b'"');
    }
    out.extend_from_slice(word);
    if quoted {
        out.push(b'"');
    }
}

/// Length of the string that begins here, with its quotes; up to the end if it never ends.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn repair_string(out: &mut Vec<u8>, string: &[u8]) {
    for chunk in string.utf8_chunks() {
        let mut escaped = false;
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'v' if escaped => out.extend_from_slice(b"u000b"),
                byte if byte < b' ' => {
                    if escaped {
                        // A backslash before a raw control character stands for itself.
                        out.push(b'\\');
                    }
                    out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                }
                byte => out.push(byte),
            }
            escaped = byte == b'\\' && !escaped;
        }
        for byte in chunk.invalid() {
            out.extend_from_slice(format!("\\\\x{byte:02x}").as_bytes());
        }
    }
}
