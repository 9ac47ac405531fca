//! Reading of the text form.

use std::str::FromStr;

use super::write::is_bare_enum;
use super::{ParseError, ParseErrorKind};
use crate::timespan::{decimal_nanos, split_unit};
use crate::{Address, Data, Limits, Port, Set, Subnet, Table, Timespan, Timestamp};

const ANY: &str = "a value such as 5, -5, 0.5, \"text\", T, nil, 10.0.0.1, 10.0.0.0/8, 80/tcp, 5min, \
                   2026-01-02T03:04:05Z, Foo::BAR, {1, 2}, {1 -> 2} or [1, 2]";

impl FromStr for Data {
    type Err = ParseError;

    /// Reads the text form, within the default limits. On the outermost level the type may be stated
    /// before a colon, as in `count:5` or `string:any text`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse_text(text, &Limits::default())
    }
}

impl Data {
    /// Reads the text form within the given limits; otherwise like [`FromStr`].
    ///
    /// # Errors
    ///
    /// Fails if the text is not exactly one value, or is over a limit.
    pub fn parse_text(text: &str, limits: &Limits) -> Result<Self, ParseError> {
        if text.len() > limits.bytes {
            return Err(ParseError::new(
                ParseErrorKind::TooLarge,
                limits.bytes,
                "more text",
                "fewer bytes",
            ));
        }
        if let Some(result) = parse_stated(text) {
            return result;
        }
        let mut parser = Parser {
            text,
            pos: 0,
            elements: limits.elements,
        };
        let data = parser.value(limits.effective_depth())?;
        parser.space();
        if parser.rest().is_empty() {
            Ok(data)
        } else {
            Err(parser.error(ParseErrorKind::TrailingText, "the end of the text"))
        }
    }
}

/// Reads a value with its type stated in front, if there is a type.
fn parse_stated(text: &str) -> Option<Result<Data, ParseError>> {
    let (word, rest) = text.trim_start().split_once(':')?;
    let offset = text.len() - rest.len();
    let value = rest.trim();
    let error = |kind, expected| ParseError::new(kind, 0, value, expected);
    let result = match word {
        "string" => Ok(Data::string(rest)),
        // Quoted names are read like those inside containers.
        "enum" if value.starts_with('"') => return None,
        "enum" if value.is_empty() => Err(error(
            ParseErrorKind::UnexpectedEnd,
            "a name such as Foo::BAR",
        )),
        "enum" => Ok(Data::enum_value(value)),
        "bool" => parse_bool(value)
            .map(Data::Boolean)
            .ok_or_else(|| error(ParseErrorKind::Malformed, "T or F")),
        "count" => parse_count(value),
        "int" => parse_integer(value),
        "real" | "double" => parse_real(value),
        "addr" => value.parse().map(Data::Address),
        "subnet" => value.parse().map(Data::Subnet),
        "port" => value.parse().map(Data::Port),
        "time" => value.parse().map(Data::Timestamp).or_else(|error| {
            let nanos = decimal_nanos(value, 1_000_000_000).map_err(|_| error)?;
            Ok(Data::Timestamp(Timestamp::from_nanos(nanos)))
        }),
        "interval" => value.parse().map(Data::Timespan),
        _ => return None,
    };
    Some(result.map_err(|error| error.at(offset)))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "T" | "true" => Some(true),
        "F" | "false" => Some(false),
        _ => None,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['+', '-']).unwrap_or(text)
}

fn parse_count(text: &str) -> Result<Data, ParseError> {
    let expected = "a count from 0 to 18446744073709551615";
    if !is_number(text) {
        return Err(ParseError::new(
            ParseErrorKind::Malformed,
            0,
            text,
            expected,
        ));
    }
    let out_of_range = |_| ParseError::new(ParseErrorKind::OutOfRange, 0, text, expected);
    text.parse().map(Data::Count).map_err(out_of_range)
}

fn parse_integer(text: &str) -> Result<Data, ParseError> {
    let expected = "an integer from -9223372036854775808 to +9223372036854775807";
    if !is_number(unsigned(text)) {
        return Err(ParseError::new(
            ParseErrorKind::Malformed,
            0,
            text,
            expected,
        ));
    }
    let out_of_range = |_| ParseError::new(ParseErrorKind::OutOfRange, 0, text, expected);
    text.parse().map(Data::Integer).map_err(out_of_range)
}

