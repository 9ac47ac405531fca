//! Versions of software, and how they are found in the text by which software identifies itself.
//!
//! [`parse`] finds what the `Software::parse` of Zeek 9.1 finds. Text is bytes, as it comes unchanged from the
//! network.

use std::fmt;

use muster_data::Record;

use super::browser;

/// The version of a software.
#[derive(Debug, Clone, Default, PartialEq, Eq, Record)]
#[record(name = "Software::Version")]
pub struct Version {
    /// The first number.
    pub major: Option<u64>,
    /// The second number.
    pub minor: Option<u64>,
    /// The third number.
    pub minor2: Option<u64>,
    /// The fourth number.
    pub minor3: Option<u64>,
    /// What follows the numbers, such as `beta42`.
    pub addl: Option<Vec<u8>>,
}

/// Name and version of a software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) name: Vec<u8>,
    pub(crate) version: Version,
}

impl fmt::Display for Version {
    /// As Zeek writes a version where it has no text of it: `1.2.3-beta`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.major.unwrap_or(0))?;
        for number in [self.minor, self.minor2, self.minor3].into_iter().flatten() {
            write!(f, ".{number}")?;
        }
        match &self.addl {
            Some(addl) => write!(f, "-{}", String::from_utf8_lossy(addl)),
            None => Ok(()),
        }
    }
}

/// What separates the numbers of a version.
const NUMBER_SEPARATORS: &[u8] = b"-._,[({ ";

/// What separates the words behind a version.
const WORD_SEPARATORS: &[u8] = b"-._,;[](){} ";

/// Takes apart what a software calls itself.
pub(crate) fn parse(text: &[u8]) -> Parsed {
    if browser::calls_itself_one(text) {
        return browser::parse_browser(text);
    }
    if let Some(version) = pixel(text) {
        return version;
    }
    let text = unescaped(text);
    let Some((start, end)) = find_version(&text) else {
        return Parsed {
            name: name(&text),
            version: Version::default(),
        };
    };
    let mut version = numbers(&text[start..end]);
    version.addl = addition(&text[end..]);
    Parsed {
        name: name(&text[..start]),
        version,
    }
}

/// Android on Google's phones: `A/8.1.0/Google/Pixel...`.
fn pixel(text: &[u8]) -> Option<Parsed> {
    let is_pixel = (0..text.len()).any(|at| {
        text[at..]
            .strip_prefix(b"A/")
            .is_some_and(|rest| rest[run(rest, is_number)..].starts_with(b"/Google/Pixel"))
    });
    let text = text
        .split(|byte| *byte == b'/')
        .nth(1)
        .filter(|_| is_pixel)?;
    let version = if text.contains(&b'.') {
        parse(text).version
    } else {
        Version {
            major: Some(first_number(text)),
            ..Version::default()
        }
    };
    let name = b"Android (Google Pixel)".to_vec();
    Some(Parsed { name, version })
}

