//! The files of the archive.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use flate2::GzBuilder;
use muster_frameworks::log_files::{self, RotatedName};
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::expiry::{Disk, Held, Kept};
use super::origin::{is_of, original, zstd_label};

/// The name of what is being compressed, in the archive's directory.
const PART: &str = "archiving.part";

/// What the name of an archived file has before the ending of its compression.
const LOG: &str = ".log";

/// The bytes that are compressed at once.
const CHUNK: usize = 64 << 10;

/// Files of one name at most.
const MOST_OF_A_NAME: u32 = 10_000;

/// How the files of the archive are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// With gzip: every tool reads it.
    Gzip,
    /// With zstd: smaller, and faster.
    Zstd,
    /// Not at all.
    None,
}

impl Compression {
    const ALL: [Self; 3] = [Self::Gzip, Self::Zstd, Self::None];

    fn ending(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
            Self::None => "",
        }
    }

    /// The compression of a file of the archive by its name, and the name up to its `.log`.
    pub(super) fn of_name(name: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|one| {
            let base = name.strip_suffix(one.ending())?.strip_suffix(LOG)?;
            Some((one, base))
        })
    }
}

/// A file that a logger has rotated away.
#[derive(Debug)]
pub(super) struct Rotated {
    pub(super) path: PathBuf,
    name: RotatedName,
}

/// A file that was archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Archived {
    /// Its name below the archive's directory.
    pub(super) name: String,
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
                    held: Held::No,
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
    let base = Compression::of_name(name).and_then(|(_, base)| base.split_once('.'));
    let Some((stream, rest)) = base else {
        return false;
    };
    let span = rest.get(..17);
    !stream.is_empty() && span.is_some_and(|span| fits(span, "00:00:00-00:00:00"))
}

/// The stream of an archived file, by its name.
pub(super) fn stream_of(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    let stream = name.and_then(|name| name.split('.').next());
    stream.unwrap_or_default()
}

/// Whether a text is the name of a file of the archive below its directory: `2018-03-24/conn.17:00:00-18:00:00.log.gz`.
pub(super) fn is_name_in_archive(name: &str) -> bool {
    let parts = name.split_once('/');
    parts.is_some_and(|(day, name)| is_day(day) && is_archived_name(name) && !name.contains('/'))
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

/// All files of the archive, each with its day.
pub(crate) fn all_files(archive: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for day in days(archive)? {
        let name = day.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default().to_owned();
        for entry in fs::read_dir(&day)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(is_archived_name) {
                found.push((name.clone(), entry.path()));
            }
        }
    }
    found.sort();
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
    compression: Compression,
    is_over: Arc<AtomicBool>,
}

