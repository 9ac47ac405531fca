//! Files by pattern: `*` and `?` in any part of a path, and directories.

use std::collections::HashSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The files that one of an input's patterns stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Matches {
    /// The pattern, or the name of a file or directory.
    pub pattern: PathBuf,
    /// The files, by name. A name without wildcards stands for itself, whether there is such a file or not.
    pub files: Vec<PathBuf>,
    /// Directories that cannot be searched, each with the reason.
    pub problems: Vec<String>,
}

impl Matches {
    /// Returns `true` if there is no such file: the pattern matches nothing, or nothing has the name.
    pub fn is_nothing(&self) -> bool {
        !self.files.iter().any(|file| file.exists())
    }
}

/// Returns the files that an input's patterns stand for.
///
/// `*` and `?` match within one part of a path; a leading dot has to be written. A directory stands for the logs in
/// it: what is called `.log` or `.json`, compressed or not.
pub fn find(patterns: &[PathBuf]) -> Vec<Matches> {
    patterns.iter().map(|pattern| find_one(pattern)).collect()
}

/// The files of all patterns, each once, those of one pattern by name.
pub(super) fn all_files(matches: &[Matches]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let files = matches.iter().flat_map(|matches| &matches.files);
    files.filter(|file| seen.insert(*file)).cloned().collect()
}

/// A name without wildcards is taken as it is; opening it will tell whether it exists.
fn find_one(pattern: &Path) -> Matches {
    let mut found = Matches {
        pattern: pattern.to_owned(),
        ..Matches::default()
    };
    // A name may have these characters.
    if pattern.is_file() || !has_wildcards(pattern) {
        take(pattern.to_owned(), &mut found);
    } else {
        let parts: Vec<Component<'_>> = pattern.components().collect();
        descend(PathBuf::new(), &parts, &mut found);
    }
    found
}

fn has_wildcards(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?'))
}

/// Finds what the rest of a pattern matches below a path.
fn descend(path: PathBuf, parts: &[Component<'_>], found: &mut Matches) {
    let Some((part, rest)) = parts.split_first() else {
        return take(path, found);
    };
    let name = part.as_os_str();
    if !has_wildcards(Path::new(name)) {
        let path = path.join(name);
        // Behind a wildcard not everything goes on.
        if rest.is_empty() && !path.exists() {
            return;
        }
        return descend(path, rest, found);
    }
    let pattern = name.as_encoded_bytes();
    let is_wanted = |entry: &str| matches(pattern, entry.as_bytes());
    for path in entries(&path, is_wanted, found) {
        if rest.is_empty() || path.is_dir() {
            descend(path, rest, found);
        }
    }
}

/// The entries of a directory whose names are wanted, by name.
fn entries(
    directory: &Path,
    is_wanted: impl Fn(&str) -> bool,
    found: &mut Matches,
) -> Vec<PathBuf> {
    let searched = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let list = |entries: std::fs::ReadDir| -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            if name.to_str().is_some_and(&is_wanted) {
                paths.push(directory.join(name));
            }
        }
        paths.sort();
        Ok(paths)
    };
    let listed = std::fs::read_dir(searched).and_then(list);
    listed.unwrap_or_else(|error| {
        // That nothing matches says it as well.
        if error.kind() != io::ErrorKind::NotFound {
            let problem = format!("cannot search `{}`: {error}", searched.display());
            found.problems.push(problem);
        }
        Vec::new()
    })
}

/// Takes a file, or the logs in a directory.
fn take(path: PathBuf, found: &mut Matches) {
    if path.is_dir() {
        let logs = entries(&path, is_log, found);
        found
            .files
            .extend(logs.into_iter().filter(|log| !log.is_dir()));
    } else {
        found.files.push(path);
    }
}