fn parse_real(text: &str) -> Result<Data, ParseError> {
    let error = |kind| {
        ParseError::new(
            kind,
            0,
            text,
            "a real such as 0.5, -1e100, inf, -inf or nan",
        )
    };
    match text {
        "inf" | "+inf" => return Ok(Data::Real(f64::INFINITY)),
        "-inf" => return Ok(Data::Real(f64::NEG_INFINITY)),
        "nan" => return Ok(Data::Real(f64::NAN)),
        _ => {}
    }
    let digits = unsigned(text);
    let plain = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let value: f64 = text
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| error(ParseErrorKind::Malformed))?;
    // Otherwise a typing error would silently become an infinity.
    if value.is_infinite() {
        Err(error(ParseErrorKind::OutOfRange))
    } else {
        Ok(Data::Real(value))
    }
}

/// Reads a value that is one word. The form decides the type; no two types share one.
fn parse_word(word: &str) -> Result<Data, ParseError> {
    let malformed = |expected| ParseError::new(ParseErrorKind::Malformed, 0, word, expected);
    match word {
        "nil" => return Ok(Data::None),
        "T" => return Ok(Data::Boolean(true)),
        "F" => return Ok(Data::Boolean(false)),
        "inf" | "+inf" | "-inf" | "nan" => return parse_real(word),
        _ => {}
    }
    if is_bare_enum(word) {
        return Ok(Data::enum_value(word));
    }
    if let Some((_, after)) = word.split_once('/') {
        return if after.starts_with(|c: char| c.is_ascii_digit()) {
            Subnet::from_text_unchecked(word).map(Data::Subnet)
        } else {
            word.parse::<Port>().map(Data::Port)
        };
    }
    let digits = unsigned(word);
    if digits.contains(':') && !digits.contains('T') {
        return word.parse::<Address>().map(Data::Address);
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(
            if digits == word && word.starts_with(|c: char| c.is_alphabetic()) {
                malformed("a value; text goes in quotes (\"text\"), an enum name after enum:")
            } else {
                malformed(ANY)
            },
        );
    }
    if is_number(digits) {
        return if digits == word {
            parse_count(word)
        } else {
            parse_integer(word)
        };
    }
    if word.contains('T') {
        return word.parse::<Timestamp>().map(Data::Timestamp);
    }
    if word.bytes().filter(|byte| *byte == b'.').count() > 1 {
        return word.parse::<Address>().map(Data::Address);
    }
    if split_unit(word).is_some() {
        return word.parse::<Timespan>().map(Data::Timespan);
    }
    if word.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        return parse_real(word);
    }
    Err(malformed(ANY))
}

