//! The files of the archive.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::GzBuilder;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use muster_frameworks::log_files::{self, RotatedName};
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::expiry::{Disk, Kept};

/// The name of what is being compressed, in the archive's directory.
const PART: &str = "archiving.part";

/// What an archived file has at the end of its name.
const END: &str = ".log.gz";

/// The bytes that are compressed at once.
const CHUNK: usize = 64 << 10;

/// Files of one name at most.
const MOST_OF_A_NAME: u32 = 10_000;

/// What the header of an archived file begins with that says which original it has.
const ORIGINAL: &str = "muster";

/// A file that a logger has rotated away.
#[derive(Debug)]
pub(super) struct Rotated {
    pub(super) path: PathBuf,
    name: RotatedName,
}

/// A file that was archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Archived {
    /// The bytes of the original.
    pub(super) original: u64,
    /// The bytes of the compressed file.
    pub(super) bytes: u64,
}

/// The rotated files of a directory to which nobody has written for a while, the oldest first.
pub(super) fn rotated(logs: &Path, now: SystemTime, settled: Duration) -> io::Result<Vec<Rotated>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(logs)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(RotatedName::parse) else {
            continue;
        };
        // It may be gone by now.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        // An empty one is a name that a logger is about to use, or has left behind.
        if !metadata.is_file() || metadata.len() == 0 {
            continue;
        }
        let written = metadata.modified()?;
        let distance = match now.duration_since(written) {
            Ok(age) => age,
            Err(ahead) => ahead.duration(),
        };
        if distance >= settled {
            let path = entry.path();
            files.push((written, Rotated { path, name }));
        }
    }
    files.sort_by(|(one, a), (other, b)| (one, &a.path).cmp(&(other, &b.path)));
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// All files of the archive. Others that somebody has put there are left alone.
pub(super) fn kept(archive: &Path) -> io::Result<Vec<Kept>> {
    let mut files = Vec::new();
    for day in days(archive)? {
        for entry in fs::read_dir(&day)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(is_archived_name);
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if is_ours && metadata.is_file() {
                files.push(Kept {
                    path: entry.path(),
                    written: metadata.modified()?,
                    bytes: metadata.len(),
                });
            }
        }
    }
    Ok(files)
}

/// The directories of days, if there is an archive.
fn days(archive: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(archive) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut days = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_day = entry.file_name().to_str().is_some_and(is_day);
        if is_day && entry.file_type()?.is_dir() {
            days.push(entry.path());
        }
    }
    days.sort();
    Ok(days)
}

/// `2018-03-24`.
fn is_day(name: &str) -> bool {
    fits(name, "0000-00-00")
}

/// `conn.17:00:00-18:00:00-logger-1.log.gz`.
fn is_archived_name(name: &str) -> bool {
    let Some((stream, rest)) = name.strip_suffix(END).and_then(|base| base.split_once('.')) else {
        return false;
    };
    let span = rest.get(..17);
    !stream.is_empty() && span.is_some_and(|span| fits(span, "00:00:00-00:00:00"))
}

/// Whether a text has digits where a form has them, and otherwise the same.
fn fits(text: &str, form: &str) -> bool {
    let both = || text.bytes().zip(form.bytes());
    text.len() == form.len()
        && both().all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            form => byte == form,
        })
}

/// The files of a stream in the archive, with the time at which the last record was written to each.
pub(crate) fn files_of(archive: &Path, stream: &str) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let mut found = Vec::new();
    for day in days(archive)? {
        for path in log_files::files_of(&day, stream)? {
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified());
            // One that has expired meanwhile is none.
            found.extend(written.map(|written| (written, path)));
        }
    }
    Ok(found)
}

/// The file system of the archive.
pub(super) fn disk(archive: &Path) -> io::Result<Disk> {
    let disk = match rustix::fs::statvfs(archive) {
        // It is made for the first file.
        Err(Errno::NOENT) => rustix::fs::statvfs(archive.parent().unwrap_or(archive)),
        disk => disk,
    }?;
    Ok(Disk {
        available: disk.f_bavail.saturating_mul(disk.f_frsize),
        size: disk.f_blocks.saturating_mul(disk.f_frsize),
    })
}

/// Removes the directories of days that have no files any more.
pub(super) fn remove_empty_days(archive: &Path) {
    for day in days(archive).unwrap_or_default() {
        // One that is not empty stays.
        let _ = fs::remove_dir(day);
    }
}

/// Where files are put.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    is_over: Arc<AtomicBool>,
}

