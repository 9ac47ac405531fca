//! Where the members of a JSON object are in its text.
//!
//! It takes what JSON allows, and what logs have besides: any byte in a string, be it a raw tab or no UTF-8, and
//! escapes that JSON does not know.

use std::ops::Range;

use memchr::memchr2;

/// The deepest nesting of a value: more is no row of a log.
const DEEPEST: u32 = 127;

/// A member of an object, by the places of its name (without quotes) and its value.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

/// Walks over the members of an object.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    has_begun: bool,
}

impl<'a> Scanner<'a> {
    /// Begins at an object that starts here, behind white space.
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self {
            text,
            at,
            has_begun: false,
        }
    }

    /// The next member; `None` at the end of the object.
    pub(super) fn next(&mut self) -> Result<Option<Place>, &'static str> {
        self.white();
        if !self.has_begun {
            self.expect(b'{', "it does not begin with `{`")?;
            self.has_begun = true;
            self.white();
            if self.take(b'}') {
                return Ok(None);
            }
        } else if self.take(b'}') {
            return Ok(None);
        } else {
            self.expect(b',', "no comma between members")?;
            self.white();
        }
        let name = self.string()?;
        self.white();
        self.expect(b':', "no colon behind a name")?;
        self.white();
        let value = self.value()?;
        Ok(Some(Place { name, value }))
    }

    /// Whether nothing follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.white();
        self.at == self.text.len()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_it = self.peek() == Some(byte);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), &'static str> {
        if self.take(byte) {
            Ok(())
        } else if self.peek().is_none() {
            Err("it ends too early")
        } else {
            Err(problem)
        }
    }

    fn white(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The place of a string's content.
    fn string(&mut self) -> Result<Range<usize>, &'static str> {
        self.expect(b'"', "no string where there should be one")?;
        let start = self.at;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(found) = memchr2(b'"', b'\\', rest) else {
                return Err("a string without an end");
            };
            self.at += found + 1;
            if rest[found] == b'"' {
                return Ok(start..self.at - 1);
            }
            if self.peek().is_none() {
                return Err("a string without an end");
            }
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Range<usize>, &'static str> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'{' | b'[') => self.nested()?,
            _ => {
                let is_of_word =
                    |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
                let rest = &self.text[self.at..];
                self.at += rest.iter().take_while(|byte| is_of_word(byte)).count();
                if self.at == start {
                    return Err("no value behind a name");
                }
            }
        }
        Ok(start..self.at)
    }

    /// Passes over an object or array: its strings are read, its brackets have to match.
    fn nested(&mut self) -> Result<(), &'static str> {
        // A bit for each open bracket, the innermost last: 1 for an object.
        let (mut open, mut depth) = (0_u128, 0);
        loop {
            match self.peek() {
                None => return Err("it ends too early"),
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(bracket @ (b'{' | b'[')) => {
                    if depth == DEEPEST {
                        return Err("it is nested too deeply");
                    }
                    depth += 1;
                    open = open << 1 | u128::from(bracket == b'{');
                }
                Some(bracket @ (b'}' | b']')) => {
                    if (open & 1 == 1) != (bracket == b'}') {
                        return Err("brackets that do not match");
                    }
                    open >>= 1;
                    depth -= 1;
                }
                Some(_) => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(text: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
        let mut scanner = Scanner::new(text, 0);
        let mut all = Vec::new();
        let shown = |range: Range<usize>| text[range].escape_ascii().to_string();
        while let Some(Place { name, value }) = scanner.next()? {
            all.push((shown(name), shown(value)));
        }
        if scanner.is_at_end() {
            Ok(all)
        } else {
            Err("something behind it")
        }
    }

    #[test]
    fn members() {
        let text = b" { \"a\" : 1.5e-3 ,\"b\\\"\":\"x\\\\\",\"c\":[{\"d\":\"]\"}],\"e\":{},\"f\":\"\t\0\xff\\x41\",\"g\":-inf}\r";
        let found = places(text).unwrap();
        let values: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        let expected = [
            "1.5e-3",
            r#"\"x\\\\\""#,
            r#"[{\"d\":\"]\"}]"#,
            "{}",
            r#"\"\t\x00\xff\\x41\""#,
            "-inf",
        ];
        assert_eq!(values, expected);
        assert_eq!(found[1].0, "b\\\\\\\"");
        assert_eq!(places(b"{}"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_object() {
        let deep = format!("{{\"a\":{}", "[".repeat(300));
        for text in [
            "",
            "[]",
            "{",
            "{\"a\"}",
            "{} x",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1 2}",
            "{a:1}",
            "{\"a\":[}]}",
            "{\"a\":\"\\",
            "{\"a\":\"",
            "{\"a\":1",
            "{\"a\":[1",
            "{,}",
            &deep,
        ] {
            assert!(places(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text in "[{}\\[\\]\":,a\\\\]{0,30}") {
            let _ = places(&bytes);
            let _ = places(text.as_bytes());
        }
    }
}
