//! Browsers, which identify themselves by many names at once.

use super::version::{Parsed, Version, is_number, parse, run};

/// `Mozilla/5.` and the like at the beginning.
pub(super) fn calls_itself_one(text: &[u8]) -> bool {
    [&b"Mozilla/"[..], b"Opera/"].iter().any(|name| {
        text.strip_prefix(*name).is_some_and(|rest| {
            let digits = run(rest, |byte| byte.is_ascii_digit());
            digits > 0 && rest.get(digits) == Some(&b'.')
        })
    })
}

/// Names and versions of browsers, which call themselves many names at once; the order matters.
pub(super) fn parse_browser(text: &[u8]) -> Parsed {
    let named = |name: &[u8], version: Version| Parsed {
        name: name.to_vec(),
        version,
    };
    let of = |name: &str, part: Option<&[u8]>| {
        let version = part.map(|part| parse(part).version);
        named(name.as_bytes(), version.unwrap_or_default())
    };
    if let Some(part) = opera_at_the_end(text) {
        return of("Opera", Some(part));
    }
    if contains(text, b" MSIE ") || contains(text, b"Trident/") {
        let trident = [
            (b"Trident/4.0", 8),
            (b"Trident/5.0", 9),
            (b"Trident/6.0", 10),
            (b"Trident/7.0", 11),
        ];
        let known = trident.iter().find(|(mark, _)| contains(text, *mark));
        return match known {
            Some((_, major)) => named(
                b"MSIE",
                Version {
                    major: Some(*major),
                    minor: Some(0),
                    ..Version::default()
                },
            ),
            None => of("MSIE", msie(text)),
        };
    }
    if let Some(part) = product(text, b"Edge/", is_number) {
        return of("Edge", Some(part));
    }
    if contains_in_order(text, b"Version/", b"Safari/") {
        let mut safari = of("Safari", product(text, b"Version/", is_number));
        if is_mobile(text) {
            safari.version.addl = Some(b"Mobile".to_vec());
        }
        return safari;
    }
    let first = [&b"Firefox/"[..], b"Netscape/", b"Thunderbird/"]
        .iter()
        .filter_map(|name| Some((find(text, name)?, product(text, name, is_number)?)))
        .min_by_key(|(at, _)| *at);
    if let Some((_, part)) = first {
        return parse(part);
    }
    if contains_in_order(text, b"Chrome/", b"Safari/") {
        return of("Chrome", product(text, b"Chrome/", is_number));
    }
    if text.starts_with(b"Opera/") {
        return opera(text);
    }
    if contains(text, b"Flash%20Player") {
        let part = text.split(|byte| b"/ ".contains(byte)).nth(1);
        return of("Flash", part);
    }
    if let Some(part) = product(text, b"AdobeAIR/", is_number) {
        return of("AdobeAIR", Some(part));
    }
    if let Some(part) = product(text, b"AppleWebKit/", is_number) {
        return of("Unspecified WebKit", Some(part));
    }
    let is_java = positions(text, b" Java/")
        .any(|at| matches!(&text[at + 6..], [digit, b'.', ..] if digit.is_ascii_digit()));
    if is_java {
        return of(
            "Java",
            product(text, b"Java/", |byte| is_number(byte) || byte == b'_'),
        );
    }
    named(b"<unknown browser>", Version::default())
}

/// `Opera 11.00` at the end of what calls itself something else.
fn opera_at_the_end(text: &[u8]) -> Option<&[u8]> {
    let name = b"Opera ";
    let mut ends = positions(text, name).filter(|at| {
        let rest = &text[at + name.len()..];
        run(rest, is_number) == rest.len()
    });
    ends.next().map(|at| &text[at..])
}

/// Opera itself, which has its version in `Version/` since it is 9.80 for ever.
fn opera(text: &[u8]) -> Parsed {
    let version = product(text, b"Version/", is_number);
    let mobile = [&b"Opera Mini"[..], b"Opera Mobi"];
    let is_mobile = contains(text, b"Opera Mini/") || contains(text, b"Opera Mobi/");
    let first = mobile
        .iter()
        .filter_map(|name| Some((find(text, name)?, *name)))
        .min_by_key(|(at, _)| *at)
        .filter(|_| is_mobile);
    let (name, part) = match first {
        Some((_, name)) => {
            let mini = product(text, b"Opera Mini/", is_number);
            (name, version.or(mini))
        }
        None => (&b"Opera"[..], version),
    };
    let version = part.map(|part| parse(part).version);
    Parsed {
        name: name.to_vec(),
        version: version.unwrap_or_default(),
    }
}

/// `MSIE 7.0b`.
fn msie(text: &[u8]) -> Option<&[u8]> {
    let name = b"MSIE ";
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let at = positions(text, name).find(|at| run(&text[at + name.len()..], is_digit) > 0)?;
    let part = &text[at..];
    let mut end = name.len();
    end += run(&part[end..], is_digit).min(2);
    end += run(&part[end..], |byte| byte == b'.');
    end += run(&part[end..], is_digit);
    if part.get(end) == Some(&b'b') {
        end += 1 + run(&part[end + 1..], is_digit);
    }
    Some(&part[..end])
}

/// ` Mobile`, perhaps with a slash, and ` Safari` somewhere behind.
fn is_mobile(text: &[u8]) -> bool {
    find(text, b" Mobile").is_some_and(|at| contains(&text[at + 7..], b" Safari"))
}

/// A product's name and slash, and the version behind.
fn product<'a>(text: &'a [u8], name: &[u8], in_version: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
    let text = &text[find(text, name)?..];
    Some(&text[..name.len() + run(&text[name.len()..], in_version)])
}

fn positions<'a>(text: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    memchr::memmem::find_iter(text, part)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, part)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    find(text, part).is_some()
}

fn contains_in_order(text: &[u8], first: &[u8], then: &[u8]) -> bool {
    find(text, first).is_some_and(|at| contains(&text[at + first.len()..], then))
}