/// The text with `%41` and `\x41` as the bytes that they stand for.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escape = match &text[at..] {
            [b'\\', b'x', ..] => 2,
            [b'%', ..] => 1,
            _ => 0,
        };
        let byte = digit(at + escape).zip(digit(at + escape + 1));
        match byte.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) if escape > 0 => {
                out.push(byte);
                at += escape + 2;
            }
            _ if escape == 2 => {
                out.push(b'%');
                at += 2;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the version is: the first run of two or more digits and separators, with what leads to it, as
/// ` (v`.
fn find_version(text: &[u8]) -> Option<(usize, usize)> {
    let in_version = |byte: u8| byte.is_ascii_digit() || b"-._, ".contains(&byte);
    let end_of = |from: usize| {
        let length = text.get(from..).map_or(0, |rest| run(rest, in_version));
        (length >= 2).then_some(from + length)
    };
    (0..text.len()).find_map(|start| {
        let lead = match text[start] {
            b'/' | b'-' | b'_' => 1,
            b' ' => match run(&text[start + 1..], |byte| byte == b'(' || byte == b'v') {
                0 => 0,
                length => 1 + length,
            },
            _ => 0,
        };
        let end = end_of(start).max(end_of(start + lead))?;
        Some((start, end))
    })
}

/// The numbers of a version, up to four.
fn numbers(text: &[u8]) -> Version {
    let text = text.trim_ascii();
    let text = match text.first() {
        Some(b'/' | b'-' | b'.' | b'_' | b'v' | b'(') => text[1..].trim_ascii(),
        _ => text,
    };
    let mut pieces = text
        .splitn(4, |byte| NUMBER_SEPARATORS.contains(byte))
        .map(|piece| (!piece.is_empty()).then(|| first_number(piece)));
    let mut next = || pieces.next().flatten();
    Version {
        major: next(),
        minor: next(),
        minor2: next(),
        minor3: next(),
        addl: None,
    }
}

/// What comes behind the numbers: what is in brackets, or else the first word.
fn addition(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_empty() || text == b")" {
        return None;
    }
    if let Some(inside) = in_brackets(text) {
        return Some(inside.to_vec());
    }
    let words = text.splitn(4, |byte| WORD_SEPARATORS.contains(byte));
    let word = words.take(3).find(|word| !word.is_empty());
    Some(word.unwrap_or(text).trim_ascii().to_vec())
}

/// What is in a pair of brackets at the beginning, if it is plain.
fn in_brackets(text: &[u8]) -> Option<&[u8]> {
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    let text = text[run(text, is_blank)..].strip_prefix(b"(")?;
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || is_blank(byte);
    let length = run(text, is_plain);
    (text.get(length) == Some(&b')')).then_some(&text[..length])
}

/// The name in what comes before the version.
fn name(text: &[u8]) -> Vec<u8> {
    // What may stand before a version and has been left over.
    let lead = |at: usize| match text[at] {
        b'/' | b'-' | b'_' => 1,
        b' ' => match run(&text[at + 1..], |byte| byte == b'(' || byte == b'v') {
            0 => 0,
            length => 1 + length,
        },
        _ => 0,
    };
    let mut leads = (0..text.len()).map(|at| (at, lead(at)));
    let mut name = text.to_vec();
    if leads.clone().any(|(at, length)| length > 0 && at + length == text.len())
        // Zeek takes the first one away, wherever it is.
        && let Some((at, length)) = leads.find(|(_, length)| *length > 0)
    {
        name.drain(at..at + length);
        name = name.trim_ascii().to_vec();
    }
    let name = name.strip_prefix(b"(").unwrap_or(&name).trim_ascii();
    match name {
        b"Flash Player" => b"Flash".to_vec(),
        name => name.to_vec(),
    }
}

/// A digit or a point.
pub(super) fn is_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'.'
}