struct Parser<'t> {
    text: &'t str,
    pos: usize,
    /// How many more elements may come.
    elements: u64,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.pos..]
    }

    fn space(&mut self) {
        self.pos = self.text.len() - self.rest().trim_start().len();
    }

    /// Passes over white space and, if it comes next, the token.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        if found {
            self.pos += token.len();
        }
        found
    }

    /// The word at the position: up to white space or punctuation.
    fn word(&self) -> &'t str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || ",{}[]\"".contains(c))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        word.find("->").map_or(word, |arrow| &word[..arrow])
    }

    /// Error at the position, with the word or the character there.
    fn error(&self, kind: ParseErrorKind, expected: &'static str) -> ParseError {
        let rest = self.rest();
        let word = self.word();
        let found = if word.is_empty() {
            &rest[..rest.chars().next().map_or(0, char::len_utf8)]
        } else {
            word
        };
        let kind = if rest.is_empty() {
            ParseErrorKind::UnexpectedEnd
        } else {
            kind
        };
        ParseError::new(kind, self.pos, found, expected)
    }

    fn value(&mut self, depth: u32) -> Result<Data, ParseError> {
        self.space();
        let rest = self.rest();
        match rest.as_bytes().first() {
            Some(b'"') => self.quoted().map(|bytes| Data::String(bytes.into())),
            Some(b'[' | b'{') => {
                let depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| self.error(ParseErrorKind::TooDeep, "fewer levels"))?;
                self.pos += 1;
                if rest.starts_with('[') {
                    self.vector(depth)
                } else {
                    self.braces(depth)
                }
            }
            Some(_) if rest.starts_with("enum:\"") => {
                self.pos += "enum:".len();
                self.quoted().map(Data::enum_value)
            }
            _ => {
                let word = self.word();
                if word.is_empty() {
                    return Err(self.error(ParseErrorKind::Malformed, ANY));
                }
                let data = parse_word(word).map_err(|error| error.at(self.pos))?;
                self.pos += word.len();
                Ok(data)
            }
        }
    }

    /// Reads an element of a container.
    fn element(&mut self, depth: u32) -> Result<Data, ParseError> {
        self.elements = self
            .elements
            .checked_sub(1)
            .ok_or_else(|| self.error(ParseErrorKind::TooLarge, "fewer elements"))?;
        self.value(depth)
    }

    /// Reads a vector after its opening bracket.
    fn vector(&mut self, depth: u32) -> Result<Data, ParseError> {
        let mut elements = Vec::new();
        if self.eat("]") {
            return Ok(Data::Vector(elements.into()));
        }
        loop {
            elements.push(self.element(depth)?);
            if self.eat("]") {
                return Ok(Data::Vector(elements.into()));
            }
            if !self.eat(",") {
                return Err(self.error(ParseErrorKind::Malformed, "`,` or `]`"));
            }
        }
    }

    /// Reads a set or a table after its opening brace.
    fn braces(&mut self, depth: u32) -> Result<Data, ParseError> {
        let start = self.pos;
        if self.eat("}") {
            return Ok(Data::Set(Set::new()));
        }
        if self.eat("->") {
            return if self.eat("}") {
                Ok(Data::Table(Table::new()))
            } else {
                Err(self.error(ParseErrorKind::Malformed, "`}` after an empty table's `->`"))
            };
        }
        let first = self.element(depth)?;
        if self.eat("->") {
            self.table(first, start, depth)
        } else {
            self.set(first, start, depth)
        }
    }

    fn set(&mut self, first: Data, start: usize, depth: u32) -> Result<Data, ParseError> {
        let mut elements = vec![first];
        while !self.eat("}") {
            if !self.eat(",") {
                let expected = if elements.len() == 1 {
                    "`,`, `->` or `}`"
                } else {
                    "`,` or `}`"
                };
                return Err(self.error(ParseErrorKind::Malformed, expected));
            }
            elements.push(self.element(depth)?);
        }
        let count = elements.len();
        let set = Set::from(elements);
        if set.len() < count {
            return Err(self.duplicate(start, "elements that differ"));
        }
        Ok(Data::Set(set))
    }

    /// Reads a table after its first key and arrow.
    fn table(&mut self, first: Data, start: usize, depth: u32) -> Result<Data, ParseError> {
        let mut entries = vec![(first, self.element(depth)?)];
        while !self.eat("}") {
            if !self.eat(",") {
                return Err(self.error(ParseErrorKind::Malformed, "`,` or `}`"));
            }
            let key = self.element(depth)?;
            if !self.eat("->") {
                return Err(self.error(ParseErrorKind::Malformed, "`->` and the key's value"));
            }
            entries.push((key, self.element(depth)?));
        }
        let count = entries.len();
        let table = Table::from(entries);
        if table.len() < count {
            return Err(self.duplicate(start, "keys that differ"));
        }
        Ok(Data::Table(table))
    }

    fn duplicate(&self, start: usize, expected: &'static str) -> ParseError {
        let found = &self.text[start - 1..self.pos];
        ParseError::new(ParseErrorKind::Duplicate, start - 1, found, expected)
    }

    /// Reads a quoted string, from its opening quote on.
    fn quoted(&mut self) -> Result<Vec<u8>, ParseError> {
        let expected = "a closing quote";
        let mut bytes = Vec::new();
        self.pos += 1;
        loop {
            let rest = self.rest();
            let special = rest.find(['"', '\\']).unwrap_or(rest.len());
            bytes.extend_from_slice(&rest.as_bytes()[..special]);
            self.pos += special;
            match rest.as_bytes().get(special) {
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(bytes);
                }
                Some(_) => bytes.push(self.escape()?),
                None => return Err(self.error(ParseErrorKind::UnexpectedEnd, expected)),
            }
        }
    }

    /// Reads an escape, from its backslash on.
    fn escape(&mut self) -> Result<u8, ParseError> {
        let rest = self.rest();
        let (byte, length) = match rest.as_bytes().get(1) {
            Some(b'n') => (Some(b'\n'), 2),
            Some(b'r') => (Some(b'\r'), 2),
            Some(b't') => (Some(b'\t'), 2),
            Some(b'0') => (Some(0), 2),
            Some(&byte @ (b'"' | b'\\')) => (Some(byte), 2),
            Some(b'x') => {
                let digits = rest
                    .get(2..4)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                (
                    digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
                    4,
                )
            }
            _ => (None, 2),
        };
        let byte = byte.ok_or_else(|| {
            let found: String = rest.chars().take(4).collect();
            let expected = "an escape: \\\", \\\\, \\n, \\r, \\t, \\0 or \\xff";
            ParseError::new(ParseErrorKind::Malformed, self.pos, &found, expected)
        })?;
        self.pos += length;
        Ok(byte)
    }
}
