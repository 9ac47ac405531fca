//! How a file gets its final name: when all in it is decided, without what does not count.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use muster_cluster::node::Numbers;

use super::ledger;
use super::names::{base_name, move_aside};

/// How much is read and written at once.
const PIECE: usize = 1 << 20;

/// Gives a closed file its final name. One without records that count is removed.
pub(super) fn settle(
    directory: &Path,
    file: &ledger::File,
    writer: Option<&str>,
) -> io::Result<()> {
    let waits = directory.join(&file.path);
    let length = fs::metadata(&waits)?.len();
    // Where the diary was damaged, nothing is thrown away by its word.
    if file.is_doubtful && !is_all(&file.counts, length) {
        fs::copy(&waits, waits.with_extension("strange"))?;
    }
    if file.is_empty() {
        return fs::remove_file(&waits);
    }
    if !is_all(&file.counts, length) {
        rewrite(&waits, &file.counts, length)?;
    }
    let base = base_name(&file.stream, writer);
    let end = file.end.unwrap_or(file.opened);
    // The name is in the directory of logs, and the file moves there.
    move_aside(&waits, &directory.join("x"), &base, file.opened, end)?;
    sync_directory(directory)
}

/// Makes safe which files are in a directory.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn is_all(counts: &Numbers, length: u64) -> bool {
    length == 0 || counts.ranges().eq([(0, length - 1)])
}

/// Leaves in a file what counts.
fn rewrite(path: &Path, counts: &Numbers, length: u64) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut from = File::open(path)?;
    let mut to = File::create(&beside)?;
    let mut piece = vec![0; PIECE];
    for (first, last) in counts.ranges() {
        from.seek(SeekFrom::Start(first))?;
        let mut left = last
            .min(length.saturating_sub(1))
            .saturating_sub(first)
            .saturating_add(1);
        if first >= length {
            break;
        }
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            from.read_exact(&mut piece[..most])?;
            to.write_all(&piece[..most])?;
            left -= most as u64;
        }
    }
    to.sync_all()?;
    fs::rename(beside, path)
}

/// Returns whether bytes of a file have a checksum.
pub(super) fn has_checksum(
    file: &mut File,
    offset: u64,
    end: u64,
    checksum: u32,
) -> io::Result<bool> {
    if end > file.metadata()?.len() {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE];
    let mut left = end - offset;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.read_exact(&mut piece[..most])?;
        hasher.update(&piece[..most]);
        left -= most as u64;
    }
    Ok(hasher.finalize() == checksum)
}