impl Store {
    /// A store in a directory, which is made when it is needed. What is being compressed is given up when `is_over` says so.
    pub(super) fn new(
        directory: &Path,
        compression: Compression,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            compression,
            is_over,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts a file into the archive, and removes the original. Returns `None` if it is gone, is still written to, or there
    /// is no time left; then nothing has changed. `announce` is called with a name before a file of it is there.
    pub(super) fn archive(
        &self,
        file: &Rotated,
        announce: impl Fn(&str) -> io::Result<()>,
    ) -> io::Result<Option<Archived>> {
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
        let mut is_whole = false;
        let mut moves = self.compression == Compression::None;
        for number in 0..MOST_OF_A_NAME {
            // Of whatever compression: it may have been another one.
            let mut is_taken = false;
            for compression in Compression::ALL {
                let name = archived_name(&file.name, number, compression);
                if !day.join(&name).try_exists()? {
                    continue;
                }
                if is_of(&day.join(&name), &original, &file.path)? {
                    // An earlier life had no time to remove it.
                    return self.finish(file, &name, &before);
                }
                is_taken = true;
            }
            if is_taken {
                continue;
            }
            let name = archived_name(&file.name, number, self.compression);
            let path = day.join(&name);
            if moves {
                File::open(&file.path)?.sync_all()?;
                announce(&in_day(file, &name))?;
                match rename_to_new(&file.path, &path) {
                    Ok(()) => return self.finish(file, &name, &before),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    // The archive is on another disk.
                    Err(error) if error.kind() == io::ErrorKind::CrossesDevices => moves = false,
                    Err(error) => return Err(error),
                }
            }
            if !is_whole {
                if !self.compress(file, &part, &before, &original)? {
                    let _ = fs::remove_file(&part);
                    return Ok(None);
                }
                is_whole = true;
            }
            announce(&in_day(file, &name))?;
            match rename_to_new(&part, &path) {
                Ok(()) => return self.finish(file, &name, &before),
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
        let mode = before.permissions().mode() & 0o777;
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(mode);
        let mut writer = BufWriter::new(options.open(part)?);
        let (is_whole, writer) = match self.compression {
            Compression::Gzip => {
                let name = file.path.file_name().unwrap_or_default();
                let builder = GzBuilder::new().filename(name.as_encoded_bytes());
                let builder = builder.comment(original);
                let mut encoder = builder.write(writer, flate2::Compression::default());
                (self.copy(file, &mut encoder)?, encoder.finish()?)
            }
            Compression::Zstd => {
                writer.write_all(&zstd_label(original))?;
                let mut encoder = zstd::Encoder::new(writer, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                (self.copy(file, &mut encoder)?, encoder.finish()?)
            }
            Compression::None => (self.copy(file, &mut writer)?, writer),
        };
        if !is_whole {
            return Ok(false);
        }
        let target = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        // How old the records are, and not when they were archived.
        target.set_modified(before.modified()?)?;
        target.sync_all()?;
        let after = fs::symlink_metadata(&file.path)?;
        Ok(self::original(&after) == original)
    }

    /// Copies a file. Returns whether there was time for all of it.
    fn copy(&self, file: &Rotated, target: &mut impl Write) -> io::Result<bool> {
        let mut source = File::open(&file.path)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match source.read(&mut chunk)? {
                0 => return Ok(true),
                length => target.write_all(&chunk[..length])?,
            }
        }
    }

    /// The archived file has its name: makes sure of that, and removes the original.
    fn finish(
        &self,
        file: &Rotated,
        name: &str,
        before: &Metadata,
    ) -> io::Result<Option<Archived>> {
        let day = self.directory.join(&file.name.day);
        for directory in [&day, &self.directory] {
            File::open(directory)?.sync_all()?;
        }
        let bytes = fs::metadata(day.join(name))?.len();
        match fs::remove_file(&file.path) {
            // It may have been moved.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Some(Archived {
            name: in_day(file, name),
            original: before.len(),
            bytes,
        }))
    }
}

/// The name of a file below the archive's directory.
fn in_day(file: &Rotated, name: &str) -> String {
    format!("{}/{name}", file.name.day)
}

/// `conn.17:00:00-18:00:00-logger-1.log.gz`: the names of zeekctl, with the writer behind.
fn archived_name(name: &RotatedName, number: u32, compression: Compression) -> String {
    let RotatedName {
        stream, from, to, ..
    } = name;
    let writer = name.writer.as_ref();
    let writer = writer.map_or_else(String::new, |writer| format!("-{writer}"));
    let number = match number {
        0 => String::new(),
        number => format!("_{number}"),
    };
    let ending = compression.ending();
    format!("{stream}.{from}-{to}{writer}{number}{LOG}{ending}")
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
        let name = name
            .as_ref()
            .map(|name| archived_name(name, 0, Compression::Gzip));
        let expected = "conn.17:00:00-18:00:00-logger-1.log.gz";
        assert_eq!(name.as_deref(), Some(expected));
        let alone = RotatedName::parse("conn.2018-03-24-17-00-00-18-00-00_3.log");
        let alone = alone
            .as_ref()
            .map(|name| archived_name(name, 2, Compression::Zstd));
        assert_eq!(alone.as_deref(), Some("conn.17:00:00-18:00:00_2.log.zst"));
        for ours in [
            expected,
            "a.00:00:00-00:00:00.log.gz",
            "conn.17:00:00-18:00:00.log.zst",
            "conn.17:00:00-18:00:00.log",
        ] {
            assert!(is_archived_name(ours), "{ours}");
        }
        for other in [
            "conn.log.gz",
            ".17:00:00-18:00:00.log.gz",
            "conn.17:00:00-18:00:00.log.gz.zst",
            "conn.17:00:00-18:00:00.gz",
            "conn.17-00-00-18-00-00.log.gz",
            "notes.txt",
            PART,
        ] {
            assert!(!is_archived_name(other), "{other}");
        }
        assert!(is_day("2018-03-24") && !is_day("2018-03-2x") && !is_day("current"));
    }
}
