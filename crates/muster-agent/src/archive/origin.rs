//! Which original a file of the archive has.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::store::Compression;

/// What the header of an archived file begins with that says which original it has.
const ORIGINAL: &str = "muster";

/// How a skippable frame of zstd begins, whose content is nobody's but ours (RFC 8878, section 3.1.2).
const ZSTD_SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// The longest text that says which original a file has, in bytes.
const LONGEST_ORIGINAL: usize = 256;

/// The bytes that are compared at once.
const CHUNK: usize = 64 << 10;

/// What tells a file from any other that had, has or will have its name.
pub(crate) fn original(metadata: &Metadata) -> String {
    let written = written(metadata);
    format!("{ORIGINAL} {}:{}:{written}", metadata.dev(), metadata.ino())
}

/// The part of [`original`] that a copy has as well.
fn written(metadata: &Metadata) -> String {
    format!(
        "{}.{:09}:{}",
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len()
    )
}

/// Which original an archived file has: what its header says, or, if it is not compressed, when it was written and its size.
#[derive(Debug)]
enum Origin {
    Header(String),
    Written(String),
}

impl Origin {
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (compression, _) = Compression::of_name(name)?;
        if compression == Compression::None {
            return Some(Self::Written(written(&fs::metadata(path).ok()?)));
        }
        let mut file = BufReader::new(File::open(path).ok()?);
        let text = match compression {
            Compression::Zstd => zstd_labelled(&mut file)?,
            _ => GzDecoder::new(file).header()?.comment()?.to_vec(),
        };
        Some(Self::Header(String::from_utf8(text).ok()?))
    }

    fn is(&self, original: &str) -> bool {
        match self {
            Self::Header(text) => text == original,
            Self::Written(written) => original
                .strip_suffix(written.as_str())
                .is_some_and(|before| before.ends_with(':')),
        }
    }
}

/// Whether an archived file has an original, which is still there.
pub(super) fn is_of(path: &Path, original: &str, file: &Path) -> io::Result<bool> {
    match Origin::of(path) {
        Some(origin @ Origin::Header(_)) => Ok(origin.is(original)),
        // Before the original is removed the bytes are to be the same.
        Some(origin) => Ok(origin.is(original) && have_same_bytes(path, file)?),
        None => Ok(false),
    }
}

fn have_same_bytes(one: &Path, other: &Path) -> io::Result<bool> {
    let open = |path| Ok::<_, io::Error>(BufReader::with_capacity(CHUNK, File::open(path)?));
    let (mut one, mut other) = (open(one)?, open(other)?);
    loop {
        let (a, b) = (one.fill_buf()?, other.fill_buf()?);
        let length = a.len().min(b.len());
        if length == 0 {
            return Ok(a.is_empty() && b.is_empty());
        }
        if a[..length] != b[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Whether an archived file has one of some originals.
pub(crate) fn is_of_any<'a>(path: &Path, mut originals: impl Iterator<Item = &'a str>) -> bool {
    Origin::of(path).is_some_and(|origin| originals.any(|original| origin.is(original)))
}

/// The original of an archived file, as far as the file tells it.
pub(crate) fn original_in(path: &Path) -> Option<String> {
    Origin::of(path).map(|origin| match origin {
        Origin::Header(text) => text,
        Origin::Written(written) => format!(":{written}"),
    })
}

/// A frame that everybody skips, with the original of what follows.
pub(super) fn zstd_label(original: &str) -> Vec<u8> {
    let text = &original.as_bytes()[..original.len().min(LONGEST_ORIGINAL)];
    #[allow(clippy::cast_possible_truncation, reason = "it is short")]
    let length = (text.len() as u32).to_le_bytes();
    [&ZSTD_SKIPPED, &length, text].concat()
}

/// What such a frame says.
fn zstd_labelled(file: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 8];
    file.read_exact(&mut head).ok()?;
    let length = head.strip_prefix(&ZSTD_SKIPPED)?.try_into().ok()?;
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    if length > LONGEST_ORIGINAL {
        return None;
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text).ok()?;
    Some(text)
}