impl Store {
    /// A store in a directory, which is made when it is needed. What is being compressed is given up when `is_over` says so.
    pub(super) fn new(directory: &Path, is_over: Arc<AtomicBool>) -> Self {
        Self {
            directory: directory.to_owned(),
            is_over,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts a file into the archive, and removes the original. Returns `None` if it is gone, is still written to, or there
    /// is no time left; then nothing has changed.
    pub(super) fn archive(&self, file: &Rotated) -> io::Result<Option<Archived>> {
        let before = match fs::symlink_metadata(&file.path) {
            Ok(before) => before,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let original = original(&before);
        let day = self.directory.join(&file.name.day);
        let mode = directory_mode(file.path.parent());
        make_directory(&self.directory, mode)?;
        make_directory(&day, mode)?;
        let part = self.directory.join(PART);
        let mut is_compressed = false;
        for number in 0..MOST_OF_A_NAME {
            let path = day.join(archived_name(&file.name, number));
            if path.try_exists()? {
                if original_of(&path).as_ref() == Some(&original) {
                    // An earlier life had no time to remove it.
                    return self.finish(file, &day, &path, &before);
                }
                continue;
            }
            if !is_compressed {
                if !self.compress(file, &part, &before, &original)? {
                    let _ = fs::remove_file(&part);
                    return Ok(None);
                }
                is_compressed = true;
            }
            match rename_to_new(&part, &path) {
                Ok(()) => return self.finish(file, &day, &path, &before),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// Compresses a file. Returns whether it was the same from beginning to end.
    fn compress(
        &self,
        file: &Rotated,
        part: &Path,
        before: &Metadata,
        original: &str,
    ) -> io::Result<bool> {
        let compressed = self.compress_into(file, part, before, original);
        if compressed.is_err() {
            // A full disk gets back what it has.
            let _ = fs::remove_file(part);
        }
        compressed
    }

    fn compress_into(
        &self,
        file: &Rotated,
        part: &Path,
        before: &Metadata,
        original: &str,
    ) -> io::Result<bool> {
        let mut source = File::open(&file.path)?;
        let mode = before.permissions().mode() & 0o777;
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(mode);
        let target = options.open(part)?;
        let name = file.path.file_name().unwrap_or_default();
        let builder = GzBuilder::new()
            .filename(name.as_encoded_bytes())
            .comment(original);
        let writer = BufWriter::new(target);
        let mut encoder: GzEncoder<_> = builder.write(writer, Compression::default());
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match source.read(&mut chunk)? {
                0 => break,
                length => encoder.write_all(&chunk[..length])?,
            }
        }
        let writer = encoder.finish()?;
        let target = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        // How old the records are, and not when they were archived.
        target.set_modified(before.modified()?)?;
        target.sync_all()?;
        let after = fs::symlink_metadata(&file.path)?;
        Ok(self::original(&after) == original)
    }

    /// The archived file has its name: makes sure of that, and removes the original.
    fn finish(
        &self,
        file: &Rotated,
        day: &Path,
        path: &Path,
        before: &Metadata,
    ) -> io::Result<Option<Archived>> {
        for directory in [day, &self.directory] {
            File::open(directory)?.sync_all()?;
        }
        let bytes = fs::metadata(path)?.len();
        fs::remove_file(&file.path)?;
        Ok(Some(Archived {
            original: before.len(),
            bytes,
        }))
    }
}

/// `conn.17:00:00-18:00:00-logger-1.log.gz`: the names of zeekctl, with the writer behind.
fn archived_name(name: &RotatedName, number: u32) -> String {
    let RotatedName {
        stream, from, to, ..
    } = name;
    let writer = name.writer.as_ref();
    let writer = writer.map_or_else(String::new, |writer| format!("-{writer}"));
    let number = match number {
        0 => String::new(),
        number => format!("_{number}"),
    };
    format!("{stream}.{from}-{to}{writer}{number}{END}")
}

/// What tells a file from any other that had, has or will have its name.
pub(crate) fn original(metadata: &Metadata) -> String {
    format!(
        "{ORIGINAL} {}:{}:{}.{:09}:{}",
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len()
    )
}

/// Which original an archived file has, by its header.
pub(crate) fn original_of(path: &Path) -> Option<String> {
    let decoder = GzDecoder::new(BufReader::new(File::open(path).ok()?));
    let comment = decoder.header()?.comment()?;
    String::from_utf8(comment.to_vec()).ok()
}

/// Gives a file a name that no other has.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
        // Not every file system knows it; nobody else gives names here.
        Err(Errno::INVAL | Errno::NOSYS) if !to.try_exists()? => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

/// Whoever may read the log files may read the archive.
fn directory_mode(logs: Option<&Path>) -> u32 {
    let metadata = logs.and_then(|logs| fs::metadata(logs).ok());
    metadata.map_or(0o750, |metadata| metadata.permissions().mode() & 0o777)
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_archive() {
        let name = RotatedName::parse("conn.logger-1.2018-03-24-17-00-00-18-00-00.log");
        let name = name.as_ref().map(|name| archived_name(name, 0));
        let expected = "conn.17:00:00-18:00:00-logger-1.log.gz";
        assert_eq!(name.as_deref(), Some(expected));
        let alone = RotatedName::parse("conn.2018-03-24-17-00-00-18-00-00_3.log");
        let alone = alone.as_ref().map(|name| archived_name(name, 2));
        assert_eq!(alone.as_deref(), Some("conn.17:00:00-18:00:00_2.log.gz"));
        for ours in [expected, "a.00:00:00-00:00:00.log.gz"] {
            assert!(is_archived_name(ours), "{ours}");
        }
        for other in [
            "conn.log.gz",
            ".17:00:00-18:00:00.log.gz",
            "conn.17:00:00-18:00:00.log",
            "conn.17-00-00-18-00-00.log.gz",
            "notes.txt",
            PART,
        ] {
            assert!(!is_archived_name(other), "{other}");
        }
        assert!(is_day("2018-03-24") && !is_day("2018-03-2x") && !is_day("current"));
    }
}