/// Whether a name is that of a log. What ZeekControl keeps beside them of a process's output is none.
fn is_log(name: &str) -> bool {
    let plain = [".gz", ".zst"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    let plain = plain.unwrap_or(name);
    let is_output = matches!(plain, "stdout.log" | "stderr.log");
    let is_json = [".json", ".jsonl", ".ndjson"]
        .iter()
        .any(|end| plain.ends_with(end));
    !name.starts_with('.') && !is_output && (is_json || plain.contains(".log"))
}

/// Whether a name matches: `*` is any text, `?` any one character. A leading dot has to be written.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when the last star has to take one byte more.
    let mut retry = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, in_name));
                at += 1;
            }
            Some(b'?') => {
                at += 1;
                in_name += 1;
                while name.get(in_name).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    in_name += 1;
                }
            }
            Some(byte) if *byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    retry = Some((after_star, from + 1));
                    (at, in_name) = (after_star, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name) in [
            ("*", "a"),
            ("*.log", "conn.log"),
            ("*.log*", "conn.log.gz"),
            ("c?nn.*", "conn.log"),
            ("*o*o*", "foo_boo"),
            ("?", "\u{e9}"),
            (".*", ".hidden"),
            ("a*", "a"),
        ] {
            assert!(
                matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
        for (pattern, name) in [
            ("*.log", "conn.log.gz"),
            ("?", "ab"),
            ("?", ""),
            ("*", ".hidden"),
            ("a*b", "ac"),
        ] {
            assert!(
                !matches(pattern.as_bytes(), name.as_bytes()),
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn files_directories_and_what_matches() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["2018-03-24", "2018-03-25", "x.log", "empty"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        for name in [
            "b.log",
            "a.log",
            "a.txt",
            "2018-03-24/conn.17:00:00-18:00:00.log.gz",
            "2018-03-24/dns.log.zst",
            "2018-03-24/.hidden.log",
            "2018-03-24/stderr.log",
            "2018-03-24/notes.txt",
            "2018-03-25/conn.log",
            "2018-03-25/conn.json",
            "x.log/y.log",
        ] {
            std::fs::write(path(name), "").unwrap();
        }
        let files = |patterns: &[&str]| -> Vec<PathBuf> {
            let patterns: Vec<_> = patterns.iter().map(|name| path(name)).collect();
            let found = find(&patterns);
            assert!(
                found.iter().all(|found| found.problems.is_empty()),
                "{found:?}"
            );
            all_files(&found)
        };
        let paths =
            |names: &[&str]| -> Vec<PathBuf> { names.iter().map(|name| path(name)).collect() };
        for (patterns, expected) in [
            (
                &["b.log", "*.log", "absent"][..],
                &["b.log", "a.log", "x.log/y.log", "absent"][..],
            ),
            (
                &["*/conn.*"],
                &[
                    "2018-03-24/conn.17:00:00-18:00:00.log.gz",
                    "2018-03-25/conn.json",
                    "2018-03-25/conn.log",
                ],
            ),
            (&["2018-*/conn.log"], &["2018-03-25/conn.log"]),
            (
                &["2018-03-2?/*.log.gz"],
                &["2018-03-24/conn.17:00:00-18:00:00.log.gz"],
            ),
            (
                &["2018-03-24"],
                &[
                    "2018-03-24/conn.17:00:00-18:00:00.log.gz",
                    "2018-03-24/dns.log.zst",
                ],
            ),
            (
                &["2018-*25"],
                &["2018-03-25/conn.json", "2018-03-25/conn.log"],
            ),
            (&["*.gz", "empty", "*/absent"], &[]),
        ] {
            assert_eq!(files(patterns), paths(expected), "{patterns:?}");
        }
        let nothing = |name: &str| find(&[path(name)])[0].is_nothing();
        assert!(nothing("*.gz") && nothing("absent") && nothing("empty"));
        assert!(!nothing("*.log") && !nothing("2018-03-24"));
        assert_eq!(find(&[path("absent/*")])[0].problems.len(), 0);
        let found = find(&[path("a.log/*")]);
        assert_eq!((found[0].files.len(), found[0].problems.len()), (0, 1));
        assert!(found[0].problems[0].contains("a.log"));
    }
}
