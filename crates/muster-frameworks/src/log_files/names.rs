//! Names of files, and the times in them.

use std::io;
use std::path::{Path, PathBuf};

use muster_data::Timestamp;

/// Files of one rotated name at most.
const MOST_OF_A_NAME: u32 = 10_000;

/// `2018-03-24-17-00-00`, as in Zeek's headers; UTC.
pub(super) fn time_text(time: Timestamp) -> String {
    let text = time.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    seconds.replace(['T', ':'], "-")
}

/// The time of a text that [`time_text`] makes.
pub(super) fn parse_time_text(text: &str) -> Option<Timestamp> {
    let date = text.get(..10)?;
    let time = text.get(11..19).filter(|_| text.len() == 19)?;
    format!("{date}T{}Z", time.replace('-', ":")).parse().ok()
}

/// A name before its `.log`: the stream and the writer.
pub(super) fn base_name(stream: &str, writer: Option<&str>) -> String {
    match writer {
        Some(writer) => format!("{stream}.{writer}"),
        None => stream.to_owned(),
    }
}

/// The part of a rotated file's name that tells its times. The date of the end is left out where it
/// is that of the start.
fn span_text(start: Timestamp, end: Timestamp) -> String {
    let (start, end) = (time_text(start), time_text(end));
    let short = match end.strip_prefix(start.get(..11).unwrap_or(&start)) {
        Some(time) => time,
        None => &end,
    };
    format!("{start}-{short}")
}

/// The name of a rotated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotatedName {
    /// The stream.
    pub stream: String,
    /// The writer, if it has a name in the file's.
    pub writer: Option<String>,
    /// The day of its beginning, as `2018-03-24`; UTC.
    pub day: String,
    /// The time of its beginning, as `17:00:00`.
    pub from: String,
    /// The time of its end.
    pub to: String,
}

impl RotatedName {
    /// Reads the name of a file. Returns `None` if it is that of a current file, or of no log.
    pub fn parse(name: &str) -> Option<Self> {
        let (base, span) = name.strip_suffix(".log")?.rsplit_once('.')?;
        let (stream, writer) = match base.split_once('.') {
            Some((stream, writer)) => (stream, Some(writer)),
            None => (base, None),
        };
        let span = match span.split_once('_') {
            Some((span, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => span,
            Some(_) => return None,
            None => span,
        };
        let (start, end) = (span.get(..19)?, span.get(19..)?.strip_prefix('-')?);
        let end = match end.len() {
            8 => format!("{}-{end}", start.get(..10)?),
            _ => end.to_owned(),
        };
        if stream.is_empty() || writer == Some("") {
            return None;
        }
        parse_time_text(start).and(parse_time_text(&end))?;
        let time = |text: &str| Some(text.get(11..)?.replace('-', ":"));
        Some(Self {
            stream: stream.to_owned(),
            writer: writer.map(ToOwned::to_owned),
            day: start.get(..10)?.to_owned(),
            from: time(start)?,
            to: time(&end)?,
        })
    }
}

/// Gives a file the name of a rotated one, never that of another file.
///
/// The name is claimed by an empty file first, which the rename then replaces: whoever dies between
/// the two leaves an empty file behind, but neither loses nor doubles a row.
///
/// `beside` is a path in the directory of that name.
pub(super) fn move_aside(
    current: &Path,
    beside: &Path,
    base: &str,
    start: Timestamp,
    end: Timestamp,
) -> io::Result<PathBuf> {
    let span = span_text(start, end);
    for number in 0..MOST_OF_A_NAME {
        let name = match number {
            0 => format!("{base}.{span}.log"),
            number => format!("{base}.{span}_{number}.log"),
        };
        let rotated = beside.with_file_name(name);
        match std::fs::File::create_new(&rotated) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        return match std::fs::rename(current, &rotated) {
            Ok(()) => Ok(rotated),
            Err(error) => {
                // The claim is empty; if it stays, it is in nobody's way.
                let _ = std::fs::remove_file(&rotated);
                Err(error)
            }
        };
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time: Timestamp = "2018-03-24T17:00:00.5Z".parse().unwrap();
        assert_eq!(time_text(time), "2018-03-24-17-00-00");
        let parsed = parse_time_text("2018-03-24-17-00-00");
        assert_eq!(parsed, "2018-03-24T17:00:00Z".parse().ok());
        for text in [
            "",
            "2018",
            "2018-03-24-17-00-00-",
            "2018-13-24-17-00-00",
            "\u{e9}\u{e9}",
        ] {
            assert_eq!(parse_time_text(text), None);
        }
        let end: Timestamp = "2018-03-24T18:00:00Z".parse().unwrap();
        assert_eq!(span_text(time, end), "2018-03-24-17-00-00-18-00-00");
        let midnight: Timestamp = "2018-03-25T00:00:00Z".parse().unwrap();
        assert_eq!(
            span_text(end, midnight),
            "2018-03-24-18-00-00-2018-03-25-00-00-00"
        );
    }

    #[test]
    fn names_of_rotated_files_are_told_from_others() {
        let name = |stream: &str, writer: Option<&str>, to: &str| RotatedName {
            stream: stream.to_owned(),
            writer: writer.map(ToOwned::to_owned),
            day: "2018-03-24".to_owned(),
            from: "17:00:00".to_owned(),
            to: to.to_owned(),
        };
        for (text, expected) in [
            (
                "conn.logger-1.2018-03-24-17-00-00-18-00-00.log",
                name("conn", Some("logger-1"), "18:00:00"),
            ),
            (
                "conn.2018-03-24-17-00-00-18-00-00_12.log",
                name("conn", None, "18:00:00"),
            ),
            (
                "a_b-c.x.y.2018-03-24-17-00-00-2018-03-25-00-00-00.log",
                name("a_b-c", Some("x.y"), "00:00:00"),
            ),
        ] {
            assert_eq!(RotatedName::parse(text), Some(expected), "{text}");
        }
        for other in [
            "conn.log",
            "conn.logger-1.log",
            "conn.2018-03-24-17-00-00-18-00-00.log.gz",
            "conn.2018-03-24-17-00-00.log",
            "conn.2018-03-24-17-00-00-18-00.log",
            "conn.2018-13-24-17-00-00-18-00-00.log",
            "conn.2018-03-24-17-00-00-18-00-00_x.log",
            ".2018-03-24-17-00-00-18-00-00.log",
            "conn..2018-03-24-17-00-00-18-00-00.log",
            "2018-03-24-17-00-00-18-00-00.log",
            "conn.\u{e9}018-03-24-17-00-00-18-00-00.log",
            "",
        ] {
            assert_eq!(RotatedName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let directory = tempfile::tempdir().unwrap();
        let current = directory.path().join("s.log");
        let time = Timestamp::EPOCH;
        for expected in [
            "s.1970-01-01-00-00-00-00-00-00.log",
            "s.1970-01-01-00-00-00-00-00-00_1.log",
            "s.1970-01-01-00-00-00-00-00-00_2.log",
        ] {
            std::fs::write(&current, expected).unwrap();
            let rotated = move_aside(&current, &current, "s", time, time).unwrap();
            assert_eq!(rotated.file_name().unwrap().to_str(), Some(expected));
            assert_eq!(std::fs::read_to_string(rotated).unwrap(), expected);
        }
        // A failed move leaves no claim.
        let error = move_aside(&current, &current, "s", time, time).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }
}
