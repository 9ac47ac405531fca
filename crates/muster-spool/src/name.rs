//! The name of a journal, and those of its files.

use std::fmt;

use crate::{JournalError, JournalErrorKind};

/// More would make names of files that some file systems do not take.
const LONGEST: usize = 128;

/// A file's number has this many digits.
const DIGITS: usize = 10;

/// The number of the last segment that a name can hold.
const LAST: u64 = 9_999_999_999;

/// The name of a journal: what the names of its files begin with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JournalName(String);

impl JournalName {
    /// Returns the name for a text of ASCII letters, digits, `-`, `_` and `.` that does not begin
    /// with a dot and has 1 to 128 characters. The error is of kind [`JournalErrorKind::Name`].
    pub fn new(name: impl Into<String>) -> Result<Self, JournalError> {
        let name = name.into();
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty()
            || name.len() > LONGEST
            || name.starts_with('.')
            || !name.bytes().all(fits)
        {
            let what = format!("{name:?} cannot be the name of a journal");
            return Err(JournalError::new(JournalErrorKind::Name, what));
        }
        Ok(Self(name))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of a segment's file.
    pub(crate) fn file(&self, segment: u64) -> String {
        format!("{self}-{segment:0DIGITS$}.seg")
    }

    /// Returns the number of the segment that a file is by its name.
    pub(crate) fn segment(&self, file: &str) -> Option<u64> {
        let number = file.strip_prefix(&self.0)?.strip_prefix('-')?;
        let number = number.strip_suffix(".seg")?;
        if number.len() != DIGITS || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse().ok().filter(|number| *number > 0)
    }
}

/// Returns the number behind another, if there is one.
pub(crate) fn following(segment: u64) -> Option<u64> {
    (segment < LAST).then_some(segment + 1)
}

impl fmt::Display for JournalName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a b",
            "ä",
            &"a".repeat(129),
        ] {
            let error = JournalName::new(name).unwrap_err();
            assert_eq!(error.kind(), JournalErrorKind::Name, "{name}");
        }
    }

    #[test]
    fn a_file_belongs_to_one_journal() {
        let (short, long) = (
            JournalName::new("a").unwrap(),
            JournalName::new("a-1").unwrap(),
        );
        assert_eq!(long.file(7), "a-1-0000000007.seg");
        assert_eq!(long.segment("a-1-0000000007.seg"), Some(7));
        assert_eq!(short.segment("a-1-0000000007.seg"), None);
        for file in [
            "a-0000000000.seg",
            "a-7.seg",
            "a-00000000007.seg",
            "a-000000000x.seg",
            "a-+000000007.seg",
            "a-0000000007.seg.old",
            "b-0000000007.seg",
            "a0000000007.seg",
        ] {
            assert_eq!(short.segment(file), None, "{file}");
        }
    }

    #[test]
    fn numbers_end() {
        assert_eq!(following(LAST - 1), Some(LAST));
        assert_eq!(following(LAST), None);
    }
}
