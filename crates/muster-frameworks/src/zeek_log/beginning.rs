//! The beginning of a log, by which it is recognised wherever it is copied and however it is compressed.

use std::io::{self, Cursor, Read};

use super::connection::ConnectionReader;
use super::error::LogErrorKind;
use super::source::{ReadOnly, source};
use super::windows::Windows;

/// The bytes among which a log's first connection is looked for.
const MOST: usize = 64 << 10;

/// How a file begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Everything up to the end of the first row about a connection.
    Log {
        /// The bytes, decompressed.
        bytes: Vec<u8>,
        /// Whether the file has them as they are.
        is_plain: bool,
    },
    /// There is no whole row yet.
    Unwritten,
    /// It is no log, or none of its first rows is about a connection.
    Other,
}

/// Finds out how a file begins.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn beginning(raw: impl Read + Send + 'static) -> io::Result<Beginning> {
    let mut source = source(ReadOnly(raw), &Windows::default());
    let mut bytes = Vec::new();
    let mut piece = vec![0; 8 << 10];
    let mut is_damaged = false;
    while bytes.len() < MOST {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                // What compresses it is not done.
                io::ErrorKind::UnexpectedEof => break,
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::OutOfMemory
                | io::ErrorKind::Other => {
                    is_damaged = true;
                    break;
                }
                _ => return Err(error),
            },
        }
    }
    let is_plain = source.get_ref().is_plain();
    let is_all = bytes.len() < MOST && !is_damaged;
    let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
    bytes.truncate(whole);
    Ok(match first_connection(&bytes) {
        First::At(end) => {
            bytes.truncate(end);
            Beginning::Log { bytes, is_plain }
        }
        First::Nothing if is_all => Beginning::Unwritten,
        First::Nothing | First::Other => Beginning::Other,
    })
}

enum First {
    /// The first connection ends here.
    At(usize),
    /// There is no row.
    Nothing,
    /// There are other rows, or it is no log.
    Other,
}

fn first_connection(bytes: &[u8]) -> First {
    let Ok(mut reader) = ConnectionReader::new("", Cursor::new(bytes.to_vec())) else {
        return First::Other;
    };
    let mut first = First::Nothing;
    loop {
        match reader.next_connection() {
            Ok(None) => return first,
            Ok(Some(None)) => first = First::Other,
            Ok(Some(Some(_))) => break,
            Err(error) if error.is_row() => first = First::Other,
            Err(error) if error.kind() == LogErrorKind::NotReady => return first,
            Err(_) => return First::Other,
        }
    }
    usize::try_from(reader.place().offset).map_or(First::Other, First::At)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const HEADER: &str =
        "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\n";
    const ROW: &str = "1.000000\t10.0.0.1\t1\t10.0.0.2\t2\n";

    fn of(text: &[u8]) -> Beginning {
        beginning(Cursor::new(text.to_vec())).unwrap()
    }

    #[test]
    fn a_log_begins_with_its_first_connection() {
        let text = format!("{HEADER}{ROW}{ROW}");
        let expected = format!("{HEADER}{ROW}").into_bytes();
        let log = |is_plain| Beginning::Log {
            bytes: expected.clone(),
            is_plain,
        };
        assert_eq!(of(text.as_bytes()), log(true));
        let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
        assert_eq!(of(&packed), log(false));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all(text.repeat(1000).as_bytes()).unwrap();
        let packed = gzip.finish().unwrap();
        assert_eq!(of(&packed[..40_000]), log(false));
        assert_eq!(of(&packed[..3]), Beginning::Unwritten);
        for unwritten in ["", HEADER, &format!("{HEADER}{}", &ROW[..ROW.len() - 1])] {
            assert_eq!(of(unwritten.as_bytes()), Beginning::Unwritten);
        }
        for other in ["no log\n", "{\"ts\":1}\n", &HEADER.repeat(1000)] {
            assert_eq!(of(other.as_bytes()), Beginning::Other, "{other:.20}");
        }
    }
}