/// The first number in a text; 0 if there is none, or one that is too large.
fn first_number(text: &[u8]) -> u64 {
    let start = text.iter().position(u8::is_ascii_digit);
    let digits = start.map_or(&b""[..], |start| {
        &text[start..start + run(&text[start..], |byte| byte.is_ascii_digit())]
    });
    let digits = std::str::from_utf8(digits).ok();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// How many bytes at the beginning are such.
pub(super) fn run(text: &[u8], is_such: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| is_such(**byte)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers_of(version: &Version) -> Vec<u64> {
        let all = [version.major, version.minor, version.minor2, version.minor3];
        let numbers: Vec<u64> = all.iter().copied().flatten().collect();
        assert!(
            all[..numbers.len()].iter().all(Option::is_some),
            "{version:?}"
        );
        numbers
    }

    /// Text, name, numbers, addition.
    #[test]
    fn versions_are_zeeks() {
        let cases: &[(&str, &str, &[u64], &str)] = &[
            ("OpenSSH_8.9p1 Ubuntu-3ubuntu0.10", "OpenSSH", &[8, 9], "p1"),
            ("dropbear_2022.83", "dropbear", &[2022, 83], ""),
            ("nginx/1.24.0 (Ubuntu)", "nginx", &[1, 24, 0], "Ubuntu"),
            ("nginx", "nginx", &[], ""),
            (
                "Apache/2.4.57 (Debian) PHP/8.2.7",
                "Apache",
                &[2, 4, 57],
                "Debian",
            ),
            ("Postfix (3.7.2)", "Postfix", &[3, 7, 2], ""),
            ("(ProFTPD 1.3.8)", "ProFTPD", &[1, 3, 8], ""),
            (
                "Some Mailer (v4.10.2 beta3) Home",
                "Some Mailer",
                &[4, 10, 2],
                "beta3",
            ),
            (
                "Some Mailer (v4.10.2) Home",
                "Some Mailer",
                &[4, 10, 2],
                "Home",
            ),
            ("python-requests/2.31.0", "python-requests", &[2, 31, 0], ""),
            ("Go-http-client/1.1", "Go-http-client", &[1, 1], ""),
            ("curl/8.4.0", "curl", &[8, 4, 0], ""),
            ("Wget/1.21+git-dev (linux-gnu)", "Wget", &[1, 21], "+git"),
            ("Player/11,2,202,644", "Player", &[11, 2, 202, 644], ""),
            ("tool/1.2.3.4.5", "tool", &[1, 2, 3, 4], ""),
            ("server v12a", "server", &[12], "a"),
            (
                "Flash%20Player/32.0.0.465 CFNetwork/978.0.7",
                "Flash",
                &[32, 0, 0, 465],
                "CFNetwork/978",
            ),
            ("caf\\xc3\\xa9/3.1 rv:2.0 (x)", "café", &[3, 1], "rv:2"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:121.0) Gecko/20100101 Firefox/121.0",
                "Firefox",
                &[121, 0],
                "",
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.71 Safari/537.36",
                "Chrome",
                &[120, 0, 6099, 71],
                "",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/70.0.3538.102 Safari/537.36 Edge/18.19042",
                "Edge",
                &[18, 19042],
                "",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
                "Safari",
                &[17, 1],
                "Mobile",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_1) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
                "Safari",
                &[17, 1],
                "",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
                "MSIE",
                &[11, 0],
                "",
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.0; Trident/4.0)",
                "MSIE",
                &[8, 0],
                "",
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 6.0b; Windows 98)",
                "MSIE",
                &[6, 0],
                "b",
            ),
            (
                "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1; en) Opera 8.50",
                "Opera",
                &[8, 50],
                "",
            ),
            (
                "Opera/9.80 (X11; Linux i686) Presto/2.12.388 Version/12.16",
                "Opera",
                &[12, 16],
                "",
            ),
            (
                "Opera/9.80 (J2ME/MIDP; Opera Mini/7.1.32052/29.3709; U; en) Presto/2.8.119",
                "Opera Mini",
                &[7, 1, 32052],
                "",
            ),
            (
                "Opera/9.80 (Android; Opera Mobi/1209) Presto/2.11.355 Version/12.10",
                "Opera Mobi",
                &[12, 10],
                "",
            ),
            (
                "Mozilla/5.0 (Windows; U; en-US) AppleWebKit/533.19.4 (KHTML, like Gecko) AdobeAIR/32.0",
                "AdobeAIR",
                &[32, 0],
                "",
            ),
            (
                "Mozilla/5.0 (Linux) AppleWebKit/534.30 (KHTML)",
                "Unspecified WebKit",
                &[534, 30],
                "",
            ),
            (
                "Mozilla/4.0 (Windows 10) Java/1.8.0_391",
                "Java",
                &[1, 8, 0, 391],
                "",
            ),
            ("Mozilla/5.0 (none of these)", "<unknown browser>", &[], ""),
            (
                "A/12/Google/Pixel#6/oriole/unknown",
                "Android (Google Pixel)",
                &[12],
                "",
            ),
            (
                "A/8.1.0/Google/Pixel#2/walleye",
                "Android (Google Pixel)",
                &[8, 1, 0],
                "",
            ),
        ];
        for (text, name, numbers, addl) in cases {
            let parsed = parse(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&parsed.name), *name, "{text}");
            assert_eq!(numbers_of(&parsed.version), *numbers, "{text}");
            let found = parsed.version.addl.as_deref().unwrap_or(b"");
            assert_eq!(String::from_utf8_lossy(found), *addl, "{text}");
        }
    }

    #[test]
    fn a_version_has_a_text() {
        let version = Version {
            major: Some(1),
            minor: Some(2),
            addl: Some(b"rc1".to_vec()),
            ..Version::default()
        };
        assert_eq!(version.to_string(), "1.2-rc1");
        assert_eq!(Version::default().to_string(), "0");
        let large = parse(b"x/99999999999999999999.1");
        assert_eq!(numbers_of(&large.version), [0, 1]);
    }

    proptest! {
        #[test]
        fn any_bytes_do(text: Vec<u8>) {
            parse(&text);
        }

        #[test]
        fn any_words_do(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "Mozilla/5.", "Opera/9.", " MSIE ", "Trident/", "Version/", "Safari/", "Opera ",
                    "Opera Mini", "A/", "/Google/Pixel", "9", ".", "-", " (v", ")", "%", "\\x", "41",
                ]),
                0..12,
            ),
        ) {
            parse(words.concat().as_bytes());
        }
    }
}
