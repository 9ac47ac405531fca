//! Files by pattern: `*` and `?` in the last part of a path.

use std::path::{Path, PathBuf};

use super::error::InputError;

/// The files of all patterns, each once, those of one pattern by name.
pub(super) fn expand(patterns: &[PathBuf]) -> Result<Vec<PathBuf>, InputError> {
    let mut files = Vec::new();
    for pattern in patterns {
        for file in expand_one(pattern)? {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// A name without wildcards is taken as it is; opening it will tell whether it exists.
fn expand_one(pattern: &Path) -> Result<Vec<PathBuf>, InputError> {
    let name = pattern.file_name().and_then(|name| name.to_str());
    let Some(name) = name.filter(|name| name.contains(['*', '?'])) else {
        return Ok(vec![pattern.to_owned()]);
    };
    if pattern.is_file() {
        return Ok(vec![pattern.to_owned()]);
    }
    let directory = match pattern.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source| InputError::Directory {
        directory: directory.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = pattern.with_file_name(entry.file_name());
        let matched = entry
            .file_name()
            .to_str()
            .is_some_and(|entry| matches(name.as_bytes(), entry.as_bytes()));
        if matched && !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(InputError::NoMatch(pattern.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// Whether a name matches: `*` is any text, `?` any one character. A leading dot has to be written.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
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
    fn expansion() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.log", "a.log", "a.txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        std::fs::create_dir(directory.path().join("d.log")).unwrap();
        let path = |name: &str| directory.path().join(name);
        let files = expand(&[path("b.log"), path("*.log"), path("absent")]).unwrap();
        assert_eq!(files, [path("b.log"), path("a.log"), path("absent")]);
        let none = expand(&[path("*.gz")]).unwrap_err();
        assert!(matches!(none, InputError::NoMatch(pattern) if pattern == path("*.gz")));
        let none = expand(&[path("absent/*")]).unwrap_err();
        assert!(matches!(none, InputError::Directory { .. }));
    }
}
