//! The INI files of ZeekControl, read as Python's [`configparser`](https://docs.python.org/3/library/configparser.html) reads them:
//! values continued on indented lines, `[DEFAULT]`, `%(name)s`, and what follows a `]` ignored.

use std::collections::BTreeMap;

use super::Problem;

/// The section whose values every other section has too.
const DEFAULTS: &str = "DEFAULT";

/// How deep `%(name)s` may lead, as in Python.
const DEPTH: usize = 10;

/// A value whose `%(name)s` come to more bytes than this is an error, for ten levels can multiply without end.
const LONGEST: usize = 64 * 1024;

const HINT: &str = "is this a node.cfg of ZeekControl?";

/// A file: sections in their order, and what holds for all of them.
#[derive(Debug, Default)]
pub(super) struct Ini {
    sections: Vec<Section>,
    defaults: Options,
}

#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) line: usize,
    own: Options,
}

/// Values by key, in lower case.
type Options = BTreeMap<String, Value>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    /// The line of its key.
    pub(super) line: usize,
}

/// Where the next line belongs.
enum Place {
    /// Before the first section.
    Nowhere,
    Defaults,
    /// The last section.
    Section,
}

/// Reads a file line by line.
struct Reader {
    ini: Ini,
    place: Place,
    /// The key of the value that an indented line continues.
    open: Option<String>,
    /// How far the line is indented that such a line must exceed.
    indent: usize,
}

impl Ini {
    /// Splits a file into sections and values.
    ///
    /// # Errors
    ///
    /// Names the first line that is neither a section nor a value, comes before any section, or repeats one.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let mut reader = Reader {
            ini: Self::default(),
            place: Place::Nowhere,
            open: None,
            indent: 0,
        };
        // A mark of the byte order is an editor's.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        for (line, content) in (1..).zip(text.split('\n')) {
            reader.read(line, content)?;
        }
        Ok(reader.ini.trimmed())
    }

    pub(super) fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The values of a section and those of `[DEFAULT]` that it does not have itself, with `%(name)s` resolved.
    ///
    /// # Errors
    ///
    /// Names the line of a value that refers to nothing, to itself, or has a `%` that means nothing.
    pub(super) fn values(&self, section: &Section) -> Result<Options, Problem> {
        let mut raw = self.defaults.clone();
        raw.extend(section.own.clone());
        let mut values = Options::new();
        for (key, value) in &raw {
            let mut text = String::new();
            resolve(&value.text, &raw, DEPTH, &mut text).map_err(|why| {
                let message = format!("`{key}` of {}: {why}", section.name);
                Problem::new(value.line, message, "a percent sign itself is written %%")
            })?;
            let line = value.line;
            values.insert(key.clone(), Value { text, line });
        }
        Ok(values)
    }

    /// Without the empty lines at the end of values.
    fn trimmed(mut self) -> Self {
        let sections = self.sections.iter_mut().map(|section| &mut section.own);
        for options in sections.chain([&mut self.defaults]) {
            for value in options.values_mut() {
                value
                    .text
                    .truncate(value.text.trim_end_matches(is_space).len());
            }
        }
        self
    }
}

impl Reader {
    fn read(&mut self, line: usize, content: &str) -> Result<(), Problem> {
        let trimmed = content.trim_matches(is_space);
        if trimmed.starts_with(['#', ';']) {
            return Ok(());
        }
        if trimmed.is_empty() {
            if let Some(value) = self.open_value() {
                value.text.push('\n');
            }
            return Ok(());
        }
        let indent = content.chars().take_while(|char| is_space(*char)).count();
        if indent > self.indent
            && let Some(value) = self.open_value()
        {
            value.text.push('\n');
            value.text.push_str(trimmed);
            return Ok(());
        }
        self.indent = indent;
        match header(trimmed) {
            Some(name) => self.section(line, name),
            None => self.option(line, trimmed),
        }
    }

    fn section(&mut self, line: usize, name: &str) -> Result<(), Problem> {
        self.open = None;
        if name == DEFAULTS {
            self.place = Place::Defaults;
            return Ok(());
        }
        self.place = Place::Section;
        if let Some(before) = self.ini.sections.iter().find(|before| before.name == name) {
            let message = format!("[{name}] stands twice, first in line {}", before.line);
            return Err(Problem::new(line, message, "rename the node"));
        }
        self.ini.sections.push(Section {
            name: name.to_owned(),
            line,
            own: Options::new(),
        });
        Ok(())
    }

    fn option(&mut self, line: usize, content: &str) -> Result<(), Problem> {
        let Some(options) = self.options() else {
            let message = format!("`{content}` stands before the first [NODE]");
            return Err(Problem::new(line, message, HINT));
        };
        let split = content.split_once(['=', ':']);
        let (key, value) = split
            .map(|(key, value)| (key.trim_end_matches(is_space), value.trim_matches(is_space)))
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| {
                let message = format!("`{content}` is neither [NODE] nor KEY=VALUE");
                Problem::new(line, message, HINT)
            })?;
        let key = key.to_lowercase();
        if let Some(before) = options.get(&key) {
            let message = format!("`{key}` stands twice, first in line {}", before.line);
            return Err(Problem::new(line, message, "remove one of them"));
        }
        let text = value.to_owned();
        options.insert(key.clone(), Value { text, line });
        self.open = Some(key);
        Ok(())
    }

    fn options(&mut self) -> Option<&mut Options> {
        match self.place {
            Place::Nowhere => None,
            Place::Defaults => Some(&mut self.ini.defaults),
            Place::Section => self.ini.sections.last_mut().map(|section| &mut section.own),
        }
    }

    /// The value that an indented line continues.
    fn open_value(&mut self) -> Option<&mut Value> {
        let key = self.open.take()?;
        self.open = Some(key.clone());
        self.options()?.get_mut(&key)
    }
}

/// The name of a section, if a line is one: whatever stands up to the last `]`.
fn header(content: &str) -> Option<&str> {
    let (name, _) = content.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// Replaces `%(name)s` by the value of that name, and `%%` by a percent sign.
fn resolve(text: &str, raw: &Options, depth: usize, out: &mut String) -> Result<(), String> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (name, after) = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
            .filter(|(name, _)| !name.is_empty())
            .and_then(|(name, after)| Some((name, after.strip_prefix('s')?)))
            .ok_or("`%` is followed neither by `%` nor by `(NAME)s`")?;
        let value = raw
            .get(&name.to_lowercase())
            .ok_or_else(|| format!("`%({name})s` refers to no value"))?;
        if value.text.contains('%') {
            let depth = depth
                .checked_sub(1)
                .ok_or_else(|| format!("`%({name})s` leads more than {DEPTH} levels deep"))?;
            resolve(&value.text, raw, depth, out)?;
        } else {
            out.push_str(&value.text);
        }
        if out.len() > LONGEST {
            return Err(format!("it comes to more than {LONGEST} bytes"));
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

/// White space as Python has it: Unicode's, and four separators of ASCII.
fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\x1c'..='\x1f').contains(&char)
}

#[cfg(test)]
mod tests;
